//! Tests of whole processes that take minutes: `cargo test --features long --test long`.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::accident::{self, SEGMENT};
use harness::clip::{Clip, LADDER, SMALL};
use harness::players::{self, Play};
use harness::publisher::Publisher;
use harness::track::Track;
use harness::watch::Watch;
use harness::worker::{SMALL_LADDER, Worker};
use harness::{alone, until};
use rustix::process::Signal;

/// A process that hangs says nothing: it is killed after 5 s without output, and costs its rungs these and two segments.
#[test]
fn a_hanging_codec_process_is_killed_after_five_seconds() {
    let clip = Clip { seconds: 24, ..LADDER };
    let seen = accident::hurt(&clip, Signal::STOP, "codec process given up: no output of");
    accident::survived(&clip, &seen, Duration::from_secs(5) + 2 * SEGMENT);
}

/// hls.js at its defaults begins three target durations behind the end of the playlist, whose last segment is up to 2 s old; half a second is its start.
const HLS_JS_BEGINS_BEHIND: f64 = 8.5;

/// Each player with the machine to itself, on the default ladder: three levels live.
#[test]
fn four_players_one_after_the_other_on_three_rungs() {
    let file = Clip { seconds: 130, ..LADDER }.file();
    players::install();
    let _machine = alone();
    let worker = Worker::start(&[]);
    let publisher = Publisher::start(&file, &worker, "anna");
    players::segments(&worker, "anna", 5);
    let mut last = Vec::new();
    for player in ["dash.js", "shaka-hls", "shaka-dash", "hls.js"] {
        let mut options = vec!["--live", "--seconds", "4", "--max-latency", "15"];
        let stops = player == "hls.js";
        if stops {
            options.extend(["--until-end", "--end-seconds", "90"]);
        }
        let play = Play::start(&worker, "anna", player, &options);
        if stops {
            let made = worker.stream("anna").unwrap()["segments"].as_u64().unwrap();
            players::segments(&worker, "anna", made + 15);
            publisher.interrupt();
        }
        last = play.finish();
        players::went_through(&last, 3);
        let behind = last[0]["latency"]["min"].as_f64().expect("a live player's latency");
        assert!(player != "hls.js" || behind < HLS_JS_BEGINS_BEHIND, "{behind} s");
    }
    worker.over("anna");
    players::saw_the_end(&last, &worker, "anna");
    let results = Play::start(&worker, "anna", "hls.js,dash.js,shaka-dash,shaka-hls", &["--vod"]).finish();
    players::went_through(&results, 3);
    worker.stop();
}

/// A stream that is longer than its window: what leaves the window leaves the store after its hold, and the store stays small.
#[test]
fn a_window_slides_and_the_store_forgets() {
    // The shortest window; objects are held for it, two segments, and a second.
    let flags = ["--ladder", SMALL_LADDER, "--set", "window=10", "--set", "hold=1"];
    let (window, hold) = (Duration::from_secs(10), Duration::from_secs(10 + 4 + 1));
    let clip = Clip { seconds: 90, ..SMALL };
    let file = clip.file();
    let _machine = alone();
    let worker = Arc::new(Worker::start(&flags));
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    let mut most = 0;
    until("the end of the stream", || {
        most = most.max(worker.stored().iter().filter(|p| p.extension().is_some_and(|e| e == "m4s")).count());
        worker.stream("anna").is_some_and(|s| s["state"] != "live" && s["state"] != "probing").then_some(())
    });
    publisher.finish();
    let seen = watch.finish_sliding();
    println!("at most {most} segments in the store");
    // Three tracks; one segment is being made and one is on its way out.
    let per_track = (window + hold).as_secs() / SEGMENT.as_secs() + 2;
    assert!(most as u64 <= 3 * per_track, "{most} segments in the store");
    for name in ["src", "240p", "audio"] {
        let track = Track::of(&seen, name);
        track.check();
        assert_eq!(track.segments.len(), clip.seconds as usize / 2, "{name}: every segment was listed");
        assert_eq!(seen.tracks[name].sequence + seen.tracks[name].segments.len() as u64, 45, "{name}");
        assert!(seen.tracks[name].segments.len() <= 6, "{name}: {:?}", seen.tracks[name]);
    }
    Arc::into_inner(worker).expect("the watch is over").stop();
}
