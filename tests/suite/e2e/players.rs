//! hls.js, dash.js and shaka-player in Chromium on what comes out of a worker: live, through the end of the stream, and afterwards. `play.mjs` proves from
//! the pictures themselves that each level plays and that all levels show the same picture at the same time.

use std::sync::Arc;

use super::SMALL_LADDER;
use crate::harness::clip::{Clip, SMALL};
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::worker::Worker;
use crate::harness::{alone, manifest, until};

const PLAYERS: [&str; 3] = ["hls.js", "dash.js", "shaka-dash"];

/// Waits until so many segments are made.
fn segments(worker: &Worker, at_least: u64) {
    until("segments", || (worker.stream("anna")?["segments"].as_u64()? >= at_least).then_some(()));
}

/// Pictures of the whole stream, by the end of the source rung's last segment. The first one is number 0, at time 0.
fn published(worker: &Worker) -> u64 {
    let variants = manifest::variants(worker, "anna").unwrap();
    let media = manifest::media(worker, &variants[0]);
    assert!(media.ended && variants[0].name == "src");
    let last = media.segments.last().unwrap();
    let start: u64 = last.path.rsplit('/').next().unwrap().trim_end_matches(".m4s").parse().unwrap();
    (start * 100 / 9 + last.micros) * 30 / 1_000_000
}

#[test]
fn three_players_go_through_all_levels_live_and_to_the_end_and_again_afterwards() {
    let file = Clip { seconds: 90, ..SMALL }.file();
    players::install();
    let _machine = alone();
    let worker = Arc::new(Worker::start(&["--ladder", SMALL_LADDER]));
    let publisher = Publisher::start(&file, &worker, "anna");
    // As much as a player wants behind the live edge.
    segments(&worker, 4);
    let options = ["--live", "--seconds", "4", "--until-end", "--end-seconds", "60", "--max-latency", "15"];
    let live = PLAYERS.map(|player| Play::start(&worker, "anna", player, &options));
    segments(&worker, 18);
    publisher.interrupt();
    let results: Vec<_> = live.into_iter().flat_map(Play::finish).collect();
    worker.over("anna");
    let pictures = published(&worker);
    for r in &results {
        assert_eq!(r["levels"].as_array().unwrap().len(), 2, "{r}");
        let last = r["last_counter"].as_u64().unwrap();
        println!("{}: picture {last} of {pictures} was the last", r["player"]);
        // A picture is looked at each 120 ms, which are four of them.
        assert!((pictures - 8..pictures).contains(&last), "{}: picture {last} of {pictures} was the last", r["player"]);
    }
    let ended = PLAYERS.map(|player| Play::start(&worker, "anna", player, &["--vod", "--seconds", "3"]));
    for r in ended.into_iter().flat_map(Play::finish) {
        assert_eq!(r["levels"].as_array().unwrap().len(), 2, "{r}");
    }
    Arc::into_inner(worker).unwrap().stop();
}
