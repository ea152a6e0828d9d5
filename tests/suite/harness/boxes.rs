//! A reader of fragmented MP4 (ISO/IEC 14496-12) that shares nothing with the writer: plain offsets, every length checked, no crate.

use std::ops::Range;

/// A box's name and where its contents lie.
type Found = ([u8; 4], Range<usize>);

fn number(data: &[u8], at: usize, bytes: usize) -> u64 {
    data[at..at + bytes].iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The boxes in a range, which they must fill exactly.
fn boxes(data: &[u8], range: Range<usize>) -> Vec<Found> {
    let (mut at, end) = (range.start, range.end);
    let mut found = Vec::new();
    while at < end {
        let (mut size, mut header) = (number(data, at, 4) as usize, 8);
        if size == 1 {
            (size, header) = (number(data, at + 8, 8) as usize, 16);
        }
        assert!(size >= header && at + size <= end, "a box of {size} bytes at {at} in a range that ends at {end}");
        found.push((data[at + 4..at + 8].try_into().unwrap(), at + header..at + size));
        at += size;
    }
    found
}

fn maybe(found: &[Found], name: &[u8; 4]) -> Option<Range<usize>> {
    let mut all = found.iter().filter(|(n, _)| n == name);
    let first = all.next().map(|(_, r)| r.clone());
    assert!(all.next().is_none(), "{} twice", String::from_utf8_lossy(name));
    first
}

fn one(found: &[Found], name: &[u8; 4]) -> Range<usize> {
    maybe(found, name).unwrap_or_else(|| panic!("no {} in {found:?}", String::from_utf8_lossy(name)))
}

/// Brands of `ftyp` or `styp`, the major one first.
fn brands(data: &[u8], range: Range<usize>) -> Vec<String> {
    let text = |at: usize| String::from_utf8_lossy(&data[at..at + 4]).into_owned();
    let compatible = (range.start + 8..range.end).step_by(4);
    std::iter::once(range.start).chain(compatible).map(text).collect()
}

/// An init segment of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    pub brands: Vec<String>,
    pub timescale: u32,
    /// `avc1`, `hvc1`, `av01`, `mp4a`.
    pub kind: String,
    /// Picture size of video.
    pub size: (u32, u32),
    /// The contents of `avcC`, `hvcC`, `av1C`, or of `esds`.
    pub configuration: Vec<u8>,
    pub edit_list: bool,
    /// Duration, size and flags of `trex`.
    defaults: [u32; 3],
}

impl Init {
    pub fn read(data: &[u8]) -> Self {
        let top = boxes(data, 0..data.len());
        let moov = boxes(data, one(&top, b"moov"));
        let trak = boxes(data, one(&moov, b"trak"));
        let mdia = boxes(data, one(&trak, b"mdia"));
        let mdhd = one(&mdia, b"mdhd").start;
        let timescale = number(data, mdhd + if data[mdhd] == 1 { 20 } else { 12 }, 4) as u32;
        let stbl = boxes(data, one(&boxes(data, one(&mdia, b"minf")), b"stbl"));
        let stsd = one(&stbl, b"stsd");
        let entries = boxes(data, stsd.start + 8..stsd.end);
        assert_eq!(entries.len(), 1, "sample descriptions");
        let (kind, entry) = entries[0].clone();
        let (video, fixed, record) = match &kind {
            b"avc1" => (true, 78, b"avcC"),
            b"hvc1" => (true, 78, b"hvcC"),
            b"av01" => (true, 78, b"av1C"),
            b"mp4a" => (false, 28, b"esds"),
            other => panic!("sample entry {}", String::from_utf8_lossy(other)),
        };
        let inside = boxes(data, entry.start + fixed..entry.end);
        let configuration = data[one(&inside, record)].to_vec();
        let size = |at: usize| if video { number(data, entry.start + at, 2) as u32 } else { 0 };
        let trex = one(&boxes(data, one(&moov, b"mvex")), b"trex").start;
        Self {
            brands: brands(data, one(&top, b"ftyp")),
            timescale,
            kind: String::from_utf8_lossy(&kind).into_owned(),
            size: (size(24), size(26)),
            configuration,
            edit_list: maybe(&trak, b"edts").is_some(),
            defaults: [12, 16, 20].map(|at| number(data, trex + at, 4) as u32),
        }
    }
}

/// A sample in decode order. Times in ticks of the track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub dts: i64,
    pub pts: i64,
    pub duration: i64,
    pub sync: bool,
    /// Where its bytes lie in the segment.
    pub bytes: Range<usize>,
}

/// The fragments of one object, in order.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Of `styp`; empty when there is none.
    pub brands: Vec<String>,
    /// `tfdt` of the first fragment.
    pub tfdt: i64,
    pub samples: Vec<Sample>,
}

impl Segment {
    /// Reads every `moof` and checks that its samples fill the `mdat` behind it without a hole.
    pub fn read(data: &[u8], init: &Init) -> Self {
        let top = boxes(data, 0..data.len());
        let brands = maybe(&top, b"styp").map(|r| brands(data, r)).unwrap_or_default();
        let mut segment = Self { brands, tfdt: -1, samples: Vec::new() };
        for (i, (name, range)) in top.iter().enumerate() {
            if name != b"moof" {
                continue;
            }
            assert_eq!(&top[i + 1].0, b"mdat", "behind moof");
            let mdat = top[i + 1].1.clone();
            let from = segment.samples.len();
            segment.fragment(data, range, init);
            let mut at = mdat.start;
            for sample in &segment.samples[from..] {
                assert_eq!(sample.bytes.start, at, "samples lie one behind the other in mdat");
                at = sample.bytes.end;
            }
            assert_eq!(at, mdat.end, "and fill it");
        }
        assert!(!segment.samples.is_empty(), "a segment without samples");
        segment
    }

    fn fragment(&mut self, data: &[u8], moof: &Range<usize>, init: &Init) {
        let traf = boxes(data, one(&boxes(data, moof.clone()), b"traf"));
        let tfhd = one(&traf, b"tfhd").start;
        let flags = number(data, tfhd + 1, 3);
        assert_eq!(flags & 1, 0, "base_data_offset where default-base-is-moof is meant");
        assert_ne!(flags & 0x02_0000, 0, "default-base-is-moof");
        let mut defaults = init.defaults;
        let mut at = tfhd + 8 + if flags & 2 != 0 { 4 } else { 0 };
        for (i, bit) in [8, 0x10, 0x20].into_iter().enumerate() {
            if flags & bit != 0 {
                defaults[i] = number(data, at, 4) as u32;
                at += 4;
            }
        }
        let tfdt = one(&traf, b"tfdt").start;
        let mut dts = number(data, tfdt + 4, if data[tfdt] == 1 { 8 } else { 4 }) as i64;
        if self.samples.is_empty() {
            self.tfdt = dts;
        }
        for (_, trun) in traf.iter().filter(|(name, _)| name == b"trun") {
            dts = self.run(data, moof.start - 8, trun.start, defaults, dts);
        }
    }

    /// One `trun`; returns the decode time behind it.
    fn run(&mut self, data: &[u8], base: usize, trun: usize, defaults: [u32; 3], mut dts: i64) -> i64 {
        let (version, flags) = (data[trun], number(data, trun + 1, 3));
        let count = number(data, trun + 4, 4);
        let mut at = trun + 8;
        let mut next = |bit: u64| {
            let there = flags & bit != 0;
            at += if there { 4 } else { 0 };
            there.then(|| number(data, at - 4, 4) as u32)
        };
        let mut place = base + next(1).expect("data_offset") as usize;
        let first_flags = next(4);
        for n in 0..count {
            let duration = i64::from(next(0x100).unwrap_or(defaults[0]));
            let size = next(0x200).unwrap_or(defaults[1]) as usize;
            let own_flags = next(0x400);
            let sample_flags = own_flags.or(first_flags.filter(|_| n == 0)).unwrap_or(defaults[2]);
            let offset = next(0x800).unwrap_or(0);
            let offset = if version == 0 { i64::from(offset) } else { i64::from(offset as i32) };
            // 8.8.3.1: sample_is_non_sync_sample
            let sync = sample_flags & 0x1_0000 == 0;
            self.samples.push(Sample { dts, pts: dts + offset, duration, sync, bytes: place..place + size });
            place += size;
            dts += duration;
        }
        dts
    }
}

/// Types of the NAL units of an AVC sample (ITU-T H.264, table 7-1), each behind a length of four bytes.
pub fn nal_types(mut sample: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while !sample.is_empty() {
        let length = number(sample, 0, 4) as usize;
        types.push(sample[4] & 0x1f);
        sample = &sample[4 + length..];
    }
    types
}
