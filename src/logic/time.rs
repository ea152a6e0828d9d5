//! Media time as integer ticks. Decides nothing; makes it impossible to mix ticks of two timescales by accident.
//!
//! Every decision about video is taken in 1/90000 s ([`MediaTime`]); audio counts samples in its own [`Timescale`].
//! 90 kHz holds RTMP's milliseconds (x 90) and the common frame rates (30000/1001: 3003 ticks) without rounding.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Ticks per second of a track: 90000 for video, the sample rate for audio (ISO/IEC 14496-12, `mdhd.timescale`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// The video timescale of every rung and of [`MediaTime`].
    pub const VIDEO: Self = Self(NonZeroU32::new(90_000).expect("90000 is not zero"));

    /// `None` for 0.
    pub const fn new(ticks_per_second: u32) -> Option<Self> {
        match NonZeroU32::new(ticks_per_second) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// Ticks per second.
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// `ticks` of this timescale in ticks of `other`, rounded down. Saturates outside the range of `i64`.
    pub fn rescale(self, ticks: i64, other: Timescale) -> i64 {
        let exact = i128::from(ticks) * i128::from(other.hz());
        let floor = exact.div_euclid(i128::from(self.hz()));
        floor.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

/// A point on, or a length of, the output timeline in 1/90000 s. Zero is the first picture of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// Zero ticks.
    pub const ZERO: Self = Self(0);

    /// From milliseconds, RTMP's unit. Saturates.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(90))
    }

    /// From whole seconds. Saturates.
    pub const fn from_secs(s: i64) -> Self {
        Self(s.saturating_mul(90_000))
    }

    /// As a duration of the clock, to the millisecond; nothing for what is negative.
    pub fn positive(self) -> Duration {
        Duration::from_millis(self.millis().max(0).unsigned_abs())
    }

    /// Whole milliseconds, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(90)
    }

    /// From ticks of another timescale, rounded down.
    pub fn from_scale(ticks: i64, scale: Timescale) -> Self {
        Self(scale.rescale(ticks, Timescale::VIDEO))
    }

    /// In ticks of another timescale, rounded down.
    pub fn in_scale(self, scale: Timescale) -> i64 {
        Timescale::VIDEO.rescale(self.0, scale)
    }

    /// `true` below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

impl fmt::Display for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal_seconds(self.0, Timescale::VIDEO, 3))
    }
}

/// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The wall-clock time that lies `t` after this one. Rounded down to the millisecond.
    pub const fn plus(self, t: MediaTime) -> Self {
        Self(self.0.saturating_add(t.millis()))
    }

    /// Reads what [`UnixMillis`] prints; `None` for what is no RFC 3339 time.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }

    /// `self - earlier` as media time; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> MediaTime {
        MediaTime::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 in UTC with milliseconds, as EXT-X-PROGRAM-DATE-TIME (RFC 8216, 4.3.2.6) and `xs:dateTime` want it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000Z"),
        }
    }
}

/// `ticks / scale` as a decimal number of seconds with `digits` (0 to 9) digits behind the point, rounded half up.
///
/// The only place where media time becomes text; no floating point number is involved.
pub fn decimal_seconds(ticks: i64, scale: Timescale, digits: u32) -> String {
    let digits = digits.min(9);
    let unit = 10i128.pow(digits);
    let hz = i128::from(scale.hz());
    let scaled = (i128::from(ticks) * unit * 2 + hz).div_euclid(hz * 2);
    let sign = if scaled < 0 { "-" } else { "" };
    let scaled = scaled.abs();
    if digits == 0 {
        return format!("{sign}{scaled}");
    }
    format!("{sign}{}.{:0width$}", scaled / unit, scaled % unit, width = digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn seconds_are_printed_without_floats() {
        assert_eq!(decimal_seconds(180_000, Timescale::VIDEO, 6), "2.000000");
        assert_eq!(decimal_seconds(3003, Timescale::VIDEO, 6), "0.033367");
        assert_eq!(decimal_seconds(-45_000, Timescale::VIDEO, 3), "-0.500");
        assert_eq!(decimal_seconds(1024, Timescale::new(48_000).unwrap(), 5), "0.02133");
        assert_eq!(decimal_seconds(89_999, Timescale::VIDEO, 0), "1");
    }

    #[test]
    fn wall_clock_is_rfc_3339_with_milliseconds() {
        assert_eq!(UnixMillis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(UnixMillis(0).plus(MediaTime::from_millis(1500)).to_string(), "1970-01-01T00:00:01.500Z");
    }

    proptest! {
        #[test]
        fn milliseconds_survive_the_round_trip(ms in -4_000_000_000_000i64..4_000_000_000_000) {
            prop_assert_eq!(MediaTime::from_millis(ms).millis(), ms);
        }

        #[test]
        fn rescaling_rounds_down_by_less_than_one_tick(t in -1i64 << 50..1i64 << 50, hz in 8000u32..96_001) {
            let scale = Timescale::new(hz).unwrap();
            let there = MediaTime(t).in_scale(scale);
            let exact = i128::from(t) * i128::from(hz);
            let error = exact - i128::from(there) * 90_000;
            prop_assert!((0..90_000).contains(&error));
        }
    }
}
