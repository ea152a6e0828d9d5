//! MPEG-TS (ISO/IEC 13818-1) to packets. Pure: bytes in, packets out, and everything that was wrong counted. Knows no sockets, clocks or logs.
//!
//! Packet headers, tables and PES headers are read by `mpeg2ts-reader`; finding packets in bytes, their continuity, and the bounds of everything that waits are
//! ours. Takes the first program that has H.264 or HEVC video (or AAC audio, where none has video), its first video track, and its first AAC track.
//!
//! What is wrong in a stream costs what it touches: a PES packet with a hole in it, a frame whose header is none. Only a stream that nothing can be made
//! of is an [`Error`].

mod adts;
mod annexb;
mod continuity;
mod nal;
mod pes;
mod psi;
mod sync;

use mpeg2ts_reader::packet::Packet as Transport;

use self::adts::Adts;
use self::annexb::AnnexB;
use self::continuity::{Continuity, Follows};
use self::pes::{Assembler, Pes};
use self::psi::{Map, Sections};
use self::sync::Sync;
use crate::blame::Blame;
use crate::ingest::Refusal;
use crate::logic::packet::{Clock, Packet};

pub use self::psi::{Elementary, Media};

/// Bounds of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest access unit or PES packet, bytes. Default 8 MiB, as of RTMP's messages ([`super::rtmp::Limits::message_bytes`]).
    pub unit_bytes: usize,
    /// Bytes until a program must have been found. Default 4 MiB: tables come ten times a second (ETSI TR 101 290 asks for two), and 4 MiB are 4 s of
    /// 8 Mbit/s, or 1 s of the fastest streams.
    pub bytes_before_program: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unit_bytes: 8 << 20, bytes_before_program: 4 << 20 }
    }
}

/// The stream cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Pictures (or, where there are none, sound) of a kind that nothing here takes.
    #[error("{codecs} over MPEG-TS is not supported: send H.264 or HEVC video and AAC audio (ADTS)")]
    Unsupported {
        /// Their names.
        codecs: String,
    },
    /// A program without pictures or sound.
    #[error("the MPEG-TS program has neither video nor audio")]
    Empty,
    /// Its packets are encrypted.
    #[error("scrambled MPEG-TS is not supported: send it in the clear, or with an SRT passphrase")]
    Scrambled,
    /// No tables.
    #[error("no MPEG-TS program in the first {bytes} bytes")]
    NoProgram {
        /// Read so far.
        bytes: u64,
    },
}

impl Error {
    /// Always the publisher.
    pub const fn blame(&self) -> Blame {
        Blame::Publisher
    }

    /// What the publisher is told.
    pub fn refusal(&self) -> Refusal {
        Refusal { code: Refusal::REJECTED, reason: self.to_string() }
    }
}

/// What was seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Transport packets.
    pub packets: u64,
    /// Bytes between packets that belong to none.
    pub garbage_bytes: u64,
    /// Times that a packet did not stand where one was expected.
    pub resyncs: u64,
    /// Packets whose sender says that they are broken (transport_error_indicator).
    pub error_packets: u64,
    /// Holes in a continuity counter of a track or a table: at least one packet is missing at each.
    pub continuity_errors: u64,
    /// Packets that came twice, which is lawful.
    pub duplicates: u64,
    /// Scrambled packets of a track.
    pub scrambled: u64,
    /// Sections of tables that were too long or whose CRC was wrong.
    pub broken_sections: u64,
    /// Times that the program became another one in mid-stream.
    pub program_changes: u64,
    /// Steps of the program clock back, or of over a second ahead, that were not announced.
    pub pcr_jumps: u64,
    /// PES packets whose header is none.
    pub broken_pes: u64,
    /// PES packets that were given up because a part of them is missing.
    pub lost_units: u64,
    /// Access units or PES packets over their limits, given up.
    pub oversized_units: u64,
    /// Access units and frames without a time of their own.
    pub untimed_units: u64,
    /// Access units before the first parameter sets.
    pub units_before_config: u64,
    /// Bytes of an audio track that belong to no frame.
    pub skipped_audio_bytes: u64,
    /// Access units given out.
    pub video_units: u64,
    /// Audio frames given out.
    pub audio_frames: u64,
}

/// Sentences for the log: each once, and not without end.
#[derive(Debug, Default)]
struct Notes {
    said: Vec<String>,
    new: Vec<String>,
}

/// Different sentences about one stream. Tables that name another set of codecs each time must not fill a log.
const MAX_NOTES: usize = 32;

impl Notes {
    fn say(&mut self, text: String) {
        if self.said.len() < MAX_NOTES && !self.said.contains(&text) {
            self.said.push(text.clone());
            self.new.push(text);
        }
    }
}

/// Scrambled packets in a row that are no accident.
const SCRAMBLED: u64 = 64;

/// PIDs with a meaning of their own.
const PAT: u16 = 0;

/// The program clock's wrap, and how far it may step: it comes ten times a second (ISO/IEC 13818-1, 2.7.2), and senders pause.
const PCR_WRAP: u64 = 1 << 33;
const PCR_STEP: u64 = 90_000;

/// The packet's own tables.
#[derive(Debug, Default)]
struct Table {
    pid: u16,
    continuity: Continuity,
    sections: Sections,
}

/// A program of the PAT.
#[derive(Debug)]
struct Program {
    number: u16,
    table: Table,
    map: Option<Map>,
}

/// An elementary stream that is taken.
#[derive(Debug)]
struct Track<R> {
    pid: u16,
    continuity: Continuity,
    pes: Assembler,
    reader: R,
    scrambled: u64,
}

impl<R> Track<R> {
    fn new(pid: u16, limits: &Limits, reader: R) -> Self {
        let pes = Assembler::new(limits.unit_bytes);
        Self { pid, continuity: Continuity::default(), pes, reader, scrambled: 0 }
    }

    /// One packet of the track; what is whole with it.
    fn take(&mut self, packet: &Transport<'_>, stats: &mut Stats) -> Result<[Option<Pes>; 2], Error> {
        let Some(payload) = packet.payload() else { return Ok([None, None]) };
        let anew = packet.adaptation_field().is_some_and(|field| field.discontinuity_indicator());
        let start = packet.payload_unit_start_indicator();
        match self.continuity.push(packet.continuity_counter().count(), payload, anew) {
            Follows::Yes => {}
            // What was open is whole if the next begins here.
            Follows::Anew if start => {}
            Follows::Anew => self.pes.hole(stats),
            Follows::Again => {
                stats.duplicates += 1;
                return Ok([None, None]);
            }
            Follows::Hole => {
                stats.continuity_errors += 1;
                self.pes.hole(stats);
            }
        }
        if packet.transport_scrambling_control().is_scrambled() {
            stats.scrambled += 1;
            self.scrambled += 1;
            self.pes.hole(stats);
            return if self.scrambled < SCRAMBLED { Ok([None, None]) } else { Err(Error::Scrambled) };
        }
        self.scrambled = 0;
        Ok(self.pes.push(start, payload, stats))
    }
}

/// The program that is taken.
#[derive(Debug)]
struct Chosen {
    number: u16,
    map: Map,
    video: Option<Track<AnnexB>>,
    audio: Option<Track<Adts>>,
    pcr: Option<u64>,
}

/// One stream's demultiplexer. Holds one PES packet and one access unit of each of its two tracks, each at most [`Limits::unit_bytes`] long, and at most 16 tables.
#[derive(Debug)]
pub struct Demux {
    limits: Limits,
    sync: Sync,
    pat: Table,
    programs: Vec<Program>,
    chosen: Option<Chosen>,
    bytes: u64,
    clock_said: bool,
    stats: Stats,
    notes: Notes,
}

impl Demux {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sync: Sync::default(),
            pat: Table { pid: PAT, ..Table::default() },
            programs: Vec::new(),
            chosen: None,
            bytes: 0,
            clock_said: false,
            stats: Stats::default(),
            notes: Notes::default(),
        }
    }

    /// Takes bytes as they came, cut anyhow, and adds to `out` what they complete. The first packet is [`Packet::Clock`].
    ///
    /// # Errors
    /// [`Error`] when the stream cannot be taken. What was added to `out` before is good, and calling again makes no sense.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Packet>) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.sync.push(bytes);
        while let Some(packet) = self.sync.next(&mut self.stats) {
            if let Some(packet) = Transport::try_new(&packet) {
                self.packet(&packet, out)?;
            }
        }
        if self.chosen.is_none() && self.bytes > self.limits.bytes_before_program {
            // Programs whose maps do not come are none.
            self.programs.retain(|program| program.map.is_some());
            self.choose(out)?;
            if self.chosen.is_none() {
                return Err(Error::NoProgram { bytes: self.bytes });
            }
        }
        Ok(())
    }

    /// The stream is over: gives out what waits for its successor.
    pub fn finish(&mut self, out: &mut Vec<Packet>) {
        if let Some(chosen) = &mut self.chosen {
            chosen.end(out, &mut self.stats, &mut self.notes);
        }
    }

    /// What was seen so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sentences for the log that are new: tracks that are left out and why.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes.new)
    }

    /// The elementary streams of the program that is taken, in its map's order; none before it is known.
    pub fn streams(&self) -> &[Elementary] {
        self.chosen.as_ref().map_or(&[], |chosen| &chosen.map.streams)
    }

    /// PIDs of the video and the audio track that are taken.
    pub fn taken(&self) -> (Option<u16>, Option<u16>) {
        let chosen = self.chosen.as_ref();
        let video = chosen.and_then(|c| c.video.as_ref()).map(|t| t.pid);
        (video, chosen.and_then(|c| c.audio.as_ref()).map(|t| t.pid))
    }

    fn packet(&mut self, packet: &Transport<'_>, out: &mut Vec<Packet>) -> Result<(), Error> {
        self.stats.packets += 1;
        if packet.transport_error_indicator() {
            self.stats.error_packets += 1;
            return Ok(());
        }
        let pid = u16::from(packet.pid());
        if pid == PAT {
            for section in self.pat.take(packet, &mut self.stats) {
                if let Some(listed) = psi::pat(&section) {
                    self.list(listed, out)?;
                }
            }
            return Ok(());
        }
        if let Some(chosen) = &mut self.chosen {
            chosen.clock(pid, packet, &mut self.stats);
            if chosen.track(pid, packet, out, &mut self.stats, &mut self.notes)? {
                return Ok(());
            }
        }
        let mut maps = Vec::new();
        for program in self.programs.iter_mut().filter(|p| p.table.pid == pid) {
            let sections = program.table.take(packet, &mut self.stats);
            maps.extend(sections.iter().filter_map(|s| psi::pmt(s)).filter(|m| m.program == program.number));
        }
        for map in maps {
            self.map(map, out)?;
        }
        Ok(())
    }

    /// A PAT.
    fn list(&mut self, listed: Vec<(u16, u16)>, out: &mut Vec<Packet>) -> Result<(), Error> {
        let known = |p: &Program| (p.number, p.table.pid);
        if self.programs.iter().map(known).eq(listed.iter().copied()) {
            return Ok(());
        }
        let mut before = std::mem::take(&mut self.programs);
        for entry in listed {
            let program = before.iter().position(|p| known(p) == entry).map(|at| before.swap_remove(at));
            let (number, pid) = entry;
            let table = Table { pid, ..Table::default() };
            self.programs.push(program.unwrap_or(Program { number, table, map: None }));
        }
        let gone = |chosen: &Chosen| !self.programs.iter().any(|p| p.number == chosen.number);
        if self.chosen.as_ref().is_some_and(gone) {
            self.finish(out);
            self.chosen = None;
            self.stats.program_changes += 1;
            // The new one has as long as the first one had.
            self.bytes = 0;
        }
        self.choose(out)
    }

    /// A program map.
    fn map(&mut self, map: Map, out: &mut Vec<Packet>) -> Result<(), Error> {
        let Some(program) = self.programs.iter_mut().find(|p| p.number == map.program) else { return Ok(()) };
        if program.map.as_ref() == Some(&map) {
            return Ok(());
        }
        program.map = Some(map.clone());
        match &mut self.chosen {
            Some(chosen) if chosen.number == map.program => {
                self.stats.program_changes += 1;
                chosen.change(map, &self.limits, out, &mut self.stats, &mut self.notes);
                self.judge()
            }
            Some(_) => Ok(()),
            None => self.choose(out),
        }
    }

    /// Takes the first program with video as soon as those before it are known to have none; one with sound alone if none has.
    fn choose(&mut self, out: &mut Vec<Packet>) -> Result<(), Error> {
        if self.chosen.is_some() {
            return Ok(());
        }
        let has_video = |map: &Map| map.streams.iter().any(|s| matches!(s.media, Media::Video(_)));
        let has_audio = |map: &Map| map.streams.iter().any(|s| s.media == Media::Aac);
        let mut pick = None;
        for program in &self.programs {
            // The table is still to come.
            let Some(map) = &program.map else { return Ok(()) };
            if has_video(map) {
                pick = Some(map);
                break;
            }
        }
        let sound = |p: &&Map| has_audio(p) && !p.streams.iter().any(|s| matches!(s.media, Media::OtherVideo(_)));
        let maps = || self.programs.iter().filter_map(|p| p.map.as_ref());
        let Some(map) = pick.or_else(|| maps().find(sound)).or_else(|| maps().next()).cloned() else { return Ok(()) };
        if !std::mem::replace(&mut self.clock_said, true) {
            out.push(Packet::Clock(Clock::Ticks90k));
        }
        if self.programs.len() > 1 {
            self.notes.say(format!("program {} of {} is taken", map.program, self.programs.len()));
        }
        let empty = Map { streams: Vec::new(), ..map.clone() };
        let mut chosen = Chosen { number: map.program, map: empty, video: None, audio: None, pcr: None };
        chosen.change(map, &self.limits, out, &mut self.stats, &mut self.notes);
        self.chosen = Some(chosen);
        self.judge()
    }

    /// Is there anything in the program that can be taken?
    fn judge(&self) -> Result<(), Error> {
        let Some(chosen) = &self.chosen else { return Ok(()) };
        let others = |wanted: fn(Media) -> bool| {
            let names: Vec<&str> = chosen.map.streams.iter().filter(|s| wanted(s.media)).map(|s| s.media.name()).collect();
            names.join(", ")
        };
        let video = others(|m| matches!(m, Media::OtherVideo(_)));
        if chosen.video.is_none() && !video.is_empty() {
            // Sound without the pictures that belong to it is not what the streamer wants.
            return Err(Error::Unsupported { codecs: video });
        }
        if chosen.video.is_some() || chosen.audio.is_some() {
            return Ok(());
        }
        let audio = others(|m| matches!(m, Media::OtherAudio(_)));
        Err(if audio.is_empty() { Error::Empty } else { Error::Unsupported { codecs: audio } })
    }
}

impl Table {
    fn take(&mut self, packet: &Transport<'_>, stats: &mut Stats) -> Vec<Vec<u8>> {
        let Some(payload) = packet.payload() else { return Vec::new() };
        let anew = packet.adaptation_field().is_some_and(|field| field.discontinuity_indicator());
        match self.continuity.push(packet.continuity_counter().count(), payload, anew) {
            Follows::Yes => {}
            Follows::Anew => self.sections.hole(),
            Follows::Again => {
                stats.duplicates += 1;
                return Vec::new();
            }
            Follows::Hole => {
                stats.continuity_errors += 1;
                self.sections.hole();
            }
        }
        self.sections.push(packet.payload_unit_start_indicator(), payload, stats)
    }
}

impl Chosen {
    /// A packet of one of its tracks; `false` if it is of none.
    fn track(
        &mut self,
        pid: u16,
        packet: &Transport<'_>,
        out: &mut Vec<Packet>,
        stats: &mut Stats,
        notes: &mut Notes,
    ) -> Result<bool, Error> {
        if let Some(track) = self.video.as_mut().filter(|t| t.pid == pid) {
            for pes in track.take(packet, stats)?.into_iter().flatten() {
                track.reader.push(pes, out, stats, notes);
            }
            return Ok(true);
        }
        if let Some(track) = self.audio.as_mut().filter(|t| t.pid == pid) {
            for pes in track.take(packet, stats)?.into_iter().flatten() {
                track.reader.push(pes, out, stats, notes);
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Looks at the program clock, for the statistics alone: what is done at a jump is decided by the times of pictures and sound.
    fn clock(&mut self, pid: u16, packet: &Transport<'_>, stats: &mut Stats) {
        if pid != self.map.pcr_pid {
            return;
        }
        let Some(field) = packet.adaptation_field() else { return };
        let Ok(pcr) = field.pcr() else { return };
        let before = self.pcr.replace(pcr.base());
        let step = before.map(|before| pcr.base().wrapping_sub(before) % PCR_WRAP);
        if step.is_some_and(|step| step > PCR_STEP) && !field.discontinuity_indicator() {
            stats.pcr_jumps += 1;
        }
    }

    /// The program has another map. Tracks that stay where they were go on.
    fn change(&mut self, map: Map, limits: &Limits, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        let video = map.streams.iter().find_map(|s| match s.media {
            Media::Video(coding) => Some((s.pid, coding)),
            _ => None,
        });
        let audio = map.streams.iter().find(|s| s.media == Media::Aac).map(|s| s.pid);
        if self.video.as_ref().map(|t| (t.pid, t.reader.coding())) != video {
            self.end_video(out, stats, notes);
            self.video = video.map(|(pid, coding)| Track::new(pid, limits, AnnexB::new(coding, limits.unit_bytes)));
        }
        if self.audio.as_ref().map(|t| t.pid) != audio {
            self.end_audio(out, stats, notes);
            self.audio = audio.map(|pid| Track::new(pid, limits, Adts::default()));
        }
        if map.pcr_pid != self.map.pcr_pid {
            self.pcr = None;
        }
        for stream in &map.streams {
            let named = stream.language.as_ref().map_or(String::new(), |l| format!(" ({l})"));
            match stream.media {
                Media::Video(_) if Some(stream.pid) != video.map(|v| v.0) => {
                    notes.say("a second video track is left out".into())
                }
                Media::Aac if Some(stream.pid) != audio => notes.say(format!("a second audio track{named} is left out")),
                Media::OtherVideo(codec) | Media::OtherAudio(codec) => {
                    notes.say(format!("{codec}{named} is not supported, and left out"))
                }
                Media::Video(_) | Media::Aac | Media::Data(_) => {}
            }
        }
        self.map = map;
    }

    fn end(&mut self, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        self.end_video(out, stats, notes);
        self.end_audio(out, stats, notes);
    }

    fn end_video(&mut self, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        let Some(mut track) = self.video.take() else { return };
        if let Some(pes) = track.pes.finish(stats) {
            track.reader.push(pes, out, stats, notes);
        }
        track.reader.finish(out, stats, notes);
    }

    fn end_audio(&mut self, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        let Some(mut track) = self.audio.take() else { return };
        if let Some(pes) = track.pes.finish(stats) {
            track.reader.push(pes, out, stats, notes);
        }
    }
}

/// A time of 33 bits as [`Packet`] has them.
fn ticks(time: u64) -> u32 {
    // The remainder by 2^32: `Clock::Ticks90k`.
    time as u32
}

#[cfg(test)]
mod tests;
