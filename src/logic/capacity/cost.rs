//! What a stream asks of a machine, as numbers.

use super::prices::{Encoder, Prices};
use super::{Amounts, Dimension};
use crate::logic::bench;
use crate::logic::ladder::{self, Ladder, Rung, Size, Source};
use crate::logic::model::{Coding, FrameRate};
use crate::logic::placement;
use crate::logic::recipe::Class;

/// What is to be done for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The publisher's picture.
    pub width: u32,
    /// Likewise.
    pub height: u32,
    /// And how often it comes.
    pub fps: FrameRate,
    /// How its pictures are coded.
    pub coding: Coding,
    /// All that the publisher sends, kbit/s.
    pub source_kbps: u32,
    /// His video is published as it is.
    pub passthrough: bool,
    /// NVENC encodes and yet the CPU decodes (rules.md 28).
    pub cpu_decode: bool,
    /// What is encoded.
    pub rungs: Vec<Rung>,
    /// With the least work that is worth it.
    pub brief: bool,
}

/// How long the spool has to hold what a stream makes while the store is away, s: the spool's own limit is set by the same ten minutes of 25 streams.
const OUTAGE: u64 = 600;

/// Audio beside the source's, kbit/s.
const AUDIO_KBPS: u64 = 128;

/// Supervisor's share of a stream, thousandths of a core: measured, a passed-through stream of 6 Mbit/s takes 6 to 8 with a folder for a store; a PUT over TLS takes 2.25 ms, and
/// a stream makes 2.5 of them a second with its playlists.
const STREAM_MILLI: u64 = 15;
/// And of each of its rungs: half a PUT more a second for segments, as much for the playlist.
const RUNG_MILLI: u64 = 5;

/// Driver calls of a stream on a GPU, thousandths of a core: 30 to 80 were planned with for a stream of four rungs at 30 pictures a second, until it is measured on a device.
const DEVICE_MILLI_PER_1000_PICTURES: u64 = 600;

/// Supervisor's memory, KiB: ten seconds of the source for a new codec process and half a segment of each rung, measured 4 to 5 MiB a stream.
const STREAM_KIB: u64 = 5 << 10;
/// A codec process: measured 610 MiB for 1080p to four rungs by veryfast (14,300 macroblocks a picture of all rungs), 110 MiB of them without encoders.
const PROCESS_KIB: u64 = 110 << 10;
const KIB_PER_MACROBLOCK: u64 = 36;
/// A codec process whose pictures are in the device's memory.
const DEVICE_PROCESS_KIB: u64 = 250 << 10;

/// What decoding takes against H.264, thousandths. NVDEC: NVIDIA's tables have 1316 to 1641 pictures a second of HEVC where they have 748 to 903 of H.264, and 790 of AV1 on
/// Ampere; the worst of them. libavcodec's HEVC and dav1d have not been measured here: twice is assumed.
const fn decode_permille(coding: Coding, by_device: bool) -> u64 {
    match (coding, by_device) {
        (Coding::H264, _) | (Coding::Av1, true) => 1000,
        (Coding::Hevc, true) => 590,
        (Coding::Hevc | Coding::Av1, false) => 2000,
    }
}

fn macroblocks(width: u32, height: u32) -> u64 {
    bench::macroblocks(width, height).into()
}

impl Demand {
    /// Macroblocks of H.264 per second that are as much work as decoding the source.
    fn decoded(&self, by_device: bool) -> u64 {
        let second = macroblocks(self.width, self.height).saturating_mul(self.fps.milli()) / 1000;
        second.saturating_mul(decode_permille(self.coding, by_device)) / 1000
    }

    /// What a codec process without a GPU takes of processor cores, thousandths.
    pub fn software_milli(&self, prices: &Prices) -> u64 {
        let s = if self.brief { &prices.brief } else { &prices.software };
        if self.rungs.is_empty() {
            return 0;
        }
        let encoded = placement::load(&self.rungs);
        let full_size = |r: &&Rung| (r.width, r.height) == (self.width, self.height);
        let unscaled: u64 = self.rungs.iter().filter(full_size).map(|r| placement::load(std::slice::from_ref(r))).sum();
        let parts = [
            milli(self.decoded(false), s.decoded),
            milli(encoded, s.encoded),
            milli(encoded.saturating_sub(unscaled), s.scaled),
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// What it costs at these prices.
    pub fn cost(&self, prices: &Prices) -> Amounts {
        let encoded = placement::load(&self.rungs);
        let rungs = self.rungs.len() as u64;
        let sum = |of: fn(&Rung) -> u32| self.rungs.iter().map(|r| u64::from(of(r))).sum::<u64>();
        let beside = if self.passthrough { u64::from(self.source_kbps) } else { AUDIO_KBPS };
        let mut cpu = STREAM_MILLI + RUNG_MILLI * rungs;
        let mut memory_kib = STREAM_KIB;
        let mut amounts = Amounts::default();
        // Without rungs nothing is decoded.
        if rungs > 0 {
            match prices.encoder {
                Encoder::None => {}
                Encoder::Software => {
                    cpu = cpu.saturating_add(self.software_milli(prices));
                    let pictures: u64 = self.rungs.iter().map(|r| macroblocks(r.width, r.height)).sum();
                    memory_kib += PROCESS_KIB + KIB_PER_MACROBLOCK * pictures;
                }
                Encoder::Nvidia(class) => {
                    let class = if self.brief { Class::Dense } else { class };
                    let pictures: u64 = self.rungs.iter().map(|r| r.fps.milli()).sum::<u64>() / 1000;
                    cpu += pictures * DEVICE_MILLI_PER_1000_PICTURES / 1000;
                    memory_kib += DEVICE_PROCESS_KIB;
                    amounts = amounts.with(Dimension::Encode, placement::cost(class, encoded));
                    let device = bench::context_mib() + bench::session_mib() * rungs as f64;
                    let decoder = if self.cpu_decode { 0.0 } else { bench::decoder_mib() };
                    amounts = amounts.with(Dimension::GpuMemory, (device + decoder) as u64);
                    if self.cpu_decode {
                        cpu = cpu.saturating_add(milli(self.decoded(false), prices.software.decoded));
                    } else {
                        amounts = amounts.with(Dimension::Decode, self.decoded(true));
                    }
                }
            }
        }
        amounts
            .with(Dimension::Cpu, cpu)
            .with(Dimension::Memory, memory_kib.div_ceil(1 << 10))
            .with(Dimension::Network, sum(|r| r.max_kbps) + beside)
            .with(Dimension::Spool, ((sum(|r| r.kbps) + beside) * OUTAGE).div_ceil(8 << 10))
    }
}

/// Thousandths of a core for so much work a second.
fn milli(work: u64, a_core: u64) -> u64 {
    work.saturating_mul(1000) / a_core.max(1)
}

/// How streams are made into demands: the worker's ladder and what its encoders take.
#[derive(Debug, Clone)]
pub struct Work {
    /// The ladder; `None` passes sources through only.
    pub ladder: Option<Ladder>,
    /// Smallest picture that is encoded.
    pub smallest: Size,
    /// Largest short side that is passed through.
    pub passthrough_short_side: u32,
    /// Highest rate that is passed through, kbit/s.
    pub passthrough_kbps: u32,
}

/// A kind of stream that schedulers ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// `1080p30`.
    pub name: &'static str,
    /// Short side of a picture of 16 to 9.
    pub height: u32,
    /// Pictures a second.
    pub fps: u32,
    /// What such a stream has, kbit/s: what Twitch and YouTube advise.
    pub kbps: u32,
}

impl Profile {
    /// The unit in which capacity is told, and what a source counts as before it is known.
    pub const REFERENCE: Self = Self { name: "1080p30", height: 1080, fps: 30, kbps: 6000 };

    /// Those that a report answers for.
    pub const ALL: [Self; 3] = [
        Self { name: "1080p60", height: 1080, fps: 60, kbps: 6000 },
        Self::REFERENCE,
        Self { name: "720p30", height: 720, fps: 30, kbps: 4000 },
    ];

    fn source(&self) -> Source {
        let width = u32::try_from(u64::from(self.height) * 16 / 9).unwrap_or(u32::MAX);
        Source { width, height: self.height, fps: FrameRate::whole(self.fps), bitrate: Some(u64::from(self.kbps) * 1000) }
    }
}

impl Work {
    /// The same with another ladder, as a key may ask for; nothing is encoded where nothing can be.
    #[must_use]
    pub fn with_ladder(&self, ladder: Option<&Ladder>) -> Self {
        Self { ladder: ladder.filter(|_| self.ladder.is_some()).cloned(), ..self.clone() }
    }

    /// A source that can be passed through is; another's top rung is encoded.
    pub fn demand(&self, source: &Source, passable: bool) -> Demand {
        let kbps = source.bitrate.map_or(Profile::REFERENCE.kbps, |b| u32::try_from(b / 1000).unwrap_or(u32::MAX));
        let fits = source.width.min(source.height) <= self.passthrough_short_side && kbps <= self.passthrough_kbps;
        let passthrough = self.ladder.is_none() || (passable && fits);
        let rungs = self.ladder.as_ref().map(|l| ladder::plan(source, l, passthrough, self.smallest)).unwrap_or_default();
        Demand {
            width: source.width,
            height: source.height,
            fps: source.fps,
            coding: Coding::H264,
            source_kbps: kbps,
            passthrough,
            cpu_decode: false,
            rungs,
            brief: false,
        }
    }

    /// A kind of stream, passed through.
    pub fn of(&self, profile: &Profile) -> Demand {
        self.demand(&profile.source(), true)
    }
}
