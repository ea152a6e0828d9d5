//! What the status page and `/v1/streams` say of a stream.

use std::collections::BTreeMap;

use serde::Serialize;

use super::health::MeasuredSrt;
use super::{Measured, Now, Stream};
use crate::logic::capacity::Demand;
use crate::logic::pace;
use crate::logic::placement::Choice;
use crate::logic::playlist::Format;
use crate::logic::recipe::Class;
use crate::logic::stream::tracks::Role;
use crate::logic::time::MediaTime;
use crate::logic::verdict::Verdict;

/// One stream.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "field names are the API's, described in docs/api.md")]
pub struct Status {
    pub id: String,
    pub state: &'static str,
    pub session: String,
    pub since: Option<String>,
    pub publisher: Option<String>,
    pub playback: Playback,
    pub input: Input,
    pub captions: Vec<String>,
    pub passthrough: bool,
    pub slate: bool,
    pub warnings: Vec<String>,
    pub health: Verdict,
    /// For `/v1/streams/{id}/health`.
    #[serde(skip)]
    pub measured: Measured,
    /// What is done for it, for whoever counts what that costs; `None` until it is known, and while a slate is shown.
    #[serde(skip)]
    pub demand: Option<Demand>,
    /// It falls behind, and not by its publisher's doing.
    #[serde(skip)]
    pub behind: bool,
    /// Media that its slowest encoder gives a second of what comes, thousandths.
    #[serde(skip)]
    pub speed: Option<u16>,
    pub shed: ShedStatus,
    pub codec_pid: Option<u32>,
    pub codec_restarts: u64,
    /// The shell's.
    pub encoder_class: Option<EncoderClass>,
    pub rungs: Vec<RungStatus>,
    pub thumbnail: ThumbnailStatus,
    pub segments: u64,
    pub gaps: u64,
    pub discontinuities: u64,
    pub epoch: u32,
    pub publishing: Publishing,
}

/// How much work NVENC puts into pictures.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "as below")]
pub struct EncoderClass {
    pub class: Class,
    pub reason: &'static str,
    pub load_percent: Option<u64>,
}

impl EncoderClass {
    /// As it was chosen.
    pub const fn of(choice: Choice) -> Self {
        Self { class: choice.class, reason: choice.why.code(), load_percent: choice.why.percent() }
    }
}

/// What the stream goes without.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as below")]
pub struct ShedStatus {
    /// For metrics.
    #[serde(skip)]
    pub depth: i64,
    pub step: &'static str,
    pub words: String,
    pub rungs: Vec<String>,
}

/// How far the store is behind.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as below")]
pub struct Publishing {
    pub store_away: bool,
    pub waiting: usize,
    pub waiting_bytes: u64,
    pub lag_seconds: f64,
    pub rpo_seconds: f64,
}

/// The latest thumbnail.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct ThumbnailStatus {
    /// On the worker's own HTTP server.
    pub url: Option<String>,
    pub at: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub reason: Option<&'static str>,
    pub published: u64,
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Addresses on the worker's own HTTP server.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Playback {
    pub hls: String,
    pub dash: String,
    /// Where the recording's playlists will be, if there is one.
    pub recording: Option<String>,
}

/// The source.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Input {
    pub video: Option<VideoInput>,
    pub audio: Option<AudioInput>,
    /// The line of a publisher that comes by SRT.
    pub srt: Option<MeasuredSrt>,
}

/// Its video, as measured.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct VideoInput {
    pub codec: String,
    pub width: u32,
    pub height: u32,
    pub fps: Option<f64>,
    pub bitrate: Option<u64>,
    pub gop_seconds: Option<f64>,
    pub b_frames: bool,
}

/// Its audio.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct AudioInput {
    pub codec: String,
    pub rate: u32,
    pub channels: u8,
    pub bitrate: Option<u64>,
    pub reencoded: bool,
    pub loudness: Option<LoudnessInput>,
}

/// How loud it is, by ITU-R BS.1770.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct LoudnessInput {
    pub integrated_lufs: Option<f64>,
    pub short_term_lufs: Option<f64>,
    pub gain_db: Option<f64>,
}

/// One track.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct RungStatus {
    pub name: String,
    pub kind: &'static str,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub fps: Option<f64>,
    pub codec: String,
    pub bitrate: Option<u64>,
    pub speed: Option<f64>,
    pub segments: u64,
    pub gaps: u64,
}

/// Thousandths as the number that JSON shows; no media time is computed from it.
pub(super) fn thousandths(n: u64) -> f64 {
    n as f64 / 1000.0
}

impl Stream {
    /// A picture of the stream now. `publisher` and `codec_pid` are the shell's.
    pub fn status(&self, publisher: Option<String>, codec_pid: Option<u32>, now: Now) -> Status {
        let state = if self.over {
            "ended"
        } else if self.lifecycle.is_over() {
            "ending"
        } else if !self.lifecycle.is_live() {
            "paused"
        } else if self.decision.is_none() {
            "probing"
        } else {
            "live"
        };
        let source = self.timeline.video_format().filter(|_| !self.is_slate());
        let video = source.map(|v| VideoInput {
            codec: v.codec.clone(),
            width: v.width,
            height: v.height,
            fps: self.facts.video.rate_milli().map(thousandths),
            bitrate: self.facts.video.bitrate(),
            gop_seconds: self.facts.gop().map(|g| thousandths(g.millis().max(0).unsigned_abs())),
            b_frames: self.facts.has_b_frames(),
        });
        let has_audio = self.facts.audio.rate_milli().is_some() && !self.is_slate();
        let source = self.timeline.audio_format().cloned();
        let audio = source.filter(|_| has_audio).map(|a| AudioInput {
            codec: a.codec,
            rate: a.rate.hz(),
            channels: a.channels,
            bitrate: self.facts.audio.bitrate(),
            reencoded: self.sound.is_reencoded(),
            loudness: self.sound.loudness.map(|l| LoudnessInput {
                integrated_lufs: l.integrated.map(|v| f64::from(v) / 100.0),
                short_term_lufs: l.short_term.map(|v| f64::from(v) / 100.0),
                gain_db: l.gain.map(|v| f64::from(v / 10) / 100.0),
            }),
        });
        let health = self.verdict(now);
        let measured = self.measured(now);
        let mut warnings = health.sentences();
        if !self.is_slate() {
            warnings.extend(self.audio_warnings(has_audio));
        }
        let rungs: Vec<RungStatus> = self.tracks.iter().map(|t| self.rung_status(t)).collect();
        Status {
            id: self.setup.stream.to_string(),
            state,
            session: self.setup.session.to_string(),
            since: self.dating.anchor().map(|a| a.to_string()),
            publisher,
            playback: Playback {
                hls: format!("/{}", self.keys.index()),
                dash: format!("/{}", self.keys.mpd()),
                recording: self.keys.is_recorded().then(|| format!("/{}", self.keys.clone().of_recording().index())),
            },
            input: Input { video, audio, srt: measured.srt.clone() },
            captions: self.captions.seen().iter().map(ToString::to_string).collect(),
            passthrough: self.decision.as_ref().is_some_and(|d| d.passthrough),
            slate: self.is_slate(),
            warnings,
            health,
            measured,
            demand: self.demand(),
            behind: self.is_behind(),
            speed: self.encoding_speed(),
            shed: self.shed_status(),
            codec_pid,
            codec_restarts: self.encoding.as_ref().map_or(0, |e| e.deaths()),
            encoder_class: None,
            segments: rungs.iter().map(|r| r.segments).max().unwrap_or(0),
            gaps: rungs.iter().map(|r| r.gaps).sum(),
            rungs,
            thumbnail: self.thumbnail_status(),
            discontinuities: self.discontinuities,
            epoch: self.setup.writer.epoch,
            publishing: Publishing {
                store_away: self.queue.is_away(),
                waiting: self.queue.len(),
                waiting_bytes: self.queue.bytes(),
                lag_seconds: thousandths(u64::try_from(self.queue.lag(now.mono).as_millis()).unwrap_or(u64::MAX)),
                rpo_seconds: thousandths(self.exposed().millis().max(0).unsigned_abs()),
            },
        }
    }

    /// Media that came and that no playlist names yet: what would be lost if this node died now, with its disk.
    fn exposed(&self) -> MediaTime {
        let Some(window) = self.window.as_ref().filter(|_| !self.over) else { return MediaTime::ZERO };
        let named = window.named_until().or_else(|| self.decision.as_ref()?.cuts.first().map(|c| c.start));
        self.timeline.end() - named.unwrap_or(MediaTime::ZERO)
    }

    /// It takes, or encodes, less than comes.
    fn is_behind(&self) -> bool {
        let pace = &self.watch.pace;
        let slow_rung = self.encoding_speed().is_some_and(|speed| u64::from(speed) < pace::SLOW);
        self.lifecycle.is_live() && (slow_rung || pace.worker_is_slow() || pace.encoder_lag().is_some())
    }

    /// Of what comes, so many thousandths the slowest rung encodes.
    fn encoding_speed(&self) -> Option<u16> {
        // What a slow publisher does not send cannot be encoded.
        let comes = self.facts.video.speed_milli().unwrap_or(1000).clamp(1, 1000);
        let encoded = self.tracks.iter().filter(|t| matches!(t.role, Role::Rung(_)));
        let slowest = encoded.filter_map(|t| t.meter.speed_milli()).min()?;
        Some(u16::try_from(slowest.saturating_mul(1000) / comes).unwrap_or(u16::MAX))
    }

    fn shed_status(&self) -> ShedStatus {
        let off = self.planned.iter().take(self.saving.rungs_off.into()).map(|r| r.name.to_string());
        ShedStatus { depth: self.saving.depth(), step: self.saving.as_str(), words: self.saving.words(), rungs: off.collect() }
    }

    fn rung_status(&self, t: &super::tracks::TrackState) -> RungStatus {
        let (width, height, fps) = match t.format() {
            Format::Video(v) => (Some(v.width), Some(v.height), Some(thousandths(v.fps.milli()))),
            Format::Audio(_) => (None, None, None),
        };
        let kind = match t.role {
            Role::Source => "source",
            Role::Rung(_) | Role::NotProduced => "encoded",
            Role::Audio => "audio",
        };
        let copied = t.role == Role::Audio && !self.sound.is_reencoded();
        let meter = if copied { &self.facts.audio } else { &t.meter };
        RungStatus {
            name: t.name.to_string(),
            kind,
            width,
            height,
            fps,
            codec: t.format().codec().to_owned(),
            bitrate: meter.bitrate(),
            speed: matches!(t.role, Role::Rung(_)).then(|| meter.speed_milli().map(thousandths)).flatten(),
            segments: t.segments,
            gaps: t.gaps,
        }
    }
}
