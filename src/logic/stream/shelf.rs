//! In which order the store sees things: an init segment, the segments that need it, the manifests that name them, and deletions last.
//!
//! Pure. One write of manifests is under way at a time; changes in between are coalesced into the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Now;
use crate::logic::model::{Keys, ObjectKey, SessionId, TrackName};
use crate::logic::pathway::Pathways;
use crate::logic::playlist::{Init, Placed, Snapshot, Track, Window};
use crate::logic::render::{dash, hls};
use crate::logic::state::{self, Announced, Phase, State};
use crate::logic::time::MediaTime;

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
    pub pathways: &'a Pathways,
    pub utc_timing: Option<&'a str>,
    /// The track that is the publisher's own video.
    pub source: Option<&'a TrackName>,
}

/// A segment on its way.
#[derive(Debug)]
pub(super) struct Done {
    pub track: usize,
    /// The row, counted by this writer.
    pub number: u64,
    pub placed: Placed,
}

/// A failed write of manifests is tried again after this: a viewer's reload is a target duration (2 s) apart.
const RETRY: Duration = Duration::from_millis(500);

/// `state.json` is written so often although nothing changed, so that other workers see that somebody goes on with the session. Of `end_after`
/// (300 s) a thirtieth; 25 streams make 2.5 writes a second of it.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

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

/// A write of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checkpoint {
    announced: Option<Announced>,
    phase: Phase,
    at: Duration,
}

#[derive(Debug)]
pub(super) struct Shelf {
    session: SessionId,
    /// Of every mark (rules.md 18).
    epoch: u32,
    nonce: Arc<str>,
    worker: String,
    state_key: ObjectKey,
    /// The last `state.json` that was written, and the one on its way.
    checkpoint: Option<Checkpoint>,
    writing_checkpoint: Option<Checkpoint>,
    hold: Duration,
    next_id: u64,
    on_the_way: BTreeMap<u64, Done>,
    /// Journals likewise, and their bytes.
    journals: BTreeMap<u64, u64>,
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
    /// The recording is written, or none is wanted: `state.json` may say that the session has ended.
    recorded: bool,
}

impl Shelf {
    pub fn new(session: SessionId, hold: Duration, writer: &super::WriterName, state_key: ObjectKey) -> Self {
        Self {
            session,
            epoch: writer.epoch,
            nonce: Arc::clone(&writer.nonce),
            worker: writer.worker.clone(),
            state_key,
            checkpoint: None,
            writing_checkpoint: None,
            hold,
            next_id: 0,
            on_the_way: BTreeMap::new(),
            journals: BTreeMap::new(),
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
            recorded: true,
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

    /// A journal goes out.
    pub fn put_journal(&mut self, key: ObjectKey, body: Bytes) -> Put {
        let id = self.next_id;
        self.next_id += 1;
        self.journals.insert(id, body.len() as u64);
        Put { id, objects: vec![(key, body)] }
    }

    /// The bytes of a journal that is on its way.
    pub fn journal_on_the_way(&self, id: u64) -> Option<u64> {
        self.journals.get(&id).copied()
    }

    /// The journal is durable, or lost.
    pub fn journal_stored(&mut self, id: u64) -> bool {
        self.journals.remove(&id).is_some()
    }

    /// The end waits until the recording is written, or does so no more.
    pub fn await_recording(&mut self, wait: bool) {
        self.recorded = !wait;
    }

    /// The row of a segment that is on its way, and its bytes.
    pub fn on_the_way(&self, id: u64) -> Option<(u64, u64)> {
        self.on_the_way.get(&id).map(|d| (d.number, d.placed.size))
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

    fn mark(&mut self) -> String {
        self.writes += 1;
        // rules.md 18: equal bytes would give an equal ETag, and fence nobody.
        format!("{} {} {} {}", self.session, self.epoch, self.nonce, self.writes)
    }

    /// `state.json`, when what it says has changed or it is time for a sign of life.
    fn state(&mut self, window: &Window, source: Option<TrackName>, phase: Phase, now: Now) -> Option<(ObjectKey, String)> {
        let snapshot = window.snapshot();
        let announced = snapshot.map(|s| Announced {
            anchor: s.anchor,
            target_duration: s.target_duration,
            window: s.window,
            end: s.rows.last().map_or(MediaTime::ZERO, |r| r.end),
            tracks: self.steadied(s.tracks),
            source,
            eras: s.eras,
            captions: s.captions,
            inits: window.inits().iter().map(|i| Init::clone(i)).collect(),
        });
        let announced = announced.or_else(|| self.checkpoint.as_ref()?.announced.clone());
        let structure = |a: &Announced| Announced { end: MediaTime::ZERO, ..a.clone() };
        let same = self
            .checkpoint
            .as_ref()
            .is_some_and(|c| c.phase == phase && c.announced.as_ref().map(structure) == announced.as_ref().map(structure));
        if same && !self.heartbeat_due(now.mono) {
            return None;
        }
        let (number, discontinuity_sequence) = window.sequences();
        let state = State {
            v: state::VERSION,
            mark: self.mark(),
            phase,
            session: self.session.clone(),
            epoch: self.epoch,
            worker: self.worker.clone(),
            updated: now.wall,
            number,
            discontinuity_sequence,
            announced: announced.clone(),
        };
        self.writing_checkpoint = Some(Checkpoint { announced, phase, at: now.mono });
        state.write().ok().map(|text| (self.state_key.clone(), text))
    }

    fn heartbeat_due(&self, now: Duration) -> bool {
        self.checkpoint.as_ref().is_some_and(|c| now >= c.at + HEARTBEAT)
    }

    /// The manifests to write now, if any: the state that they need, media playlists, then what names them.
    pub fn render(&mut self, window: &mut Window, options: &Options<'_>, now: Now) -> Option<Vec<(ObjectKey, String)>> {
        if self.writing || self.retry_at.is_some_and(|at| now.mono < at) {
            return None;
        }
        // Behind a long outage all rows may have left before the next one is there to be named.
        if !self.dirty || window.snapshot().is_none() {
            if !self.heartbeat_due(now.mono) {
                return None;
            }
            let phase = if self.end == End::Written { Phase::Ended } else { Phase::Live };
            let state = self.state(window, options.source.cloned(), phase, now)?;
            self.writing = true;
            return Some(vec![state]);
        }
        let mut snapshot = window.snapshot()?;
        self.steady_averages(&mut snapshot);
        self.dirty = false;
        self.writing = true;
        self.retry_at = None;
        self.leaving.extend(window.take_evicted());
        let mark = self.mark();
        let keys = options.keys;
        let mut files = Vec::new();
        // Who takes over must know of a Period or an init segment before a playlist shows it.
        files.extend(self.state(window, options.source.cloned(), Phase::Live, now));
        if self.end == End::Ahead {
            // Who was taken over fails at the first of these, which has no pathway.
            let ways = [None].into_iter().chain(options.pathways.own_playlists(keys.region()).map(Some));
            for way in ways {
                let key = |i: usize| keys.playlist_of(&snapshot.tracks[i].name, way.map(|p| &p.id));
                let playlist = |i: usize| (key(i), hls::media(&snapshot, keys, i, way, &mark));
                files.extend((0..snapshot.tracks.len()).map(playlist));
            }
            let index = hls::multivariant(&snapshot, keys, options.pathways, "");
            if self.index.as_ref() != Some(&index) {
                files.push((keys.index(), hls::multivariant(&snapshot, keys, options.pathways, &mark)));
                self.index = Some(index);
            }
        }
        self.writing_row = snapshot.rows.last().map(|r| r.number);
        self.writing_end = self.next_end(&snapshot, now.mono);
        snapshot.ended = self.writing_end == End::Written;
        let mpd = dash::MpdOptions {
            utc_timing_url: options.utc_timing.map(str::to_owned),
            pathways: options.pathways.clone(),
            ..Default::default()
        };
        if let Some(text) = dash::mpd(&snapshot, keys, now.wall, &mpd, &mark) {
            files.push((keys.mpd(), text));
        }
        if self.writing_end == End::Written {
            files.extend(self.state(window, options.source.cloned(), Phase::Ended, now));
        }
        Some(files)
    }

    /// Where a write of this snapshot leaves the end.
    fn next_end(&mut self, snapshot: &Snapshot, now: Duration) -> End {
        self.linger = Duration::from_secs(snapshot.target_duration.into()) * MPD_LINGER;
        let named = self.mpd_row.filter(|(row, _)| Some(*row) == self.writing_row);
        let lingered = self.hurry || named.is_some_and(|(_, since)| now >= since + self.linger);
        match (snapshot.ended, lingered && self.recorded) {
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
        let (_, since) = self.mpd_row.filter(|_| self.end == End::Playlists && self.recorded)?;
        Some(if self.hurry { since } else { since + self.linger })
    }

    /// rules.md 9: AVERAGE-BANDWIDTH is written again for newcomers only when it is off by more than 20 %.
    fn steady_averages(&mut self, snapshot: &mut Snapshot) {
        self.averages.resize(snapshot.tracks.len(), None);
        // Of a session that another writer began, what was announced then.
        for (track, kept) in snapshot.tracks.iter().zip(&mut self.averages) {
            *kept = kept.or(track.average_bitrate);
        }
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

    fn steadied(&self, mut tracks: Vec<Track>) -> Vec<Track> {
        for (track, kept) in tracks.iter_mut().zip(&self.averages) {
            track.average_bitrate = kept.or(track.average_bitrate);
        }
        tracks
    }

    pub fn manifests_written(&mut self, ok: bool, now: Duration) -> Written {
        self.writing = false;
        let checkpoint = self.writing_checkpoint.take();
        if !ok {
            self.dirty = true;
            self.index = None;
            self.retry_at = Some(now + RETRY);
            return Written::Nothing;
        }
        self.checkpoint = checkpoint.or(self.checkpoint.take());
        if self.writing_end != End::Written && self.mpd_row.is_none_or(|(row, _)| Some(row) != self.writing_row) {
            self.mpd_row = self.writing_row.map(|row| (row, now));
        }
        self.end = self.writing_end;
        let keys = std::mem::take(&mut self.leaving);
        if keys.is_empty() { Written::Nothing } else { Written::Delete { after: self.hold, keys } }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let mpd = self.mpd_due().filter(|_| !self.dirty && !self.writing);
        let heartbeat = self.checkpoint.as_ref().map(|c| c.at + HEARTBEAT).filter(|_| !self.writing && self.retry_at.is_none());
        [self.retry_at, mpd, heartbeat].into_iter().flatten().min()
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
        self.writing || self.has_puts()
    }

    /// Segments or journals are not durable yet.
    pub fn has_puts(&self) -> bool {
        !self.on_the_way.is_empty() || !self.journals.is_empty()
    }

    /// The window says more than the manifests.
    pub fn is_behind(&self) -> bool {
        self.writing || self.dirty
    }
}
