//! Two clocks in one publisher: audio and video whose timestamps are credible one by one and drift apart. Pure.
//!
//! Senders that interleave by timestamp (OBS, ffmpeg, GStreamer) cannot drift this way: what comes together has the same time. Those that send each
//! packet as it is made can, and then the order of arrival is the truth. Compares not averages, which a picture rate that falls would move, but
//! how little either track was ever ahead of the other.

use super::mapper::Track;
use super::time::MediaTime;

/// One comparison takes so much media: at 0.5 % between the clocks it moves by 25 ms within.
const SPAN: MediaTime = MediaTime::from_secs(5);

/// A change larger than this is corrected: the error that rules.md 11 allows, and half of what ITU-R BT.1359 calls detectable where sound is late.
const MAX_CHANGE: MediaTime = MediaTime::from_millis(60);

/// Two comparisons in a row must agree to this. What changes faster is not a clock: a sender whose encoder fell behind and catches up.
const AGREEMENT: MediaTime = MediaTime::from_millis(50);

/// Correction per audio frame: 5 % of its length, so that frames go or come one at a time.
const SLEW: MediaTime = MediaTime::from_millis(1);

/// The machine.
#[derive(Debug, Clone, Default)]
pub struct Skew {
    began: Option<MediaTime>,
    /// How little audio was ahead of video at its coming, and video of audio.
    audio: Option<MediaTime>,
    video: Option<MediaTime>,
    /// Half the difference of both at the beginning: how this sender interleaves.
    usual: Option<MediaTime>,
    /// The last comparison, where it was too far from that.
    suspect: Option<MediaTime>,
    pending: MediaTime,
}

impl Skew {
    /// A packet at `at`, `ahead` of the other track's latest.
    pub fn push(&mut self, track: Track, ahead: MediaTime, at: MediaTime) {
        if self.pending != MediaTime::ZERO {
            return;
        }
        let least = match track {
            Track::Audio => &mut self.audio,
            Track::Video => &mut self.video,
        };
        *least = Some(least.map_or(ahead, |l| l.min(ahead)));
        let began = *self.began.get_or_insert(at);
        if at - began < SPAN {
            return;
        }
        let seen = (self.audio.take(), self.video.take());
        self.began = None;
        if let (Some(audio), Some(video)) = seen {
            self.compare(MediaTime((audio.0 - video.0) / 2));
        }
    }

    fn compare(&mut self, now: MediaTime) {
        let change = now - *self.usual.get_or_insert(now);
        let suspect = self.suspect.take();
        if change.0.abs() <= MAX_CHANGE.0 {
            return;
        }
        self.suspect = Some(now);
        if suspect.is_some_and(|s| (now - s).0.abs() <= AGREEMENT.0) {
            self.suspect = None;
            self.pending = MediaTime::ZERO - change;
        }
    }

    /// By how much the audio's clock moves before its next frame.
    pub fn slew(&mut self) -> MediaTime {
        let step = MediaTime(self.pending.0.clamp(-SLEW.0, SLEW.0));
        self.pending = self.pending - step;
        step
    }
}
