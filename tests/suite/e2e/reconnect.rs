//! One session, many publishers: each comes back otherwise than the one before, and the playlists go on.

use std::sync::Arc;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::runs;
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, beside_others, tools, until};

/// Two segments.
const CLIP: Clip = Clip { seconds: 4, ..SMALL };

/// What the publishers bring, one after the other.
const RETURNS: [(&str, Clip); 7] = [
    ("the first one", CLIP),
    ("the same again", CLIP),
    ("another size", Clip { width: 480, height: 270, ..CLIP }),
    ("another frame rate", Clip { fps: 25, gop: 50, ..CLIP }),
    ("another profile", Clip { more: "-profile:v baseline -bf 0", ..CLIP }),
    ("mono at 44.1 kHz", Clip { more: "-ac 1 -ar 44100", ..CLIP }),
    ("no audio", Clip { audio: false, ..CLIP }),
];

/// Segments of each publisher.
const EACH: u64 = 2;

fn after_each_other(clips: &[Clip]) -> Seen {
    let files: Vec<_> = clips.iter().map(Clip::file).collect();
    let _machine = beside_others();
    let flags = ["--ladder", SMALL_LADDER, "--set", "reconnect_grace=4", "--set", "on_pause=hold", "--set", "window=120"];
    let worker = Arc::new(Worker::start(&flags));
    let watch = Watch::start(&worker, "anna");
    let mut session = None;
    for file in &files {
        Publisher::start(file, &worker, "anna").finish();
        until("a pause", || (worker.stream("anna")?["state"] == "paused").then_some(()));
        let now = worker.stream("anna").unwrap()["session"].clone();
        assert_eq!(*session.get_or_insert(now.clone()), now);
    }
    let seen = watch.finish();
    Arc::into_inner(worker).expect("the watch is over").stop();
    seen
}

/// The segments of one publisher on one track.
fn run(seen: &Seen, track: &str, n: u64) -> Track {
    runs::run(seen, track, n, EACH)
}

#[test]
fn publishers_who_come_back_otherwise_go_on_in_the_same_playlists() {
    let seen = after_each_other(&RETURNS.map(|(_, clip)| clip));
    runs::went_on(&seen, RETURNS.len() as u64, EACH);
    let init = |track: &str, n: usize| run(&seen, track, n as u64).listed[0].init.clone();
    for (n, (what, clip)) in RETURNS.iter().enumerate() {
        for name in ["src", "240p", "audio"] {
            run(&seen, name, n as u64).check();
        }
        let pictures = |track: &str| run(&seen, track, n as u64).times().len();
        assert_eq!((pictures("src"), pictures("240p")), (clip.frames(), clip.frames()), "{what}");
        let starts = |track: &str| run(&seen, track, n as u64).starts();
        assert_eq!(starts("src"), starts("240p"), "{what}: aligned to the tick");
    }
    assert_eq!(init("src", 1), init("src", 0), "rules.md 7: the same configuration keeps its init segment");
    assert_eq!(init("audio", 1), init("audio", 0));
    for n in [2, 3, 4] {
        assert_ne!(init("src", n), init("src", n - 1), "{}", RETURNS[n].0);
    }
    assert_eq!(run(&seen, "audio", 5).init.timescale, 44_100);
    assert_eq!(run(&seen, "src", 2).init.kind, "avc1");
}

/// Segments of a track from one break to the next.
fn between_breaks(seen: &Seen, track: &str) -> Vec<Track> {
    let listed: Vec<_> = seen.listed.iter().filter(|((t, _), _)| t == track).map(|(_, l)| l.clone()).collect();
    let mut runs: Vec<Vec<_>> = Vec::new();
    for segment in listed {
        match runs.last_mut() {
            Some(run) if !segment.discontinuity => run.push(segment),
            _ => runs.push(vec![segment]),
        }
    }
    runs.into_iter().map(|run| Track::new(seen, track, run)).collect()
}

/// rules.md 8, with the operator's clip, whose pictures have a counter of their own.
#[test]
fn viewers_play_on_while_the_publisher_is_away() {
    let (first, second) = (Clip { seconds: 12, ..SMALL }.file(), Clip { seconds: 60, ..SMALL }.file());
    let slate = format!("slate.file={}", tools::text(&CLIP.file()));
    players::install();
    let _machine = alone();
    let worker = Arc::new(Worker::start_with(
        &["--open", "--ladder", SMALL_LADDER, "--set", "reconnect_grace=20", "--set", &slate],
        &[],
    ));
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&first, &worker, "anna");
    players::segments(&worker, "anna", 4);
    // The counter begins anew with the slate, with each round of it, and with the publisher.
    let options = ["--live", "--seconds", "14", "--resets", "6", "--absence", "3"];
    let plays = ["hls.js", "dash.js"].map(|player| Play::start(&worker, "anna", player, &options));
    publisher.finish();
    let status = until("the slate", || worker.stream("anna").filter(|s| s["slate"] == true));
    assert_eq!((&status["state"], &status["input"]["video"]), (&"paused".into(), &serde_json::Value::Null));
    players::segments(&worker, "anna", 6 + 4);
    let back = Publisher::start(&second, &worker, "anna");
    let results: Vec<_> = plays.into_iter().flat_map(Play::finish).collect();
    assert_eq!(worker.delete("anna"), 202);
    drop(back);
    let seen = watch.finish_sliding();
    players::went_through(&results, 2);
    let starts: Vec<Vec<i64>> =
        ["src", "240p"].iter().map(|t| between_breaks(&seen, t).iter().flat_map(Track::starts).collect()).collect();
    assert_eq!(starts[0], starts[1], "aligned to the tick");
    for name in ["src", "240p", "audio"] {
        let runs = between_breaks(&seen, name);
        assert_eq!(runs.len(), 3, "{name}: the publisher, the slate, the publisher");
        runs.iter().for_each(Track::check);
        assert!(runs.iter().flat_map(|r| &r.listed).all(|s| !s.gap), "{name}");
        let numbers = |t: &Track| t.listed.iter().map(|s| s.number).collect::<Vec<_>>();
        assert!(runs.iter().flat_map(numbers).eq(0..runs.iter().map(|r| r.listed.len() as u64).sum()), "{name}");
        assert!(runs[1].listed.len() >= 4, "{name}");
    }
    Arc::into_inner(worker).expect("the watch is over").stop();
}
