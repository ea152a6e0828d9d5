//! Where segments begin: the one place that decides cuts, in decode order, before anything is encoded (rules.md 1 to 7, 12).
//!
//! Takes a publisher's access units with their times, gives them back on the output timeline with cut marks, and decides once per session
//! whether the source is passed through and what the target duration is. Knows nothing of encoders, playlists or clocks: `now` is time since the
//! worker's start and only used for the one decision that must be taken when nothing arrives.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::mapper::{Mapper, Track};
use super::model::{AudioFormat, AudioUnit, Coding, VideoFormat, VideoUnit};
use super::obstacle::{self, MAX_GOP, Obstacle};
use super::packet::Clock;
use super::time::MediaTime;
use crate::cmaf::aac::FRAME;

/// What to do with a source whose key frames are too far apart to be passed through (rules.md 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongGop {
    /// Re-encode the top rung where the worker has room for it, else leave it out.
    #[default]
    Auto,
    /// Re-encode the top rung.
    Reencode,
    /// Tell the streamer to change the setting.
    Refuse,
    /// Cut every track at the source's key frames, target duration 10.
    LongSegments,
}

/// The settings that decide cuts.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Shortest regular segment. Default 2 s.
    pub target: MediaTime,
    /// See [`LongGop`].
    pub long_gop: LongGop,
    /// The source may be passed through up to this short side. Default 1080.
    pub passthrough_short_side: u32,
    /// And up to this rate, bits per second. Default 8 Mbit/s.
    pub passthrough_bitrate: u64,
    /// The source may be passed through in these codings. Default H.264 alone, which every browser plays.
    pub passthrough_codecs: Vec<Coding>,
    /// Encoders are there. Without them a source is passed through, unless no viewer could see it.
    pub can_encode: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            target: MediaTime::from_secs(2),
            long_gop: LongGop::Auto,
            passthrough_short_side: 1080,
            passthrough_bitrate: 8_000_000,
            passthrough_codecs: vec![Coding::H264],
            can_encode: true,
        }
    }
}

/// An IDR this much before the target is taken for one at the target: RTMP rounds to milliseconds and some encoders are a frame early (rules.md 3).
const TOLERANCE: MediaTime = MediaTime::from_millis(40);

/// Target duration of `long-segments` (rules.md 3), seconds.
const LONG_TARGET: u32 = 10;

/// Tails shorter than this are dropped (rules.md 6), and no cut makes a shorter segment.
const MIN_SEGMENT: MediaTime = MediaTime::from_millis(500);

/// RFC 8216, 4.3.3.1: a segment's duration, rounded to the nearest second, is at most the target duration.
const ROUNDING: MediaTime = MediaTime::from_millis(499);

/// A source rung that was left out comes back when its GOPs were short enough for so long: every change is a discontinuity for all viewers.
const REHABILITATION: MediaTime = MediaTime::from_secs(30);

/// After the first packet: no video by then means an audio-only stream, no audio means silence (whoever publishes waits for it).
const TRACKS_DEADLINE: Duration = Duration::from_secs(2);

/// A message is this far from the pictures at the most, if its sender has one clock: senders interleave by time.
const NEAR: MediaTime = MediaTime::from_secs(10);

/// Packets held while nothing is decided: [`MAX_GOP`] of audio at 96 kHz is 422 frames.
const MAX_HELD: usize = 2000;

/// Composition times outside of this are garbage: 16 pictures of reordering (ITU-T H.264, A.3.1: max_dec_frame_buffering) at 6 pictures a second.
/// Below zero are senders that do not shift their decode times.
const MAX_COMPOSITION: MediaTime = MediaTime::from_secs(3);

/// A segment begins at `start` on every track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Segment number, without holes.
    pub number: u64,
    /// Presentation time of its first picture.
    pub start: MediaTime,
    /// The cut is known so long before `start` is live: a picture that others are shown before is sent ahead of them.
    pub early: MediaTime,
    /// The segment before ends earlier than that: nothing was sent in between, and one segment over both would be too long.
    pub hole_from: Option<MediaTime>,
    /// Rule 2 and 7: DISCONTINUITY on all tracks.
    pub discontinuity: bool,
    /// The source's format from here on, where it changed.
    pub video: Option<VideoFormat>,
    /// The audio format from here on, where it changed.
    pub audio: Option<AudioFormat>,
    /// The source rung has a segment here, if the session has a source rung at all.
    pub source: bool,
}

/// Decided once per session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The source rung exists.
    pub passthrough: bool,
    /// Why not.
    pub reason: Option<Obstacle>,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// The source's video; `None` for an audio-only stream.
    pub video: Option<VideoFormat>,
    /// The source's audio; `None` when none came in time.
    pub audio: Option<AudioFormat>,
    /// Bits per second of the source's video so far.
    pub bitrate: u64,
    /// The cuts up to now, from number 0 on: units that were given before belong to them.
    pub cuts: Vec<Cut>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first picture of a session or of a reconnect: encoders can be started.
    Started(VideoFormat),
    /// Tracks, target duration and the first cuts are known.
    Decided(Box<Decision>),
    /// A segment begins. Comes before the unit that begins it.
    Cut(Cut),
    /// An access unit of the source, in decode order.
    Video {
        /// The unit.
        unit: VideoUnit,
        /// It begins a segment; every encoder must give an IDR at its `pts`.
        cut: bool,
    },
    /// An audio frame; it may be packed when the horizon has passed it.
    Audio(AudioUnit),
    /// No cut will come before this time.
    Horizon(MediaTime),
    /// The open segment ends here and none follows for now. `dropped`: it was too short to exist, its number is used again.
    Closed {
        /// Presentation end of the last picture.
        end: MediaTime,
        /// See above.
        dropped: bool,
    },
    /// The source is not acceptable; the streamer is told why.
    Refused(String),
}

/// The source rung's state while it is part of the session's set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Segments are cut at its IDRs.
    Produced,
    /// A GOP was longer than the target duration allows: other rungs' segments stand in for it (rules.md 1 and 3).
    Away {
        /// Its GOPs are short enough again since this IDR.
        good_since: Option<MediaTime>,
    },
    /// What came in its place in mid-stream cannot be passed through, until something else comes (rules.md 1).
    Barred,
}

/// What ended the probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The IDR that ends the first segment.
    Idr,
    /// No such IDR came in time.
    Waited,
    /// The publisher left; no unit stands behind the decision.
    Pause,
}

#[derive(Debug)]
enum Phase {
    /// Nothing decided: cuts as they would be without a source rung are noted.
    Probing {
        grid: Vec<MediaTime>,
        bytes: u64,
    },
    /// Cuts at source IDRs.
    Passthrough {
        source: Source,
    },
    /// Cuts every target duration.
    Grid,
    /// The same on audio frames.
    AudioOnly,
    Refused,
}

/// The machine.
#[derive(Debug)]
pub struct Timeline {
    policy: Policy,
    mapper: Mapper,
    phase: Phase,
    first_packet: Option<Duration>,
    video: Option<VideoFormat>,
    audio: Option<AudioFormat>,
    /// The coding of the session's source rung, which it keeps.
    source: Option<Coding>,
    /// Changed formats that wait for a cut.
    new_video: Option<VideoFormat>,
    new_audio: Option<AudioFormat>,
    /// The next cut names the audio's format, though it is the same.
    renew_audio: bool,
    /// Audio that came before the mapper was started.
    early_audio: VecDeque<(MediaTime, Bytes)>,
    held_audio: VecDeque<(MediaTime, Bytes)>,
    /// The next number to give.
    next: u64,
    /// Start of the open segment.
    open: Option<MediaTime>,
    grid_next: MediaTime,
    last_idr: Option<MediaTime>,
    /// Longest distance between two IDRs of this session.
    longest: MediaTime,
    /// Likewise before the slate.
    longest_before: MediaTime,
    last_dts: Option<MediaTime>,
    /// Presentation time of the latest picture of this run.
    newest: Option<MediaTime>,
    /// The most that this run's pictures are shown before their decode times.
    early: MediaTime,
    /// Audio since the last picture came.
    audio_since: Option<MediaTime>,
    /// Latest presentation time and its picture's length.
    latest: MediaTime,
    discontinuity: bool,
    /// Encoders begin anew at the next key frame, though the source is the same.
    new_run: bool,
    /// Goes on behind another writer: the first cut has a discontinuity too.
    resumed: bool,
    /// While probing: the parameter sets alone forbid passthrough.
    barred: bool,
    target_duration: u32,
}

/// What an earlier writer of the session decided (rules.md 1 and 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// The coding of the session's source rung, if it has one.
    pub source: Option<Coding>,
    /// It has video at all.
    pub video: bool,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// Where its last segment ends.
    pub end: MediaTime,
}

impl Timeline {
    /// A session whose first picture is shown at media time 0.
    pub fn new(policy: Policy) -> Self {
        Self {
            mapper: Mapper::new(MediaTime::ZERO),
            policy,
            phase: Phase::Probing { grid: Vec::new(), bytes: 0 },
            first_packet: None,
            video: None,
            audio: None,
            source: None,
            new_video: None,
            new_audio: None,
            renew_audio: false,
            early_audio: VecDeque::new(),
            held_audio: VecDeque::new(),
            next: 0,
            open: None,
            grid_next: MediaTime::ZERO,
            last_idr: None,
            longest: MediaTime::ZERO,
            longest_before: MediaTime::ZERO,
            last_dts: None,
            newest: None,
            early: MediaTime::ZERO,
            audio_since: None,
            latest: MediaTime::ZERO,
            discontinuity: false,
            new_run: false,
            resumed: false,
            barred: false,
            target_duration: 2,
        }
    }

    /// A session that another writer began: nothing is left to decide, and the first cut begins behind its last segment.
    pub fn resumed(policy: Policy, past: &Past) -> Self {
        let phase = match (past.video, past.source.is_some()) {
            (false, _) => Phase::AudioOnly,
            (true, true) => Phase::Passthrough { source: Source::Produced },
            (true, false) => Phase::Grid,
        };
        Self {
            mapper: Mapper::new(past.end),
            phase,
            latest: past.end,
            discontinuity: true,
            resumed: true,
            target_duration: past.target_duration,
            source: past.source,
            ..Self::new(policy)
        }
    }

    /// The source's current video format.
    pub fn video_format(&self) -> Option<&VideoFormat> {
        self.new_video.as_ref().or(self.video.as_ref())
    }

    /// The source's current audio format.
    pub fn audio_format(&self) -> Option<&AudioFormat> {
        self.new_audio.as_ref().or(self.audio.as_ref())
    }

    /// Presentation end of the latest picture (or audio frame).
    pub fn end(&self) -> MediaTime {
        self.latest
    }

    /// Times that the publisher's clock jumped and was mended.
    pub fn jumps(&self) -> u64 {
        self.mapper.jumps()
    }

    /// What this publisher's times are counted in: [`Mapper::count_in`].
    pub fn clock(&mut self, clock: Clock) {
        self.mapper.count_in(clock);
    }

    /// A new video configuration. The same one again changes nothing; another one takes effect at the next IDR, with a discontinuity.
    pub fn video_config(&mut self, format: VideoFormat, now: Duration) {
        self.first_packet.get_or_insert(now);
        if self.open.is_none() && matches!(self.phase, Phase::Probing { .. }) {
            self.video = Some(format);
        } else if self.video.as_ref() != Some(&format) {
            self.new_video = Some(format);
        } else {
            self.new_video = None;
        }
    }

    /// A new audio configuration; likewise, at the next cut.
    pub fn audio_config(&mut self, format: AudioFormat, now: Duration) {
        self.first_packet.get_or_insert(now);
        if matches!(self.phase, Phase::Probing { .. }) {
            self.audio = Some(format);
        } else if self.audio.as_ref() != Some(&format) {
            self.new_audio = Some(format);
        } else {
            self.new_audio = None;
        }
    }

    /// One access unit. `idr` by its NAL units (or OBUs), not by what the tag claims.
    pub fn video(&mut self, time: u32, composition: i32, idr: bool, data: Bytes, now: Duration) -> Vec<Event> {
        self.first_packet.get_or_insert(now);
        let mut out = Vec::new();
        if (self.video.is_none() && self.new_video.is_none()) || matches!(self.phase, Phase::Refused | Phase::AudioOnly) {
            return out;
        }
        let of_other_coding =
            self.video.as_ref().zip(self.new_video.as_ref()).is_some_and(|(old, new)| old.coding() != new.coding());
        if of_other_coding && !idr {
            // It cannot stand behind the pictures that it would be decoded with.
            return out;
        }
        let composition = self.mapper.length(composition);
        let composition = if composition.0.abs() > MAX_COMPOSITION.0 { MediaTime::ZERO } else { composition };
        if !self.mapper.is_started() {
            if !idr {
                return out;
            }
            self.mapper.start_video(time, composition);
            self.place_early();
        }
        let Some(dts) = self.mapper.map(Track::Video, time, now) else { return out };
        self.audio_since = None;
        let (mut dts, mut pts) = (dts, dts + composition);
        // What was closed is closed: its last picture is shown until `latest`.
        let ended = self.open.is_none() && pts < self.latest;
        if let Some(newest) = self.newest.filter(|&newest| idr && (pts <= newest || ended)) {
            // Nothing is shown before its own IDR, nor an IDR before what came before it.
            let end = newest + self.picture();
            let by = if ended { end.max(self.latest) } else { end } - pts;
            self.mapper.push_back(by);
            (dts, pts) = (dts + by, pts + by);
        }
        if pts.is_negative() {
            return out;
        }
        if self.open.is_none() && !idr {
            // behind a pause, or behind video that was missing: nothing can be decoded before the next IDR
            return out;
        }
        let another = self.new_run && self.open.is_some_and(|start| pts - start >= MIN_SEGMENT);
        if self.open.is_none() || (idr && (self.new_video.is_some() || another)) {
            if let Some(obstacle) = self.format_obstacle().filter(|o| !self.policy.can_encode && o.is_unplayable()) {
                self.phase = Phase::Refused;
                out.push(Event::Refused(format!("{obstacle} (this server does not encode)")));
                return out;
            }
            self.begin_run(pts, &mut out);
        }
        self.early = self.early.min(composition);
        dts = self.last_dts.map_or(dts, |d| d.max(dts));
        self.last_dts = Some(dts);
        if !idr {
            // Out of order so far that it would stand in a segment that has ended.
            pts = pts.max(self.last_idr.map_or(pts, |idr| idr + MediaTime(1)));
        }
        let unit = VideoUnit { pts, dts, idr, data };
        let cut = self.judge(&unit, &mut out);
        if matches!(self.phase, Phase::Refused) || self.open.is_none() {
            return out;
        }
        if idr {
            self.last_idr = Some(pts);
        }
        self.newest = self.newest.max(Some(pts));
        self.latest = self.latest.max(pts + self.picture());
        out.push(Event::Video { unit, cut });
        self.drain_audio(&mut out);
        if !matches!(self.phase, Phase::Probing { .. }) {
            out.push(Event::Horizon(dts + self.early));
        }
        out
    }

    /// One AAC frame.
    pub fn audio(&mut self, time: u32, data: Bytes, now: Duration) -> Vec<Event> {
        self.first_packet.get_or_insert(now);
        let mut out = Vec::new();
        if (self.audio.is_none() && self.new_audio.is_none()) || matches!(self.phase, Phase::Refused) {
            return out;
        }
        if !self.mapper.is_started() {
            let early = self.mapper.early_audio(time, now);
            if matches!(self.phase, Phase::AudioOnly) {
                // No picture will come that starts it: a publisher who came back.
                self.mapper.start_audio(early);
                self.held_audio.push_back((self.mapper.settle(early), data));
            } else if self.early_audio.len() < MAX_HELD {
                self.early_audio.push_back((early, data));
            }
        } else if let Some(pts) = self.mapper.map(Track::Audio, time, now) {
            self.miss_video(pts, &mut out);
            if self.held_audio.len() < MAX_HELD {
                self.held_audio.push_back((pts, data));
            }
        }
        if matches!(self.phase, Phase::Probing { .. }) {
            out.extend(self.handle_timeout(now));
        } else {
            self.drain_audio(&mut out);
        }
        out
    }

    /// Where a message with this time belongs that is neither picture nor sound: not before the open segment, which on some track may be the oldest that is not
    /// closed yet, and at the newest picture when its time has nothing to do with theirs (some senders stamp nothing but media). `None` while no segment is
    /// open. Moves nothing.
    pub fn place(&self, time: u32) -> Option<MediaTime> {
        let open = self.open?;
        let placed = self.mapper.place(time)?;
        let related = open - NEAR <= placed && placed <= self.latest + NEAR;
        Some(if related { placed } else { self.latest })
    }

    /// rules.md 12. Counted from the audio that came behind the last picture, because some senders always send one of the two later.
    fn miss_video(&mut self, pts: MediaTime, out: &mut Vec<Event>) {
        let since = *self.audio_since.get_or_insert(pts);
        let missing = pts - since > MediaTime::from_secs(i64::from(self.target_duration));
        if missing && self.open.is_some() && !matches!(self.phase, Phase::AudioOnly) {
            self.end_run(out);
        }
    }

    /// A track cannot go on without a new init segment: the next cut gets a discontinuity (rules.md 2).
    pub fn request_discontinuity(&mut self) {
        self.discontinuity = true;
    }

    /// What is encoded changes: at the source's next key frame all encoders begin anew, as they would with another source (rules.md 2). Not `wanted`: it does not after all.
    pub fn request_run(&mut self, wanted: bool) {
        self.new_run = wanted && !matches!(self.phase, Phase::Probing { .. } | Phase::AudioOnly | Phase::Refused);
    }

    /// What is done with the audio changes: the next cut gets a discontinuity and names the format as if it were another one (rules.md 2).
    pub fn renew_audio(&mut self) {
        self.renew_audio = true;
        self.discontinuity = true;
    }

    /// When [`Timeline::handle_timeout`] should be called if nothing arrives.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let waiting = matches!(self.phase, Phase::Probing { .. }) && self.video.is_none() && !self.early_audio.is_empty();
        self.first_packet.filter(|_| waiting).map(|t| t + TRACKS_DEADLINE)
    }

    /// The tracks deadline: no video configuration by then means an audio-only stream.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<Event> {
        let mut out = Vec::new();
        if self.poll_timeout().is_none_or(|at| now < at) {
            return out;
        }
        let Some(&(first, _)) = self.early_audio.front() else { return out };
        self.mapper.start_audio(first);
        self.place_early();
        self.phase = Phase::AudioOnly;
        self.target_duration = seconds_up(self.policy.target);
        let start = self.mapper.settle(first);
        let cut = self.take_cut(start);
        self.grid_next = start + self.policy.target;
        out.push(Event::Decided(Box::new(Decision {
            passthrough: false,
            reason: None,
            target_duration: self.target_duration,
            video: None,
            audio: self.audio.clone(),
            bitrate: 0,
            cuts: vec![cut],
        })));
        self.drain_audio(&mut out);
        out
    }

    /// The publisher is gone: the open segment ends with the last picture.
    pub fn pause(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        self.drain_audio(&mut out);
        self.end_run(&mut out);
        if matches!(self.phase, Phase::Probing { .. }) {
            // Too little for a stream; whoever comes next begins anew.
            self.first_packet = None;
            self.early_audio.clear();
        }
        out
    }

    fn end_run(&mut self, out: &mut Vec<Event>) {
        if matches!(self.phase, Phase::Probing { .. }) {
            // A source so short that nothing was decided: decide with what there is, so that it is not lost.
            if self.open.is_none() || self.latest < MIN_SEGMENT {
                return;
            }
            self.decide(self.latest, Why::Pause, out);
            self.drain_audio(out);
        }
        self.close(out);
    }

    /// Another publisher goes on with the session; its first picture is shown at `origin` or at the end of what there is, whichever is later.
    pub fn resume(&mut self, origin: MediaTime) {
        let origin = origin.max(self.latest);
        if matches!(self.phase, Phase::Probing { .. }) {
            *self = Self::new(self.policy.clone());
            return;
        }
        self.mapper = Mapper::new(origin);
        self.early_audio.clear();
        self.held_audio.clear();
        self.discontinuity = true;
        self.longest = self.longest.max(std::mem::take(&mut self.longest_before));
        self.begin_clock();
    }

    /// Nothing of this publisher stands on the timeline yet: its first picture is shown at `origin` at the earliest.
    pub fn begin_at(&mut self, origin: MediaTime) {
        self.mapper.begin_at(origin.max(self.latest));
    }

    /// The slate goes on with the session. What is known of the publisher's key frames says nothing of its own.
    pub fn resume_by_slate(&mut self, origin: MediaTime) {
        self.resume(origin);
        self.longest_before = std::mem::take(&mut self.longest);
    }

    /// Nothing of an earlier run says anything of the next one.
    fn begin_clock(&mut self) {
        self.last_idr = None;
        self.last_dts = None;
        self.newest = None;
        self.early = MediaTime::ZERO;
        self.audio_since = None;
    }

    fn place_early(&mut self) {
        for (time, data) in self.early_audio.drain(..) {
            self.held_audio.push_back((self.mapper.settle(time), data));
        }
    }

    /// The length of one picture by the source's nominal rate.
    fn picture(&self) -> MediaTime {
        let fps = self.video.as_ref().map_or(30_000, |v| v.fps.milli()).max(1);
        MediaTime(i64::try_from(90_000_000 / fps).unwrap_or(3000))
    }

    /// The first picture of a session, of a reconnect, behind missing video, or of another format.
    fn begin_run(&mut self, pts: MediaTime, out: &mut Vec<Event>) {
        self.new_run = false;
        if let Some(start) = self.open {
            // another format: the old run ends where the new one begins
            self.discontinuity = true;
            if pts - start < MIN_SEGMENT && !matches!(self.phase, Phase::Probing { .. }) {
                // However long its last picture would have been shown.
                self.latest = self.latest.min(pts);
                self.close(out);
            }
        }
        if let Some(format) = self.new_video.clone().or_else(|| self.video.clone()) {
            out.push(Event::Started(format));
        }
        if matches!(self.phase, Phase::Probing { .. }) {
            if let Some(format) = self.new_video.take() {
                self.video = Some(format);
            }
            self.barred = self.policy.can_encode && self.format_obstacle().is_some();
            self.open = Some(pts);
            self.phase = Phase::Probing { grid: vec![pts], bytes: 0 };
            self.grid_next = pts + self.policy.target;
            self.last_idr = None;
            self.discontinuity = false;
        }
    }

    /// Is this unit the first of a segment? Gives [`Event::Cut`] (or [`Event::Decided`]) if so.
    fn judge(&mut self, unit: &VideoUnit, out: &mut Vec<Event>) -> bool {
        let length = self.open.map_or(MediaTime::ZERO, |start| unit.pts - start);
        let limit = self.limit();
        let hole = self.hole(unit, length);
        if hole.is_some() && !unit.idr && !self.policy.can_encode {
            // Nobody can make an IDR here: rules.md 12
            self.close(out);
            return false;
        }
        let fresh = self.open.is_none()
            || (unit.idr && (self.new_video.is_some() || (self.discontinuity && length >= MIN_SEGMENT)))
            || hole.is_some();
        self.discontinuity |= hole.is_some();
        // The next picture that can begin a segment would come too late.
        let step = self.newest.map_or(MediaTime::ZERO, |newest| unit.pts - newest);
        let last_chance = step > MediaTime::ZERO && length >= MIN_SEGMENT && length + step > limit;
        let gap = self.last_idr.map(|last| unit.pts - last);
        if let Some(gap) = gap.filter(|_| unit.idr) {
            self.longest = self.longest.max(gap);
        }
        let target = self.policy.target;
        // Judged where it can change.
        let barred = fresh && self.policy.can_encode && self.format_obstacle().is_some();
        match &mut self.phase {
            Phase::Probing { grid, bytes } => {
                let boundary = unit.pts >= self.grid_next;
                if boundary {
                    grid.push(unit.pts);
                    self.grid_next = next_on_grid(self.grid_next, unit.pts, target);
                }
                // What the parameter sets forbid needs no look at key frames: the first segment only gives the audio time to come.
                let first_cut = if self.barred { boundary } else { unit.idr && length >= target - TOLERANCE };
                let waited = length
                    >= if self.policy.long_gop == LongGop::LongSegments || !self.policy.can_encode {
                        MediaTime::from_secs(i64::from(LONG_TARGET))
                    } else {
                        MAX_GOP
                    };
                if !first_cut && !waited {
                    *bytes += unit.data.len() as u64;
                    return length == MediaTime::ZERO;
                }
                self.decide(unit.pts, if first_cut { Why::Idr } else { Why::Waited }, out)
            }
            Phase::Passthrough { source } => {
                let longest = self.longest.min(limit);
                let cut = match source {
                    _ if fresh => true,
                    Source::Produced if unit.idr => {
                        length >= target - TOLERANCE || (length >= MIN_SEGMENT && length + longest > limit)
                    }
                    // Without encoders nobody can stand in: the segment gets as long as it must.
                    Source::Produced => self.policy.can_encode && last_chance,
                    Source::Barred => length >= target || last_chance,
                    Source::Away { good_since } => {
                        if gap.is_some_and(|g| g > limit) {
                            *good_since = None;
                        }
                        if unit.idr {
                            good_since.get_or_insert(unit.pts);
                        }
                        let back = unit.idr && good_since.is_some_and(|since| unit.pts - since >= REHABILITATION);
                        (back && length >= MIN_SEGMENT) || length >= target || last_chance
                    }
                };
                if !cut {
                    return false;
                }
                let produced = match source {
                    _ if fresh => unit.idr && !barred,
                    Source::Barred => false,
                    Source::Produced => unit.idr,
                    Source::Away { good_since } => {
                        unit.idr && good_since.is_some_and(|since| unit.pts - since >= REHABILITATION)
                    }
                };
                self.discontinuity |= produced != (*source == Source::Produced);
                *source = match (produced, *source) {
                    (true, _) => Source::Produced,
                    (false, _) if barred => Source::Barred,
                    (false, Source::Produced) => Source::Away { good_since: None },
                    (false, away) => away,
                };
                let cut = Cut { source: produced, hole_from: hole, early: unit.pts - unit.dts, ..self.take_cut(unit.pts) };
                out.push(Event::Cut(cut));
                true
            }
            Phase::Grid => {
                if !fresh && unit.pts < self.grid_next && !last_chance {
                    return false;
                }
                let off = fresh || unit.pts < self.grid_next;
                self.grid_next = if off { unit.pts + target } else { next_on_grid(self.grid_next, unit.pts, target) };
                let cut = Cut { hole_from: hole, early: unit.pts - unit.dts, ..self.take_cut(unit.pts) };
                out.push(Event::Cut(cut));
                true
            }
            Phase::AudioOnly | Phase::Refused => false,
        }
    }

    /// A segment's length at the most. Audio may be one frame longer, since it ends with the first frame at or behind the cut.
    fn limit(&self) -> MediaTime {
        MediaTime::from_secs(i64::from(self.target_duration)) + ROUNDING - self.frame()
    }

    /// One audio frame.
    fn frame(&self) -> MediaTime {
        let rate = self.audio.as_ref().map_or(48_000, |a| a.rate.hz());
        MediaTime(FRAME * 90_000 / i64::from(rate) + 1)
    }

    /// The least target duration that has room for such a segment.
    fn room_for(&self, length: MediaTime) -> u32 {
        seconds_up(length + self.frame() - ROUNDING)
    }

    /// Where the open segment has to end, because so much is missing in front of `unit` that a segment of `length` would be too long.
    fn hole(&self, unit: &VideoUnit, length: MediaTime) -> Option<MediaTime> {
        let start = self.open.filter(|_| !matches!(self.phase, Phase::Probing { .. }))?;
        // The last picture stands until there is enough of a segment.
        let end = self.shown_until(start).max(start + MIN_SEGMENT);
        (length > self.limit() && end - start <= self.limit() && end < unit.pts).then_some(end)
    }

    /// Where the segment that began at `start` ends if nothing follows: its last picture is shown for the nominal length, or for what the target duration leaves of it.
    fn shown_until(&self, start: MediaTime) -> MediaTime {
        let most = start + self.limit();
        if self.newest.is_some_and(|newest| newest < most) { self.latest.min(most) } else { self.latest }
    }

    /// Takes the session's decisions at `now`, the time of the first possible cut. `true` when the unit there begins a segment.
    fn decide(&mut self, now: MediaTime, why: Why, out: &mut Vec<Event>) -> bool {
        let (Phase::Probing { grid, bytes }, Some(start)) = (&self.phase, self.open) else { return false };
        let length = (now - start).max(MediaTime(1));
        let bitrate = u64::try_from(u128::from(*bytes) * 8 * 90_000 / length.0.unsigned_abs() as u128).unwrap_or(u64::MAX);
        let mut grid = grid.clone();
        let at_idr = why == Why::Idr;
        let reason = self.obstacle(length, why != Why::Waited, bitrate);
        let forced = !self.policy.can_encode;
        if let (Some(reason @ Obstacle::Gop), LongGop::Refuse, false) = (&reason, self.policy.long_gop, forced) {
            out.push(Event::Refused(reason.to_string()));
            self.phase = Phase::Refused;
            return false;
        }
        let passthrough = reason.is_none() || forced;
        let cut_here;
        if passthrough {
            self.source = self.video.as_ref().map(VideoFormat::coding);
            let least = seconds_up(self.policy.target).max(seconds_up(length - TOLERANCE));
            let long = self.policy.long_gop == LongGop::LongSegments || forced;
            self.target_duration = least.min(if long { LONG_TARGET } else { 5 });
            if long && why == Why::Waited {
                self.target_duration = LONG_TARGET;
            }
            self.phase = Phase::Passthrough { source: Source::Produced };
            grid = if at_idr || (why == Why::Waited && length > self.limit()) { vec![start, now] } else { vec![start] };
            cut_here = grid.len() == 2;
            if cut_here {
                self.target_duration = self.target_duration.max(self.room_for(length));
            }
        } else {
            // Longer where pictures were missing.
            let longest = grid.windows(2).map(|w| w[1] - w[0]).max().unwrap_or_default();
            self.target_duration = seconds_up(self.policy.target).max(self.room_for(longest));
            self.phase = Phase::Grid;
            cut_here = grid.last() == Some(&now) && grid.len() > 1;
        }
        let cuts = grid.iter().map(|&start| self.take_cut(start)).collect();
        out.push(Event::Decided(Box::new(Decision {
            passthrough,
            reason,
            target_duration: self.target_duration,
            video: self.video.clone(),
            audio: self.audio.clone(),
            bitrate,
            cuts,
        })));
        cut_here
    }

    /// Why the source cannot be passed through.
    fn obstacle(&self, gop: MediaTime, at_idr: bool, bitrate: u64) -> Option<Obstacle> {
        self.video.as_ref()?;
        if let Some(obstacle) = self.format_obstacle() {
            return Some(obstacle);
        }
        if bitrate > self.policy.passthrough_bitrate {
            return Some(Obstacle::Bitrate { measured: bitrate, limit: self.policy.passthrough_bitrate });
        }
        let long = self.policy.long_gop != LongGop::LongSegments && (!at_idr || gop > MAX_GOP);
        long.then_some(Obstacle::Gop)
    }

    /// What the parameter sets in force (or about to be) say against it.
    pub fn format_obstacle(&self) -> Option<Obstacle> {
        let format = self.video_format()?;
        match self.source {
            Some(rung) if rung != format.coding() => Some(Obstacle::OtherCoding(format.coding(), rung)),
            _ => obstacle::of_format(format, &self.policy),
        }
    }

    fn take_cut(&mut self, start: MediaTime) -> Cut {
        let number = self.next;
        self.next += 1;
        self.open = Some(start);
        let first = number == 0 && !self.resumed;
        let video = self.new_video.take();
        let renewed = std::mem::take(&mut self.renew_audio);
        let audio = self.new_audio.take().or_else(|| self.audio.clone().filter(|_| renewed));
        if let Some(v) = &video {
            self.video = Some(v.clone());
        }
        if let Some(a) = &audio {
            self.audio = Some(a.clone());
        }
        let discontinuity = !first && (self.discontinuity || video.is_some() || audio.is_some());
        self.discontinuity = false;
        Cut { number, start, early: MediaTime::ZERO, hole_from: None, discontinuity, video, audio, source: true }
    }

    fn drain_audio(&mut self, out: &mut Vec<Event>) {
        if matches!(self.phase, Phase::Probing { .. } | Phase::Refused) || !self.mapper.is_started() {
            return;
        }
        while let Some((pts, data)) = self.held_audio.pop_front() {
            let alone = matches!(self.phase, Phase::AudioOnly);
            // A format that waits for its cut: frames of it cannot stand behind the old init segment.
            if pts.is_negative() || (self.new_audio.is_some() && !alone) {
                continue;
            }
            if alone {
                if self.new_audio.is_some() {
                    // This frame begins where the last one ends, to the millisecond.
                    self.latest = self.latest.min(pts);
                    self.close(out);
                }
                self.cut_on_audio(pts, out);
                self.latest = self.latest.max(pts + MediaTime::from_millis(22));
            }
            if self.open.is_some() {
                out.push(Event::Audio(AudioUnit { pts, data }));
            }
            if alone {
                out.push(Event::Horizon(pts + MediaTime(1)));
            }
        }
    }

    /// Cuts of a stream without video: at the first frame behind every target, or in the silence where there is none.
    fn cut_on_audio(&mut self, pts: MediaTime, out: &mut Vec<Event>) {
        while let Some(start) = self.open.filter(|_| pts >= self.grid_next) {
            let near = pts - self.grid_next < MIN_SEGMENT && pts - start <= self.limit();
            let at = if near { pts } else { self.grid_next };
            self.grid_next = self.grid_next + self.policy.target;
            let cut = self.take_cut(at);
            out.push(Event::Cut(cut));
        }
        if self.open.is_none() {
            self.grid_next = pts + self.policy.target;
            let cut = self.take_cut(pts);
            out.push(Event::Cut(cut));
        }
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        let Some(start) = self.open.take() else { return };
        self.latest = self.shown_until(start);
        let dropped = self.latest - start < MIN_SEGMENT;
        if dropped {
            self.next -= 1;
        }
        self.discontinuity = true;
        out.push(Event::Closed { end: self.latest, dropped });
    }
}

/// The cut behind the one that was due at `due` and is made at `at`: a target later, or off the grid when so much was missing that it would come
/// at once.
fn next_on_grid(due: MediaTime, at: MediaTime, target: MediaTime) -> MediaTime {
    if due + target - at < MIN_SEGMENT { at + target } else { due + target }
}

fn seconds_up(t: MediaTime) -> u32 {
    u32::try_from((t.0.max(0) + 89_999) / 90_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
