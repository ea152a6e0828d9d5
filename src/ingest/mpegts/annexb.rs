//! Access units of H.264 or HEVC out of a byte stream (annex B of ITU-T H.264 and of ITU-T H.265): one in a PES packet, as nearly every sender has it, several, or
//! one over several.

use std::collections::VecDeque;

use bytes::Bytes;
use h264_reader::nal::sps::{FrameMbsFlags, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

use super::nal::Role;
use super::pes::Pes;
use super::{Notes, Stats, ticks};
use crate::cmaf::video;
use crate::logic::model::Coding;
use crate::logic::packet::Packet;

/// Access units that one PES packet may bring: half a second at 120 pictures a second. Two is what was ever seen.
const MAX_UNITS: usize = 60;

/// NAL units of an access unit. Level 6.2 has 600 slices a picture at the most in practice (A.3.1: macroblock rows of 8192x4352, times two fields).
const MAX_NALS: usize = 2048;

/// nal_unit_type of a sequence parameter set of H.264.
const SPS: u8 = 7;

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
    coding: Coding,
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
    pub fn new(coding: Coding, limit: usize) -> Self {
        Self {
            coding,
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

    /// How its pictures are coded.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    pub fn push(&mut self, pes: Pes, out: &mut Vec<Packet>, stats: &mut Stats, notes: &mut Notes) {
        if pes.data.is_empty() {
            return;
        }
        let begins = begins_unit(self.coding, &pes.data);
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
        self.nals.iter().any(|at| self.role(*at).is_slice())
    }

    /// What is there may be all of an access unit: it has a slice, and nothing behind the last one that stands in front of a picture. A packet that begins with a
    /// slice may be the rest of a unit whose delimiter ended the packet before.
    fn ends_whole(&self) -> bool {
        let last = self.nals.iter().rev().map(|at| self.role(*at)).find(|role| *role != Role::Filler);
        self.has_slice() && last.is_some_and(|role| role.is_slice() || matches!(role, Role::Behind | Role::End))
    }

    /// Of the NAL unit behind the start code at `at`.
    fn role(&self, at: usize) -> Role {
        Role::of(self.coding, self.bytes.get(at + 3..).unwrap_or_default())
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
            let role = Role::of(self.coding, nal);
            if self.lost && !role.begins(true, true) {
                self.nals.pop_front();
                continue;
            }
            self.lost = false;
            // A field of HEVC is a picture like any other.
            if self.coding == Coding::H264
                && nal.first().is_some_and(|first| first & 0x1f == SPS)
                && let Ok(sps) = SeqParameterSet::from_bits(RefNal::new(trimmed(nal), &[], true).rbsp_bits())
            {
                self.fields = matches!(sps.frame_mbs_flags, FrameMbsFlags::Fields { .. });
            }
            let parted = !self.fields || self.stamps.iter().any(|(at, _)| (self.first() + 1..=begin).contains(at));
            if parted && role.begins(self.slice, self.judged > 0) {
                self.give(begin, out, stats, notes);
            }
            self.slice |= role.is_slice();
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
            if nal.is_empty() {
                continue;
            }
            let role = Role::of(self.coding, nal);
            key |= matches!(role, Role::Slice { key: true, .. });
            if !matches!(role, Role::Delimiter | Role::End | Role::Filler) {
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
    /// `avc1` or `hvc1` has none (ISO/IEC 14496-15, 5.3.3 and 8.3.2).
    fn configure(&mut self, unit: &mut Vec<u8>, out: &mut Vec<Packet>, notes: &mut Notes) {
        let seen = match &self.record {
            Some(record) => video::renewed_record(self.coding, record, unit),
            None => video::first_record(self.coding, unit),
        };
        match seen {
            Ok(None) if self.record.is_some() => self.without_sets(unit),
            Ok(None) => {}
            Ok(Some(record)) => {
                if let Ok(format) = video::read_record(self.coding, &record, None) {
                    let (num, den) = (u64::from(format.fps.num).max(1), u64::from(format.fps.den));
                    self.picture = (den * 90_000 / num).clamp(1, 900_000);
                }
                out.push(Packet::VideoConfig(self.coding, record.clone()));
                self.record = Some(record);
            }
            Err(e) => notes.say(format!("parameter sets among the pictures are left alone: {e}")),
        }
    }

    /// Takes parameter sets out of a unit of NAL units behind their lengths.
    fn without_sets(&self, unit: &mut Vec<u8>) {
        let is_set = |nal: &[u8]| Role::of(self.coding, nal) == Role::Set;
        let has = video::scan(self.coding, unit).is_ok_and(|scan| scan.parameter_sets);
        if !has {
            return;
        }
        let mut kept = Vec::with_capacity(unit.len());
        let mut rest = unit.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let Some((nal, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            if !is_set(nal) {
                kept.extend_from_slice(length);
                kept.extend_from_slice(nal);
            }
            rest = behind;
        }
        *unit = kept;
    }
}

/// Without the zeros that may stand behind a NAL unit (B.1).
fn trimmed(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &nal[..end]
}

/// `data` stands at an access unit's beginning.
fn begins_unit(coding: Coding, data: &[u8]) -> bool {
    let zeros = data.iter().take_while(|&&byte| byte == 0).count();
    match data.get(zeros..) {
        Some([1, nal @ ..]) if zeros >= 2 => Role::of(coding, nal).begins(true, true),
        _ => false,
    }
}

/// `pts - dts` modulo 2^33; 0 for what is further apart than 6 hours.
fn composition(pts: u64, dts: u64) -> i32 {
    const WRAP: u64 = 1 << 33;
    let ahead = pts.wrapping_sub(dts) % WRAP;
    let signed = if ahead < WRAP / 2 { i64::try_from(ahead) } else { i64::try_from(WRAP - ahead).map(|behind| -behind) };
    signed.ok().and_then(|ticks| i32::try_from(ticks).ok()).unwrap_or(0)
}
