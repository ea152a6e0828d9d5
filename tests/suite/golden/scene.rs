//! Windows to render, built through the window's own calls only.

use std::sync::Arc;
use std::time::Duration;

use weir::logic::model::{AudioFormat, FrameRate, Keeping, Keys, Replicate, TrackName, VideoFormat};
use weir::logic::playlist::{Format, Init, Placed, Policy, Snapshot, Track, Window};
use weir::logic::time::{MediaTime, Timescale, UnixMillis};

/// 2026-08-22T12:00:00Z
pub const ANCHOR: UnixMillis = UnixMillis(1_787_400_000_000);

/// Samples in an AAC frame.
const FRAME: i64 = 1024;

pub fn keys() -> Keys {
    Keys::new(
        &"eu1".parse().unwrap(),
        &"demo".parse().unwrap(),
        &"s7".parse().unwrap(),
        1,
        Keeping { replicate: Replicate::None, recorded: false },
    )
}

pub fn rung(name: &str, (width, height): (u32, u32), fps: FrameRate, codec: &str, max_kbps: u64) -> Track {
    let format = VideoFormat { width, height, fps, codec: codec.into(), avcc: codec.as_bytes().to_vec().into() };
    track(name, Format::Video(format), max_kbps)
}

pub fn aac(hz: u32, channels: u8) -> Format {
    let rate = Timescale::new(hz).unwrap();
    Format::Audio(AudioFormat { rate, channels, codec: "mp4a.40.2".into(), asc: vec![channels].into(), language: None })
}

pub fn track(name: &str, format: Format, max_kbps: u64) -> Track {
    Track { name: name.parse().unwrap(), format, max_bitrate: max_kbps * 1000, average_bitrate: None }
}

/// 720p, 360p and stereo AAC at 48 kHz.
pub fn ladder() -> Vec<Track> {
    let fps = FrameRate::whole(30);
    vec![
        rung("720p", (1280, 720), fps, "avc1.64001f", 4200),
        rung("360p", (640, 360), fps, "avc1.4d401e", 1050),
        track("audio", aac(48_000, 2), 128),
    ]
}

/// What one track does with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its own segment.
    Own,
    /// Nothing until the deadline.
    Late,
    /// Reported lost.
    Lost,
    /// The segment of another track (rules.md 1: a rung that is not produced).
    Of(usize),
}

/// One row.
#[derive(Debug, Clone)]
pub struct Cut {
    pub length: MediaTime,
    pub discontinuity: bool,
    /// Media time without a row in front of this one.
    pub pause: MediaTime,
    /// Per track; [`Part::Own`] where the list is shorter.
    pub parts: Vec<Part>,
}

impl Cut {
    pub fn of(length: MediaTime) -> Self {
        Self { length, discontinuity: false, pause: MediaTime::ZERO, parts: Vec::new() }
    }

    pub fn two_seconds() -> Self {
        Self::of(MediaTime::from_secs(2))
    }

    pub fn parts(self, parts: &[Part]) -> Self {
        Self { parts: parts.to_vec(), ..self }
    }

    pub fn discontinuity(self) -> Self {
        Self { discontinuity: true, ..self }
    }
}

/// A session that runs.
pub struct Scene {
    pub window: Window,
    /// What each track's next segments are; differs from the announced format behind a reconnect.
    pub formats: Vec<Format>,
    cursor: MediaTime,
    number: u64,
    now: Duration,
}

impl Scene {
    pub fn new(tracks: Vec<Track>, target_duration: u32) -> Self {
        let formats = tracks.iter().map(|t| t.format.clone()).collect();
        let policy = Policy { target_duration, window: MediaTime::ZERO, first_row_wait: Duration::from_secs(1) };
        let window = Window::new("s7".parse().unwrap(), policy, ANCHOR, tracks);
        Self { window, formats, cursor: MediaTime::ZERO, number: 0, now: Duration::ZERO }
    }

    pub fn rows(mut self, cuts: impl IntoIterator<Item = Cut>) -> Self {
        for cut in cuts {
            self.row(&cut);
        }
        self
    }

    pub fn row(&mut self, cut: &Cut) {
        let start = self.cursor + cut.pause;
        let end = start + cut.length;
        assert!(self.window.open(self.number, start, cut.discontinuity, self.now));
        self.now += Duration::from_millis(cut.length.millis().unsigned_abs());
        self.window.close(end, self.now);
        let mut late = false;
        for track in 0..self.formats.len() {
            let owner = match cut.parts.get(track).copied().unwrap_or(Part::Own) {
                Part::Own => track,
                Part::Of(other) => other,
                Part::Lost => {
                    self.window.lose(track, self.number);
                    continue;
                }
                Part::Late => {
                    late = true;
                    continue;
                }
            };
            let placed = self.placed(owner, start, end);
            assert!(self.window.place(track, self.number, placed));
        }
        if late {
            self.now = self.window.poll_timeout().unwrap().max(self.now);
        }
        assert!(self.window.advance(weir::logic::playlist::Store::Up, &|_| false, self.now));
        self.number += 1;
        self.cursor = end;
    }

    pub fn end(mut self) -> Self {
        self.window.end(self.cursor, self.now);
        self
    }

    pub fn snapshot(&self) -> Snapshot {
        self.window.snapshot().unwrap()
    }

    fn placed(&self, track: usize, start: MediaTime, end: MediaTime) -> Placed {
        let (name, format) = (&self.window.tracks()[track].name, &self.formats[track]);
        let (start, end) = match format {
            Format::Video(_) => (start.0, end.0),
            Format::Audio(a) => (first_frame(start, a.rate), first_frame(end, a.rate)),
        };
        let init = Arc::new(Init { key: init_key(name, format), format: format.clone() });
        let bytes = (end - start).unsigned_abs() * self.window.tracks()[track].max_bitrate / 12;
        let size = bytes / u64::from(format.timescale().hz());
        Placed { start, duration: end - start, size, key: keys().segment(name, start), init }
    }
}

/// The first AAC frame at or after a cut (rules.md 6).
fn first_frame(cut: MediaTime, rate: Timescale) -> i64 {
    let ticks = -MediaTime(-cut.0).in_scale(rate);
    (ticks + FRAME - 1).div_euclid(FRAME) * FRAME
}

/// Stands for the content hash: formats that differ get keys that differ.
fn init_key(name: &TrackName, format: &Format) -> weir::logic::model::ObjectKey {
    // A language that nobody told is not in the init segment either.
    let text = format!("{format:?}").replace(", language: None", "");
    let hash = text.bytes().fold(17u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    keys().init(name, &format!("{hash:08x}"))
}
