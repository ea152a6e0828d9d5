//! Program tables: sections put together, checked, and read as plain data (ISO/IEC 13818-1, 2.4.4).

use mpeg2ts_reader::descriptor::{Descriptor, DescriptorError};
use mpeg2ts_reader::psi::pat::{PatSection, ProgramDescriptor};
use mpeg2ts_reader::psi::pmt::PmtSection;
use mpeg2ts_reader::psi::{CurrentNext, SectionCommonHeader, TableSyntaxHeader};
use mpeg2ts_reader::{StreamType, mpegts_crc};

use super::Stats;
use crate::logic::model::Coding;

/// Longest section of a PAT or PMT, with its first three bytes (2.4.4.3: section_length is at most 1021).
const MAX_SECTION: usize = 1024;

/// In front of the table's own content, and the CRC behind it.
const HEAD: usize = SectionCommonHeader::SIZE + TableSyntaxHeader::SIZE;
const CRC: usize = 4;

/// Programs of a stream that are looked at. A multiplex off a satellite has about 10; an encoder sends one.
const MAX_PROGRAMS: usize = 16;

/// Elementary streams of a program that are looked at.
const MAX_STREAMS: usize = 32;

/// Puts the sections of one PID together; holds [`MAX_SECTION`] and one packet at the most.
#[derive(Debug, Default)]
pub(super) struct Sections {
    kept: Vec<u8>,
    collecting: bool,
}

impl Sections {
    /// A packet is missing.
    pub fn hole(&mut self) {
        self.kept.clear();
        self.collecting = false;
    }

    /// One packet's payload; gives what is whole and whose CRC is right.
    pub fn push(&mut self, start: bool, payload: &[u8], stats: &mut Stats) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        let mut payload = payload;
        if start {
            let Some((&pointer, behind)) = payload.split_first() else { return whole };
            let Some((end, begin)) = behind.split_at_checked(pointer.into()) else {
                stats.broken_sections += 1;
                self.hole();
                return whole;
            };
            if self.collecting {
                self.kept.extend_from_slice(end);
                self.take(&mut whole, stats);
            }
            self.hole();
            self.collecting = true;
            payload = begin;
        }
        if self.collecting {
            self.kept.extend_from_slice(payload);
            self.take(&mut whole, stats);
        }
        whole
    }

    fn take(&mut self, whole: &mut Vec<Vec<u8>>, stats: &mut Stats) {
        while let &[table, high, low, ..] = &self.kept[..] {
            let length = SectionCommonHeader::SIZE + usize::from(u16::from_be_bytes([high & 0x0f, low]));
            if table == 0xff {
                return self.hole();
            }
            if length > MAX_SECTION {
                stats.broken_sections += 1;
                return self.hole();
            }
            if self.kept.len() < length {
                return;
            }
            let section: Vec<u8> = self.kept.drain(..length).collect();
            // Bit 7: there is a head with a version and a CRC at all.
            if length >= HEAD + CRC && high & 0x80 != 0 && mpegts_crc::sum32(&section) == 0 {
                whole.push(section);
            } else {
                stats.broken_sections += 1;
            }
        }
    }
}

/// The number in the head and the content of a section that is in force.
fn content(section: &[u8], table: u8) -> Option<(u16, &[u8])> {
    let head = TableSyntaxHeader::new(section.get(SectionCommonHeader::SIZE..HEAD)?);
    let wanted = section[0] == table && head.current_next_indicator() == CurrentNext::Current && head.section_number() == 0;
    let end = section.len().checked_sub(CRC)?;
    Some((head.id(), section.get(HEAD..end)?)).filter(|_| wanted)
}

/// Program numbers and the PIDs of their maps, in the table's order; `None` for another table or one that is announced for later.
pub(super) fn pat(section: &[u8]) -> Option<Vec<(u16, u16)>> {
    let (_, content) = content(section, 0)?;
    let whole = &content[..content.len() - content.len() % 4];
    let program = |p| match p {
        ProgramDescriptor::Program { program_number, pid } => Some((program_number, pid.into())),
        ProgramDescriptor::Network { .. } => None,
    };
    Some(PatSection::new(whole).programs().filter_map(program).take(MAX_PROGRAMS).collect())
}

/// What an elementary stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// H.264 or HEVC as Annex B (ISO/IEC 13818-1, 2.14 and 2.17).
    Video(Coding),
    /// AAC in ADTS frames.
    Aac,
    /// Pictures of another kind, by name.
    OtherVideo(&'static str),
    /// Sound of another kind, by name.
    OtherAudio(&'static str),
    /// Neither.
    Data(&'static str),
}

impl Media {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Media::Video(Coding::H264) => "H.264 video",
            Media::Video(Coding::Hevc) => "HEVC video",
            Media::Video(Coding::Av1) => "AV1 video",
            Media::Aac => "AAC audio",
            Media::OtherVideo(name) | Media::OtherAudio(name) | Media::Data(name) => name,
        }
    }
}

/// One elementary stream of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elementary {
    /// Where its packets are.
    pub pid: u16,
    /// What it holds.
    pub media: Media,
    /// ISO 639-2 code of its first language (ISO_639_language_descriptor), three lower-case letters.
    pub language: Option<String>,
}

/// A program map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub program: u16,
    pub pcr_pid: u16,
    pub streams: Vec<Elementary>,
}

/// A program map; `None` for another table, one that is announced for later, or one that is broken.
pub(super) fn pmt(section: &[u8]) -> Option<Map> {
    let (program, content) = content(section, 2)?;
    let map = PmtSection::from_bytes(content).ok()?;
    let streams = map.streams().take(MAX_STREAMS).map(|stream| {
        let descriptors: Vec<Tagged> = stream.descriptors::<Tagged>().map_while(Result::ok).collect();
        Elementary {
            pid: stream.elementary_pid().into(),
            media: media(stream.stream_type(), &descriptors),
            language: descriptors.iter().find(|d| d.tag == ISO_639_LANGUAGE).and_then(|d| language(d.content)),
        }
    });
    Some(Map { program, pcr_pid: map.pcr_pid().into(), streams: streams.collect() })
}

/// A descriptor as it stands there.
struct Tagged<'a> {
    tag: u8,
    content: &'a [u8],
}

impl<'a> Descriptor<'a> for Tagged<'a> {
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, DescriptorError> {
        let short = DescriptorError::BufferTooShort { buflen: bytes.len() };
        let Some((&[tag, length], behind)) = bytes.split_first_chunk() else { return Err(short) };
        let content = behind.get(..usize::from(length)).ok_or(short)?;
        Ok(Self { tag, content })
    }
}

/// Descriptor tags: ISO/IEC 13818-1, table 2-45; from 0x40 on EN 300 468, table 12.
const REGISTRATION: u8 = 0x05;
const ISO_639_LANGUAGE: u8 = 0x0a;
const DVB_TELETEXT: u8 = 0x56;
const DVB_SUBTITLES: u8 = 0x59;
const DVB_AC3: u8 = 0x6a;
const DVB_EAC3: u8 = 0x7a;
const DVB_DTS: u8 = 0x7b;
const DVB_AAC: u8 = 0x7c;

fn language(content: &[u8]) -> Option<String> {
    let code = content.get(..3)?;
    let text = String::from_utf8(code.to_ascii_lowercase()).ok()?;
    Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_lowercase()))
}

/// By stream_type (ISO/IEC 13818-1, table 2-34; above 0x7f ATSC A/53 and what Blu-ray uses), and by descriptors where that says nothing.
fn media(kind: StreamType, descriptors: &[Tagged]) -> Media {
    match kind.0 {
        0x01 => Media::OtherVideo("MPEG-1 video"),
        0x02 => Media::OtherVideo("MPEG-2 video"),
        0x03 | 0x04 => Media::OtherAudio("MPEG audio (MP2, MP3)"),
        0x0f => Media::Aac,
        0x10 => Media::OtherVideo("MPEG-4 Part 2 video"),
        0x11 => Media::OtherAudio("AAC in LATM"),
        0x1b => Media::Video(Coding::H264),
        0x24 => Media::Video(Coding::Hevc),
        0x32 => Media::OtherVideo("JPEG XS video"),
        0x33 => Media::OtherVideo("VVC video"),
        0x42 | 0xd2 | 0xd4 => Media::OtherVideo("AVS video"),
        0x81 => Media::OtherAudio("AC-3 audio"),
        0x82 | 0x85 | 0x8a => Media::OtherAudio("DTS audio"),
        0x84 | 0x87 => Media::OtherAudio("E-AC-3 audio"),
        0xd1 => Media::OtherVideo("Dirac video"),
        0xea => Media::OtherVideo("VC-1 video"),
        0x06 => private(descriptors),
        _ => Media::Data("data"),
    }
}

fn private(descriptors: &[Tagged]) -> Media {
    for d in descriptors {
        match (d.tag, d.content) {
            (REGISTRATION, [b'O', b'p', b'u', b's', ..]) => return Media::OtherAudio("Opus audio"),
            (REGISTRATION, [b'A', b'C', b'-', b'3', ..]) | (DVB_AC3, _) => return Media::OtherAudio("AC-3 audio"),
            (REGISTRATION, [b'E', b'A', b'C', b'3', ..]) | (DVB_EAC3, _) => return Media::OtherAudio("E-AC-3 audio"),
            (REGISTRATION, [b'D', b'T', b'S', ..]) | (DVB_DTS, _) => return Media::OtherAudio("DTS audio"),
            (REGISTRATION, [b'B', b'S', b'S', b'D', ..]) => return Media::OtherAudio("SMPTE 302M audio"),
            (REGISTRATION, [b'H', b'E', b'V', b'C', ..]) => return Media::Video(Coding::Hevc),
            (REGISTRATION, [b'A', b'V', b'0', b'1', ..]) => return Media::OtherVideo("AV1 video"),
            (REGISTRATION, [b'V', b'P', b'0', b'9', ..]) => return Media::OtherVideo("VP9 video"),
            (DVB_AAC, _) => return Media::OtherAudio("AAC in LATM"),
            (DVB_TELETEXT, _) => return Media::Data("teletext"),
            (DVB_SUBTITLES, _) => return Media::Data("DVB subtitles"),
            _ => {}
        }
    }
    Media::Data("private data")
}
