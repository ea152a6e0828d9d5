//! What SRT measures of a publisher's line, and what the streamer should change about it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The look back: long enough that one burst of a bad second does not decide, short enough that a mended line is seen to be well.
const WINDOW: Duration = Duration::from_secs(30);

/// Numbers come once a second; the bound is for a process gone wrong.
const MOST: usize = 64;

/// Lost packets, in thousandths of those that should have come, from which retransmission costs noticeable latency: SRT mends 2 % at an RTT of 40 ms and a
/// latency of 500 ms without a loss, at 120 ms not (measured over 13,000 packets).
pub const LOSS: u64 = 20;

/// A packet that is lost is asked for after one RTT and comes after another half; three tries of that fit into four RTT (SRT's own rule of thumb).
const RTTS: u64 = 4;

/// What libsrt counts of one connection since its beginning, and measures now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// Round trip, microseconds.
    pub rtt_us: u64,
    /// Latency that both sides agreed on, ms.
    pub latency_ms: u32,
    /// What waits for its time in the receiver's buffer, ms.
    pub buffer_ms: u32,
    /// Packets that came, retransmitted ones among them.
    pub received: u64,
    /// Packets that were missing when a later one came.
    pub lost: u64,
    /// Retransmitted packets that came.
    pub retransmitted: u64,
    /// Packets that were given up, because they did not come in time or could not be taken.
    pub dropped: u64,
    /// Packets that could not be decrypted.
    pub undecrypted: u64,
    /// Holes in the continuity of the MPEG-TS packets that came: each is at least one that is missing.
    pub holes: u64,
    /// Length of the key that the media are encrypted with, bytes: 16, 24 or 32; 0 in the clear.
    pub key_length: u8,
}

/// Numbers and what became of the line lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// The last ones.
    pub numbers: Numbers,
    /// Lost packets of the last half minute, in thousandths of those that should have come.
    pub loss: u64,
    /// Packets given up in the same time.
    pub dropped: u64,
}

impl Line {
    /// Latency that the streamer should set, ms, where the line needs more than it has: four round trips, and a half more than now where that was not enough.
    pub fn latency_advice(&self) -> Option<u64> {
        let trips = self.numbers.rtt_us.saturating_mul(RTTS) / 1000;
        let now = u64::from(self.numbers.latency_ms);
        let wanted = if self.dropped > 0 { trips.max(now.saturating_mul(3) / 2) } else { trips };
        // To the next 50 ms: nobody types 137.
        let wanted = wanted.div_ceil(50) * 50;
        (self.is_lossy() && wanted > now).then_some(wanted)
    }

    /// Over [`LOSS`], or something was given up.
    pub fn is_lossy(&self) -> bool {
        self.loss > LOSS || self.dropped > 0
    }
}

/// Follows one connection's numbers.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// The newest last.
    past: VecDeque<(Duration, Numbers)>,
}

impl Watch {
    /// The numbers of now.
    pub fn follow(&mut self, numbers: Numbers, now: Duration) {
        // A publisher that came back counts from nothing.
        if self.past.back().is_some_and(|(_, last)| numbers.received < last.received) {
            self.past.clear();
        }
        if self.past.back().is_some_and(|(_, last)| *last == numbers) {
            return;
        }
        self.past.push_back((now, numbers));
        // The newest one that is older than the window stays: differences are taken from it.
        while self.past.len() > MOST || self.past.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.past.pop_front();
        }
    }

    /// Another publisher.
    pub fn clear(&mut self) {
        self.past.clear();
    }

    /// `None` before any numbers came.
    pub fn line(&self) -> Option<Line> {
        let (_, numbers) = *self.past.back()?;
        // The first numbers are differences from nothing.
        let before = self.past.front().filter(|_| self.past.len() > 1).map_or_else(Numbers::default, |(_, n)| *n);
        let lost = numbers.lost.saturating_sub(before.lost);
        let again = numbers.retransmitted.saturating_sub(before.retransmitted);
        let first = numbers.received.saturating_sub(before.received).saturating_sub(again);
        let loss = lost.saturating_mul(1000).checked_div(first.saturating_add(lost)).unwrap_or(0);
        Some(Line { numbers, loss, dropped: numbers.dropped.saturating_sub(before.dropped) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// `lost` of each 1,000 are lost and come again, `dropped` of them too late.
    fn after(seconds: u64, lost: u64, dropped: u64) -> Numbers {
        Numbers {
            rtt_us: 40_000,
            latency_ms: 120,
            received: seconds * (1000 - dropped),
            lost: seconds * lost,
            retransmitted: seconds * (lost - dropped),
            dropped: seconds * dropped,
            ..Numbers::default()
        }
    }

    #[test]
    fn loss_is_of_the_last_half_minute() {
        let mut watch = Watch::default();
        assert_eq!(watch.line(), None);
        for s in 1..=60 {
            watch.follow(after(s, 50, 0), SECOND * s as u32);
        }
        let line = watch.line().unwrap();
        assert_eq!((line.loss, line.dropped, line.is_lossy()), (50, 0, true));
        // The line is mended: nothing is lost any more.
        let end = after(60, 50, 0);
        for s in 61..=100 {
            let numbers = Numbers { received: end.received + (s - 60) * 1000, ..end };
            watch.follow(numbers, SECOND * s as u32);
        }
        let line = watch.line().unwrap();
        assert_eq!((line.loss, line.is_lossy(), line.latency_advice()), (0, false, None));
        assert!(watch.past.len() <= MOST);
    }

    #[test]
    fn who_comes_back_counts_anew() {
        let mut watch = Watch::default();
        watch.follow(after(50, 100, 0), SECOND);
        watch.follow(after(1, 0, 0), SECOND * 2);
        assert_eq!(watch.line().unwrap().loss, 0);
    }

    #[test]
    fn the_advice_is_four_round_trips_and_more_where_that_did_not_do() {
        let line = |loss, dropped, rtt_us, latency_ms| Line {
            numbers: Numbers { rtt_us, latency_ms, ..Numbers::default() },
            loss,
            dropped,
        };
        for (line, advice) in [
            (line(0, 0, 100_000, 120), None),
            (line(20, 0, 100_000, 120), None),
            (line(21, 0, 100_000, 120), Some(400)),
            (line(21, 0, 101_000, 120), Some(450)),
            (line(21, 0, 20_000, 120), None),
            (line(0, 1, 20_000, 120), Some(200)),
            (line(0, 1, 100_000, 120), Some(400)),
        ] {
            assert_eq!(line.latency_advice(), advice, "{line:?}");
        }
    }
}
