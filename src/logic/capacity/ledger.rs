//! What was promised to whom, and whether there is room for one more. One function answers a publisher, a report and a test: [`Ledger::room`].

use std::collections::BTreeMap;

use super::{ADVERTISED_BELOW, Amounts, Belief, Budget, Dimension, share};
use crate::logic::model::StreamId;

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, and nothing is published yet: its cost is an assumption.
    Pending,
    /// Segments are published.
    Live,
}

/// Who goes first when it gets tight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Only while there is so much room that more is advertised.
    Low,
    /// Up to the load limit.
    #[default]
    Normal,
    /// Into the reserve above it: to keep what viewers are watching already.
    High,
}

/// How much of a dimension is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// What a scheduler is told, and what streams of low priority get.
    Advertise,
    /// What a publisher who is here gets.
    Commit,
    /// What one gets who comes back.
    Reserve,
}

/// So much more than the limit is given to streams of high priority, thousandths: one reference stream of 25 is 40.
const RESERVE: u16 = 40;

impl From<Priority> for Threshold {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Advertise,
            Priority::Normal => Self::Commit,
            Priority::High => Self::Reserve,
        }
    }
}

/// What a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Of everything.
    pub cost: Amounts,
    /// How far it is.
    pub phase: Phase,
    /// Who goes first.
    pub priority: Priority,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Full {
    /// What has run out.
    pub dimension: Dimension,
    /// What the stream wants of it.
    pub wanted: u64,
    /// What is left of it.
    pub free: u64,
    /// Share of all of it that is taken.
    pub percent: u64,
    /// Nobody is taken now, because streams that run fall behind for it.
    pub behind: bool,
}

impl Full {
    /// For the streamer, behind "worker is full:".
    fn sentence(&self) -> String {
        let (what, is) = (self.dimension.words(), self.dimension.is());
        match self.behind {
            true => format!("{what} {is} busy, and its streams fall behind"),
            false => format!("{what} {is} taken to {} %", self.percent),
        }
    }
}

/// The promises.
#[derive(Debug, Clone)]
pub struct Ledger {
    budget: Budget,
    belief: Belief,
    leases: BTreeMap<StreamId, Lease>,
}

impl Ledger {
    /// Nothing is promised.
    pub fn new(budget: Budget) -> Self {
        Self { budget, belief: Belief::default(), leases: BTreeMap::new() }
    }

    /// What there is.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Something else is there: a device was lost, prices were measured. What was promised stays promised.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// What the machine was seen to carry.
    pub fn belief(&self) -> &Belief {
        &self.belief
    }

    /// The same, to be corrected.
    pub fn belief_mut(&mut self) -> &mut Belief {
        &mut self.belief
    }

    /// The promises.
    pub fn leases(&self) -> &BTreeMap<StreamId, Lease> {
        &self.leases
    }

    /// All of them together.
    pub fn used(&self) -> Amounts {
        self.leases.values().fold(Amounts::default(), |sum, lease| sum.plus(&lease.cost))
    }

    /// Those of streams that are not live yet.
    pub fn pending(&self) -> Amounts {
        let pending = self.leases.values().filter(|l| l.phase == Phase::Pending);
        pending.fold(Amounts::default(), |sum, lease| sum.plus(&lease.cost))
    }

    /// What is believed to be there of a dimension, whatever is promised; `None` where nothing can run out.
    pub fn believed(&self, dimension: Dimension) -> Option<u64> {
        self.budget.total(dimension).map(|total| share(total, self.belief.permille(dimension)))
    }

    /// What may be promised of it in all.
    pub fn ceiling(&self, dimension: Dimension, threshold: Threshold) -> Option<u64> {
        let limit = self.budget.limit(dimension);
        let permille = match threshold {
            Threshold::Advertise => limit.saturating_sub(ADVERTISED_BELOW),
            Threshold::Commit => limit,
            Threshold::Reserve => limit.saturating_add(RESERVE).min(1000),
        };
        self.believed(dimension).map(|total| share(total, permille))
    }

    fn free(&self, dimension: Dimension, used: &Amounts, threshold: Threshold) -> Option<u64> {
        self.ceiling(dimension, threshold).map(|ceiling| ceiling.saturating_sub(used.of(dimension)))
    }

    /// How many streams of this cost still fit, and in which dimension the next one does not. `u32::MAX` where nothing can run out.
    ///
    /// Who would have the machine alone always fits: nobody is hurt by it, and what it costs is an assumption until it runs. While streams fall behind
    /// nobody else fits, whatever was promised.
    pub fn room(&self, cost: &Amounts, threshold: Threshold) -> (u32, Option<Dimension>) {
        self.room_beside(&self.used(), self.leases.len(), cost, threshold)
    }

    fn room_beside(&self, used: &Amounts, others: usize, cost: &Amounts, threshold: Threshold) -> (u32, Option<Dimension>) {
        let fits = |d: Dimension| {
            let free = self.free(d, used, threshold)?;
            let fits = free.checked_div(cost.of(d))?;
            Some((u32::try_from(fits).unwrap_or(u32::MAX), d))
        };
        let least = Dimension::ALL.into_iter().filter_map(fits).min();
        let (n, dimension) = least.map_or((u32::MAX, None), |(n, d)| (n, Some(d)));
        match self.belief.behind() {
            _ if others == 0 => (n.max(1), dimension),
            Some(behind) => (0, Some(behind)),
            None => (n, dimension),
        }
    }

    /// Promises a stream its cost. One that has a lease already (it comes back, or its facts are known now) gets this one instead of it, or keeps the old one.
    ///
    /// # Errors
    /// The dimension in which it does not fit.
    pub fn reserve(&mut self, stream: &StreamId, lease: Lease) -> Result<(), Full> {
        let (mut used, mut others) = (Amounts::default(), 0);
        for (_, other) in self.leases.iter().filter(|(id, _)| *id != stream) {
            used = used.plus(&other.cost);
            others += 1;
        }
        let threshold = lease.priority.into();
        if let (0, Some(dimension)) = self.room_beside(&used, others, &lease.cost, threshold) {
            let percent = match self.believed(dimension) {
                Some(all) if all > 0 => used.of(dimension).saturating_mul(100) / all,
                _ => 100,
            };
            let free = self.free(dimension, &used, threshold).unwrap_or(u64::MAX);
            let behind = self.belief.behind() == Some(dimension);
            return Err(Full { dimension, wanted: lease.cost.of(dimension), free, percent, behind });
        }
        self.leases.insert(stream.clone(), lease);
        Ok(())
    }

    /// Promises a stream its cost whether it fits or not, where nobody is refused.
    pub fn promise(&mut self, stream: &StreamId, lease: Lease) {
        self.leases.insert(stream.clone(), lease);
    }

    /// What a stream costs turned out to be this. Nobody is refused for it: it is running, and what it takes, it takes.
    pub fn settle(&mut self, stream: &StreamId, cost: Amounts) {
        if let Some(lease) = self.leases.get_mut(stream) {
            lease.cost = cost;
        }
    }

    /// Its first segment is published.
    pub fn is_live(&mut self, stream: &StreamId) {
        if let Some(lease) = self.leases.get_mut(stream) {
            lease.phase = Phase::Live;
        }
    }

    /// It is over.
    pub fn release(&mut self, stream: &StreamId) {
        self.leases.remove(stream);
    }
}
