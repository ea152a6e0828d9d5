//! Which time of the source a sample belongs to. Pure.
//!
//! GStreamer sees audio whose times have no holes, so that no element mends anything in its own way; the source's own times are kept here, by the number
//! of the sample at 48 kHz. Frames that are made get them back.

use std::collections::VecDeque;

/// Rate of all that is encoded.
pub const RATE: i64 = 48_000;

/// Decoded buffers between decoder and encoder at the most: 10 s of the longest queue (94 a second at 96 kHz). Older ones are let go.
const MAX_MARKS: usize = 1024;

/// See above.
#[derive(Debug, Default)]
pub struct SampleClock {
    /// `(number of its first sample at 48 kHz, its time in 1/90000 s)` of decoded buffers.
    marks: VecDeque<(i64, i64)>,
    /// Where the current rate began, at 48 kHz.
    base: i64,
    rate: i64,
    /// Samples since then, at that rate.
    count: i64,
}

impl SampleClock {
    /// A buffer of `samples` at `rate` Hz was decoded, whose first one is at `pts` (1/90000 s). Gives the nanoseconds at which it stands in a time
    /// without holes.
    pub fn push(&mut self, pts: Option<i64>, samples: u32, rate: u32) -> u64 {
        let rate = i64::from(rate.max(1));
        if rate != self.rate {
            self.base = self.position();
            (self.rate, self.count) = (rate, 0);
        }
        let position = self.position();
        if let Some(pts) = pts {
            self.marks.push_back((position, pts));
            while self.marks.len() > MAX_MARKS {
                self.marks.pop_front();
            }
        }
        let nanos = i128::from(self.base) * 1_000_000_000 / i128::from(RATE)
            + i128::from(self.count) * 1_000_000_000 / i128::from(rate);
        self.count = self.count.saturating_add(samples.into());
        u64::try_from(nanos).unwrap_or(0)
    }

    /// Number of the next sample, at 48 kHz.
    fn position(&self) -> i64 {
        let here = i128::from(self.count) * i128::from(RATE) / i128::from(self.rate.max(1));
        self.base.saturating_add(i64::try_from(here).unwrap_or(i64::MAX))
    }

    /// The time of a sample at 48 kHz, which may lie before the first one; later calls ask for later samples. `None` before anything was decoded.
    pub fn time_of(&mut self, sample: i64) -> Option<i64> {
        while self.marks.get(1).is_some_and(|&(next, _)| next <= sample) {
            self.marks.pop_front();
        }
        let &(first, pts) = self.marks.front()?;
        Some(pts.saturating_add((sample - first).saturating_mul(90_000) / RATE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_get_the_times_of_their_buffers_back() {
        let mut c = SampleClock::default();
        assert_eq!(c.time_of(0), None);
        // RTMP's milliseconds, and a hole of 300 ms behind the third
        for (n, ms) in [0, 21, 43, 364, 385].into_iter().enumerate() {
            let nanos = c.push(Some(9000 + ms * 90), 1024, 48_000);
            assert_eq!(nanos, n as u64 * 1024 * 1_000_000_000 / 48_000, "without the hole");
        }
        assert_eq!(c.time_of(-1024), Some(9000 - 1920), "what the encoder adds in front");
        assert_eq!(c.time_of(0), Some(9000));
        assert_eq!(c.time_of(1000), Some(9000 + 1875));
        assert_eq!(c.time_of(3 * 1024), Some(9000 + 364 * 90));
        assert_eq!(c.time_of(5 * 1024), Some(9000 + 385 * 90 + 1920), "behind the last one");
    }

    #[test]
    fn other_rates_are_counted_at_48_khz() {
        let mut c = SampleClock::default();
        let mut at = 0;
        for n in 0..441 {
            at = c.push(Some(n * 1024 * 90_000 / 44_100), 1024, 44_100);
        }
        assert_eq!(at, 440 * 1024 * 1_000_000_000 / 44_100);
        // 441 x 1024 at 44.1 kHz are 480 x 1024 at 48 kHz
        assert_eq!(c.position(), 480 * 1024);
        // the decoder found SBR: twice the rate from here on
        c.push(Some(0), 2048, 88_200);
        assert_eq!(c.position(), 480 * 1024 + 2048 * 48_000 / 88_200);
    }

    proptest! {
        #[test]
        fn times_follow_the_source_whatever_it_does(buffers in proptest::collection::vec((-5000i64..50_000, 1u32..3000, 8000u32..96_001), 1..2000)) {
            let mut c = SampleClock::default();
            let (mut pts, mut last) = (0, 0);
            for (step, samples, rate) in buffers {
                pts += step;
                let position = c.push(Some(pts), samples, rate);
                prop_assert!(position >= last);
                last = position;
                let (sample, _) = *c.marks.back().unwrap();
                prop_assert!((c.time_of(sample).unwrap() - pts).abs() <= 1);
                prop_assert!(c.marks.len() <= MAX_MARKS);
            }
        }
    }
}
