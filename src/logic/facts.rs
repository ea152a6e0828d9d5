//! What the source is measured to be. Pure; [`super::verdict`] judges it.

mod gops;
mod peak;

use std::collections::VecDeque;
use std::time::Duration;

use super::time::MediaTime;
use gops::Gops;
use peak::Peak;

/// Bitrate and frame rate are taken over this much media: long enough for a GOP of the target length, short enough to follow a change.
const SPAN: MediaTime = MediaTime::from_secs(5);

/// Units remembered at the most: [`SPAN`] at 240 fps.
const MAX_UNITS: usize = 1200;

/// Fewer pictures say nothing about how even they come: two seconds at five a second.
const MIN_UNITS: usize = 10;

/// Audio that is away for longer is a gap: silence stands in its place (rules.md 10).
const AUDIO_GAP: MediaTime = MediaTime::from_millis(500);

/// A sliding look at one track's units.
#[derive(Debug, Default)]
pub struct Meter {
    units: VecDeque<(Duration, MediaTime, usize)>,
    bytes: usize,
}

impl Meter {
    /// A unit of `bytes` at `time` was seen at `now`.
    pub fn push(&mut self, time: MediaTime, bytes: usize, now: Duration) {
        self.units.push_back((now, time, bytes));
        self.bytes += bytes;
        while self.units.front().is_some_and(|&(_, t, _)| time - t > SPAN || self.units.len() > MAX_UNITS) {
            if let Some((_, _, gone)) = self.units.pop_front() {
                self.bytes = self.bytes.saturating_sub(gone);
            }
        }
    }

    /// Something was seen.
    pub fn is_known(&self) -> bool {
        !self.units.is_empty()
    }

    fn span(&self) -> Option<(MediaTime, Duration)> {
        let (first, last) = (self.units.front()?, self.units.back()?);
        let media = last.1 - first.1;
        (media.0 > 0).then(|| (media, last.0.saturating_sub(first.0)))
    }

    /// Bits per second of media.
    pub fn bitrate(&self) -> Option<u64> {
        let (media, _) = self.span()?;
        let last = self.units.back().map_or(0, |u| u.2);
        let bits = (self.bytes.saturating_sub(last) as u128) * 8 * 90_000;
        u64::try_from(bits / media.0.unsigned_abs() as u128).ok()
    }

    /// Units per 1000 seconds of media.
    pub fn rate_milli(&self) -> Option<u64> {
        let (media, _) = self.span()?;
        let units = (self.units.len() as u128 - 1) * 90_000 * 1000;
        u64::try_from(units / media.0.unsigned_abs() as u128).ok()
    }

    /// Media seconds per second of wall clock, in thousandths: 1000 keeps up.
    pub fn speed_milli(&self) -> Option<u64> {
        let (media, wall) = self.span()?;
        let wall = i64::try_from(wall.as_millis()).ok().filter(|&w| w > 0)?;
        u64::try_from(media.millis().saturating_mul(1000) / wall).ok()
    }

    /// Units of which more than a tenth are a quarter nearer to or farther from the one before than the mean: the rate varies. `None` for too few.
    pub fn is_variable(&self) -> Option<bool> {
        // Decode times may step back where a publisher's clock was mended.
        let mut times: Vec<i64> = self.units.iter().map(|(_, t, _)| t.0).collect();
        times.sort_unstable();
        let (first, last) = (times.first()?, times.last()?);
        if times.len() < MIN_UNITS {
            return None;
        }
        let mean = (last - first) / (times.len() as i64 - 1);
        // RTMP rounds both ends to a millisecond.
        let tolerance = mean / 4 + 180;
        let uneven = times.windows(2).filter(|w| (w[1] - w[0] - mean).abs() > tolerance).count();
        Some(uneven * 10 > times.len() - 1)
    }
}

/// Something that happens now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    count: u64,
    last: Option<Duration>,
}

impl Tally {
    /// It happened `total` times so far, as somebody else counts.
    pub fn follow(&mut self, total: u64, now: Duration) {
        if total > self.count {
            self.last = Some(now);
        }
        self.count = total;
    }

    /// It happened again.
    pub fn add(&mut self, now: Duration) {
        self.follow(self.count.saturating_add(1), now);
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How often, if the last time was not longer ago than `span`; else 0.
    pub fn recent(&self, span: Duration, now: Duration) -> u64 {
        self.last.filter(|&last| now.saturating_sub(last) <= span).map_or(0, |_| self.count)
    }
}

/// The source.
#[derive(Debug, Default)]
pub struct Facts {
    /// Rates of its video.
    pub video: Meter,
    /// Rates of its audio.
    pub audio: Meter,
    /// Times that its audio was away for over half a second.
    pub audio_gaps: Tally,
    /// Distances of its key frames.
    gops: Gops,
    peak: Peak,
    /// Pictures presented before one that was decoded earlier.
    reordered: bool,
    open_gops: Tally,
    last_audio: Option<(MediaTime, Duration)>,
}

impl Facts {
    /// An access unit.
    pub fn unit(&mut self, pts: MediaTime, dts: MediaTime, idr: bool, bytes: usize, now: Duration) {
        self.video.push(dts, bytes, now);
        self.peak.push(dts, bytes);
        self.reordered |= pts != dts;
        self.gops.push(pts, idr);
    }

    /// An access unit came that begins a GOP without an IDR.
    pub fn open_gop(&mut self, now: Duration) {
        self.open_gops.add(now);
    }

    /// An audio frame.
    pub fn audio_unit(&mut self, pts: MediaTime, bytes: usize, now: Duration) {
        self.audio.push(pts, bytes, now);
        if self.last_audio.is_some_and(|(last, _)| pts - last > AUDIO_GAP) {
            self.audio_gaps.add(now);
        }
        self.last_audio = Some((pts, now));
    }

    /// A publisher went on: what was measured of the one before says nothing.
    pub fn resumed(&mut self) {
        *self = Self::default();
    }

    /// Distance of the last two IDRs, or of the last one to now when that is longer.
    pub fn gop(&self) -> Option<MediaTime> {
        self.gops.last()
    }

    /// Shortest and longest distance of two IDRs of this publisher.
    pub fn gop_range(&self) -> Option<(MediaTime, MediaTime)> {
        self.gops.range()
    }

    /// GOPs that began without an IDR.
    pub fn open_gops(&self) -> Tally {
        self.open_gops
    }

    /// The source has B-frames.
    pub fn has_b_frames(&self) -> bool {
        self.reordered
    }

    /// Most bits of video in one second of the last minute.
    pub fn peak_bitrate(&self) -> Option<u64> {
        self.peak.bitrate()
    }

    /// For how long no audio has come; `None` if none ever came.
    pub fn audio_away(&self, now: Duration) -> Option<Duration> {
        self.last_audio.map(|(_, last)| now.saturating_sub(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut f = Facts::default();
        for n in 0..600i64 {
            let t = MediaTime::from_millis(n * 100 / 3);
            f.unit(t, t, n % 60 == 0, 12_500, Duration::from_millis((n * 50 / 3) as u64));
        }
        assert!((2_990_000..3_010_000).contains(&f.video.bitrate().unwrap()));
        assert!((29_950..30_050).contains(&f.video.rate_milli().unwrap()));
        assert!((1990..2010).contains(&f.video.speed_milli().unwrap()), "twice real time");
        assert_eq!(f.gop().unwrap().millis(), 2000);
        assert_eq!(f.video.is_variable(), Some(false));
        assert!(!f.has_b_frames());
        assert_eq!(f.open_gops().count(), 0);
        f.resumed();
        assert_eq!((f.gop(), f.video.bitrate(), f.peak_bitrate()), (None, None, None));
    }

    #[test]
    fn constant_rates_are_told_from_variable_ones() {
        let variable = |times: &mut dyn Iterator<Item = i64>| {
            let mut m = Meter::default();
            times.for_each(|ms| m.push(MediaTime::from_millis(ms), 1, Duration::ZERO));
            m.is_variable()
        };
        for fps in [15_000, 24_000, 25_000, 30_000, 50_000, 59_940, 120_000] {
            assert_eq!(variable(&mut (0..600).map(|n| n * 1_000_000 / fps)), Some(false), "{fps}");
        }
        // OBS drops pictures now and then when the line is full.
        assert_eq!(variable(&mut (0..600).filter(|n| n % 30 != 7).map(|n| n * 1000 / 30)), Some(false));
        assert_eq!(variable(&mut (0..600).map(|n| n * 40 + n % 2 * 30)), Some(true));
        assert_eq!(variable(&mut (0..6).map(|n| n * 1000)), None, "one picture a second");
    }

    #[test]
    fn audio_that_is_away_for_half_a_second_is_a_gap() {
        let mut f = Facts::default();
        assert_eq!(f.audio_away(Duration::from_secs(5)), None);
        for ms in [0, 21, 500, 1100, 1121] {
            f.audio_unit(MediaTime::from_millis(ms), 300, Duration::from_millis(ms as u64));
        }
        assert_eq!(f.audio_gaps.count(), 1);
        assert_eq!(f.audio_away(Duration::from_secs(4)), Some(Duration::from_millis(2879)));
        let minute = Duration::from_secs(60);
        assert_eq!(f.audio_gaps.recent(minute, Duration::from_secs(61)), 1);
        assert_eq!(f.audio_gaps.recent(minute, Duration::from_secs(62)), 0, "long ago");
    }
}
