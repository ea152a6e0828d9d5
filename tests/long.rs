//! Tests of whole processes that take minutes: `cargo test --features long --test long`.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/harness/mod.rs"]
mod harness;
#[path = "long/odd.rs"]
mod odd;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/raw_rtmp.rs"]
mod raw_rtmp;
#[path = "long/returns.rs"]
mod returns;
#[path = "long/soak.rs"]
mod soak;

use std::sync::Arc;
use std::time::Duration;

use harness::accident::{self, SEGMENT};
use harness::clip::{Clip, LADDER, SMALL};
use harness::fault_proxy::{FaultProxy, Mode};
use harness::outage::{self, through, whole};
use harness::players::{self, Play};
use harness::publisher::Publisher;
use harness::s3_server::Server;
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

#[test]
fn a_store_that_refuses_every_third_put_costs_nothing() {
    let (_server, seen, _, faults) = through(Mode::Status { code: 503, name: "SlowDown", every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
}

#[test]
fn connections_that_break_and_bytes_that_change_cost_nothing() {
    let (_server, seen, _, faults) = through(Mode::Reset { every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
    let (_server, seen, _, faults) = through(Mode::Corrupt { every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
}

#[test]
fn a_slow_store_makes_viewers_wait_and_nothing_else() {
    // A segment of the source takes four seconds to send, and one is made every two; several go at once.
    let (_server, seen, log, _) = through(Mode::Slow(40_000), 20, &[]);
    whole(&seen, 15);
    assert!(log.iter().all(|l| !l.contains("does not answer")), "slow is not away: {log:#?}");
}

/// Six times the live window: what left it is skipped in the playlists and kept for the recording.
#[test]
fn a_minute_without_a_store_loses_nothing_of_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let flags = ["--spool", &dir, "--set", "window=10", "--set", "record=true", "--set", "replicate=none"];
    for mode in [Mode::Down, Mode::Hang, Mode::Status { code: 500, name: "InternalError", every: 1 }] {
        let (server, seen, _, _) = through(mode, 60, &flags);
        assert!(server.keys("seg/lk/").len() >= 3 * 35, "{mode:?}");
        for (track, media) in &seen.tracks {
            assert!(media.gaps().is_empty(), "{mode:?} {track}: {:?}", media.gaps());
            let listed: Vec<u64> = seen.listed.keys().filter(|(t, _)| t == track).map(|(_, n)| *n).collect();
            assert_eq!(listed.last(), Some(&34), "{mode:?} {track}: both sequences went on");
            let skipped = listed.windows(2).map(|n| n[1] - n[0] - 1).sum::<u64>();
            assert!((15..=30).contains(&skipped), "{mode:?} {track}: {listed:?}");
        }
    }
}

/// The store stops answering after the n-th write of a session, and the worker is killed: whatever was written, another one goes on with it.
#[test]
fn a_worker_that_is_killed_between_two_writes_is_followed() {
    let file = Clip { seconds: 12, ..SMALL }.file();
    let _machine = alone();
    for writes in [1, 2, 4, 5, 7, 9, 10, 12, 15] {
        let server = Server::start();
        let proxy = FaultProxy::start(server.address);
        let (a, b) = (outage::worker(&proxy, &["--worker", "a"]), outage::onlooker(&server, harness::worker::SMALL_LADDER));
        let watch = Watch::start(&b, "anna");
        proxy.set(Mode::HangAfter(writes));
        let mut first = Publisher::start(&file, &a, "anna");
        until("the last write", || (proxy.faults() > 0).then_some(()));
        players::segments(&a, "anna", 2);
        drop(a);
        first.outcome();
        Publisher::start(&file, &b, "anna").finish();
        let seen = watch.finish();
        let numbers = |track: &str| seen.listed.keys().filter(|(t, _)| t == track).map(|(_, n)| *n).collect::<Vec<_>>();
        let all = numbers("audio");
        assert!(all.len() >= 6 && all.windows(2).all(|n| n[1] == n[0] + 1), "after {writes} writes: {all:?}");
        for track in ["src", "240p"] {
            assert_eq!(numbers(track), all, "after {writes} writes");
        }
        let behind =
            |track: &str| seen.tracks[track].segments.iter().filter(|s| s.discontinuity).map(|s| s.number).collect::<Vec<_>>();
        assert_eq!(behind("src"), behind("audio"), "after {writes} writes");
        Arc::into_inner(b).expect("the watch is over").stop();
    }
}
