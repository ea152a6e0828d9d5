//! What software encoding takes here, by what it takes. Prices were measured on another machine; cores differ, and so do pictures.

use std::time::Duration;

/// How long is looked at at a time: two of the longest GOPs that are common, so that key frames are in it as often as they are in all.
const SPAN: Duration = Duration::from_secs(10);

/// Less work than this, thousandths of a core by the prices assumed, tells nothing: reading and writing messages would count for encoding.
const LEAST: u64 = 50;

/// A new reading counts so much against all before, one in: a quiet scene does not make the machine fast.
const WEIGHT: i64 = 4;

/// What runs may be easier than what comes next. So prices fall by no more than the third that was put on them for caution, and rise as far as four times.
const RANGE: (u16, u16) = (667, 4000);

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibration {
    permille: u16,
    since: Duration,
    expected: u64,
    used: u64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { permille: 1000, since: Duration::ZERO, expected: 0, used: 0 }
    }
}

impl Calibration {
    /// The same work takes so many thousandths of what was assumed.
    pub const fn permille(&self) -> u16 {
        self.permille
    }

    /// It was corrected by what was seen.
    pub const fn is_measured(&self) -> bool {
        self.permille != 1000
    }

    /// What was used since the last look, and what should have been by the prices assumed; thousandths of a core times milliseconds, both. Where streams fall behind
    /// (`slow`) less is done than was asked, so it tells nothing. Returns whether prices changed.
    pub fn look(&mut self, expected: u64, used: u64, slow: bool, now: Duration) -> bool {
        if slow {
            (self.since, self.expected, self.used) = (now, 0, 0);
            return false;
        }
        self.expected = self.expected.saturating_add(expected);
        self.used = self.used.saturating_add(used);
        let span = now.saturating_sub(self.since);
        if span < SPAN {
            return false;
        }
        let (expected, used) = (self.expected, self.used);
        (self.since, self.expected, self.used) = (now, 0, 0);
        let least = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_mul(LEAST);
        if expected < least {
            return false;
        }
        let (low, high) = RANGE;
        let found = u128::from(used) * 1000 / u128::from(expected.max(1));
        let found = u16::try_from(found).unwrap_or(u16::MAX).clamp(low, high);
        let old = self.permille;
        let step = (i64::from(found) - i64::from(old)) / WEIGHT;
        self.permille = u16::try_from(i64::from(old) + step).unwrap_or(old).clamp(low, high);
        self.permille != old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `seconds` of looks at a stream that was thought to take 1000 thousandths of a core and takes `used`.
    fn run(calibration: &mut Calibration, from: u64, seconds: u64, used: u64, slow: bool) {
        for second in from..from + seconds {
            calibration.look(1000 * 1000, used * 1000, slow, Duration::from_secs(second + 1));
        }
    }

    #[test]
    fn prices_follow_what_is_used_and_not_at_once() {
        let mut c = Calibration::default();
        run(&mut c, 0, 9, 2000, false);
        assert!(!c.is_measured());
        run(&mut c, 9, 1, 2000, false);
        assert_eq!(c.permille(), 1250, "a quarter of the way");
        run(&mut c, 10, 300, 2000, false);
        assert!((1990..=2000).contains(&c.permille()), "{}", c.permille());
    }

    #[test]
    fn an_easy_picture_gives_back_the_caution_and_no_more() {
        let mut c = Calibration::default();
        run(&mut c, 0, 1000, 10, false);
        assert!((667..=670).contains(&c.permille()), "{}", c.permille());
        run(&mut c, 1000, 1000, 100_000, false);
        assert!((3990..=4000).contains(&c.permille()), "{}", c.permille());
    }

    #[test]
    fn streams_that_fall_behind_or_hardly_encode_tell_nothing() {
        let mut c = Calibration::default();
        run(&mut c, 0, 100, 300, true);
        assert!(!c.is_measured());
        for second in 100..200 {
            assert!(!c.look(10 * 1000, 50 * 1000, false, Duration::from_secs(second)));
        }
        assert_eq!(c, Calibration { since: c.since, expected: c.expected, used: c.used, ..Calibration::default() });
    }
}
