//! Between the link's 1/90000 s and GStreamer's nanoseconds. Pure.

use gstreamer::ClockTime;

/// Added to every time before GStreamer sees it: its times have no sign, while the PTS of a stream may begin a little below zero. 1000 s is far
/// more than any reordering delay, and a whole number of both units.
const BASE_TICKS: i64 = 1_000 * 90_000;

/// 90 days: what the longest session may last before its times are refused.
const LIMIT_TICKS: i64 = 90 * 86_400 * 90_000;

/// GStreamer's time for `ticks` of 1/90000 s, to the nearest nanosecond; `None` outside -1000 s to 90 days.
pub fn to_clock(ticks: i64) -> Option<ClockTime> {
    if !(-BASE_TICKS..=LIMIT_TICKS).contains(&ticks) {
        return None;
    }
    let shifted = u64::try_from(ticks + BASE_TICKS).ok()?;
    Some(ClockTime::from_nseconds((shifted * 100_000 + 4) / 9))
}

/// The ticks that [`to_clock`] made `time` of: exact, because half a nanosecond is far less than half a tick.
pub fn from_clock(time: ClockTime) -> i64 {
    let ticks = (u128::from(time.nseconds()) * 9 + 50_000) / 100_000;
    i64::try_from(ticks).unwrap_or(i64::MAX).saturating_sub(BASE_TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_outside_the_range_are_refused() {
        assert!(to_clock(-BASE_TICKS - 1).is_none());
        assert!(to_clock(i64::MAX).is_none());
        assert_eq!(to_clock(0), Some(ClockTime::from_seconds(1000)));
        assert_eq!(to_clock(3003), Some(ClockTime::from_nseconds(1_000_033_366_667)));
    }

    proptest! {
        #[test]
        fn every_tick_survives_the_way_through_gstreamer(ticks in -BASE_TICKS..=LIMIT_TICKS) {
            prop_assert_eq!(from_clock(to_clock(ticks).unwrap()), ticks);
        }
    }
}
