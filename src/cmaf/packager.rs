//! One track's samples and the timeline's cuts to numbered segments. Pure.
//!
//! Every track of a stream has a packager and is told the same cuts, so all tracks have the same segment numbers. Decides where a
//! sample belongs and what is lost; knows nothing of codec processes, playlists or stores.

use std::collections::VecDeque;

use super::aac::FRAME;
use super::events::Event;
use super::fragment::{FragmentError, Fragmenter, Sample, Segment};
use super::sei::Triplet;
use crate::logic::time::{MediaTime, Timescale};

/// A segment number and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    number: u64,
    start: MediaTime,
    /// Known when no other segment follows at once.
    end: Option<MediaTime>,
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

/// Their bytes: 10 s at 50 Mbit/s.
const MAX_BYTES: usize = 64 << 20;

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
    /// Start of the last audio frame in it.
    last: Option<i64>,
    /// Number of the next segment that nobody has heard of yet: lower ones were finished or lost.
    next: u64,
}

impl Packager {
    /// A track in `scale` that has seen no cut.
    pub fn new(kind: Kind, scale: Timescale) -> Self {
        let fragmenter = Fragmenter::new(scale);
        Self { kind, scale, fragmenter, cuts: VecDeque::new(), filling: false, last: None, next: 0 }
    }

    /// Segment `number` begins at `start`. Cuts come in order, before any sample at or behind them.
    pub fn cut(&mut self, number: u64, start: MediaTime) -> Vec<Output> {
        if self.cuts.is_empty() {
            self.next = self.next.max(number);
        }
        self.cuts.push_back(Cut { number, start, end: None });
        let mut out = Vec::new();
        while self.cuts.len() > MAX_CUTS {
            self.lose_front(&mut out);
        }
        out
    }

    /// Closed captions for the picture at `pts`, or the next one that this track has. Given once, in front of all samples behind them: a restarted encoder's
    /// pictures find them here again.
    pub fn caption(&mut self, pts: MediaTime, triplets: Vec<Triplet>) {
        self.fragmenter.caption(self.ticks(pts), triplets);
    }

    /// A message for the segment that contains its time; likewise.
    pub fn event(&mut self, event: Event) {
        self.fragmenter.event(event);
    }

    /// Forgets the open segment: its samples will come again from a restarted encoder.
    pub fn restart(&mut self) {
        self.fragmenter.discard();
        self.filling = false;
        self.last = None;
    }

    /// Adds a sample, in decode order.
    ///
    /// # Errors
    /// [`FragmentError`] when the finished segment cannot be written; it is lost, the track goes on.
    pub fn push(&mut self, sample: Sample) -> Result<Vec<Output>, FragmentError> {
        let mut out = Vec::new();
        let mut result = Ok(());
        while let Some(front) = self.cuts.front().copied() {
            let next = self.cuts.get(1).copied();
            let bound = front.end.or(next.map(|n| n.start));
            if !bound.is_some_and(|b| self.reaches(&sample, b)) {
                break;
            }
            let begins = front.end.is_none() && next.is_some_and(|n| self.begins(&sample, n));
            let bound = self.ticks(bound.unwrap_or(front.start));
            let end = match self.last {
                _ if !begins => bound,
                // Audio with a hole of more than a frame: what is before it ends at the cut, not behind the hole.
                Some(last) if sample.pts - last > 2 * FRAME => bound.max(last + FRAME),
                _ => sample.pts,
            };
            if let Err(e) = self.finish_front(end, &mut out) {
                result = Err(e);
            }
        }
        if let Some(front) = self.cuts.front().copied() {
            if !self.filling && self.begins(&sample, front) {
                self.filling = true;
            }
            // Out of order by so much that its segment is finished.
            let late = sample.pts < self.ticks(front.start);
            if self.filling
                && !late
                && self.fragmenter.len() < MAX_SAMPLES
                && self.fragmenter.bytes() + sample.data.len() <= MAX_BYTES
            {
                self.last = (self.kind == Kind::Audio).then_some(sample.pts);
                self.fragmenter.push(sample);
            }
        }
        result.map(|()| out)
    }

    /// The newest segment ends at `end` and no other follows for now: a pause, or the end of the session. Samples before `end` may still come
    /// until [`Packager::flush`].
    pub fn close(&mut self, end: MediaTime) {
        if let Some(newest) = self.cuts.back_mut() {
            newest.end.get_or_insert(end);
        }
    }

    /// Everything before the last [`Packager::close`] is here: finishes those segments; what never came is lost.
    ///
    /// # Errors
    /// As [`Packager::push`].
    pub fn flush(&mut self) -> Result<Vec<Output>, FragmentError> {
        let mut out = Vec::new();
        let mut result = Ok(());
        let closed = self.cuts.iter().rposition(|c| c.end.is_some()).map_or(0, |i| i + 1);
        for _ in 0..closed {
            let Some(front) = self.cuts.front().copied() else { break };
            let until = front.end.or(self.cuts.get(1).map(|next| next.start)).unwrap_or(front.start);
            if let Err(e) = self.finish_front(self.ticks(until), &mut out) {
                result = Err(e);
            }
        }
        result.map(|()| out)
    }

    /// The newest segment never existed (its row was dropped as too short): the one before it ends where it would have begun.
    pub fn drop_open(&mut self) {
        if self.cuts.len() == 1 {
            self.restart();
        }
        if let Some(gone) = self.cuts.pop_back() {
            self.close(gone.start);
        }
    }

    fn ticks(&self, t: MediaTime) -> i64 {
        t.in_scale(self.scale)
    }

    /// The sample lies behind `bound` and so ends what is before it. (A picture presented there that is no IDR: the encoder missed the cut.)
    fn reaches(&self, sample: &Sample, bound: MediaTime) -> bool {
        match self.kind {
            Kind::Video => sample.pts >= self.ticks(bound),
            Kind::Audio => MediaTime::from_scale(sample.pts, self.scale) >= bound,
        }
    }

    fn begins(&self, sample: &Sample, cut: Cut) -> bool {
        match self.kind {
            Kind::Video => sample.sync && sample.pts == self.ticks(cut.start),
            Kind::Audio => MediaTime::from_scale(sample.pts, self.scale) >= cut.start,
        }
    }

    fn finish_front(&mut self, end: i64, out: &mut Vec<Output>) -> Result<(), FragmentError> {
        let Some(cut) = self.cuts.pop_front() else { return Ok(()) };
        // Of the last segment of a run: where the next run begins.
        let until = cut.end.map(|_| self.cuts.front().map_or(i64::MAX, |next| self.ticks(next.start)));
        let segment = match (self.filling, until) {
            (false, _) => Ok(None),
            (true, None) => self.fragmenter.close_segment(end),
            (true, Some(until)) => self.fragmenter.close_run(end, until),
        };
        self.filling = false;
        self.last = None;
        if until.is_some() || !matches!(segment, Ok(Some(_))) {
            self.fragmenter.forget_before(until.unwrap_or(end));
        }
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
        let lost = self.cuts.pop_front();
        if let Some(next) = self.cuts.front() {
            self.fragmenter.forget_before(self.ticks(next.start));
        }
        if let Some(cut) = lost
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
    use crate::cmaf::sei;
    use bytes::Bytes;

    fn sample(pts: i64, sync: bool) -> Sample {
        Sample { pts, sync, data: Bytes::from_static(b"data") }
    }

    fn video() -> Packager {
        let mut p = Packager::new(Kind::Video, Timescale::VIDEO);
        assert!(p.cut(0, MediaTime(0)).is_empty());
        p
    }

    fn end(p: &mut Packager, at: i64) -> Vec<Output> {
        p.close(MediaTime(at));
        p.flush().unwrap()
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
        assert_eq!(numbers(&end(&mut p, 12_000)), [(1, Some(3000))]);
    }

    #[test]
    fn a_picture_of_a_finished_segment_is_left_out() {
        let mut p = video();
        p.push(sample(0, true)).unwrap();
        p.cut(1, MediaTime(9000));
        p.push(sample(9000, true)).unwrap();
        p.push(sample(6000, false)).unwrap();
        let Some(Output::Segment { segment, .. }) = end(&mut p, 12_000).pop() else { panic!("a segment") };
        assert_eq!((segment.start, segment.duration, segment.samples), (9000, 3000, 1));
    }

    #[test]
    fn a_missed_cut_loses_that_segment_only() {
        let mut p = video();
        p.push(sample(0, true)).unwrap();
        p.cut(1, MediaTime(9000));
        p.cut(2, MediaTime(18_000));
        assert_eq!(numbers(&p.push(sample(9000, false)).unwrap()), [(0, Some(9000))]);
        assert_eq!(numbers(&p.push(sample(18_000, true)).unwrap()), [(1, None)]);
        assert_eq!(numbers(&end(&mut p, 21_000)), [(2, Some(3000))]);
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
    fn a_hole_in_the_audio_belongs_to_no_segment() {
        let mut p = Packager::new(Kind::Audio, Timescale::new(48_000).unwrap());
        p.cut(0, MediaTime(0));
        p.push(sample(0, true)).unwrap();
        p.cut(1, MediaTime(90 * 80));
        assert_eq!(numbers(&p.push(sample(48_000, true)).unwrap()), [(0, Some(3840))]);
        p.close(MediaTime(90_000 + 90 * 80));
        let Some(Output::Segment { segment, .. }) = p.flush().unwrap().pop() else { panic!("a segment") };
        assert_eq!((segment.start, segment.duration), (48_000, 3840));
    }

    #[test]
    fn a_track_that_gives_nothing_loses_its_segments_and_holds_few_cuts() {
        let mut p = video();
        let lost: usize = (1..200).map(|n| p.cut(n, MediaTime(n as i64 * 9000)).len()).sum();
        assert_eq!(lost, 200 - MAX_CUTS);
    }

    #[test]
    fn a_slow_encoder_may_finish_behind_a_pause_while_the_next_run_is_announced() {
        let mut p = video();
        p.push(sample(0, true)).unwrap();
        p.close(MediaTime(9000));
        p.cut(1, MediaTime(90_000));
        assert!(p.push(sample(3000, false)).unwrap().is_empty());
        assert_eq!(numbers(&p.flush().unwrap()), [(0, Some(9000))]);
        assert!(p.push(sample(90_000, true)).unwrap().is_empty());
        assert_eq!(numbers(&end(&mut p, 93_000)), [(1, Some(3000))]);
    }

    /// Captions of the only picture of a segment.
    fn captions(out: &[Output]) -> Vec<Triplet> {
        let [Output::Segment { segment, .. }] = out else { panic!("{out:?}") };
        let at = segment.bytes.windows(4).position(|w| w == b"mdat").unwrap() + 4;
        sei::read(crate::logic::model::Coding::H264, &segment.bytes[at..])
    }

    #[test]
    fn captions_of_a_lost_segment_and_of_a_run_that_is_over_go_with_it() {
        let picture = |pts: i64| Sample { pts, sync: true, data: Bytes::from_static(&[0, 0, 0, 2, 0x65, 0]) };
        let number = |n: u8| [0xfc, n, n];
        let mut p = video();
        p.push(picture(0)).unwrap();
        p.cut(1, MediaTime(9000));
        p.cut(2, MediaTime(18_000));
        for (pts, n) in [(3000, 1), (9000, 2), (12_000, 3), (18_000, 4)] {
            p.caption(MediaTime(pts), vec![number(n)]);
        }
        // The encoder lost all of segment 1, and with it the picture that would have carried what came behind the last one of segment 0.
        let out = p.push(picture(18_000)).unwrap();
        assert_eq!(numbers(&out), [(0, Some(9000)), (1, None)]);
        p.caption(MediaTime(19_000), vec![number(5); 40]);
        let carried = captions(&end(&mut p, 21_000));
        assert_eq!((carried[0], carried.len()), (number(4), 31));
        p.cut(3, MediaTime(90_000));
        p.caption(MediaTime(90_000), vec![number(6)]);
        p.push(picture(90_000)).unwrap();
        assert_eq!(captions(&end(&mut p, 93_000)), [number(6)], "nothing of the run before");
    }

    #[test]
    fn a_dropped_tail_ends_the_segment_before_it() {
        let mut p = video();
        p.push(sample(0, true)).unwrap();
        p.cut(1, MediaTime(9000));
        p.drop_open();
        assert_eq!(numbers(&p.push(sample(9000, true)).unwrap()), [(0, Some(9000))]);
        assert!(p.flush().unwrap().is_empty());
        p.cut(1, MediaTime(90_000));
        p.push(sample(90_000, true)).unwrap();
        assert_eq!(numbers(&end(&mut p, 93_000)), [(1, Some(3000))]);
    }
}
