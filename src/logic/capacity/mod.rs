//! What a stream costs on this machine, and whether there is room for one more. Pure: shells measure, this decides.
//!
//! A stream is admitted if its cost fits in **every** dimension ([`Dimension`]): the scarcest one decides, whichever it is. Costs are prices ([`Prices`])
//! times what is to be done ([`Demand`]); a [`Ledger`] keeps what was promised, a [`Belief`] corrects what the machine was thought to carry by what it
//! does carry.

mod admission;
mod belief;
mod calibration;
mod cost;
mod ledger;
mod prices;
mod report;
mod saving;
mod shedding;
mod spare;

pub use admission::{Admission, Found, Rules, Running, Seen, Shed};
pub use belief::{Belief, Pressure};
pub use calibration::Calibration;
pub use cost::{Demand, Profile, Work};
pub use ledger::{Full, Lease, Ledger, Phase, Priority, Threshold};
pub use prices::{Device, Encoder, Machine, Prices, Software};
pub use report::{Leased, Level, Levels, State, TTL_MS, Units, leased};
pub use saving::{Saving, Way, steps};
pub use shedding::{Room, Shedder, Step};
pub use spare::Spare;

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// NVENC: macroblocks a second, weighed by preset.
    Encode,
    /// NVDEC: macroblocks a second, weighed by codec.
    Decode,
    /// Processor cores, thousandths.
    Cpu,
    /// Memory of the machine or the container, MiB.
    Memory,
    /// Memory of the devices, MiB.
    GpuMemory,
    /// What leaves for the store, kbit/s.
    Network,
    /// Room on disk for an outage of the store, MiB.
    Spool,
}

/// Number of dimensions.
pub const DIMENSIONS: usize = 7;

impl Dimension {
    /// All of them.
    pub const ALL: [Self; DIMENSIONS] =
        [Self::Encode, Self::Decode, Self::Cpu, Self::Memory, Self::GpuMemory, Self::Network, Self::Spool];

    /// Lower-case word for logs, metric labels and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::GpuMemory => "gpu_memory",
            Self::Network => "network",
            Self::Spool => "spool",
        }
    }

    /// As a streamer or an operator reads it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Encode => "the GPU's encoders",
            Self::Decode => "the GPU's decoders",
            Self::Cpu => "the processor",
            Self::Memory => "memory",
            Self::GpuMemory => "the GPU's memory",
            Self::Network => "the network",
            Self::Spool => "the spool",
        }
    }

    /// `is` or `are`, behind [`Self::words`].
    pub const fn is(self) -> &'static str {
        match self {
            Self::Encode | Self::Decode => "are",
            _ => "is",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// One amount for each dimension, in its unit. Sums stop at the largest number instead of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts([u64; DIMENSIONS]);

impl Amounts {
    /// Of one dimension.
    pub const fn of(&self, dimension: Dimension) -> u64 {
        self.0[dimension.index()]
    }

    /// The same with another amount in one dimension.
    #[must_use]
    pub const fn with(mut self, dimension: Dimension, amount: u64) -> Self {
        self.0[dimension.index()] = amount;
        self
    }

    /// What is left of it without `other`.
    #[must_use]
    pub fn minus(self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_sub(other.0[i])))
    }

    /// The smaller one in each dimension.
    #[must_use]
    pub fn least(self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].min(other.0[i])))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_add(other.0[i])))
    }
}

/// What a machine has, and how much of it may be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// All that there is; `None` where nothing is known to run out.
    total: [Option<u64>; DIMENSIONS],
    /// Thousandths of it that may be promised.
    limit: [u16; DIMENSIONS],
}

/// Rules.md 27: NVENC 0.90 until measured on a device (25 passed-through sources with 720p, 480p and 360p at P1 are 0.87).
const ENCODE_LIMIT: u16 = 900;

/// Rules.md 27: everything else. Wowza plans processors to 85 % too; above it, queueing makes latency of what was throughput.
const LIMIT: u16 = 850;

/// The spool's room is a reserve itself: what is counted there is written only in an outage of ten minutes.
const SPOOL_LIMIT: u16 = 1000;

/// So far below the limit nothing more is advertised, while what comes is still taken: a scheduler's answer is seconds old when the stream arrives.
pub const ADVERTISED_BELOW: u16 = 20;

impl Budget {
    /// Without anything that can run out.
    pub const fn unlimited() -> Self {
        let mut limit = [LIMIT; DIMENSIONS];
        limit[Dimension::Encode.index()] = ENCODE_LIMIT;
        limit[Dimension::Spool.index()] = SPOOL_LIMIT;
        Self { total: [None; DIMENSIONS], limit }
    }

    /// The same with a total for one dimension.
    #[must_use]
    pub const fn with(mut self, dimension: Dimension, total: u64) -> Self {
        self.total[dimension.index()] = Some(total);
        self
    }

    /// The same with another load limit, thousandths.
    #[must_use]
    pub const fn limited(mut self, dimension: Dimension, permille: u16) -> Self {
        self.limit[dimension.index()] = permille;
        self
    }

    /// All that there is of one dimension, if it can run out.
    pub const fn total(&self, dimension: Dimension) -> Option<u64> {
        self.total[dimension.index()]
    }

    /// Thousandths of it that may be promised.
    pub const fn limit(&self, dimension: Dimension) -> u16 {
        self.limit[dimension.index()]
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::unlimited()
    }
}

/// `n` x `permille` / 1000.
fn share(n: u64, permille: u16) -> u64 {
    u64::try_from(u128::from(n) * u128::from(permille) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
