//! A session's recording: all that its epochs made and that is in the store, as one window that has ended (rules.md 17). Pure.
//!
//! Two sources: the journals, which know rows, lengths and init segments, and the listing of what is there, which decides. A segment that no
//! journal names (the last seconds of a killed worker) is measured by its reader and put where its time belongs. What live playlists called a gap is
//! here if it came to the store later.
//!
//! A recording has no clock: rows follow each other, whatever time lay between them. Its numbers begin at 0 and nobody else counts on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::journal::Journal;
use super::model::{Keys, ObjectKey, SessionId, TrackName};
use super::pathway::Pathways;
use super::playlist::{Era, Format, Init, Placed, Row, Slot, Snapshot, Track, lend};
use super::render::{dash, hls};
use super::time::{MediaTime, UnixMillis};

/// AAC-LC samples in a frame; audio begins at most one behind the cut (rules.md 6).
const FRAME: i64 = 1024;

/// What the boxes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// `tfdt`, ticks of the track's timescale.
    pub start: i64,
    /// Sum of its samples' durations, likewise.
    pub duration: i64,
    /// Bytes.
    pub size: u64,
}

/// Segments that are there and that no journal names: [`assemble`] needs them measured.
pub fn unnamed(journals: &[Journal], there: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
    let named: BTreeSet<&ObjectKey> = journals.iter().flat_map(|j| &j.segments).map(|s| &s.key).collect();
    there.iter().filter(|key| !named.contains(key) && Place::of(key).is_some()).cloned().collect()
}

/// Everything that can be played, oldest first. `None` when that is nothing: no journal is left, or no segment.
pub fn assemble(
    session: &SessionId,
    journals: &[Journal],
    there: &BTreeSet<ObjectKey>,
    measured: &BTreeMap<ObjectKey, Measured>,
) -> Option<Snapshot> {
    let mut journals: Vec<&Journal> = journals.iter().filter(|j| j.session == *session).collect();
    journals.sort_by_key(|j| (j.epoch, j.n));
    journals.dedup_by_key(|j| (j.epoch, j.n));
    let first = *journals.first()?;
    let mut tracks = first.tracks.clone();
    let mut drafts = drafts(&journals, &tracks);
    place_unnamed(&mut drafts, &journals, &tracks, there, measured);
    let rows = rows(drafts, &tracks, there);
    let end = rows.last()?.end;
    let target_duration = rows.iter().map(Row::rounded_seconds).chain(journals.iter().map(|j| j.target_duration)).max()?;
    for (i, track) in tracks.iter_mut().enumerate() {
        settle(track, i, &rows);
    }
    let eras = rows.chunk_by(|a, b| a.era == b.era).filter_map(|era| era.first());
    let eras = eras.map(|r| Era { number: r.era, start: r.start, shift: r.shift }).collect();
    Some(Snapshot {
        session: session.clone(),
        target_duration,
        window: end,
        anchor: first.anchor,
        eras,
        discontinuity_sequence: 0,
        tracks,
        captions: journals.iter().flat_map(|j| &j.captions).copied().collect(),
        rows,
        ended: true,
        recorded: true,
    })
}

/// The recording's files in the order in which they are written: media playlists, then what names them.
pub fn files(snapshot: &Snapshot, keys: &Keys, now: UnixMillis, mark: &str) -> Vec<(ObjectKey, String)> {
    let media =
        snapshot.tracks.iter().enumerate().map(|(i, t)| (keys.playlist(&t.name), hls::media(snapshot, keys, i, None, mark)));
    let mut files: Vec<_> = media.collect();
    files.push((keys.index(), hls::multivariant(snapshot, keys, &Pathways::default(), mark)));
    files.extend(dash::mpd(snapshot, keys, now, &dash::MpdOptions::default(), mark).map(|text| (keys.mpd(), text)));
    files
}

/// What a segment's key says: `seg/{class}/{shard}/{region}/{stream}/{session}/{epoch}/{track}/{start}.m4s` (rules.md 16).
struct Place {
    epoch: u32,
    track: TrackName,
}

impl Place {
    fn of(key: &ObjectKey) -> Option<Self> {
        Self::read(key, |file| file.strip_suffix(".m4s").is_some_and(|start| start.parse::<i64>().is_ok()))
    }

    /// Likewise of an init segment: `.../{track}/init-{hash}.mp4` (rules.md 5).
    fn of_init(key: &ObjectKey) -> Option<Self> {
        Self::read(key, |file| file.starts_with("init-"))
    }

    fn read(key: &ObjectKey, is_wanted: impl Fn(&str) -> bool) -> Option<Self> {
        let mut parts = key.as_str().strip_prefix("seg/")?.rsplit('/');
        parts.next().filter(|file| is_wanted(file))?;
        let track = parts.next()?.parse().ok()?;
        Some(Self { track, epoch: parts.next()?.parse().ok()? })
    }
}

/// A row of an epoch, as far as it is known.
#[derive(Debug)]
struct Draft {
    epoch: u32,
    /// A journal tells its bounds.
    told: bool,
    start: MediaTime,
    end: MediaTime,
    discontinuity: bool,
    shift: MediaTime,
    borrowed: Vec<usize>,
    slots: Vec<Option<Placed>>,
}

impl Draft {
    fn empty(epoch: u32, start: MediaTime, tracks: usize) -> Self {
        let (shift, borrowed, slots) = (MediaTime::ZERO, Vec::new(), vec![None; tracks]);
        Self { epoch, told: false, start, end: start, discontinuity: false, shift, borrowed, slots }
    }

    /// Its bounds, where no journal told them: those of its best rung, or of its audio.
    fn bound(&mut self) {
        if let (false, Some(placed)) = (self.told, self.slots.iter().flatten().next()) {
            let scale = placed.init.format.timescale();
            self.start = MediaTime::from_scale(placed.start, scale);
            self.end = MediaTime::from_scale(placed.start.saturating_add(placed.duration), scale);
        }
    }

    /// A segment of `track` that begins at `start` is this row's. A rung begins at the cut; audio begins with the first frame at or behind it, and
    /// may be all that says where a row is.
    fn takes(&self, track: usize, format: &Format, start: MediaTime) -> bool {
        let video = |slot: &Placed| matches!(slot.init.format, Format::Video(_));
        let empty = self.slots.get(track).is_some_and(Option::is_none);
        let near = |from: MediaTime, to: MediaTime, scale| {
            // One tick more, because of rounding.
            (from..=from + MediaTime::from_scale(FRAME, scale) + MediaTime(1)).contains(&to)
        };
        let fits = match (format, self.slots.iter().flatten().next()) {
            (Format::Audio(a), _) => near(self.start, start, a.rate),
            (Format::Video(_), Some(first)) if !self.told && !video(first) => {
                near(start, self.start, first.init.format.timescale())
            }
            (Format::Video(_), _) => self.start == start,
        };
        empty && fits
    }
}

/// The rows that journals name.
fn drafts(journals: &[&Journal], tracks: &[Track]) -> Vec<Draft> {
    let mut rows: BTreeMap<(u32, u64), Draft> = BTreeMap::new();
    for journal in journals {
        // A number per track of this journal: its set is the session's, but nothing here depends on it.
        let own: Vec<Option<usize>> = journal.tracks.iter().map(|t| tracks.iter().position(|o| o.name == t.name)).collect();
        let own = |track: usize| own.get(track).copied().flatten();
        let row = |number| (journal.epoch, number);
        let empty = || Draft::empty(journal.epoch, MediaTime::ZERO, tracks.len());
        for written in &journal.rows {
            let draft = rows.entry(row(written.number)).or_insert_with(empty);
            draft.told = true;
            (draft.start, draft.end, draft.discontinuity) = (written.start, written.end, written.discontinuity);
            draft.shift = written.shift;
            draft.borrowed = written.borrowed.iter().filter_map(|&t| own(t)).collect();
        }
        for made in &journal.segments {
            let (Some(track), Some(init)) = (own(made.track), journal.inits.get(made.init)) else { continue };
            let draft = rows.entry(row(made.number)).or_insert_with(empty);
            if let Some(slot) = draft.slots.get_mut(track) {
                let init = Arc::new(init.clone());
                let key = made.key.clone();
                *slot = Some(Placed { start: made.start, duration: made.duration, size: made.size, key, init });
            }
        }
    }
    let mut drafts: Vec<Draft> = rows.into_values().collect();
    drafts.iter_mut().for_each(Draft::bound);
    drafts
}

/// Puts segments that no journal names into the rows where their times belong, and into new rows behind them.
fn place_unnamed(
    drafts: &mut Vec<Draft>,
    journals: &[&Journal],
    tracks: &[Track],
    there: &BTreeSet<ObjectKey>,
    measured: &BTreeMap<ObjectKey, Measured>,
) {
    let mut found: Vec<(usize, u32, Placed)> = Vec::new();
    for (key, m) in measured {
        let Some(place) = Place::of(key) else { continue };
        let Some(track) = tracks.iter().position(|t| t.name == place.track) else { continue };
        let Some(init) = init_of(&place, key, journals, there) else { continue };
        let placed = Placed { start: m.start, duration: m.duration, size: m.size, key: key.clone(), init };
        if placed.duration > 0 {
            found.push((track, place.epoch, placed));
        }
    }
    // Rungs before audio: they begin exactly at the cut.
    found.sort_by_key(|(track, epoch, placed)| (*track, *epoch, placed.start));
    for (track, epoch, placed) in found {
        let format = &placed.init.format;
        let start = MediaTime::from_scale(placed.start, format.timescale());
        let at = drafts.iter().position(|d| d.epoch == epoch && d.takes(track, format, start)).unwrap_or_else(|| {
            drafts.push(Draft::empty(epoch, start, tracks.len()));
            drafts.len() - 1
        });
        if let Some(draft) = drafts.get_mut(at)
            && let Some(slot) = draft.slots.get_mut(track)
        {
            *slot = Some(placed);
            draft.bound();
        }
    }
}

/// The init segment of a segment that no journal names: the newest that a journal names for its epoch and track. Without such a journal, the one that
/// lies beside it, or where none does (the epoch went on with what it found) in the newest epoch before; what is in it some journal must say, of whichever
/// epoch: inits of equal content have equal file names (rules.md 5).
fn init_of(place: &Place, key: &ObjectKey, journals: &[&Journal], there: &BTreeSet<ObjectKey>) -> Option<Arc<Init>> {
    let folder = folder_and_file(key)?.0;
    let newest = journals.iter().filter(|j| j.epoch == place.epoch).flat_map(|j| {
        let segments = j.segments.iter().filter(|s| folder_and_file(&s.key).is_some_and(|(own, _)| own == folder));
        segments.filter_map(|s| j.inits.get(s.init))
    });
    if let Some(init) = newest.last() {
        return Some(Arc::new(init.clone()));
    }
    let describes = |file: &str| {
        let inits = journals.iter().flat_map(|j| &j.inits);
        inits
            .filter_map(|i| Some((folder_and_file(&i.key)?, &i.format)))
            .find(|((folder, own), _)| *own == file && folder.rsplit('/').next() == Some(place.track.as_str()))
    };
    let lying = there.iter().filter_map(|key| {
        let (of, file) = (Place::of_init(key)?, folder_and_file(key)?.1);
        (of.track == place.track && of.epoch <= place.epoch).then_some((of.epoch, key, file))
    });
    let (_, key, format) = lying.filter_map(|(epoch, key, file)| Some((epoch, key, describes(file)?.1))).max_by_key(|l| l.0)?;
    Some(Arc::new(Init { key: key.clone(), format: format.clone() }))
}

fn folder_and_file(key: &ObjectKey) -> Option<(&str, &str)> {
    key.as_str().rsplit_once('/')
}

/// Orders the drafts, leaves out what is not there, and numbers the rest.
fn rows(mut drafts: Vec<Draft>, tracks: &[Track], there: &BTreeSet<ObjectKey>) -> Vec<Row> {
    drafts.sort_by_key(|d| (d.start, d.epoch));
    // What a writer made behind the first row of the one that took over was of another publisher, and nobody was shown it.
    let mut begins: BTreeMap<u32, MediaTime> = BTreeMap::new();
    for draft in &drafts {
        begins.entry(draft.epoch).or_insert(draft.start);
    }
    drafts.retain(|d| begins.range(d.epoch.saturating_add(1)..).all(|(_, &begin)| d.start < begin));

    let mut rows: Vec<Row> = Vec::new();
    let mut before: Option<(u32, MediaTime)> = None;
    let mut shift = MediaTime::ZERO;
    let mut broken = false;
    for draft in drafts {
        let Draft { epoch, start, end, borrowed, .. } = draft;
        // A row that no journal tells of is dated as the one before it.
        shift = if draft.told { draft.shift } else { shift };
        let is_there = |p: &Placed| there.contains(&p.key) && there.contains(&p.init.key);
        let slots = draft.slots.into_iter().map(|s| s.filter(is_there).map_or(Slot::Gap, Slot::Media));
        let mut slots: Vec<Slot> = slots.collect();
        if slots.iter().all(|s| *s == Slot::Gap) {
            broken |= draft.discontinuity;
            continue;
        }
        lend(&mut slots, &borrowed, tracks);
        let last = rows.last();
        let follows = before == Some((epoch, start)) && !broken && !draft.discontinuity;
        let discontinuity = last.is_some_and(|last| !follows || init_changes(&last.slots, &slots));
        let era = last.map_or(0, |r| r.era + u32::from(discontinuity));
        before = Some((epoch, end));
        broken = false;
        rows.push(Row { number: rows.len() as u64, start, end, discontinuity, era, shift, slots });
    }
    rows
}

/// A track goes on with another init segment: one Period has room for one (ISO/IEC 23009-1, 5.3.9.4).
fn init_changes(before: &[Slot], slots: &[Slot]) -> bool {
    before.iter().zip(slots).any(|pair| match pair {
        (Slot::Media(a), Slot::Media(b)) => a.init.key != b.init.key,
        _ => false,
    })
}

/// What the track came to: its real format, and its measured rate.
fn settle(track: &mut Track, index: usize, rows: &[Row]) {
    let own = rows.iter().filter_map(|r| match r.slots.get(index) {
        Some(Slot::Media(m)) if Place::of(&m.key).is_some_and(|p| p.track == track.name) => Some(m),
        _ => None,
    });
    let (mut format, mut bits, mut millis) = (None, 0u128, 0u128);
    for m in own {
        format.get_or_insert(&m.init.format);
        bits += u128::from(m.size) * 8;
        let length = MediaTime::from_scale(m.duration, m.init.format.timescale()).millis();
        millis += u128::from(length.max(0).unsigned_abs());
    }
    if let Some(format) = format {
        track.format = format.clone();
    }
    track.average_bitrate = (millis > 0).then(|| u64::try_from(bits * 1000 / millis).unwrap_or(u64::MAX));
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
