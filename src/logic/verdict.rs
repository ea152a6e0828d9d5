//! How well a stream does, and what its streamer should change: measured numbers in, findings out. Pure.
//!
//! Each check gives one finding, also where all is well, so that a dashboard sees what was looked at. Knows nothing of where the numbers come from, and
//! decides nothing about the stream.

mod checks;

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::allowance::Standing;
use super::capacity::{Dimension, Saving};
use super::obstacle::Obstacle;
use super::packet::Metadata;
use super::time::MediaTime;
use crate::cmaf::video::Picture;

/// What was looked at. The names are the API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "docs/api.md describes each")]
pub enum Code {
    LongGop,
    OpenGop,
    HighBitrate,
    OverAllowance,
    NotPlayableProfile,
    Interlaced,
    TenBit,
    Chroma,
    NonSquare,
    TooLarge,
    VariableFps,
    LowFps,
    FramesMissing,
    NoAudio,
    SilentAudio,
    AudioGaps,
    AudioDrift,
    DeclaredOtherwise,
    UplinkTooSlow,
    LineLoss,
    ClockJumps,
    EncoderBehind,
    EncoderLost,
    Shed,
    WorkerBehind,
    StoreBehind,
}

impl Code {
    /// `long_gop`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LongGop => "long_gop",
            Self::OpenGop => "open_gop",
            Self::HighBitrate => "high_bitrate",
            Self::OverAllowance => "over_allowance",
            Self::NotPlayableProfile => "not_playable_profile",
            Self::Interlaced => "interlaced",
            Self::TenBit => "ten_bit",
            Self::Chroma => "chroma",
            Self::NonSquare => "non_square",
            Self::TooLarge => "too_large",
            Self::VariableFps => "variable_fps",
            Self::LowFps => "low_fps",
            Self::FramesMissing => "frames_missing",
            Self::NoAudio => "no_audio",
            Self::SilentAudio => "silent_audio",
            Self::AudioGaps => "audio_gaps",
            Self::AudioDrift => "audio_drift",
            Self::DeclaredOtherwise => "declared_otherwise",
            Self::UplinkTooSlow => "uplink_too_slow",
            Self::LineLoss => "line_loss",
            Self::ClockJumps => "clock_jumps",
            Self::EncoderBehind => "encoder_behind",
            Self::EncoderLost => "encoder_lost",
            Self::Shed => "shed",
            Self::WorkerBehind => "worker_behind",
            Self::StoreBehind => "store_behind",
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Looked at, and fine.
    Ok,
    /// Worth knowing; viewers lose nothing.
    Notice,
    /// Viewers get less than they could.
    Warning,
    /// Viewers see pauses, gaps or nothing.
    Bad,
}

/// The stream as a whole: its worst finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overall {
    /// Nothing above a notice.
    Good,
    /// A warning.
    Degraded,
    /// Something is bad.
    Bad,
}

/// A number in thousandths of its unit; floating point only where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milli(pub i64);

impl Serialize for Milli {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What; stable.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// A sentence for the streamer, or for the operator where the streamer can do nothing.
    pub text: String,
    /// Where OBS has the setting that helps.
    pub setting: Option<&'static str>,
    /// The number that was measured.
    pub measured: Option<Milli>,
    /// What it should be at the most, or at the least.
    pub limit: Option<Milli>,
    /// Of both.
    pub unit: Option<&'static str>,
}

/// All findings, the worst first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The worst of them.
    pub overall: Overall,
    /// One for each check.
    pub findings: Vec<Finding>,
}

/// The source's video, as it is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// What its SPS says.
    pub picture: Option<Picture>,
    /// RFC 6381.
    pub codec: String,
    /// As displayed, luma samples.
    pub size: (u32, u32),
    /// By its SPS or `onMetaData`, frames in 1000 s.
    pub nominal_fps: u64,
    /// Measured, likewise.
    pub fps: Option<u64>,
    /// Pictures come unevenly.
    pub is_variable: Option<bool>,
    /// Distance of the last IDRs, or the open GOP if that is longer.
    pub gop: Option<MediaTime>,
    /// GOPs without an IDR, in the last minute.
    pub open_gops: u64,
    /// Bits per second.
    pub bitrate: Option<u64>,
}

/// Its audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audio {
    /// For how long none has come; `None` if none ever came.
    pub away: Option<Duration>,
    /// Gaps, if there was one in the last minute.
    pub gaps: u64,
    /// Loudness in hundredths of a LUFS, where it is measured.
    pub loudness: Option<i32>,
    /// By how many millionths its samples are always faster than its times, and whether they are stretched.
    pub drift: Option<(i32, bool)>,
}

/// Everything that a verdict is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// A publisher is there; without one only the store is looked at.
    pub live: bool,
    /// Tracks are decided: what has not come by now is missing.
    pub decided: bool,
    /// The source is among the rungs.
    pub passthrough: bool,
    /// Encoders are there.
    pub can_encode: bool,
    /// What the worker lacks to encode a source anew that it does not pass through, if it does not.
    pub no_room: Option<Dimension>,
    /// Why the source could not be passed through when that was decided.
    pub obstacle: Option<Obstacle>,
    /// Shortest regular segment.
    pub target: MediaTime,
    /// Largest short side that is passed through.
    pub short_side_limit: u32,
    /// Most bits per second that are.
    pub bitrate_limit: u64,
    /// `None` for an audio-only stream, and before its configuration came.
    pub video: Option<Video>,
    /// Likewise.
    pub audio: Audio,
    /// What `onMetaData` claims.
    pub declared: Metadata,
    /// What the publisher sends, and what his key allows, where it says so.
    pub allowance: Option<Standing>,
    /// Media per second, in thousandths.
    pub uplink: Option<u64>,
    /// [`super::pace`] says so.
    pub uplink_is_slow: bool,
    /// Likewise.
    pub worker_is_slow: bool,
    /// Likewise.
    pub encoder_lag: Option<Duration>,
    /// Codec processes that were lost, if one was in the last minute.
    pub encoders_lost: u64,
    /// What the stream goes without for want of room.
    pub saving: Saving,
    /// Likewise of the store.
    pub store_lag: Option<Duration>,
    /// It does not answer.
    pub store_away: bool,
    /// Jumps of the publisher's clock, if there was one in the last minutes.
    pub clock_jumps: u64,
    /// What SRT measures, of a publisher that comes by it.
    pub srt: Option<super::srt::Line>,
}

/// A drift in millionths as a streamer reads it: percent, and `fast` or `slow`.
pub(super) fn drift(ppm: i32) -> (String, &'static str) {
    let hundredths = (ppm.unsigned_abs() + 50) / 100;
    (format!("{}.{:02}", hundredths / 100, hundredths % 100), if ppm > 0 { "fast" } else { "slow" })
}

/// Looks at everything.
pub fn judge(observed: &Observed) -> Verdict {
    let mut findings = checks::all(observed);
    // Stable: of equal ones in the order of the checks.
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let overall = match findings.first().map(|f| f.severity) {
        Some(Severity::Bad) => Overall::Bad,
        Some(Severity::Warning) => Overall::Degraded,
        Some(Severity::Notice | Severity::Ok) | None => Overall::Good,
    };
    Verdict { overall, findings }
}

impl Verdict {
    /// The sentences of all findings that somebody should read.
    pub fn sentences(&self) -> Vec<String> {
        self.findings.iter().filter(|f| f.severity > Severity::Ok).map(|f| f.text.clone()).collect()
    }

    /// Whether this was found.
    pub fn has(&self, code: Code) -> bool {
        self.findings.iter().any(|f| f.code == code && f.severity > Severity::Ok)
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
