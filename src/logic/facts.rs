//! What the source is measured to be, and what its streamer should change. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::MediaTime;

/// Bitrate and frame rate are taken over this much media: long enough for a GOP of the target length, short enough to follow a change.
const SPAN: MediaTime = MediaTime::from_secs(5);

/// Units remembered at the most: [`SPAN`] at 240 fps.
const MAX_UNITS: usize = 1200;

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
}

/// The source's video.
#[derive(Debug, Default)]
pub struct Facts {
    /// Rates.
    pub video: Meter,
    /// Rates of its audio.
    pub audio: Meter,
    last_idr: Option<MediaTime>,
    gop: Option<MediaTime>,
    /// Pictures presented before one that was decoded earlier.
    reordered: bool,
    open_gops: u64,
}

impl Facts {
    /// An access unit.
    pub fn unit(&mut self, pts: MediaTime, dts: MediaTime, idr: bool, bytes: usize, now: Duration) {
        self.video.push(dts, bytes, now);
        self.reordered |= pts != dts;
        if idr {
            if let Some(last) = self.last_idr {
                self.gop = Some(pts - last);
            }
            self.last_idr = Some(pts);
        } else if let Some(last) = self.last_idr
            && self.gop.is_none_or(|g| pts - last > g)
        {
            // longer than any so far, and still open
            self.gop = self.gop.map(|_| pts - last);
        }
    }

    /// A picture came; `open`: a GOP begins with it without an IDR.
    pub fn seen(&mut self, open: bool) {
        self.open_gops = self.open_gops.saturating_add(u64::from(open));
    }

    /// A publisher went on: the distance to the last IDR says nothing.
    pub fn resumed(&mut self) {
        self.last_idr = None;
        self.gop = None;
        self.video = Meter::default();
        self.audio = Meter::default();
    }

    /// Distance of the last two IDRs, or of the last one to now when that is longer.
    pub fn gop(&self) -> Option<MediaTime> {
        self.gop
    }

    /// The source has B-frames.
    pub fn has_b_frames(&self) -> bool {
        self.reordered
    }

    /// Advice about the key frame interval: OBS leaves it at 250 frames, which is 8.3 s at 30 fps.
    pub fn gop_advice(&self) -> Option<String> {
        let gop = self.gop.filter(|g| *g > MediaTime::from_millis(2600))?;
        let tenths = (gop.millis() + 50) / 100;
        Some(format!("keyframe interval {}.{} s: set 2 s in OBS", tenths / 10, tenths % 10))
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
        assert!(!f.has_b_frames() && f.gop_advice().is_none());
    }

    #[test]
    fn obs_defaults_get_advice() {
        let mut f = Facts::default();
        for n in 0..600i64 {
            let t = MediaTime::from_millis(n * 100 / 3);
            f.unit(t, t, n % 250 == 0, 1000, Duration::ZERO);
        }
        assert_eq!(f.gop_advice().unwrap(), "keyframe interval 8.3 s: set 2 s in OBS");
    }
}
