//! The main promise, on 20 s of 960x540 with B-frames: a source rung and two encoded ones whose segments begin at the same ticks with an IDR, audio in
//! step, playlists that never name what is not there, and an end that players can see. Boxes are read by a parser of the tests' own, pictures and
//! sound decoded by ffmpeg, and the source rung compared with the fragments that ffmpeg makes of the same file.

use std::path::Path;
use std::sync::Arc;

use crate::harness::boxes::{Init, Segment};
use crate::harness::clip::{Clip, LADDER};
use crate::harness::manifest::Media;
use crate::harness::publisher::Publisher;
use crate::harness::track::Track;
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::Worker;
use crate::harness::{alone, decode, tools};

const CLIP: Clip = LADDER;

/// Half of what viewers notice.
const MAX_AUDIO_OFFSET_MICROS: i64 = 40_000;

#[test]
fn twenty_seconds_become_an_aligned_ladder() {
    let clip = CLIP.file();
    let _machine = alone();
    let worker = Arc::new(Worker::start(&[]));
    let watch = Watch::start(&worker, "anna");
    Publisher::start(&clip, &worker, "anna").finish();
    let seen = watch.finish();
    println!("{} polls of all manifests, {} objects", seen.polls, seen.objects.len());
    Arc::into_inner(worker).expect("the watch is over").stop();

    assert_eq!(seen.rungs(), ["src", "480p", "360p"]);
    ended_well(&seen);
    let rungs: Vec<Track> = seen.rungs().iter().map(|name| Track::of(&seen, name)).collect();
    let audio = Track::of(&seen, "audio");
    for track in rungs.iter().chain([&audio]) {
        track.check();
    }
    aligned(&rungs);
    // The last picture lies on RTMP's grid of milliseconds and lasts a thirtieth of a second.
    let last = *rungs[0].times().last().unwrap();
    let end = seen.mpd.as_ref().unwrap().duration.unwrap();
    assert_eq!(end.as_micros() as i64, (last + 3000) * 100 / 9);
    assert_eq!(end.as_millis(), 1000 * u128::from(CLIP.seconds));
    audio_follows_the_cuts(&rungs[0], &audio);
    same_as_ffmpeg(&rungs[0], &clip);
    for rung in &rungs {
        assert_eq!(rung.times().len(), CLIP.frames(), "{}: no picture is lost", rung.name);
        let offset = decode::audio_offset(&CLIP, rung, &audio);
        assert!(offset < MAX_AUDIO_OFFSET_MICROS, "{}: audio is {offset} us off", rung.name);
    }
}

/// ENDLIST in all playlists, a static MPD of the right length that names the same segments, and all numbers from 0 on all tracks, without a gap.
fn ended_well(seen: &Seen) {
    let mpd = seen.mpd.as_ref().unwrap();
    assert!(!mpd.dynamic && mpd.periods.len() == 1);
    for (name, media) in &seen.tracks {
        let Media { ended, sequence, target_duration, .. } = media;
        assert_eq!((*ended, *sequence, *target_duration, media.segments.len()), (true, 0, 2, 10), "{name}");
        assert!(media.gaps().is_empty(), "{name}: {:?}", media.gaps());
        assert!(media.segments.iter().all(|s| !s.discontinuity), "{name}");
        let paths: Vec<_> = media.segments.iter().map(|s| &s.path).collect();
        let representation = mpd.representation(0, name);
        assert_eq!(representation.segments.iter().map(|(_, _, path)| path).collect::<Vec<_>>(), paths, "{name}");
        let micros = |ticks: &i64| (*ticks as u64 * 1_000_000 + representation.timescale / 2) / representation.timescale;
        let said: Vec<_> = representation.segments.iter().map(|(_, d, _)| micros(d)).collect();
        assert_eq!(said, media.segments.iter().map(|s| s.micros).collect::<Vec<_>>(), "{name}: S@d and EXTINF");
        assert_eq!(Some(&representation.init), media.segments[0].init.as_ref(), "{name}");
    }
    let dates = |name: &str| seen.tracks[name].segments.iter().map(|s| s.date).collect::<Vec<_>>();
    assert!(seen.tracks.keys().all(|name| dates(name) == dates("src")), "EXT-X-PROGRAM-DATE-TIME is the same on all tracks");
}

/// 0 ticks between rungs at every cut, every 2 s by the source's IDRs, and every picture at the source's time.
fn aligned(rungs: &[Track]) {
    let cuts: Vec<i64> = (0..10).map(|n| n * 180_000).collect();
    let mut sizes = Vec::new();
    for rung in rungs {
        assert_eq!(rung.starts(), cuts, "{}", rung.name);
        assert_eq!(rung.times(), rungs[0].times(), "{}", rung.name);
        assert!(rung.segments.iter().all(|s| s.samples.iter().filter(|s| s.sync).count() == 1), "{}: one IDR each", rung.name);
        assert!(rung.segments.iter().all(|s| s.brands.iter().any(|b| b == "cmfs")), "{}", rung.name);
        sizes.push(rung.init.size);
    }
    assert_eq!(sizes, [(960, 540), (854, 480), (640, 360)]);
    let reordered = |t: &Track| t.segments.iter().flat_map(|s| &s.samples).any(|s| s.pts < s.dts);
    assert!(rungs.iter().all(reordered), "B-frames in all rungs");
}

/// rules.md 6: audio begins at most one frame after the cut, never before it.
fn audio_follows_the_cuts(video: &Track, audio: &Track) {
    for (cut, start) in video.starts().into_iter().zip(audio.starts()) {
        // both in units of 1/(90000 * rate) s
        let rate = i64::from(audio.init.timescale);
        let late = start * 90_000 - cut * rate;
        assert!((0..=1024 * 90_000).contains(&late), "audio begins at {start}/{rate}, video at {cut}/90000");
    }
    // Whole frames, but for the last one, which ends with the last picture.
    let samples = audio.samples();
    let (last, whole) = samples.split_last().unwrap();
    assert!(whole.iter().all(|(s, _)| s.duration == 1024 && s.sync));
    let end = (video.times().last().unwrap() + 3000) * i64::from(audio.init.timescale) / 90_000;
    assert!(last.0.duration <= 1024 && last.0.pts + last.0.duration == end, "{last:?} of {end}");
}

/// The source rung's samples are those that ffmpeg writes when it fragments the same file: bytes, sync flags, presentation times.
fn same_as_ffmpeg(source: &Track, clip: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer.mp4");
    let flags = "frag_keyframe+empty_moov+default_base_moof";
    let copy = ["-map", "0:v", "-c", "copy", "-video_track_timescale", "90000", "-movflags", flags];
    tools::ffmpeg(["-i", tools::text(clip)].into_iter().chain(copy).chain([tools::text(&path)]));
    let file = std::fs::read(&path).unwrap();
    let init = Init::read(&file);
    let peer = Segment::read(&file, &init);
    assert_eq!((init.timescale, &init.kind, init.size), (90_000, &source.init.kind, source.init.size));
    assert_eq!(init.configuration, source.init.configuration, "avcC");
    let first = peer.samples.iter().map(|s| s.pts).min().unwrap();
    let theirs: Vec<_> = peer.samples.iter().map(|s| (s.pts - first, s.sync, &file[s.bytes.clone()])).collect();
    let ours = source.samples();
    assert_eq!(ours.len(), theirs.len());
    for (n, ((s, bytes), theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!((s.pts, s.sync, bytes.len()), (theirs.0, theirs.1, theirs.2.len()), "sample {n}");
        assert!(*bytes == theirs.2, "bytes of sample {n}");
    }
}
