//! A worker of the fleet: the real ledger, what it told the scheduler last, and how its machine really fares.

use std::time::Duration;

use super::shed;
use crate::logic::capacity::{
    Amounts, Budget, DIMENSIONS, Demand, Dimension, Full, Lease, Ledger, Phase, Pressure, Prices, Priority, TTL_MS, Threshold,
};
use crate::logic::model::StreamId;

/// What streams cost: the model's prices, each dimension times a factor in thousandths.
#[derive(Debug, Clone)]
pub struct Costs {
    /// What the model says.
    pub prices: Prices,
    /// And how much of that is believed, thousandths by dimension.
    pub factor: [u32; DIMENSIONS],
}

impl Costs {
    /// As the model says.
    pub const fn new(prices: Prices) -> Self {
        Self { prices, factor: [1000; DIMENSIONS] }
    }

    /// The same with one dimension times so many thousandths.
    #[must_use]
    pub const fn times(mut self, dimension: Dimension, permille: u32) -> Self {
        self.factor[dimension as usize] = permille;
        self
    }

    /// Of one stream.
    pub fn of(&self, demand: &Demand) -> Amounts {
        times(demand.cost(&self.prices), &self.factor)
    }
}

/// Each amount times its factor in thousandths.
pub fn times(amounts: Amounts, factor: &[u32; DIMENSIONS]) -> Amounts {
    Dimension::ALL.into_iter().fold(amounts, |all, d| {
        let n = u128::from(amounts.of(d)) * u128::from(factor[d as usize]) / 1000;
        all.with(d, u64::try_from(n).unwrap_or(u64::MAX))
    })
}

/// A report as the scheduler has it.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    at: u64,
    accepts: u32,
    /// Sent there by the scheduler since.
    sent: u32,
}

/// How a look at the machine went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fares {
    /// Streams that are late because the machine does more than it can.
    pub late: usize,
}

/// One worker on its own node.
#[derive(Debug)]
pub struct Worker {
    /// Where it stands.
    pub region: usize,
    /// It runs.
    pub is_up: bool,
    ledger: Ledger,
    /// The last two reports: the newer one may still be under way.
    told: [Told; 2],
    has_changed: bool,
    /// How busy its encoders, decoders and processors are since the last change, thousandths.
    busy: [Option<u64>; 3],
}

impl Worker {
    /// Runs from now on, and has told nobody yet.
    pub fn new(region: usize, budget: Budget) -> Self {
        Self {
            region,
            is_up: true,
            ledger: Ledger::new(budget),
            told: [Told::default(); 2],
            has_changed: true,
            busy: [None; 3],
        }
    }

    /// The node is gone; its streams are the caller's.
    pub fn fail(&mut self) {
        self.is_up = false;
        self.ledger = Ledger::new(*self.ledger.budget());
    }

    /// Promises a stream room: with its whole ladder, or with `may_shed` with fewer rungs. The number of rungs that were left out.
    ///
    /// # Errors
    /// What has run out.
    pub fn admit(&mut self, stream: &StreamId, demand: &Demand, costs: &Costs, may_shed: bool) -> Result<usize, Full> {
        let lease = |demand: &Demand| Lease { cost: costs.of(demand), phase: Phase::Pending, priority: Priority::Normal };
        self.has_changed = true;
        let Err(full) = self.ledger.reserve(stream, lease(demand)) else { return Ok(0) };
        let fewer = shed::steps(demand, may_shed).enumerate().skip(1);
        let taken = fewer.into_iter().find(|(_, fewer)| self.ledger.reserve(stream, lease(fewer)).is_ok());
        // What ran out for the whole ladder is what the streamer is told.
        taken.map(|(without, _)| without).ok_or(full)
    }

    /// A stream's pictures are known: it gets what it costs, or as much of its ladder as there is room for. The number of rungs that are left out.
    pub fn know(&mut self, stream: &StreamId, demand: &Demand, costs: &Costs, may_shed: bool) -> usize {
        match self.admit(stream, demand, costs, may_shed) {
            Ok(without) => without,
            Err(_) => {
                // It runs: what it takes at the least, it takes.
                let (without, least) = shed::steps(demand, may_shed).enumerate().last().unwrap_or((0, demand.clone()));
                self.ledger.settle(stream, costs.of(&least));
                self.has_changed = true;
                without
            }
        }
    }

    /// Its first segment is out.
    pub fn is_live(&mut self, stream: &StreamId) {
        self.ledger.is_live(stream);
    }

    /// It is over.
    pub fn release(&mut self, stream: &StreamId) {
        self.ledger.release(stream);
        self.has_changed = true;
    }

    /// Streams that it has.
    pub fn streams(&self) -> usize {
        self.ledger.leases().len()
    }

    /// Tells the scheduler how many streams of this cost fit.
    pub fn report(&mut self, now: u64, cost: &Amounts) {
        let accepts = match self.has_changed {
            true => self.ledger.room(cost, Threshold::Advertise).0,
            false => self.told[0].accepts,
        };
        self.has_changed = false;
        self.told = [Told { at: now, accepts, sent: 0 }, self.told[0]];
    }

    /// How many the scheduler thinks fit here. Reports take `delay` ms; a worker whose last one is older than its TTL is dead.
    pub fn seems_free(&self, now: u64, delay: u64) -> Option<u32> {
        let told = self.told.iter().find(|t| t.at > 0 && t.at + delay <= now)?;
        (now - told.at <= TTL_MS).then(|| told.accepts.saturating_sub(told.sent))
    }

    /// How old what the scheduler has of it is, ms.
    pub fn age(&self, now: u64, delay: u64) -> u64 {
        let told = self.told.iter().find(|t| t.at > 0 && t.at + delay <= now);
        told.map_or(0, |t| now - t.at)
    }

    /// The scheduler sends a stream here.
    pub fn send(&mut self) {
        self.told.iter_mut().for_each(|t| t.sent = t.sent.saturating_add(1));
    }

    /// A second passes. What streams really take is what is promised to them times `truth` (thousandths); where that is more than there is, they are late, and the
    /// ledger learns it.
    pub fn look(&mut self, now: u64, truth: &[u32; DIMENSIONS]) -> Fares {
        if self.has_changed {
            self.busy = self.is_busy(truth);
        }
        let [encode, decode, cpu] = self.busy;
        let worst = self.busy.into_iter().flatten().max().filter(|&busy| busy > 1000);
        let belief = self.ledger.belief();
        if worst.is_none() && !belief.is_measured() && belief.behind().is_none() {
            return Fares { late: 0 };
        }
        let reading = |busy: Option<u64>| busy.map(|n| u16::try_from(n.min(1000)).unwrap_or(1000));
        let seen = Pressure { cpu: reading(cpu), stalled: None, encode: reading(encode), decode: reading(decode) };
        let (used, budget) = (self.ledger.used(), *self.ledger.budget());
        // All of them share what there is.
        let speed = worst.map(|busy| u16::try_from(1_000_000 / busy).unwrap_or(1000));
        self.ledger.belief_mut().look(speed, Duration::from_millis(now), &seen, &used, &budget);
        self.has_changed = true;
        Fares { late: if worst.is_some() { self.streams() } else { 0 } }
    }

    /// How busy encoders, decoders and processors are, thousandths of what there is; above 1000 streams are late. Rooms that are filled do not slow streams down.
    fn is_busy(&self, truth: &[u32; DIMENSIONS]) -> [Option<u64>; 3] {
        let taken = times(self.ledger.used(), truth);
        [Dimension::Encode, Dimension::Decode, Dimension::Cpu].map(|d| {
            let total = self.ledger.budget().total(d).filter(|&t| t > 0)?;
            u64::try_from(u128::from(taken.of(d)) * 1000 / u128::from(total)).ok()
        })
    }
}

/// Streams of this cost that are told to fit on an empty node.
pub fn room_of_a_node(budget: Budget, cost: &Amounts) -> u32 {
    Ledger::new(budget).room(cost, Threshold::Advertise).0
}
