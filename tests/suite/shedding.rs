//! Streams that go without something because one more publisher came, and have it back when there is room: players play on through each step.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::manifest;
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::Worker;
use crate::harness::{alone, tools, until};

/// Two rungs, whose highest rates are much of the uplink below: 900 kbit/s each, because the source has 600.
const LADDER: &str = "top_kbps = 2000\ntop_short_side = 1080\n\n\
    [[rungs]]\nname = \"240p\"\nshort_side = 240\nkbps = 2000\n\n\
    [[rungs]]\nname = \"120p\"\nshort_side = 120\nkbps = 1000\n";

/// A source of which nothing is known counts as 4 Mbit/s with rungs of 3 and 1.5; beside one that is known (2.5) it does not fit into 7.4, but both do without their best rungs.
const ROOM: [&str; 3] = ["capacity.assume=720p30", "capacity.network_mbit=10", "capacity.limit.network=74"];

fn step(worker: &Worker, stream: &str) -> Option<String> {
    Some(worker.stream(stream)?["shed"]["step"].as_str()?.to_owned())
}

/// Whose segments a track's playlist named, from one discontinuity to the next.
fn spells(seen: &Seen, track: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for ((_, _), listed) in seen.listed.iter().filter(|((t, _), _)| t == track) {
        let of = listed.path.rsplit('/').nth(1).unwrap_or_default().to_owned();
        if listed.discontinuity || out.is_empty() {
            out.push(of);
        } else {
            assert_eq!(out.last(), Some(&of), "{track}: another rung's segment without a discontinuity");
        }
    }
    out
}

#[test]
fn viewers_play_on_when_a_rung_goes_for_one_more_publisher_and_comes_back() {
    let clip = Clip { seconds: 120, ..SMALL }.file();
    players::install();
    let mut ladder = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    ladder.write_all(LADDER.as_bytes()).unwrap();
    let _machine = alone();
    let mut flags = vec![
        "--open",
        "--ladder",
        tools::text(ladder.path()),
        "--set",
        "capacity.admission=on",
        "--set",
        "capacity.shed=admit",
    ];
    ROOM.iter().for_each(|setting| flags.extend(["--set", setting]));
    let worker = Arc::new(Worker::start_with(&flags, &[]));
    let watch = Watch::start(&worker, "anna");
    let anna = Publisher::start(&clip, &worker, "anna");
    players::segments(&worker, "anna", 4);
    let told: Value = serde_json::from_str(&worker.get("v1/capacity").text()).unwrap();
    assert_eq!(told["accepts"]["720p30"], 0, "none whole: {told:#}");
    // A viewer who stands on the rung that goes.
    let options = ["--live", "--only", "240", "--changes", "--seconds", "45"];
    let plays = ["hls.js", "dash.js"].map(|player| Play::start(&worker, "anna", player, &options));
    players::segments(&worker, "anna", 8);

    let ben = Publisher::start(&clip, &worker, "ben");
    until("anna without her best rung", || (step(&worker, "anna")? == "rungs").then_some(()));
    worker.logged("shed: the stream was whole, and goes on without its best encoded rung");
    let said = worker.stream("anna").unwrap();
    assert_eq!(said["shed"]["rungs"], serde_json::json!(["240p"]), "{said:#}");
    assert!(
        said["warnings"].to_string().contains("the server is busy: viewers get the stream without its best encoded rung"),
        "{said:#}"
    );
    let metrics = worker.get("metrics").text();
    for sample in
        ["weir_stream_shed{stream=\"anna\"} 3", "weir_shed_steps_total{direction=\"down\"} 2", "weir_refused_full_total 0"]
    {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
    // Ben takes less than was thought: there is room again, half a minute later.
    until("anna's best rung", || (step(&worker, "anna")? == "none").then_some(()));
    let results: Vec<Value> = plays.into_iter().flat_map(Play::finish).collect();
    players::went_through(&results, 1);
    assert_eq!(worker.delete("anna"), 202);
    drop((anna, ben));
    let seen = watch.finish_sliding();
    assert_eq!(seen.rungs(), ["src", "240p", "120p"], "the set stays");
    assert_eq!(spells(&seen, "240p"), ["240p", "120p", "240p"]);
    assert_eq!(spells(&seen, "120p"), ["120p"; 3]);
    assert_eq!(spells(&seen, "src"), ["src"; 3], "the source is never touched");
    for (name, media) in &seen.tracks {
        assert!(media.gaps().is_empty(), "{name}: {:?}", media.gaps());
    }
    assert!(!manifest::variants(&worker, "anna").unwrap().is_empty());
    Arc::into_inner(worker).expect("the watch is over").stop();
}
