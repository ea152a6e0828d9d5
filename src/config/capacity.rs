//! What the machine is counted to have, and how much of it is given away.

use serde::{Deserialize, Serialize};

use crate::logic::capacity::{Budget, Dimension, Profile, Shed};

/// What the machine is counted to have; 0: what it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacitySettings {
    /// `on`, `off`: refuse publishers for whom there is no room. Default `on`.
    pub admission: Admission,
    /// `admit`, `overload`, `off`: streams go without thumbnails, slower presets, half of 60 pictures a second and rungs, to let one more publisher in, only when the machine does not carry
    /// what was promised, or never. Default `admit`.
    pub shed: Shed,
    /// What a source is counted as until it is known: `1080p60`, `1080p30` or `720p30`. Default `1080p30`.
    pub assume: String,
    /// Thousandths of processor cores. Default 0.
    pub cpu_milli: u32,
    /// MiB of memory. Default 0.
    pub memory_mib: u32,
    /// Mbit/s that may leave the machine. Default 0: not counted.
    pub network_mbit: u32,
    /// How much of each is given away.
    pub limit: Limit,
}

/// How much of each dimension is given away, percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// NVENC. Default 90.
    pub encode: u8,
    /// NVDEC. Default 85.
    pub decode: u8,
    /// Processor cores. Default 85.
    pub cpu: u8,
    /// Memory. Default 85.
    pub memory: u8,
    /// Memory of devices. Default 85.
    pub gpu_memory: u8,
    /// Network. Default 85.
    pub network: u8,
    /// Spool. Default 100.
    pub spool: u8,
}

/// Whether publishers are refused for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// Yes.
    #[default]
    On,
    /// No: what can be taken is told only.
    Off,
}

impl Default for CapacitySettings {
    fn default() -> Self {
        Self {
            admission: Admission::default(),
            shed: Shed::default(),
            assume: Profile::REFERENCE.name.into(),
            cpu_milli: 0,
            memory_mib: 0,
            network_mbit: 0,
            limit: Limit::default(),
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        let of = |d| u8::try_from(Budget::unlimited().limit(d) / 10).unwrap_or(100);
        Self {
            encode: of(Dimension::Encode),
            decode: of(Dimension::Decode),
            cpu: of(Dimension::Cpu),
            memory: of(Dimension::Memory),
            gpu_memory: of(Dimension::GpuMemory),
            network: of(Dimension::Network),
            spool: of(Dimension::Spool),
        }
    }
}

impl Limit {
    /// Of one dimension, percent.
    pub const fn of(&self, dimension: Dimension) -> u8 {
        match dimension {
            Dimension::Encode => self.encode,
            Dimension::Decode => self.decode,
            Dimension::Cpu => self.cpu,
            Dimension::Memory => self.memory,
            Dimension::GpuMemory => self.gpu_memory,
            Dimension::Network => self.network,
            Dimension::Spool => self.spool,
        }
    }
}

impl CapacitySettings {
    /// What is wrong with them.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn check(&self) -> Result<(), String> {
        let known = Profile::ALL.iter().any(|p| p.name == self.assume);
        if !known {
            let all: Vec<&str> = Profile::ALL.iter().map(|p| p.name).collect();
            return Err(format!("capacity.assume is {:?}, must be one of {}", self.assume, all.join(", ")));
        }
        for d in Dimension::ALL {
            let percent = self.limit.of(d);
            // Under ten nothing would ever be taken but the stream that has the machine alone.
            if !(10..=100).contains(&percent) {
                return Err(format!("capacity.limit.{} is {percent}, must be 10 to 100", d.as_str()));
            }
        }
        Ok(())
    }

    /// What a source is counted as until it is known.
    pub fn assumed(&self) -> Profile {
        Profile::ALL.into_iter().find(|p| p.name == self.assume).unwrap_or(Profile::REFERENCE)
    }

    /// The budget with these limits.
    #[must_use]
    pub fn limited(&self, budget: Budget) -> Budget {
        Dimension::ALL.into_iter().fold(budget, |b, d| b.limited(d, u16::from(self.limit.of(d)) * 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_budget() {
        let settings = CapacitySettings::default();
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.limited(Budget::unlimited()), Budget::unlimited());
        assert_eq!(settings.assumed(), Profile::REFERENCE);
    }

    #[test]
    fn a_limit_is_of_its_dimension_and_no_more_than_all() {
        let with = |limit| CapacitySettings { limit, ..CapacitySettings::default() };
        let budget = with(Limit { spool: 50, ..Limit::default() }).limited(Budget::unlimited());
        assert_eq!((budget.limit(Dimension::Spool), budget.limit(Dimension::Cpu)), (500, 850));
        let said = with(Limit { network: 101, ..Limit::default() }).check().unwrap_err();
        assert_eq!(said, "capacity.limit.network is 101, must be 10 to 100");
        let said = CapacitySettings { assume: "8k".into(), ..CapacitySettings::default() }.check().unwrap_err();
        assert_eq!(said, "capacity.assume is \"8k\", must be one of 1080p60, 1080p30, 720p30");
    }
}
