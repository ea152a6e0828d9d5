use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::logic::bench;
use crate::logic::gpu::{Busy, Load, Version};
use crate::logic::ladder::{Ladder, Size};
use crate::logic::model::{Coding, StreamId};
use crate::logic::recipe::{Class, DEFAULT_LADDER, NVIDIA_SMALLEST, Preset};

fn id(n: usize) -> StreamId {
    format!("s{n}").parse().unwrap()
}

fn ladder() -> Ladder {
    toml::from_str(DEFAULT_LADDER).unwrap()
}

fn work(smallest: Size) -> Work {
    Work { ladder: Some(ladder()), smallest, passthrough_short_side: 1080, passthrough_kbps: 8000 }
}

/// g5.2xlarge: 8 vCPU, 32 GiB, one A10G (1 NVENC, 2 NVDEC, 1500 MHz, 23028 MiB), up to 10 Gbit/s.
fn a10g() -> Machine {
    let machine = bench::Machine { compute: Version { major: 8, minor: 6 }, encoders: 1, decoders: 2, clock_mhz: Some(1500) };
    Machine {
        cpu_milli: Some(8000),
        memory_mib: Some(30_000),
        network_kbps: Some(10_000_000),
        spool_mib: Some(20_480),
        devices: vec![Device { uuid: "GPU-0".into(), machine, memory_mib: Some(23_028) }],
        limits: Budget::unlimited(),
    }
}

const DENSE: Prices = Prices {
    encoder: Encoder::Nvidia(Class::Dense),
    software: Software { encoded: 128_000, decoded: 503_000, scaled: 432_000 },
    brief: Software { encoded: 201_000, decoded: 503_000, scaled: 432_000 },
};

fn lease(cost: Amounts) -> Lease {
    Lease { cost, phase: Phase::Pending, priority: Priority::Normal }
}

/// Streams that are taken one after the other until one is refused.
fn fill(ledger: &mut Ledger, cost: Amounts) -> (usize, Full) {
    for n in 0.. {
        if let Err(full) = ledger.reserve(&id(n), lease(cost)) {
            return (n, full);
        }
    }
    unreachable!("a budget ends")
}

#[test]
fn twenty_five_passed_through_ladders_fit_an_a10g_and_four_times_as_many_macroblocks_do_not() {
    let mut ledger = Ledger::new(a10g().budget(|_| false));
    let demand = work(NVIDIA_SMALLEST).of(&Profile::REFERENCE);
    assert!(demand.passthrough);
    let cost = demand.cost(&DENSE);
    assert_eq!(cost.of(Dimension::Encode), (3600 + 1620 + 920) * 30);
    assert_eq!(cost.of(Dimension::Decode), 8160 * 30);
    let (taken, full) = fill(&mut ledger, cost);
    // 651 pictures of 1080p a second by P1 are 5.31 million macroblocks; 0.90 of them for 184,200 each.
    assert_eq!((taken, full.dimension), (25, Dimension::Encode));
    assert_eq!(full.to_string(), "the GPU's encoders are taken to 86 %");

    let reencoded = work(NVIDIA_SMALLEST).demand(&bad_source(), false);
    assert_eq!((reencoded.passthrough, reencoded.rungs.len()), (false, 4));
    let (taken, full) = fill(&mut Ledger::new(a10g().budget(|_| false)), reencoded.cost(&DENSE));
    assert_eq!((taken, full.dimension), (11, Dimension::Encode), "429,000 each");
}

fn bad_source() -> crate::logic::ladder::Source {
    crate::logic::ladder::Source {
        width: 1920,
        height: 1080,
        fps: crate::logic::model::FrameRate::whole(30),
        bitrate: Some(6_000_000),
    }
}

#[test]
fn sources_of_sixty_pictures_run_out_of_decoders_first() {
    let cost = work(NVIDIA_SMALLEST).of(&Profile::ALL[0]).cost(&DENSE);
    assert_eq!(cost.of(Dimension::Encode), (3600 + 1620 + 920) * 30, "rungs are halved");
    let (taken, full) = fill(&mut Ledger::new(a10g().budget(|_| false)), cost);
    // 1348 pictures of 1080p a second of two engines, 0.85 of them, 60 each.
    assert_eq!((taken, full.dimension), (19, Dimension::Decode));
}

#[test]
fn a_machine_without_a_gpu_takes_what_its_cores_encode() {
    let machine = Machine { cpu_milli: Some(8000), memory_mib: Some(30_000), ..Machine::default() };
    let prices = |preset| Prices::assumed(Encoder::Software, preset);
    let streams = |preset| {
        let cost = work(Size::ANY).of(&Profile::REFERENCE).cost(&prices(preset));
        fill(&mut Ledger::new(machine.budget(|_| false)), cost)
    };
    let (taken, full) = streams(Preset::Veryfast);
    assert_eq!((taken, full.dimension), (2, Dimension::Cpu), "{full:?}");
    assert!(streams(Preset::Ultrafast).0 > taken);
    // HEVC is decoded at twice the price.
    let of = |coding| Demand { coding, ..work(Size::ANY).of(&Profile::REFERENCE) }.cost(&prices(Preset::Veryfast)).of(CPU);
    assert_eq!(of(Coding::Hevc) - of(Coding::H264), 8160 * 30 * 1000 / 503_333);
    let passed = Demand { rungs: Vec::new(), ..work(Size::ANY).of(&Profile::REFERENCE) }.cost(&prices(Preset::Veryfast));
    assert!(fill(&mut Ledger::new(machine.budget(|_| false)), passed).0 > 400);
}

#[test]
fn doubling_a_price_halves_the_room() {
    let cost = |encoded| {
        let software = Software { encoded, decoded: u64::MAX / 2000, scaled: u64::MAX / 2000 };
        work(Size::ANY).of(&Profile::REFERENCE).cost(&Prices { encoder: Encoder::Software, software, brief: software })
    };
    let ledger = Ledger::new(Budget::unlimited().with(Dimension::Cpu, 64_000));
    let room = |encoded| ledger.room(&cost(encoded), Threshold::Commit).0;
    let (full, half) = (room(200_000), room(100_000));
    // The supervisor's share of a stream stays as it is.
    assert!((full..=full + 2).contains(&(2 * half)), "{full} {half}");
}

#[test]
fn what_is_advertised_is_less_than_what_is_taken_and_who_comes_back_gets_more() {
    let cost = Amounts::default().with(Dimension::Cpu, 10);
    let mut ledger = Ledger::new(Budget::unlimited().with(Dimension::Cpu, 1000));
    let room = |l: &Ledger| [Threshold::Advertise, Threshold::Commit, Threshold::Reserve].map(|t| l.room(&cost, t).0);
    assert_eq!(room(&ledger), [83, 85, 89]);
    assert_eq!(fill(&mut ledger, cost).0, 85);
    assert_eq!(room(&ledger), [0, 0, 4]);
    let back = Lease { priority: Priority::High, ..lease(cost) };
    ledger.reserve(&id(85), back).unwrap();
    let low = Lease { priority: Priority::Low, ..lease(cost) };
    assert!(ledger.reserve(&id(86), low).is_err());
}

#[test]
fn a_lease_that_cannot_grow_stays_as_it_was() {
    let of = |n| Amounts::default().with(Dimension::Encode, n);
    let mut ledger = Ledger::new(Budget::unlimited().with(Dimension::Encode, 1000));
    ledger.reserve(&id(0), lease(of(500))).unwrap();
    ledger.reserve(&id(1), lease(of(300))).unwrap();
    let full = ledger.reserve(&id(1), lease(of(401))).unwrap_err();
    assert_eq!(full, Full { dimension: Dimension::Encode, wanted: 401, free: 400, percent: 50, behind: false });
    assert_eq!(ledger.used(), of(800));
    ledger.reserve(&id(1), lease(of(400))).unwrap();
    assert_eq!((ledger.used(), ledger.pending()), (of(900), of(900)));
    ledger.is_live(&id(0));
    assert_eq!(ledger.pending(), of(400));
    // It costs more than was assumed, and runs.
    ledger.settle(&id(1), of(700));
    assert_eq!(ledger.room(&of(1), Threshold::Reserve), (0, Some(Dimension::Encode)));
    ledger.release(&id(0));
    ledger.release(&id(1));
    assert_eq!(ledger.used(), Amounts::default());
}

const CPU: Dimension = Dimension::Cpu;

/// Where nobody can tell how busy the machine is.
fn look_at(ledger: &mut Ledger, slow: bool, now: Duration) -> Option<Dimension> {
    let (used, budget) = (ledger.used(), *ledger.budget());
    ledger.belief_mut().look(slow.then_some(1000), now, &Pressure::default(), &used, &budget)
}

/// One stream of 100 after the other on a machine that was said to have 1000 and carries `truth`: each time that more are promised, all are slow.
#[test]
fn streams_that_fall_behind_lower_what_is_believed_until_nothing_more_is_taken() {
    let cost = Amounts::default().with(CPU, 100);
    let mut ledger = Ledger::new(Budget::unlimited().with(CPU, 1000));
    (0..5).for_each(|n| ledger.reserve(&id(n), lease(cost)).unwrap());
    let look = |ledger: &mut Ledger, slow, second| look_at(ledger, slow, Duration::from_secs(second));
    for second in 0..5 {
        assert_eq!(look(&mut ledger, true, second), None, "{second}");
    }
    assert!(!ledger.belief().is_measured());
    assert_eq!(look(&mut ledger, true, 5), Some(CPU));
    assert!(ledger.belief().is_measured());
    assert_eq!(ledger.room(&cost, Threshold::Commit), (0, Some(CPU)));
    // One leaves: it was one too many, and the others are not slow any more.
    ledger.release(&id(4));
    assert_eq!(look(&mut ledger, false, 6), None);
    assert_eq!(ledger.room(&cost, Threshold::Commit).0, 0, "what was one too many is not taken again at once");
    let mut second = 6;
    while ledger.room(&cost, Threshold::Commit).0 == 0 {
        second += 1;
        look(&mut ledger, false, second);
    }
    assert!((16..60).contains(&second), "{second}");
    while ledger.belief().is_measured() {
        second += 1;
        look(&mut ledger, false, second);
    }
    assert!((300..900).contains(&second), "{second}");
}

#[test]
fn who_has_the_machine_alone_is_taken_and_the_next_one_only_if_he_fits() {
    let cost = Amounts::default().with(CPU, 2000);
    let mut ledger = Ledger::new(Budget::unlimited().with(CPU, 2000));
    assert_eq!(ledger.room(&cost, Threshold::Advertise), (1, Some(CPU)));
    ledger.reserve(&id(0), lease(cost)).unwrap();
    ledger.reserve(&id(0), lease(cost)).unwrap();
    assert_eq!(ledger.room(&cost, Threshold::Commit), (0, Some(CPU)));
    let full = ledger.reserve(&id(1), lease(cost)).unwrap_err();
    assert_eq!(full.to_string(), "the processor is taken to 100 %");
    // He costs less than was assumed.
    ledger.settle(&id(0), Amounts::default().with(CPU, 300));
    ledger.reserve(&id(1), lease(Amounts::default().with(CPU, 1400))).unwrap();
}

#[test]
fn while_streams_fall_behind_nobody_else_is_taken() {
    let cost = Amounts::default().with(CPU, 10);
    let mut ledger = Ledger::new(Budget::unlimited().with(CPU, 1000));
    ledger.reserve(&id(0), lease(cost)).unwrap();
    let look = |ledger: &mut Ledger, slow, second| {
        look_at(ledger, slow, Duration::from_secs(second));
        ledger.room(&cost, Threshold::Reserve)
    };
    assert_eq!((0..5).map(|s| look(&mut ledger, true, s).0).min(), Some(88));
    assert_eq!(look(&mut ledger, true, 5), (0, Some(CPU)));
    let full = ledger.reserve(&id(1), lease(cost)).unwrap_err();
    assert_eq!(full.to_string(), "the processor is busy, and its streams fall behind");
    assert!(look(&mut ledger, false, 6).0 > 0, "somebody else took the processor, and has left");
}

#[test]
fn a_busy_moment_changes_nothing() {
    let mut belief = Belief::default();
    let used = Amounts::default().with(CPU, 500);
    let budget = Budget::unlimited().with(CPU, 1000);
    for second in 0..1000 {
        let slow = (second % 5 != 4).then_some(900);
        belief.look(slow, Duration::from_secs(second), &Pressure::default(), &used, &budget);
    }
    assert!(!belief.is_measured());
}

#[test]
fn the_busiest_dimension_that_can_run_out_is_to_blame() {
    let pressure = Pressure { cpu: Some(400), stalled: Some(750), encode: Some(990), decode: Some(700) };
    assert_eq!(pressure.bottleneck(|_| true), Some(Dimension::Encode));
    assert_eq!(pressure.bottleneck(|d| d != Dimension::Encode), Some(CPU), "a quota");
    assert_eq!(pressure.bottleneck(|d| d == Dimension::Decode), Some(Dimension::Decode));
    assert_eq!(Pressure { cpu: Some(699), ..Pressure::default() }.bottleneck(|_| true), None, "slow for reasons of its own");
    assert_eq!(Pressure::default().bottleneck(|_| true), Some(CPU), "nobody can tell");
}

#[test]
fn a_report_says_what_the_ledger_would_do() {
    let work = work(NVIDIA_SMALLEST);
    let mut ledger = Ledger::new(a10g().budget(|_| false));
    let levels = |l: &Ledger| Levels::new(l, &work, &DENSE, u32::MAX);
    let empty = levels(&ledger);
    assert_eq!(empty.units.total_milli, empty.units.free_milli);
    assert_eq!((empty.units.used_milli, empty.units.basis, empty.units.scarce), (0, "configured", Some("encode")));
    assert_eq!(empty.units.total_milli, Some(25_369), "0.88 of 28.8");
    assert_eq!(empty.accepts, [("1080p30", 25), ("1080p60", 18), ("720p30", 46)].into(), "720p30 by the spool");
    let cost = work.of(&Profile::REFERENCE).cost(&DENSE);
    for n in 0..3 {
        ledger.reserve(&id(n), lease(cost)).unwrap();
    }
    ledger.is_live(&id(0));
    let three = levels(&ledger);
    assert_eq!((three.units.used_milli, three.units.pending_milli, three.accepts["1080p30"]), (3000, 2000, 22));
    assert_eq!(three.dimensions["encode"].used, 3 * 184_200);
    assert_eq!(leased(&ledger, &work, &DENSE)[2], Leased { id: "s2".into(), phase: "pending", cost_milli: 1000 });
    assert_eq!((three.state(false, true), three.state(true, true)), (State::Ready, State::Draining));
    (3..25).for_each(|n| ledger.reserve(&id(n), lease(cost)).unwrap());
    let full = levels(&ledger);
    assert_eq!((full.accepts["1080p30"], full.state(false, true)), (0, State::Full));
    assert_eq!(full.state(false, false), State::Ready, "nobody is refused for it");
}

#[test]
fn no_more_is_told_than_there_are_places() {
    let work = work(NVIDIA_SMALLEST);
    let ledger = Ledger::new(a10g().budget(|_| false));
    let with = |places| Levels::new(&ledger, &work, &DENSE, places);
    assert_eq!(with(20).accepts, [("1080p30", 20), ("1080p60", 18), ("720p30", 20)].into());
    let none = with(0);
    assert!(none.accepts.values().all(|&n| n == 0));
    assert_eq!(
        (none.state(false, true), none.state(false, false), with(1).state(false, true)),
        (State::Full, State::Full, State::Ready)
    );
}

#[test]
fn the_busiest_device_that_is_there_tells_how_busy_devices_are() {
    let busy = |percent| Some(Busy { percent, period_us: 1000 });
    let load = |lost, encoder, decoder| Load { lost, encoder, decoder, ..Load::default() };
    let devices = [load(false, busy(40), None), load(false, busy(70), busy(5)), load(true, busy(100), busy(100))];
    let expected = Pressure { cpu: Some(300), stalled: None, encode: Some(700), decode: Some(50) };
    assert_eq!(Pressure::new(Some(300), None, &devices), expected);
    assert_eq!(Pressure::new(None, None, &[]), Pressure::default());
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(usize, [u64; 3], Priority),
    Live(usize),
    Release(usize),
    Look(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)];
    prop_oneof![
        4 => (0usize..12, [0u64..400, 0..400, 0..400], priority).prop_map(|(n, c, p)| Step::Reserve(n, c, p)),
        1 => (0usize..12).prop_map(Step::Live),
        2 => (0usize..12).prop_map(Step::Release),
        2 => any::<bool>().prop_map(Step::Look),
    ]
}

proptest! {
    /// Whatever comes: nothing is promised above what may be at that moment, room says what reserve does, and in the end nothing is left.
    #[test]
    fn promises_stay_within_the_budget(steps in proptest::collection::vec(step(), 1..200)) {
        let budget = Budget::unlimited().with(Dimension::Encode, 1000).with(CPU, 1500).with(Dimension::Memory, 900);
        let mut ledger = Ledger::new(budget);
        let mut now = Duration::ZERO;
        for step in steps {
            now += Duration::from_secs(1);
            match step {
                Step::Reserve(n, [encode, cpu, memory], priority) => {
                    let cost = Amounts::default().with(Dimension::Encode, encode).with(CPU, cpu).with(Dimension::Memory, memory);
                    let before = ledger.used();
                    let known = ledger.leases().contains_key(&id(n));
                    let room = ledger.room(&cost, priority.into()).0;
                    let taken = ledger.reserve(&id(n), Lease { cost, phase: Phase::Pending, priority });
                    if !known {
                        prop_assert_eq!(taken.is_ok(), room > 0);
                    }
                    match taken {
                        // Who has the machine alone is taken whatever is thought that he costs.
                        Ok(()) if ledger.leases().len() == 1 => {}
                        Ok(()) => for d in [Dimension::Encode, CPU, Dimension::Memory] {
                            let fits = ledger.used().of(d) <= ledger.ceiling(d, priority.into()).unwrap();
                            prop_assert!(fits || cost.of(d) == 0, "{:?}", d);
                        },
                        Err(full) => {
                            prop_assert!(full.wanted > full.free || full.behind);
                            prop_assert_eq!(ledger.used(), before);
                        }
                    }
                }
                Step::Live(n) => ledger.is_live(&id(n)),
                Step::Release(n) => ledger.release(&id(n)),
                Step::Look(slow) => {
                    look_at(&mut ledger, slow, now);
                    prop_assert!((250..=1000).contains(&ledger.belief().permille(CPU)));
                }
            }
            prop_assert!(ledger.room(&Amounts::default().with(CPU, 7), Threshold::Advertise).0 <= ledger.room(&Amounts::default().with(CPU, 7), Threshold::Reserve).0);
        }
        (0..12).for_each(|n| ledger.release(&id(n)));
        prop_assert_eq!(ledger.used(), Amounts::default());
    }

    /// Costs of any source are finite, and a larger or faster source never costs less.
    #[test]
    fn more_pictures_never_cost_less(width in 16u32..4096, height in 16u32..4096, fps in 1u32..120, more in 0u32..64) {
        let source = |width, height, fps| crate::logic::ladder::Source { width, height, fps: crate::logic::model::FrameRate::whole(fps), bitrate: Some(3_000_000) };
        let demand = |w, h, f| Demand { rungs: Vec::new(), passthrough: true, ..work(NVIDIA_SMALLEST).demand(&source(w, h, f), true) };
        let rungs = work(NVIDIA_SMALLEST).of(&Profile::REFERENCE).rungs;
        let cost = |w, h, f| Demand { rungs: rungs.clone(), ..demand(w, h, f) }.cost(&DENSE);
        let (small, large) = (cost(width, height, fps), cost(width + more, height + more, fps + more));
        for d in Dimension::ALL {
            prop_assert!(small.of(d) <= large.of(d), "{:?}", d);
        }
    }
}

/// `docs/capacity.md` has these rows, to the letter: what it promises is what the ledger does.
#[test]
fn the_page_about_capacity_tells_what_the_ledger_does() {
    let page = include_str!("../../../docs/capacity.md");
    let machine = |major, minor, encoders, decoders, mhz, memory| {
        let compute = Version { major, minor };
        let machine = bench::Machine { compute, encoders, decoders, clock_mhz: Some(mhz) };
        Machine { devices: vec![Device { uuid: "GPU-0".into(), machine, memory_mib: Some(memory) }], ..a10g() }
    };
    let machines = [("T4", machine(7, 5, 1, 2, 1470, 15_360)), ("A10G", a10g()), ("L4", machine(8, 9, 2, 4, 1770, 23_034))];
    let reencoded = work(NVIDIA_SMALLEST).demand(&bad_source(), false);
    let kinds: Vec<(&str, Demand)> =
        Profile::ALL.iter().map(|p| (p.name, work(NVIDIA_SMALLEST).of(p))).chain([("1080p30 re-encoded", reencoded)]).collect();
    let mut lacking = Vec::new();
    for (name, machine) in machines {
        for (kind, demand) in &kinds {
            let cost = demand.cost(&DENSE);
            let mut ledger = Ledger::new(machine.budget(|_| false));
            let (taken, full) = fill(&mut ledger, cost);
            let ceiling = |d| ledger.ceiling(d, Threshold::Commit).unwrap();
            let [encode, decode] = [Dimension::Encode, Dimension::Decode].map(|d| {
                format!("{} x {} = {:.1} of {}", taken, cost.of(d), (taken as u64 * cost.of(d)) as f64 / 1e6, ceiling(d))
            });
            let row = format!("| {name} | {kind} | {encode} | {decode} | **{taken}** | {} |", full.dimension.words());
            if !page.contains(&row) {
                lacking.push(row);
            }
        }
    }
    assert!(lacking.is_empty(), "docs/capacity.md lacks\n{}", lacking.join("\n"));
}
