//! A streamer and his encoder: OBS comes back by itself once it has been connected, and a first refusal is mended by a person.

use super::random::Random;

/// OBS's defaults and constants: `RetryDelay` 2 s and `MaxRetries` 25 in the frontend; in libobs' `obs-output.c` each wait is the last one times
/// `RECONNECT_RETRY_BASE_EXP` (1.5) and a random part of up to 0.05, drawn once for each output, up to `RECONNECT_RETRY_MAX_MSEC` (15 min).
const FIRST_WAIT_MS: u64 = 2000;
const TRIES: u32 = 25;
const GROWTH_MILLI: (u64, u64) = (1500, 1550);
const LONGEST_WAIT_MS: u64 = 15 * 60 * 1000;

/// A person who was refused reads the message and clicks again, some times; assumed.
const CLICK_MS: (u64, u64) = (15_000, 60_000);
const CLICKS: u32 = 5;

/// How OBS waits.
#[derive(Debug, Clone)]
pub struct Reconnect {
    growth_milli: u64,
    wait_ms: u64,
    tries: u32,
}

impl Reconnect {
    fn new(random: &mut Random) -> Self {
        Self { growth_milli: random.between(GROWTH_MILLI.0, GROWTH_MILLI.1), wait_ms: 0, tries: 0 }
    }

    /// The connection is lost: the next wait is the first one.
    fn begin(&mut self) {
        (self.wait_ms, self.tries) = (0, 0);
    }

    /// Milliseconds to the next try; `None` when it has given up.
    fn next(&mut self) -> Option<u64> {
        if self.tries >= TRIES {
            return None;
        }
        self.wait_ms = match self.tries {
            0 => FIRST_WAIT_MS,
            _ => (self.wait_ms * self.growth_milli / 1000).min(LONGEST_WAIT_MS),
        };
        self.tries += 1;
        Some(self.wait_ms)
    }
}

/// Where a streamer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not come yet.
    Away,
    /// Wants to publish.
    Waiting,
    /// Taken by this worker; `live` with its first segment.
    At {
        /// Index of the worker.
        worker: usize,
        /// Viewers see something.
        live: bool,
    },
    /// Streamed until he wanted to stop, or gave up.
    Gone,
}

/// One streamer.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// His nearest region.
    pub home: usize,
    /// Which kind of stream ([`super::Kind`]).
    pub kind: usize,
    /// Wants to stop at this time, ms.
    pub until: u64,
    /// Where he is.
    pub place: Place,
    /// When viewers last saw something, while they do not and did, ms.
    pub lost: Option<u64>,
    /// What he streams is known from before (rules.md 27).
    pub is_known: bool,
    /// Rungs that he has less than his ladder.
    pub shed: usize,
    /// Counts what happens to him: an event for an earlier count is about something that is over.
    pub turn: u32,
    /// OBS was connected, and tries again by itself.
    is_reconnecting: bool,
    reconnect: Reconnect,
    clicks: u32,
}

impl Publisher {
    /// Comes later.
    pub fn new(home: usize, kind: usize, until: u64, random: &mut Random) -> Self {
        let reconnect = Reconnect::new(random);
        let (place, is_known, is_reconnecting) = (Place::Away, false, false);
        Self { home, kind, until, place, lost: None, is_known, shed: 0, turn: 0, is_reconnecting, reconnect, clicks: 0 }
    }

    /// His worker is gone.
    pub fn lose(&mut self, now: u64) {
        // A loss before the first segment after another loss is the same outage for viewers. One before any segment is none: nobody watches.
        if matches!(self.place, Place::At { live: true, .. }) {
            self.lost = Some(now);
        }
        self.place = Place::Waiting;
        self.shed = 0;
        self.turn += 1;
        self.is_reconnecting = true;
        self.reconnect.begin();
    }

    /// He was not taken, or his connection was just cut. Milliseconds to the next try; `None` when he has given up.
    pub fn next_try(&mut self, random: &mut Random) -> Option<u64> {
        let by_itself = if self.is_reconnecting { self.reconnect.next() } else { None };
        by_itself.or_else(|| {
            self.is_reconnecting = false;
            self.clicks += 1;
            (self.clicks <= CLICKS).then(|| random.between(CLICK_MS.0, CLICK_MS.1))
        })
    }

    /// He was taken.
    pub fn accepted(&mut self, worker: usize) {
        self.place = Place::At { worker, live: false };
        self.turn += 1;
        (self.clicks, self.is_reconnecting) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obs_waits_two_seconds_and_then_half_as_long_again_up_to_fifteen_minutes_and_twenty_five_times() {
        let mut reconnect = Reconnect { growth_milli: 1500, wait_ms: 0, tries: 0 };
        reconnect.begin();
        let waits: Vec<u64> = std::iter::from_fn(|| reconnect.next()).collect();
        assert_eq!(waits[..5], [2000, 3000, 4500, 6750, 10_125]);
        assert_eq!((waits.len(), waits.last()), (25, Some(&900_000)));
        let in_five_minutes = waits
            .iter()
            .scan(0, |at, w| {
                Some({
                    *at += w;
                    *at
                })
            })
            .filter(|&at| at <= 300_000)
            .count();
        assert_eq!(in_five_minutes, 10, "the tenth at 227 s, the next at 342 s");
        reconnect.begin();
        assert_eq!(reconnect.next(), Some(2000));
    }

    #[test]
    fn a_first_refusal_is_a_persons_to_mend_and_persons_give_up() {
        let mut random = Random::new(1);
        let mut p = Publisher::new(0, 0, u64::MAX, &mut random);
        let waits: Vec<u64> = std::iter::from_fn(|| p.next_try(&mut random)).collect();
        assert_eq!(waits.len(), CLICKS as usize);
        assert!(waits.iter().all(|w| (CLICK_MS.0..=CLICK_MS.1).contains(w)), "{waits:?}");
    }

    #[test]
    fn an_outage_lasts_from_the_first_loss_to_the_next_segment() {
        let mut p = Publisher::new(0, 0, u64::MAX, &mut Random::new(1));
        p.accepted(3);
        p.lose(5000);
        assert_eq!(p.lost, None, "nobody has seen anything");
        p.place = Place::At { worker: 3, live: true };
        p.lose(9000);
        p.accepted(4);
        p.lose(11_000);
        assert_eq!((p.lost, p.place), (Some(9000), Place::Waiting));
    }
}
