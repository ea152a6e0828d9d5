//! PES packets of one PID put together (ISO/IEC 13818-1, 2.4.3.6), bounded.

use mpeg2ts_reader::pes::{PesContents, PesHeader, PtsDts, Timestamp, TimestampError};

use super::Stats;

/// One PES packet's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pes {
    /// When what begins in it first is shown and decoded, 1/90000 s modulo 2^33; equal where only one is said.
    pub times: Option<(u64, u64)>,
    /// Bytes of the elementary stream.
    pub data: Vec<u8>,
    /// Something before it was lost.
    pub behind_hole: bool,
}

/// Bytes up to pes_packet_length and with it.
const FIXED: usize = 6;

/// The longest header: the fixed part, three bytes, and as many as a byte can count.
const MAX_HEADER: usize = FIXED + 3 + 255;

/// Puts packets together; holds at most its limit, and a header.
#[derive(Debug)]
pub(super) struct Assembler {
    limit: usize,
    /// What there is of the open one; `None` until one begins.
    open: Option<Vec<u8>>,
    hole: bool,
}

impl Assembler {
    /// No PES packet may have more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, open: None, hole: false }
    }

    /// A packet is missing: the open one is given up, and all up to the next beginning. A frame with a hole in it decodes to noise, and a picture with one
    /// to worse than the picture before it.
    pub fn hole(&mut self, stats: &mut Stats) {
        if self.open.take().is_some() {
            stats.lost_units += 1;
        }
        self.hole = true;
    }

    /// One packet's payload; `start`: a PES packet begins with it. Gives what is whole with it.
    pub fn push(&mut self, start: bool, payload: &[u8], stats: &mut Stats) -> [Option<Pes>; 2] {
        let before = if start { self.finish(stats) } else { None };
        if start {
            self.open = Some(Vec::with_capacity(payload.len()));
        }
        let Some(open) = &mut self.open else { return [before, None] };
        open.extend_from_slice(payload);
        if open.len() > self.limit.saturating_add(MAX_HEADER) {
            stats.oversized_units += 1;
            self.open = None;
            self.hole = true;
            return [before, None];
        }
        let whole = length(open).is_some_and(|length| open.len() >= length);
        [before, if whole { self.finish(stats) } else { None }]
    }

    /// What is open ends here: another one begins, or the stream is over. Only one whose length is not said can be whole then.
    pub fn finish(&mut self, stats: &mut Stats) -> Option<Pes> {
        let mut open = self.open.take()?;
        let said = length(&open);
        if said.is_some_and(|said| open.len() < said) {
            stats.lost_units += 1;
            self.hole = true;
            return None;
        }
        open.truncate(said.unwrap_or(open.len()));
        let pes = parse(&open).map(|(times, data)| Pes { times, data, behind_hole: std::mem::take(&mut self.hole) });
        if pes.is_none() {
            stats.broken_pes += 1;
            self.hole = true;
        }
        pes
    }
}

/// The whole length, where it is said and known yet.
fn length(open: &[u8]) -> Option<usize> {
    match open.get(4..FIXED)? {
        [0, 0] => None,
        said => said.try_into().ok().map(|said| FIXED + usize::from(u16::from_be_bytes(said))),
    }
}

/// Times and content.
type Parsed = (Option<(u64, u64)>, Vec<u8>);

fn parse(bytes: &[u8]) -> Option<Parsed> {
    let PesContents::Parsed(Some(contents)) = PesHeader::from_bytes(bytes)?.contents() else { return None };
    let value = |t: Result<Timestamp, TimestampError>| t.ok().map(Timestamp::value);
    let times = match contents.pts_dts() {
        Ok(PtsDts::PtsOnly(pts)) => value(pts).map(|pts| (pts, pts)),
        // A decode time that cannot be read: the other one is the better guess than none.
        Ok(PtsDts::Both { pts, dts }) => value(pts).map(|pts| (pts, value(dts).unwrap_or(pts))),
        _ => None,
    };
    Some((times, contents.payload().to_vec()))
}
