//! What the encoders of this worker take, and rungs without an encoder (rules.md 1): when nothing encodes them, they go on with the source rung's
//! segments, until something does again.

use std::time::Duration;

use super::{Now, Output, Role, Stream};
use crate::logic::capacity::{Demand, Saving, Spare};
use crate::logic::ladder::{self, Rung, Size};
use crate::logic::model::{Coding, VideoFormat};
use crate::logic::obstacle::Obstacle;
use crate::logic::recipe::{self, Decoders, Decoding, OfDevice};
use crate::logic::time::MediaTime;
use crate::logic::timeline::{Decision, LongGop};

/// What a worker's encoders and decoders do not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderLimits {
    /// Smallest picture that is encoded.
    pub smallest: Size,
    /// What decodes sources (rules.md 28).
    pub decoding: Decoding,
}

impl EncoderLimits {
    /// The CPU decodes and encodes everything that has a ladder.
    pub const SOFTWARE: Self = Self::software(Decoders::ALL);

    /// The CPU, with these decoders.
    pub const fn software(cpu: Decoders) -> Self {
        Self { smallest: Size::ANY, decoding: Decoding { cpu, device: None } }
    }

    /// A GPU of NVIDIA's; `allow_cpu_decode`: the CPU decodes what it does not.
    pub const fn nvidia(cpu: Decoders, decoders: Decoders, allow_cpu_decode: bool) -> Self {
        let device = Some(OfDevice { decoders, allow_cpu_decode });
        Self { smallest: recipe::NVIDIA_SMALLEST, decoding: Decoding { cpu, device } }
    }

    pub(super) fn undecodable(&self, source: &VideoFormat) -> Option<recipe::Undecodable> {
        recipe::decoded_by(source, self.decoding).err()
    }

    /// The device encodes, and yet the CPU decodes.
    pub(super) fn decodes_by_cpu(&self, source: &VideoFormat) -> bool {
        self.decoding.device.is_some() && recipe::decoded_by(source, self.decoding) == Ok(recipe::DecodedBy::Cpu)
    }
}

/// The rungs are shed when starts that gave no picture add up to this: two processes in a row that could not encode (it is tried once more), or four
/// that died, which may have had other reasons.
const FRUITLESS: u32 = 4;
const UNABLE: u32 = 2;
const DIED: u32 = 1;

/// An encoder that gave pictures for so long is believed: shedding and coming back are a discontinuity for all viewers.
const PROVEN: Duration = Duration::from_secs(10);

/// An encoder that is so far behind makes segments that are gaps already: a row of playlists waits for about a segment (2 s).
const LATE: MediaTime = MediaTime::from_secs(4);

/// For so long it may be late: what a new process is fed at once is 10 s of media at the most, and one that is faster than real time has caught up by
/// then; one that is not never will.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// And so far it may be behind while it proves that it works again.
const KEEPS_UP: MediaTime = MediaTime::from_secs(2);

/// Whether encoders give pictures.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    /// Sum over the starts since the last picture.
    fruitless: u32,
    /// All encoded rungs are shed.
    pub shed: bool,
    /// The encoder gives pictures again since then.
    good_since: Option<Duration>,
    /// They are later than [`LATE`] since then.
    late_since: Option<Duration>,
}

impl Stream {
    pub(super) fn plan(&self, format: &VideoFormat, passthrough: bool) -> Vec<Rung> {
        if self.setup.encoders.undecodable(format).is_some() {
            return Vec::new();
        }
        // A source rung of another coding is a choice for some players: beside it the whole ladder is made for all of them.
        let source = self.tracks.iter().find(|t| t.role == Role::Source).and_then(|t| t.format().coding());
        let enough = source.unwrap_or(format.coding()) == Coding::H264;
        ladder::plan(&self.ladder_source(format), &self.setup.ladder, passthrough && enough, self.setup.encoders.smallest)
    }

    /// What the stream may take of the machine. To be told until its rungs are decided.
    pub fn may_take(&mut self, spare: Spare) {
        self.spare = spare;
    }

    /// What the stream goes without from the source's next key frame on, so that the machine carries it and others. Its playlists go on (rules.md 1 and 2).
    pub fn save(&mut self, saving: Saving) {
        if saving == self.saving {
            return;
        }
        let more = saving > self.saving;
        self.saving = saving;
        let words = saving.words();
        if more {
            self.warn(format!("the machine is busy: the stream goes on {words}"));
        } else {
            self.note(format!("the machine has room again: the stream goes on {words}"));
        }
        if self.decision.is_some() && !self.planned.is_empty() {
            self.timeline.request_run(saving != self.saved);
        }
    }

    /// What it goes without.
    pub fn saving(&self) -> Saving {
        self.saving
    }

    /// Keeps what is planned for a source, and gives what of it is made.
    pub(super) fn without_saved(&mut self, planned: Vec<Rung>) -> Vec<Rung> {
        self.planned = planned;
        self.saved = self.saving;
        self.saving.rungs(&self.planned)
    }

    /// Gives tracks the rungs of the running plan.
    pub(super) fn number_rungs(&mut self) {
        let rungs = self.encoding.as_ref().map(|e| e.rungs().to_vec()).unwrap_or_default();
        self.renumber_rungs(&rungs);
    }

    /// Its rungs are decided, once for the session (rules.md 1).
    pub fn is_decided(&self) -> bool {
        self.decision.is_some()
    }

    /// The rungs of the session. A source that cannot be passed through because of its key frames is encoded anew where there is room for that, else viewers
    /// get the rungs below it, and the streamer is told what to set (rules.md 3).
    pub(super) fn affordable(&mut self, video: &VideoFormat, decision: &Decision) -> Vec<Rung> {
        let rungs = self.plan(video, decision.passthrough);
        let optional = self.setup.timeline.long_gop == LongGop::Auto && decision.reason == Some(Obstacle::Gop);
        if decision.passthrough || !optional || rungs.is_empty() {
            return rungs;
        }
        let wanted = self.demand_of(video, false, rungs.clone());
        self.top_left_out = self.spare.fits(&wanted).err();
        if self.top_left_out.is_some() { self.plan(video, true) } else { rungs }
    }

    /// What is done for a source with these rungs.
    pub(super) fn demand_of(&self, source: &VideoFormat, passthrough: bool, rungs: Vec<Rung>) -> Demand {
        let bitrate = self.facts.video.bitrate().unwrap_or(0).saturating_add(self.facts.audio.bitrate().unwrap_or(0));
        Demand {
            width: source.width,
            height: source.height,
            fps: source.fps,
            coding: source.coding(),
            source_kbps: u32::try_from(bitrate / 1000).unwrap_or(u32::MAX),
            passthrough,
            cpu_decode: self.setup.encoders.decodes_by_cpu(source),
            rungs,
            brief: false,
        }
    }

    /// What is to be done for the stream when nothing is left out, once that is known; not while a slate is shown, whose cost is not the publisher's.
    pub fn demand(&self) -> Option<Demand> {
        let decision = self.decision.as_ref()?;
        let source = self.timeline.video_format().filter(|_| !self.is_slate())?;
        self.facts.video.bitrate()?;
        let rungs = if self.encoding.is_some() { self.planned.clone() } else { Vec::new() };
        Some(self.demand_of(source, decision.passthrough, rungs))
    }

    /// The codec process is gone; `unable`: because it cannot encode.
    pub(super) fn encoder_lost(&mut self, reason: &str, unable: bool) {
        self.shedding.good_since = None;
        self.shedding.fruitless = self.shedding.fruitless.saturating_add(if unable { UNABLE } else { DIED });
        let encodes = self.encoding.as_ref().is_some_and(|e| !e.rungs().is_empty());
        if encodes && !self.shedding.shed && self.shedding.fruitless >= FRUITLESS {
            self.shedding.shed = true;
            self.shed_rungs(reason);
        }
    }

    /// An encoder gave a picture.
    pub(super) fn encoder_works(&mut self, now: Now) {
        self.shedding.fruitless = 0;
        if !self.shedding.shed {
            return;
        }
        if self.behind() >= KEEPS_UP {
            self.shedding.good_since = None;
            return;
        }
        let since = *self.shedding.good_since.get_or_insert(now.mono);
        if now.mono.saturating_sub(since) >= PROVEN {
            self.shedding = Shedding::default();
            self.number_rungs();
            self.timeline.request_discontinuity();
            self.note("the encoder gives pictures again: its rungs are back".into());
        }
    }

    /// How far encoders are behind, beyond what those for slow sources hold back.
    fn behind(&self) -> MediaTime {
        self.encoding.as_ref().filter(|e| !e.rungs().is_empty()).map_or(MediaTime::ZERO, |e| e.lag() - e.slack())
    }

    /// Encoders that are slower than real time are left, and their rungs shed. Where the source is not shown, late pictures are better than none.
    pub(super) fn judge_encoders(&mut self, now: Now) {
        let shown = self.tracks.iter().any(|t| t.role == Role::Source);
        if self.behind() < LATE || !shown {
            self.shedding.late_since = None;
            return;
        }
        let since = *self.shedding.late_since.get_or_insert(now.mono);
        if now.mono.saturating_sub(since) < CATCHING_UP {
            return;
        }
        let reason = format!("slower than real time: {} s behind", self.behind());
        self.shedding.late_since = None;
        self.shedding.good_since = None;
        if self.encoding.as_mut().is_some_and(|e| e.set_aside(&reason, now.mono)) {
            self.warn(format!("codec process left: {reason}"));
            if !self.shedding.shed {
                self.shedding.shed = true;
                self.shed_rungs(&reason);
            }
            self.after_death(now);
        }
    }

    fn shed_rungs(&mut self, reason: &str) {
        self.warn(format!("no encoder, the encoded rungs are shed: {reason}"));
        if self.decision.is_some() {
            // The source rung's segments are of another configuration. Where none of the own is named there is nothing to tell them from.
            if self.tracks.iter().any(|t| matches!(t.role, Role::Rung(_)) && t.segments > 0) {
                self.timeline.request_discontinuity();
            }
            self.begin_shed();
        }
    }

    /// From the next cut on, and from the first one where a rung has no segment of its own yet, the source rung's segments stand in. Without a source rung
    /// nothing is left to show.
    pub(super) fn begin_shed(&mut self) {
        self.renumber_rungs(&[]);
        for i in 0..self.tracks.len() {
            if self.tracks[i].role == Role::NotProduced && self.tracks[i].segments == 0 {
                let rows = self.window.as_ref().map(|w| w.wanting(i)).unwrap_or_default();
                rows.into_iter().for_each(|number| self.lend(i, number));
            }
        }
        let shown = self.tracks.iter().any(|t| t.role == Role::Source);
        if !shown && self.tracks.iter().any(|t| t.role == Role::NotProduced) {
            self.outputs.push_back(Output::Refuse("the server has no encoder for this stream now: try again later".into()));
        }
    }
}
