//! One stream's session, whole: packets and encoded pictures in, objects and manifests out. Pure.
//!
//! Wires the machines together: [`super::timeline`] decides cuts, a [`crate::cmaf::packager`] per track makes segments, [`super::encoding`] runs the codec
//! process, [`super::playlist`] decides what is named, `shelf` in which order the store sees it. The shell (`session.rs`) does what [`Output`] says
//! and reports back; it takes no decision.

mod captions;
mod cues;
mod encoders;
mod health;
mod publishing;
mod recorder;
mod shelf;
mod slate;
mod sound;
mod source;
mod status;
mod thumbnails;
mod tracks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use encoders::EncoderLimits;
pub use health::Measured;
pub use shelf::{HEARTBEAT, Put, Written};
pub use status::{
    AudioInput, EncoderClass, Input, LoudnessInput, Playback, RungStatus, ShedStatus, Status, ThumbnailStatus, VideoInput,
};
pub use thumbnails::{Dropped, Picture, UPLOAD_DEADLINE};

use super::capacity::{Dimension, Saving, Spare};
use super::dating::Dating;
use super::encoding::{Command, Encoding, MAX_SLACK};
use super::facts::{Facts, Meter};
use super::ladder::{self, Ladder, Rung};
use super::lifecycle::{Grace, Lifecycle};
use super::model::{
    AudioFormat, Coding, Keeping, Keys, ObjectKey, Region, SessionId, StreamId, TrackName, VideoFormat, VideoUnit,
};
use super::packet::{Metadata, Packet};
use super::pathway::Pathways;
use super::playlist::{self, Window};
use super::publish::Queue;
use super::slate::Clip;
use super::state::Announced;
use super::thumbnail;
use super::time::{MediaTime, UnixMillis};
use super::timeline::{self, Cut, Decision, Event, Timeline};
use crate::cmaf::fragment::Sample;
use crate::cmaf::{aac, h264, video};
use captions::Captions;
use cues::Cues;
use recorder::Recorder;
use shelf::Shelf;
use slate::Pause;
use sound::Sound;
use thumbnails::Thumbnails;
use tracks::{Role, TrackState};

/// Everything a session is given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Region of every key.
    pub region: Region,
    /// The stream.
    pub stream: StreamId,
    /// This session.
    pub session: SessionId,
    /// Who writes it.
    pub writer: WriterName,
    /// What earlier writers left.
    pub past: Past,
    /// Cuts.
    pub timeline: timeline::Policy,
    /// Length of the live window.
    pub window: MediaTime,
    /// How long the first playlist waits for encoders.
    pub first_row_wait: Duration,
    /// Which objects are copied, and which are kept.
    pub keeping: Keeping,
    /// The rungs to encode.
    pub ladder: Ladder,
    /// What the encoders of this worker do not take.
    pub encoders: EncoderLimits,
    /// How long encoders may give nothing while media flow.
    pub output_deadline: Duration,
    /// How long the session outlives its publisher.
    pub grace: Grace,
    /// How long an object stays behind the last playlist that named it.
    pub hold: Duration,
    /// UTCTiming address of the MPD (rules.md 14).
    pub utc_timing: Option<String>,
    /// CDNs and regions that manifests name.
    pub pathways: Pathways,
    /// What is sent while the publisher is away (rules.md 8); `None`: playlists wait.
    pub slate: Option<Arc<Clip>>,
    /// Loudness that audio is brought to, centi-LUFS; `None`: it stays as it is.
    pub loudness_target: Option<i32>,
    /// Small pictures beside the rungs.
    pub thumbnails: thumbnail::Settings,
}

/// The writer of a session, as its marks and its checkpoint name it (rules.md 18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterName {
    /// Its term.
    pub epoch: u32,
    /// Random, one for each writer.
    pub nonce: Arc<str>,
    /// The worker's name.
    pub worker: String,
}

/// What earlier writers of a stream left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// The same session goes on: what it announced.
    pub announced: Option<Announced>,
    /// Where both sequences go on (rules.md 18 and 20).
    pub from: playlist::Continuation,
}

/// Units held until the tracks are decided: 10 s (`long-segments` waits so long) at 240 fps.
const MAX_PROBING: usize = 2400;

/// And their bytes: 10 s at 50 Mbit/s.
const MAX_PROBING_BYTES: usize = 64 << 20;

/// Both clocks, read by the shell.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time since the worker's start.
    pub mono: Duration,
    /// Wall clock.
    pub wall: UnixMillis,
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Keep objects (on disk, if there is a spool), then [`Stream::kept`].
    Keep(Put),
    /// Store the objects of that [`Put`], in their order, then [`Stream::stored`].
    Upload(u64),
    /// Nobody wants the objects of these puts any more.
    Forget(Vec<u64>),
    /// Write these in their order, each in place of the own last version, then [`Stream::manifests_written`].
    Manifests(Vec<(ObjectKey, String)>),
    /// Delete objects after this time.
    Delete {
        /// From now.
        after: Duration,
        /// Keys.
        keys: Vec<ObjectKey>,
    },
    /// Write the playlists of the session's recording, then [`Stream::recorded`].
    Record,
    /// Store a picture, under both names in their order, then [`Stream::thumbnail_stored`].
    Thumbnail(Picture),
    /// The codec process.
    Codec(Command),
    /// A line for the log.
    Note(Note),
    /// Tell the publisher and end its connection.
    Refuse(String),
    /// Everything is written; nothing more will come.
    Over,
}

/// Something an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Something is wrong.
    pub warning: bool,
    /// One sentence.
    pub text: String,
}

/// The machine.
#[derive(Debug)]
pub struct Stream {
    setup: Setup,
    keys: Keys,
    timeline: Timeline,
    facts: Facts,
    /// The last key picture was an IDR picture.
    behind_idr: bool,
    /// The publisher was told of pictures that are left out.
    leading_told: bool,
    metadata: Metadata,
    watch: health::Watch,
    /// What the stream may take of the machine.
    spare: Spare,
    /// What it goes without, so that the machine carries all streams.
    saving: Saving,
    /// What the encoders that run were started without.
    saved: Saving,
    /// The rungs of this source when nothing is left out.
    planned: Vec<Rung>,
    /// The source is not passed through, and for want of this no rung of its size is encoded either.
    top_left_out: Option<Dimension>,
    lifecycle: Lifecycle,
    pause: Pause,
    /// The publisher's format, which the rungs are planned for.
    source: Option<VideoFormat>,
    encoding: Option<Encoding>,
    shedding: encoders::Shedding,
    /// A new run waits until the codec process has drained the old one.
    next_run: Option<(VideoFormat, Vec<Rung>)>,
    /// Number of the first segment of the running encoders' run, if that begins with a discontinuity (or is the first of all).
    run_from: Option<u64>,
    /// Units given before tracks were decided.
    probing: Vec<VideoUnit>,
    probing_bytes: usize,
    /// Likewise what encoders gave.
    early: Vec<(usize, Sample)>,
    early_formats: Vec<(usize, VideoFormat)>,
    decision: Option<Decision>,
    dating: Dating,
    /// When audio came first, of a publisher whose tracks are not known yet.
    heard: Option<UnixMillis>,
    tracks: Vec<TrackState>,
    sound: Sound,
    captions: Captions,
    cues: Cues,
    window: Option<Window>,
    shelf: Shelf,
    queue: Queue,
    recorder: Recorder,
    thumbnails: Thumbnails,
    /// Init segments of an earlier writer.
    old_inits: Vec<playlist::Init>,
    /// The session goes on elsewhere: it gets no end here.
    handing_over: bool,
    /// Another writer has taken the stream over.
    fenced: bool,
    outputs: VecDeque<Output>,
    discontinuities: u64,
    ended: bool,
    over: bool,
    /// The manifests were told to say that it is over.
    end_due: bool,
}

impl Stream {
    /// A session whose publisher has just been accepted.
    pub fn new(setup: Setup) -> Self {
        let keys = Keys::new(&setup.region, &setup.stream, &setup.session, setup.writer.epoch, setup.keeping);
        let state = Keys::state(&setup.region, &setup.stream);
        let seed = setup.writer.nonce.bytes().fold(u64::from(setup.writer.epoch), |s, b| s.rotate_left(7) ^ u64::from(b));
        let mut stream = Self {
            timeline: Timeline::new(setup.timeline.clone()),
            facts: Facts::default(),
            behind_idr: false,
            leading_told: false,
            metadata: Metadata::default(),
            watch: health::Watch::default(),
            spare: Spare::UNLIMITED,
            saving: Saving::NONE,
            saved: Saving::NONE,
            planned: Vec::new(),
            top_left_out: None,
            lifecycle: Lifecycle::new(setup.grace),
            pause: Pause::None,
            source: None,
            encoding: None,
            shedding: encoders::Shedding::default(),
            next_run: None,
            run_from: None,
            probing: Vec::new(),
            probing_bytes: 0,
            early: Vec::new(),
            early_formats: Vec::new(),
            decision: None,
            dating: Dating::default(),
            heard: None,
            tracks: Vec::new(),
            sound: Sound::default(),
            captions: Captions::default(),
            cues: Cues::new(setup.writer.epoch),
            window: None,
            shelf: Shelf::new(setup.session.clone(), setup.hold, &setup.writer, state),
            queue: Queue::new(seed),
            recorder: Recorder::new(setup.keeping.recorded, setup.past.announced.is_some()),
            thumbnails: Thumbnails::default(),
            old_inits: Vec::new(),
            handing_over: false,
            fenced: false,
            outputs: VecDeque::new(),
            discontinuities: 0,
            ended: false,
            over: false,
            end_due: false,
            keys,
            setup,
        };
        stream.shelf.await_recording(stream.recorder.is_awaited());
        if let Some(announced) = stream.setup.past.announced.clone() {
            stream.go_on(&announced);
        }
        stream
    }

    /// The session that another writer announced goes on: its tracks, its target duration, its numbers.
    fn go_on(&mut self, announced: &Announced) {
        let coding_of = |name: &TrackName| {
            let track = announced.tracks.iter().find(|t| t.name == *name)?;
            track.format.coding()
        };
        let past = timeline::Past {
            source: announced.source.as_ref().and_then(coding_of),
            video: announced.tracks.iter().any(|t| matches!(t.format, playlist::Format::Video(_))),
            target_duration: announced.target_duration,
            end: announced.end,
        };
        self.timeline = Timeline::resumed(self.setup.timeline.clone(), &past);
        let last = self.setup.past.from.rows.last().map(|row| (row.start, row.shift));
        self.dating = Dating::continued(announced.anchor, last);
        self.adopt_tracks(announced);
        let policy = playlist::Policy {
            target_duration: announced.target_duration,
            window: announced.window,
            first_row_wait: self.setup.first_row_wait,
        };
        let window = Window::new(self.setup.session.clone(), policy, announced.anchor, announced.tracks.clone());
        let mut window = window.continued(self.setup.past.from.clone());
        let _ = window.caption(&announced.captions);
        self.captions = Captions::known(announced.captions.clone());
        self.window = Some(window);
        self.decision = Some(Decision {
            passthrough: past.source.is_some(),
            reason: None,
            target_duration: past.target_duration,
            video: None,
            audio: None,
            bitrate: 0,
            cuts: Vec::new(),
        });
        // Seals the manifests anew, with what each track had come to.
        self.shelf.changed();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(command) = self.encoding.as_mut().and_then(Encoding::poll_command) {
            return Some(Output::Codec(command));
        }
        self.outputs.pop_front()
    }

    /// A packet of the publisher.
    pub fn packet(&mut self, packet: Packet, now: Now) {
        if self.lifecycle.is_over() {
            return;
        }
        self.take(packet, now);
        self.settle(now);
    }

    fn take(&mut self, packet: Packet, now: Now) {
        if matches!(packet, Packet::Video { .. } | Packet::Audio { .. }) && self.decision.is_some() {
            self.timeline.begin_at(self.elapsed(now));
        }
        match packet {
            Packet::Clock(clock) => self.timeline.clock(clock),
            Packet::Metadata(m) => self.metadata = m,
            Packet::VideoConfig(coding, record) => self.video_config(coding, &record, now),
            Packet::AudioConfig(asc) => self.audio_config(&asc, now),
            Packet::Video { time, composition, key, data } => self.picture(time, composition, key, data, now),
            Packet::Audio { .. } if self.sound.is_left_out() => {}
            Packet::Audio { data, .. } if data.len() > aac::MAX_FRAME_BYTES => {
                self.warn("audio frame dropped: longer than AAC allows".into())
            }
            Packet::Audio { time, data } => {
                self.heard.get_or_insert(now.wall);
                let events = self.timeline.audio(time, data, now.mono);
                self.handle(events, now);
            }
            Packet::Cue(cue) => self.cue(&cue, now),
            Packet::Unpublish => self.left(true, now),
        }
        self.place_cues();
        self.set_dates(now);
    }

    /// Dates that are too far off for too long are set anew at the next cut (rules.md 11).
    fn set_dates(&mut self, now: Now) {
        if let Some(off) = self.dating.judge(now.mono, now.wall) {
            let (side, off) = if off.is_negative() { ("ahead of", MediaTime::ZERO - off) } else { ("behind", off) };
            self.warn(format!("dates were {off} s {side} the wall clock, and are set anew"));
            self.timeline.request_discontinuity();
        }
    }

    /// The publisher is gone: `clean` when it said goodbye.
    pub fn left(&mut self, clean: bool, now: Now) {
        if !self.lifecycle.is_live() {
            return;
        }
        self.lifecycle.left(clean, now.mono);
        let events = self.timeline.pause();
        self.handle(events, now);
        self.forget_drift();
        self.cues.left();
        self.await_slate(now);
        self.settle(now);
    }

    /// A publisher is there again. `false` when the session is over: a new one must begin.
    #[must_use]
    pub fn returned(&mut self, now: Now) -> bool {
        if !self.lifecycle.returned() {
            return false;
        }
        self.end_slate(now);
        if self.decision.is_none() {
            self.begin_anew();
        }
        self.resume(now);
        true
    }

    /// The first publisher of this writer, behind another writer's: the timeline goes on at the wall clock.
    pub fn began(&mut self, now: Now) {
        if self.setup.past.announced.is_some() {
            self.resume(now);
            self.settle(now);
        }
    }

    fn resume(&mut self, now: Now) {
        self.timeline.resume(self.elapsed(now));
        self.dating.resumed();
        self.facts.resumed();
        self.watch_anew();
    }

    /// Media time of the wall clock.
    fn elapsed(&self, now: Now) -> MediaTime {
        self.dating.elapsed(now.wall)
    }

    /// The publisher left before anything was decided: nothing of its first try is used.
    fn begin_anew(&mut self) {
        (self.dating, self.heard) = (Dating::default(), None);
        self.probing.clear();
        self.probing_bytes = 0;
        self.early.clear();
        self.early_formats.clear();
        self.captions.begin_anew();
        self.cues.begin_anew();
        if let Some(e) = &mut self.encoding {
            e.forget();
        }
    }

    /// End the session at once.
    pub fn stop(&mut self, now: Now) {
        if !self.lifecycle.is_over() {
            self.end_slate(now);
            let events = self.timeline.pause();
            self.handle(events, now);
            self.lifecycle.stop();
            self.settle(now);
        }
    }

    /// The worker ends: end the session at once, and wait for no player.
    pub fn drain(&mut self, now: Now) {
        self.shelf.hurry();
        self.stop(now);
        self.settle(now);
    }

    /// Everything is written.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// A publisher is there.
    pub fn is_live(&self) -> bool {
        self.lifecycle.is_live()
    }

    /// When [`Stream::handle_timeout`] is due, for whichever reason comes first.
    pub fn poll_timeout(&self) -> Option<Duration> {
        [
            self.timeline.poll_timeout(),
            self.lifecycle.poll_timeout(),
            self.slate_timeout(),
            self.encoding.as_ref().and_then(Encoding::poll_timeout),
            self.window.as_ref().and_then(Window::poll_timeout),
            self.shelf.poll_timeout(),
            self.recorder.poll_timeout(),
            self.queue.poll_timeout(),
            self.next_look(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Deadlines.
    pub fn handle_timeout(&mut self, now: Now) {
        let events = self.timeline.handle_timeout(now.mono);
        self.handle(events, now);
        if self.lifecycle.handle_timeout(now.mono) {
            self.end_slate(now);
        }
        self.play_slate(now);
        if let Some(reason) = self.encoding.as_mut().and_then(|e| e.handle_timeout(now.mono)) {
            self.warn(format!("codec process given up: {reason}"));
            self.encoder_lost(&reason, false);
            self.after_death(now);
        }
        self.judge_encoders(now);
        self.shelf.handle_timeout(now.mono);
        self.look(now);
        self.settle(now);
    }

    /// The parameter sets of an encoded rung.
    pub fn rung_config(&mut self, rung: usize, avcc: &Bytes, now: Now) {
        let Some(plan) = self.encoding.as_ref().and_then(|e| e.rungs().get(rung)).cloned() else { return };
        match h264::read_record(avcc, Some(plan.fps)) {
            Ok(format) => {
                let format = VideoFormat { fps: plan.fps, ..format };
                self.set_rung_format(rung, format);
            }
            Err(e) => {
                self.warn(format!("codec process: {}: {e}", plan.name));
                self.codec_misbehaved("sent a broken configuration", now);
            }
        }
        self.settle(now);
    }

    /// An encoded picture.
    pub fn rung_unit(&mut self, rung: usize, pts: MediaTime, idr: bool, data: Bytes, now: Now) {
        if !self.encoding.as_mut().is_some_and(|e| e.output(rung, pts)) {
            self.codec_misbehaved("gave a picture that it was not given", now);
            return;
        }
        self.encoder_works(now);
        if let Some(track) = self.tracks.iter().position(|t| t.role == Role::Rung(rung)) {
            self.tracks[track].meter.push(pts, data.len(), now.mono);
            self.push_sample(track, pts.0, idr, data);
        } else if self.decision.is_none() {
            self.hold_early(rung, pts, idr, data);
        }
        self.settle(now);
    }

    /// The codec process answered that it is drained.
    pub fn codec_drained(&mut self, now: Now) {
        if let Some(e) = &mut self.encoding {
            e.drained();
        }
        self.after_drain(now);
        self.settle(now);
    }

    /// The codec process died, or broke the protocol.
    pub fn codec_lost(&mut self, reason: &str, now: Now) {
        let needed = self.encoding.as_mut().is_some_and(|e| e.died(now.mono));
        self.codec_gone(needed, reason, false, now);
    }

    /// No codec process could be started, or it cannot make a pipeline of the plan.
    pub fn codec_unable(&mut self, reason: &str, now: Now) {
        let needed = self.encoding.as_mut().is_some_and(|e| e.died(now.mono));
        self.codec_gone(needed, reason, true, now);
    }

    /// It still runs, but cannot be trusted.
    fn codec_misbehaved(&mut self, reason: &str, now: Now) {
        let needed = self.encoding.as_mut().is_some_and(|e| e.misbehaved(reason, now.mono));
        self.codec_gone(needed, reason, false, now);
    }

    fn codec_gone(&mut self, needed: bool, reason: &str, unable: bool, now: Now) {
        if needed {
            self.warn(format!("codec process lost: {reason}"));
            self.encoder_lost(reason, unable);
            self.after_death(now);
        }
        self.settle(now);
    }

    fn after_death(&mut self, now: Now) {
        // What comes back must have the old parameter sets, or ask for a discontinuity.
        self.run_from = None;
        for track in self.tracks.iter_mut().filter(|t| matches!(t.role, Role::Rung(_))) {
            track.packager.restart();
        }
        self.restart_sound();
        self.early.clear();
        if !self.encoding.as_ref().is_some_and(Encoding::is_running) {
            self.after_drain(now);
        }
    }

    /// Nothing more comes from the encoders of the closed run.
    fn after_drain(&mut self, now: Now) {
        self.drain_sound();
        for i in 0..self.tracks.len() {
            if matches!(self.tracks[i].role, Role::Rung(_) | Role::Audio) {
                let out = self.tracks[i].packager.flush();
                self.packaged(i, out);
            }
        }
        if let Some((format, rungs)) = self.next_run.take() {
            self.start_run(format, rungs, now);
        } else if let Some(e) = self.encoding.as_mut().filter(|_| self.lifecycle.is_live()) {
            e.go_on(now.mono);
        }
    }

    fn handle(&mut self, events: Vec<Event>, now: Now) {
        for event in events {
            match event {
                Event::Started(format) => self.started(format, now),
                Event::Decided(decision) => self.decided(*decision, now),
                Event::Cut(cut) => self.cut(&cut, now),
                Event::Video { unit, cut } => self.unit(unit, cut, now),
                Event::Audio(unit) => self.audio_unit(unit, now),
                Event::Horizon(horizon) => self.release_audio(horizon, now),
                Event::Closed { end, dropped } => self.closed(end, dropped, now),
                Event::Refused(reason) => self.outputs.push_back(Output::Refuse(reason)),
            }
        }
    }

    fn ladder_source(&self, format: &VideoFormat) -> ladder::Source {
        let (width, height) = video::displayed(format);
        // No rung needs more than its source, of H.264. HEVC and AV1 say the same in about half (JCT-VC's verification tests of HEVC: 59 % less).
        let bits = |told: u64| if format.coding() == Coding::H264 { told } else { told.saturating_mul(2) };
        ladder::Source { width, height, fps: format.fps, bitrate: self.metadata.video_bitrate.map(bits) }
    }

    fn started(&mut self, format: VideoFormat, now: Now) {
        self.dating.begin(now.wall);
        if !self.setup.timeline.can_encode {
            return;
        }
        let barred = self.timeline.format_obstacle().is_some();
        // What is passed through is shown all the same, without rungs.
        if let Some(reason) = self.setup.encoders.undecodable(&format).filter(|_| barred) {
            self.outputs.push_back(Output::Refuse(reason.to_string()));
            return;
        }
        let passthrough = self.decision.as_ref().map_or(!barred, |d| d.passthrough);
        let planned_for = self.planned_for(&format);
        let mut rungs = self.plan(&planned_for, passthrough);
        if self.decision.is_some() {
            // rules.md 1: the set is fixed; a rung that this source cannot have is not produced.
            rungs.retain(|r| self.tracks.iter().any(|t| t.name == r.name));
            if rungs.is_empty() && barred {
                rungs.extend(self.last_resort(&format));
            }
        }
        let rungs = self.without_saved(rungs);
        self.run_from = None;
        let deadline = self.setup.output_deadline;
        let encoding = self.encoding.get_or_insert_with(|| Encoding::new(format.clone(), rungs.clone()).within(deadline));
        // Of the old run nothing may be lost. Before the decision there is none: the process begins anew.
        if self.decision.is_some() && encoding.drain(now.mono) {
            self.next_run = Some((format, rungs));
        } else {
            self.start_run(format, rungs, now);
        }
    }

    /// A source that is not passed through and smaller than all rungs of the set: the lowest one shows it at its own size.
    fn last_resort(&self, format: &VideoFormat) -> Option<Rung> {
        let lowest = self.tracks.iter().rfind(|t| matches!(t.role, Role::Rung(_) | Role::NotProduced))?;
        let own = self.plan(format, false).into_iter().next()?;
        Some(Rung { name: lowest.name.clone(), ..own })
    }

    fn start_run(&mut self, format: VideoFormat, rungs: Vec<Rung>, now: Now) {
        self.renumber_rungs(&rungs);
        // What the encoders before gave says nothing of how fast these are.
        self.tracks.iter_mut().filter(|t| matches!(t.role, Role::Rung(_))).for_each(|t| t.meter = Meter::default());
        let thumbnail = self.thumbnail_of(&format);
        if let Some(e) = &mut self.encoding {
            e.replan(format, rungs, thumbnail, self.saving.brief);
            e.start(now.mono);
        }
    }

    fn decided(&mut self, decision: Decision, now: Now) {
        // Of a stream without video, the first frame has waited until that was known.
        let began = self.heard.filter(|_| decision.video.is_none()).unwrap_or(now.wall);
        self.dating.begin(began);
        self.dating.settle(now.mono, now.wall);
        let anchor = self.dating.anchor().unwrap_or(began);
        let rungs = decision.video.as_ref().map(|video| self.affordable(video, &decision)).unwrap_or_default();
        if let Some(video) = decision.video.as_ref().filter(|_| rungs.is_empty() && !decision.passthrough) {
            let encoders = &self.setup.encoders;
            let small = || format!("the picture is smaller than {}, the encoder's smallest", encoders.smallest);
            let reason = encoders.undecodable(video).map_or_else(small, |reason| reason.to_string());
            self.outputs.push_back(Output::Refuse(reason));
            return;
        }
        let rungs = self.without_saved(rungs);
        // What the parameter sets forbid is known from the first picture on: then the right plan runs already.
        let thumbnail = decision.video.as_ref().and_then(|video| self.thumbnail_of(video));
        let brief = self.saving.brief;
        let other = |e: &Encoding| e.rungs() != rungs || e.is_brief() != brief;
        if let Some((video, e)) = decision.video.as_ref().zip(self.encoding.as_mut()).filter(|(_, e)| other(e)) {
            e.replan(video.clone(), rungs, thumbnail, brief);
            self.early.clear();
            self.early_formats.clear();
            let starts: Vec<MediaTime> = decision.cuts.iter().map(|c| c.start).collect();
            e.mark(&starts);
            e.start(now.mono);
        }
        self.note(match (&decision.video, &decision.reason) {
            (None, _) => "audio only".into(),
            (Some(_), None) => format!("source passed through, target duration {} s", decision.target_duration),
            (Some(_), Some(r)) if decision.passthrough => format!("source passed through although {r}"),
            (Some(_), Some(r)) => match self.top_left_out {
                Some(dimension) => {
                    let (words, is) = (dimension.words(), dimension.is());
                    format!("source left out, and not re-encoded because {words} {is} taken: {r}")
                }
                None => format!("source re-encoded: {r}"),
            },
        });
        self.build_tracks(&decision);
        self.number_rungs();
        self.run_from = Some(0);
        if self.shedding.shed {
            self.begin_shed();
        }
        let policy = playlist::Policy {
            target_duration: decision.target_duration,
            window: self.setup.window,
            first_row_wait: self.setup.first_row_wait,
        };
        let announced = self.tracks.iter().map(TrackState::announce).collect();
        let window = Window::new(self.setup.session.clone(), policy, anchor, announced);
        self.window = Some(window.continued(self.setup.past.from.clone()));
        let start = decision.cuts.first().map_or(MediaTime::ZERO, |c| c.start);
        let cuts = decision.cuts.clone();
        self.begin_sound(decision.audio.as_ref(), start, now);
        self.decision = Some(decision);
        for cut in &cuts {
            self.cut(cut, now);
        }
        self.give_early_captions();
        self.give_early_cues();
        self.adopt_early();
        let probing = std::mem::take(&mut self.probing);
        if let Some(source) = self.tracks.iter().position(|t| t.role == Role::Source) {
            for unit in probing {
                self.push_source(source, unit);
            }
        }
    }

    fn cut(&mut self, cut: &Cut, now: Now) {
        let Some(window) = &mut self.window else { return };
        let end = cut.hole_from.unwrap_or(cut.start);
        let slack = self.encoding.as_ref().map_or(MediaTime::ZERO, Encoding::slack) + cut.early;
        window.allow(slack.min(MAX_SLACK).positive());
        window.close(end, now.mono);
        let shift = self.dating.row(cut.start, cut.discontinuity, now.mono, now.wall);
        window.shift(shift);
        if !window.open(cut.number, cut.start, cut.discontinuity, now.mono) {
            self.warn(format!("segment number {} out of order", cut.number));
            return;
        }
        if let Some(j) = &mut self.recorder.journal {
            j.close(end);
            j.open(cut.number, cut.start, shift, cut.discontinuity);
        }
        self.captions.cut(cut);
        if cut.discontinuity {
            self.discontinuities += 1;
            self.run_from.get_or_insert(cut.number);
            self.begin_era(cut, end, now);
        }
        for i in 0..self.tracks.len() {
            if cut.discontinuity {
                self.tracks[i].packager.close(end);
            }
            let lost = self.tracks[i].packager.cut(cut.number, cut.start);
            self.packaged(i, Ok(lost));
            if !self.is_produced(i, cut) {
                self.lend(i, cut.number);
            }
        }
    }

    /// The track has a segment of its own at this cut. While an old run drains, the encoders of the next one decide.
    fn is_produced(&self, track: usize, cut: &Cut) -> bool {
        let TrackState { name, role, .. } = &self.tracks[track];
        match (role, &self.next_run) {
            (Role::Source, _) => cut.source,
            (Role::Audio, _) => true,
            (Role::Rung(_) | Role::NotProduced, _) if self.shedding.shed => false,
            (Role::Rung(_) | Role::NotProduced, Some((_, rungs))) => rungs.iter().any(|r| r.name == *name),
            (role, None) => *role != Role::NotProduced,
        }
    }

    /// Start of the oldest segment that a new codec process would have to make; `newest` when none is missing (rules.md 24).
    fn keep_from(&self, newest: MediaTime) -> MediaTime {
        self.window.as_ref().map_or(MediaTime::ZERO, |w| w.oldest_unmade().map_or(newest, |(_, start)| start))
    }

    fn unit(&mut self, unit: VideoUnit, cut: bool, now: Now) {
        self.dating.observe(unit.dts, unit.pts, now.mono);
        self.facts.unit(unit.pts, unit.dts, unit.idr, unit.data.len(), now.mono);
        self.lift_captions(&unit);
        let keep_from = self.keep_from(unit.pts);
        if let Some(e) = self.encoding.as_mut().filter(|e| !e.rungs().is_empty()) {
            e.push(&unit, cut, keep_from, now.mono);
            if e.keep_pace(now.mono) {
                self.note("few pictures a second come: encoders that hold none back take over".into());
                self.after_death(now);
            }
        }
        if self.decision.is_none() {
            self.probing_bytes += unit.data.len();
            self.probing.push(unit);
            if self.probing_bytes > MAX_PROBING_BYTES || self.probing.len() > MAX_PROBING {
                self.outputs.push_back(Output::Refuse("timestamps do not advance, or the rate is above 50 Mbit/s".into()));
            }
        } else if let Some(source) = self.tracks.iter().position(|t| t.role == Role::Source) {
            self.tracks[source].meter.push(unit.dts, unit.data.len(), now.mono);
            self.push_source(source, unit);
        }
    }

    fn closed(&mut self, end: MediaTime, dropped: bool, now: Now) {
        self.end_sound(end);
        if let Some(window) = &mut self.window {
            if dropped {
                window.drop_open();
            } else {
                window.close(end, now.mono);
            }
        }
        if let Some(journal) = &mut self.recorder.journal {
            if dropped {
                journal.drop_open();
            } else {
                journal.close(end);
            }
        }
        let draining = self.encoding.as_mut().is_some_and(|e| e.drain(now.mono));
        if !draining {
            self.drain_sound();
        }
        let audio_is_late = self.sound.rendition.is_pending();
        for i in 0..self.tracks.len() {
            let track = &mut self.tracks[i];
            if dropped {
                track.packager.drop_open();
            } else {
                track.packager.close(end);
            }
            let late = match track.role {
                Role::Rung(_) => draining,
                Role::Audio => audio_is_late,
                Role::Source | Role::NotProduced => false,
            };
            if !late {
                let out = track.packager.flush();
                self.packaged(i, out);
            }
        }
    }

    fn note(&mut self, text: String) {
        self.outputs.push_back(Output::Note(Note { warning: false, text }));
    }

    fn warn(&mut self, text: String) {
        self.outputs.push_back(Output::Note(Note { warning: true, text }));
    }

    fn audio_format(&self) -> AudioFormat {
        let track = self.tracks.iter().find(|t| t.role == Role::Audio);
        match track.map(TrackState::format) {
            Some(playlist::Format::Audio(format)) => format.clone(),
            _ => aac::silent_format(),
        }
    }
}

#[cfg(test)]
mod tests;
