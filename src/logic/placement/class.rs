//! How much work NVENC puts into the pictures of a stream, by how full its device is. Pure.
//!
//! Decided when a codec process starts for a stream, and kept for its session: another class gives other parameter sets, and with them a discontinuity on
//! all tracks (rules.md 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Device;
use crate::logic::recipe::Class;

/// What an operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassSetting {
    /// By how full the device is.
    Auto,
    /// Always [`Class::Dense`].
    #[default]
    Dense,
    /// Always [`Class::Normal`].
    Normal,
    /// Always [`Class::Premium`].
    Premium,
}

impl ClassSetting {
    /// The class, where it does not depend on the load.
    pub const fn fixed(self) -> Option<Class> {
        match self {
            Self::Auto => None,
            Self::Dense => Some(Class::Dense),
            Self::Normal => Some(Class::Normal),
            Self::Premium => Some(Class::Premium),
        }
    }
}

/// Classes that are given up as a device fills, the costliest first, and up to how much of its budget each is given, percent, with the stream in
/// question: what is left above is for streams that come later and get [`Class::Dense`].
const BANDS: [(Class, u64); 2] = [(Class::Premium, 40), (Class::Normal, 70)];

/// What a class takes of an encoder, against dense, percent. From NVIDIA's tables (`src/logic/bench/expected.rs`): P4 takes 2.1 times as long as P1 on Turing,
/// Ampere and Ada alike, P5 3.2 times. Premium's second pass over a quarter of the picture, B-frames and lookahead are in no table: half as much again is
/// planned with, until it is measured.
pub const fn cost_percent(class: Class) -> u64 {
    match class {
        Class::Dense => 100,
        Class::Normal => 210,
        Class::Premium => 480,
    }
}

/// What a stream of `load` macroblocks per second takes of an encoder in a class, in macroblocks per second of the dense one.
pub fn cost(class: Class, load: u64) -> u64 {
    load.saturating_mul(cost_percent(class)) / 100
}

/// A class and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The class.
    pub class: Class,
    /// Why this one.
    pub why: Why,
}

/// Why a class was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is set.
    Set,
    /// The session had it before.
    Kept {
        /// Share of the device's budget that is taken with the stream.
        percent: u64,
    },
    /// The device is so full.
    Load {
        /// Share of the device's budget that is taken with the stream.
        percent: u64,
    },
    /// What the device can do is not known, so the cheapest is taken.
    Unknown,
}

impl Why {
    /// For the API and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Kept { .. } => "kept",
            Self::Load { .. } => "load",
            Self::Unknown => "unknown_device",
        }
    }

    /// Share of the device's budget that is taken with the stream, percent, where that decided.
    pub const fn percent(self) -> Option<u64> {
        match self {
            Self::Kept { percent } | Self::Load { percent } => Some(percent),
            Self::Set | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set => f.write_str("nvidia.class is set"),
            Self::Kept { percent } => {
                write!(f, "the session began with it; {percent} % of the device's budget is taken with it")
            }
            Self::Load { percent } => write!(f, "{percent} % of the device's budget is taken with it"),
            Self::Unknown => f.write_str("nothing is known of what this device can encode"),
        }
    }
}

/// The class of a stream of `load` macroblocks per second on this device, on which `placed` is taken already (in the unit of [`cost`]); `kept` is the one
/// that its session had.
///
/// A session keeps its class unless that would bring the device over its budget, which may happen on another device than before, or with larger pictures.
pub fn choose_class(setting: ClassSetting, kept: Option<Class>, load: u64, device: &Device, placed: u64) -> Choice {
    if let Some(class) = setting.fixed() {
        return Choice { class, why: Why::Set };
    }
    let Some(budget) = device.budget.filter(|&b| b > 0) else {
        return Choice { class: kept.unwrap_or(Class::Dense), why: Why::Unknown };
    };
    let taken = |class| placed.saturating_add(cost(class, load));
    let percent = |class| taken(class).saturating_mul(100).div_ceil(budget);
    if let Some(class) = kept.filter(|&class| taken(class) <= budget) {
        return Choice { class, why: Why::Kept { percent: percent(class) } };
    }
    let class = BANDS.iter().find(|&&(class, upto)| percent(class) <= upto).map_or(Class::Dense, |&(class, _)| class);
    Choice { class, why: Why::Load { percent: percent(class) } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logic::bench::Machine;
    use crate::logic::gpu::Version;

    /// 720p, 480p and 360p at 30 fps.
    const LADDER: u64 = (3600 + 1620 + 920) * 30;

    fn a10g() -> Device {
        let machine = Machine { compute: Version { major: 8, minor: 6 }, encoders: 1, decoders: 2, clock_mhz: Some(1500) };
        Device { name: "GPU-0".into(), engines: 1, budget: super::super::budget(&machine), usable: true, doubted: false }
    }

    fn of_hundred() -> Device {
        Device { budget: Some(100), ..a10g() }
    }

    fn auto(load: u64, device: &Device, placed: u64) -> Class {
        choose_class(ClassSetting::Auto, None, load, device, placed).class
    }

    #[test]
    fn the_costs_are_those_of_the_tables() {
        for compute in [(7, 5), (8, 6), (8, 9)] {
            let compute = Version { major: compute.0, minor: compute.1 };
            let machine = Machine { compute, encoders: 1, decoders: 1, clock_mhz: Some(1500) };
            let of = |class: Class| machine.throughput(class.preset()).unwrap();
            let against_dense = |class| of(Class::Dense) / of(class);
            assert!((2.05..=2.1).contains(&against_dense(Class::Normal)), "{compute}: {}", against_dense(Class::Normal));
            let premium = against_dense(Class::Premium) * 1.5;
            assert!((4.65..=4.8).contains(&premium), "{compute}: {premium}");
        }
    }

    #[test]
    fn each_class_has_its_band_with_the_stream_itself() {
        // Costs of 10 macroblocks: 10, 21, 48.
        let device = Device { budget: Some(1000), ..a10g() };
        assert_eq!(auto(10, &device, 352), Class::Premium, "400 of 1000");
        assert_eq!(auto(10, &device, 353), Class::Normal, "premium would make it 401");
        assert_eq!(auto(10, &device, 679), Class::Normal, "700 of 1000");
        assert_eq!(auto(10, &device, 680), Class::Dense);
        assert_eq!(auto(10, &device, 5000), Class::Dense, "nothing is cheaper");
        assert_eq!(auto(10, &Device { budget: None, ..device }, 0), Class::Dense);
    }

    #[test]
    fn what_is_set_is_taken_whatever_the_load() {
        for (setting, class) in [
            (ClassSetting::Dense, Class::Dense),
            (ClassSetting::Normal, Class::Normal),
            (ClassSetting::Premium, Class::Premium),
        ] {
            let choice = choose_class(setting, Some(Class::Dense), 10, &of_hundred(), 1000);
            assert_eq!(choice, Choice { class, why: Why::Set });
        }
    }

    #[test]
    fn a_session_keeps_its_class_until_the_device_has_no_room_for_it() {
        let again = |class, placed| choose_class(ClassSetting::Auto, Some(class), 10, &of_hundred(), placed);
        assert_eq!(again(Class::Premium, 52), Choice { class: Class::Premium, why: Why::Kept { percent: 100 } });
        assert_eq!(again(Class::Premium, 53), Choice { class: Class::Dense, why: Why::Load { percent: 63 } });
        assert_eq!(again(Class::Dense, 0), Choice { class: Class::Dense, why: Why::Kept { percent: 10 } }, "nor does it rise");
        let unknown = Device { budget: None, ..of_hundred() };
        let choice = choose_class(ClassSetting::Auto, Some(Class::Normal), 10, &unknown, 0);
        assert_eq!(choice, Choice { class: Class::Normal, why: Why::Unknown });
    }

    /// The price of `auto`, and why it is not the default: what was given to the first streams is not there for the last ones.
    #[test]
    fn an_a10g_takes_25_dense_ladders_and_13_by_load() {
        let device = a10g();
        let budget = device.budget.unwrap();
        assert_eq!(budget / LADDER, 25);
        let (mut placed, mut classes) = (0, Vec::new());
        loop {
            let class = auto(LADDER, &device, placed);
            if placed + cost(class, LADDER) > budget {
                break;
            }
            placed += cost(class, LADDER);
            classes.push(class);
        }
        let of = |class| classes.iter().filter(|&&c| c == class).count();
        assert_eq!([of(Class::Premium), of(Class::Normal), of(Class::Dense)], [2, 4, 7]);
        assert!(classes.is_sorted_by_key(|&c| std::cmp::Reverse(cost_percent(c))), "{classes:?}");
    }

    proptest! {
        /// Whatever streams come, go and come again: a class above dense never brings a device over its budget, and a choice by load never over its band.
        #[test]
        fn no_class_but_dense_fills_a_device(
            budget in 1u64..10_000_000, placed in 0u64..20_000_000, load in 0u64..2_000_000,
            kept in proptest::option::of(prop_oneof![Just(Class::Dense), Just(Class::Normal), Just(Class::Premium)]),
        ) {
            let device = Device { budget: Some(budget), ..a10g() };
            let Choice { class, why } = choose_class(ClassSetting::Auto, kept, load, &device, placed);
            let taken = placed + cost(class, load);
            match why {
                Why::Kept { .. } => prop_assert!(Some(class) == kept && taken <= budget),
                Why::Load { .. } => match class {
                    Class::Premium => prop_assert!(taken * 100 <= 40 * budget),
                    Class::Normal => prop_assert!(taken * 100 <= 70 * budget),
                    Class::Dense => {}
                },
                Why::Set | Why::Unknown => prop_assert!(false, "{:?}", why),
            }
        }
    }
}
