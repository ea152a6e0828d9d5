//! The live window of one session: which segments exist, which are named by the playlists, which have left.
//!
//! Decides when a row of segments (one per track, same number) may be named (rules.md 2, 4 and the design's "Order of publishing"),
//! what is a gap, and what leaves the window. Does not know how a playlist is written ([`super::render`]), where
//! objects are stored, or what time it is: `now` is time since the worker's start.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::model::{AudioFormat, ObjectKey, SessionId, TrackName, VideoFormat};
use super::time::{MediaTime, Timescale, UnixMillis};

/// What a track carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A rung.
    Video(VideoFormat),
    /// The audio rendition.
    Audio(AudioFormat),
}

impl Format {
    /// Ticks per second of `tfdt`, `trun` and of [`Placed::start`].
    pub fn timescale(&self) -> Timescale {
        match self {
            Self::Video(_) => Timescale::VIDEO,
            Self::Audio(a) => a.rate,
        }
    }

    /// RFC 6381 codec string.
    pub fn codec(&self) -> &str {
        match self {
            Self::Video(v) => &v.codec,
            Self::Audio(a) => &a.codec,
        }
    }
}

/// An init segment in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Where it lies.
    pub key: ObjectKey,
    /// What it describes.
    pub format: Format,
}

/// A media segment that is durable in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Earliest presentation time (= `tfdt`), in ticks of the track's timescale.
    pub start: i64,
    /// Distance to the start of the next segment, in the same ticks.
    pub duration: i64,
    /// Bytes.
    pub size: u64,
    /// Where it lies.
    pub key: ObjectKey,
    /// The init segment that it needs.
    pub init: Arc<Init>,
}

/// One track's part of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A segment.
    Media(Placed),
    /// EXT-X-GAP, for ever: a gap once published stays (rules.md 2).
    Gap,
}

/// One segment number on all tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Media sequence number.
    pub number: u64,
    /// The cut that begins it.
    pub start: MediaTime,
    /// The cut that ends it.
    pub end: MediaTime,
    /// EXT-X-DISCONTINUITY in front of it, on all tracks.
    pub discontinuity: bool,
    /// Counts the discontinuities since the session's start: rows of one era form one DASH Period.
    pub era: u32,
    /// Per track, in the order of [`Snapshot::tracks`].
    pub slots: Vec<Slot>,
}

/// A track as manifests announce it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its name.
    pub name: TrackName,
    /// Its format at the session's first playlist; a later era may differ ([`Placed::init`]).
    pub format: Format,
    /// The ceiling that BANDWIDTH is made of, bits per second of this track alone (rules.md 9).
    pub max_bitrate: u64,
    /// Measured bits per second of this track alone, once known.
    pub average_bitrate: Option<u64>,
}

/// Everything that both manifests are rendered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The session.
    pub session: SessionId,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// The length of the live window.
    pub window: MediaTime,
    /// Wall clock of media time 0.
    pub anchor: UnixMillis,
    /// Media time at which each era begins that a row of this snapshot belongs to: `(era, start)`, ascending.
    pub eras: Vec<(u32, MediaTime)>,
    /// EXT-X-DISCONTINUITY-SEQUENCE: how many rows with a discontinuity have left the window.
    pub discontinuity_sequence: u64,
    /// Rungs from the best to the lowest, then the audio rendition.
    pub tracks: Vec<Track>,
    /// The window, oldest first. Never empty.
    pub rows: Vec<Row>,
    /// The session is over: EXT-X-ENDLIST, static MPD.
    pub ended: bool,
}

/// How long rows stay, and how long they wait for a late track.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// EXT-X-TARGETDURATION, seconds (rules.md 3).
    pub target_duration: u32,
    /// Shortest window; never under 3 x target duration + 2 segments, see [`Window::new`].
    pub window: MediaTime,
    /// The first row waits this long for tracks that are not ready (a codec process starts), later ones only their own duration.
    pub first_row_wait: Duration,
}

#[derive(Debug)]
struct Pending {
    row: u64,
    start: MediaTime,
    end: Option<MediaTime>,
    discontinuity: bool,
    /// Counted from the moment at which the row was closed.
    deadline: Option<Duration>,
    slots: Vec<Option<Slot>>,
}

/// The window itself. Rows are opened and closed by cuts, filled by finished uploads, and named in order.
#[derive(Debug)]
pub struct Window {
    session: SessionId,
    policy: Policy,
    anchor: UnixMillis,
    tracks: Vec<Track>,
    published: VecDeque<Row>,
    pending: VecDeque<Pending>,
    eras: Vec<(u32, MediaTime)>,
    next_number: u64,
    discontinuity_sequence: u64,
    evicted: Vec<ObjectKey>,
    /// Bytes and media time of each track over all published rows.
    totals: Vec<(u64, MediaTime)>,
    ended: bool,
}

impl Window {
    /// An empty window for `tracks` (best rung first, audio last).
    pub fn new(session: SessionId, policy: Policy, anchor: UnixMillis, tracks: Vec<Track>) -> Self {
        // rules.md 3: window >= 3 x target duration + 2 segments, and a segment may be as long as the target duration.
        let least = MediaTime::from_secs(i64::from(policy.target_duration) * 5);
        let policy = Policy { window: policy.window.max(least), ..policy };
        let totals = vec![(0, MediaTime::ZERO); tracks.len()];
        Self {
            session,
            policy,
            anchor,
            tracks,
            published: VecDeque::new(),
            pending: VecDeque::new(),
            eras: Vec::new(),
            next_number: 0,
            discontinuity_sequence: 0,
            evicted: Vec::new(),
            totals,
            ended: false,
        }
    }

    /// The tracks, in slot order.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// A cut: the open row (if any) ends at `start` and row `number` begins there. Numbers must come without holes, from 0;
    /// any other number is a bug of the caller and is refused by returning `false`.
    #[must_use]
    pub fn open(&mut self, number: u64, start: MediaTime, discontinuity: bool, now: Duration) -> bool {
        if number != self.next_number || self.ended {
            return false;
        }
        self.close(start, now);
        self.next_number += 1;
        let slots = vec![None; self.tracks.len()];
        self.pending.push_back(Pending { row: number, start, end: None, discontinuity, deadline: None, slots });
        true
    }

    /// The open row ends at `end` (a pause, or the end of the session); does nothing when no row is open.
    pub fn close(&mut self, end: MediaTime, now: Duration) {
        let first = self.published.is_empty() && self.pending.len() == 1;
        let Some(open) = self.pending.back_mut().filter(|p| p.end.is_none()) else { return };
        let end = end.max(open.start);
        let own = Duration::from_millis((end - open.start).millis().max(0).unsigned_abs());
        let wait = if first { own.max(self.policy.first_row_wait) } else { own };
        open.end = Some(end);
        open.deadline = Some(now + wait);
    }

    /// The row that is open now: its number and start.
    pub fn open_row(&self) -> Option<(u64, MediaTime)> {
        self.pending.back().filter(|p| p.end.is_none()).map(|p| (p.row, p.start))
    }

    /// The oldest row that is not named yet: its number and start.
    pub fn oldest_pending(&self) -> Option<(u64, MediaTime)> {
        self.pending.front().map(|p| (p.row, p.start))
    }

    /// `true` while row `number` still waits for `track`: a segment for it is worth making and storing.
    pub fn wants(&self, track: usize, number: u64) -> bool {
        self.slot(track, number).is_some_and(|s| s.is_none())
    }

    fn slot(&self, track: usize, number: u64) -> Option<&Option<Slot>> {
        self.pending.iter().find(|p| p.row == number)?.slots.get(track)
    }

    fn fill(&mut self, track: usize, number: u64, slot: Slot) -> bool {
        let Some(pending) = self.pending.iter_mut().find(|p| p.row == number) else { return false };
        match pending.slots.get_mut(track) {
            Some(empty @ None) => {
                *empty = Some(slot);
                true
            }
            _ => false,
        }
    }

    /// A segment of row `number` is durable. `false` when it came too late or twice: the object is nobody's and may be deleted.
    #[must_use]
    pub fn place(&mut self, track: usize, number: u64, placed: Placed) -> bool {
        self.fill(track, number, Slot::Media(placed))
    }

    /// The segment of row `number` will never come.
    pub fn lose(&mut self, track: usize, number: u64) {
        self.fill(track, number, Slot::Gap);
    }

    /// Names every row that is ready, in order, and evicts what has left the window. `true` when the playlists changed.
    pub fn advance(&mut self, now: Duration) -> bool {
        let mut changed = false;
        while let Some(front) = self.pending.front() {
            let Some(end) = front.end else { break };
            let complete = front.slots.iter().all(Option::is_some);
            let late = front.deadline.is_some_and(|d| d <= now);
            if !complete && !late {
                break;
            }
            let Some(front) = self.pending.pop_front() else { break };
            self.publish(front, end);
            changed = true;
        }
        changed
    }

    fn publish(&mut self, pending: Pending, end: MediaTime) {
        let era = match self.eras.last() {
            None => 0,
            Some(&(era, _)) if pending.discontinuity => era + 1,
            Some(&(era, _)) => era,
        };
        if self.eras.last().is_none_or(|&(last, _)| last != era) {
            self.eras.push((era, pending.start));
        }
        // Nothing stands in front of a session's first row.
        let discontinuity = pending.discontinuity && pending.row != 0;
        let slots: Vec<Slot> = pending.slots.into_iter().map(|s| s.unwrap_or(Slot::Gap)).collect();
        let length = end - pending.start;
        for (slot, total) in slots.iter().zip(&mut self.totals) {
            if let Slot::Media(m) = slot {
                *total = (total.0.saturating_add(m.size), total.1 + length);
            }
        }
        self.published.push_back(Row { number: pending.row, start: pending.start, end, discontinuity, era, slots });
        self.evict();
    }

    fn evict(&mut self) {
        while let (Some(first), Some(last)) = (self.published.front(), self.published.back()) {
            // RFC 8216, 6.2.2: what stays must not be shorter than the window.
            if last.end - first.end < self.policy.window {
                return;
            }
            let Some(gone) = self.published.pop_front() else { return };
            self.discontinuity_sequence += u64::from(gone.discontinuity);
            let objects = gone.slots.into_iter().filter_map(|s| match s {
                Slot::Media(m) => Some(m.key),
                Slot::Gap => None,
            });
            self.evicted.extend(objects);
            if let Some(oldest) = self.published.front().map(|r| r.era) {
                self.eras.retain(|&(era, _)| era >= oldest);
            }
        }
    }

    /// Objects that no playlist of the next [`Window::snapshot`] names any more. Each is returned once.
    pub fn take_evicted(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.evicted)
    }

    /// The session is over: the open row ends at `end`, and no more rows follow. Rows that still wait keep their deadlines.
    pub fn end(&mut self, end: MediaTime, now: Duration) {
        self.close(end, now);
        if self.pending.back().is_some_and(|p| p.end == Some(p.start)) {
            self.pending.pop_back();
        }
        self.ended = true;
    }

    /// The session is over and every row is named.
    pub fn finished(&self) -> bool {
        self.ended && self.pending.is_empty()
    }

    /// When [`Window::advance`] should be called even if nothing happens: the oldest row's wait for late tracks is over.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.pending.front().and_then(|p| p.deadline)
    }

    /// What the manifests say now; `None` before the first row.
    pub fn snapshot(&self) -> Option<Snapshot> {
        if self.published.is_empty() {
            return None;
        }
        let mut tracks = self.tracks.clone();
        for (track, &(bytes, length)) in tracks.iter_mut().zip(&self.totals) {
            let ticks = length.0.unsigned_abs();
            track.average_bitrate =
                (ticks > 0).then(|| u64::try_from(u128::from(bytes) * 8 * 90_000 / u128::from(ticks)).unwrap_or(u64::MAX));
        }
        Some(Snapshot {
            session: self.session.clone(),
            target_duration: self.policy.target_duration,
            window: self.policy.window,
            anchor: self.anchor,
            eras: self.eras.clone(),
            discontinuity_sequence: self.discontinuity_sequence,
            tracks,
            rows: self.published.iter().cloned().collect(),
            ended: self.finished(),
        })
    }
}
