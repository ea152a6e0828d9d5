//! The most bits in one second.

use std::collections::VecDeque;

use crate::logic::time::MediaTime;

/// A player that fills its buffer feels one second.
const SECOND: MediaTime = MediaTime::from_secs(1);

/// Peaks are remembered for so many seconds.
const MEMORY: i64 = 60;

/// Units of one second at the most: 240 fps.
const MAX_UNITS: usize = 256;

/// Bytes within any second of the last minute of media.
#[derive(Debug, Default)]
pub(super) struct Peak {
    second: VecDeque<(MediaTime, usize)>,
    bytes: usize,
    begun: Option<MediaTime>,
    /// The largest sum that ended in each second of media, by its number.
    peaks: VecDeque<(i64, usize)>,
}

impl Peak {
    /// A unit in decode order.
    pub fn push(&mut self, time: MediaTime, bytes: usize) {
        if self.second.back().is_some_and(|&(last, _)| time < last) {
            // A mended clock: the second begins anew.
            self.second.clear();
            self.peaks.clear();
            (self.bytes, self.begun) = (0, None);
        }
        let begun = *self.begun.get_or_insert(time);
        self.second.push_back((time, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        while self.second.front().is_some_and(|&(t, _)| time - t >= SECOND || self.second.len() > MAX_UNITS) {
            if let Some((_, gone)) = self.second.pop_front() {
                self.bytes = self.bytes.saturating_sub(gone);
            }
        }
        // The first second is not whole: an IDR alone would count as one.
        if time - begun < SECOND {
            return;
        }
        let number = time.0.div_euclid(SECOND.0);
        match self.peaks.back_mut() {
            Some((n, peak)) if *n == number => *peak = self.bytes.max(*peak),
            _ => self.peaks.push_back((number, self.bytes)),
        }
        while self.peaks.front().is_some_and(|&(n, _)| number - n > MEMORY) {
            self.peaks.pop_front();
        }
    }

    /// Bits per second; `None` before a whole second was seen.
    pub fn bitrate(&self) -> Option<u64> {
        self.peaks.iter().map(|&(_, bytes)| bytes).max().map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_second_is_remembered_for_a_minute() {
        let mut peak = Peak::default();
        let mut rates = Vec::new();
        for n in 0..1000i64 {
            // ten pictures a second, a large one at 5 s
            peak.push(MediaTime::from_millis(n * 100), if n == 50 { 5000 } else { 100 });
            rates.push(peak.bitrate());
        }
        assert_eq!((rates[9], rates[10], rates[49]), (None, Some(8000), Some(8000)));
        assert_eq!((rates[50], rates[650]), (Some(47_200), Some(47_200)));
        assert_eq!(rates[670], Some(8000), "long ago");
    }

    proptest! {
        #[test]
        fn it_is_the_largest_sum_of_any_second(sizes in proptest::collection::vec(0usize..100_000, 30..400), fps in 1i64..120) {
            let mut peak = Peak::default();
            let times: Vec<i64> = (0..sizes.len() as i64).map(|n| n * 90_000 / fps).collect();
            let mut largest = None;
            for (i, (&t, &size)) in times.iter().zip(&sizes).enumerate() {
                peak.push(MediaTime(t), size);
                if t >= 90_000 {
                    let within = times[..=i].iter().zip(&sizes).filter(|(u, _)| t - **u < 90_000);
                    largest = largest.max(Some(within.map(|(_, size)| *size as u64).sum::<u64>() * 8));
                }
                prop_assert!(t > 60 * 90_000 || peak.bitrate() == largest, "{:?} {:?}", peak.bitrate(), largest);
                prop_assert!(peak.peaks.len() <= 61 && peak.second.len() <= MAX_UNITS);
            }
        }
    }
}
