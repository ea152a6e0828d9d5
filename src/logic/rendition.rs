//! The audio rendition over a session: one [`AudioTrack`] after the other, of which the older ones may still wait for what a codec process makes. Pure.
//!
//! Copied frames are here when a run ends. Re-encoded ones are still inside: such a run stays open until the codec process has given them, has said that
//! no more come, or nobody waits any longer.

use std::collections::VecDeque;

use super::audio::{AudioTrack, Frame, Repairs};
use super::model::AudioUnit;
use super::time::{MediaTime, Timescale};
use crate::cmaf::aac::FRAME;

/// What ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A discontinuity: the same sound goes on behind it.
    Cut,
    /// The source's configuration changed, and with it what the codec process does.
    Changed,
    /// The publisher paused.
    Pause,
}

/// One run of frames between two discontinuities.
#[derive(Debug)]
struct Run {
    track: AudioTrack,
    /// Frames come from a codec process.
    late: bool,
    end: Option<(MediaTime, End)>,
    /// All frames before the end are here.
    whole: bool,
}

/// Runs that wait for a codec process at the most; more discontinuities than this within the patience of a run end the oldest.
const MAX_RUNS: usize = 16;

/// Finished runs remembered: of the 1024 places within a frame a new one finds a free one at once.
const MAX_PLACES: usize = 256;

/// All runs that are not finished, oldest first.
#[derive(Debug, Default)]
pub struct Rendition {
    runs: VecDeque<Run>,
    /// Start of the last frame given.
    last: Option<MediaTime>,
    /// Rates of finished runs, and the places within a frame at which their frames began: see [`AudioTrack::beside`].
    places: VecDeque<(Timescale, i64)>,
    /// What was done in finished runs.
    repairs: Repairs,
}

impl Rendition {
    /// The newest run ends at `end`, if there is one, and `next` begins, if any. `late` of it: what it is made of comes from a codec process.
    /// Gives what is finished with that.
    pub fn turn(&mut self, end: MediaTime, why: End, next: Option<(AudioTrack, bool)>) -> Vec<Frame> {
        if let Some(run) = self.runs.back_mut() {
            run.end.get_or_insert((end, why));
        }
        if let Some((track, late)) = next {
            self.runs.push_back(Run { track, late, end: None, whole: !late });
        }
        self.finish()
    }

    /// A frame that is copied.
    pub fn push(&mut self, unit: AudioUnit) {
        if let Some(run) = self.runs.back_mut().filter(|r| !r.late) {
            run.track.push(unit);
        }
    }

    /// The newest run goes on with what a codec process makes, in the same format: no discontinuity is needed.
    pub fn hand_over(&mut self) {
        if let Some(run) = self.runs.back_mut().filter(|r| !r.late && r.end.is_none()) {
            run.track.hand_over();
            (run.late, run.whole) = (true, false);
        }
    }

    /// How far copied audio of the newest run is off for good: see [`AudioTrack::drift`].
    pub fn drift(&self) -> Option<i32> {
        self.runs.back().filter(|r| !r.late).and_then(|r| r.track.drift())
    }

    /// What was done to all audio so far.
    pub fn repairs(&self) -> Repairs {
        self.runs.iter().fold(self.repairs, |sum, run| sum + run.track.repairs())
    }

    /// A frame that the codec process made; in order.
    pub fn made(&mut self, unit: AudioUnit) {
        for run in self.runs.iter_mut().filter(|r| r.late && !r.whole) {
            match run.end {
                // Behind the end of a run come frames of the next one, if both are of one source.
                Some((end, End::Cut)) if unit.pts >= end => run.whole = true,
                Some((end, _)) if unit.pts >= end => return,
                _ => return run.track.push(unit),
            }
        }
    }

    /// The codec process has given all of the source that it had before [`End::Changed`].
    pub fn given(&mut self) -> Vec<Frame> {
        for run in self.runs.iter_mut().filter(|r| r.end.is_some() && !r.whole) {
            run.whole = true;
            if run.end.is_some_and(|(_, why)| why == End::Changed) {
                break;
            }
        }
        self.finish()
    }

    /// Nothing more comes of runs that have ended.
    pub fn drained(&mut self) -> Vec<Frame> {
        self.runs.iter_mut().filter(|r| r.end.is_some()).for_each(|r| r.whole = true);
        self.finish()
    }

    /// The codec process died. A new one is fed with what is kept of the same source; what an earlier one of another source had inside is gone.
    pub fn restart(&mut self) -> Vec<Frame> {
        let old = self.runs.iter().rposition(|r| r.end.is_some_and(|(_, why)| why != End::Cut)).map_or(0, |at| at + 1);
        for (n, run) in self.runs.iter_mut().enumerate().filter(|(_, r)| r.late) {
            if n < old {
                run.whole = true;
            } else if !run.whole {
                run.track.restart();
            }
        }
        self.finish()
    }

    /// Frames before `horizon`, as [`AudioTrack::release`].
    pub fn release(&mut self, horizon: MediaTime) -> Vec<Frame> {
        let mut out = self.finish();
        loop {
            let crowded = self.runs.len() > MAX_RUNS;
            let Some(run) = self.runs.front_mut() else { break };
            let end = run.end.map(|(end, _)| end);
            let frames = run.track.release(end.map_or(horizon, |end| end.min(horizon)));
            let rate = run.track.format().rate;
            let wait = !crowded && end.is_none_or(|end| horizon - run.track.patience() < end);
            // Nobody waits for ever.
            run.whole |= !wait;
            out.extend(self.in_order(frames, rate, end));
            if wait {
                break;
            }
            out.extend(self.finish());
        }
        out
    }

    /// Of finished runs: see [`AudioTrack::beside`].
    pub fn places(&self) -> impl Iterator<Item = &(Timescale, i64)> {
        self.places.iter()
    }

    /// Runs that have ended still wait for a codec process.
    pub fn is_pending(&self) -> bool {
        self.runs.iter().any(|r| r.end.is_some())
    }

    /// Takes runs that are whole from the front.
    fn finish(&mut self) -> Vec<Frame> {
        let mut out = Vec::new();
        while self.runs.front().is_some_and(|r| r.whole && r.end.is_some()) {
            let Some(Run { track, late, end: Some((end, why)), .. }) = self.runs.pop_front() else { break };
            let (rate, place) = track.place_in_frame();
            let (frames, behind, repairs) = track.finish(end);
            self.repairs = self.repairs + repairs;
            let place = frames.last().map_or(place, |f| f.start.rem_euclid(FRAME));
            self.places.push_back((rate, place));
            if self.places.len() > MAX_PLACES {
                self.places.pop_front();
            }
            out.extend(self.in_order(frames, rate, Some(end)));
            // The same sound goes on: what came early belongs to the next run.
            if let Some(next) = self.runs.front_mut().filter(|next| why == End::Cut && next.late == late) {
                behind.into_iter().for_each(|unit| next.track.push(unit));
            }
        }
        out
    }

    /// A frame may stand up to the tolerated error from its own time: around the end of a run what would lie behind it, or go back, is left out.
    fn in_order(&mut self, frames: Vec<Frame>, rate: Timescale, end: Option<MediaTime>) -> Vec<Frame> {
        let mut keep = |frame: &Frame| {
            let start = MediaTime::from_scale(frame.start, rate);
            let kept = self.last.is_none_or(|last| start > last) && end.is_none_or(|end| start < end);
            self.last = if kept { Some(start) } else { self.last };
            kept
        };
        frames.into_iter().filter(|f| keep(f)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::aac;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn ms(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    fn track(start: i64) -> AudioTrack {
        AudioTrack::new(aac::silent_format(), false, ms(start)).late(MediaTime::ZERO)
    }

    fn copied(start: i64) -> AudioTrack {
        AudioTrack::new(aac::silent_format(), false, ms(start))
    }

    fn unit(at: i64, data: &'static [u8]) -> AudioUnit {
        AudioUnit { pts: ms(at), data: Bytes::from_static(data) }
    }

    /// Milliseconds of the frames that hold `data`.
    fn heard(frames: &[Frame], data: &[u8]) -> Vec<i64> {
        frames.iter().filter(|f| &f.data[..] == data).map(|f| f.start / 48).collect()
    }

    #[test]
    fn a_cut_costs_nothing_of_what_is_still_inside() {
        let mut r = Rendition::default();
        r.turn(ms(0), End::Cut, Some((track(0), true)));
        (0..40).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        let mut out = r.release(ms(1000));
        out.extend(r.turn(ms(1000), End::Cut, Some((track(1000), true))));
        assert!(r.is_pending());
        (40..60).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        out.extend(r.release(ms(1250)));
        assert!(!r.is_pending());
        assert_eq!(heard(&out, b"a").len(), 59);
        assert_eq!(out.len(), 59, "and no silence");
    }

    #[test]
    fn frames_of_the_old_source_end_where_the_codec_process_says_so() {
        let mut r = Rendition::default();
        r.turn(ms(0), End::Cut, Some((track(0), true)));
        (0..40).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        r.turn(ms(1000), End::Changed, Some((copied(1000), false)));
        (47..60).for_each(|n| r.push(unit(n * 1024 / 48, b"b")));
        let mut out = r.release(ms(1000));
        (40..48).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        out.extend(r.given());
        out.extend(r.release(ms(1300)));
        assert_eq!((heard(&out, b"a").len(), heard(&out, b"b").len()), (47, 13));
        assert_eq!(out.len(), 60, "{out:?}");
    }

    #[test]
    fn what_an_old_source_has_behind_its_end_is_not_heard_in_the_new_one() {
        let mut r = Rendition::default();
        r.turn(ms(0), End::Cut, Some((track(0), true)));
        (0..40).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        r.turn(ms(1000), End::Changed, Some((track(1000), true)));
        (40..52).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        let mut out = r.given();
        (47..60).for_each(|n| r.made(unit(n * 1024 / 48, b"b")));
        out.extend(r.release(ms(1300)));
        assert_eq!((heard(&out, b"a").len(), heard(&out, b"b").len()), (47, 13));
    }

    #[test]
    fn a_process_that_says_nothing_costs_silence_not_the_rendition() {
        let mut r = Rendition::default();
        r.turn(ms(0), End::Cut, Some((track(0), true)));
        r.made(unit(0, b"a"));
        let mut out = r.release(ms(1000));
        out.extend(r.turn(ms(1000), End::Changed, Some((track(1000), true))));
        out.extend(r.release(ms(3000)));
        assert!(!r.is_pending());
        assert!(out.last().unwrap().start > 48 * 2000, "{out:?}");
    }

    #[test]
    fn behind_a_pause_the_drained_process_has_the_last_word() {
        let mut r = Rendition::default();
        r.turn(ms(0), End::Cut, Some((track(0), true)));
        (0..40).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        r.release(ms(900));
        assert!(r.turn(ms(1000), End::Pause, None).is_empty());
        (40..50).for_each(|n| r.made(unit(n * 1024 / 48, b"a")));
        assert_eq!(heard(&r.drained(), b"a").len(), 7);
        assert!(!r.is_pending());
    }

    proptest! {
        /// Whatever comes, no frame begins before an earlier one. (The last one of a run may reach beyond its end: the packager cuts it there.)
        #[test]
        fn frames_never_go_back(steps in proptest::collection::vec((0u8..9, 1i64..400), 1..200)) {
            let mut r = Rendition::default();
            let (mut now, mut made) = (0, 0);
            let mut last = -1;
            r.turn(ms(0), End::Cut, Some((track(0), true)));
            for (what, by) in steps {
                now += by;
                let mut out = match what {
                    0 => r.turn(ms(now), End::Cut, Some((track(now), true))),
                    1 => r.turn(ms(now), End::Changed, Some((copied(now), false))),
                    2 => r.turn(ms(now), End::Pause, None),
                    3 => r.given(),
                    4 => r.drained(),
                    5 => { made = (made - by).max(0); r.restart() }
                    _ => {
                        while made < now - 150 {
                            r.made(unit(made, b"a"));
                            r.push(unit(made, b"b"));
                            made += 21;
                        }
                        Vec::new()
                    }
                };
                out.extend(r.release(ms(now)));
                for frame in out {
                    prop_assert!(frame.start > last, "{} behind {last}", frame.start);
                    last = frame.start;
                }
                prop_assert!(r.runs.len() <= MAX_RUNS + 1);
            }
        }
    }
}
