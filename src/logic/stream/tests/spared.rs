//! A source whose key frames are too far apart to be passed through, on a machine that has room to encode it anew, or has not (rules.md 3).

use super::*;
use crate::logic::capacity::{self, Budget, Demand, Dimension, Ledger, Prices, Software, Spare};

/// OBS at its defaults sends a key frame each 8.33 s.
const OBS: u64 = 8320;

/// A machine of so many thousandths of cores, of which 0.85 are given away.
fn cores(milli: u64) -> Spare {
    let ledger = Ledger::new(Budget::unlimited().with(Dimension::Cpu, milli));
    let software = Software { encoded: 100_000, decoded: 500_000, scaled: 500_000 };
    Spare::new(&ledger, &"demo".parse().unwrap(), &Prices { encoder: capacity::Encoder::Software, software, brief: software })
}

fn published(spare: Spare, long_gop: LongGop) -> World {
    let policy = timeline::Policy { long_gop, ..timeline::Policy::default() };
    let mut world = World::new(Setup { timeline: policy, ..setup() });
    world.stream.may_take(spare);
    world.configs();
    world.publish(20, OBS);
    world
}

fn rungs(world: &World) -> Vec<String> {
    world.stream.tracks.iter().map(|t| t.name.to_string()).collect()
}

fn advice(world: &World) -> String {
    world.stream.status(None, None, world.now()).warnings.join("\n")
}

#[test]
fn where_there_is_room_it_is_encoded_anew_at_its_own_size() {
    // 720p, 480p and 360p are 6140 macroblocks, 30 times a second: 1.84 cores to encode, 0.22 to decode, 0.15 to scale.
    let world = published(cores(2700), LongGop::Auto);
    assert_eq!(rungs(&world), ["top", "480p", "360p", "audio"]);
    assert!(advice(&world).contains("the source is encoded anew meanwhile"), "{}", advice(&world));
    assert_eq!(world.stream.demand().map(|d: Demand| (d.passthrough, d.rungs.len())), Some((false, 3)));
}

#[test]
fn where_there_is_none_the_rungs_below_it_are_left_and_the_streamer_is_told() {
    let world = published(cores(2400), LongGop::Auto);
    assert_eq!(rungs(&world), ["480p", "360p", "audio"]);
    assert!(world.refused.is_none());
    let said = advice(&world);
    assert!(said.contains("no room to encode the source anew") && said.contains("in OBS"), "{said}");
    let note = "source left out, and not re-encoded because the processor is taken";
    assert!(world.notes.iter().any(|n| n.starts_with(note)), "{:?}", world.notes);
    assert_eq!(world.encoder.starts, 1, "the encoders that ran already go on");
    for track in ["480p", "360p", "audio"] {
        assert!(world.playlist(track).matches("#EXTINF").count() >= 4, "{track}: {}", world.playlist(track));
        assert_eq!((world.gaps(track), world.discontinuities(track)), (0, vec![]), "{track}");
    }
}

#[test]
fn the_set_stays_when_there_is_room_later() {
    let mut world = published(cores(2400), LongGop::Auto);
    world.stream.may_take(Spare::UNLIMITED);
    world.publish_from(20, 20, 2000);
    assert_eq!(rungs(&world), ["480p", "360p", "audio"]);
}

#[test]
fn an_operator_who_asked_for_it_gets_it_whatever_it_costs() {
    let world = published(cores(100), LongGop::Reencode);
    assert_eq!(rungs(&world), ["top", "480p", "360p", "audio"]);
}

#[test]
fn a_source_with_short_gops_is_passed_through_on_a_full_machine_too() {
    let mut world = World::new(setup());
    world.stream.may_take(cores(0));
    world.configs();
    world.publish(8, 2000);
    assert_eq!(rungs(&world), TRACKS);
}
