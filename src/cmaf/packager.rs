//! One track's samples and the timeline's cuts to numbered segments. Pure.
//!
//! Every track of a stream has a packager and is told the same cuts, so all tracks have the same segment numbers. Decides where a
//! sample belongs and what is lost; knows nothing of codec processes, playlists or stores.

use std::collections::VecDeque;

use super::fragment::{FragmentError, Fragmenter, Sample, Segment};
use crate::logic::time::{MediaTime, Timescale};

/// A segment number and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    number: u64,
    start: MediaTime,
}

/// What came of a sample.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A segment is complete.
    Segment {
        /// Its number.
        number: u64,
        /// Its bytes and times.
        segment: Segment,
    },
    /// The track has nothing for this number and never will.
    Lost {
        /// The number.
        number: u64,
    },
}

/// How a track's samples begin segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A segment begins with a sync sample presented exactly at the cut.
    Video,
    /// A segment begins with the first frame at or after the cut (rules.md 6).
    Audio,
}

/// Cuts that a packager remembers at the most. Encoders are behind the source by seconds and a segment is at least half a second long, so 64
/// are over 30 s; a track that is further behind has lost its oldest segments anyway.
const MAX_CUTS: usize = 64;

/// Samples of one open segment at the most: 10 s at 240 fps, or 50 s of audio. More is a source that ignores every cut.
const MAX_SAMPLES: usize = 2400;

/// Collects one track.
#[derive(Debug)]
pub struct Packager {
    kind: Kind,
    scale: Timescale,
    fragmenter: Fragmenter,
    /// Cuts from the open segment's own (front) to the newest.
    cuts: VecDeque<Cut>,
    /// Set while the front cut's segment has its first sample.
    filling: bool,
    /// Number of the next segment that nobody has heard of yet: lower ones were finished or lost.
    next: u64,
}

impl Packager {
    /// A track in `scale` that has seen no cut.
    pub fn new(kind: Kind, scale: Timescale) -> Self {
        Self { kind, scale, fragmenter: Fragmenter::new(), cuts: VecDeque::new(), filling: false, next: 0 }
    }

    /// Segment `number` begins at `start`. Cuts come in order, before any sample at or behind them.
    pub fn cut(&mut self, number: u64, start: MediaTime) -> Vec<Output> {
        if self.cuts.is_empty() {
            self.next = self.next.max(number);
        }
        self.cuts.push_back(Cut { number, start });
        let mut out = Vec::new();
        while self.cuts.len() > MAX_CUTS {
            self.lose_front(&mut out);
        }
        out
    }

    /// Forgets the open segment: its samples will come again from a restarted encoder.
    pub fn restart(&mut self) {
        self.fragmenter.discard();
        self.filling = false;
    }

    /// Adds a sample, in decode order.
    ///
    /// # Errors
    /// [`FragmentError`] when the finished segment cannot be written; it is lost, the track goes on.
    pub fn push(&mut self, sample: Sample) -> Result<Vec<Output>, FragmentError> {
        let mut out = Vec::new();
        let mut result = Ok(());
        while let Some(next) = self.cuts.get(1).copied() {
            if !self.reaches(&sample, next) {
                break;
            }
            let end = if self.begins(&sample, next) { sample.pts } else { self.ticks(next.start) };
            if let Err(e) = self.finish_front(end, &mut out) {
                result = Err(e);
            }
        }
        if let Some(front) = self.cuts.front().copied() {
            if !self.filling && self.begins(&sample, front) {
                self.filling = true;
            }
            if self.filling && self.fragmenter.len() < MAX_SAMPLES {
                self.fragmenter.push(sample);
            }
        }
        result.map(|()| out)
    }

    /// The open segment ends at `end` and no other follows for now: a pause, or the end of the session. Cuts whose samples never came are lost.
    ///
    /// # Errors
    /// As [`Packager::push`].
    pub fn end(&mut self, end: MediaTime) -> Result<Vec<Output>, FragmentError> {
        let mut out = Vec::new();
        let mut result = Ok(());
        while let Some(&Cut { .. }) = self.cuts.front() {
            let until = self.cuts.get(1).map_or(end, |next| next.start);
            if let Err(e) = self.finish_front(self.ticks(until), &mut out) {
                result = Err(e);
            }
        }
        result.map(|()| out)
    }

    /// The newest announced segment never existed (its row was dropped as too short).
    pub fn drop_open(&mut self) {
        if self.cuts.len() == 1 {
            self.restart();
        }
        self.cuts.pop_back();
    }

    fn ticks(&self, t: MediaTime) -> i64 {
        t.in_scale(self.scale)
    }

    /// The sample lies behind `cut` and so ends what is before it.
    fn reaches(&self, sample: &Sample, cut: Cut) -> bool {
        match self.kind {
            // A picture presented at or after the cut that is no IDR: the encoder missed the cut.
            Kind::Video => sample.pts >= self.ticks(cut.start),
            Kind::Audio => MediaTime::from_scale(sample.pts, self.scale) >= cut.start,
        }
    }

    fn begins(&self, sample: &Sample, cut: Cut) -> bool {
        match self.kind {
            Kind::Video => sample.sync && sample.pts == self.ticks(cut.start),
            Kind::Audio => MediaTime::from_scale(sample.pts, self.scale) >= cut.start,
        }
    }

    fn finish_front(&mut self, end: i64, out: &mut Vec<Output>) -> Result<(), FragmentError> {
        let segment = if self.filling { self.fragmenter.close_segment(end) } else { Ok(None) };
        self.filling = false;
        let Some(cut) = self.cuts.pop_front() else { return Ok(()) };
        if cut.number < self.next {
            return Ok(());
        }
        self.next = cut.number + 1;
        match segment {
            Ok(Some(segment)) => out.push(Output::Segment { number: cut.number, segment }),
            Ok(None) => out.push(Output::Lost { number: cut.number }),
            Err(e) => {
                out.push(Output::Lost { number: cut.number });
                return Err(e);
            }
        }
        Ok(())
    }

    fn lose_front(&mut self, out: &mut Vec<Output>) {
        self.restart();
        if let Some(cut) = self.cuts.pop_front()
            && cut.number >= self.next
        {
            self.next = cut.number + 1;
            out.push(Output::Lost { number: cut.number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn sample(pts: i64, sync: bool) -> Sample {
        Sample { pts, sync, data: Bytes::from_static(b"data") }
    }

    fn video() -> Packager {
        let mut p = Packager::new(Kind::Video, Timescale::VIDEO);
        assert!(p.cut(0, MediaTime(0)).is_empty());
        p
    }

    fn numbers(out: &[Output]) -> Vec<(u64, Option<i64>)> {
        out.iter()
            .map(|o| match o {
                Output::Segment { number, segment } => (*number, Some(segment.duration)),
                Output::Lost { number } => (*number, None),
            })
            .collect()
    }

    #[test]
    fn a_segment_ends_with_the_idr_at_the_next_cut() {
        let mut p = video();
        for (pts, sync) in [(0, true), (6000, false), (3000, false)] {
            assert!(p.push(sample(pts, sync)).unwrap().is_empty());
        }
        p.cut(1, MediaTime(9000));
        assert_eq!(numbers(&p.push(sample(9000, true)).unwrap()), [(0, Some(9000))]);
        assert_eq!(numbers(&p.end(MediaTime(12_000)).unwrap()), [(1, Some(3000))]);
    }

    #[test]
    fn a_missed_cut_loses_that_segment_only() {
        let mut p = video();
        p.push(sample(0, true)).unwrap();
        p.cut(1, MediaTime(9000));
        p.cut(2, MediaTime(18_000));
        assert_eq!(numbers(&p.push(sample(9000, false)).unwrap()), [(0, Some(9000))]);
        assert_eq!(numbers(&p.push(sample(18_000, true)).unwrap()), [(1, None)]);
        assert_eq!(numbers(&p.end(MediaTime(21_000)).unwrap()), [(2, Some(3000))]);
    }

    #[test]
    fn a_restarted_encoder_repeats_and_nothing_is_numbered_twice() {
        let mut p = video();
        p.push(sample(0, true)).unwrap();
        p.cut(1, MediaTime(9000));
        p.push(sample(9000, true)).unwrap();
        p.push(sample(12_000, false)).unwrap();
        p.restart();
        // fed from the IDR before segment 1, which was finished already
        assert!(p.push(sample(0, true)).unwrap().is_empty());
        assert!(p.push(sample(9000, true)).unwrap().is_empty());
        p.push(sample(12_000, false)).unwrap();
        p.cut(2, MediaTime(15_000));
        assert_eq!(numbers(&p.push(sample(15_000, true)).unwrap()), [(1, Some(6000))]);
    }

    #[test]
    fn audio_begins_with_the_first_frame_at_or_after_the_cut() {
        let mut p = Packager::new(Kind::Audio, Timescale::new(48_000).unwrap());
        p.cut(0, MediaTime(0));
        for n in 0..4 {
            assert!(p.push(sample(n * 1024, true)).unwrap().is_empty());
        }
        p.cut(1, MediaTime(90 * 80)); // 80 ms: between frame 3 (64 ms) and 4 (85.3 ms)
        assert_eq!(numbers(&p.push(sample(4 * 1024, true)).unwrap()), [(0, Some(4 * 1024))]);
    }

    #[test]
    fn a_track_that_gives_nothing_loses_its_segments_and_holds_few_cuts() {
        let mut p = video();
        let lost: usize = (1..200).map(|n| p.cut(n, MediaTime(n as i64 * 9000)).len()).sum();
        assert_eq!(lost, 200 - MAX_CUTS);
    }
}
