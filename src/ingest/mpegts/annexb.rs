//! H.264 access units out of a byte stream (ITU-T H.264, annex B): one in a PES packet, as nearly every sender has it, several, or one over several.

use std::collections::VecDeque;

use bytes::Bytes;
use h264_reader::nal::sps::{FrameMbsFlags, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

use super::pes::Pes;
use super::{Notes, Stats, ticks};
use crate::cmaf::h264;
use crate::logic::model::Coding;
use crate::logic::packet::Packet;

/// Access units that one PES packet may bring: half a second at 120 pictures a second. Two is what was ever seen.
const MAX_UNITS: usize = 60;

/// NAL units of an access unit. Level 6.2 has 600 slices a picture at the most in practice (A.3.1: macroblock rows of 8192x4352, times two fields).
const MAX_NALS: usize = 2048;

/// NAL unit types (table 7-1) that we take for something.
mod kind {
    pub const SLICE: u8 = 1;
    pub const PARTITION_A: u8 = 2;
    pub const IDR: u8 = 5;
    pub const SEI: u8 = 6;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const DELIMITER: u8 = 9;
    pub const END_OF_SEQUENCE: u8 = 10;
    pub const END_OF_STREAM: u8 = 11;
    pub const FILLER: u8 = 12;
}

/// How access units lie in PES packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Layout {
    /// The first one is kept until the second one has come.
    #[default]
    Unknown,
    /// Each PES packet begins with one and ends with one: what it brings is given out at once.
    Aligned,
    /// Anyhow: a unit ends where the next one begins.
    Joined,
}

/// The reader of one track. Between two calls it holds one access unit, at most `limit` bytes.
#[derive(Debug)]
pub(super) struct AnnexB {
    limit: usize,
    layout: Layout,
    /// Bytes that are not given out yet.
    bytes: Vec<u8>,
    /// Up to here start codes were looked for.
    scanned: usize,
    /// Start codes (their three bytes) from the open unit on.
    nals: VecDeque<usize>,
    /// NAL units of the open unit that were looked at.
    judged: usize,
    /// The open unit has a slice.
    slice: bool,
    /// Something was lost or began in its middle: nothing counts before the next unit begins.
    lost: bool,
    /// Where PES packets begin in `bytes`, with the times of what begins in them.
    stamps: VecDeque<(usize, Option<(u64, u64)>)>,
    /// Fields may be coded one by one: two of them are one access unit of ours, with one time.
    fields: bool,
    record: Option<Bytes>,
    /// Length of a picture by the parameter sets, 1/90000 s.
    picture: u64,
    /// Times of the last unit.
    last: Option<(u64, u64)>,
    units: usize,
}

impl AnnexB {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            layout: Layout::Unknown,
            bytes: Vec::new(),
            scanned: 0,
            nals: VecDeque::new(),
            judged: 0,
            slice: false,
            lost: false,
            stamps: VecDeque::new(),
            fields: false,
            record: None,
            picture: 3000,
            last: None,
            units: 0,
        }
    }

    pub fn push(&mut self, pes: Pes, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        if pes.data.is_empty() {
            return;
        }
        let begins = begins_unit(&pes.data);
        self.units = 0;
        match self.layout {
            Layout::Unknown if self.bytes.is_empty() => {
                if !begins {
                    self.join();
                    self.lost = true;
                }
            }
            Layout::Unknown if begins && self.ends_whole() => {
                self.layout = Layout::Aligned;
                self.split(true, out, stats, notes);
            }
            Layout::Aligned if begins => {}
            // The rest of something whose beginning is lost.
            Layout::Aligned if pes.behind_hole => {
                stats.lost_units += 1;
                return;
            }
            layout => {
                self.join();
                if pes.behind_hole {
                    self.forget();
                    self.lost = true;
                } else if layout == Layout::Aligned {
                    // The unit before went out without this.
                    stats.lost_units += 1;
                    self.lost = true;
                }
            }
        }
        // A packet without a unit's beginning says nothing, and one more of those must cost nothing.
        while self.stamps.get(1).is_some_and(|(at, _)| *at <= self.first()) {
            self.stamps.pop_front();
        }
        self.stamps.push_back((self.bytes.len(), pes.times));
        self.bytes.extend_from_slice(&pes.data);
        self.find_start_codes();
        if self.layout == Layout::Aligned && !self.has_slice() {
            // What stands in front of a picture, in a packet of its own.
            self.join();
        }
        match self.layout {
            Layout::Unknown => {}
            Layout::Aligned => self.split(true, out, stats, notes),
            Layout::Joined => self.split(false, out, stats, notes),
        }
        if self.bytes.len() > self.limit || self.nals.len() > MAX_NALS || self.stamps.len() > MAX_NALS {
            stats.oversized_units += 1;
            self.forget();
            self.lost = true;
        }
    }

    fn join(&mut self) {
        self.layout = Layout::Joined;
    }

    fn has_slice(&self) -> bool {
        self.nals.iter().any(|at| self.bytes.get(at + 3).is_some_and(|first| is_slice(first & 0x1f)))
    }

    /// What is there may be all of an access unit: it has a slice, and nothing behind the last one that stands in front of a picture. A packet that begins with a
    /// slice may be the rest of a unit whose delimiter ended the packet before.
    fn ends_whole(&self) -> bool {
        let kind = |at: &usize| self.bytes.get(at + 3).map_or(0, |first| first & 0x1f);
        let last = self.nals.iter().rev().map(kind).find(|kind| *kind != kind::FILLER);
        self.has_slice()
            && last.is_some_and(|k| {
                (kind::SLICE..=kind::IDR).contains(&k) || matches!(k, kind::END_OF_SEQUENCE | kind::END_OF_STREAM)
            })
    }

    /// Nothing more will come.
    pub fn finish(&mut self, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        self.units = 0;
        self.split(true, out, stats, notes);
    }

    fn forget(&mut self) {
        self.bytes.clear();
        self.nals.clear();
        self.stamps.clear();
        (self.scanned, self.judged, self.slice) = (0, 0, false);
    }

    fn find_start_codes(&mut self) {
        let mut at = self.scanned;
        while let Some(three) = self.bytes.get(at..at + 3) {
            match three {
                [0, 0, 1] => {
                    self.nals.push_back(at);
                    at += 3;
                }
                // No start code can begin before such a byte's end.
                [_, _, 2..=255] => at += 3,
                _ => at += 1,
            }
        }
        self.scanned = at;
    }

    /// Gives out what is whole; `all`: nothing of it goes on in what comes next.
    fn split(&mut self, all: bool, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        while let Some(&begin) = self.nals.get(self.judged) {
            let Some(end) = self.nals.get(self.judged + 1).copied().or(all.then_some(self.bytes.len())) else { break };
            let nal = &self.bytes[begin + 3..end];
            let kind = nal.first().map_or(0, |first| first & 0x1f);
            if self.lost && !(kind == kind::DELIMITER || begins(nal, true, true)) {
                self.nals.pop_front();
                continue;
            }
            self.lost = false;
            if kind == kind::SPS
                && let Ok(sps) = SeqParameterSet::from_bits(RefNal::new(trimmed(nal), &[], true).rbsp_bits())
            {
                self.fields = matches!(sps.frame_mbs_flags, FrameMbsFlags::Fields { .. });
            }
            let parted = !self.fields || self.stamps.iter().any(|(at, _)| (self.first() + 1..=begin).contains(at));
            if parted && begins(nal, self.slice, self.judged > 0) {
                self.give(begin, out, stats, notes);
            }
            self.slice |= is_slice(kind);
            self.judged += 1;
        }
        if all {
            self.give(self.bytes.len(), out, stats, notes);
            self.forget();
        } else {
            self.compact();
        }
    }

    /// Where the open unit begins: a zero may stand before its start code (B.1.1, zero_byte).
    fn first(&self) -> usize {
        let Some(&first) = self.nals.front() else { return self.bytes.len() };
        let zero = first.checked_sub(1).filter(|&at| self.bytes[at] == 0);
        zero.unwrap_or(first)
    }

    /// What was given out goes. Once for each call, not for each unit: a megabyte of tiny units would be moved as often as there are of them.
    fn compact(&mut self) {
        let gone = self.first().min(self.scanned.saturating_sub(1));
        self.bytes.drain(..gone);
        self.scanned -= gone;
        self.nals.iter_mut().for_each(|at| *at -= gone);
        self.stamps.iter_mut().for_each(|(at, _)| *at = at.saturating_sub(gone));
    }

    /// The open unit ends at `end`.
    fn give(&mut self, end: usize, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        let first = self.first();
        let mut starts: Vec<usize> = self.nals.drain(..self.judged).collect();
        self.judged = 0;
        starts.push(end);
        // Its time is the one of the PES packet that it begins in, if it is the first to begin there.
        let mut time = None;
        while self.stamps.front().is_some_and(|(at, _)| *at <= first) {
            time = self.stamps.pop_front().and_then(|(_, time)| time);
        }
        if !std::mem::take(&mut self.slice) {
            return;
        }
        self.units += 1;
        if self.units > MAX_UNITS || starts.len() > MAX_NALS || end - first > self.limit {
            stats.oversized_units += 1;
            return;
        }
        let mut unit = Vec::with_capacity(end - first + 4 * starts.len());
        let mut key = false;
        for pair in starts.windows(2) {
            let nal = trimmed(&self.bytes[pair[0] + 3..pair[1]]);
            let Some(kind) = nal.first().map(|first| first & 0x1f) else { continue };
            key |= kind == kind::IDR;
            if !matches!(kind, kind::DELIMITER | kind::END_OF_SEQUENCE | kind::END_OF_STREAM | kind::FILLER) {
                // Bounded by `limit`, which fits.
                unit.extend((nal.len() as u32).to_be_bytes());
                unit.extend_from_slice(nal);
            }
        }
        self.configure(&mut unit, out, notes);
        if self.record.is_none() {
            stats.units_before_config += 1;
            return;
        }
        let Some((pts, dts)) = time.or_else(|| self.guess(stats)) else { return };
        self.last = Some((pts, dts));
        stats.video_units += 1;
        out.push(Packet::Video { time: ticks(dts), composition: composition(pts, dts), key, data: unit.into() });
    }

    /// The times of a unit that has none of its own: a picture behind the last.
    fn guess(&self, stats: &mut Stats) -> Option<(u64, u64)> {
        stats.untimed_units += 1;
        let (pts, dts) = self.last?;
        Some((pts.wrapping_add(self.picture), dts.wrapping_add(self.picture)))
    }

    /// Looks for parameter sets. New ones go before the unit as a configuration; those that say nothing new leave it, because a sample described by
    /// `avc1` has none (ISO/IEC 14496-15, 5.3.3).
    fn configure(&mut self, unit: &mut Vec<u8>, out: &mut Vec<Packet>, notes: &mut Notes) {
        let seen = match &self.record {
            Some(record) => h264::renewed(record, unit),
            None => h264::first_record(unit),
        };
        match seen {
            Ok(None) if self.record.is_some() => without_sets(unit),
            Ok(None) => {}
            Ok(Some(record)) => {
                if let Ok(format) = h264::read_record(&record, None) {
                    let (num, den) = (u64::from(format.fps.num).max(1), u64::from(format.fps.den));
                    self.picture = (den * 90_000 / num).clamp(1, 900_000);
                }
                out.push(Packet::VideoConfig(Coding::H264, record.clone()));
                self.record = Some(record);
            }
            Err(e) => notes.say(format!("parameter sets among the pictures are left alone: {e}")),
        }
    }
}

/// Without the zeros that may stand behind a NAL unit (B.1).
fn trimmed(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &nal[..end]
}

fn is_slice(kind: u8) -> bool {
    matches!(kind, kind::SLICE | kind::PARTITION_A | kind::IDR)
}

/// An access unit begins with this NAL unit (7.4.1.2.3 and 7.4.1.2.4, as far as first_mb_in_slice tells it). `slice`: the one before has a slice;
/// `any`: it has anything.
fn begins(nal: &[u8], slice: bool, any: bool) -> bool {
    match nal {
        [first, ..] if first & 0x1f == kind::DELIMITER => any,
        [first, second, ..] if is_slice(first & 0x1f) => slice && second & 0x80 != 0,
        [first, ..] => slice && matches!(first & 0x1f, kind::SEI | kind::SPS | kind::PPS | 14..=18),
        [] => false,
    }
}

/// `data` stands at an access unit's beginning.
fn begins_unit(data: &[u8]) -> bool {
    let zeros = data.iter().take_while(|&&byte| byte == 0).count();
    match data.get(zeros..) {
        Some([1, nal @ ..]) if zeros >= 2 => {
            nal.first().is_some_and(|first| first & 0x1f == kind::DELIMITER) || begins(nal, true, true)
        }
        _ => false,
    }
}

/// Takes SPS and PPS out of a unit of NAL units behind their lengths.
fn without_sets(unit: &mut Vec<u8>) {
    let has = h264::scan(unit).is_ok_and(|scan| scan.parameter_sets);
    if !has {
        return;
    }
    let mut kept = Vec::with_capacity(unit.len());
    let mut rest = unit.as_slice();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let Some((nal, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        if !nal.first().is_some_and(|first| matches!(first & 0x1f, kind::SPS | kind::PPS)) {
            kept.extend_from_slice(length);
            kept.extend_from_slice(nal);
        }
        rest = behind;
    }
    *unit = kept;
}

/// `pts - dts` modulo 2^33; 0 for what is further apart than 6 hours.
fn composition(pts: u64, dts: u64) -> i32 {
    const WRAP: u64 = 1 << 33;
    let ahead = pts.wrapping_sub(dts) % WRAP;
    let signed = if ahead < WRAP / 2 { i64::try_from(ahead) } else { i64::try_from(WRAP - ahead).map(|behind| -behind) };
    signed.ok().and_then(|ticks| i32::try_from(ticks).ok()).unwrap_or(0)
}
