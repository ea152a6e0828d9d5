use super::*;
use crate::logic::capacity::Dimension;
use crate::logic::recipe::DEFAULT_LADDER;

fn ladder() -> Ladder {
    toml::from_str(DEFAULT_LADDER).unwrap()
}

/// A tenth of the platform: 150 streams over three regions of two nodes.
fn small(is_passable: bool, warm: u32) -> Plan {
    let plan = Plan::region_loss(&ladder(), 150, is_passable, warm, 1);
    Plan {
        arrivals: Arrivals::Ramp { streams: 150, within: 2 * MINUTE },
        events: vec![(4 * MINUTE, Event::RegionLoss { region: 0 })],
        length: 16 * MINUTE,
        ..plan
    }
}

#[test]
fn a_seed_repeats_a_run_and_another_one_does_not() {
    let plan = small(true, 1);
    let first = run(&plan);
    assert_eq!(first, run(&plan));
    assert_ne!(first, run(&Plan { seed: 2, ..plan }));
}

#[test]
fn the_plan_has_as_many_nodes_as_the_table_says() {
    assert_eq!(Plan::region_loss(&ladder(), 1500, true, 0, 1).workers, 20, "25 each");
    assert_eq!(Plan::region_loss(&ladder(), 1500, false, 0, 1).workers, 50, "10 each: the eleventh is taken, and not told of");
}

#[test]
fn where_a_lost_regions_streams_have_room_they_are_back_within_what_names_and_obs_take() {
    let outcome = run(&small(true, 1));
    assert_eq!((outcome.came, outcome.lost, outcome.gave_up), (150, 50, 0));
    assert_eq!((outcome.back.len(), outcome.holds_rto()), (50, true), "{}", outcome.row(""));
    let rto = outcome.rto.unwrap();
    // Names lead elsewhere after 30 s; the tries before are in vain.
    assert!(rto.median > 30_000 && rto.max < 2 * MINUTE, "{rto:?}");
    assert!(outcome.dead_tries > 100, "{}", outcome.row(""));
}

#[test]
fn without_room_streams_wait_for_nodes_and_for_obs() {
    let full = Plan { sheds: false, ..small(true, 0) };
    let outcome = run(&full);
    assert!(outcome.refusals > 100, "{}", outcome.row(""));
    assert!(outcome.rto.unwrap().median > 3 * MINUTE, "nodes take three minutes: {:?}", outcome.rto);
    let never = run(&Plan { most: 2, ..full });
    assert!(never.refusals > outcome.refusals && !never.holds_rto() && never.back.len() < 10, "{}", never.row(""));
}

#[test]
fn doubling_one_cost_changes_the_refusals() {
    let plan = Plan { sheds: false, ..small(true, 1) };
    let refusals = |costs: Costs| run(&Plan { costs, ..plan.clone() });
    let before = refusals(plan.costs.clone());
    assert_eq!(before.refusals, 0);
    let encode = refusals(plan.costs.clone().times(Dimension::Encode, 2000));
    assert!(encode.refusals > 100 && encode.refused_for.keys().copied().eq(["encode"]), "{}", encode.row(""));
    let decode = refusals(plan.costs.clone().times(Dimension::Decode, 2000));
    assert!(decode.refusals > 10 && decode.refused_for.keys().copied().eq(["decode"]), "{}", decode.row(""));
}

/// The factor inside the model itself, not one of the simulation's.
#[test]
fn doubling_what_x264_takes_changes_the_refusals() {
    let machine = crate::logic::capacity::Machine { cpu_milli: Some(64_000), memory_mib: Some(128_000), ..Default::default() };
    let prices = Prices::assumed(Encoder::Software, Preset::Veryfast);
    let plan = |prices| {
        let costs = Costs::new(prices);
        Plan { budget: machine.budget(|_| false), costs, sheds: false, ..small(true, 1) }
    };
    let [before, after] = [prices, prices.corrected(2000)].map(|p| run(&plan(p)).refusals);
    assert!(after > before + 50, "{before} and {after}");
}

#[test]
fn a_ladder_that_does_not_fit_is_taken_with_fewer_rungs_before_it_is_refused() {
    let plan = Plan { most: 2, ..small(true, 0) };
    let [with, without] = [true, false].map(|sheds| run(&Plan { sheds, ..plan.clone() }));
    assert_eq!(without.shed_most, 0);
    assert!(with.shed_most > 0 && with.back.len() > without.back.len(), "{}{}", with.row(""), without.row(""));
}

#[test]
fn streams_are_late_only_where_machines_do_less_than_was_thought_and_then_fewer_are_taken() {
    // 210 streams of which 225 fit; 17 are on each node before.
    let crowd = vec![(4 * MINUTE, Event::Crowd { region: 1, streams: 60 })];
    let plan = Plan { events: crowd, most: 3, sheds: false, ..small(true, 1) };
    let right = run(&plan);
    assert_eq!((right.late_seconds, right.refusals), (0, 0));
    // An A10G carries 28.8 of them by what is thought, and 19.2 in truth.
    let mut truth = plan.truth;
    truth[Dimension::Encode as usize] = 1500;
    let slow = run(&Plan { truth, ..plan });
    assert!(slow.late_seconds > 0 && slow.refusals >= 10, "{}", slow.row(""));
}

#[test]
fn reports_that_decide_are_under_two_seconds_old() {
    let outcome = run(&small(true, 1));
    assert!((500..2000).contains(&outcome.report_age_most), "{}", outcome.report_age_most);
}

#[test]
fn a_dead_node_is_tried_until_its_report_is_too_old() {
    let plan = Plan { events: vec![(4 * MINUTE, Event::NodeLoss { region: 1 })], ..small(true, 1) };
    let outcome = run(&plan);
    assert!(outcome.lost >= 17 && outcome.holds_rto(), "{}", outcome.row(""));
    assert!(outcome.rto.unwrap().max < MINUTE, "{}", outcome.row(""));
}

#[test]
fn a_day_has_crowds_and_ends() {
    let plan = Plan::day(&ladder(), 150, 1, 1);
    let start = Plan { length: 2 * HOUR, events: vec![(HOUR, Event::Crowd { region: 0, streams: 60 })], ..plan };
    let outcome = run(&start);
    assert!(outcome.came > 100, "{}", outcome.row(""));
    let live = |hour: u64| outcome.samples.iter().rfind(|s| s.at <= hour).map_or(0, |s| s.live);
    assert!(live(HOUR + 5 * MINUTE) > live(HOUR - SECOND) + 40, "{} and {}", live(HOUR), live(HOUR + 5 * MINUTE));
}
