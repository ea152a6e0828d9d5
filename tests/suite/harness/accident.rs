//! Something happens to the codec process in the middle of a stream: what must hold then, whatever it was.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::clip::Clip;
use super::publisher::Publisher;
use super::track::Track;
use super::watch::{Seen, Watch};
use super::worker::Worker;
use super::{alone, decode, until};

/// Length of the clips' segments.
pub const SEGMENT: Duration = Duration::from_secs(2);

/// Pushes the clip and sends the codec process a signal when 4 s of it are packaged; `told` must stand in the log then. One restart, no
/// discontinuity, and a publisher who saw nothing of it.
pub fn hurt(clip: &Clip, with: Signal, told: &str) -> Seen {
    let file = clip.file();
    let _machine = alone();
    let worker = Arc::new(Worker::start(&[]));
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    until("two segments", || (worker.stream("anna")?["segments"].as_u64()? >= 2).then_some(()));
    let pid = worker.codec_pid("anna");
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), with).unwrap();
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

/// The source rung and audio are whole, `most` of each other rung may be lost, and what is listed is whole, with the parameter sets of before.
pub fn survived(clip: &Clip, seen: &Seen, most: Duration) {
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
        let track = Track::of(seen, name);
        track.check();
        if track.init.kind == "avc1" {
            decode::brightness(&track);
            assert!(track.segments.iter().all(|s| s.samples.len() == 60), "{name}: what is listed is whole");
        }
    }
}
