//! Is what was stored here copied to the other region in time? Pure.
//!
//! One segment of each stream and minute is followed from the moment at which it is durable until S3 says that it is copied
//! (`x-amz-replication-status`, Amazon S3 user guide, "replication status"). S3 promises 15 minutes for 99.9 % of objects with replication time control;
//! the fleet's RPO is 30.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{ObjectKey, StreamId};

/// Of each stream, one segment is followed in so much time.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);

/// The first question comes so late: most objects are copied within half a minute.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The longest time between two questions for one segment.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Something is wrong: two thirds of what S3 promises have passed.
pub const ALARM: Duration = Duration::from_secs(600);

/// The fleet's RPO is not held.
pub const BREACH: Duration = Duration::from_secs(1800);

/// Segments that are followed at once: 30 minutes of 25 streams and as many again. With more, new ones are not taken up.
const MAX_FOLLOWED: usize = 1500;

/// Questions under way at once.
const AT_ONCE: usize = 4;

/// Bounds of the histogram, seconds: S3's usual, the alarm, S3's promise, the breach.
pub const BOUNDS: [u64; 9] = [5, 15, 30, 60, 120, 300, 600, 900, 1800];

/// What S3 says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not everywhere yet.
    Pending,
    /// It is in every destination.
    Completed,
    /// It will not be.
    Failed,
    /// No rule covers it.
    Untracked,
}

/// How replication stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing was followed to its end yet.
    Unknown,
    /// In time.
    Ok,
    /// A segment is late by [`ALARM`], was refused, or is covered by no rule.
    Alarm,
    /// A segment is late by [`BREACH`].
    Breach,
}

impl State {
    /// For people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Alarm => "alarm",
            Self::Breach => "breach",
        }
    }
}

/// For metrics and the status page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Seconds to `COMPLETED` of all samples so far, by [`BOUNDS`] and above.
    pub histogram: [u64; BOUNDS.len() + 1],
    /// Their sum, milliseconds.
    pub total_millis: u64,
    /// Samples that S3 gave up.
    pub failed: u64,
    /// Samples that no rule covers.
    pub untracked: u64,
    /// Age of the oldest sample that is not copied yet.
    pub oldest: Option<Duration>,
    /// [`State`], for each of [`State::as_str`].
    pub state: &'static str,
    /// Per stream: what the other region would not have if this one were gone now. At most: what was stored since the newest sample that is known to
    /// be there.
    pub behind: Vec<(StreamId, Duration)>,
}

#[derive(Debug)]
struct Sample {
    stream: StreamId,
    key: ObjectKey,
    stored: Duration,
    next: Duration,
    asked: u32,
    under_way: bool,
}

#[derive(Debug)]
struct Watch {
    /// When a segment was taken up last.
    sampled: Option<Duration>,
    /// When the newest segment was stored that is known to be copied; at first, when the stream came.
    copied: Duration,
    /// The newest segment of all.
    newest: Duration,
    ended: bool,
    /// The last sample was not copied and will not be.
    refused: bool,
}

/// Follows samples.
#[derive(Debug, Default)]
pub struct Sampler {
    streams: BTreeMap<StreamId, Watch>,
    samples: BTreeMap<u64, Sample>,
    next_id: u64,
    histogram: [u64; BOUNDS.len() + 1],
    total_millis: u64,
    completed: u64,
    failed: u64,
    untracked: u64,
}

impl Sampler {
    /// A segment is durable. Only those of a replicated class count.
    pub fn stored(&mut self, stream: &StreamId, key: &ObjectKey, now: Duration) {
        let replicated = key.as_str().starts_with("seg/r") && key.as_str().ends_with(".m4s");
        if !replicated {
            return;
        }
        let first = Watch { sampled: None, copied: now, newest: now, ended: false, refused: false };
        let watch = self.streams.entry(stream.clone()).or_insert(first);
        watch.newest = now;
        watch.ended = false;
        let due = watch.sampled.is_none_or(|at| now >= at + SAMPLE_EVERY);
        if due && self.samples.len() < MAX_FOLLOWED {
            watch.sampled = Some(now);
            let (stream, key) = (stream.clone(), key.clone());
            let sample = Sample { stream, key, stored: now, next: now + FIRST_WAIT, asked: 0, under_way: false };
            self.samples.insert(self.next_id, sample);
            self.next_id += 1;
        }
    }

    /// The stream is over here; what is followed of it is followed to its end.
    pub fn ended(&mut self, stream: &StreamId) {
        if let Some(watch) = self.streams.get_mut(stream) {
            watch.ended = true;
        }
        self.forget();
    }

    fn forget(&mut self) {
        let samples = &self.samples;
        self.streams.retain(|id, w| !w.ended || samples.values().any(|s| s.stream == *id));
    }

    /// Whose status to ask for now.
    pub fn poll(&mut self, now: Duration) -> Option<(u64, ObjectKey)> {
        if self.samples.values().filter(|s| s.under_way).count() >= AT_ONCE {
            return None;
        }
        let (id, sample) = self.samples.iter_mut().find(|(_, s)| !s.under_way && s.next <= now)?;
        sample.under_way = true;
        Some((*id, sample.key.clone()))
    }

    /// When [`Sampler::poll`] has something to give.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let mut under_way = self.samples.values().filter(|s| s.under_way);
        if under_way.nth(AT_ONCE - 1).is_some() {
            return None;
        }
        self.samples.values().filter(|s| !s.under_way).map(|s| s.next).min()
    }

    /// What S3 said; `None` when it did not answer.
    pub fn answered(&mut self, id: u64, status: Option<Status>, now: Duration) {
        let Some(sample) = self.samples.get_mut(&id) else { return };
        sample.under_way = false;
        match status {
            None | Some(Status::Pending) => {
                sample.asked = sample.asked.saturating_add(1);
                sample.next = now + FIRST_WAIT.saturating_mul(1 << sample.asked.min(8)).min(LONGEST_WAIT);
                return;
            }
            Some(Status::Completed) => {
                let took = now.saturating_sub(sample.stored);
                let bucket = BOUNDS.iter().position(|&b| took <= Duration::from_secs(b)).unwrap_or(BOUNDS.len());
                if let Some(count) = self.histogram.get_mut(bucket) {
                    *count += 1;
                }
                self.completed += 1;
                self.total_millis = self.total_millis.saturating_add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            }
            Some(Status::Failed) => self.failed += 1,
            Some(Status::Untracked) => self.untracked += 1,
        }
        let Some(sample) = self.samples.remove(&id) else { return };
        if let Some(watch) = self.streams.get_mut(&sample.stream) {
            watch.refused = status != Some(Status::Completed);
            if status == Some(Status::Completed) {
                watch.copied = watch.copied.max(sample.stored);
            }
        }
        self.forget();
    }

    /// How it stands.
    pub fn state(&self, now: Duration) -> State {
        let oldest = self.oldest(now).unwrap_or_default();
        if oldest >= BREACH {
            State::Breach
        } else if oldest >= ALARM || self.streams.values().any(|w| w.refused) {
            State::Alarm
        } else if self.completed == 0 {
            State::Unknown
        } else {
            State::Ok
        }
    }

    fn oldest(&self, now: Duration) -> Option<Duration> {
        self.samples.values().map(|s| now.saturating_sub(s.stored)).max()
    }

    /// All of it.
    pub fn summary(&self, now: Duration) -> Summary {
        let behind = |(id, w): (&StreamId, &Watch)| (id.clone(), if w.ended { w.newest } else { now }.saturating_sub(w.copied));
        Summary {
            histogram: self.histogram,
            total_millis: self.total_millis,
            failed: self.failed,
            untracked: self.untracked,
            oldest: self.oldest(now),
            state: self.state(now).as_str(),
            behind: self.streams.iter().map(behind).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn key(class: &str, n: u64) -> ObjectKey {
        ObjectKey::parse(&format!("seg/{class}/1/eu/demo/s/1/src/{n}.m4s")).unwrap()
    }

    fn stream(name: &str) -> StreamId {
        name.parse().unwrap()
    }

    #[test]
    fn one_segment_a_minute_is_followed_until_it_is_copied() {
        let mut s = Sampler::default();
        for n in 0..60 {
            s.stored(&stream("a"), &key("rw", n), at(2 * n));
        }
        s.stored(&stream("a"), &key("lw", 60), at(120));
        assert_eq!(s.samples.len(), 2);
        assert_eq!(s.poll_timeout(), Some(at(5)));
        assert_eq!(s.poll(at(4)), None);
        let (id, first) = s.poll(at(5)).unwrap();
        assert_eq!(first, key("rw", 0));
        s.answered(id, Some(Status::Pending), at(5));
        assert_eq!(s.poll_timeout(), Some(at(15)), "twice as long");
        let (id, _) = s.poll(at(15)).unwrap();
        s.answered(id, None, at(15));
        assert_eq!(s.poll_timeout(), Some(at(35)));
        assert_eq!(s.state(at(35)), State::Unknown);
        let (id, _) = s.poll(at(35)).unwrap();
        s.answered(id, Some(Status::Completed), at(36));
        let summary = s.summary(at(120));
        assert_eq!((summary.histogram[3], summary.total_millis, summary.state), (1, 36_000, "ok"));
        assert_eq!(summary.behind, [(stream("a"), at(120))], "what came after the first segment is not known to be copied");
        let (id, _) = s.poll(at(120)).unwrap();
        s.answered(id, Some(Status::Completed), at(121));
        assert_eq!(s.summary(at(121)).behind, [(stream("a"), at(61))]);
    }

    #[test]
    fn late_refused_and_uncovered_segments_are_told_apart() {
        let mut s = Sampler::default();
        s.stored(&stream("a"), &key("rk", 0), at(0));
        assert_eq!(s.state(at(599)), State::Unknown);
        assert_eq!(s.state(at(600)), State::Alarm);
        assert_eq!(s.state(at(1800)), State::Breach);
        let (id, _) = s.poll(at(1800)).unwrap();
        s.answered(id, Some(Status::Failed), at(1800));
        assert_eq!((s.state(at(1800)), s.summary(at(1800)).failed), (State::Alarm, 1));
        s.stored(&stream("a"), &key("rk", 1), at(1801));
        let (id, _) = s.poll(at(1806)).unwrap();
        s.answered(id, Some(Status::Untracked), at(1806));
        assert_eq!((s.state(at(1806)), s.summary(at(1806)).untracked), (State::Alarm, 1));
        s.stored(&stream("a"), &key("rk", 2), at(1900));
        let (id, _) = s.poll(at(1905)).unwrap();
        s.answered(id, Some(Status::Completed), at(1905));
        assert_eq!(s.state(at(1905)), State::Ok);
    }

    #[test]
    fn a_stream_that_ended_is_followed_to_its_end_and_then_forgotten() {
        let mut s = Sampler::default();
        s.stored(&stream("a"), &key("rw", 0), at(0));
        s.ended(&stream("a"));
        assert_eq!(s.summary(at(100)).behind, [(stream("a"), at(0))], "nothing more is made, so nothing more is lost");
        let (id, _) = s.poll(at(100)).unwrap();
        s.answered(id, Some(Status::Completed), at(100));
        assert!(s.streams.is_empty() && s.samples.is_empty());
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_every_sample_is_asked_for_again(
            events in prop::collection::vec((0u8..6, 0u64..90, 0usize..4), 1..300),
        ) {
            let mut s = Sampler::default();
            let mut now = Duration::ZERO;
            let mut open: Vec<u64> = Vec::new();
            for (what, wait, which) in events {
                now += at(wait);
                let id = stream(["a", "b", "c", "d"][which]);
                match what {
                    0 | 1 => s.stored(&id, &key("rw", now.as_secs()), now),
                    2 => s.ended(&id),
                    3 => open.extend(s.poll(now).map(|(id, _)| id)),
                    4 => if let Some(id) = open.pop() { s.answered(id, Some(Status::Pending), now) },
                    _ => if let Some(id) = open.pop() { s.answered(id, Some(Status::Completed), now) },
                }
                prop_assert!(open.len() <= AT_ONCE);
                prop_assert!(s.samples.len() <= MAX_FOLLOWED);
                // Nothing that waits is left without a deadline, unless enough questions are open.
                let waits = s.samples.values().any(|x| !x.under_way);
                prop_assert_eq!(s.poll_timeout().is_some(), waits && open.len() < AT_ONCE);
                prop_assert!(s.streams.len() <= 4);
            }
            for id in ["a", "b", "c", "d"] {
                s.ended(&stream(id));
            }
            for id in open {
                s.answered(id, Some(Status::Completed), now);
            }
            while let Some(next) = s.poll_timeout() {
                now = now.max(next);
                let (id, _) = s.poll(now).unwrap();
                s.answered(id, Some(Status::Completed), now);
            }
            prop_assert!(s.streams.is_empty() && s.samples.is_empty());
        }
    }
}
