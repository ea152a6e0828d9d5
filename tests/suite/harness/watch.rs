//! Reads all manifests of a stream ten times a second as players do, and holds every promise that spans several reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::manifest::{self, Listed, Media, Mpd, Variant};
use super::worker::Worker;
use super::{GUARD, until};

const EVERY: Duration = Duration::from_millis(100);

/// What was seen of a stream, from the first playlist to the last.
#[derive(Default)]
pub struct Seen {
    /// When the first multivariant playlist was there.
    pub first: Option<Instant>,
    pub polls: u32,
    pub variants: Vec<Variant>,
    /// The newest state of each track.
    pub tracks: BTreeMap<String, Media>,
    /// Every segment that was ever listed.
    pub listed: BTreeMap<(String, u64), Listed>,
    /// Every object that was ever listed, as first read.
    pub objects: BTreeMap<String, Vec<u8>>,
    pub mpd: Option<Mpd>,
    /// Objects that were asked for in this poll.
    asked: BTreeSet<String>,
}

impl Seen {
    /// The tracks that are video, best first.
    pub fn rungs(&self) -> Vec<&str> {
        self.variants.iter().filter(|v| v.attributes.contains_key("RESOLUTION")).map(|v| v.name.as_str()).collect()
    }

    /// All is over: every playlist and the MPD say so.
    fn ended(&self) -> bool {
        !self.tracks.is_empty() && self.tracks.values().all(|t| t.ended) && self.mpd.as_ref().is_some_and(|m| !m.dynamic)
    }

    fn poll(&mut self, worker: &Worker, stream: &str) {
        let index = worker.get(&manifest::index_path(stream));
        if index.status == 404 && self.first.is_none() {
            return;
        }
        assert_eq!(index.status, 200, "the multivariant playlist went away");
        self.first.get_or_insert_with(Instant::now);
        self.polls += 1;
        self.asked.clear();
        let variants = manifest::multivariant(&manifest::index_path(stream), &index.text());
        let names = |v: &[Variant]| v.iter().map(|v| v.name.clone()).collect::<Vec<_>>();
        assert!(self.variants.is_empty() || names(&self.variants) == names(&variants), "rules.md 1: the rung set is fixed");
        self.variants = variants;
        for variant in self.variants.clone() {
            let media = manifest::media(worker, &variant);
            self.media(&variant.name, &media);
            for listed in media.media() {
                self.there(worker, listed.init.as_ref().expect("EXT-X-MAP in front of the first segment"));
                self.there(worker, &listed.path);
            }
            self.tracks.insert(variant.name, media);
        }
        let answer = worker.get(&manifest::mpd_path(stream));
        if answer.status == 404 && self.mpd.is_none() {
            return;
        }
        assert_eq!(answer.status, 200, "the MPD went away");
        let mpd = Mpd::read(&manifest::mpd_path(stream), &answer.text());
        for r in mpd.periods.iter().flat_map(|p| &p.representations) {
            self.there(worker, &r.init);
            r.segments.iter().for_each(|(_, _, path)| self.there(worker, path));
        }
        self.mpd = Some(mpd);
    }

    /// A playlist against the one before, and against what was ever listed.
    fn media(&mut self, track: &str, media: &Media) {
        assert!(!media.segments.is_empty(), "{track}: an empty playlist");
        if let Some(before) = self.tracks.get(track) {
            assert_eq!(media.target_duration, before.target_duration, "{track}: rules.md 3");
            assert!(media.sequence >= before.sequence, "{track}: media sequence went back");
            assert!(media.discontinuity_sequence >= before.discontinuity_sequence, "{track}");
            let next = |m: &Media| m.sequence + m.segments.len() as u64;
            assert!(next(media) >= next(before), "{track}: a segment at the end was taken back");
            assert!(!before.ended || media.ended, "{track}: ENDLIST was taken back");
        }
        for pair in media.segments.windows(2) {
            assert!(pair[0].date < pair[1].date, "{track}: EXT-X-PROGRAM-DATE-TIME {pair:?}");
        }
        for listed in &media.segments {
            let known = self.listed.entry((track.to_owned(), listed.number)).or_insert_with(|| listed.clone());
            assert_eq!(known, listed, "{track}: a listed segment changed");
            let rounded = (listed.micros + 500_000) / 1_000_000;
            assert!(rounded <= media.target_duration, "{track}: {listed:?} is longer than EXT-X-TARGETDURATION");
        }
    }

    /// A listed object exists at this moment. It is read once, and keeps its length; [`Watch::finish`] compares the bytes once more.
    fn there(&mut self, worker: &Worker, path: &str) {
        if !self.asked.insert(path.to_owned()) {
            return;
        }
        if let Some(bytes) = self.objects.get(path) {
            let head = worker.head(path);
            assert_eq!((head.status, head.length), (200, Some(bytes.len() as u64)), "{path} is listed");
            return;
        }
        let answer = worker.get(path);
        assert_eq!(answer.status, 200, "{path} is listed");
        self.objects.insert(path.to_owned(), answer.body);
    }
}

/// The reader at work.
pub struct Watch {
    worker: Arc<Worker>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// From before the first playlist to the last.
    pub fn start(worker: &Arc<Worker>, stream: &str) -> Self {
        let (server, stream) = (Arc::clone(worker), stream.to_owned());
        let thread = std::thread::spawn(move || {
            let end = Instant::now() + GUARD;
            let mut seen = Seen::default();
            while !seen.ended() {
                let next = Instant::now() + EVERY;
                seen.poll(&server, &stream);
                assert!(Instant::now() < end, "{stream}: not over after {GUARD:?}");
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            seen
        });
        Self { worker: Arc::clone(worker), thread }
    }

    /// Waits for the end of a stream that fits into its window. Every object must still be what it was when it was first listed.
    pub fn finish(self) -> Seen {
        let worker = Arc::clone(&self.worker);
        let seen = self.finish_sliding();
        for (path, bytes) in &seen.objects {
            assert!(worker.get(path).body == *bytes, "{path} changed");
        }
        seen
    }

    /// Waits for the end of a stream whose first objects may be gone by then.
    pub fn finish_sliding(self) -> Seen {
        let thread = self.thread;
        until("the end of the stream in all manifests", || thread.is_finished().then_some(()));
        thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
    }
}
