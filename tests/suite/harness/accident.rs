//! Something happens to the codec process in the middle of a stream: what must hold then, whatever it was.

use std::collections::BTreeSet;
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
    let _machine = alone();
    hurt_on(Worker::start(&[]), clip, with, told)
}

/// The same on a worker of the caller's.
pub fn hurt_on(worker: Worker, clip: &Clip, with: Signal, told: &str) -> Seen {
    let file = clip.file();
    let worker = Arc::new(worker);
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

/// Several streams, so many to a process, of which the first one's is killed when each has two segments: the streams that it had lose two segments of
/// each encoded rung at the most, the others nothing, and no publisher sees anything of it.
pub fn crowd(worker: Worker, clip: &Clip, streams: usize, to_a_process: usize) {
    let file = clip.file();
    let worker = Arc::new(worker);
    let names: Vec<String> = (0..streams).map(|n| format!("s{n}")).collect();
    let mut pids = Vec::new();
    let mut live = Vec::new();
    for name in &names {
        let watch = Watch::start(&worker, name);
        live.push((watch, Publisher::start(&file, &worker, name)));
        // One after the other, so that each sits down where there is room.
        pids.push(worker.codec_pid(name));
    }
    let processes: BTreeSet<u32> = pids.iter().copied().collect();
    assert_eq!(processes.len(), streams.div_ceil(to_a_process), "{pids:?}");
    for name in &names {
        until("two segments", || (worker.stream(name)?["segments"].as_u64()? >= 2).then_some(()));
    }
    kill_process(Pid::from_raw(pids[0].try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    let restarts = |name: &str| worker.stream(name)?["codec_restarts"].as_u64();
    let is_struck = |pid: &u32| *pid == pids[0];
    for (name, _) in names.iter().zip(&pids).filter(|(_, pid)| is_struck(pid)) {
        until("its process's loss", || restarts(name).filter(|n| *n > 0));
    }
    for (name, pid) in names.iter().zip(&pids) {
        assert_eq!(restarts(name), Some(is_struck(pid).into()), "{name}");
    }
    for ((watch, publisher), (name, pid)) in live.into_iter().zip(names.iter().zip(&pids)) {
        publisher.finish();
        let struck = is_struck(pid);
        let seen = watch.finish();
        for (track, media) in &seen.tracks {
            assert!(media.segments.iter().all(|s| !s.discontinuity), "{name}/{track}: the parameter sets are the same");
            let gaps = media.gaps();
            let allowed = if struck && !matches!(track.as_str(), "src" | "audio") { 2 } else { 0 };
            assert!(gaps.len() <= allowed, "{name}/{track}: segments {gaps:?} are lost");
            assert_eq!(media.segments.len(), clip.seconds as usize / 2, "{name}/{track}");
            Track::of(&seen, track).check();
        }
    }
    Arc::into_inner(worker).expect("the watches are over").stop();
}
