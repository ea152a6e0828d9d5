//! A session's audio: what is done with the source's, how it gets through the codec process and back, and how loud it is.

use std::time::Duration;

use bytes::Bytes;

use super::tracks::Role;
use super::{Now, Stream};
use crate::cmaf::aac;
use crate::logic::audio::{AudioTrack, Frame};
use crate::logic::encoding::Encoding;
use crate::logic::language::Language;
use crate::logic::loudness::Loudness;
use crate::logic::model::{AudioFormat, AudioUnit};
use crate::logic::rendition::{End, Rendition};
use crate::logic::sound::{self, AudioPlan, Means, Treatment};
use crate::logic::time::MediaTime;
use crate::logic::timeline::Cut;
use crate::logic::verdict;

/// The first re-encoded frame of a session is waited for this long: a codec process that is started cold takes seconds. Well below `first_row_wait`,
/// so that silence is there when that is over.
const FIRST_FRAME: Duration = Duration::from_secs(5);

/// See above.
#[derive(Debug, Default)]
pub(super) struct Sound {
    pub rendition: Rendition,
    /// What is done with the source's audio since the last cut that changed it.
    treatment: Option<Treatment>,
    plan: Option<AudioPlan>,
    /// Of what the publisher sends now, and of the silence in its place.
    language: Option<Language>,
    /// Why what the publisher sends now is not taken.
    left_out: Option<String>,
    failed: Option<String>,
    /// By how many millionths this publisher's samples are faster than its times, if they always are (rules.md 11).
    pub drift: Option<i32>,
    pub loudness: Option<Loudness>,
}

impl Sound {
    pub fn is_left_out(&self) -> bool {
        self.left_out.is_some()
    }

    /// What the last publisher said of its audio does not hold for the next one's.
    pub fn publisher_came(&mut self) {
        self.language = None;
    }

    pub fn is_reencoded(&self) -> bool {
        self.treatment.as_ref().is_some_and(Treatment::is_reencoded)
    }
}

impl Stream {
    fn means(&self) -> Means {
        Means {
            can_encode: self.setup.timeline.can_encode,
            target: self.setup.loudness_target,
            stretch_ppm: self.sound.drift.unwrap_or(0),
        }
    }

    /// The format that a source's audio is published in; silence where there is none.
    pub(super) fn published_audio(&self, source: Option<&AudioFormat>) -> AudioFormat {
        match source {
            Some(source) => sound::treat(source, self.means()).published(source),
            None => AudioFormat { language: self.sound.language, ..aac::silent_format() },
        }
    }

    pub(super) fn audio_config(&mut self, asc: &Bytes, now: Now) {
        let judged =
            aac::read_config(asc).map_err(|e| e.to_string()).and_then(|format| match sound::treat(&format, self.means()) {
                Treatment::LeftOut { reason } => Err(reason),
                Treatment::Copied | Treatment::Reencoded { .. } => Ok(format),
            });
        match judged {
            Ok(format) => {
                self.sound.left_out = None;
                self.timeline.audio_config(AudioFormat { language: self.sound.language, ..format }, now.mono);
            }
            Err(reason) => {
                if self.sound.left_out.as_ref() != Some(&reason) {
                    self.warn(format!("audio left out: {reason}"));
                }
                self.sound.left_out = Some(reason);
            }
        }
    }

    /// The language of the audio that comes, said before its configuration, or again in the midst of it.
    pub(super) fn audio_language(&mut self, language: Option<Language>, now: Now) {
        if std::mem::replace(&mut self.sound.language, language) == language {
            return;
        }
        if let Some(format) = self.timeline.audio_format().cloned() {
            self.timeline.audio_config(AudioFormat { language, ..format }, now.mono);
        }
    }

    /// A frame of the source.
    pub(super) fn audio_unit(&mut self, unit: AudioUnit, now: Now) {
        if self.tracks.iter().all(|t| t.role == Role::Audio) {
            self.dating.observe(unit.pts, unit.pts, now.mono);
        }
        self.facts.audio_unit(unit.pts, unit.data.len(), now.mono);
        let keep_from = self.keep_from(unit.pts);
        if let Some(e) = &mut self.encoding {
            e.push_audio(&unit, keep_from, now.mono);
        }
        self.sound.rendition.push(unit);
    }

    /// The codec process made a frame of re-encoded audio.
    pub fn audio_made(&mut self, pts: MediaTime, data: Bytes, now: Now) {
        if !self.encoding.as_mut().is_some_and(|e| e.audio_output(pts)) {
            self.codec_misbehaved("gave audio that it was not given", now);
        } else {
            self.sound.failed = None;
            if let Some(track) = self.tracks.iter_mut().find(|t| t.role == Role::Audio) {
                track.meter.push(pts, data.len(), now.mono);
            }
            self.sound.rendition.made(AudioUnit { pts, data });
        }
        self.settle(now);
    }

    /// It has given all of the source that it had before the last change.
    pub fn audio_given(&mut self, now: Now) {
        let frames = self.sound.rendition.given();
        self.push_sound(frames);
        self.settle(now);
    }

    /// It cannot go on with the audio. Silence is sent until it can.
    pub fn audio_failed(&mut self, reason: &str, now: Now) {
        self.warn(format!("codec process: audio: {reason}"));
        if let Some(e) = &mut self.encoding {
            e.audio_failed(now.mono);
        }
        self.sound.failed = Some(reason.into());
        self.settle(now);
    }

    /// It measured the source.
    pub fn loudness(&mut self, loudness: Loudness) {
        self.sound.loudness = Some(loudness.sane());
    }

    /// The first run of a session.
    pub(super) fn begin_sound(&mut self, source: Option<&AudioFormat>, start: MediaTime, now: Now) {
        let first = self.setup.first_row_wait.min(FIRST_FRAME);
        self.treat(source);
        let track = AudioTrack::new(self.published_audio(source), source.is_none(), start);
        self.turn_sound(track, start, End::Cut, first);
        self.encode_sound(now);
    }

    /// A discontinuity: the run ends at `end` and another one begins with the cut, of another source if that changed.
    pub(super) fn turn_era(&mut self, cut: &Cut, end: MediaTime, now: Now) {
        let source = cut.audio.as_ref();
        let silent = source.is_none() && !self.facts.audio.is_known();
        let format = match source {
            Some(_) => self.published_audio(source),
            None => self.audio_format(),
        };
        if source.is_some() {
            self.treat(source);
        }
        let why = if source.is_some() { End::Changed } else { End::Cut };
        if format.rate != self.audio_format().rate {
            // Their packager is replaced at once: what is still inside would come too late for it.
            let frames = self.sound.rendition.turn(end, why, None);
            self.push_sound(frames);
            self.drain_sound();
        }
        let track = AudioTrack::new(format, silent, cut.start).beside(self.sound.rendition.places());
        self.turn_sound(track, end, why, Duration::ZERO);
        self.encode_sound(now);
    }

    fn treat(&mut self, source: Option<&AudioFormat>) {
        let treatment = source.map(|s| (s, sound::treat(s, self.means())));
        self.sound.plan = treatment.as_ref().and_then(|(s, t)| t.plan(s, self.means()));
        self.sound.treatment = treatment.map(|(_, t)| t);
        self.sound.loudness = None;
        self.sound.failed = None;
    }

    fn turn_sound(&mut self, track: AudioTrack, end: MediaTime, why: End, first: Duration) {
        let late = self.sound.is_reencoded();
        let first = MediaTime::from_millis(i64::try_from(first.as_millis()).unwrap_or(0));
        let track = if late { track.late(first) } else { track };
        let frames = self.sound.rendition.turn(end, why, Some((track, late)));
        self.push_sound(frames);
    }

    /// Audio goes through a codec process from here on, if it has to.
    fn encode_sound(&mut self, now: Now) {
        let plan = self.sound.plan.clone();
        if plan.is_some() && self.encoding.is_none() {
            self.encoding = Some(Encoding::for_audio().within(self.setup.output_deadline));
        }
        if let Some(e) = &mut self.encoding {
            e.set_audio(plan, now.mono);
        }
    }

    /// The publisher paused at `end`.
    pub(super) fn end_sound(&mut self, end: MediaTime) {
        let frames = self.sound.rendition.turn(end, End::Pause, None);
        self.push_sound(frames);
    }

    /// Nothing more comes of runs that have ended.
    pub(super) fn drain_sound(&mut self) {
        let frames = self.sound.rendition.drained();
        self.push_sound(frames);
    }

    /// The codec process died.
    pub(super) fn restart_sound(&mut self) {
        let frames = self.sound.rendition.restart();
        self.push_sound(frames);
    }

    pub(super) fn release_audio(&mut self, horizon: MediaTime, now: Now) {
        let frames = self.sound.rendition.release(horizon);
        self.push_sound(frames);
        if let Some(ppm) = self.sound.rendition.drift().filter(|_| self.sound.drift.is_none()) {
            self.stretch_sound(ppm, now);
        }
    }

    /// Copied audio is always off (rules.md 11): from here on it is re-encoded, stretched, for as long as this publisher is connected.
    fn stretch_sound(&mut self, ppm: i32, now: Now) {
        self.sound.drift = Some(ppm);
        let (off, side) = verdict::drift(ppm);
        let Some(source) = self.timeline.audio_format().cloned().filter(|_| self.means().can_encode) else {
            self.warn(format!(
                "audio runs {off} % {side} against its timestamps: corrected by whole frames, as nothing is encoded here"
            ));
            return;
        };
        self.warn(format!("audio runs {off} % {side} against its timestamps: re-encoded, stretched by {ppm} ppm"));
        let (old, new) = (self.audio_format(), self.published_audio(Some(&source)));
        // AAC-LC of the same rate and channels: a configuration that also says that there is no SBR, as FFmpeg's does, serves both.
        if (old.rate, old.channels, &old.codec) == (new.rate, new.channels, &new.codec) {
            self.treat(Some(&source));
            self.sound.rendition.hand_over();
            self.encode_sound(now);
        } else {
            self.timeline.renew_audio();
        }
    }

    /// The publisher left: the next one's clock is another one.
    pub(super) fn forget_drift(&mut self) {
        if self.sound.drift.take().is_some() && self.means().can_encode {
            self.timeline.renew_audio();
        }
    }

    /// The audio's drift, millionths, and whether it is stretched.
    pub(super) fn drift(&self) -> Option<(i32, bool)> {
        self.sound.drift.map(|ppm| (ppm, self.means().can_encode))
    }

    fn push_sound(&mut self, frames: Vec<Frame>) {
        let Some(track) = self.tracks.iter().position(|t| t.role == Role::Audio) else { return };
        for frame in frames {
            self.push_sample(track, frame.start, true, frame.data);
        }
    }

    /// What the streamer should know of what is done with the audio; whether it comes at all is the verdict's.
    pub(super) fn audio_warnings(&self, has_audio: bool) -> Vec<String> {
        let Sound { left_out, treatment, failed, .. } = &self.sound;
        let mut out = Vec::new();
        match (left_out, treatment) {
            (Some(reason), _) => out.push(format!("audio left out: {reason}")),
            (None, Some(Treatment::Reencoded { reason: Some(reason) })) if has_audio => {
                out.push(format!("audio is re-encoded: {reason} is not played everywhere, AAC-LC in mono or stereo is"));
            }
            _ => {}
        }
        if let Some(reason) = failed {
            out.push(format!("audio cannot be encoded, silence is sent in its place: {reason}"));
        }
        if let Means { can_encode: false, target: Some(_), .. } = self.means() {
            out.push("loudness is not corrected: nothing is encoded here".into());
        }
        out
    }
}
