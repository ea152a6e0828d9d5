//! The dates of a session: the wall-clock time that each row is said to begin at (rules.md 7 and 11). Pure.
//!
//! A date is `anchor + media time + shift`. The media time follows the publisher's clock, the date follows the worker's, and the shift is what lies between:
//! it is fixed when a row begins and never changes for that row. What a date should be is when its first picture arrived; arrival jitters, so the
//! least delay over a minute is taken for it, because a packet may be late for many reasons and early for none but the clock. Delays are measured with the monotonic
//! clock, so that a step of the wall clock is known at once and for what it is.
//!
//! A clock that drifts moves the shift row by row, by less than anybody notices. What is off by more than that can follow is set right at a discontinuity
//! on all tracks. Either way no date goes back.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::{MediaTime, UnixMillis};

/// Arrivals are compared over so much: twice the longest stall of an uplink that ends in a full recovery (30 s; a publisher who is silent for longer is
/// disconnected). A clock 0.5 % slow is therefore followed 0.3 s late, which is less than [`MAX_ERROR`].
const WINDOW: Duration = Duration::from_secs(60);

/// The least delay is kept for each span of so much, and the second least of these counts: one packet with a wrong time spoils one span.
const SPAN: Duration = Duration::from_secs(5);

/// Dates this near are left alone: milliseconds of RTMP, a picture's length at 20 a second.
const CALM: MediaTime = MediaTime::from_millis(50);

/// A row's date steps by its length, give or take a hundredth: 20 ms of 2 s, less than a picture at 30 a second, and twice what a clock half a percent off needs.
const SLEW: i64 = 100;

/// rules.md 11: dates further off than this are set anew.
const MAX_ERROR: MediaTime = MediaTime::from_millis(500);

/// For so long they must be. The estimate itself does not move for stalls; this outlasts a wall clock that is stepped twice, and two spans.
const PERSISTENT: Duration = Duration::from_secs(10);

/// Every discontinuity costs all viewers something: one a minute at the most, as rules.md 5 has it for init segments.
const REST: Duration = Duration::from_secs(60);

/// Dates in the future come back by [`SLEW`] and by less than a row a minute, since none may go back. Where that would take half an hour (a host
/// whose clock was wrong by this much), discontinuities are not worth it: only the slew goes on.
const MAX_CHASE: MediaTime = MediaTime::from_secs(60);

/// A row's date is at least so much behind that of the row before: the length of the shortest row there is (rules.md 6).
const MIN_STEP: MediaTime = MediaTime::from_millis(500);

/// A DASH Period tells the time of all its segments by its `@start`; rows whose dates differ from that by more begin a new one, with or without a
/// discontinuity. As much as the dates themselves may be off.
pub const MAX_PERIOD_ERROR: MediaTime = MAX_ERROR;

/// How late packets are, by the monotonic clock.
#[derive(Debug, Clone, Default)]
struct Arrivals {
    /// How late the first picture of a run is by its decode time when it comes in time to be shown.
    usual: Option<MediaTime>,
    /// When each span began, and the least delay within, oldest first.
    spans: VecDeque<(Duration, MediaTime)>,
}

impl Arrivals {
    fn push(&mut self, dts: MediaTime, pts: MediaTime, mono: Duration) {
        let usual = *self.usual.get_or_insert(pts - dts);
        let delay = ticks(mono) - dts - usual;
        match self.spans.back_mut().filter(|(from, _)| mono < *from + SPAN) {
            Some((_, least)) => *least = delay.min(*least),
            None => self.spans.push_back((mono, delay)),
        }
        while self.spans.front().is_some_and(|(from, _)| *from + WINDOW <= mono) {
            self.spans.pop_front();
        }
    }

    /// The least delay of the window, but for the span that has the very least. `None` while there is one span only.
    fn delay(&self) -> Option<MediaTime> {
        let (mut least, mut second) = (None, None);
        for &(_, delay) in &self.spans {
            if least.is_none_or(|l| delay < l) {
                (second, least) = (least, Some(delay));
            } else if second.is_none_or(|s| delay < s) {
                second = Some(delay);
            }
        }
        second
    }
}

/// The machine.
#[derive(Debug, Clone, Default)]
pub struct Dating {
    anchor: Option<UnixMillis>,
    /// Start and shift of the row that began last.
    last: Option<(MediaTime, MediaTime)>,
    arrivals: Arrivals,
    off_since: Option<Duration>,
    set_at: Option<Duration>,
}

impl Dating {
    /// Goes on behind another writer: start and shift of the last row that is listed, if one is.
    pub fn continued(anchor: UnixMillis, last: Option<(MediaTime, MediaTime)>) -> Self {
        Self { anchor: Some(anchor), last, ..Self::default() }
    }

    /// Wall clock of media time 0, while nothing was shifted.
    pub fn anchor(&self) -> Option<UnixMillis> {
        self.anchor
    }

    /// Media time 0 is now, unless that is known.
    pub fn begin(&mut self, wall: UnixMillis) {
        self.anchor.get_or_insert(wall);
    }

    /// Nothing is announced yet: what came faster than it can have been made (a relay that begins with what it has kept) moves the anchor.
    pub fn settle(&mut self, mono: Duration, wall: UnixMillis) {
        let least = self.arrivals.spans.iter().map(|(_, delay)| *delay).min();
        if let Some(early) = least.and_then(|delay| self.shift_for(delay, mono, wall)).filter(|s| s.is_negative()) {
            self.anchor = self.anchor.map(|a| a.plus(early));
        }
    }

    /// A publisher begins or comes back: nothing is known of how late its packets are.
    pub fn resumed(&mut self) {
        self.arrivals = Arrivals::default();
        self.off_since = None;
    }

    /// A picture (or, without video, an audio frame) came.
    pub fn observe(&mut self, dts: MediaTime, pts: MediaTime, mono: Duration) {
        self.arrivals.push(dts, pts, mono);
    }

    /// Media time of the wall clock, by the anchor.
    pub fn elapsed(&self, wall: UnixMillis) -> MediaTime {
        self.anchor.map_or(MediaTime::ZERO, |anchor| wall.since(anchor))
    }

    /// The date of media at `pts`, as the row that began last has it.
    pub fn date(&self, pts: MediaTime) -> Option<UnixMillis> {
        let shift = self.last.map_or(MediaTime::ZERO, |(_, shift)| shift);
        self.anchor.map(|anchor| anchor.plus(pts + shift))
    }

    /// The shift of a date that is right now for media that comes `delay` late.
    fn shift_for(&self, delay: MediaTime, mono: Duration, wall: UnixMillis) -> Option<MediaTime> {
        self.anchor.map(|anchor| wall.since(anchor) - ticks(mono) + delay)
    }

    /// The shift that is right, as far as one can tell.
    fn right(&self, mono: Duration, wall: UnixMillis) -> Option<MediaTime> {
        self.shift_for(self.arrivals.delay()?, mono, wall)
    }

    /// A row begins at `start`: its shift. Where the run that it begins has brought nothing yet, its first picture is here.
    pub fn row(&mut self, start: MediaTime, discontinuity: bool, mono: Duration, wall: UnixMillis) -> MediaTime {
        // Never back. Between rows that follow each other the slew alone keeps to it.
        let floor = self.last.filter(|_| discontinuity).map(|(before, shift)| before + shift + MIN_STEP - start);
        let (before, shift) = self.last.unwrap_or((start, MediaTime::ZERO));
        let right = match self.arrivals.spans.is_empty() {
            true if discontinuity => Some(self.elapsed(wall) - start),
            _ => self.right(mono, wall),
        };
        let off = right.map_or(MediaTime::ZERO, |right| right - shift);
        let moved = if off.0.abs() <= CALM.0 {
            shift
        } else if discontinuity {
            self.off_since = None;
            shift + off
        } else {
            let most = (start - before).0.max(0) / SLEW;
            let beyond = off.0 - off.0.signum() * CALM.0;
            shift + MediaTime(beyond.clamp(-most, most))
        };
        let moved = floor.map_or(moved, |floor| moved.max(floor));
        self.last = Some((start, moved));
        moved
    }

    /// The dates have to be set anew, at a discontinuity: by how much they are behind the wall clock (below zero: ahead). Once for each.
    pub fn judge(&mut self, mono: Duration, wall: UnixMillis) -> Option<MediaTime> {
        let off = self.right(mono, wall).zip(self.last).map(|(right, (_, shift))| right - shift);
        let Some(off) = off.filter(|off| off.0.abs() > MAX_ERROR.0 && *off >= MediaTime::ZERO - MAX_CHASE) else {
            self.off_since = None;
            return None;
        };
        let since = *self.off_since.get_or_insert(mono);
        if mono < since + PERSISTENT || self.set_at.is_some_and(|at| mono < at + REST) {
            return None;
        }
        self.set_at = Some(mono);
        self.off_since = None;
        Some(off)
    }
}

/// The monotonic clock in media ticks.
fn ticks(mono: Duration) -> MediaTime {
    MediaTime::from_millis(i64::try_from(mono.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "dating_tests.rs"]
mod tests;
