//! The ledger of this worker, shared by admission, reports and whoever looks after running streams. Decides nothing itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::logic::capacity::{
    Demand, Dimension, Full, Lease, Leased, Ledger, Levels, Machine, Phase, Pressure, Prices, Priority, Profile, Work, leased,
};
use crate::logic::model::StreamId;

/// What there is, what is promised and to whom.
#[derive(Debug)]
pub struct Capacity {
    work: Work,
    prices: Prices,
    /// Without it every publisher is taken, and the ledger only tells.
    enforced: bool,
    state: Mutex<State>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Which promise of a stream is the present one: an earlier session that ends late must not give back the later one's.
    held: BTreeMap<StreamId, u64>,
    last: u64,
}

/// One promise; to be given back by [`Capacity::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// A running stream, as the last look found it.
#[derive(Debug, Clone)]
pub struct Running {
    /// Which.
    pub stream: StreamId,
    /// What is done for it, where that is known.
    pub demand: Option<Demand>,
    /// It publishes.
    pub live: bool,
    /// It falls behind, and not by its publisher's doing.
    pub behind: bool,
}

impl Capacity {
    /// Nothing is promised yet.
    pub fn new(machine: &Machine, work: Work, prices: Prices, enforced: bool) -> Self {
        let ledger = Ledger::new(machine.budget());
        let state = State { ledger, held: BTreeMap::new(), last: 0 };
        Self { work, prices, enforced, state: Mutex::new(state), refused: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one call: a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises a stream what a reference stream costs, as nothing is known of it yet.
    ///
    /// # Errors
    /// What has run out.
    pub fn admit(&self, stream: &StreamId) -> Result<Ticket, Full> {
        let cost = self.work.of(&Profile::REFERENCE).cost(&self.prices);
        let mut state = self.state();
        let lease = Lease { cost, phase: Phase::Pending, priority: Priority::Normal };
        match state.ledger.reserve(stream, lease) {
            Ok(()) => {}
            Err(full) if self.enforced => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(full);
            }
            Err(_) => state.ledger.promise(stream, lease),
        }
        state.last += 1;
        let ticket = state.last;
        state.held.insert(stream.clone(), ticket);
        Ok(Ticket(ticket))
    }

    /// The session is over.
    pub fn release(&self, stream: &StreamId, ticket: Ticket) {
        let mut state = self.state();
        if state.held.get(stream) == Some(&ticket.0) {
            state.held.remove(stream);
            state.ledger.release(stream);
        }
    }

    /// What running streams really take, and whether they fall behind. Returns what turned out to be less than it was thought.
    pub fn look(&self, running: &[Running], pressure: Pressure, now: Duration) -> Option<Dimension> {
        let mut state = self.state();
        let ledger = &mut state.ledger;
        for r in running {
            if let Some(demand) = &r.demand {
                ledger.settle(&r.stream, demand.cost(&self.prices));
            }
            if r.live {
                ledger.is_live(&r.stream);
            }
        }
        let budget = *ledger.budget();
        let bottleneck = pressure.bottleneck(|d| budget.total(d).is_some());
        let slow = running.iter().any(|r| r.behind);
        let (used, total, limit) = (ledger.used(), budget.total(bottleneck), budget.limit(bottleneck));
        ledger.belief_mut().look(slow, now, bottleneck, &used, total, limit)
    }

    /// For reports.
    pub fn levels(&self) -> Levels {
        Levels::new(&self.state().ledger, &self.work, &self.prices)
    }

    /// Likewise.
    pub fn leased(&self) -> Vec<Leased> {
        leased(&self.state().ledger, &self.work, &self.prices)
    }

    /// Publishers for whom there was no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether publishers are refused when there is no room.
    pub fn is_enforced(&self) -> bool {
        self.enforced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::capacity::{Encoder, Software};
    use crate::logic::ladder::Size;

    /// A machine that passes streams through: a reference stream takes 6000 kbit/s of the network.
    fn capacity(network_kbps: u64, enforced: bool) -> Capacity {
        let work = Work { ladder: None, smallest: Size::ANY, passthrough_short_side: 1080, passthrough_kbps: 8000 };
        let prices = Prices { encoder: Encoder::None, software: Software { encoded: 1, decoded: 1, scaled: 1 } };
        Capacity::new(&Machine { network_kbps: Some(network_kbps), ..Machine::default() }, work, prices, enforced)
    }

    fn id(name: &str) -> StreamId {
        name.parse().unwrap()
    }

    #[test]
    fn who_is_refused_takes_nothing_and_who_leaves_gives_back() {
        let capacity = capacity(15_000, true);
        let first = capacity.admit(&id("a")).unwrap();
        capacity.admit(&id("b")).unwrap();
        let full = capacity.admit(&id("c")).unwrap_err();
        assert_eq!((full.dimension, full.percent, capacity.refused()), (Dimension::Network, 80, 1));
        capacity.release(&id("a"), first);
        capacity.admit(&id("c")).unwrap();
    }

    #[test]
    fn a_session_that_ends_late_does_not_give_back_what_the_next_one_has() {
        let capacity = capacity(15_000, true);
        let old = capacity.admit(&id("a")).unwrap();
        let new = capacity.admit(&id("a")).unwrap();
        capacity.release(&id("a"), old);
        assert_eq!(capacity.leased().len(), 1);
        capacity.release(&id("a"), new);
        assert_eq!(capacity.leased().len(), 0);
    }

    #[test]
    fn where_nobody_is_refused_the_report_tells_how_far_it_is_over() {
        let capacity = capacity(15_000, false);
        for name in ["a", "b", "c"] {
            capacity.admit(&id(name)).unwrap();
        }
        let levels = capacity.levels();
        assert_eq!((levels.dimensions["network"].used, levels.accepts["1080p30"], capacity.refused()), (18_000, 0, 0));
    }

    #[test]
    fn what_a_stream_takes_is_known_once_it_runs() {
        let capacity = capacity(15_000, true);
        capacity.admit(&id("a")).unwrap();
        let demand = Demand { source_kbps: 500, ..capacity.work.of(&Profile::REFERENCE) };
        let running = Running { stream: id("a"), demand: Some(demand), live: true, behind: false };
        assert_eq!(capacity.look(&[running], Pressure::default(), Duration::from_secs(1)), None);
        let levels = capacity.levels();
        assert_eq!((levels.dimensions["network"].used, levels.units.pending_milli), (500, 0));
        assert_eq!(capacity.leased()[0].phase, "live");
    }
}
