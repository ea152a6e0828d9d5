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
    writing_end: bool,
    wrote_end: bool,
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
            writing_end: false,
            wrote_end: false,
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
        self.writing_end = snapshot.ended;
        self.leaving.extend(window.take_evicted());
        self.writes += 1;
        // rules.md 18: equal bytes would give an equal ETag, and fence nobody.
        let mark = format!("{} 1 {}", self.session, self.writes);
        let keys = options.keys;
        let mut files: Vec<(ObjectKey, String)> = (0..snapshot.tracks.len())
            .map(|i| (keys.playlist(&snapshot.tracks[i].name), hls::media(&snapshot, keys, i, &mark)))
            .collect();
        let index = hls::multivariant(&snapshot, keys, "");
        if self.index.as_ref() != Some(&index) {
            files.push((keys.index(), hls::multivariant(&snapshot, keys, &mark)));
            self.index = Some(index);
        }
        let mpd = dash::MpdOptions { utc_timing_url: options.utc_timing.map(str::to_owned), ..Default::default() };
        if let Some(text) = dash::mpd(&snapshot, keys, now.wall, &mpd, &mark) {
            files.push((keys.mpd(), text));
        }
        Some(files)
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
        self.wrote_end |= self.writing_end;
        let keys = std::mem::take(&mut self.leaving);
        if keys.is_empty() { Written::Nothing } else { Written::Delete { after: self.hold, keys } }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.retry_at
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
        }
    }

    /// The manifests say that the session is over.
    pub fn wrote_end(&self) -> bool {
        self.wrote_end
    }

    /// Something is on its way to the store.
    pub fn is_busy(&self) -> bool {
        self.writing || !self.on_the_way.is_empty()
    }
}
