//! In which order the store sees things: an init segment, the segments that need it, the manifests that name them, and deletions last.
//!
//! Pure. One write of manifests is under way at a time; changes in between are coalesced into the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::Now;
use crate::logic::model::{Keys, ObjectKey, SessionId};
use crate::logic::playlist::{Placed, Snapshot, Window};
use crate::logic::render::{dash, hls};

/// Objects to store, in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct Put {
    /// For [`super::Stream::stored`].
    pub id: u64,
    /// Keys and contents.
    pub objects: Vec<(ObjectKey, Bytes)>,
}

/// What may happen behind a write of manifests.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// These objects are named by no playlist any more.
    Delete {
        /// From now.
        after: Duration,
        /// Keys.
        keys: Vec<ObjectKey>,
    },
    /// Nothing.
    Nothing,
}

pub(super) struct Options<'a> {
    pub keys: &'a Keys,
    pub utc_timing: Option<&'a str>,
}

/// A segment on its way.
#[derive(Debug)]
pub(super) struct Done {
    pub track: usize,
    pub number: u64,
    pub placed: Placed,
}

/// A failed write of manifests is tried again after this: a viewer's reload is a target duration (2 s) apart.
const RETRY: Duration = Duration::from_millis(500);

/// A live MPD that names the last segments stands so many target durations before the static one follows it. dash.js reads nothing of a static MPD
/// but that it is static, and reloads a live one once in a target duration: without this it ended one segment early (tried with 5.2.1).
const MPD_LINGER: u32 = 2;

/// How far the manifests are on the way to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The session goes on, for all that was rendered yet.
    Ahead,
    /// The playlists say it, the MPD is live and names all segments.
    Playlists,
    /// All say it.
    Written,
}

#[derive(Debug)]
pub(super) struct Shelf {
    session: SessionId,
    hold: Duration,
    next_id: u64,
    on_the_way: BTreeMap<u64, Done>,
    durable_inits: BTreeSet<ObjectKey>,
    dirty: bool,
    writing: bool,
    retry_at: Option<Duration>,
    /// Objects that the manifests being written no longer name.
    leaving: Vec<ObjectKey>,
    /// The multivariant playlist as last written, without its mark: it is written again only when it differs.
    index: Option<String>,
    averages: Vec<Option<u64>>,
    writes: u64,
    /// What is being written: the newest row, and how it leaves [`Shelf::end`].
    writing_row: Option<u64>,
    writing_end: End,
    end: End,
    /// The newest row that a written live MPD names, and since when.
    mpd_row: Option<(u64, Duration)>,
    /// [`MPD_LINGER`], once the target duration is known.
    linger: Duration,
    hurry: bool,
}

impl Shelf {
    pub fn new(session: SessionId, hold: Duration) -> Self {
        Self {
            session,
            hold,
            next_id: 0,
            on_the_way: BTreeMap::new(),
            durable_inits: BTreeSet::new(),
            dirty: false,
            writing: false,
            retry_at: None,
            leaving: Vec::new(),
            index: None,
            averages: Vec::new(),
            writes: 0,
            writing_row: None,
            writing_end: End::Ahead,
            end: End::Ahead,
            mpd_row: None,
            linger: Duration::ZERO,
            hurry: false,
        }
    }

    /// A segment goes out, behind its init segment unless that is durable already. (Two puts may carry the same one: it is the same object.)
    pub fn put(&mut self, track: usize, number: u64, placed: Placed, segment: Bytes, init: Bytes) -> Put {
        let id = self.next_id;
        self.next_id += 1;
        let mut objects = Vec::with_capacity(2);
        if !self.durable_inits.contains(&placed.init.key) {
            objects.push((placed.init.key.clone(), init));
        }
        objects.push((placed.key.clone(), segment));
        self.on_the_way.insert(id, Done { track, number, placed });
        Put { id, objects }
    }

    pub fn stored(&mut self, id: u64, ok: bool) -> Option<Done> {
        let done = self.on_the_way.remove(&id)?;
        if ok {
            self.durable_inits.insert(done.placed.init.key.clone());
        }
        Some(done)
    }

    /// The window is not what the manifests say.
    pub fn changed(&mut self) {
        self.dirty = true;
    }

    /// The manifests to write now, if any: media playlists, then what names them.
    pub fn render(&mut self, window: &mut Window, options: &Options<'_>, now: Now) -> Option<Vec<(ObjectKey, String)>> {
        if !self.dirty || self.writing || self.retry_at.is_some_and(|at| now.mono < at) {
            return None;
        }
        let mut snapshot = window.snapshot()?;
        self.steady_averages(&mut snapshot);
        self.dirty = false;
        self.writing = true;
        self.retry_at = None;
        self.leaving.extend(window.take_evicted());
        self.writes += 1;
        // rules.md 18: equal bytes would give an equal ETag, and fence nobody.
        let mark = format!("{} 1 {}", self.session, self.writes);
        let keys = options.keys;
        let mut files = Vec::new();
        if self.end == End::Ahead {
            let playlist = |i: usize| (keys.playlist(&snapshot.tracks[i].name), hls::media(&snapshot, keys, i, &mark));
            files.extend((0..snapshot.tracks.len()).map(playlist));
            let index = hls::multivariant(&snapshot, keys, "");
            if self.index.as_ref() != Some(&index) {
                files.push((keys.index(), hls::multivariant(&snapshot, keys, &mark)));
                self.index = Some(index);
            }
        }
        self.writing_row = snapshot.rows.last().map(|r| r.number);
        self.writing_end = self.next_end(&snapshot, now.mono);
        snapshot.ended = self.writing_end == End::Written;
        let mpd = dash::MpdOptions { utc_timing_url: options.utc_timing.map(str::to_owned), ..Default::default() };
        if let Some(text) = dash::mpd(&snapshot, keys, now.wall, &mpd, &mark) {
            files.push((keys.mpd(), text));
        }
        Some(files)
    }

    /// Where a write of this snapshot leaves the end.
    fn next_end(&mut self, snapshot: &Snapshot, now: Duration) -> End {
        self.linger = Duration::from_secs(snapshot.target_duration.into()) * MPD_LINGER;
        let named = self.mpd_row.filter(|(row, _)| Some(*row) == self.writing_row);
        let lingered = self.hurry || named.is_some_and(|(_, since)| now >= since + self.linger);
        match (snapshot.ended, lingered) {
            (false, _) => End::Ahead,
            (true, false) => End::Playlists,
            (true, true) => End::Written,
        }
    }

    /// The worker goes: nothing waits for players any more.
    pub fn hurry(&mut self) {
        self.hurry = true;
        self.dirty |= self.end == End::Playlists;
    }

    /// When the static MPD may be written.
    fn mpd_due(&self) -> Option<Duration> {
        let (_, since) = self.mpd_row.filter(|_| self.end == End::Playlists)?;
        Some(if self.hurry { since } else { since + self.linger })
    }

    /// rules.md 9: AVERAGE-BANDWIDTH is written again for newcomers only when it is off by more than 20 %.
    fn steady_averages(&mut self, snapshot: &mut Snapshot) {
        self.averages.resize(snapshot.tracks.len(), None);
        for (track, kept) in snapshot.tracks.iter_mut().zip(&mut self.averages) {
            let off = match (*kept, track.average_bitrate) {
                (Some(kept), Some(new)) => kept.abs_diff(new).saturating_mul(5) > kept,
                (None, new) => new.is_some(),
                (Some(_), None) => false,
            };
            if off {
                *kept = track.average_bitrate;
            }
            track.average_bitrate = *kept;
        }
    }

    pub fn manifests_written(&mut self, ok: bool, now: Duration) -> Written {
        self.writing = false;
        if !ok {
            self.dirty = true;
            self.index = None;
            self.retry_at = Some(now + RETRY);
            return Written::Nothing;
        }
        if self.writing_end != End::Written && self.mpd_row.is_none_or(|(row, _)| Some(row) != self.writing_row) {
            self.mpd_row = self.writing_row.map(|row| (row, now));
        }
        self.end = self.writing_end;
        let keys = std::mem::take(&mut self.leaving);
        if keys.is_empty() { Written::Nothing } else { Written::Delete { after: self.hold, keys } }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let mpd = self.mpd_due().filter(|_| !self.dirty && !self.writing);
        [self.retry_at, mpd].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
        }
        self.dirty |= self.mpd_due().is_some_and(|at| now >= at);
    }

    /// All manifests say that the session is over.
    pub fn wrote_end(&self) -> bool {
        self.end == End::Written
    }

    /// Something is on its way to the store.
    pub fn is_busy(&self) -> bool {
        self.writing || !self.on_the_way.is_empty()
    }
}
