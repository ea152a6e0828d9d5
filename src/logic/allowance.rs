//! What a publisher may send by his key: who sends more for a while is advised, and then ended. Pure; looks once a second.
//!
//! Counted are all bytes of the connection over the wall clock, because that is what costs somebody something; a publisher's own timestamps are not asked. So a
//! publisher that catches up after a stall sends more than its stream has: the span over which is judged, and the slack, leave room for that.

use std::collections::VecDeque;
use std::time::Duration;

use super::pace;

/// Over this much it is judged. A stall of 3 s that is caught up in it is 10 % more.
pub const SPAN: Duration = Duration::from_secs(30);

/// And over this much advice is given.
const ADVICE: Duration = Duration::from_secs(10);

/// So many hundredths of the allowance end the stream: protocol overhead is 1 to 4 %, and the rest is a stall that is caught up.
const END_PERCENT: u64 = 110;

/// The machine. Of one publisher: a new one begins with a new one.
#[derive(Debug, Default)]
pub struct Allowance {
    limit: Option<u64>,
    looks: VecDeque<(Duration, u64)>,
}

/// How a publisher stands to his allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Bit/s over the last ten seconds.
    pub measured: u64,
    /// Bit/s that his key allows.
    pub limit: u64,
}

impl Allowance {
    /// For a publisher that may send so many kbit/s; `None`: as much as he likes.
    pub fn new(max_kbps: Option<u32>) -> Self {
        Self { limit: max_kbps.map(|kbps| u64::from(kbps) * 1000), looks: VecDeque::new() }
    }

    /// `received` bytes came so far. Bit/s over [`SPAN`], if they end the stream.
    pub fn look(&mut self, received: u64, now: Duration) -> Option<Standing> {
        let limit = self.limit?;
        if self.looks.back().is_some_and(|(last, _)| now < *last + pace::EVERY) {
            return None;
        }
        self.looks.push_back((now, received));
        // The first one that is kept is as old as the span, or a little older.
        while self.looks.get(1).is_some_and(|(second, _)| now.saturating_sub(*second) >= SPAN) {
            self.looks.pop_front();
        }
        let measured = self.mean(SPAN)?;
        (measured.saturating_mul(100) > limit.saturating_mul(END_PERCENT)).then_some(Standing { measured, limit })
    }

    /// Where there is an allowance, and the publisher has sent for long enough.
    pub fn standing(&self) -> Option<Standing> {
        Some(Standing { measured: self.mean(ADVICE)?, limit: self.limit? })
    }

    /// Bit/s over the last `span`, once so much was seen.
    fn mean(&self, span: Duration) -> Option<u64> {
        let (now, received) = self.looks.back()?;
        let (then, before) = self.looks.iter().rev().find(|(at, _)| now.saturating_sub(*at) >= span)?;
        let bits = u128::from(received.saturating_sub(*before)) * 8000;
        let millis = now.saturating_sub(*then).as_millis().max(1);
        u64::try_from(bits / millis).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kilobits in each second; when it ended, if it did.
    fn play(max_kbps: Option<u32>, kbits: impl IntoIterator<Item = u64>) -> (Allowance, Option<(u64, Standing)>) {
        let mut allowance = Allowance::new(max_kbps);
        let mut received = 0;
        for (second, kbit) in (0..).zip(kbits) {
            received += kbit * 125;
            if let Some(standing) = allowance.look(received, Duration::from_secs(second)) {
                return (allowance, Some((second, standing)));
            }
        }
        (allowance, None)
    }

    #[test]
    fn who_sends_more_is_advised_after_ten_seconds_and_ended_after_thirty() {
        let (allowance, ended) = play(Some(6000), [8000; 11]);
        assert_eq!((allowance.standing(), ended), (Some(Standing { measured: 8_000_000, limit: 6_000_000 }), None));
        let (_, ended) = play(Some(6000), [8000; 100]);
        assert_eq!(ended, Some((30, Standing { measured: 8_000_000, limit: 6_000_000 })));
    }

    #[test]
    fn who_keeps_to_it_or_has_none_is_left_alone() {
        assert_eq!(play(Some(6000), [6000; 200]).1, None);
        assert_eq!(play(Some(6000), [6599; 200]).1, None, "protocol overhead is not the streamer's");
        assert_eq!(play(None, [1_000_000; 200]).1, None);
        assert_eq!(play(None, [1_000_000; 200]).0.standing(), None);
        assert_eq!(play(Some(6000), [9000; 9]).0.standing(), None, "too early to say");
    }

    #[test]
    fn a_stall_that_is_caught_up_and_a_burst_are_no_offence() {
        let stalled = [[6000; 40].as_slice(), &[0; 3], &[12_000; 3], &[6000; 60]].concat();
        assert_eq!(play(Some(6000), stalled).1, None);
        let burst = [[3000; 40].as_slice(), &[30_000; 3], &[3000; 60]].concat();
        assert_eq!(play(Some(6000), burst).1, None);
    }

    #[test]
    fn it_is_bounded_and_looks_once_a_second() {
        let mut allowance = Allowance::new(Some(6000));
        for millis in 0..200_000 {
            allowance.look(millis, Duration::from_millis(millis));
        }
        assert_eq!(allowance.looks.len(), 31);
        // A session that had no time to look: what it did not see is one look.
        allowance.look(200_000, Duration::from_secs(1_000_000));
        assert_eq!(allowance.looks.len(), 2);
    }
}
