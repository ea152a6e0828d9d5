//! What an epoch made, written down every 30 s for the recording (rules.md 17). Pure.
//!
//! Segments are journalled when they are made, not when they are durable: the spool may bring them later, and who builds the recording looks
//! which are there. A journal with an init segment that no earlier one has named goes at once, so that of a killed worker nothing is missing but
//! what the names and the boxes of its segments tell.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{ObjectKey, SessionId};
use super::playlist::{Init, Placed, Track};
use super::services::Services;
use super::time::{MediaTime, UnixMillis};

/// Version of the form, see [`Journal::read`].
pub const VERSION: u32 = 1;

/// rules.md 17: an object for every 30 s.
pub const EVERY: Duration = Duration::from_secs(30);

/// A journal with so many segments is due at once. In [`EVERY`] seconds eight tracks make 120 segments of 2 s; a reader holds a journal whole.
const MAX_SEGMENTS: usize = 1000;

/// One object `rec/{region}/{stream}/{session}/j/{epoch}-{n}.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// [`VERSION`] of who wrote it.
    pub v: u32,
    /// The session.
    pub session: SessionId,
    /// The writer's term.
    pub epoch: u32,
    /// Counts the journals of the epoch, from 0.
    pub n: u64,
    /// Wall clock of media time 0.
    pub anchor: UnixMillis,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// The rung set, best first, audio last.
    pub tracks: Vec<Track>,
    /// Init segments that [`Made::init`] counts.
    pub inits: Vec<Init>,
    /// Rows that were closed since the journal before.
    pub rows: Vec<Written>,
    /// Segments that were made since the journal before, of whichever row.
    pub segments: Vec<Made>,
    /// Closed captions that were announced by then (rules.md 10).
    #[serde(default, skip_serializing_if = "Services::is_empty")]
    pub captions: Services,
}

/// A row of the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Counts the epoch's rows, from 0.
    pub number: u64,
    /// The cut that begins it.
    pub start: MediaTime,
    /// The cut that ends it.
    pub end: MediaTime,
    /// A discontinuity on all tracks stands in front of it.
    pub discontinuity: bool,
    /// [`Row::shift`](super::playlist::Row::shift). Earlier versions knew none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shift: MediaTime,
    /// Tracks that are not produced in it: the next lower one's segment stands in (rules.md 1). Indices into [`Journal::tracks`].
    pub borrowed: Vec<usize>,
}

fn is_zero(shift: &MediaTime) -> bool {
    *shift == MediaTime::ZERO
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Index into [`Journal::tracks`].
    pub track: usize,
    /// Its row.
    pub number: u64,
    /// Earliest presentation time, ticks of the track's timescale.
    pub start: i64,
    /// Ticks likewise.
    pub duration: i64,
    /// Bytes.
    pub size: u64,
    /// Where it lies.
    pub key: ObjectKey,
    /// Index into [`Journal::inits`].
    pub init: usize,
}

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is of a later version of Weir.
    #[error("journal of version {0}, this worker reads {VERSION}")]
    Later(u32),
    /// It is no such JSON.
    #[error("journal: {0}")]
    Broken(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Journal {
    /// Reads one of this version or a lower one; fields that are not known are left alone.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn read(bytes: &[u8]) -> Result<Self, JournalError> {
        let Version { v } = serde_json::from_slice(bytes)?;
        if v > VERSION {
            return Err(JournalError::Later(v));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// What a session is, for the head of each journal.
#[derive(Debug)]
pub struct Head<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// This writer's term.
    pub epoch: u32,
    /// Wall clock of media time 0.
    pub anchor: UnixMillis,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// The rung set.
    pub tracks: Vec<Track>,
    /// Closed captions.
    pub captions: Services,
}

/// Collects what is made until it is written down.
#[derive(Debug, Default)]
pub struct Collector {
    n: u64,
    /// Init segments that a journal has named.
    named: Vec<ObjectKey>,
    inits: Vec<Init>,
    open: Option<Written>,
    rows: Vec<Written>,
    segments: Vec<Made>,
    /// When [`Collector::take`] first saw that something waits.
    since: Option<Duration>,
    at_once: bool,
}

impl Collector {
    /// A cut: the open row ends and row `number` begins, dated with `shift`.
    pub fn open(&mut self, number: u64, start: MediaTime, shift: MediaTime, discontinuity: bool) {
        self.close(start);
        self.open = Some(Written { number, start, end: start, discontinuity, shift, borrowed: Vec::new() });
    }

    /// A track is not produced in row `number`.
    pub fn borrow(&mut self, track: usize, number: u64) {
        if let Some(open) = self.open.as_mut().filter(|r| r.number == number) {
            open.borrowed.push(track);
        }
    }

    /// The open row ends.
    pub fn close(&mut self, end: MediaTime) {
        if let Some(open) = self.open.take() {
            self.rows.push(Written { end: end.max(open.start), ..open });
        }
    }

    /// The open row was too short to exist.
    pub fn drop_open(&mut self) {
        self.open = None;
    }

    /// A segment of row `number` was made.
    pub fn made(&mut self, track: usize, number: u64, placed: &Placed) {
        let init = self.inits.iter().position(|i| i.key == placed.init.key).unwrap_or_else(|| {
            self.inits.push(Init::clone(&placed.init));
            self.inits.len() - 1
        });
        if !self.named.contains(&placed.init.key) {
            self.named.push(placed.init.key.clone());
            self.at_once = true;
        }
        let Placed { start, duration, size, ref key, .. } = *placed;
        self.segments.push(Made { track, number, start, duration, size, key: key.clone(), init });
        self.at_once |= self.segments.len() >= MAX_SEGMENTS;
    }

    /// When [`Collector::take`] has something to give.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.since.map(|since| since + EVERY)
    }

    /// The next journal, if it is due; with `last`, whatever there is. Gives its number within the epoch as well.
    pub fn take(&mut self, head: Head<'_>, last: bool, now: Duration) -> Option<Journal> {
        if self.rows.is_empty() && self.segments.is_empty() {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if !(self.at_once || last || now >= since + EVERY) {
            return None;
        }
        let n = self.n;
        self.n += 1;
        self.since = None;
        self.at_once = false;
        Some(Journal {
            v: VERSION,
            session: head.session.clone(),
            epoch: head.epoch,
            n,
            anchor: head.anchor,
            target_duration: head.target_duration,
            tracks: head.tracks,
            inits: std::mem::take(&mut self.inits),
            rows: std::mem::take(&mut self.rows),
            segments: std::mem::take(&mut self.segments),
            captions: head.captions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::model::{FrameRate, VideoFormat};
    use crate::logic::playlist::Format;
    use std::sync::Arc;

    const SECOND: Duration = Duration::from_secs(1);

    fn head(session: &SessionId) -> Head<'_> {
        Head { session, epoch: 2, anchor: UnixMillis(5), target_duration: 2, tracks: Vec::new(), captions: Services::new() }
    }

    fn placed(start: i64, init: &str) -> Placed {
        let video = VideoFormat {
            width: 640,
            height: 360,
            fps: FrameRate::whole(30),
            codec: "avc1.64001e".into(),
            avcc: vec![1, 2].into(),
        };
        let key = |file: &str| ObjectKey::parse(&format!("seg/rk/1/eu/demo/s/2/src/{file}")).unwrap();
        let init = Arc::new(Init { key: key(init), format: Format::Video(video) });
        Placed { start, duration: 180_000, size: 9, key: key(&format!("{start}.m4s")), init }
    }

    #[test]
    fn a_new_init_segment_is_written_down_at_once_and_the_rest_every_thirty_seconds() {
        let session: SessionId = "s".parse().unwrap();
        let mut all = Collector::default();
        assert!(all.take(head(&session), true, SECOND).is_none(), "nothing was made");
        all.open(0, MediaTime::ZERO, MediaTime::ZERO, false);
        all.made(0, 0, &placed(0, "init-a.mp4"));
        let first = all.take(head(&session), false, 3 * SECOND).unwrap();
        assert_eq!((first.n, first.inits.len(), first.rows.len(), first.segments.len()), (0, 1, 0, 1));
        all.open(1, MediaTime(180_000), MediaTime(900), false);
        assert!(all.take(head(&session), false, 3 * SECOND).is_none());
        all.made(0, 1, &placed(180_000, "init-a.mp4"));
        assert_eq!(all.poll_timeout(), Some(33 * SECOND));
        assert!(all.take(head(&session), false, 32 * SECOND).is_none());
        let second = all.take(head(&session), false, 33 * SECOND).unwrap();
        assert_eq!((second.n, second.inits.len(), second.rows.len(), second.segments.len()), (1, 1, 1, 1));
        assert_eq!((second.rows[0].number, second.rows[0].end), (0, MediaTime(180_000)));
        all.close(MediaTime(360_000));
        let last = all.take(head(&session), true, 35 * SECOND).unwrap();
        assert_eq!((last.rows.len(), last.segments.len()), (1, 0));
        assert_eq!(Journal::read(&serde_json::to_vec(&second).unwrap()).unwrap(), second);
    }

    #[test]
    fn what_version_1_wrote_is_read_and_a_later_version_is_refused_by_its_number() {
        let text = include_str!("../../tests/fixtures/journal-v1.json");
        let journal = Journal::read(text.as_bytes()).unwrap();
        assert_eq!((journal.epoch, journal.n, journal.rows.len(), journal.segments.len()), (2, 1, 2, 3));
        assert_eq!(journal.rows[1].borrowed, [0]);
        assert_eq!(journal.inits[journal.segments[2].init].format, journal.tracks[2].format);
        let later = text.replacen("\"v\":1", "\"v\":2", 1).replacen("\"rows\"", "\"lines\"", 1);
        assert!(matches!(Journal::read(later.as_bytes()), Err(JournalError::Later(2))));
        let more = text.replacen("\"v\":1", "\"v\":1,\"colour\":\"red\"", 1);
        assert_eq!(Journal::read(more.as_bytes()).unwrap(), journal);
        assert!(matches!(Journal::read(b"{}"), Err(JournalError::Broken(_))));
    }
}
