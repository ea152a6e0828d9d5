//! A publisher's timestamps to the output timeline. Pure.
//!
//! RTMP counts milliseconds modulo 2^32, from any start, and some senders jump. What comes out never wraps, begins where it is told to, and is
//! rebased when the publisher's clock jumps, so that the timeline goes on where it was.

use super::time::MediaTime;

/// A step forward larger than this is a jump of the sender's clock, not a pause: the idle time-out (10 s by default) ends a connection that is silent
/// for longer.
const MAX_FORWARD: MediaTime = MediaTime::from_secs(10);

/// A step back larger than this is a jump. Smaller ones are lawful: audio and video are interleaved, each with its own order.
const MAX_BACK: MediaTime = MediaTime::from_secs(1);

/// Maps one publish (one connection) onto the output timeline.
#[derive(Debug, Clone)]
pub struct Mapper {
    /// Where the first mapped time goes.
    origin: MediaTime,
    /// Unwrapped milliseconds of the last time seen, for unwrapping.
    last_raw: Option<i64>,
    /// Output minus unwrapped input.
    offset: MediaTime,
    /// Latest output.
    latest: MediaTime,
    started: bool,
    jumps: u64,
}

impl Mapper {
    /// The first time given to [`Mapper::start`] becomes `origin`.
    pub fn new(origin: MediaTime) -> Self {
        Self { origin, last_raw: None, offset: MediaTime::ZERO, latest: origin, started: false, jumps: 0 }
    }

    /// Jumps that were mended so far.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Pins `raw` milliseconds + `composition` to the origin. Called with the first picture that is shown (or the first audio frame of a
    /// stream without video).
    pub fn start(&mut self, raw: u32, composition: i32) {
        let time = MediaTime::from_millis(self.unwrap(raw).saturating_add(i64::from(composition)));
        self.offset = self.origin - time;
        self.latest = self.origin;
        self.started = true;
    }

    /// `true` behind [`Mapper::start`].
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// `raw` milliseconds on the output timeline; `None` before [`Mapper::start`].
    pub fn map(&mut self, raw: u32) -> Option<MediaTime> {
        let unwrapped = MediaTime::from_millis(self.unwrap(raw));
        if !self.started {
            return None;
        }
        let mut out = unwrapped + self.offset;
        let step = out - self.latest;
        if step > MAX_FORWARD || step < MediaTime::ZERO - MAX_BACK {
            // Go on where the timeline was; the other track's jump by the same amount then needs no second mending.
            self.offset = self.latest - unwrapped;
            self.jumps += 1;
            out = self.latest;
        }
        self.latest = self.latest.max(out);
        Some(out)
    }

    /// Where `raw` lies, for a packet that came before [`Mapper::start`]; moves nothing.
    pub fn place(&self, raw: u32) -> MediaTime {
        let last = self.last_raw.unwrap_or_default();
        let step = i64::from(raw.wrapping_sub(last as u32) as i32);
        MediaTime::from_millis(last.saturating_add(step)) + self.offset
    }

    /// The value closest to the last one among all that are equal modulo 2^32.
    fn unwrap(&mut self, raw: u32) -> i64 {
        let raw = match self.last_raw {
            None => i64::from(raw),
            Some(last) => {
                let step = raw.wrapping_sub(last as u32) as i32;
                last.saturating_add(i64::from(step))
            }
        };
        self.last_raw = Some(raw);
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(at: u32) -> Mapper {
        let mut m = Mapper::new(MediaTime::ZERO);
        m.start(at, 0);
        m
    }

    #[test]
    fn a_huge_start_becomes_zero() {
        let mut m = started(4_000_000_000);
        assert_eq!(m.map(4_000_000_033), Some(MediaTime::from_millis(33)));
    }

    #[test]
    fn the_wrap_at_49_days_is_not_seen() {
        let mut m = started(u32::MAX - 10);
        assert_eq!(m.map(u32::MAX), Some(MediaTime::from_millis(10)));
        assert_eq!(m.map(22), Some(MediaTime::from_millis(33)));
        assert_eq!(m.map(u32::MAX), Some(MediaTime::from_millis(10)), "audio may be a little behind");
        assert_eq!(m.jumps(), 0);
    }

    #[test]
    fn a_jump_goes_on_where_the_timeline_was_on_both_tracks() {
        let mut m = started(0);
        assert_eq!(m.map(1000), Some(MediaTime::from_millis(1000)));
        assert_eq!(m.map(3_601_000), Some(MediaTime::from_millis(1000)));
        assert_eq!(m.map(3_601_020), Some(MediaTime::from_millis(1020)));
        assert_eq!(m.map(20), Some(MediaTime::from_millis(1020)), "and back");
        assert_eq!(m.jumps(), 2);
    }

    #[test]
    fn composition_of_the_first_picture_is_part_of_its_time() {
        let mut m = Mapper::new(MediaTime::from_secs(5));
        m.start(0, 66);
        assert_eq!(m.map(0), Some(MediaTime::from_millis(5000 - 66)));
    }
}
