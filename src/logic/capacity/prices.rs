//! What work costs on a machine: prices that were measured elsewhere until this machine has measured its own.

use super::{Budget, Dimension};
use crate::logic::bench;
use crate::logic::recipe::{Class, Preset};

/// Prices of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// Who encodes.
    pub encoder: Encoder,
    /// What x264 and libavcodec do here.
    pub software: Software,
    /// Likewise with the least work that is worth it ([`Prices::BRIEF`]).
    pub brief: Software,
}

impl Prices {
    /// The preset to which x264 is taken when it gets tight: by its own speeds below it saves 36 % of what veryfast takes, and keeps CABAC and the deblocking filter, which
    /// ultrafast (47 %) does not.
    pub const BRIEF: Preset = Preset::Superfast;

    /// Assumed, for an encoder that uses this preset where it is x264.
    pub fn assumed(encoder: Encoder, preset: Preset) -> Self {
        let brief = if preset == Preset::Ultrafast { preset } else { Self::BRIEF };
        Self { encoder, software: Software::assumed(preset), brief: Software::assumed(brief) }
    }

    /// As measured: [`Software::corrected`].
    #[must_use]
    pub fn corrected(self, found: u16) -> Self {
        Self { software: self.software.corrected(found), brief: self.brief.corrected(found), ..self }
    }
}

/// Who encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// Nobody.
    None,
    /// x264.
    Software,
    /// NVENC by this class.
    Nvidia(Class),
}

/// How many macroblocks (16 x 16 luma samples) one core does in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software {
    /// Encoded by x264.
    pub encoded: u64,
    /// Decoded by libavcodec.
    pub decoded: u64,
    /// Made by the scaler.
    pub scaled: u64,
}

/// 1080p30 of 6 Mbit/s to 1080p, 720p, 480p and 360p (429,000 macroblocks/s): 2.4 s of CPU to decode 7.4 s, 2.1 s to scale, and 16.5, 10.5 and 8.8 s to encode
/// by veryfast, superfast and ultrafast. Slower presets by x264's own speed table relative to veryfast. A third is taken off: cores differ by that, and a machine
/// that promises too little for a minute hurts nobody.
impl Software {
    /// Before anything was measured here.
    pub fn assumed(preset: Preset) -> Self {
        let encoded = match preset {
            Preset::Ultrafast => 361_000,
            Preset::Superfast => 302_000,
            Preset::Veryfast => 192_000,
            Preset::Faster => 130_000,
            Preset::Fast => 100_000,
            Preset::Medium => 80_000,
            Preset::Slow => 45_000,
        };
        let careful = |n: u64| n * 2 / 3;
        Self { encoded: careful(encoded), decoded: careful(755_000), scaled: careful(649_000) }
    }

    /// As measured: the same work took `found` permille of the CPU that was assumed.
    #[must_use]
    pub fn corrected(self, found: u16) -> Self {
        let found = u64::from(found.max(1));
        let of = |n: u64| (n * 1000 / found).max(1);
        Self { encoded: of(self.encoded), decoded: of(self.decoded), scaled: of(self.scaled) }
    }
}

/// Macroblocks of 1920 x 1080.
const PICTURE: f64 = 8160.0;

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// Processor cores that may be used, thousandths.
    pub cpu_milli: Option<u64>,
    /// Memory that may be used, MiB.
    pub memory_mib: Option<u64>,
    /// What may leave, kbit/s.
    pub network_kbps: Option<u64>,
    /// Room of the spool, MiB.
    pub spool_mib: Option<u64>,
    /// The devices that encode.
    pub devices: Vec<Device>,
    /// How much of each may be promised; its totals are replaced by what is here.
    pub limits: Budget,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// By what it is named.
    pub uuid: String,
    /// What it does.
    pub machine: bench::Machine,
    /// MiB of memory.
    pub memory_mib: Option<u64>,
}

impl Machine {
    /// The budget of all of it but the devices that are lost. A device that is in no table of NVIDIA's leaves no encode and decode budget: other dimensions and the
    /// measured speed hold it.
    pub fn budget(&self, is_lost: impl Fn(&str) -> bool) -> Budget {
        let set = |budget: Budget, dimension, total: Option<u64>| total.map_or(budget, |t| budget.with(dimension, t));
        let mut budget = self.limits;
        budget = set(budget, Dimension::Cpu, self.cpu_milli);
        budget = set(budget, Dimension::Memory, self.memory_mib);
        budget = set(budget, Dimension::Network, self.network_kbps);
        budget = set(budget, Dimension::Spool, self.spool_mib);
        if self.devices.is_empty() {
            return budget;
        }
        let there: Vec<&Device> = self.devices.iter().filter(|d| !is_lost(&d.uuid)).collect();
        let sum = |of: &dyn Fn(&Device) -> Option<u64>| {
            there.iter().map(|d| of(d)).try_fold(0, |all, one| one.map(|n| u64::saturating_add(all, n)))
        };
        // As u64: a rate of macroblocks far below 2^53.
        let encoded = sum(&|d| d.machine.throughput(Class::Dense.preset()).map(|n| n as u64));
        let decoded = sum(&|d| d.machine.decoded_fps(1920, 1080).map(|fps| (fps * PICTURE) as u64));
        budget = set(budget, Dimension::Encode, encoded);
        budget = set(budget, Dimension::Decode, decoded);
        set(budget, Dimension::GpuMemory, sum(&|d| d.memory_mib))
    }
}
