//! The ledger of this worker, shared by admission, reports and whoever looks after running streams. Decides nothing itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::logic::capacity::{
    Calibration, Demand, Dimension, Encoder, Full, Lease, Leased, Ledger, Levels, Machine, Phase, Pressure, Prices, Priority,
    Profile, Work, leased,
};
use crate::logic::ladder::Ladder;
use crate::logic::model::StreamId;

/// How promises are made.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What is made of sources.
    pub work: Work,
    /// What that costs, before anything was measured here.
    pub prices: Prices,
    /// What a source counts as until it is known.
    pub assumed: Profile,
    /// Without it every publisher is taken, and the ledger only tells.
    pub enforced: bool,
}

/// What there is, what is promised and to whom.
#[derive(Debug)]
pub struct Capacity {
    machine: Machine,
    rules: Rules,
    state: Mutex<State>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    calibration: Calibration,
    /// Which promise of a stream is the present one: an earlier session that ends late must not give back the later one's.
    held: BTreeMap<StreamId, u64>,
    last: u64,
    /// When was looked last, and what was seen of the machine.
    looked: Duration,
    pressure: Pressure,
}

/// One promise, until it is dropped: however a session ends, nothing stays taken.
#[derive(Debug)]
pub struct Ticket {
    capacity: Arc<Capacity>,
    stream: StreamId,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.capacity.release(&self.stream, self.number);
    }
}

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
    /// The process that encodes it.
    pub codec_pid: Option<u32>,
}

/// What the machine did since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// How busy it is.
    pub pressure: Pressure,
    /// Processor time of the processes that encode; `None` where it is not known of all.
    pub codecs: Option<Duration>,
}

impl Capacity {
    /// Nothing is promised yet.
    pub fn new(machine: Machine, rules: Rules) -> Arc<Self> {
        let state = State {
            ledger: Ledger::new(machine.budget(|_| false)),
            calibration: Calibration::default(),
            held: BTreeMap::new(),
            last: 0,
            looked: Duration::ZERO,
            pressure: Pressure::default(),
        };
        Arc::new(Self { machine, rules, state: Mutex::new(state), refused: AtomicU64::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one call: a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prices(&self, state: &State) -> Prices {
        let software = self.rules.prices.software.corrected(state.calibration.permille());
        Prices { software, ..self.rules.prices }
    }

    /// Promises a stream with this ladder what a source costs of which nothing is known: passed through (rules.md 27).
    ///
    /// # Errors
    /// What has run out.
    pub fn admit(self: &Arc<Self>, stream: &StreamId, ladder: Option<&Ladder>) -> Result<Ticket, Full> {
        let mut state = self.state();
        let cost = self.rules.work.with_ladder(ladder).of(&self.rules.assumed).cost(&self.prices(&state));
        let lease = Lease { cost, phase: Phase::Pending, priority: Priority::Normal };
        match state.ledger.reserve(stream, lease) {
            Ok(()) => {}
            Err(full) if self.rules.enforced => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(full);
            }
            Err(_) => state.ledger.promise(stream, lease),
        }
        state.last += 1;
        let number = state.last;
        state.held.insert(stream.clone(), number);
        Ok(Ticket { capacity: Arc::clone(self), stream: stream.clone(), number })
    }

    fn release(&self, stream: &StreamId, number: u64) {
        let mut state = self.state();
        if state.held.get(stream) == Some(&number) {
            state.held.remove(stream);
            state.ledger.release(stream);
        }
    }

    /// Which devices are lost now.
    pub fn devices_are(&self, is_lost: impl Fn(&str) -> bool) {
        if !self.machine.devices.is_empty() {
            let budget = self.machine.budget(is_lost);
            self.state().ledger.set_budget(budget);
        }
    }

    /// What running streams really take, and whether they fall behind. Returns what turned out to be less than it was thought.
    pub fn look(&self, running: &[Running], seen: Seen, now: Duration) -> Option<Dimension> {
        let mut state = self.state();
        state.pressure = seen.pressure;
        let slow = running.iter().any(|r| r.behind);
        let span = now.saturating_sub(std::mem::replace(&mut state.looked, now));
        if let (Encoder::Software, Some(used)) = (self.rules.prices.encoder, seen.codecs) {
            let encoding = running.iter().filter(|r| r.codec_pid.is_some()).filter_map(|r| r.demand.as_ref());
            let milli = encoding.map(|d| d.software_milli(&self.rules.prices.software)).fold(0, u64::saturating_add);
            let of = |milli: u64, span: Duration| milli.saturating_mul(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            state.calibration.look(of(milli, span), of(1000, used), slow, now);
        }
        let prices = self.prices(&state);
        let ledger = &mut state.ledger;
        for r in running {
            if let Some(demand) = &r.demand {
                ledger.settle(&r.stream, demand.cost(&prices));
            }
            if r.live {
                ledger.is_live(&r.stream);
            }
        }
        let budget = *ledger.budget();
        let bottleneck = seen.pressure.bottleneck(|d| budget.total(d).is_some());
        let slow = slow && bottleneck.is_some();
        let bottleneck = bottleneck.unwrap_or(Dimension::Cpu);
        let (used, total, limit) = (ledger.used(), budget.total(bottleneck), budget.limit(bottleneck));
        ledger.belief_mut().look(slow, now, bottleneck, &used, total, limit)
    }

    /// For reports. `places`: so many sessions may begin, whatever they cost.
    pub fn levels(&self, places: u32) -> Levels {
        let state = self.state();
        let mut levels = Levels::new(&state.ledger, &self.rules.work, &self.prices(&state), places);
        if state.calibration.is_measured() {
            levels.units.basis = "measured";
        }
        levels
    }

    /// Likewise.
    pub fn leased(&self) -> Vec<Leased> {
        let state = self.state();
        leased(&state.ledger, &self.rules.work, &self.prices(&state))
    }

    /// How busy the machine was at the last look.
    pub fn pressure(&self) -> Pressure {
        self.state().pressure
    }

    /// When running streams were looked at last, by the worker's clock; zero before the first time.
    pub fn looked(&self) -> Duration {
        self.state().looked
    }

    /// What software encoding takes here of what was assumed, thousandths.
    pub fn calibration(&self) -> u16 {
        self.state().calibration.permille()
    }

    /// Publishers for whom there was no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether publishers are refused when there is no room.
    pub fn is_enforced(&self) -> bool {
        self.rules.enforced
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::logic::capacity::Software;
    use crate::logic::ladder::Size;
    use crate::logic::recipe::{DEFAULT_LADDER, Preset};

    /// A machine that passes streams through: a reference stream takes 6000 kbit/s of the network.
    pub(crate) fn capacity(network_kbps: u64, enforced: bool) -> Arc<Capacity> {
        let work = Work { ladder: None, smallest: Size::ANY, passthrough_short_side: 1080, passthrough_kbps: 8000 };
        let prices = Prices { encoder: Encoder::None, software: Software { encoded: 1, decoded: 1, scaled: 1 } };
        let rules = Rules { work, prices, assumed: Profile::REFERENCE, enforced };
        let machine = Machine { network_kbps: Some(network_kbps), cpu_milli: Some(100_000), ..Machine::default() };
        Capacity::new(machine, rules)
    }

    fn id(name: &str) -> StreamId {
        name.parse().unwrap()
    }

    fn running(name: &str, demand: Option<Demand>) -> Running {
        Running { stream: id(name), demand, live: true, behind: false, codec_pid: None }
    }

    #[test]
    fn who_is_refused_takes_nothing_and_who_leaves_gives_back() {
        let capacity = capacity(15_000, true);
        let first = capacity.admit(&id("a"), None).unwrap();
        let _second = capacity.admit(&id("b"), None).unwrap();
        let full = capacity.admit(&id("c"), None).unwrap_err();
        assert_eq!((full.dimension, full.percent, capacity.refused()), (Dimension::Network, 80, 1));
        drop(first);
        let _third = capacity.admit(&id("c"), None).unwrap();
        assert_eq!(capacity.leased().iter().map(|l| l.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn a_session_that_panics_gives_back_what_it_had() {
        let capacity = capacity(15_000, true);
        let ticket = capacity.admit(&id("a"), None).unwrap();
        let session = std::thread::spawn(move || {
            let _ticket = ticket;
            std::panic::resume_unwind(Box::new("a session's bug"));
        });
        assert!(session.join().is_err());
        assert_eq!((capacity.leased().len(), capacity.levels(u32::MAX).units.used_milli), (0, 0));
    }

    #[test]
    fn a_session_that_ends_late_does_not_give_back_what_the_next_one_has() {
        let capacity = capacity(15_000, true);
        let old = capacity.admit(&id("a"), None).unwrap();
        let new = capacity.admit(&id("a"), None).unwrap();
        drop(old);
        assert_eq!(capacity.leased().len(), 1);
        drop(new);
        assert_eq!(capacity.leased().len(), 0);
    }

    #[test]
    fn where_nobody_is_refused_the_report_tells_how_far_it_is_over() {
        let capacity = capacity(15_000, false);
        let _tickets = ["a", "b", "c"].map(|name| capacity.admit(&id(name), None).unwrap());
        let levels = capacity.levels(u32::MAX);
        assert_eq!((levels.dimensions["network"].used, levels.accepts["1080p30"], capacity.refused()), (18_000, 0, 0));
    }

    #[test]
    fn what_a_stream_takes_is_known_once_it_runs() {
        let capacity = capacity(15_000, true);
        let _ticket = capacity.admit(&id("a"), None).unwrap();
        let demand = Demand { source_kbps: 500, ..capacity.rules.work.of(&Profile::REFERENCE) };
        let look = capacity.look(&[running("a", Some(demand))], Seen::default(), Duration::from_secs(1));
        assert_eq!(look, None);
        let levels = capacity.levels(u32::MAX);
        assert_eq!((levels.dimensions["network"].used, levels.units.pending_milli), (500, 0));
        assert_eq!(capacity.leased()[0].phase, "live");
    }

    /// Four cores and x264: a reference stream is thought to take 2.4 of them, and takes 1.2.
    #[test]
    fn what_encoding_takes_here_makes_room_for_others() {
        let ladder: Ladder = toml::from_str(DEFAULT_LADDER).unwrap();
        let work =
            Work { ladder: Some(ladder.clone()), smallest: Size::ANY, passthrough_short_side: 1080, passthrough_kbps: 8000 };
        let prices = Prices { encoder: Encoder::Software, software: Software::assumed(Preset::Veryfast) };
        let rules = Rules { work, prices, assumed: Profile::REFERENCE, enforced: true };
        let capacity = Capacity::new(Machine { cpu_milli: Some(4000), ..Machine::default() }, rules);
        let _first = capacity.admit(&id("a"), Some(&ladder)).unwrap();
        assert_eq!(capacity.admit(&id("b"), Some(&ladder)).unwrap_err().dimension, Dimension::Cpu);
        let a = Running { codec_pid: Some(1), ..running("a", Some(capacity.rules.work.of(&Profile::REFERENCE))) };
        let seen = Seen { codecs: Some(Duration::from_millis(1200)), ..Seen::default() };
        for second in 1..100 {
            capacity.look(std::slice::from_ref(&a), seen, Duration::from_secs(second));
        }
        assert!((667..700).contains(&capacity.calibration()), "{}", capacity.calibration());
        assert_eq!(capacity.levels(u32::MAX).units.basis, "measured");
        let _second = capacity.admit(&id("b"), Some(&ladder)).unwrap();
    }

    #[test]
    fn a_stream_that_is_slow_on_an_idle_machine_keeps_nobody_out() {
        let capacity = capacity(60_000, true);
        let _first = capacity.admit(&id("a"), None).unwrap();
        let slow = Running { behind: true, ..running("a", None) };
        let look = |cpu: u16, second: u64| {
            let seen = Seen { pressure: Pressure { cpu: Some(cpu), ..Pressure::default() }, codecs: None };
            capacity.look(std::slice::from_ref(&slow), seen, Duration::from_secs(second));
            capacity.levels(u32::MAX).accepts["1080p30"]
        };
        assert_eq!((1..20).map(|s| look(500, s)).min(), Some(7));
        assert_eq!((20..30).map(|s| look(950, s)).collect::<Vec<_>>(), [7, 7, 7, 7, 7, 0, 0, 0, 0, 0]);
    }
}
