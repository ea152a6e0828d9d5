//! Many streams on one device: all at once, and one after the other until nothing may be left of any.

use std::fs;
use std::sync::Arc;

use crate::double::Double;
use crate::faults::stage::{CLIP, LADDER, RUNG, untouched};
use crate::harness::clip::Clip;
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::{alone, until};
use crate::ladder::worker;

#[test]
fn twenty_five_streams_in_twenty_five_processes_are_live_at_once_and_aligned() {
    const STREAMS: usize = 25;
    // As long as it takes to start them one after the other on two cores, and the time in which all are seen. The second half has less to wait for.
    const FIRST: Clip = Clip { fps: 12, gop: 24, seconds: 30, ..CLIP };
    const SECOND: Clip = Clip { seconds: 18, ..FIRST };
    let clips: Vec<Clip> = (0..STREAMS).map(|n| if n <= STREAMS / 2 { FIRST } else { SECOND }).collect();
    let files: Vec<_> = clips.iter().map(Clip::file).collect();
    let double = Double::start();
    let _machine = alone();
    let worker = Arc::new(worker(&double, &["--ladder", LADDER, "--set", "codec.warm=1"]));
    let names: Vec<String> = (0..STREAMS).map(|n| format!("s{n}")).collect();
    let mut publishers = Vec::new();
    let mut pids = Vec::new();
    for (name, file) in names.iter().zip(&files) {
        publishers.push(Publisher::start(file, &worker, name));
        pids.push(worker.codec_pid(name));
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), STREAMS, "each has a process");
    until("all to encode at once", || {
        let sessions = double.state().sessions;
        pids.iter().all(|pid| sessions.iter().any(|s| s.pid == *pid && s.width > 0)).then_some(())
    });
    let is_live = |name: &String| worker.stream(name).is_some_and(|s| s["state"] == "live" && s["codec_restarts"] == 0);
    until("all to be live at once", || names.iter().all(is_live).then_some(()));
    publishers.into_iter().for_each(Publisher::finish);
    let watches: Vec<_> = names.iter().map(|name| Watch::start(&worker, name)).collect();
    for ((name, clip), watch) in names.iter().zip(&clips).zip(watches) {
        let seen = watch.finish();
        untouched(&seen, clip);
        let [source, rung] = ["src", RUNG].map(|track| Track::of(&seen, track));
        assert_eq!(rung.starts(), source.starts(), "{name}");
        assert_eq!(rung.times(), source.times(), "{name}: every picture, at the source's time");
    }
    Arc::into_inner(worker).expect("the watches are over").stop();
    double.until_clean();
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn two_hundred_streams_come_and_go_and_nothing_is_left() {
    const STREAMS: usize = 200;
    /// Under `max_streams`. A session is over some seconds behind its publisher, so few large waves are faster than many small ones.
    const AT_ONCE: usize = 50;
    const WARM: usize = 2;
    let file = Clip { fps: 12, gop: 24, seconds: 4, audio: false, ..CLIP }.file();
    let file = file.to_str().expect("test folders have plain names");
    let double = Double::start();
    let _machine = alone();
    let flags = ["codec.warm=2", "codec.streams_per_codec=5", "limits.connections_per_address=64"].map(|set| ["--set", set]);
    let worker = worker(&double, &[&["--ladder", LADDER], flags.as_flattened()].concat());
    let rests = || {
        until("a full store", || worker.get("metrics").text().contains(&format!("weir_codec_warm {WARM}\n")).then_some(()));
        let state = until("no session", || Some(double.state()).filter(|s| s.sessions.is_empty()));
        // One context each; the watcher has none.
        (descriptors(worker.pid()), state.gauge("contexts"), state.memory.values().sum::<u64>())
    };
    let before = rests();
    let opened = double.calls("nvEncOpenEncodeSessionEx");
    for wave in 0..STREAMS / AT_ONCE {
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("s{}", wave * AT_ONCE + n)).collect();
        // As fast as it goes, not in real time.
        let publishers: Vec<Publisher> =
            names.iter().map(|name| Publisher::run(&["-i", file], &["-c", "copy"], &worker, name)).collect();
        publishers.into_iter().for_each(Publisher::finish);
        names.iter().for_each(|name| worker.over(name));
    }
    assert!(double.calls("nvEncOpenEncodeSessionEx") >= opened + STREAMS as u64, "each stream had an encoder");
    // Ends that were told a moment ago are still being dealt with.
    until("descriptors, contexts and memory to be what they were", || (rests() <= before).then_some(()));
    worker.stop();
    double.until_clean();
}
