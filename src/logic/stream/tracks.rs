//! A stream's tracks: their formats over time, their segments on the way to the store.

use std::sync::Arc;

use bytes::Bytes;

use super::{Now, Output, Stream};
use crate::cmaf::fragment::{FragmentError, Sample, Segment};
use crate::cmaf::init;
use crate::cmaf::packager::{self, Kind, Packager};
use crate::logic::facts::Meter;
use crate::logic::ladder::Rung;
use crate::logic::model::{Coding, ObjectKey, TrackName, VideoFormat};
use crate::logic::playlist::{Format, Init, Placed, Track};
use crate::logic::sound::BITS_PER_SECOND;
use crate::logic::state::Announced;
use crate::logic::time::MediaTime;
use crate::logic::timeline::{Cut, Decision};

/// Where a track's samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    /// Index into the codec process's plan.
    Rung(usize),
    /// A rung of the set that the source of this run cannot have.
    NotProduced,
    Audio,
}

/// Pictures of a rung that came before the tracks were decided; two GOPs of the longest kind at 60 fps.
const MAX_EARLY: usize = 600;

#[derive(Debug)]
pub(super) struct TrackState {
    pub name: TrackName,
    pub role: Role,
    pub packager: Packager,
    /// The format from a segment number on, ascending.
    inits: Vec<(u64, Arc<Init>, Bytes)>,
    /// Announced before the encoder told its real one.
    expected: Format,
    max_bitrate: u64,
    pub meter: Meter,
    /// A changed format that waits for a discontinuity.
    pending: Option<Format>,
    /// Of a session that another writer began: what was measured by then.
    average_bitrate: Option<u64>,
    pub segments: u64,
    pub gaps: u64,
}

impl TrackState {
    fn new(name: TrackName, role: Role, expected: Format, max_bitrate: u64) -> Self {
        let kind = if role == Role::Audio { Kind::Audio } else { Kind::Video };
        Self {
            name,
            role,
            packager: Packager::new(kind, expected.timescale()),
            inits: Vec::new(),
            expected,
            max_bitrate,
            meter: Meter::default(),
            pending: None,
            average_bitrate: None,
            segments: 0,
            gaps: 0,
        }
    }

    pub fn announce(&self) -> Track {
        Track {
            name: self.name.clone(),
            format: self.format().clone(),
            max_bitrate: self.max_bitrate,
            average_bitrate: self.average_bitrate,
        }
    }

    pub fn format(&self) -> &Format {
        self.inits.last().map_or(&self.expected, |(_, init, _)| &init.format)
    }

    fn init(&self, number: u64) -> Option<&(u64, Arc<Init>, Bytes)> {
        self.inits.iter().rev().find(|(from, _, _)| *from <= number)
    }
}

/// The level that a picture size and rate need (ITU-T H.264, table A-1: macroblocks per second and per frame), for CODECS of a rung whose encoder
/// has not spoken yet.
fn expected_codec(rung: &Rung) -> String {
    let macroblocks = u64::from(rung.width.div_ceil(16)) * u64::from(rung.height.div_ceil(16));
    let per_second = macroblocks * rung.fps.milli() / 1000;
    const LEVELS: [(u64, u64, u8); 7] = [
        (11_880, 396, 20),
        (20_250, 1620, 30),
        (40_500, 1620, 30),
        (108_000, 3600, 31),
        (216_000, 5120, 32),
        (245_760, 8192, 40),
        (522_240, 8704, 42),
    ];
    let level = LEVELS.iter().find(|(s, f, _)| per_second <= *s && macroblocks <= *f).map_or(51, |l| l.2);
    format!("avc1.6400{level:02x}")
}

impl Stream {
    pub(super) fn track_name(&self, track: usize) -> String {
        self.tracks.get(track).map_or_else(String::new, |t| t.name.to_string())
    }

    /// Rungs from the best to the lowest, audio last; set once per session (rules.md 1).
    pub(super) fn build_tracks(&mut self, decision: &Decision) {
        // Those that are not made for now are in it: players ask for them once and for all.
        let rungs = if self.encoding.is_some() { self.planned.clone() } else { Vec::new() };
        let mut tracks = Vec::new();
        if let (Some(video), true) = (&decision.video, decision.passthrough) {
            // rules.md 9. Of another coding than the rungs' it is in no order with them, and what was measured says most.
            let next = rungs.first().map_or(0, |r| u64::from(r.max_kbps) * 1000);
            let least = if video.coding() == Coding::H264 { next } else { decision.bitrate };
            let ceiling = self.metadata.video_bitrate.unwrap_or(0).max(decision.bitrate).max(least * 12 / 10);
            if let Ok(name) = "src".parse() {
                tracks.push(TrackState::new(name, Role::Source, Format::Video(video.clone()), ceiling));
            }
        }
        for (i, rung) in rungs.iter().enumerate() {
            let format = VideoFormat {
                width: rung.width,
                height: rung.height,
                fps: rung.fps,
                codec: expected_codec(rung),
                avcc: Bytes::new(),
            };
            tracks.push(TrackState::new(
                rung.name.clone(),
                Role::Rung(i),
                Format::Video(format),
                u64::from(rung.max_kbps) * 1000,
            ));
        }
        let audio = self.published_audio(decision.audio.as_ref());
        // Copied AAC is near constant in rate; 128 kbit/s is what OBS starts with, and what is made here.
        let copied = self.metadata.audio_bitrate.filter(|_| decision.audio.as_ref() == Some(&audio));
        let audio_bitrate = copied.unwrap_or(0).max(BITS_PER_SECOND.into());
        if let Ok(name) = "audio".parse() {
            tracks.push(TrackState::new(name, Role::Audio, Format::Audio(audio), audio_bitrate));
        }
        self.tracks = tracks;
        let named = |wanted: fn(&Role) -> bool| self.tracks.iter().find(|t| wanted(&t.role)).map(|t| t.name.clone());
        let top = [named(|r| matches!(r, Role::Source | Role::Rung(_))), named(|r| *r == Role::Audio)];
        self.keys.set_top(top.into_iter().flatten().collect());
        for i in 0..self.tracks.len() {
            if matches!(self.tracks[i].role, Role::Source | Role::Audio) {
                let format = self.tracks[i].expected.clone();
                self.add_init(i, 0, format);
            }
        }
    }

    /// The tracks of a session that another writer began, by its `state.json` and not by the own configuration (rules.md 18).
    pub(super) fn adopt_tracks(&mut self, announced: &Announced) {
        for track in &announced.tracks {
            let role = match &track.format {
                Format::Audio(_) => Role::Audio,
                Format::Video(_) if announced.source.as_ref() == Some(&track.name) => Role::Source,
                // The plan of this writer's encoders tells which it makes.
                Format::Video(_) => Role::NotProduced,
            };
            let mut state = TrackState::new(track.name.clone(), role, track.format.clone(), track.max_bitrate);
            state.average_bitrate = track.average_bitrate;
            self.tracks.push(state);
        }
        let first = self.tracks.iter().find(|t| t.role != Role::Audio);
        let audio = self.tracks.iter().find(|t| t.role == Role::Audio);
        self.keys.set_top([first, audio].into_iter().flatten().map(|t| t.name.clone()).collect());
        self.old_inits.clone_from(&announced.inits);
    }

    /// The rungs of a new plan keep their tracks; a track without a rung in it is not produced.
    pub(super) fn renumber_rungs(&mut self, rungs: &[Rung]) {
        for track in self.tracks.iter_mut().filter(|t| matches!(t.role, Role::Rung(_) | Role::NotProduced)) {
            let index = rungs.iter().position(|r| r.name == track.name).filter(|_| !self.shedding.shed);
            track.role = index.map_or(Role::NotProduced, Role::Rung);
        }
    }

    /// A discontinuity: formats that changed take effect here, and what was before ends at `end`.
    pub(super) fn begin_era(&mut self, cut: &Cut, end: MediaTime, now: Now) {
        self.turn_era(cut, end, now);
        let audio = cut.audio.as_ref().map(|source| self.published_audio(Some(source)));
        for i in 0..self.tracks.len() {
            let track = &mut self.tracks[i];
            // Behind another writer, whatever was announced has no init segment of this writer yet.
            let fresh = track.inits.is_empty().then(|| track.expected.clone());
            let changed = match track.role {
                // A source of another coding has no segments here: nothing of it is announced.
                Role::Source => {
                    let own = |f: &VideoFormat| Some(f.coding()) == track.format().coding();
                    cut.video.clone().filter(own).map(Format::Video).or(fresh)
                }
                Role::Audio => audio.clone().map(Format::Audio).or(fresh),
                Role::Rung(_) | Role::NotProduced => track.pending.take(),
            };
            if let Some(format) = changed {
                if track.role == Role::Audio && format.timescale() != track.format().timescale() {
                    let old = std::mem::replace(&mut track.packager, Packager::new(Kind::Audio, format.timescale()));
                    self.retire(i, old, end);
                }
                self.add_init(i, cut.number, format);
            }
        }
    }

    /// What the packager of another timescale still held.
    fn retire(&mut self, track: usize, mut old: Packager, end: MediaTime) {
        old.close(end);
        let out = old.flush();
        self.packaged(track, out);
    }

    fn add_init(&mut self, track: usize, from: u64, format: Format) {
        let bytes = match init::write(&format) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.warn(format!("{}: {e}", self.track_name(track)));
                return;
            }
        };
        let key = self.keys.init(&self.tracks[track].name, &init::content_hash(&bytes));
        // The same bytes, named by content, under an earlier epoch: players need no new one (rules.md 7).
        let name = |key: &ObjectKey| key.as_str().rsplit('/').take(2).collect::<Vec<_>>().join("/");
        let old = self.old_inits.iter().find(|old| name(&old.key) == name(&key) && old.format == format);
        let key = old.map_or(key, |old| old.key.clone());
        if let Some(w) = &mut self.window {
            w.describe(track, format.clone());
        }
        let state = &mut self.tracks[track];
        state.inits.retain(|(f, _, _)| *f != from);
        state.inits.push((from, Arc::new(Init { key, format }), bytes));
        // Formats of segments that left the window long ago are of no use.
        if state.inits.len() > 8 {
            state.inits.remove(0);
        }
    }

    /// An encoder told its parameter sets.
    pub(super) fn set_rung_format(&mut self, rung: usize, format: VideoFormat) {
        let Some(track) = self.tracks.iter().position(|t| t.role == Role::Rung(rung)) else {
            self.early_formats.retain(|(r, _)| *r != rung);
            self.early_formats.push((rung, format));
            return;
        };
        let format = Format::Video(format);
        let known = self.tracks[track].inits.last().map(|(_, init, _)| init.format == format);
        match (known, self.run_from) {
            (Some(true), _) => self.tracks[track].pending = None,
            // The run begins behind a discontinuity, or the track never had a segment.
            (_, Some(from)) if known.is_none() || from > 0 => self.add_init(track, from, format),
            (None, _) => self.add_init(track, 0, format),
            (Some(false), _) => {
                let name = self.track_name(track);
                self.warn(format!("{name}: the encoder came back with other parameter sets"));
                self.tracks[track].pending = Some(format);
                self.timeline.request_discontinuity();
            }
        }
    }

    /// Pictures of rungs that are ahead of the decision about tracks.
    pub(super) fn hold_early(&mut self, rung: usize, pts: MediaTime, idr: bool, data: Bytes) {
        if self.early.len() < MAX_EARLY {
            self.early.push((rung, Sample { pts: pts.0, sync: idr, data }));
        }
    }

    pub(super) fn adopt_early(&mut self) {
        for (rung, format) in std::mem::take(&mut self.early_formats) {
            self.set_rung_format(rung, format);
        }
        for (rung, sample) in std::mem::take(&mut self.early) {
            if let Some(track) = self.tracks.iter().position(|t| t.role == Role::Rung(rung)) {
                self.push_sample(track, sample.pts, sample.sync, sample.data);
            }
        }
    }

    pub(super) fn push_sample(&mut self, track: usize, pts: i64, sync: bool, data: Bytes) {
        if self.tracks[track].pending.is_some() {
            // These belong behind an init segment that no playlist names yet.
            return;
        }
        let out = self.tracks[track].packager.push(Sample { pts, sync, data });
        self.packaged(track, out);
    }

    pub(super) fn packaged(&mut self, track: usize, out: Result<Vec<packager::Output>, FragmentError>) {
        match out {
            Ok(out) => {
                for o in out {
                    match o {
                        packager::Output::Segment { number, segment } => self.segment(track, number, segment),
                        packager::Output::Lost { number } => self.lose(track, number),
                    }
                }
            }
            Err(e) => {
                let name = self.track_name(track);
                self.warn(format!("{name}: {e}"));
            }
        }
    }

    pub(super) fn lose(&mut self, track: usize, number: u64) {
        if let Some(w) = self.window.as_mut().filter(|w| w.wants(track, number)) {
            w.lose(track, number);
            self.tracks[track].gaps += 1;
        }
    }

    /// The rung has no segment here and will not have: the next lower one's stands in.
    pub(super) fn lend(&mut self, track: usize, number: u64) {
        if let Some(w) = &mut self.window {
            w.borrow(track, number);
        }
        if let Some(j) = &mut self.recorder.journal {
            j.borrow(track, number);
        }
    }

    fn segment(&mut self, track: usize, number: u64, segment: Segment) {
        let state = &mut self.tracks[track];
        let Some((_, init, bytes)) = state.init(number).cloned() else {
            self.lose(track, number);
            return;
        };
        if !self.window.as_mut().is_some_and(|w| w.made(track, number)) {
            // Too late, or made twice by a restarted encoder.
            return;
        }
        state.segments += 1;
        let key = self.keys.segment(&state.name, segment.start);
        let size = segment.bytes.len() as u64;
        let placed = Placed { start: segment.start, duration: segment.duration, size, key, init };
        if let Some(j) = &mut self.recorder.journal {
            j.made(track, number, &placed);
        }
        let put = self.shelf.put(track, number, placed, segment.bytes, bytes);
        self.outputs.push_back(Output::Keep(put));
    }
}
