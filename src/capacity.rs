//! The admission of this worker, shared by whoever lets publishers in, reports, and looks after running streams. Decides nothing itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::logic::capacity::{Admission, Demand, Full, Leased, Levels, Machine, Pressure, Priority, Saving, Spare, Step};
pub use crate::logic::capacity::{Found, Rules, Running, Seen, Shed};
use crate::logic::ladder::Ladder;
use crate::logic::model::StreamId;

/// What there is, what is promised and to whom.
#[derive(Debug)]
pub struct Capacity {
    enforced: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    held: BTreeMap<StreamId, Held>,
    last: u64,
    /// Steps down and back, of all streams.
    steps: Steps,
}

/// The present promise of a stream.
#[derive(Debug)]
struct Held {
    /// Which it is: an earlier session that ends late must not give back the later one's.
    number: u64,
    /// Without what the stream is to be made.
    saving: watch::Sender<Saving>,
}

/// How often streams went to another step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps {
    /// They went without more.
    pub down: u64,
    /// They got something back.
    pub back: u64,
}

impl State {
    /// Tells sessions what they go without.
    fn tell(&mut self, steps: &[Step]) {
        for step in steps {
            let count = if step.dimension.is_some() { &mut self.steps.down } else { &mut self.steps.back };
            *count += 1;
            if let Some(held) = self.held.get(&step.stream) {
                held.saving.send_replace(step.to);
            }
        }
    }
}

/// One promise, until it is dropped: however a session ends, nothing stays taken.
#[derive(Debug)]
pub struct Ticket {
    capacity: Arc<Capacity>,
    stream: StreamId,
    number: u64,
    saving: watch::Receiver<Saving>,
}

impl Ticket {
    /// What the stream may take beside all others; all that it wants where nobody is refused.
    pub fn spare(&self) -> Spare {
        self.capacity.state().admission.spare(&self.stream)
    }

    /// What is to be done for the stream when nothing is left out is known, or has changed.
    pub fn settle(&self, demand: &Demand) {
        let mut state = self.capacity.state();
        if state.held.get(&self.stream).is_some_and(|held| held.number == self.number) {
            state.admission.settle(&self.stream, demand);
        }
    }

    /// Without what the stream is to be made.
    pub fn saving(&self) -> Saving {
        *self.saving.borrow()
    }

    /// Waits until that is something else.
    pub async fn saving_changed(&mut self) -> Saving {
        // The sender lives as long as the promise; when a later one has taken its place, nothing changes any more.
        if self.saving.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.saving.borrow_and_update()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.capacity.release(&self.stream, self.number);
    }
}

impl Capacity {
    /// Nothing is promised yet.
    pub fn new(machine: Machine, rules: Rules) -> Arc<Self> {
        let enforced = rules.enforced;
        let admission = Admission::new(machine, rules);
        let state = State { admission, held: BTreeMap::new(), last: 0, steps: Steps::default() };
        Arc::new(Self { enforced, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one call: a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises a stream with this ladder what a source costs of which nothing is known, and tells those who go without something for it.
    ///
    /// # Errors
    /// What has run out.
    pub fn admit(
        self: &Arc<Self>,
        stream: &StreamId,
        ladder: Option<&Ladder>,
        priority: Priority,
        now: Duration,
    ) -> Result<(Ticket, Vec<Step>), Full> {
        let mut state = self.state();
        let steps = state.admission.admit(stream, ladder, priority, now)?;
        state.last += 1;
        let number = state.last;
        let (sender, saving) = watch::channel(state.admission.saving(stream));
        state.held.insert(stream.clone(), Held { number, saving: sender });
        state.tell(&steps);
        Ok((Ticket { capacity: Arc::clone(self), stream: stream.clone(), number, saving }, steps))
    }

    fn release(&self, stream: &StreamId, number: u64) {
        let mut state = self.state();
        if state.held.get(stream).is_some_and(|held| held.number == number) {
            state.held.remove(stream);
            state.admission.release(stream);
        }
    }

    /// Which devices are lost now.
    pub fn devices_are(&self, is_lost: impl Fn(&str) -> bool) {
        self.state().admission.devices_are(is_lost);
    }

    /// What running streams really take, and whether they fall behind. Tells those who go without something, or get it back.
    pub fn look(&self, running: &[Running], seen: Seen, now: Duration) -> Found {
        let mut state = self.state();
        let found = state.admission.look(running, seen, now);
        state.tell(&found.steps);
        found
    }

    /// For reports. `places`: so many sessions may begin, whatever they cost.
    pub fn levels(&self, places: u32) -> Levels {
        self.state().admission.levels(places)
    }

    /// Likewise: how many reference streams would be taken at the expense of others' rungs and their own.
    pub fn accepts_shed(&self, places: u32) -> u32 {
        // Outside of the lock: it tries out many streams.
        let admission = self.state().admission.clone();
        admission.accepts_shed(places)
    }

    /// Likewise.
    pub fn leased(&self) -> Vec<Leased> {
        self.state().admission.leased()
    }

    /// How busy the machine was at the last look.
    pub fn pressure(&self) -> Pressure {
        self.state().admission.pressure()
    }

    /// When running streams were looked at last, by the worker's clock; zero before the first time.
    pub fn looked(&self) -> Duration {
        self.state().admission.looked()
    }

    /// What software encoding takes here of what was assumed, thousandths.
    pub fn calibration(&self) -> u16 {
        self.state().admission.calibration()
    }

    /// Publishers for whom there was no room.
    pub fn refused(&self) -> u64 {
        self.state().admission.refused()
    }

    /// How often streams went to another step.
    pub fn steps(&self) -> Steps {
        self.state().steps
    }

    /// Whether publishers are refused when there is no room.
    pub fn is_enforced(&self) -> bool {
        self.enforced
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::logic::capacity::{Dimension, Encoder, Prices, Profile, Software, Work};
    use crate::logic::ladder::Size;
    use crate::logic::recipe::{DEFAULT_LADDER, Preset};

    /// A machine that passes streams through: a reference stream takes 6000 kbit/s of the network.
    pub(crate) fn capacity(network_kbps: u64, enforced: bool) -> Arc<Capacity> {
        let work = Work { ladder: None, smallest: Size::ANY, passthrough_short_side: 1080, passthrough_kbps: 8000 };
        let nothing = Software { encoded: 1, decoded: 1, scaled: 1 };
        let prices = Prices { encoder: Encoder::None, software: nothing, brief: nothing };
        let rules = Rules { work, prices, assumed: Profile::REFERENCE, enforced, shed: Shed::Overload };
        let machine = Machine { network_kbps: Some(network_kbps), cpu_milli: Some(100_000), ..Machine::default() };
        Capacity::new(machine, rules)
    }

    fn id(name: &str) -> StreamId {
        name.parse().unwrap()
    }

    fn admit(capacity: &Arc<Capacity>, stream: &StreamId, ladder: Option<&Ladder>) -> Result<Ticket, Full> {
        capacity.admit(stream, ladder, Priority::Normal, Duration::ZERO).map(|(ticket, _)| ticket)
    }

    fn reference(capacity: &Capacity) -> Demand {
        capacity.state().admission.rules().work.of(&Profile::REFERENCE)
    }

    fn running(name: &str, demand: Option<Demand>) -> Running {
        Running { stream: id(name), demand, live: true, behind: false, speed: None, codec_pid: None }
    }

    #[test]
    fn who_is_refused_takes_nothing_and_who_leaves_gives_back() {
        let capacity = capacity(15_000, true);
        let first = admit(&capacity, &id("a"), None).unwrap();
        let _second = admit(&capacity, &id("b"), None).unwrap();
        let full = admit(&capacity, &id("c"), None).unwrap_err();
        assert_eq!((full.dimension, full.percent, capacity.refused()), (Dimension::Network, 80, 1));
        drop(first);
        let _third = admit(&capacity, &id("c"), None).unwrap();
        assert_eq!(capacity.leased().iter().map(|l| l.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn a_session_that_panics_gives_back_what_it_had() {
        let capacity = capacity(15_000, true);
        let ticket = admit(&capacity, &id("a"), None).unwrap();
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
        let old = admit(&capacity, &id("a"), None).unwrap();
        let new = admit(&capacity, &id("a"), None).unwrap();
        drop(old);
        assert_eq!(capacity.leased().len(), 1);
        drop(new);
        assert_eq!(capacity.leased().len(), 0);
    }

    #[test]
    fn where_nobody_is_refused_the_report_tells_how_far_it_is_over() {
        let capacity = capacity(15_000, false);
        let _tickets = ["a", "b", "c"].map(|name| admit(&capacity, &id(name), None).unwrap());
        let levels = capacity.levels(u32::MAX);
        assert_eq!((levels.dimensions["network"].used, levels.accepts["1080p30"], capacity.refused()), (18_000, 0, 0));
    }

    #[test]
    fn what_a_stream_takes_is_known_once_it_runs() {
        let capacity = capacity(15_000, true);
        let _ticket = admit(&capacity, &id("a"), None).unwrap();
        let demand = Demand { source_kbps: 500, ..reference(&capacity) };
        let look = capacity.look(&[running("a", Some(demand))], Seen::default(), Duration::from_secs(1));
        assert_eq!(look, Found::default());
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
        let prices = Prices::assumed(Encoder::Software, Preset::Veryfast);
        let rules = Rules { work, prices, assumed: Profile::REFERENCE, enforced: true, shed: Shed::Overload };
        let capacity = Capacity::new(Machine { cpu_milli: Some(4000), ..Machine::default() }, rules);
        let _first = admit(&capacity, &id("a"), Some(&ladder)).unwrap();
        assert_eq!(admit(&capacity, &id("b"), Some(&ladder)).unwrap_err().dimension, Dimension::Cpu);
        let a = Running { codec_pid: Some(1), ..running("a", Some(reference(&capacity))) };
        let seen = Seen { codecs: Some(Duration::from_millis(1200)), ..Seen::default() };
        for second in 1..100 {
            capacity.look(std::slice::from_ref(&a), seen, Duration::from_secs(second));
        }
        assert!((667..700).contains(&capacity.calibration()), "{}", capacity.calibration());
        assert_eq!(capacity.levels(u32::MAX).units.basis, "measured");
        let _second = admit(&capacity, &id("b"), Some(&ladder)).unwrap();
    }

    #[test]
    fn a_stream_that_is_slow_on_an_idle_machine_keeps_nobody_out() {
        let capacity = capacity(60_000, true);
        let _first = admit(&capacity, &id("a"), None).unwrap();
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
