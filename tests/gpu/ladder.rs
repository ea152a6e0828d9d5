//! Whole workers on the GPU: RTMP in, NVDEC, CUDA, NVENC, segments out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;

use crate::codec::driver_paths;
use crate::double::{Double, Fault};
use crate::faults::stage;
use crate::harness::accident::{SEGMENT, crowd, hurt_on, survived};
use crate::harness::clip::{Clip, LADDER, SMALL};
use crate::harness::players::{self, Play};
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, beside_others, decode, tools, until};

/// A worker that encodes with NVENC or not at all.
pub fn worker(double: &Double, flags: &[&str]) -> Worker {
    let paths = format!("nvidia.paths={:?}", driver_paths(double));
    let own = ["--open", "--set", "reconnect_grace=1", "--encoder", "nvidia", "--set", &paths];
    Worker::start_with(&[&own[..], flags].concat(), &double.environment())
}

/// One under its own time.
fn is_thumbnail(path: &Path) -> bool {
    path.to_string_lossy().contains("/thumb/") && !path.ends_with("latest.jpg")
}

#[test]
fn an_aligned_ladder_never_leaves_the_device_and_plays_live_and_afterwards() {
    // More than a player needs for three levels; it ends when the player has seen enough.
    let file = Clip { seconds: 40, ..LADDER }.file();
    players::install();
    let double = Double::start();
    let _machine = alone();
    let worker = Arc::new(worker(&double, &["--set", "window=120"]));
    // What a process uploads in its trial, it has uploaded once it is ready; from here on nothing may pass through the host's memory.
    until("three ready processes", || worker.get("metrics").text().contains("weir_codec_warm 3\n").then_some(()));
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    let pid = worker.codec_pid("anna");
    double.assert_loaded_by(pid);
    players::segments(&worker, "anna", 4);
    // Every picture that is looked at has a number, and four fifths of all must have been decoded (tests/players).
    let live = Play::start(&worker, "anna", "hls.js", &["--live", "--seconds", "2", "--max-latency", "15"]);
    players::went_through(&live.finish(), 3);
    assert_eq!(worker.stream("anna").unwrap()["state"], "live", "all of that was live");
    publisher.interrupt();
    let seen = watch.finish();
    let state = double.state();
    assert_eq!(state.calls("nvEncLockInputBuffer"), 0);
    let thumbnails = worker.stored().iter().filter(|p| is_thumbnail(p)).count() as u64;
    assert!(thumbnails > 0);
    assert_eq!(state.calls("copy.device_to_host"), thumbnails, "thumbnails came back to the host");
    assert_eq!(state.calls("bytes.device_to_host"), thumbnails * 320 * 180 * 3 / 2, "and no other picture");
    let shown = Play::start(&worker, "anna", "shaka-dash", &["--vod", "--seconds", "2"]).finish();
    players::went_through(&shown, 3);
    Arc::into_inner(worker).expect("the watch is over").stop();

    assert_eq!(seen.rungs(), ["src", "480p", "360p"]);
    let rungs: Vec<Track> = seen.rungs().iter().map(|name| Track::of(&seen, name)).collect();
    let segments = rungs[0].segments.len();
    let cuts: Vec<i64> = (0..).map(|n| n * 180_000).take(segments).collect();
    assert!(segments > 8, "{segments}");
    for rung in &rungs {
        rung.check();
        assert_eq!(rung.starts(), cuts, "{}", rung.name);
        assert_eq!(rung.times(), rungs[0].times(), "{}: every picture, at the source's time", rung.name);
        let one_idr = |s: &crate::harness::boxes::Segment| s.samples.iter().filter(|s| s.sync).count() == 1;
        assert!(rung.segments.iter().all(one_idr), "{}: one IDR each", rung.name);
        decode::brightness(rung);
    }
    assert!(seen.tracks.values().all(|t| t.gaps().is_empty() && t.segments.len() == segments));
    double.until_clean();
}

/// The whole clip as HEVC in an FLV file, which Debian 12's ffmpeg cannot write.
fn hevc_file(clip: &Clip) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.flv");
    let arguments = clip.arguments();
    let source = arguments.iter().take_while(|a| *a != "-c:v").map(String::as_str);
    let encoder = format!(
        "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint={0}:min-keyint={0}:scenecut=0:open-gop=0:bframes=2 -pix_fmt yuv420p",
        clip.gop
    );
    let form = ["-f", "flv", "-flvflags", "no_duration_filesize", tools::text(&file)];
    tools::ffmpeg(source.chain(encoder.split(' ')).chain(form));
    (folder, file)
}

/// ffmpeg 7.1 speaks Enhanced RTMP.
#[test]
fn hevc_by_ffmpeg_becomes_an_aligned_ladder_on_the_device() {
    const CLIP: Clip = Clip { seconds: 6, ..SMALL };
    let (_folder, file) = hevc_file(&CLIP);
    let double = Double::start();
    let _machine = alone();
    let worker = Arc::new(worker(&double, &["--ladder", SMALL_LADDER]));
    until("three ready processes", || worker.get("metrics").text().contains("weir_codec_warm 3\n").then_some(()));
    let before = double.state();
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let seen = watch.finish();
    let after = double.state();
    let thumbnails = worker.stored().iter().filter(|p| is_thumbnail(p)).count() as u64;
    assert_eq!(after.calls("copy.device_to_host"), thumbnails, "thumbnails came back to the host, and no picture");
    assert!(after.calls("cuvidDecodePicture") - before.calls("cuvidDecodePicture") >= CLIP.frames() as u64);
    Arc::into_inner(worker).expect("the watch is over").stop();
    assert_eq!(seen.rungs(), ["top", "240p"]);
    let rungs: Vec<Track> = seen.rungs().iter().map(|name| Track::of(&seen, name)).collect();
    for rung in &rungs {
        rung.check();
        assert_eq!(rung.starts(), [0, 180_000, 360_000], "{}", rung.name);
        assert_eq!(rung.times().len(), CLIP.frames(), "{}", rung.name);
        assert_eq!(rung.times(), rungs[0].times(), "{}", rung.name);
        decode::brightness(rung);
    }
    assert!(seen.tracks.values().all(|t| t.gaps().is_empty()));
    double.until_clean();
}

#[test]
fn a_killed_codec_process_costs_its_rungs_two_segments_at_most() {
    let clip = Clip { seconds: 12, ..LADDER };
    let double = Double::start();
    let _machine = alone();
    let seen = hurt_on(worker(&double, &[]), &clip, Signal::KILL, "codec process lost: process ended");
    survived(&clip, &seen, 2 * SEGMENT);
    double.until_clean();
}

#[test]
fn streams_that_share_a_process_lose_two_segments_each_when_it_dies() {
    another_process_dies(5, 5);
}

#[test]
fn streams_with_a_process_each_lose_nothing_when_anothers_dies() {
    another_process_dies(2, 1);
}

fn another_process_dies(streams: usize, to_a_process: usize) {
    let double = Double::start();
    let _machine = beside_others();
    let set = format!("codec.streams_per_codec={to_a_process}");
    let worker = worker(&double, &["--ladder", stage::LADDER, "--set", &set]);
    crowd(worker, &stage::CLIP, streams, to_a_process);
    double.until_clean();
}

#[test]
fn streams_spread_over_two_devices_and_a_process_sees_one() {
    const CLIP: Clip = Clip { seconds: 8, ..stage::CLIP };
    let file = CLIP.file();
    let mut double = Double::start();
    double.set(Fault::Devices { count: 2 });
    let _machine = beside_others();
    let worker = worker(&double, &["--ladder", stage::LADDER]);
    let publishers: Vec<Publisher> = ["anna", "bert"]
        .iter()
        .map(|name| {
            let publisher = Publisher::start(&file, &worker, name);
            worker.codec_pid(name);
            publisher
        })
        .collect();
    let pids = ["anna", "bert"].map(|name| worker.codec_pid(name));
    let devices = until("both to encode", || {
        let sessions = double.state().sessions;
        let of = |pid: u32| sessions.iter().find(|s| s.pid == pid && s.width > 0).map(|s| s.device);
        of(pids[0]).zip(of(pids[1]))
    });
    assert_ne!(devices.0, devices.1);
    publishers.into_iter().for_each(Publisher::finish);
    worker.stop();
    double.until_clean();
}
