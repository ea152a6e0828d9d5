//! A session whose source changes: runs of as many segments each, one behind the other in the same playlists.

use std::sync::Arc;

use super::clip::Clip;
use super::decode;
use super::flv::{self, Sets};
use super::publisher::Publisher;
use super::track::Track;
use super::watch::{Seen, Watch};
use super::worker::Worker;

/// 1024 samples at 44.1 kHz.
const FRAME_MILLIS: i64 = 24;

/// The segments of the `n`-th run on one track.
pub fn run(seen: &Seen, track: &str, n: u64, each: u64) -> Track {
    let listed = seen.tracks[track].segments.iter().filter(|s| (n * each..(n + 1) * each).contains(&s.number));
    let listed: Vec<_> = listed.cloned().collect();
    assert_eq!(listed.len() as u64, each, "{track}");
    assert!(listed.iter().all(|s| !s.gap), "{track}: {listed:?}");
    Track::new(seen, track, listed)
}

/// Numbers without a hole, a break on all tracks in front of each run's first segment and nowhere else, a wall clock that goes on, a Period for each.
pub fn went_on(seen: &Seen, runs: u64, each: u64) {
    let expected: Vec<u64> = (1..runs).map(|n| n * each).collect();
    for (name, media) in &seen.tracks {
        let numbers: Vec<u64> = media.segments.iter().map(|s| s.number).collect();
        assert_eq!(numbers, (0..runs * each).collect::<Vec<_>>(), "{name}");
        let breaks: Vec<u64> = media.segments.iter().filter(|s| s.discontinuity).map(|s| s.number).collect();
        assert_eq!(breaks, expected, "{name}: rules.md 2 and 7");
        assert!(media.segments.iter().all(|s| s.micros.div_ceil(1_000_000) <= media.target_duration + 1), "{name}");
        // Dates are the cuts'; audio ends up to a frame behind them (rules.md 6). Dates and lengths are rounded to milliseconds.
        let behind = if name == "audio" { FRAME_MILLIS } else { 0 };
        for pair in media.segments.windows(2) {
            let end = pair[0].date + pair[0].micros as i64 / 1000;
            assert!(pair[1].date >= end - behind - 1, "{name}: the date of segment {}", pair[1].number);
        }
    }
    let mpd = seen.mpd.as_ref().unwrap();
    assert_eq!(mpd.periods.len() as u64, runs, "rules.md 7");
    for pair in mpd.periods.windows(2) {
        assert!(pair[1].start >= pair[0].start + pair[0].duration.expect("Period@duration"));
    }
}

/// Clips of 4 s with an IDR every 2 s, sent over one connection that is not cut. Each has other parameter sets than the one before it, which `sets` says how
/// the worker is told of. The better rung has the source's size.
pub fn over_one_connection(worker: &Arc<Worker>, stream: &str, rungs: [&str; 2], clips: &[Clip], sets: Sets) {
    const EACH: u64 = 2;
    let folder = tempfile::tempdir().unwrap();
    let file = flv::joined(folder.path(), clips, sets);
    let watch = Watch::start(worker, stream);
    Publisher::start(&file, worker, stream).finish();
    let status = worker.stream(stream).expect("alive for the grace of a second");
    let seen = watch.finish();
    let of = |key: &str| status[key].as_u64();
    assert_eq!(
        (of("discontinuities"), of("codec_restarts"), of("gaps")),
        (Some(clips.len() as u64 - 1), Some(0), Some(0)),
        "{status}"
    );
    let field = format!("stream={stream}");
    let accepted = worker.log().iter().filter(|l| l.contains("publishing") && l.contains(&field)).count();
    assert_eq!(accepted, 1, "{:#?}", worker.log());

    went_on(&seen, clips.len() as u64, EACH);
    assert_eq!(seen.rungs(), rungs);
    let mut before = None;
    for (n, clip) in (0..).zip(clips) {
        let [source, encoded, audio] = [rungs[0], rungs[1], "audio"].map(|track| run(&seen, track, n, EACH));
        for track in [&source, &encoded] {
            track.check();
            assert_eq!(decode::brightness(track).len(), clip.frames(), "{stream}: run {n} of {}", track.name);
        }
        audio.check();
        assert_eq!((source.init.size, source.init.kind.as_str()), ((clip.width, clip.height), "avc1"), "{stream}: run {n}");
        assert_eq!(source.starts(), encoded.starts(), "{stream}: run {n} is aligned to the tick");
        assert_eq!(source.times(), encoded.times(), "{stream}: every picture of run {n}, at the source's time");
        let init = source.listed[0].init.clone();
        assert!(source.listed.iter().all(|l| l.init == init), "{stream}: run {n}");
        assert!(rungs[0] != "src" || init != before, "{stream}: run {n} has an init segment of its own");
        before = init;
    }
}
