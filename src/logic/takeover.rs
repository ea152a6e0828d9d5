//! What another writer's playlists say, so that this one goes on with them (rules.md 18). Pure.
//!
//! Reads back only what [`super::render::hls`] wrote. A writer that died between two PUTs left its tracks' playlists of different length: the
//! shorter ones get the segment if its object is there, else a gap, so that all go on at the same number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{ObjectKey, TrackName};
use super::playlist::{Continuation, Era, Format, Init, Placed, Row, Slot};
use super::state::Announced;
use super::time::{MediaTime, Timescale, UnixMillis};

/// A playlist that is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{playlist}: {what}")]
pub struct Unreadable {
    /// Its key.
    pub playlist: ObjectKey,
    /// What is wrong in it.
    pub what: String,
}

/// Longest playlist that is read: 6 h of segments of half a second.
const MAX_ENTRIES: usize = 43_200;

/// Samples of an AAC frame.
const FRAME: i64 = 1024;

/// One entry of a media playlist.
#[derive(Debug, Clone)]
struct Entry {
    discontinuity: bool,
    gap: bool,
    date: Option<UnixMillis>,
    /// Microseconds.
    length: i64,
    key: ObjectKey,
    map: Option<ObjectKey>,
}

#[derive(Debug, Default)]
struct Listed {
    first: u64,
    discontinuity_sequence: u64,
    entries: Vec<Entry>,
}

/// What the playlists list, track by track.
#[derive(Debug)]
pub struct Tail {
    rows: Vec<Row>,
    discontinuity_sequence: u64,
    eras: Vec<Era>,
    /// Slots that a shorter playlist lacks: row, track, and what would be there.
    missing: Vec<(usize, usize, Placed)>,
}

/// Reads the media playlists of all announced tracks, in their order; `None` where there is none yet. `session_segments` is any prefix that all
/// segments' keys of the writer share up to the track's folder (`…/{session}/{epoch}/`), used where a track has no entry to learn it from.
///
/// # Errors
/// [`Unreadable`].
pub fn read(announced: &Announced, playlists: &[(ObjectKey, Option<String>)]) -> Result<Tail, Unreadable> {
    let listed: Vec<Listed> = playlists
        .iter()
        .map(|(key, text)| text.as_deref().map_or(Ok(Listed::default()), |text| listed(key, text)))
        .collect::<Result<_, _>>()?;
    let inits: BTreeMap<&ObjectKey, Arc<Init>> = announced.inits.iter().map(|i| (&i.key, Arc::new(i.clone()))).collect();
    let written = || listed.iter().filter(|l| !l.entries.is_empty());
    let Some(first) = written().map(|l| l.first).max() else {
        return Ok(Tail { rows: Vec::new(), discontinuity_sequence: 0, eras: Vec::new(), missing: Vec::new() });
    };
    let end = written().map(|l| l.first + l.entries.len() as u64).max().unwrap_or(first);
    let discontinuity_sequence = written().find(|l| l.first == first).map_or(0, |l| l.discontinuity_sequence);
    let entry = |track: usize, number: u64| -> Option<&Entry> {
        let l = listed.get(track)?;
        l.entries.get(usize::try_from(number.checked_sub(l.first)?).ok()?)
    };
    let scale = |track: usize| announced.tracks.get(track).map_or(Timescale::VIDEO, |t| t.format.timescale());

    let mut rows: Vec<Row> = Vec::new();
    let mut missing = Vec::new();
    for number in first..end {
        // The first track that lists it: a rung if there is one.
        let Some((lead, seen)) = (0..listed.len()).find_map(|t| Some((t, entry(t, number)?))) else { break };
        let Some(start) = start_of(&seen.key) else {
            return Err(Unreadable { playlist: playlists[lead].0.clone(), what: format!("{} has no start time", seen.key) });
        };
        let start = MediaTime::from_scale(start, scale(lead));
        let length = MediaTime(micros_in(seen.length, Timescale::VIDEO));
        let era = announced.eras.iter().rev().find(|era| era.start <= start);
        let (era, shift) = era.map_or((0, MediaTime::ZERO), |era| (era.number, era.shift));
        let shift = seen.date.map_or(shift, |date| shift_of(date, announced.anchor, start, shift));
        let discontinuity = seen.discontinuity;
        let mut row = Row { number, start, end: start + length, discontinuity, era, shift, slots: Vec::new() };
        for (t, track) in announced.tracks.iter().enumerate() {
            let slot = match entry(t, number) {
                Some(e) if e.gap => Slot::Gap,
                Some(e) => placed(e, &inits).map_or(Slot::Gap, Slot::Media),
                None => {
                    let before = rows.iter().rev().map(|r| &r.slots[t]);
                    let named = listed[t].entries.last().map(|e| &e.key);
                    if let Some(guess) = guess(&row, &track.name, before, named, &track.format, &inits) {
                        missing.push((rows.len(), t, guess.clone()));
                        // The next one's start follows from it; it is made a gap below if it is not there.
                        Slot::Media(guess)
                    } else {
                        Slot::Gap
                    }
                }
            };
            row.slots.push(slot);
        }
        rows.push(row);
    }
    let oldest = rows.first().map_or(0, |r| r.era);
    let eras = announced.eras.iter().filter(|era| era.number >= oldest).copied().collect();
    Ok(Tail { rows, discontinuity_sequence, eras, missing })
}

impl Tail {
    /// Objects that may have been stored without being listed.
    pub fn unlisted(&self) -> impl Iterator<Item = &ObjectKey> {
        self.missing.iter().map(|(_, _, placed)| &placed.key)
    }

    /// All tracks at the same number: what is `there` is listed, what is not is a gap. `None` when nothing was listed yet.
    pub fn level(mut self, there: &BTreeSet<ObjectKey>) -> Option<Continuation> {
        for (row, track, placed) in &self.missing {
            if !there.contains(&placed.key) {
                self.rows[*row].slots[*track] = Slot::Gap;
            }
        }
        let number = self.rows.last()?.number + 1;
        Some(Continuation { number, discontinuity_sequence: self.discontinuity_sequence, rows: self.rows, eras: self.eras })
    }
}

/// What the segment of `row` would be in a track whose playlist ends before it.
fn guess<'a>(
    row: &Row,
    name: &TrackName,
    mut before: impl Iterator<Item = &'a Slot>,
    named: Option<&ObjectKey>,
    format: &Format,
    inits: &BTreeMap<&ObjectKey, Arc<Init>>,
) -> Option<Placed> {
    let last = before.next();
    let of_track = |key: &ObjectKey| key.as_str().rsplit('/').nth(1) == Some(name.as_str());
    let (folder, init) = match last {
        // A borrowed slot names another track's object, and this rung's own will not come.
        Some(Slot::Media(m)) if of_track(&m.key) => (folder_of(&m.key)?, Arc::clone(&m.init)),
        Some(Slot::Media(_)) => return None,
        _ => {
            let init = inits.values().rfind(|i| of_track(&i.key))?;
            (folder_of(named.filter(|k| of_track(k)).unwrap_or(&init.key))?, Arc::clone(init))
        }
    };
    let scale = init.format.timescale();
    let (start, end) = match (format, last) {
        (Format::Video(_), _) => (row.start.0, row.end.0),
        (Format::Audio(_), Some(Slot::Media(m))) if !row.discontinuity => {
            let start = m.start.checked_add(m.duration)?;
            // It ends with the first frame at or behind the cut (rules.md 6).
            let frames = row.end.in_scale(scale).checked_sub(start)?.max(0).unsigned_abs().div_ceil(FRAME.unsigned_abs());
            (start, start.checked_add(i64::try_from(frames).ok()?.checked_mul(FRAME)?)?)
        }
        (Format::Audio(_), _) => return None,
    };
    let key = ObjectKey::parse(&format!("{folder}/{start}.m4s"))?;
    (end > start).then_some(Placed { start, duration: end - start, size: 0, key, init })
}

fn placed(entry: &Entry, inits: &BTreeMap<&ObjectKey, Arc<Init>>) -> Option<Placed> {
    let init = inits.get(entry.map.as_ref()?)?;
    let duration = micros_in(entry.length, init.format.timescale());
    // Sizes are not in a playlist; averages of what was announced stay.
    Some(Placed { start: start_of(&entry.key)?, duration, size: 0, key: entry.key.clone(), init: Arc::clone(init) })
}

/// The shift that gives this date: that of its era if it does, since dates are written to the millisecond only.
fn shift_of(date: UnixMillis, anchor: UnixMillis, start: MediaTime, of_era: MediaTime) -> MediaTime {
    if anchor.plus(start + of_era) == date { of_era } else { date.since(anchor) - start }
}

fn folder_of(key: &ObjectKey) -> Option<&str> {
    key.as_str().rsplit_once('/').map(|(folder, _)| folder)
}

/// `{start}.m4s` (rules.md 4).
fn start_of(key: &ObjectKey) -> Option<i64> {
    key.as_str().rsplit('/').next()?.strip_suffix(".m4s")?.parse().ok()
}

/// Microseconds to ticks, rounded: EXTINF was rounded the other way, and a microsecond is finer than any tick.
fn micros_in(micros: i64, scale: Timescale) -> i64 {
    let ticks = (i128::from(micros) * i128::from(scale.hz()) + 500_000).div_euclid(1_000_000);
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

fn listed(playlist: &ObjectKey, text: &str) -> Result<Listed, Unreadable> {
    let unreadable = |what: String| Unreadable { playlist: playlist.clone(), what };
    let number = |line: &str, text: &str| text.parse::<u64>().map_err(|_| unreadable(format!("no number in {line:?}")));
    let address = |text: &str| absolute(playlist, text).ok_or_else(|| unreadable(format!("{text:?} is no key")));
    let mut out = Listed::default();
    let (mut discontinuity, mut gap, mut date, mut length, mut map) = (false, false, None, None, None);
    for line in text.lines() {
        if let Some(n) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            out.first = number(line, n)?;
        } else if let Some(n) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
            out.discontinuity_sequence = number(line, n)?;
        } else if let Some(uri) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
            map = Some(address(uri.trim_end_matches('"'))?);
        } else if line == "#EXT-X-DISCONTINUITY" {
            discontinuity = true;
        } else if line == "#EXT-X-GAP" {
            gap = true;
        } else if let Some(text) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            date = Some(UnixMillis::parse(text).ok_or_else(|| unreadable(format!("no date in {line:?}")))?);
        } else if let Some(seconds) = line.strip_prefix("#EXTINF:") {
            length = Some(micros(seconds.trim_end_matches(',')).ok_or_else(|| unreadable(format!("no length in {line:?}")))?);
        } else if !line.starts_with('#') && !line.is_empty() {
            let length = length.take().ok_or_else(|| unreadable(format!("{line} has no length")))?;
            let entry = Entry { discontinuity, gap, date: date.take(), length, key: address(line)?, map: map.clone() };
            (discontinuity, gap) = (false, false);
            out.entries.push(entry);
            if out.entries.len() > MAX_ENTRIES {
                return Err(unreadable(format!("more than {MAX_ENTRIES} segments")));
            }
        }
    }
    Ok(out)
}

/// `S.FFFFFF` as microseconds.
fn micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let (whole, fraction): (u32, u32) = (whole.parse().ok()?, fraction.parse().ok()?);
    Some(i64::from(whole) * 1_000_000 + i64::from(fraction))
}

/// A relative reference from an object, as a key: the other way of [`ObjectKey::relative_to`].
fn absolute(base: &ObjectKey, reference: &str) -> Option<ObjectKey> {
    let mut folders: Vec<&str> = base.as_str().split('/').collect();
    folders.pop();
    let mut rest = reference;
    while let Some(up) = rest.strip_prefix("../") {
        folders.pop()?;
        rest = up;
    }
    folders.push(rest);
    ObjectKey::parse(&folders.join("/"))
}

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod tests;
