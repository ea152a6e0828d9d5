//! Audio that players do not take is published as 48 kHz stereo, in step with the picture, and its loudness is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::clip::{Clip, MARK_MILLIS, SMALL};
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, decode, tools, until};

/// What may lie between a beep that goes in and the one that comes out.
const MAX_OFFSET_MICROS: i64 = 25_000;

/// A clip whose sound is 5.1: the beep from the centre, and a tone in front that is loud enough for no block to be gated.
fn surround(clip: &Clip, folder: &Path) -> PathBuf {
    let path = folder.join("surround.flv");
    let beep = format!("0.6*sin(2*PI*1000*t)*between(mod(t\\,1)\\,0.{MARK_MILLIS}\\,0.6)");
    let tone = "0.2*sin(2*PI*200*t)";
    let source = format!("aevalsrc={tone}|{tone}|{beep}|0|0|0:c=5.1:s=48000:d={}", clip.seconds);
    // A file with audio of its own would move the picture by what its encoder put in front.
    let file = Clip { audio: false, ..*clip }.file();
    let input = ["-i", tools::text(&file), "-f", "lavfi", "-i", &source, "-map", "0:v", "-map", "1:a", "-c:v", "copy"];
    let output = ["-c:a", "aac", "-b:a", "320k", "-f", "flv", "-flvflags", "no_duration_filesize", tools::text(&path)];
    tools::ffmpeg(input.into_iter().chain(output));
    path
}

/// Integrated loudness of a file by ffmpeg's own filter, LUFS.
fn loudness(path: &Path) -> f64 {
    let said = std::process::Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i", tools::text(path), "-map", "0:a", "-af", "ebur128", "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let value = said.rsplit("Summary:").next().and_then(|s| s.split("I:").nth(1)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{said}"))
}

/// Profile, rate and channels of a published track, by ffprobe.
fn shown(track: &Track) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audio.mp4");
    std::fs::write(&path, &track.file).unwrap();
    let entries = ["-v", "error", "-show_entries", "stream=profile,sample_rate,channels", "-of", "csv=p=0"];
    let out = tools::run(std::process::Command::new("ffprobe").args(entries).arg(&path));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn worker(flags: &[&str]) -> Arc<Worker> {
    Arc::new(Worker::start(&[&["--ladder", SMALL_LADDER], flags].concat()))
}

fn stop(worker: Arc<Worker>) {
    Arc::into_inner(worker).expect("nobody uses it").stop();
}

fn whole(seen: &Seen) -> Track {
    let media = &seen.tracks["audio"];
    assert!(media.gaps().is_empty() && media.segments.iter().all(|s| !s.discontinuity), "{media:?}");
    let audio = Track::of(seen, "audio");
    audio.check();
    assert_eq!(shown(&audio), "LC,48000,2");
    audio
}

#[test]
fn surround_sound_is_published_as_stereo_in_step_with_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let file = surround(&SMALL, folder.path());
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let status = worker.stream("anna").expect("alive for the grace of a second");
    let metrics = worker.get("metrics").text();
    let seen = watch.finish();
    stop(worker);

    let audio = whole(&seen);
    let rung = Track::of(&seen, "src");
    let off = decode::audio_offset(&SMALL, &rung, &audio);
    assert!(off < MAX_OFFSET_MICROS, "{off} us");
    let input = &status["input"]["audio"];
    assert_eq!((&input["codec"], &input["channels"], &input["reencoded"]), (&"mp4a.40.2".into(), &6.into(), &true.into()));
    let warnings = status["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains("AAC-LC 5.1")), "{warnings:?}");
    let (ours, theirs) = (input["loudness"]["integrated_lufs"].as_f64().unwrap(), loudness(&file));
    println!("{ours} LUFS, by ffmpeg {theirs}");
    assert!((ours - theirs).abs() < 0.5, "{ours} {theirs}");
    for kind in ["integrated", "short_term"] {
        let sample = format!("weir_audio_loudness_lufs{{stream=\"anna\",kind=\"{kind}\"}} -");
        assert!(metrics.contains(&sample), "{metrics}");
    }
}

#[test]
fn he_aac_alone_is_published_as_aac_lc() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/he-aac.flv");
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let status = worker.stream("anna").expect("alive for the grace of a second");
    let seen = watch.finish();
    stop(worker);

    let audio = whole(&seen);
    // Where ffmpeg hears them in the file itself: 605,437 us, and one each second.
    let off: Vec<i64> = (0..).zip(decode::beeps(&audio)).map(|(n, beep)| beep - 605_437 - n * 1_000_000).collect();
    println!("beeps {off:?} us off");
    assert!(off.len() == 6 && off.iter().all(|o| o.abs() < MAX_OFFSET_MICROS), "{off:?}");
    assert_eq!(status["input"]["audio"]["codec"], "mp4a.40.5");
    assert_eq!((&status["codec_restarts"], seen.rungs().len()), (&0.into(), 0), "{status}");
}

#[test]
fn a_killed_codec_process_costs_a_moment_of_silence_at_most() {
    let clip = Clip { seconds: 10, ..SMALL };
    let folder = tempfile::tempdir().unwrap();
    let file = surround(&clip, folder.path());
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    until("two segments", || (worker.stream("anna")?["segments"].as_u64()? >= 2).then_some(()));
    let pid = worker.codec_pid("anna");
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    publisher.finish();
    let status = worker.stream("anna").expect("alive for the grace of a second");
    let seen = watch.finish();
    stop(worker);

    assert_eq!((&status["codec_restarts"], &status["discontinuities"]), (&1.into(), &0.into()), "{status}");
    let audio = whole(&seen);
    let (flashes, beeps) = (decode::flashes(&Track::of(&seen, "src")), decode::beeps(&audio));
    println!("flashes {flashes:?}, beeps {beeps:?}");
    assert!(beeps.len() >= flashes.len() - 1, "one beep may fall into it");
    let near = |beep: &i64| flashes.iter().any(|f| (beep - f).abs() < MAX_OFFSET_MICROS);
    assert!(beeps.iter().all(near), "{beeps:?} {flashes:?}");
}

#[test]
fn a_loudness_target_sends_stereo_through_the_encoder_too() {
    let file = SMALL.file();
    let _machine = beside_others();
    let worker = worker(&["--set", "loudness.target_lufs=-16"]);
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let status = worker.stream("anna").expect("alive for the grace of a second");
    let seen = watch.finish();
    stop(worker);
    let audio = whole(&seen);
    let off = decode::audio_offset(&SMALL, &Track::of(&seen, "src"), &audio);
    assert!(off < MAX_OFFSET_MICROS, "{off} us");
    let input = &status["input"]["audio"];
    assert_eq!(input["reencoded"], true);
    assert!(input["loudness"]["gain_db"].is_number(), "{input}");
}

/// A clip whose audio has too few samples for its times: the beeps are where the flashes are, by the times.
fn drifting(clip: &Clip, folder: &Path) -> PathBuf {
    let path = folder.join("drifting.flv");
    let beep = format!("0.5*sin(2*PI*1000*t)*between(mod({PACE}*t\\,1)\\,0.{MARK_MILLIS}\\,0.6)");
    let source = format!("aevalsrc={beep}|{beep}:c=stereo:s=48000:d={}ms", clip.seconds * 100_000 / 101);
    let times = format!("setts=ts=TS*{PACE}");
    let file = Clip { audio: false, ..*clip }.file();
    let input = ["-i", tools::text(&file), "-f", "lavfi", "-i", &source, "-map", "0:v", "-map", "1:a", "-c:v", "copy"];
    let output = ["-c:a", "aac", "-b:a", "128k", "-bsf:a", &times, "-f", "flv", "-flvflags", "no_duration_filesize"];
    tools::ffmpeg(input.into_iter().chain(output).chain([tools::text(&path)]));
    path
}

/// 1 %: found 15 s after the beginning.
const PACE: &str = "1.01";

#[test]
fn audio_that_is_always_off_is_stretched_to_the_publishers_clock() {
    let clip = Clip { seconds: 50, ..SMALL };
    let folder = tempfile::tempdir().unwrap();
    let file = drifting(&clip, folder.path());
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    let segments = || worker.stream("anna")?["segments"].as_u64();
    let measured = || serde_json::from_str::<serde_json::Value>(&worker.get("v1/streams/anna/health").text()).unwrap();
    until("the drift", || worker.stream("anna")?["input"]["audio"]["reencoded"].as_bool()?.then_some(()));
    let change = segments().unwrap();
    // what was copied has gone, and the first made frames have come
    until("two segments", || (segments()? >= change + 2).then_some(()));
    let before = measured();
    until("thirteen more", || (segments()? >= change + 15).then_some(()));
    let after = measured();
    publisher.finish();
    let seen = watch.finish();
    stop(worker);

    let audio = whole(&seen);
    let source = Track::of(&seen, "src");
    let (flashes, beeps) = (decode::flashes(&source), decode::beeps(&audio));
    assert_eq!((flashes.len(), beeps.len()), (50, 50), "{flashes:?} {beeps:?}");
    let off: Vec<i64> = beeps.iter().zip(&flashes).map(|(b, f)| b - f).collect();
    println!("beep against flash {off:?} us");
    assert!(off.iter().skip(20).all(|o| o.abs() < 60_000), "{off:?}");
    let corrections = |health: &serde_json::Value| {
        let audio = &health["measured"]["audio"];
        audio["frames_filled"].as_u64().unwrap() + audio["frames_dropped"].as_u64().unwrap()
    };
    println!("{} corrections before, {} after", corrections(&before), corrections(&after));
    assert!(corrections(&before) >= 5 && corrections(&after) - corrections(&before) <= 1, "{before} {after}");
    let ppm = after["measured"]["audio"]["drift_ppm"].as_i64().unwrap();
    assert!((ppm + 9901).abs() <= 50, "{ppm}");
    let found = after["findings"].as_array().unwrap().iter().any(|f| f["code"] == "audio_drift" && f["severity"] == "notice");
    assert!(found, "{after}");
}
