//! The codec process dies, or hangs, in the middle of a stream: the transcoded rungs lose a little, the source rung and the publisher nothing.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::clip::Clip;
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::Worker;
use crate::harness::{alone, decode, until};

/// Length of the clips' segments.
const SEGMENT: Duration = Duration::from_secs(2);

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Pushes the clip and hurts the codec process when 4 s of it are packaged; `told` must stand in the log then.
fn hurt(clip: &Clip, with: Signal, told: &str) -> Seen {
    let file = clip.file();
    let _machine = alone();
    let worker = Arc::new(Worker::start(&[]));
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    until("two segments", || (worker.stream("anna")?["segments"].as_u64()? >= 2).then_some(()));
    let pid = worker.codec_pid("anna");
    signal(pid, with);
    // The publisher saw nothing of it.
    publisher.finish();
    let status = worker.stream("anna").expect("alive for the grace of a second");
    let seen = watch.finish();
    worker.logged(told);
    assert_ne!(status["codec_pid"].as_u64(), Some(pid.into()));
    assert_eq!(status["codec_restarts"], 1, "{status}");
    assert_eq!(status["discontinuities"], 0, "{status}");
    Arc::into_inner(worker).expect("the watch is over").stop();
    seen
}

/// What must hold however the process came to its end; `most` is how much of a rung may be lost.
fn survived(clip: &Clip, seen: &Seen, most: Duration) {
    assert_eq!(seen.rungs(), ["src", "480p", "360p"]);
    let segments = seen.tracks["src"].segments.len();
    assert_eq!(segments, clip.seconds as usize / 2);
    for (name, media) in &seen.tracks {
        assert_eq!(media.segments.len(), segments, "{name}");
        assert!(media.segments.iter().all(|s| !s.discontinuity), "{name}: the parameter sets are the same");
        let allowed = if matches!(name.as_str(), "src" | "audio") { Duration::ZERO } else { most };
        let lost = Duration::from_micros(media.segments.iter().filter(|s| s.gap).map(|s| s.micros).sum());
        println!("{name}: gaps {:?}", media.gaps());
        assert!(lost <= allowed, "{name}: {lost:?} lost, segments {:?}", media.gaps());
        let last_gap = media.gaps().last().copied().unwrap_or(0);
        assert!(last_gap + 2 < segments as u64, "{name}: back before the end");
        // One init segment, times that add up, and pictures that decode.
        let track = Track::of(seen, name);
        track.check();
        if track.init.kind == "avc1" {
            decode::brightness(&track);
            let whole = track.segments.iter().all(|s| s.samples.len() == 60);
            assert!(whole, "{name}: what is listed is whole");
        }
    }
}

#[test]
fn a_killed_codec_process_costs_its_rungs_two_segments_at_most() {
    let clip = Clip { seconds: 14, ..super::ladder::CLIP };
    let seen = hurt(&clip, Signal::KILL, "codec process lost: process ended");
    survived(&clip, &seen, 2 * SEGMENT);
}

#[test]
fn a_hanging_codec_process_is_killed_after_five_seconds() {
    let clip = Clip { seconds: 20, ..super::ladder::CLIP };
    let seen = hurt(&clip, Signal::STOP, "codec process given up: no output of");
    survived(&clip, &seen, Duration::from_secs(5) + 2 * SEGMENT);
}
