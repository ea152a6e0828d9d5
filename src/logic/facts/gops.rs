//! Distances of IDR pictures.

use crate::logic::time::MediaTime;

/// Shortest, last and longest GOP of one publisher.
#[derive(Debug, Default)]
pub(super) struct Gops {
    last_idr: Option<MediaTime>,
    last: Option<MediaTime>,
    range: Option<(MediaTime, MediaTime)>,
}

impl Gops {
    /// The picture at `pts`, in decode order.
    pub fn push(&mut self, pts: MediaTime, idr: bool) {
        let since = self.last_idr.map(|last| pts - last);
        if idr {
            self.last_idr = Some(pts);
            // A step back is a mended clock, not a GOP.
            if let Some(gop) = since.filter(|gop| gop.0 > 0) {
                self.last = Some(gop);
                let (shortest, longest) = self.range.unwrap_or((gop, gop));
                self.range = Some((shortest.min(gop), longest.max(gop)));
            }
        } else if let Some((_, gop)) = self.last.zip(since).filter(|(last, gop)| gop > last) {
            // Longer than the one before, and still open.
            self.last = Some(gop);
            self.range = self.range.map(|(shortest, longest)| (shortest, longest.max(gop)));
        }
    }

    /// Of the last two IDRs, or of the last one to now when that is longer.
    pub fn last(&self) -> Option<MediaTime> {
        self.last
    }

    pub fn range(&self) -> Option<(MediaTime, MediaTime)> {
        self.range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten pictures a second, IDRs at these tenths of a second; shortest, last and longest in tenths.
    fn gops(idrs: &[i64], end: i64) -> Option<(i64, i64, i64)> {
        let mut gops = Gops::default();
        for n in 0..end {
            gops.push(MediaTime::from_millis(n * 100), idrs.contains(&n));
        }
        let (shortest, longest) = gops.range()?;
        Some((shortest.millis() / 100, gops.last()?.millis() / 100, longest.millis() / 100))
    }

    #[test]
    fn shortest_last_and_longest_are_known_from_the_second_idr_on() {
        assert_eq!(gops(&[0], 100), None);
        assert_eq!(gops(&[0, 20, 40], 45), Some((20, 20, 20)));
        assert_eq!(gops(&[0, 20, 25, 65, 75], 80), Some((5, 10, 40)));
        assert_eq!(gops(&[0, 20], 101), Some((20, 80, 80)), "the open one is longer already");
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_gop() {
        let mut gops = Gops::default();
        for (ms, idr) in [(0, true), (2000, true), (500, true), (2500, true)] {
            gops.push(MediaTime::from_millis(ms), idr);
        }
        assert_eq!(gops.range(), Some((MediaTime::from_secs(2), MediaTime::from_secs(2))));
    }
}
