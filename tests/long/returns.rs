//! Publishers who try the players: ten in a row, each otherwise than the one before it; and one whose clock is wrong.

use std::time::{Duration, Instant};

use crate::harness::clip::{Clip, SMALL};
use crate::harness::manifest;
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, tools, until};

const CLIP: Clip = Clip { seconds: 8, ..SMALL };

/// The second level is asked for while a picture of the first one's size is sent.
const PUBLISHERS: [(&str, Clip); 10] = [
    ("the first one", Clip { seconds: 14, ..CLIP }),
    ("another size", Clip { width: 480, height: 270, ..CLIP }),
    ("another frame rate", Clip { fps: 25, gop: 50, ..CLIP }),
    ("another profile", Clip { more: "-profile:v baseline -bf 0", ..CLIP }),
    ("the same", CLIP),
    ("the same again", CLIP),
    ("mono at 44.1 kHz", Clip { more: "-ac 1 -ar 44100", ..CLIP }),
    ("no audio", Clip { audio: false, ..CLIP }),
    ("5.1, which is re-encoded", Clip { more: "-ac 6", ..CLIP }),
    ("the last one", Clip { seconds: 30, ..CLIP }),
];

/// What a player may stand still beyond the time in which nothing was sent.
const PATIENCE: Duration = Duration::from_secs(3);

fn played_by(pair: [&str; 2]) {
    let files: Vec<_> = PUBLISHERS.iter().map(|(_, clip)| clip.file()).collect();
    players::install();
    let _machine = alone();
    let worker = Worker::start(&["--ladder", SMALL_LADDER, "--set", "reconnect_grace=20"]);
    let mut publisher = Publisher::start(&files[0], &worker, "anna");
    players::segments(&worker, "anna", 4);
    // Two levels for 39 s each: from the middle of the first publisher into the last one.
    let options = ["--live", "--seconds", "39", "--fps", "25", "--changes", "--absence", "12"];
    let plays = pair.map(|player| Play::start(&worker, "anna", player, &options));
    let mut away = Duration::ZERO;
    for file in &files[1..] {
        publisher.finish();
        let left = Instant::now();
        publisher = Publisher::start(file, &worker, "anna");
        until("the publisher", || worker.stream("anna").filter(|s| s["state"] == "live"));
        away += left.elapsed();
    }
    let results: Vec<_> = plays.into_iter().flat_map(Play::finish).collect();
    players::went_through(&results, 2);
    println!("nothing was sent for {away:?} in all");
    for r in &results {
        let seconds = |name: &str| Duration::from_secs_f64(r[name].as_f64().unwrap());
        let stood = seconds("wall_s").saturating_sub(seconds("played_s"));
        println!("{}: stood still for {stood:?}", r["player"]);
        assert!(stood <= away + PATIENCE, "{}: stood still for {stood:?}, nothing was sent for {away:?}", r["player"]);
    }
    assert_eq!(worker.delete("anna"), 202);
    drop(publisher);
    worker.stop();
}

#[test]
fn hls_js_and_dash_js_play_through_ten_publishers() {
    played_by(["hls.js", "dash.js"]);
}

#[test]
fn shaka_plays_through_ten_publishers() {
    played_by(["shaka-hls", "shaka-dash"]);
}

/// rules.md 11: dates follow the wall clock, and whenever they have moved by half a second DASH begins a new Period. A clock that is off by a
/// hundredth does that every 50 s, where the usual 50 millionths take three hours.
#[test]
fn players_do_not_mind_dates_that_move() {
    // The least delay of a minute counts: a slow clock is followed that late.
    let file = Clip { seconds: 160, ..SMALL }.file();
    players::install();
    let _machine = alone();
    for pace in ["1.01", "0.99"] {
        let worker = Worker::start(&["--ladder", SMALL_LADDER]);
        let input = ["-readrate", pace, "-i", tools::text(&file)];
        let publisher = Publisher::run(&input, &["-c", "copy"], &worker, "anna");
        players::segments(&worker, "anna", 5);
        // Of pictures that two Periods have a place for, half a second's are left out: the counter jumps there.
        let options = ["--live", "--seconds", "65", "--resets", "2"];
        let plays = ["dash.js", "shaka-dash"].map(|player| Play::start(&worker, "anna", player, &options));
        let results: Vec<_> = plays.into_iter().flat_map(Play::finish).collect();
        players::went_through(&results, 2);
        let mpd = worker.get(&manifest::mpd_path("anna")).text();
        assert!(!mpd.contains("<Period id=\"0\"") || mpd.matches("<Period ").count() > 1, "dates have not moved: {mpd}");
        let status = worker.stream("anna").unwrap();
        assert_eq!((&status["gaps"], &status["discontinuities"]), (&0.into(), &0.into()), "{status}");
        drop(publisher);
        assert_eq!(worker.delete("anna"), 202);
        worker.stop();
    }
}
