//! When the next report goes to a scheduler.

use std::time::Duration;

/// Longest wait between tries, s: three within a minute, so that a scheduler that comes back knows the fleet soon.
const LONGEST: Duration = Duration::from_secs(20);

/// Waits are up to a tenth shorter or longer: a thousand workers that start together do not report together for ever.
const JITTER: u64 = 10;

/// The time from one report to the next.
#[derive(Debug, Clone)]
pub struct Pace {
    interval: Duration,
    failures: u32,
}

impl Pace {
    /// One each `interval` while all goes well.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, failures: 0 }
    }

    /// A report was taken, or not. `random`: any number. Returns the wait before the next one, which is a new report: old ones are not sent again. From the second failure in a
    /// row the wait doubles each time; the first may be the network's.
    pub fn next(&mut self, taken: bool, random: u64) -> Duration {
        self.failures = if taken { 0 } else { self.failures.saturating_add(1) };
        let doubled = 1u32.checked_shl(self.failures.saturating_sub(1).min(16)).unwrap_or(1);
        let wait = self.interval.saturating_mul(doubled).min(LONGEST.max(self.interval));
        // 90 to 110 %.
        let percent = 100 - JITTER + random % (2 * JITTER + 1);
        wait.saturating_mul(u32::try_from(percent).unwrap_or(100)) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_space_reports_out_and_one_success_brings_them_back() {
        let mut pace = Pace::new(Duration::from_secs(1));
        // 10 is the middle of the jitter.
        let mut next = |taken| pace.next(taken, 10).as_millis();
        assert_eq!([next(true), next(true)], [1000, 1000]);
        assert_eq!([0; 8].map(|_| next(false)), [1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
        assert_eq!(next(true), 1000);
        let mut slow = Pace::new(Duration::from_secs(60));
        assert_eq!([0; 3].map(|_| slow.next(false, 10).as_secs()), [60, 60, 60], "never more often than asked");
        for _ in 0..100 {
            slow.next(false, 10);
        }
    }

    #[test]
    fn jitter_is_a_tenth_each_way() {
        let mut pace = Pace::new(Duration::from_secs(1));
        let waits: Vec<u128> = (0..21).map(|random| pace.next(true, random).as_millis()).collect();
        assert_eq!((waits[0], waits[20]), (900, 1100));
        assert!(waits.is_sorted());
        assert!((900..=1100).contains(&pace.next(true, u64::MAX).as_millis()));
    }
}
