//! How long to wait before starting something again that died. Pure.

use std::time::Duration;

/// A process that lived this long is healthy: its death starts the count anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Counts deaths.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    deaths: u32,
    last: Option<Duration>,
}

impl Backoff {
    /// It died at `now`: wait for this long. The first time not at all (a crash is rare, and viewers wait), then 1, 2, 4 ... 30 s.
    pub fn died(&mut self, now: Duration) -> Duration {
        if self.last.is_some_and(|last| now.saturating_sub(last) > HEALTHY) {
            self.deaths = 0;
        }
        self.last = Some(now);
        self.deaths = self.deaths.saturating_add(1);
        match self.deaths {
            1 => Duration::ZERO,
            n => Duration::from_secs(1 << (n - 2).min(5)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_costs_nothing_and_repeated_ones_wait_longer() {
        let mut b = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|n| b.died(Duration::from_secs(n)).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(b.died(Duration::from_secs(100)), Duration::ZERO);
    }
}
