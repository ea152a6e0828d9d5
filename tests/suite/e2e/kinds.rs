//! Sources of other kinds than the usual one, and publishers who come, go and come back. Small pictures, so that these may run side by side.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::logic::model::Coding;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::enhanced::{Enhanced, Pusher};
use crate::harness::manifest::{self, Media};
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, decode, tools, until};

fn worker(flags: &[&str]) -> Arc<Worker> {
    Arc::new(Worker::start(&[&["--ladder", SMALL_LADDER], flags].concat()))
}

/// Ends a worker that nobody uses any more; a fault of it is the test's.
fn stop(worker: Arc<Worker>) {
    Arc::into_inner(worker).expect("nobody uses it").stop();
}

/// The whole clip, watched from the first playlist to the last; every track holds together and its pictures decode.
fn play_out(clip: &Clip) -> (Seen, Vec<Track>) {
    let file = clip.file();
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let seen = watch.finish();
    let (published, _) = worker.logged("publishing");
    println!("first playlist after {:?}", seen.first.unwrap().duration_since(published));
    stop(worker);
    let tracks: Vec<_> = seen.tracks.keys().map(|name| Track::of(&seen, name)).collect();
    for track in &tracks {
        let media = &seen.tracks[&track.name];
        assert!(media.gaps().is_empty() && media.segments.iter().all(|s| !s.discontinuity), "{media:?}");
        track.check();
        if track.init.kind == "avc1" {
            decode::brightness(track);
        }
    }
    (seen, tracks)
}

/// The whole clip coded otherwise than as H.264, pushed by Enhanced RTMP.
fn play_enhanced(clip: &Clip, coding: Coding) {
    let messages = Enhanced::of_clip(clip, coding);
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    let pusher = Pusher::start(messages, &worker, "anna");
    let findings = until("the advice", || {
        let status = worker.stream("anna")?;
        let findings = status["health"]["findings"].as_array()?.clone();
        (status["state"] == "live" && status["passthrough"] == false).then_some(findings)
    });
    pusher.finish();
    let seen = watch.finish();
    stop(worker);
    let advice = findings.iter().find(|c| c["code"] == "not_playable_profile").unwrap();
    assert!(advice["text"].as_str().unwrap().starts_with(coding.as_str()), "{advice}");
    assert_eq!(seen.rungs(), ["top", "240p"], "{coding:?}: the source's size is encoded too");
    let audio = Track::of(&seen, "audio");
    let cuts: Vec<i64> = (0..i64::from(clip.seconds) / 2).map(|n| n * 180_000).collect();
    for name in seen.rungs() {
        let rung = Track::of(&seen, name);
        rung.check();
        assert_eq!(rung.init.kind, "avc1", "{name}");
        assert_eq!(rung.starts(), cuts, "{coding:?}, {name}: each begins with a picture at the cut");
        assert_eq!(rung.times().len(), clip.frames(), "{coding:?}, {name}: every picture once, and all decode");
        assert!(decode::audio_offset(clip, &rung, &audio) < 40_000, "{coding:?}, {name}");
    }
    assert!(seen.tracks.values().all(|t| t.gaps().is_empty() && t.segments.iter().all(|s| !s.discontinuity)));
}

#[test]
fn hevc_becomes_a_ladder_of_h264() {
    play_enhanced(&SMALL, Coding::Hevc);
}

#[test]
fn av1_becomes_a_ladder_of_h264() {
    play_enhanced(&SMALL, Coding::Av1);
}

/// The source as it came is a choice of its own, beside a ladder of H.264 from its size down.
fn pass_through(clip: &Clip, coding: Coding, kind: &str) {
    let messages = Enhanced::of_clip(clip, coding);
    let _machine = beside_others();
    let worker = worker(&["--set", r#"passthrough_codecs=["h264", "hevc", "av1"]"#]);
    let watch = Watch::start(&worker, "anna");
    Pusher::start(messages, &worker, "anna").finish();
    let seen = watch.finish();
    stop(worker);
    assert_eq!(seen.rungs(), ["src", "top", "240p"]);
    let audio = Track::of(&seen, "audio");
    let rungs: Vec<Track> = seen.rungs().iter().map(|name| Track::of(&seen, name)).collect();
    for rung in &rungs {
        rung.check();
        assert_eq!(rung.init.kind, if rung.name == "src" { kind } else { "avc1" });
        assert_eq!(rung.starts(), rungs[0].starts(), "{}", rung.name);
        assert_eq!(rung.times(), rungs[0].times(), "{}: every picture, at the source's time", rung.name);
        assert!(decode::audio_offset(clip, rung, &audio) < 40_000, "{}", rung.name);
    }
    assert_eq!(rungs[0].times().len(), clip.frames());
    let codecs = |at: usize| seen.variants[at].attributes["CODECS"].as_str();
    assert!(codecs(0).starts_with(kind) && codecs(1).starts_with("avc1"), "{:?}", seen.variants);
    let sets = &seen.mpd.as_ref().unwrap().periods[0].sets;
    let kinds: Vec<Vec<&str>> = sets.iter().map(|set| set.iter().map(|codec| &codec[..4]).collect()).collect();
    assert_eq!(kinds, [&[kind][..], &["avc1", "avc1"], &["mp4a"]], "a set for each coding, and audio");
}

#[test]
fn hevc_is_passed_through_as_a_choice_of_its_own() {
    pass_through(&SMALL, Coding::Hevc, "hvc1");
}

#[test]
fn av1_is_passed_through_as_a_choice_of_its_own() {
    pass_through(&SMALL, Coding::Av1, "av01");
}

fn named<'a>(tracks: &'a [Track], name: &str) -> &'a Track {
    tracks.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no track {name}"))
}

#[test]
fn video_without_audio_gets_a_silent_rendition() {
    let clip = Clip { audio: false, ..SMALL };
    let (seen, tracks) = play_out(&clip);
    assert_eq!(seen.rungs(), ["src", "240p"]);
    assert_eq!(named(&tracks, "src").times().len(), clip.frames());
    let audio = named(&tracks, "audio");
    assert_eq!(audio.segments.len(), named(&tracks, "src").segments.len());
    let sound = decode::sound(audio);
    assert!(sound.iter().all(|s| *s == 0), "silence");
    // The boxes say that it lasts as long as the pictures. At the very end a hole below rules.md 11's 60 ms, and what is left of a frame, is not filled.
    let (last, _) = audio.samples().last().unwrap().clone();
    let rate = i64::from(audio.init.timescale);
    let end = (named(&tracks, "src").times().last().unwrap() + 3000) * rate / 90_000;
    assert_eq!(last.pts + last.duration, end);
    assert!((end - rate * 60 / 1000 - 1024..=end).contains(&(sound.len() as i64)), "{} samples of {end}", sound.len());
}

#[test]
fn audio_without_video_is_an_audio_rendition() {
    let clip = Clip { video: false, seconds: 8, ..SMALL };
    let file = clip.file();
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    let seen = watch.finish();
    let waited = seen.first.unwrap().duration_since(worker.logged("publishing").0);
    println!("first playlist after {waited:?}");
    // Two seconds to see that there is no video, and a segment of two seconds, which begins with the first frame.
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    stop(worker);
    assert!(seen.rungs().is_empty());
    assert_eq!(seen.variants.len(), 1);
    let audio = Track::of(&seen, "audio");
    audio.check();
    let beeps = decode::beeps(&audio);
    assert_eq!(beeps.len(), clip.seconds as usize, "{beeps:?}");
    assert!(beeps.windows(2).all(|w| (w[1] - w[0] - 1_000_000).abs() < 5_000), "{beeps:?}");
    let periods = &seen.mpd.as_ref().unwrap().periods;
    assert!(periods.len() == 1 && periods[0].representations.len() == 1);
}

#[test]
fn a_portrait_picture_stays_upright() {
    let clip = Clip { width: 360, height: 640, ..SMALL };
    let (seen, tracks) = play_out(&clip);
    assert_eq!(seen.rungs(), ["src", "240p"]);
    assert_eq!((named(&tracks, "src").init.size, named(&tracks, "240p").init.size), ((360, 640), (240, 426)));
    assert_eq!(seen.variants[1].attributes["RESOLUTION"], "240x426");
    assert_eq!(named(&tracks, "240p").times(), named(&tracks, "src").times());
}

#[test]
fn sixty_frames_per_second_are_halved_on_the_rung_and_start_together() {
    let clip = Clip { fps: 60, gop: 120, ..SMALL };
    let (seen, tracks) = play_out(&clip);
    let (source, rung) = (named(&tracks, "src"), named(&tracks, "240p"));
    assert_eq!(
        seen.variants.iter().map(|v| v.attributes.get("FRAME-RATE").map(String::as_str)).collect::<Vec<_>>(),
        [Some("60.000"), Some("30.000"), None]
    );
    assert_eq!((source.times().len(), rung.times().len()), (clip.frames(), clip.frames() / 2));
    assert_eq!(source.starts(), rung.starts());
    let every_second: Vec<_> = source.times().into_iter().step_by(2).collect();
    assert_eq!(rung.times(), every_second);
}

#[test]
fn obs_at_its_defaults_is_encoded_anew_in_segments_of_two_seconds() {
    // x264's automatic key frame interval in OBS: 250 frames.
    let clip = Clip { gop: 250, seconds: 12, ..SMALL };
    let file = clip.file();
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    let warnings = until("the advice", || {
        let status = worker.stream("anna")?;
        let warnings = status["warnings"].as_array()?.clone();
        (status["passthrough"] == false && !warnings.is_empty() && status["state"] == "live").then_some(warnings)
    });
    println!("{warnings:?}");
    publisher.finish();
    let seen = watch.finish();
    let waited = seen.first.unwrap().duration_since(worker.logged("publishing").0);
    println!("first playlist after {waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    stop(worker);
    assert_eq!(seen.rungs(), ["top", "240p"]);
    assert!(warnings.iter().any(|w| w.as_str().is_some_and(|w| w.contains("2 s in OBS"))), "{warnings:?}");
    let cuts: Vec<i64> = (0..6).map(|n| n * 180_000).collect();
    for name in seen.rungs() {
        let track = Track::of(&seen, name);
        track.check();
        assert_eq!(track.starts(), cuts, "{name}");
        assert_eq!(track.times().len(), clip.frames(), "{name}");
        assert!(decode::audio_offset(&clip, &track, &Track::of(&seen, "audio")) < 40_000);
    }
}

/// Listed segments from this number on.
fn since(seen: &Seen, name: &str, number: u64) -> Track {
    let listed = seen.listed.iter().filter(|((t, n), l)| t == name && *n >= number && !l.gap);
    Track::new(seen, name, listed.map(|(_, l)| l.clone()).collect())
}

/// One discontinuity, in front of the same number on all tracks, and a second Period that begins there. Gives the number.
fn one_break(seen: &Seen) -> u64 {
    let broken = |m: &Media| m.segments.iter().filter(|s| s.discontinuity).map(|s| s.number).collect::<Vec<_>>();
    let at = broken(&seen.tracks["src"]);
    assert_eq!(at.len(), 1, "{at:?}");
    for (name, media) in &seen.tracks {
        assert_eq!(broken(media), at, "{name}: rules.md 2");
        assert!(media.gaps().is_empty(), "{name}: {:?}", media.gaps());
        let inits: Vec<_> = media.segments.iter().map(|s| s.init.clone()).collect();
        assert!(inits.windows(2).all(|w| w[0] == w[1]), "{name}: rules.md 7: the same configuration keeps its init segment");
    }
    let mpd = seen.mpd.as_ref().unwrap();
    assert_eq!(mpd.periods.len(), 2, "rules.md 7");
    assert!(
        mpd.periods[0].duration.is_some() && mpd.periods[1].start >= mpd.periods[0].start + mpd.periods[0].duration.unwrap()
    );
    for (name, media) in &seen.tracks {
        let first = media.segments.iter().find(|s| s.number == at[0]).unwrap();
        assert_eq!(mpd.representation(1, name).segments[0].2, first.path, "{name}");
    }
    at[0]
}

#[test]
fn a_publisher_who_comes_back_within_the_grace_goes_on_with_the_session() {
    let clip = Clip { seconds: 6, ..SMALL };
    let file = clip.file();
    let _machine = beside_others();
    let worker = worker(&["--set", "reconnect_grace=4", "--set", "on_pause=hold"]);
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&file, &worker, "anna").finish();
    until("a pause", || (worker.stream("anna")?["state"] == "paused").then_some(()));
    let session = worker.stream("anna").unwrap()["session"].clone();
    Publisher::start(&file, &worker, "anna").finish();
    assert_eq!(worker.stream("anna").unwrap()["session"], session);
    let seen = watch.finish();
    stop(worker);
    let second = one_break(&seen);
    assert_eq!(second, 3);
    let audio = since(&seen, "audio", second);
    for name in seen.rungs() {
        Track::of(&seen, name).check();
        let rung = since(&seen, name, second);
        assert_eq!(rung.times().len(), clip.frames(), "{name}");
        let origin = rung.starts()[0] * 100 / 9;
        let flashes = decode::flashes(&rung);
        let beeps = decode::beeps(&audio);
        assert_eq!((flashes.len(), beeps.len()), (6, 6));
        assert!((flashes[0] - origin - 500_000).abs() < 34_000, "{name}: the first flash is {} us in", flashes[0] - origin);
        let off: Vec<_> = beeps.iter().zip(&flashes).map(|(b, f)| b - f).collect();
        println!("{name}: beep against flash behind the reconnect {off:?} us");
        // The clip itself has 0.1 ms, and RTMP counts milliseconds: an audio frame too many or too few would be 21 ms.
        assert!(off.iter().all(|o| o.abs() < 2_000), "{name}: {off:?}");
    }
    // The wall clock went on while nobody was there.
    let dates = &seen.tracks["src"].segments;
    let pause = dates[3].date - dates[2].date - dates[2].micros as i64 / 1000;
    println!("away for {pause} ms");
    assert!(pause > 0);
}

#[test]
fn a_second_publisher_from_the_same_address_takes_the_stream_over() {
    let clip = Clip { seconds: 20, ..SMALL };
    let (first_clip, second_clip) = (clip.file(), Clip { seconds: 6, ..SMALL }.file());
    let _machine = beside_others();
    let worker = worker(&[]);
    let watch = Watch::start(&worker, "anna");
    let mut first = Publisher::start(&first_clip, &worker, "anna");
    until("two segments", || (worker.stream("anna")?["segments"].as_u64()? >= 2).then_some(()));
    let second = Publisher::start(&second_clip, &worker, "anna");
    let (status, said) = first.outcome();
    assert!(!status.success(), "{status} {said}");
    println!("the first one: {said}");
    second.finish();
    let seen = watch.finish();
    worker.logged("replaced by a newer publisher");
    stop(worker);
    let at = one_break(&seen);
    for name in seen.rungs() {
        Track::of(&seen, name).check();
        assert_eq!(since(&seen, name, at).times().len(), 180, "{name}: all of the second publisher's pictures");
    }
}

#[test]
fn a_stop_by_the_operator_ends_the_stream_at_once() {
    let file = Clip { seconds: 20, ..SMALL }.file();
    let _machine = beside_others();
    let worker = worker(&["--set", "reconnect_grace=60"]);
    let watch = Watch::start(&worker, "anna");
    let mut publisher = Publisher::start(&file, &worker, "anna");
    until("two segments", || (worker.stream("anna")?["segments"].as_u64()? >= 2).then_some(()));
    assert_eq!(worker.delete("nobody"), 404);
    let asked = Instant::now();
    assert_eq!(worker.delete("anna"), 202);
    let variants = manifest::variants(&worker, "anna").unwrap();
    until("ENDLIST", || variants.iter().all(|v| manifest::media(&worker, v).ended).then_some(()));
    println!("ENDLIST in all playlists after {:?}", asked.elapsed());
    // What encoders hold back is a part of a second. Not a segment, not a grace.
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    worker.over("anna");
    println!("over after {:?}", asked.elapsed());
    let (status, said) = publisher.outcome();
    assert!(!status.success(), "{status} {said}");
    let seen = watch.finish();
    stop(worker);
    for name in seen.tracks.keys() {
        let track = Track::of(&seen, name);
        assert!(seen.tracks[name].gaps().is_empty(), "{name}: {:?}", seen.tracks[name].gaps());
        track.check();
    }
}

#[test]
fn a_wrong_key_is_refused_and_ffmpeg_says_why() {
    const KEY: &str = "correct-horse-battery";
    let file = Clip { seconds: 4, ..SMALL }.file();
    let _machine = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let entry = tools::run(Command::new(env!("CARGO_BIN_EXE_weir")).args(["key", "anna", KEY]));
    assert!(entry.status.success(), "{}", String::from_utf8_lossy(&entry.stderr));
    let keys = folder.path().join("keys.toml");
    std::fs::write(&keys, entry.stdout).unwrap();
    let flags = ["--keys", tools::text(&keys), "--ladder", SMALL_LADDER, "--set", "reconnect_grace=1"];
    let worker = Arc::new(Worker::start_with(&flags, &[]));

    let (status, said) = Publisher::start(&file, &worker, "anna").outcome();
    assert!(!status.success() && said.contains("unknown stream key"), "{status} {said}");
    worker.logged("publisher refused");
    assert!(worker.stream("anna").is_none());

    let watch = Watch::start(&worker, "anna");
    let publisher = Publisher::start(&file, &worker, KEY);
    until("the stream", || (worker.stream("anna")?["state"] == "live").then_some(()));
    let metrics = worker.get("metrics").text();
    let streams = worker.get("v1/streams").text();
    publisher.finish();
    let seen = watch.finish();
    for (what, text) in [("metrics", metrics), ("streams", streams), ("log", worker.log().join("\n"))] {
        assert!(text.contains("anna") && !text.contains(KEY), "{what}: {text}");
    }
    let stored = worker.stored();
    assert!(stored.len() > seen.objects.len(), "all objects, and the manifests");
    for path in seen.objects.keys().map(String::as_str).chain(stored.iter().map(|p| tools::text(p))) {
        assert!(path.contains("/anna/") && !path.contains(KEY), "{path}");
    }
    stop(worker);
}
