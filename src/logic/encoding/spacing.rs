//! How far apart a source's pictures are: a shared screen may come at 1 frame a second, whatever it announces. Pure.

use crate::logic::model::FrameRate;
use crate::logic::time::MediaTime;

/// Sources of fewer pictures a second are encoded without holding any back. Decoder and encoder hold back some 16 pictures else, and a playlist
/// waits for a rung as long as a segment is: at 10 a second that is 1.6 of the 2 s.
const SLOW_FPS: i64 = 10;

/// So many in a row tell a slow source from a stall or from pictures that were dropped.
const RUN: u32 = 5;

/// What was seen last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spacing {
    last: Option<MediaTime>,
    apart: MediaTime,
    run: u32,
}

impl Spacing {
    /// A picture, by its decode time.
    pub fn push(&mut self, dts: MediaTime) {
        if let Some(last) = self.last.replace(dts) {
            self.apart = (dts - last).max(MediaTime::ZERO);
            let apart = dts.0.saturating_sub(last.0).saturating_mul(SLOW_FPS) > MediaTime::from_secs(1).0;
            self.run = if apart { self.run.saturating_add(1) } else { 0 };
        }
    }

    /// How far the last picture was from the one before it.
    pub fn apart(self) -> MediaTime {
        self.apart
    }

    /// The last pictures came slowly, each of them.
    pub fn is_slow(self) -> bool {
        self.run >= RUN
    }
}

/// What a source says of itself.
pub fn is_slow(announced: FrameRate) -> bool {
    i64::try_from(announced.milli()).is_ok_and(|milli| milli < SLOW_FPS * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: &[i64]) -> bool {
        let mut spacing = Spacing::default();
        ms.iter().for_each(|&ms| spacing.push(MediaTime::from_millis(ms)));
        spacing.is_slow()
    }

    #[test]
    fn a_slow_source_is_known_by_its_sixth_picture() {
        assert!(!after(&[0, 1000, 2000, 3000, 4000]));
        assert!(after(&[0, 1000, 2000, 3000, 4000, 5000]));
        assert!(after(&[0, 33, 66, 170, 280, 390, 500, 610]));
        assert!(is_slow(FrameRate::whole(9)) && !is_slow(FrameRate::whole(10)));
    }

    #[test]
    fn stalls_and_usual_rates_are_not_slow() {
        let usual: Vec<i64> = (0..100).map(|n| n * 1000 / 15).collect();
        assert!(!after(&usual));
        assert!(!after(&[0, 3000, 3033, 6000, 6033, 9000, 9033, 12_000]));
    }
}
