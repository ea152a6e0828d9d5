//! Who is slow: the publisher's uplink, this worker, its encoders, or the store. Pure; looks once a second and says so only of what lasts.
//!
//! The uplink is slow when media arrive below real time while we read all that comes. It is judged by seconds in which bytes came: a second without any is
//! a stall, not slowness, and what follows a stall is faster than real time if it is caught up. A second in which we did not read, or had not taken what
//! was read, says nothing about the uplink: TCP slows the publisher because of us.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::MediaTime;

/// How often is looked: short against ten seconds, long against the bursts in which TCP delivers.
pub const EVERY: Duration = Duration::from_secs(1);

/// What lasts so long is no hiccup. Also longer than a GOP of rules.md 3, whose key frames take their time on a narrow line.
const SPAN: Duration = Duration::from_secs(10);

/// The uplink is slow below this many thousandths of real time. The end of a 10 s span is uncertain by one large key frame, which is about 0.3 s on a line
/// of the stream's own rate.
pub const SLOW: u64 = 950;

/// And slow no more from here on.
const FAST: u64 = 980;

/// So many packets that were read and not taken are half a second of 60 fps video with audio: we are behind.
const WAITING: usize = 64;

/// A look later than this after the one before means that the session had no time to look.
const LATE: Duration = Duration::from_secs(3);

/// Of [`SPAN`], this much that we did not keep up with makes us slow, and so little ends it.
const OURS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

/// Encoders may be so late beyond the pictures that they hold ([`HELD`]): a segment of the usual length.
pub const ENCODER: Duration = Duration::from_secs(2);

/// Pictures that decoder and encoder hold at the most: x264's lookahead at `veryfast` is 10, at `medium` 40, at `fast` 30, and B-frames.
pub const HELD: i64 = 45;

/// An object may wait so long for the store: two segments of the usual length, as many as players have in reserve beyond the three they begin behind.
pub const STORE: Duration = Duration::from_secs(4);

/// What the shell knows of the publisher's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Bytes that came, of this publisher.
    pub received: u64,
    /// Packets that the session has not taken yet.
    pub waiting: usize,
    /// How long nothing was read because the session took nothing.
    pub blocked: Duration,
    /// What SRT measures, where the connection is one of SRT.
    pub srt: Option<super::srt::Numbers>,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The connection.
    pub reading: Reading,
    /// Latest media time that came.
    pub media: MediaTime,
    /// How far encoders are behind what they were fed, beyond what they hold.
    pub encoder: MediaTime,
    /// How long the oldest object has waited for the store.
    pub store: Duration,
}

/// The machine. Of one publisher: a new one begins with a new one.
#[derive(Debug)]
pub struct Pace {
    last: Option<(Duration, Look)>,
    uplink: Uplink,
    ours: VecDeque<(Duration, bool)>,
    worker_slow: bool,
    encoder: Lag,
    store: Lag,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            last: None,
            uplink: Uplink::default(),
            ours: VecDeque::new(),
            worker_slow: false,
            encoder: Lag::new(ENCODER),
            store: Lag::new(STORE),
        }
    }
}

impl Pace {
    /// Another publisher: nothing of the old one's line is kept but how often it was slow.
    pub fn another_publisher(&mut self) {
        self.last = None;
        self.uplink = Uplink { episodes: self.uplink.episodes, ..Uplink::default() };
        self.ours.clear();
        self.worker_slow = false;
    }

    /// When to look next: at once if nobody has looked yet.
    pub fn poll_timeout(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(at, _)| at + EVERY)
    }

    /// Looks, if it is time.
    pub fn look(&mut self, look: Look, now: Duration) {
        if now < self.poll_timeout() {
            return;
        }
        let Some((then, before)) = self.last.replace((now, look)) else { return };
        let wall = now.saturating_sub(then);
        let blocked = look.reading.blocked.saturating_sub(before.reading.blocked);
        let ours = blocked > wall / 10 || look.reading.waiting >= WAITING || wall > LATE;
        let came = look.reading.received != before.reading.received;
        let media = Duration::from_millis((look.media - before.media).millis().max(0).unsigned_abs());
        self.uplink.second(Second { wall, media }, came, ours);
        self.count_ours(wall, ours);
        self.encoder.look(Duration::from_millis(look.encoder.millis().max(0).unsigned_abs()), now);
        self.store.look(look.store, now);
    }

    fn count_ours(&mut self, wall: Duration, ours: bool) {
        self.ours.push_back((wall, ours));
        while self.ours.iter().skip(1).map(|(wall, _)| *wall).sum::<Duration>() >= SPAN {
            self.ours.pop_front();
        }
        let sum: Duration = self.ours.iter().filter(|(_, ours)| *ours).map(|(wall, _)| *wall).sum();
        self.worker_slow = if self.worker_slow { sum > OURS.1 } else { sum >= OURS.0 };
    }

    /// Media seconds per second over the last seconds that count, in thousandths; `None` until ten of them were seen.
    pub fn uplink_milli(&self) -> Option<u64> {
        self.uplink.speed()
    }

    /// The uplink is too slow.
    pub fn uplink_is_slow(&self) -> bool {
        self.uplink.slow
    }

    /// Times that the uplink became too slow, over all publishers of the session.
    pub fn uplink_episodes(&self) -> u64 {
        self.uplink.episodes
    }

    /// We do not take what the publisher sends as fast as it comes.
    pub fn worker_is_slow(&self) -> bool {
        self.worker_slow
    }

    /// Encoders are behind, and not catching up: by how much.
    pub fn encoder_lag(&self) -> Option<Duration> {
        self.encoder.slow()
    }

    /// The store is behind, and not catching up: by how much.
    pub fn store_lag(&self) -> Option<Duration> {
        self.store.slow()
    }
}

#[derive(Debug, Clone, Copy)]
struct Second {
    wall: Duration,
    media: Duration,
}

#[derive(Debug, Default)]
struct Uplink {
    /// Seconds that count, together at least [`SPAN`] once there are so many.
    seconds: VecDeque<Second>,
    /// The newest one: a stall that begins in it would make it a part of the stall.
    newest: Option<Second>,
    stalled: bool,
    slow: bool,
    episodes: u64,
}

impl Uplink {
    fn second(&mut self, second: Second, came: bool, ours: bool) {
        if ours {
            self.seconds.clear();
            self.newest = None;
            self.slow = false;
            return;
        }
        if !came {
            self.stalled = true;
            self.newest = None;
            return;
        }
        let behind_stall = std::mem::take(&mut self.stalled);
        let counts = self.newest.take();
        // The second in which a stall ends is only in part one of sending.
        self.newest = (!behind_stall).then_some(second);
        let Some(counts) = counts else { return };
        self.seconds.push_back(counts);
        while self.seconds.iter().skip(1).map(|s| s.wall).sum::<Duration>() >= SPAN {
            self.seconds.pop_front();
        }
        if let Some(speed) = self.speed() {
            let slow = if self.slow { speed < FAST } else { speed < SLOW };
            self.episodes += u64::from(slow && !self.slow);
            self.slow = slow;
        }
    }

    fn speed(&self) -> Option<u64> {
        let wall: Duration = self.seconds.iter().map(|s| s.wall).sum();
        let media: Duration = self.seconds.iter().map(|s| s.media).sum();
        (wall >= SPAN).then(|| u64::try_from(media.as_millis() * 1000 / wall.as_millis().max(1)).unwrap_or(u64::MAX))
    }
}

/// Something that should stay near zero: slow when it was large for [`SPAN`] and does not shrink.
#[derive(Debug)]
struct Lag {
    limit: Duration,
    looks: VecDeque<(Duration, Duration)>,
    slow: bool,
}

impl Lag {
    fn new(limit: Duration) -> Self {
        Self { limit, looks: VecDeque::new(), slow: false }
    }

    fn look(&mut self, lag: Duration, now: Duration) {
        self.looks.push_back((now, lag));
        while self.looks.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= SPAN) {
            self.looks.pop_front();
        }
        if self.slow {
            self.slow = lag > self.limit / 2;
            return;
        }
        let long = self.looks.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= SPAN);
        // An object that is stored takes its age with it, so this goes up and down: means are compared.
        let half = self.looks.len() / 2;
        let mean = |from: usize, to: usize| {
            let sum: Duration = self.looks.range(from..to).map(|(_, lag)| *lag).sum();
            sum / u32::try_from(to - from).unwrap_or(u32::MAX).max(1)
        };
        let never_near = self.looks.iter().all(|(_, lag)| *lag > self.limit / 2);
        let shrinks = mean(half, self.looks.len()) < mean(0, half) * 9 / 10;
        self.slow = long && never_near && !shrinks && mean(0, self.looks.len()) > self.limit;
    }

    fn slow(&self) -> Option<Duration> {
        self.slow.then(|| self.looks.back().map_or(Duration::ZERO, |(_, lag)| *lag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world that is looked at once a second.
    struct World {
        pace: Pace,
        seconds: u64,
        look: Look,
    }

    impl World {
        fn new() -> Self {
            let look =
                Look { reading: Reading::default(), media: MediaTime::ZERO, encoder: MediaTime::ZERO, store: Duration::ZERO };
            let mut world = Self { pace: Pace::default(), seconds: 0, look };
            world.pace.look(look, Duration::ZERO);
            world
        }

        /// One second in which so many milliseconds of media came, and bytes if `came`.
        fn second(&mut self, media: i64, came: bool) {
            self.seconds += 1;
            self.look.media = self.look.media + MediaTime::from_millis(media);
            self.look.reading.received += u64::from(came) * 100_000;
            self.pace.look(self.look, Duration::from_secs(self.seconds));
        }

        fn steady(&mut self, seconds: u64) {
            (0..seconds).for_each(|_| self.second(1000, true));
        }
    }

    #[test]
    fn an_uplink_at_four_fifths_is_slow_after_ten_seconds_and_recovers() {
        let mut w = World::new();
        w.steady(20);
        assert_eq!((w.pace.uplink_milli(), w.pace.uplink_is_slow()), (Some(1000), false));
        // A key frame makes each second second slower.
        let mut after = 0;
        while !w.pace.uplink_is_slow() {
            w.second(if after % 2 == 0 { 600 } else { 1000 }, true);
            after += 1;
            assert!(after <= 10, "{:?}", w.pace.uplink_milli());
        }
        assert!(after > 3, "not at once: {after} s");
        for _ in 0..11 {
            w.second(800, true);
        }
        assert_eq!((w.pace.uplink_milli(), w.pace.uplink_episodes()), (Some(800), 1));
        assert!(!w.pace.worker_is_slow() && w.pace.encoder_lag().is_none() && w.pace.store_lag().is_none());
        w.steady(9);
        assert!(w.pace.uplink_is_slow(), "{:?}", w.pace.uplink_milli());
        w.steady(2);
        assert_eq!((w.pace.uplink_is_slow(), w.pace.uplink_episodes()), (false, 1));
    }

    #[test]
    fn on_the_border_it_does_not_flap() {
        let mut w = World::new();
        for n in 0..300 {
            // 940 to 970 thousandths over ten seconds
            w.second(if n / 15 % 2 == 0 { 940 } else { 970 }, true);
        }
        assert_eq!(w.pace.uplink_episodes(), 1);
    }

    #[test]
    fn a_stall_that_is_caught_up_is_not_slow_and_one_that_is_not_neither() {
        for behind in [2000, 1000] {
            let mut w = World::new();
            w.steady(15);
            // The stall begins and ends in the middle of a second.
            w.second(300, true);
            for _ in 0..5 {
                w.second(0, false);
            }
            w.second(200, true);
            for _ in 0..15 {
                w.second(behind, true);
                assert!(!w.pace.uplink_is_slow(), "{:?}", w.pace.uplink_milli());
            }
            assert_eq!(w.pace.uplink_episodes(), 0);
        }
    }

    #[test]
    fn an_access_unit_that_takes_seconds_to_come_is_slowness_and_no_stall() {
        let mut w = World::new();
        for n in 0..16 {
            // Bytes trickle in, and one picture in two seconds is whole.
            w.second(if n % 4 == 3 { 2000 } else { 0 }, true);
        }
        assert!(w.pace.uplink_is_slow());
    }

    #[test]
    fn while_we_do_not_read_the_uplink_is_not_to_blame() {
        for waiting in [false, true] {
            let mut w = World::new();
            w.steady(15);
            for _ in 0..12 {
                if waiting {
                    w.look.reading.waiting = 500;
                } else {
                    w.look.reading.blocked += Duration::from_millis(400);
                }
                w.second(600, true);
                assert!(!w.pace.uplink_is_slow());
            }
            assert!(w.pace.worker_is_slow());
            w.look.reading.waiting = 0;
            w.steady(5);
            assert!(w.pace.worker_is_slow(), "until it lasts");
            w.steady(5);
            assert!(!w.pace.worker_is_slow());
        }
        let mut w = World::new();
        w.look.reading.blocked += Duration::from_millis(900);
        w.steady(20);
        assert!(!w.pace.worker_is_slow(), "a hiccup");
    }

    #[test]
    fn encoders_and_store_are_slow_when_they_stay_behind() {
        let mut w = World::new();
        for _ in 0..12 {
            w.look.encoder = MediaTime::from_secs(3);
            // Objects of two seconds that take six: the oldest is four to six seconds old.
            w.look.store = Duration::from_secs(4 + w.seconds % 2 * 2);
            w.steady(1);
        }
        assert_eq!((w.pace.encoder_lag(), w.pace.store_lag()), (Some(Duration::from_secs(3)), Some(Duration::from_secs(6))));
        assert!(!w.pace.uplink_is_slow() && !w.pace.worker_is_slow());
        (w.look.encoder, w.look.store) = (MediaTime::ZERO, Duration::ZERO);
        w.steady(1);
        assert_eq!((w.pace.encoder_lag(), w.pace.store_lag()), (None, None));
    }

    #[test]
    fn what_catches_up_is_not_slow() {
        let mut w = World::new();
        w.steady(5);
        // Behind an encoder that was replaced, ten seconds are made again at twice real time; the store had a hiccup of eight seconds.
        for lag in (0..=10).rev() {
            w.look.encoder = MediaTime::from_secs(lag);
            w.steady(1);
            assert_eq!(w.pace.encoder_lag(), None);
        }
        for lag in (0..8).chain([0; 12]) {
            w.look.store = Duration::from_secs(lag);
            w.steady(1);
            assert_eq!(w.pace.store_lag(), None);
        }
    }

    #[test]
    fn another_publisher_begins_without_the_old_ones_seconds() {
        let mut w = World::new();
        (0..12).for_each(|_| w.second(500, true));
        assert!(w.pace.uplink_is_slow());
        w.pace.another_publisher();
        assert_eq!((w.pace.uplink_is_slow(), w.pace.uplink_milli(), w.pace.uplink_episodes()), (false, None, 1));
        // The media time of the new one is somewhere else.
        w.look.media = MediaTime::from_secs(1000);
        w.steady(12);
        assert!(!w.pace.uplink_is_slow());
    }
}
