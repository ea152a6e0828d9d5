//! The live window of one session: which segments exist, which are named by the playlists, which have left.
//!
//! Decides when a row of segments (one per track, same number) may be named (rules.md 2, 4 and the design's "Order of publishing"),
//! what is a gap, and what leaves the window. Does not know how a playlist is written ([`super::render`]), where
//! objects are stored, or what time it is: `now` is time since the worker's start.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dating::MAX_PERIOD_ERROR;
use super::model::{AudioFormat, Coding, ObjectKey, SessionId, TrackName, VideoFormat};
use super::services::Services;
use super::time::{MediaTime, Timescale, UnixMillis};

/// What a track carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

    /// How its pictures are coded; `None` for audio.
    pub fn coding(&self) -> Option<Coding> {
        match self {
            Self::Video(v) => Some(v.coding()),
            Self::Audio(_) => None,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Rows of one era form one DASH Period: a discontinuity begins the next one, and so do dates that have moved (rules.md 11).
    pub era: u32,
    /// Its date is that of its start, by the anchor, and this: see [`super::dating`].
    pub shift: MediaTime,
    /// Per track, in the order of [`Snapshot::tracks`].
    pub slots: Vec<Slot>,
}

/// Fills the slots of rungs that are not produced: with the next lower rung's segment, or, of the lowest, with the next better one's (rules.md 1).
/// Of another coding than all others, a rung has a gap.
pub(super) fn lend(slots: &mut [Slot], borrowed: &[usize], tracks: &[Track]) {
    for &track in borrowed {
        // Players that chose a coding decode no other.
        let coding = tracks.get(track).and_then(|t| t.format.coding());
        let produced = |i: &usize| {
            let like = tracks.get(*i).is_some_and(|t| t.format.coding().is_some() && t.format.coding() == coding);
            like && !borrowed.contains(i)
        };
        let lender = (track + 1..slots.len()).find(produced).or_else(|| (0..track.min(slots.len())).rfind(produced));
        if let (Some(lent), Some(slot)) = (lender.and_then(|i| slots.get(i)).cloned(), slots.get_mut(track)) {
            *slot = lent;
        }
    }
}

/// How long a segment plays.
fn own_duration(start: MediaTime, end: MediaTime) -> Duration {
    (end - start).positive()
}

impl Row {
    /// EXT-X-PROGRAM-DATE-TIME. `anchor`: [`Snapshot::anchor`].
    pub fn date(&self, anchor: UnixMillis) -> UnixMillis {
        anchor.plus(self.start + self.shift)
    }

    /// Its longest EXTINF in seconds, rounded to the nearest: what EXT-X-TARGETDURATION must not be below (RFC 8216bis, 4.4.3.1).
    pub fn rounded_seconds(&self) -> u32 {
        let round =
            |ticks: i64, scale: Timescale| (ticks.max(0).unsigned_abs() + u64::from(scale.hz()) / 2) / u64::from(scale.hz());
        let segments = self.slots.iter().map(|slot| match slot {
            Slot::Media(m) => round(m.duration, m.init.format.timescale()),
            Slot::Gap => round((self.end - self.start).0, Timescale::VIDEO),
        });
        u32::try_from(segments.max().unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// What one DASH Period is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "EraForm", into = "EraForm")]
pub struct Era {
    /// Counts from 0.
    pub number: u32,
    /// Media time at which it begins.
    pub start: MediaTime,
    /// [`Row::shift`] of the row that began it.
    pub shift: MediaTime,
}

/// As it is written down: without a shift that is 0, which earlier versions did not know.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum EraForm {
    Shifted(u32, MediaTime, MediaTime),
    Plain(u32, MediaTime),
}

impl From<EraForm> for Era {
    fn from(form: EraForm) -> Self {
        match form {
            EraForm::Shifted(number, start, shift) => Self { number, start, shift },
            EraForm::Plain(number, start) => Self { number, start, shift: MediaTime::ZERO },
        }
    }
}

impl From<Era> for EraForm {
    fn from(era: Era) -> Self {
        match era.shift {
            MediaTime::ZERO => Self::Plain(era.number, era.start),
            shift => Self::Shifted(era.number, era.start, shift),
        }
    }
}

/// A track as manifests announce it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Wall clock of media time 0, where no shift says otherwise.
    pub anchor: UnixMillis,
    /// The eras that rows of this snapshot belong to, ascending.
    pub eras: Vec<Era>,
    /// EXT-X-DISCONTINUITY-SEQUENCE: how many rows with a discontinuity have left the window.
    pub discontinuity_sequence: u64,
    /// Rungs from the best to the lowest, then the audio rendition.
    pub tracks: Vec<Track>,
    /// Closed captions that the source was seen to have (rules.md 10).
    pub captions: Services,
    /// The window, oldest first. Never empty.
    pub rows: Vec<Row>,
    /// The session is over: EXT-X-ENDLIST, static MPD.
    pub ended: bool,
    /// All of a session and not its window: EXT-X-PLAYLIST-TYPE:VOD, and an MPD that begins at 0 and has no wall clock (rules.md 17).
    pub recorded: bool,
}

/// How long rows stay, and how long they wait for a late track.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// EXT-X-TARGETDURATION, seconds (rules.md 3).
    pub target_duration: u32,
    /// Shortest window; never under 3 x target duration + 2 segments, see [`Window::new`].
    pub window: MediaTime,
    /// Rows wait this long for tracks that are not ready while none is named yet (a codec process starts), later ones only their own duration.
    pub first_row_wait: Duration,
}

#[derive(Debug)]
struct Pending {
    row: u64,
    start: MediaTime,
    end: Option<MediaTime>,
    discontinuity: bool,
    shift: MediaTime,
    /// Counted from the moment at which the row was closed.
    deadline: Option<Duration>,
    /// It waits longer than that, for the store.
    late: bool,
    slots: Vec<Option<Slot>>,
    /// Tracks whose segment was made and is on its way to the store.
    made: Vec<usize>,
    /// Tracks whose slot is filled by the next lower rung's when the row is named (rules.md 1).
    borrowed: Vec<usize>,
}

impl Pending {
    /// Nothing has to be made for `track` any more.
    fn has(&self, track: usize) -> bool {
        self.slots.get(track).is_none_or(Option::is_some) || self.borrowed.contains(&track)
    }
}

/// Where a stream's playlists stand when a writer takes over, or when a new session begins behind an ended one (rules.md 18 and 20).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Continuation {
    /// Media sequence number of the next row.
    pub number: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE of the oldest row in `rows`, or of the first new one if there are none.
    pub discontinuity_sequence: u64,
    /// What the playlists list now, oldest first; empty for a new session.
    pub rows: Vec<Row>,
    /// The eras of these rows: see [`Snapshot::eras`].
    pub eras: Vec<Era>,
}

/// What the store can take, as far as it matters to what is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// It takes objects.
    Up,
    /// It takes none: nothing can be named, and nothing is lost for that.
    Down,
}

/// The window itself. Rows are opened and closed by cuts, filled by finished uploads, and named in order.
#[derive(Debug)]
pub struct Window {
    session: SessionId,
    policy: Policy,
    anchor: UnixMillis,
    tracks: Vec<Track>,
    captions: Services,
    published: VecDeque<Row>,
    pending: VecDeque<Pending>,
    eras: Vec<Era>,
    /// Of rows that are opened from now on.
    shift: MediaTime,
    /// Counts rows of this writer, from 0.
    next_number: u64,
    /// Media sequence number of this writer's first row.
    base: u64,
    /// Rows of an earlier writer stand before this one's.
    follows: bool,
    /// Behind an outage: the newest row that was closed by then. All up to it are named in one write (rules.md 19).
    catch_up: Option<u64>,
    /// The row that this waits for: those before it are ready, whatever their deadlines are.
    held_up: Option<u64>,
    was_down: bool,
    /// Added to the deadline of rows that are closed from now on.
    slack: Duration,
    /// Rows that left the window before they could be named.
    skipped: Vec<u64>,
    /// Tracks whose segments had not come when their rows were named.
    unfilled: Vec<usize>,
    /// The number behind the last of them, while none is named.
    after_skip: u64,
    /// Rows with this number or a higher one are named by this call of [`Window::advance`], and no playlist has had them yet.
    fresh_from: u64,
    /// Length of all published rows that are still listed; holes between rows do not count.
    listed: MediaTime,
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
            captions: Services::new(),
            published: VecDeque::new(),
            pending: VecDeque::new(),
            eras: Vec::new(),
            shift: MediaTime::ZERO,
            next_number: 0,
            base: 0,
            follows: false,
            catch_up: None,
            held_up: None,
            was_down: false,
            slack: Duration::ZERO,
            skipped: Vec::new(),
            unfilled: Vec::new(),
            after_skip: 0,
            fresh_from: 0,
            listed: MediaTime::ZERO,
            discontinuity_sequence: 0,
            evicted: Vec::new(),
            totals,
            ended: false,
        }
    }

    /// The same, going on behind what an earlier writer left: media sequence and discontinuity sequence are continued, and this writer's first
    /// row has a discontinuity if there is a row before it (rules.md 7 and 18).
    #[must_use]
    pub fn continued(mut self, from: Continuation) -> Self {
        self.base = from.number;
        self.follows = !from.rows.is_empty();
        self.discontinuity_sequence = from.discontinuity_sequence;
        self.listed = from.rows.iter().fold(MediaTime::ZERO, |sum, r| sum + (r.end - r.start));
        self.eras = from.eras;
        self.published = from.rows.into();
        self
    }

    /// Media sequence number of the next row to be named, and the discontinuities before it: what a continuation begins with.
    pub fn sequences(&self) -> (u64, u64) {
        let listed = self.published.iter().filter(|r| r.discontinuity).count() as u64;
        let number = self.published.back().map_or(self.base.max(self.after_skip), |r| r.number + 1);
        (number, self.discontinuity_sequence + listed)
    }

    /// The eras of rows that are listed: see [`Snapshot::eras`].
    pub fn eras(&self) -> &[Era] {
        &self.eras
    }

    /// Init segments that listed rows need, each once.
    pub fn inits(&self) -> Vec<Arc<Init>> {
        let mut inits: Vec<Arc<Init>> = Vec::new();
        for slot in self.published.iter().flat_map(|r| &r.slots) {
            if let Slot::Media(m) = slot
                && !inits.iter().any(|i| i.key == m.init.key)
            {
                inits.push(Arc::clone(&m.init));
            }
        }
        inits
    }

    /// The tracks, in slot order.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Rows that are opened from now on have this [`Row::shift`].
    pub fn shift(&mut self, shift: MediaTime) {
        self.shift = shift;
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
        self.pending.push_back(Pending {
            row: number,
            start,
            end: None,
            discontinuity,
            shift: self.shift,
            deadline: None,
            late: false,
            slots,
            made: Vec::new(),
            borrowed: Vec::new(),
        });
        true
    }

    /// Rows that are closed from now on wait so much longer for what is being made.
    pub fn allow(&mut self, slack: Duration) {
        self.slack = slack;
    }

    /// The open row ends at `end` (a pause, or the end of the session); does nothing when no row is open.
    pub fn close(&mut self, end: MediaTime, now: Duration) {
        // Until the first row is named, encoders that are still starting hold up all rows alike.
        let first = self.published.is_empty();
        let Some(open) = self.pending.back_mut().filter(|p| p.end.is_none()) else { return };
        let end = end.max(open.start);
        let own = own_duration(open.start, end);
        let wait = if first { own.max(self.policy.first_row_wait) } else { own } + self.slack;
        open.end = Some(end);
        open.deadline = Some(now + wait);
    }

    /// The open row was too short to exist (rules.md 6): its number will be used again. `false` when no row is open.
    pub fn drop_open(&mut self) -> bool {
        if self.open_row().is_none() {
            return false;
        }
        self.pending.pop_back();
        self.next_number -= 1;
        true
    }

    /// The real format of a track that was announced by what its encoder was asked for. Without effect once a playlist was made.
    pub fn describe(&mut self, track: usize, format: Format) {
        if self.published.is_empty()
            && let Some(t) = self.tracks.get_mut(track)
        {
            t.format = format;
        }
    }

    /// Closed captions were seen; what was seen once is announced for the rest of the session. `true` when that is more than before.
    #[must_use]
    pub fn caption(&mut self, seen: &Services) -> bool {
        let known = self.captions.len();
        self.captions.extend(seen);
        self.captions.len() > known
    }

    /// The closed captions that are announced.
    pub fn captions(&self) -> &Services {
        &self.captions
    }

    /// The row that is open now: its number and start.
    pub fn open_row(&self) -> Option<(u64, MediaTime)> {
        self.pending.back().filter(|p| p.end.is_none()).map(|p| (p.row, p.start))
    }

    /// The oldest row for which something still has to be made: its number and start.
    pub fn oldest_unmade(&self) -> Option<(u64, MediaTime)> {
        let unmade = |p: &&Pending| (0..self.tracks.len()).any(|t| !p.has(t) && !p.made.contains(&t));
        self.pending.iter().find(unmade).map(|p| (p.row, p.start))
    }

    /// The segment of row `number` was made and is on its way to the store. `false` when nobody wants it.
    #[must_use]
    pub fn made(&mut self, track: usize, number: u64) -> bool {
        let wanted = self.wants(track, number);
        if let Some(pending) = self.pending.iter_mut().find(|p| p.row == number && wanted) {
            pending.made.push(track);
        }
        wanted
    }

    /// Media time of the newest row that is named, and of the newest that has an end: what lies between would be lost with this process, but
    /// for what is durable.
    pub fn named_until(&self) -> Option<MediaTime> {
        self.published.back().map(|r| r.end)
    }

    /// `true` while row `number` still waits for `track`: a segment for it is worth making and storing.
    pub fn wants(&self, track: usize, number: u64) -> bool {
        let pending = self.pending.iter().find(|p| p.row == number);
        pending.is_some_and(|p| track < p.slots.len() && !p.has(track) && !p.made.contains(&track))
    }

    /// Rows that still wait for `track`.
    pub fn wanting(&self, track: usize) -> Vec<u64> {
        self.pending.iter().map(|p| p.row).filter(|&number| self.wants(track, number)).collect()
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

    /// The rung is not produced in row `number`: it names the next lower produced rung's segment there (rules.md 1), or a gap if there is none.
    pub fn borrow(&mut self, track: usize, number: u64) {
        if let Some(pending) = self.pending.iter_mut().find(|p| p.row == number) {
            pending.borrowed.push(track);
        }
    }

    /// The segment of row `number` will never come. `true` if the row waited for it.
    pub fn lose(&mut self, track: usize, number: u64) -> bool {
        self.fill(track, number, Slot::Gap)
    }

    /// Names every row that is ready, in order, and evicts what has left the window. `true` when the playlists changed.
    ///
    /// A row waits for what is being made until its deadline, and then has gaps. It waits longer for what was made and is `excused`: the store
    /// has not refused it yet, it only stands in a queue. While the store is down nothing is named; afterwards what left the window meanwhile is
    /// skipped and the rest is named in one write (rules.md 19).
    pub fn advance(&mut self, store: Store, excused: &dyn Fn(u64) -> bool, now: Duration) -> bool {
        self.skip();
        self.held_up = None;
        if store == Store::Down {
            self.was_down = true;
            self.excuse_all(now);
            return false;
        }
        if std::mem::take(&mut self.was_down) {
            self.catch_up = self.pending.iter().rev().find(|p| p.end.is_some()).map(|p| p.row);
            self.excuse_all(now);
        }
        if let Some(until) = self.catch_up {
            let backlog = self.pending.iter().take_while(|p| p.row <= until).count();
            self.held_up = (0..backlog).find(|&i| !self.ready(i, excused, now)).map(|i| self.pending[i].row);
            if self.held_up.is_some() {
                return false;
            }
            self.catch_up = None;
        }
        let mut changed = false;
        (self.fresh_from, _) = self.sequences();
        while !self.pending.is_empty() && self.ready(0, excused, now) {
            let Some((front, end)) = self.pending.pop_front().and_then(|p| p.end.map(|end| (p, end))) else { break };
            self.publish(front, end);
            changed = true;
        }
        changed
    }

    /// Row `i` of those that wait can be named. One that is late for want of something excused gets a new deadline.
    fn ready(&mut self, i: usize, excused: &dyn Fn(u64) -> bool, now: Duration) -> bool {
        let tracks = self.tracks.len();
        let Some(row) = self.pending.get_mut(i) else { return false };
        let Some(end) = row.end else { return false };
        if (0..tracks).all(|t| row.has(t)) {
            return true;
        }
        if row.deadline.is_none_or(|d| now < d) {
            return false;
        }
        let made = (0..tracks).any(|t| !row.has(t) && row.made.contains(&t));
        if made && excused(row.row) {
            row.deadline = Some(now + own_duration(row.start, end));
            row.late = true;
            return false;
        }
        true
    }

    /// No deadline that passed during an outage counts.
    fn excuse_all(&mut self, now: Duration) {
        for row in &mut self.pending {
            if let (Some(end), true) = (row.end, row.deadline.is_some_and(|d| d <= now)) {
                row.deadline = Some(now + own_duration(row.start, end));
                row.late = true;
            }
        }
    }

    /// Rows that wait for the store and would leave the window as soon as they are named are not waited for: the recording has them.
    fn skip(&mut self) {
        let closed = self.pending.iter().filter_map(|p| p.end.map(|end| end - p.start));
        let mut behind = closed.fold(MediaTime::ZERO, |sum, length| sum + length);
        while let Some(front) = self.pending.front() {
            let Some(end) = front.end else { return };
            behind = behind - (end - front.start);
            if behind < self.policy.window || !front.late || (0..self.tracks.len()).all(|t| front.has(t)) {
                return;
            }
            let Some(front) = self.pending.pop_front() else { return };
            self.skipped.push(front.row);
            // Both sequences count it. The rows before it leave with it: a playlist has no holes.
            let row = self.row(front, end, true);
            self.after_skip = row.number + 1;
            while let Some(gone) = self.published.pop_front() {
                self.left(gone);
            }
            // What of it was stored already is named by nobody.
            self.left(row);
            self.listed = MediaTime::ZERO;
        }
    }

    /// Rows that were given up since the last call: their segments are wanted by a recording only.
    pub fn take_skipped(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.skipped)
    }

    /// Tracks that have a gap where nothing came in time, since the last call: one for each segment.
    pub fn take_unfilled(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.unfilled)
    }

    fn publish(&mut self, pending: Pending, end: MediaTime) {
        let empty: Vec<usize> = (0..self.tracks.len()).filter(|&t| !pending.has(t)).collect();
        let row = self.row(pending, end, false);
        self.unfilled.extend(empty.into_iter().filter(|&t| row.slots.get(t) == Some(&Slot::Gap)));
        // rules.md 3 promises that no row is longer than declared. If one is after all, EXT-X-TARGETDURATION grows once and stays:
        // RFC 8216bis, 4.4.3.1 lets no EXTINF round to more, and the renderers can not know which rows have left.
        self.policy.target_duration = self.policy.target_duration.max(row.rounded_seconds());
        self.listed = self.listed + (row.end - row.start);
        self.published.push_back(row);
        self.evict();
    }

    /// Makes a row of what waited, in its era.
    fn row(&mut self, pending: Pending, end: MediaTime, skipped: bool) -> Row {
        let first = pending.row == 0;
        let Pending { start, shift, .. } = pending;
        let era = match self.eras.last() {
            None => 0,
            Some(era) if pending.discontinuity || first => era.number + 1,
            Some(era) if (shift - era.shift).0.abs() > MAX_PERIOD_ERROR.0 => era.number + 1,
            Some(era) => era.number,
        };
        if self.eras.last().is_none_or(|last| last.number != era) {
            self.eras.push(Era { number: era, start, shift });
        }
        // Nothing stands in front of a session's first row.
        let discontinuity = if first { self.follows } else { pending.discontinuity };
        let mut slots: Vec<Slot> = pending.slots.into_iter().map(|s| s.unwrap_or(Slot::Gap)).collect();
        let length = end - start;
        for (slot, total) in slots.iter().zip(&mut self.totals) {
            if let (Slot::Media(m), false) = (slot, skipped) {
                *total = (total.0.saturating_add(m.size), total.1 + length);
            }
        }
        lend(&mut slots, &pending.borrowed, &self.tracks);
        Row { number: self.base + pending.row, start, end, discontinuity, era, shift, slots }
    }

    fn evict(&mut self) {
        while let Some(first) = self.published.front() {
            // RFC 8216, 6.2.2: what stays must not be shorter than the window. Durations are added up: behind a pause, the distance
            // between two rows says nothing about how much there is to play.
            let left = self.listed - (first.end - first.start);
            // Nor does a row leave that no playlist has had: many that become ready at once are listed once, though they are more than the window.
            if left < self.policy.window || self.published.len() == 1 || first.number >= self.fresh_from {
                return;
            }
            let Some(gone) = self.published.pop_front() else { return };
            self.listed = left;
            self.left(gone);
        }
    }

    /// A row is listed no more.
    fn left(&mut self, gone: Row) {
        self.discontinuity_sequence += u64::from(gone.discontinuity);
        let mut objects: Vec<ObjectKey> = gone
            .slots
            .into_iter()
            .filter_map(|s| match s {
                Slot::Media(m) => Some(m.key),
                Slot::Gap => None,
            })
            .collect();
        // A rung that is not produced names the next lower one's object (rules.md 1).
        objects.sort();
        objects.dedup();
        self.evicted.extend(objects);
        if let Some(oldest) = self.published.front().map(|r| r.era) {
            self.eras.retain(|era| era.number >= oldest);
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

    /// No row waits to be named.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// EXT-X-TARGETDURATION, seconds.
    pub fn target_duration(&self) -> u32 {
        self.policy.target_duration
    }

    /// The session is over and every row is named.
    pub fn finished(&self) -> bool {
        self.ended && self.pending.is_empty()
    }

    /// When [`Window::advance`] should be called even if nothing happens: the oldest row's wait for late tracks is over.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let next = self.pending.iter().find(|p| self.held_up.is_none_or(|row| p.row == row));
        next.and_then(|p| p.deadline)
    }

    /// What the manifests say now; `None` before the first row.
    pub fn snapshot(&self) -> Option<Snapshot> {
        if self.published.is_empty() {
            return None;
        }
        let mut tracks = self.tracks.clone();
        for (track, &(bytes, length)) in tracks.iter_mut().zip(&self.totals) {
            let ticks = length.0.unsigned_abs();
            if ticks > 0 {
                let average = u128::from(bytes) * 8 * 90_000 / u128::from(ticks);
                track.average_bitrate = Some(u64::try_from(average).unwrap_or(u64::MAX));
            }
        }
        Some(Snapshot {
            session: self.session.clone(),
            target_duration: self.policy.target_duration,
            window: self.policy.window,
            anchor: self.anchor,
            eras: self.eras.clone(),
            discontinuity_sequence: self.discontinuity_sequence,
            tracks,
            captions: self.captions.clone(),
            rows: self.published.iter().cloned().collect(),
            ended: self.finished(),
            recorded: false,
        })
    }
}

#[cfg(test)]
#[path = "playlist_model_tests.rs"]
mod model_tests;

#[cfg(test)]
#[path = "playlist_tests.rs"]
mod tests;
