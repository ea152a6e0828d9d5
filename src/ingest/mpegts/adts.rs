//! AAC frames out of ADTS (ISO/IEC 14496-3, 1.A.3.2): several in a PES packet, or one over several.

use std::collections::VecDeque;

use bytes::Bytes;

use super::pes::Pes;
use super::{Notes, Stats, ticks};
use crate::cmaf::aac;
use crate::logic::packet::Packet;

/// Without the CRC's two bytes.
const HEADER: usize = 7;

/// Samples per second by sampling_frequency_index (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Of the header itself, with its CRC.
    length: usize,
    /// Of the frame with its header.
    frame: usize,
    rate: u32,
    /// AudioSpecificConfig of two bytes.
    config: [u8; 2],
    /// channel_configuration; 0: in the frame itself.
    channels: u8,
    /// AAC frames in it.
    blocks: u64,
}

impl Header {
    fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        // syncword and layer
        if bytes[0] != 0xff || bytes[1] & 0xf6 != 0xf0 {
            return None;
        }
        let length = if bytes[1] & 1 == 1 { HEADER } else { HEADER + 2 };
        let (object_type, index) = ((bytes[2] >> 6) + 1, bytes[2] >> 2 & 0x0f);
        let rate = *RATES.get(usize::from(index))?;
        let channels = (bytes[2] & 1) << 2 | bytes[3] >> 6;
        let frame = usize::from(bytes[3] & 3) << 11 | usize::from(bytes[4]) << 3 | usize::from(bytes[5] >> 5);
        let config = [object_type << 3 | index >> 1, (index & 1) << 7 | channels << 3];
        let blocks = u64::from(bytes[6] & 3) + 1;
        (frame > length).then_some(Self { length, frame, rate, config, channels, blocks })
    }
}

/// The reader of one track. Holds less than a frame between two calls.
#[derive(Debug, Default)]
pub(super) struct Adts {
    rest: Vec<u8>,
    last: Option<Header>,
    /// The last place was a frame's end.
    synced: bool,
    /// Where PES packets with a time begin in `rest`, and those times: each is that of the first frame that begins behind it.
    stamps: VecDeque<(usize, u64)>,
    /// A frame's time, and how many AAC frames began since.
    anchor: Option<(u64, u64)>,
    sent: Option<[u8; 2]>,
}

impl Adts {
    pub fn push(&mut self, pes: Pes, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        if pes.behind_hole {
            self.rest.clear();
            self.stamps.clear();
            self.synced = false;
        }
        if let Some((pts, _)) = pes.times {
            self.stamps.retain(|(at, _)| *at != self.rest.len());
            self.stamps.push_back((self.rest.len(), pts));
        }
        self.rest.extend_from_slice(&pes.data);
        let rest = std::mem::take(&mut self.rest);
        let mut at = 0;
        while let Some(bytes) = rest[at..].first_chunk::<HEADER>() {
            let Some(header) = Header::read(bytes).filter(|h| self.believes(h, &rest[at..])) else {
                at += 1;
                stats.skipped_audio_bytes += 1;
                self.synced = false;
                continue;
            };
            let Some(frame) = rest[at..].get(..header.frame) else { break };
            while let Some((_, time)) = self.stamps.pop_front_if(|(begins, _)| *begins <= at) {
                self.anchor = Some((time, 0));
            }
            self.frame(&header, &frame[header.length..], out, stats, notes);
            (self.last, self.synced) = (Some(header), true);
            at += header.frame;
        }
        // A lone header's beginning, or a frame's: at most 8191 bytes, so as many stamps.
        self.stamps.iter_mut().for_each(|(begins, _)| *begins = begins.saturating_sub(at));
        self.rest = rest[at..].to_vec();
    }

    /// Behind a frame's end any header is one. Elsewhere the bytes may be content: the frame must be followed by another one, or by nothing yet.
    fn believes(&self, header: &Header, rest: &[u8]) -> bool {
        if self.synced {
            return true;
        }
        match rest.get(header.frame..).and_then(|behind| behind.first_chunk::<HEADER>()) {
            Some(next) => Header::read(next).is_some_and(|next| next.rate == header.rate),
            None => self.last.is_none_or(|last| last.rate == header.rate),
        }
    }

    fn frame(&mut self, header: &Header, data: &[u8], out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        let Some((anchor, began)) = &mut self.anchor else {
            stats.untimed_units += 1;
            return;
        };
        let since = *began * aac::FRAME.unsigned_abs() * 90_000 / u64::from(header.rate);
        let time = ticks(anchor.wrapping_add(since));
        *began = began.saturating_add(header.blocks);
        if header.blocks > 1 {
            return notes
                .say("AAC with several raw data blocks in an ADTS frame is not supported; such frames are left out".into());
        }
        if header.channels == 0 {
            return notes
                .say("AAC whose channels a program config element names is not supported over MPEG-TS; it is left out".into());
        }
        if self.sent != Some(header.config) {
            self.sent = Some(header.config);
            out.push(Packet::AudioConfig(Bytes::copy_from_slice(&header.config)));
        }
        stats.audio_frames += 1;
        out.push(Packet::Audio { time, data: Bytes::copy_from_slice(data) });
    }
}
