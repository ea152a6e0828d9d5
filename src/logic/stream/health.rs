//! How the stream does: gathers what is measured, and has it judged.

use std::time::Duration;

use serde::Serialize;

use super::status::thousandths;
use super::{Now, Output, Stream};
use crate::cmaf::video;
use crate::logic::allowance::{self, Allowance, Standing};
use crate::logic::encoding::Encoding;
use crate::logic::facts::Tally;
use crate::logic::pace::{self, Look, Pace, Reading};
use crate::logic::srt;
use crate::logic::time::MediaTime;
use crate::logic::verdict::{self, Observed, Verdict};

/// What happened once is told for so long.
const RECENT: Duration = Duration::from_secs(60);

/// A mended clock for longer: viewers who come later hear of a break that they may still meet in the window.
const RECENT_JUMP: Duration = Duration::from_secs(300);

/// What is looked at over time.
#[derive(Debug, Default)]
pub(super) struct Watch {
    reading: Reading,
    pub pace: Pace,
    allowance: Allowance,
    srt: srt::Watch,
    jumps: Tally,
    lost: Tally,
}

/// What `/v1/streams/{id}/health` says beside the verdict.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "field names are the API's, described in docs/api.md")]
pub struct Measured {
    pub video: Option<MeasuredVideo>,
    pub audio: Option<MeasuredAudio>,
    pub declared: Declared,
    pub uplink: Uplink,
    pub srt: Option<MeasuredSrt>,
}

/// The source's video.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MeasuredVideo {
    pub codec: String,
    pub profile: Option<&'static str>,
    pub level: Option<f64>,
    pub width: u32,
    pub height: u32,
    pub sar: String,
    pub display_width: u32,
    pub display_height: u32,
    pub chroma: Option<&'static str>,
    pub bit_depth: Option<u8>,
    pub interlaced: Option<bool>,
    pub fps_nominal: f64,
    pub fps: Option<f64>,
    pub fps_variable: Option<bool>,
    pub gop_seconds: Option<f64>,
    pub gop_seconds_min: Option<f64>,
    pub gop_seconds_max: Option<f64>,
    pub open_gops: u64,
    pub b_frames: bool,
    pub bitrate: Option<u64>,
    pub bitrate_peak: Option<u64>,
}

/// Its audio.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MeasuredAudio {
    pub codec: String,
    pub rate: u32,
    pub channels: u8,
    pub bitrate: Option<u64>,
    pub gaps: u64,
    pub away_seconds: Option<f64>,
    pub frames_filled: u64,
    pub frames_dropped: u64,
    pub drift_ppm: Option<i32>,
}

/// What `onMetaData` claims.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Declared {
    pub video_bitrate: Option<u64>,
    pub audio_bitrate: Option<u64>,
    pub fps: Option<f64>,
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// The publisher's line.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Uplink {
    pub speed: Option<f64>,
    pub slow: bool,
    pub slow_episodes: u64,
}

/// What SRT measures of it.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MeasuredSrt {
    pub rtt_ms: f64,
    pub latency_ms: u32,
    pub buffer_ms: u32,
    pub packets: u64,
    pub lost: u64,
    pub retransmitted: u64,
    pub dropped: u64,
    pub undecrypted: u64,
    pub loss_percent: f64,
    pub ts_holes: u64,
    pub encryption: Option<String>,
}

impl From<srt::Line> for MeasuredSrt {
    fn from(line: srt::Line) -> Self {
        let n = line.numbers;
        Self {
            rtt_ms: thousandths(n.rtt_us),
            latency_ms: n.latency_ms,
            buffer_ms: n.buffer_ms,
            packets: n.received,
            lost: n.lost,
            retransmitted: n.retransmitted,
            dropped: n.dropped,
            undecrypted: n.undecrypted,
            loss_percent: thousandths(line.loss.saturating_mul(100)),
            ts_holes: n.holes,
            encryption: (n.key_length > 0).then(|| format!("AES-{}", u32::from(n.key_length) * 8)),
        }
    }
}

fn seconds(t: MediaTime) -> f64 {
    thousandths(t.millis().max(0).unsigned_abs())
}

impl Stream {
    /// How the reading of the publisher's connection stands. Cheap; to be told before each packet and deadline.
    pub fn reading(&mut self, reading: Reading) {
        self.watch.reading = reading;
    }

    /// What the publisher's key allows him to send, kbit/s; to be told of each publisher.
    pub fn allow(&mut self, max_kbps: Option<u32>) {
        self.watch.allowance = Allowance::new(max_kbps);
    }

    /// Another publisher's line.
    pub(super) fn watch_anew(&mut self) {
        self.watch.reading = Reading::default();
        self.watch.pace.another_publisher();
        self.watch.srt.clear();
    }

    /// When [`Stream::look`] is due.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.lifecycle.is_live().then(|| self.watch.pace.poll_timeout())
    }

    /// The look of each second.
    pub(super) fn look(&mut self, now: Now) {
        if !self.lifecycle.is_live() {
            return;
        }
        let picture = 90_000_000 / i64::try_from(self.nominal_fps().max(1)).unwrap_or(i64::MAX);
        let held = MediaTime(picture.saturating_mul(pace::HELD));
        let look = Look {
            reading: self.watch.reading,
            media: self.timeline.end(),
            encoder: self.encoding.as_ref().map_or(MediaTime::ZERO, |e| e.lag() - held),
            store: self.queue.lag(now.mono),
        };
        self.watch.pace.look(look, now.mono);
        if let Some(Standing { measured, limit }) = self.watch.allowance.look(self.watch.reading.received, now.mono) {
            let (is, most, span) = (measured / 1000, limit / 1000, allowance::SPAN.as_secs());
            let reason = format!("{is} kbit/s for {span} s, this stream key allows {most}: set a lower bitrate");
            self.outputs.push_back(Output::Refuse(reason));
        }
        if let Some(numbers) = look.reading.srt {
            self.watch.srt.follow(numbers, now.mono);
        }
        self.watch.jumps.follow(self.timeline.jumps(), now.mono);
        self.watch.lost.follow(self.encoding.as_ref().map_or(0, Encoding::deaths), now.mono);
    }

    fn nominal_fps(&self) -> u64 {
        self.timeline.video_format().map_or(30_000, |f| f.fps.milli())
    }

    pub(super) fn verdict(&self, now: Now) -> Verdict {
        let facts = &self.facts;
        let policy = &self.setup.timeline;
        let video = self.timeline.video_format().map(|f| verdict::Video {
            picture: video::picture(f),
            codec: f.codec.clone(),
            size: video::displayed(f),
            nominal_fps: f.fps.milli(),
            fps: facts.video.rate_milli(),
            is_variable: facts.video.is_variable(),
            gop: facts.gop(),
            open_gops: facts.open_gops().recent(RECENT, now.mono),
            bitrate: facts.video.bitrate(),
        });
        verdict::judge(&Observed {
            live: self.lifecycle.is_live(),
            decided: self.decision.is_some(),
            passthrough: self.decision.as_ref().is_some_and(|d| d.passthrough),
            can_encode: policy.can_encode,
            no_room: self.top_left_out,
            obstacle: self.decision.as_ref().and_then(|d| d.reason.clone()),
            target: policy.target,
            short_side_limit: policy.passthrough_short_side,
            bitrate_limit: policy.passthrough_bitrate,
            video,
            audio: verdict::Audio {
                away: facts.audio_away(now.mono),
                gaps: facts.audio_gaps.recent(RECENT, now.mono),
                loudness: self.sound.loudness.and_then(|l| l.short_term),
                drift: self.drift(),
            },
            declared: self.metadata,
            allowance: self.watch.allowance.standing(),
            uplink: self.watch.pace.uplink_milli(),
            uplink_is_slow: self.watch.pace.uplink_is_slow(),
            worker_is_slow: self.watch.pace.worker_is_slow(),
            encoder_lag: self.watch.pace.encoder_lag(),
            saving: self.saving,
            encoders_lost: self.watch.lost.recent(RECENT, now.mono),
            store_lag: self.watch.pace.store_lag(),
            store_away: self.queue.is_away(),
            clock_jumps: self.watch.jumps.recent(RECENT_JUMP, now.mono),
            srt: self.watch.srt.line(),
        })
    }

    pub(super) fn measured(&self, now: Now) -> Measured {
        let facts = &self.facts;
        let video = self.timeline.video_format().filter(|_| !self.is_slate()).map(|f| {
            let picture = video::picture(f);
            let (display_width, display_height) = video::displayed(f);
            let (w, h) = picture.map_or((1, 1), |p| p.sar);
            MeasuredVideo {
                codec: f.codec.clone(),
                profile: picture.and_then(|p| p.profile_name()),
                level: picture.map(|p| f64::from(p.level) / 10.0),
                width: f.width,
                height: f.height,
                sar: format!("{w}:{h}"),
                display_width,
                display_height,
                chroma: picture.map(|p| p.chroma.as_str()),
                bit_depth: picture.map(|p| p.depth),
                interlaced: picture.map(|p| p.interlaced),
                fps_nominal: thousandths(f.fps.milli()),
                fps: facts.video.rate_milli().map(thousandths),
                fps_variable: facts.video.is_variable(),
                gop_seconds: facts.gop().map(seconds),
                gop_seconds_min: facts.gop_range().map(|(shortest, _)| seconds(shortest)),
                gop_seconds_max: facts.gop_range().map(|(_, longest)| seconds(longest)),
                open_gops: facts.open_gops().count(),
                b_frames: facts.has_b_frames(),
                bitrate: facts.video.bitrate(),
                bitrate_peak: facts.peak_bitrate(),
            }
        });
        let source = self.timeline.audio_format().filter(|_| facts.audio.is_known() && !self.is_slate()).cloned();
        let repairs = self.sound.rendition.repairs();
        let audio = source.map(|a| MeasuredAudio {
            codec: a.codec,
            rate: a.rate.hz(),
            channels: a.channels,
            bitrate: facts.audio.bitrate(),
            gaps: facts.audio_gaps.count(),
            frames_filled: repairs.filled,
            frames_dropped: repairs.dropped,
            drift_ppm: self.sound.drift,
            away_seconds: facts
                .audio_away(now.mono)
                .map(|away| thousandths(u64::try_from(away.as_millis()).unwrap_or(u64::MAX))),
        });
        let declared = Declared {
            video_bitrate: self.metadata.video_bitrate,
            audio_bitrate: self.metadata.audio_bitrate,
            fps: self.metadata.frame_rate_milli.map(|m| thousandths(m.into())),
            width: self.metadata.width,
            height: self.metadata.height,
        };
        let uplink = Uplink {
            speed: self.watch.pace.uplink_milli().map(thousandths),
            slow: self.watch.pace.uplink_is_slow(),
            slow_episodes: self.watch.pace.uplink_episodes(),
        };
        let srt = self.watch.srt.line().filter(|_| self.lifecycle.is_live()).map(MeasuredSrt::from);
        Measured { video, audio, declared, uplink, srt }
    }
}
