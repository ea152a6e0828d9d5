//! Admission, belief and shedding together, on machines in virtual time whose streams really cost what a test says.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::logic::capacity::{Admission, Machine, Profile, Rules, Running, Seen, Shed, Work};
use crate::logic::capacity::{Demand, Encoder, Full, Prices, steps};
use crate::logic::ladder::{Ladder, Size, Source};
use crate::logic::model::FrameRate;
use crate::logic::recipe::Class;
use crate::logic::recipe::{DEFAULT_LADDER, Preset};

fn work() -> Work {
    let ladder: Ladder = toml::from_str(DEFAULT_LADDER).unwrap();
    Work { ladder: Some(ladder), smallest: Size::ANY, passthrough_short_side: 1080, passthrough_kbps: 8000 }
}

fn prices(preset: Preset) -> Prices {
    Prices::assumed(Encoder::Software, preset)
}

/// A source that is passed through, or encoded anew.
fn demand(height: u32, fps: u32, passthrough: bool) -> Demand {
    let source = Source { width: height * 16 / 9, height, fps: FrameRate::whole(fps), bitrate: Some(6_000_000) };
    work().demand(&source, passthrough)
}

fn id(n: usize) -> StreamId {
    format!("s{n}").parse().unwrap()
}

/// Cores and x264 that take what is said, and something else beside it.
struct World {
    admission: Admission,
    cores: u64,
    /// Thousandths of a core that something else takes.
    hog: u64,
    /// What streams take of what they are thought to, thousandths.
    truth: u64,
    streams: Vec<(StreamId, Demand, Duration)>,
    /// What encoders really do: a step takes effect some seconds later.
    made: std::collections::BTreeMap<StreamId, (Duration, Saving)>,
    now: Duration,
    steps: Vec<(Duration, Step)>,
    worst: Duration,
}

/// A step is seen at the next key frame, and once the new encoder runs.
const TAKES: Duration = Duration::from_secs(4);

impl World {
    fn new(cores: u64, shed: Shed) -> Self {
        let machine = Machine { cpu_milli: Some(cores * 1000), ..Machine::default() };
        let rules = Rules { work: work(), prices: prices(Preset::Veryfast), assumed: Profile::REFERENCE, enforced: true, shed };
        Self {
            admission: Admission::new(machine, rules),
            cores: cores * 1000,
            hog: 0,
            truth: 1000,
            streams: Vec::new(),
            made: Default::default(),
            now: Duration::ZERO,
            steps: Vec::new(),
            worst: Duration::ZERO,
        }
    }

    /// A publisher comes: whether he is let in.
    fn comes(&mut self, n: usize, demand: Demand, priority: Priority) -> Result<(), Full> {
        let ladder = work().ladder;
        let steps = self.admission.admit(&id(n), ladder.as_ref(), priority, self.now)?;
        self.made.insert(id(n), (self.now, self.admission.saving(&id(n))));
        self.take(steps);
        self.streams.push((id(n), demand, Duration::ZERO));
        Ok(())
    }

    fn leaves(&mut self, n: usize) {
        self.streams.retain(|(stream, ..)| *stream != id(n));
        self.admission.release(&id(n));
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            assert_ne!(step.from, step.to);
            self.made.insert(step.stream.clone(), (self.now + TAKES, step.to));
            self.steps.push((self.now, step));
        }
    }

    /// What a stream's encoders take now.
    fn really(&self, stream: &StreamId, demand: &Demand) -> u64 {
        let (at, saving) = self.made[stream];
        let before = self.steps.iter().rev().find(|(_, s)| s.stream == *stream).map_or(Saving::NONE, |(_, s)| s.from);
        let saving = if at <= self.now { saving } else { before };
        saving.of(demand).software_milli(&prices(Preset::Veryfast)) * self.truth / 1000
    }

    fn second(&mut self) {
        self.now += Duration::from_secs(1);
        let wanted: u64 = self.streams.iter().map(|(s, d, _)| self.really(s, d)).sum();
        // Whoever else is there gets his share.
        let all = wanted + self.hog;
        let speed = if all > self.cores { self.cores * 1000 / all } else { 1000 };
        let mut running = Vec::new();
        let catching = if all < self.cores { (self.cores * 1000 / all.max(1)).min(4000) } else { speed };
        for (stream, demand, lag) in &mut self.streams {
            *lag = (*lag + Duration::from_secs(1)).saturating_sub(Duration::from_millis(catching));
            self.worst = self.worst.max(*lag);
            let behind = catching < 950;
            let speed = Some(u16::try_from(catching.min(1000)).unwrap());
            let stream = stream.clone();
            running.push(Running { stream, demand: Some(demand.clone()), live: true, behind, speed, codec_pid: Some(1) });
        }
        let busy = u16::try_from((all * 1000 / self.cores).min(1000)).unwrap();
        let used = Duration::from_millis(wanted * speed / 1000);
        let seen = Seen { pressure: Pressure { cpu: Some(busy), ..Pressure::default() }, codecs: Some(used) };
        let found = self.admission.look(&running, seen, self.now);
        self.take(found.steps);
    }

    fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    fn steps_since(&self, at: Duration) -> usize {
        self.steps.iter().filter(|(when, _)| *when > at).count()
    }

    fn savings(&self) -> Vec<Saving> {
        self.streams.iter().map(|(stream, ..)| self.admission.saving(stream)).collect()
    }
}

#[test]
fn steps_go_from_what_is_missed_least_to_the_source_alone() {
    let words = |demand: &Demand, preset| {
        let all = steps(demand, &prices(preset));
        assert!(all.windows(2).all(|w| w[0].saving < w[1].saving), "in order");
        assert!(all.windows(2).all(|w| w[0].cost.of(Dimension::Cpu) > w[1].cost.of(Dimension::Cpu)), "each saves something");
        all.iter()
            .map(|Way { saving: s, .. }| {
                (s.as_str(), s.of(demand).rungs.iter().map(|r| r.name.to_string()).collect::<Vec<_>>().join(" "))
            })
            .collect::<Vec<_>>()
    };
    let of = |rows: &[(&'static str, &str)]| rows.iter().map(|(a, b)| (*a, (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(
        words(&demand(1080, 30, true), Preset::Veryfast),
        of(&[
            ("none", "720p 480p 360p"),
            ("preset", "720p 480p 360p"),
            ("rungs", "480p 360p"),
            ("rungs", "360p"),
            ("rungs", "")
        ])
    );
    // rules.md 1: the re-encoded top first, and the lowest rung never, for it would be the stream.
    assert_eq!(
        words(&demand(1080, 60, false), Preset::Superfast),
        of(&[
            ("none", "top 720p 480p 360p"),
            ("half_rate", "top 720p 480p 360p"),
            ("rungs", "720p 480p 360p"),
            ("rungs", "480p 360p"),
            ("rungs", "360p")
        ])
    );
    let halved = Saving { half_rate: true, ..Saving::NONE }.rungs(&demand(1080, 60, false).rungs);
    assert!(halved.iter().all(|r| r.fps == FrameRate::whole(30) && r.halved));
    assert_eq!(
        steps(&Demand { rungs: Vec::new(), ..demand(1080, 30, true) }, &prices(Preset::Veryfast)).len(),
        1,
        "nothing to save"
    );
}

#[test]
fn a_hog_comes_and_goes_and_streams_go_without_meanwhile() {
    let mut w = World::new(16, Shed::Overload);
    let mut taken = 0;
    while w.comes(taken, demand(1080, 30, true), Priority::Normal).is_ok() {
        taken += 1;
        w.run(3);
    }
    w.run(60);
    assert!(taken >= 5 && w.steps.is_empty() && w.worst.is_zero(), "{taken} whole streams, none slow");
    let at = w.now;
    w.hog = 8000;
    w.run(300);
    let first = w.steps.first().map(|(when, _)| *when - at);
    assert!(first.is_some_and(|t| t <= Duration::from_secs(6)), "{first:?}");
    assert!(w.worst < Duration::from_secs(4), "nobody loses a segment: {:?}", w.worst);
    assert!(w.streams.iter().all(|(.., lag)| lag.is_zero()), "and all have caught up");
    let settled = w.now - Duration::from_secs(200);
    assert_eq!(w.steps_since(settled), 0, "the same load, the same steps");
    w.hog = 0;
    w.run(600);
    assert!(w.savings().iter().all(|s| !s.is_some()), "{:?}", w.savings());
    assert!(w.worst < Duration::from_secs(4));
    assert_eq!(w.admission.refused(), 1, "the one that was one too many");
}

#[test]
fn a_publisher_for_whom_others_go_without_something_is_let_in_and_low_priority_goes_first() {
    let mut w = World::new(16, Shed::Admit);
    let mut whole = 0;
    let told = w.admission.levels(u32::MAX);
    let (whole_told, shed_told) = (told.accepts["1080p30"], w.admission.accepts_shed(u32::MAX));
    assert!(shed_told > whole_told, "{shed_told} against {whole_told}");
    while w.steps.is_empty() {
        let priority = if whole == 2 { Priority::Low } else { Priority::Normal };
        w.comes(whole, demand(1080, 30, true), priority).unwrap();
        whole += 1;
        w.run(10);
    }
    assert_eq!(w.steps[0].1.stream, id(2), "the least important goes without first");
    let mut taken = whole;
    while w.comes(taken, demand(1080, 30, true), Priority::Normal).is_ok() {
        taken += 1;
        // So that parameter sets may change again.
        w.run(70);
    }
    assert!(taken > whole + 3, "{whole} whole, {taken} in all");
    assert!((taken as u32).abs_diff(shed_told) <= taken as u32 / 4, "{taken} against {}", shed_told);
    w.run(120);
    assert!(w.worst < Duration::from_secs(1), "{:?}", w.worst);
    // One after the other leaves, and the others get it back.
    for n in whole - 1..taken {
        w.leaves(n);
        w.run(200);
    }
    w.run(1000);
    assert!(w.savings().iter().all(|s| !s.is_some()), "{:?}", w.savings());
    assert!(w.worst < Duration::from_secs(1));
}

#[test]
fn a_lost_device_sheds_at_once_what_the_others_do_not_carry() {
    let mut ledger = Ledger::new(super::super::Budget::unlimited().with(Dimension::Encode, 10_000_000));
    let mut shedder = Shedder::default();
    let dense = Prices { encoder: Encoder::Nvidia(Class::Dense), ..prices(Preset::Veryfast) };
    for n in 0..40 {
        let steps = steps(&demand(1080, 30, true), &dense);
        let lease = Lease { cost: steps[0].cost, phase: super::super::Phase::Live, priority: Priority::Normal };
        ledger.reserve(&id(n), lease).unwrap();
        shedder.describe(&id(n), steps, Priority::Normal);
    }
    assert!(shedder.look(&mut ledger, Pressure::default(), Duration::from_secs(1)).is_empty());
    ledger.set_budget(super::super::Budget::unlimited().with(Dimension::Encode, 5_000_000));
    let steps = shedder.look(&mut ledger, Pressure::default(), Duration::from_secs(2));
    assert!(!steps.is_empty() && steps.iter().all(|s| s.dimension == Some(Dimension::Encode)));
    assert!(ledger.used().of(Dimension::Encode) <= ledger.ceiling(Dimension::Encode, Threshold::Reserve).unwrap());
    assert!((40 - steps.len()..40).all(|n| steps.iter().any(|s| s.stream == id(n))), "those who came last go first: {steps:?}");
}

#[test]
fn who_has_the_machine_alone_goes_without_something_only_if_it_falls_behind() {
    let mut w = World::new(1, Shed::Admit);
    w.truth = 100;
    w.comes(0, demand(1080, 60, false), Priority::Normal).unwrap();
    w.run(20);
    assert!(w.steps.is_empty(), "thought to be too much, and fast enough: {:?}", w.steps);
    w.truth = 1500;
    w.run(60);
    assert!(!w.steps.is_empty());
}

/// A device that does a hundredth of what its table says: no number of ours tells it, its streams' speed and its engine's load do.
#[test]
fn a_device_slower_than_any_belief_sheds_step_by_step_and_gives_nothing_back_that_it_cannot_do() {
    let dense = Prices { encoder: Encoder::Nvidia(Class::Dense), ..prices(Preset::Veryfast) };
    let mut ledger = Ledger::new(super::super::Budget::unlimited().with(Dimension::Encode, 5_000_000));
    let mut shedder = Shedder::default();
    for n in 0..2 {
        let steps = steps(&demand(1080, 30, true), &dense);
        let lease = Lease { cost: steps[0].cost, phase: super::super::Phase::Live, priority: Priority::Normal };
        ledger.reserve(&id(n), lease).unwrap();
        shedder.describe(&id(n), steps, Priority::Normal);
    }
    // It does what one of the two streams takes, and no more.
    let real = 184_200 * 10 / 9;
    let mut taken = Vec::new();
    for second in 1..3600 {
        let used = ledger.used();
        let load = used.of(Dimension::Encode) * 1000 / real;
        let slow = (load > 1000).then(|| u16::try_from(1_000_000 / load).unwrap());
        let seen = Pressure { cpu: Some(100), encode: Some(u16::try_from(load.min(1000)).unwrap()), ..Pressure::default() };
        let now = Duration::from_secs(second);
        let budget = *ledger.budget();
        if !shedder.is_settling(now) {
            ledger.belief_mut().look(slow, now, &seen, &used, &budget);
        }
        taken.extend(shedder.look(&mut ledger, seen, now).into_iter().map(|step| (second, step)));
    }
    assert!(ledger.used().of(Dimension::Encode) <= real);
    assert!(taken.len() >= 2 && taken.iter().all(|(second, step)| *second < 60 && step.dimension.is_some()), "{taken:?}");
}

#[test]
fn without_the_setting_nobody_goes_without() {
    let mut w = World::new(8, Shed::Off);
    w.comes(0, demand(1080, 30, true), Priority::Normal).unwrap();
    w.comes(1, demand(1080, 30, true), Priority::Normal).unwrap();
    w.hog = 8000;
    w.run(100);
    assert!(w.steps.is_empty() && w.worst > Duration::from_secs(10));
}

proptest! {
    // Each is an hour and a half of up to eight streams, a second of a debug build.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 16, ..ProptestConfig::default() })]

    /// Whatever streams really cost and whatever else the machine does, a load that stays the same is answered by steps that come to an end; the source is never touched, and
    /// parameter sets change once a minute at the most.
    #[test]
    fn a_constant_load_is_answered_once(
        truth in 400u64..2500,
        hog in 0u64..14_000,
        streams in proptest::collection::vec((0usize..3, 0usize..2, any::<bool>()), 1..9),
    ) {
        let mut w = World::new(16, Shed::Admit);
        w.truth = truth;
        for (n, (height, fps, passthrough)) in streams.into_iter().enumerate() {
            let demand = demand([480, 720, 1080][height], [30, 60][fps], passthrough);
            let _ = w.comes(n, demand, [Priority::Low, Priority::Normal, Priority::High][n % 3]);
            w.run(5);
        }
        w.hog = hog;
        w.run(1800);
        let settled = w.now;
        let before = w.steps.len();
        w.run(3600);
        // A try that turned out too much: down again, and each waits twice as long as the one before, up to a quarter of an hour.
        let late = w.steps.len() - before;
        prop_assert!(late <= 2 * w.streams.len(), "{late} steps behind {settled:?}: {:?}", &w.steps[before..]);
        for (stream, demand, _) in &w.streams {
            let made = w.admission.saving(stream).of(demand);
            prop_assert!(made.passthrough == demand.passthrough && (made.passthrough || !made.rungs.is_empty()));
            let inits: Vec<Duration> = w.steps.iter().filter(|(_, s)| s.stream == *stream && s.from.is_another_init(s.to)).map(|(at, _)| *at).collect();
            prop_assert!(inits.windows(2).all(|p| p[1] - p[0] >= INIT_EVERY), "{inits:?}");
        }
        for n in 0..9 {
            w.leaves(n);
        }
        prop_assert_eq!(w.admission.ledger().used(), Amounts::default());
    }
}
