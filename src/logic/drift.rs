//! Tells a publisher whose audio always runs at another pace than its timestamps (rules.md 11) from one that stalls, jumps or loses frames. Pure.
//!
//! Looks at the frames and at the corrections that [`super::audio`] makes of them. The pace is the slope of a straight line through the frames' times, so that
//! milliseconds that are rounded, and frames that come unevenly, even out.

use super::time::{MediaTime, Timescale};
use crate::cmaf::aac::FRAME;

/// So many corrections in the same direction within [`SPAN`] are no accident. Half a percent, which is heard in music, has them 29 s after the beginning
/// (60 ms take 12 s, then one frame of 48 kHz each 4.3 s); clocks that are 50 ppm apart, as those of good sound cards, have one in seven minutes, and never get here.
const CORRECTIONS: u32 = 5;

/// See above: so slow that four frames of 48 kHz in it, 0.14 %, are left alone.
const SPAN: MediaTime = MediaTime::from_secs(60);

/// Frames between two corrections of a clock, at the least: half of what 2 % has. Several at once are what a jump leaves behind.
const APART: i128 = 25;

/// More than this is no clock of any sound card, but times or a rate that are wrong; stretched, it would be heard as another pitch (a third of a
/// semitone). Parts per million.
pub const MAX_PPM: i32 = 20_000;

/// Where the samples are, seen from the publisher's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// There are too many: a frame was left out.
    Fast,
    /// There are too few: one was put in.
    Slow,
}

/// Least squares through `(number of the frame, how far its time is off, 1/90000 s)`.
#[derive(Debug, Default)]
struct Line {
    n: i128,
    x: i128,
    y: i128,
    xx: i128,
    xy: i128,
}

impl Line {
    fn push(&mut self, y: i64) {
        let (x, y) = (self.n, i128::from(y));
        self.n += 1;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// `(a, b)`: the slope is a / b.
    fn slope(&self) -> (i128, i128) {
        (self.n * self.xy - self.x * self.y, self.n * self.xx - self.x * self.x)
    }
}

/// Corrections of one kind that came one after the other, without anything between that explains them.
#[derive(Debug)]
struct Span {
    side: Side,
    begun: MediaTime,
    corrections: u32,
    /// Frames seen when the last one came.
    at: i128,
    line: Line,
}

/// See above.
#[derive(Debug)]
pub struct Drift {
    rate: Timescale,
    last: Option<MediaTime>,
    span: Option<Span>,
    found: Option<i32>,
}

impl Drift {
    /// Of audio of this rate.
    pub fn new(rate: Timescale) -> Self {
        Self { rate, last: None, span: None, found: None }
    }

    /// What was found: by how many millionths there are more samples than the publisher's times have room for (negative: fewer), -20,000 to 20,000.
    pub fn found(&self) -> Option<i32> {
        self.found
    }

    /// Something else than a clock moved the frames: silence was filled in, or what was heard comes again.
    pub fn interrupted(&mut self) {
        (self.last, self.span) = (None, None);
    }

    /// The next frame, at its own time, and how it was corrected.
    pub fn frame(&mut self, pts: MediaTime, corrected: Option<Side>) {
        let last = self.last.replace(pts);
        let frame = MediaTime::from_scale(FRAME, self.rate);
        // A frame that is lost is a whole one. Milliseconds that are rounded, at 2 %, are a twelfth of it.
        if last.is_some_and(|last| (pts.0 - last.0 - frame.0).abs() > frame.0 * 3 / 4) {
            self.span = None;
            return;
        }
        if let Some(side) = corrected {
            match &mut self.span {
                Some(span) if span.side == side && span.line.n - span.at < APART => {
                    self.span = None;
                    return;
                }
                Some(span) if span.side == side => (span.corrections, span.at) = (span.corrections + 1, span.line.n),
                span => *span = Some(Span { side, begun: pts, corrections: 1, at: 0, line: Line::default() }),
            }
        }
        let Some(span) = &mut self.span else { return };
        let n = i64::try_from(span.line.n).unwrap_or(0);
        span.line.push((pts - span.begun - MediaTime::from_scale(n * FRAME, self.rate)).0);
        if pts - span.begun > SPAN {
            self.span = None;
        } else if span.corrections >= CORRECTIONS {
            self.found = Self::pace(span, self.rate).or(self.found);
            self.span = None;
        }
    }

    fn pace(span: &Span, rate: Timescale) -> Option<i32> {
        let (a, b) = span.line.slope();
        // A frame has `ticks / rate` of 1/90000 s by its samples, and a / b more by the publisher's times.
        let ticks = i128::from(FRAME) * i128::from(Timescale::VIDEO.hz());
        let ppm = (-a * i128::from(rate.hz()) * 1_000_000).checked_div(ticks * b + a * i128::from(rate.hz()))?;
        let ppm = i32::try_from(ppm).ok().filter(|ppm| ppm.abs() <= MAX_PPM)?;
        let agrees = match span.side {
            Side::Fast => ppm > 0,
            Side::Slow => ppm < 0,
        };
        agrees.then_some(ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::aac;
    use crate::logic::audio::AudioTrack;
    use crate::logic::model::AudioUnit;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// What a track finds in frames of `rate` Hz that come at these milliseconds, and when.
    fn found(rate: u32, times: impl IntoIterator<Item = i64>) -> Option<(i64, i32)> {
        let mut format = aac::silent_format();
        format.rate = Timescale::new(rate).unwrap();
        let mut track = AudioTrack::new(format, false, MediaTime::ZERO);
        for ms in times {
            track.push(AudioUnit { pts: MediaTime::from_millis(ms), data: Bytes::from_static(b"aac") });
            track.release(MediaTime::from_millis(ms + 1));
            if let Some(ppm) = track.drift() {
                return Some((ms, ppm));
            }
        }
        None
    }

    /// Milliseconds, rounded down, of frames whose samples are `ppm` faster than the clock.
    fn clock(rate: u32, ppm: i64, secs: i64) -> impl Iterator<Item = i64> {
        let frames = secs * i64::from(rate) / FRAME;
        (0..frames).map(move |n| n * FRAME * 1_000_000_000 / (i64::from(rate) * (1_000_000 + ppm)))
    }

    #[test]
    fn half_a_percent_is_found_in_half_a_minute_and_measured_to_50_ppm() {
        for rate in [48_000, 44_100, 22_050] {
            for ppm in [5000, -5000, 4000, -10_000, 19_900] {
                let (ms, measured) = found(rate, clock(rate, ppm, 120)).unwrap_or_else(|| panic!("{rate} Hz, {ppm} ppm"));
                assert!((i64::from(measured) - ppm).abs() <= 50, "{rate} Hz, {ppm} ppm: {measured}");
                assert!(ppm.abs() != 5000 || rate != 48_000 || (28_000..31_000).contains(&ms), "{ppm} ppm: after {ms} ms");
            }
        }
    }

    #[test]
    fn clocks_of_good_sound_cards_are_left_alone_for_ever() {
        for ppm in [50, -50, 200, -1000] {
            assert_eq!(found(48_000, clock(48_000, ppm, 6 * 3600)), None, "{ppm} ppm");
        }
    }

    #[test]
    fn what_is_no_clock_is_not_stretched() {
        for ppm in [25_000, -30_000, 88_435] {
            // the last one: 44.1 kHz that is called 48 kHz, the wrong way round
            assert_eq!(found(48_000, clock(48_000, ppm, 600)), None, "{ppm} ppm");
        }
    }

    #[test]
    fn frames_that_come_unevenly_are_measured_all_the_same() {
        let uneven = clock(48_000, 5000, 120).enumerate().map(|(n, ms)| ms + [0, 4, -3, 7, 1, -5][n % 6]);
        let (_, ppm) = found(48_000, uneven).unwrap();
        assert!((ppm - 5000).abs() <= 50, "{ppm}");
    }

    #[test]
    fn stalls_holes_and_jumps_are_no_drift() {
        let every = |frames: i64, by: i64| (0..20_000i64).map(move |n| n * 1024 / 48 + n / frames * by);
        // each 4 s, which is a frame that is lost, three, 70 ms, 300 ms; and times that go back
        for by in [21, 64, 70, 300, -70, -150] {
            assert_eq!(found(48_000, every(188, by)), None, "{by} ms");
        }
    }

    #[test]
    fn a_clock_that_goes_to_and_fro_is_no_drift() {
        // 1 % one way and the other: three corrections each
        let there = clock(48_000, 10_000, 10).collect::<Vec<_>>();
        let mut times = Vec::new();
        for round in 0..10 {
            let from = round * 20_000;
            times.extend(there.iter().map(|ms| from + ms));
            times.extend(clock(48_000, -10_000, 10).map(|ms| from + there.last().unwrap() + 21 + ms));
        }
        assert_eq!(found(48_000, times), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_it_stays_in_its_bounds(steps in proptest::collection::vec((any::<i64>(), 0u8..3), 0..400), rate in 8000u32..96_001) {
            let mut drift = Drift::new(Timescale::new(rate).unwrap());
            let mut pts = 0i64;
            for (step, how) in steps {
                pts += step.rem_euclid(200_000) % if how == 0 { 200_000 } else { 3000 };
                drift.frame(MediaTime(pts), [None, Some(Side::Fast), Some(Side::Slow)][usize::from(how)]);
                prop_assert!(drift.found().is_none_or(|ppm| ppm.abs() <= MAX_PPM));
            }
        }
    }
}
