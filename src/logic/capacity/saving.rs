//! What is left out of a stream so that the machine carries it and the others, in steps that viewers play through. Pure.

use super::{Amounts, Demand, Encoder, Prices};
use crate::logic::ladder::Rung;
use crate::logic::recipe::Class;

/// What is left out. The source rung never is; thumbnails are, whatever else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Saving {
    /// So many encoded rungs are not made, from the best one down (rules.md 1): viewers of theirs get the next lower rung's segments.
    pub rungs_off: u8,
    /// Rungs of more than 35 pictures a second have half of them.
    pub half_rate: bool,
    /// Rungs are encoded with the least work that is worth it.
    pub brief: bool,
}

/// Thousandths of pictures a second up to which nothing is halved: 15 a second look like a fault, 25 do not.
const FULL_RATE: u64 = 35_000;

impl Saving {
    /// Nothing is left out.
    pub const NONE: Self = Self { rungs_off: 0, half_rate: false, brief: false };

    /// Something is.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// Those of a stream's rungs that are still made, from the best one down.
    pub fn rungs(self, planned: &[Rung]) -> Vec<Rung> {
        let kept = planned.iter().skip(self.rungs_off.into()).cloned();
        if !self.half_rate {
            return kept.collect();
        }
        let halved = |rung: Rung| if is_fast(&rung) { Rung { fps: rung.fps.halved(), halved: true, ..rung } } else { rung };
        kept.map(halved).collect()
    }

    /// What is then done for a stream.
    #[must_use]
    pub fn of(self, demand: &Demand) -> Demand {
        Demand { rungs: self.rungs(&demand.rungs), brief: self.brief, ..demand.clone() }
    }

    /// How the stream does, for people: `at half rate, without its 2 best encoded rungs`.
    pub fn words(self) -> String {
        let mut parts = Vec::new();
        match self.rungs_off {
            0 => {}
            1 => parts.push("without its best encoded rung".to_owned()),
            n => parts.push(format!("without its {n} best encoded rungs")),
        }
        if self.half_rate {
            parts.push("at half rate".to_owned());
        }
        if self.brief {
            parts.push("by a faster preset".to_owned());
        }
        if parts.is_empty() { "whole".to_owned() } else { parts.join(", ") }
    }

    /// Encoders of the two give other parameter sets (rules.md 5): a preset of another kind, or another rate.
    pub fn is_another_init(self, other: Self) -> bool {
        (self.brief, self.half_rate) != (other.brief, other.half_rate)
    }

    /// How far it goes: 0 nothing, 1 the preset, 2 half the rate, 3 rungs.
    pub const fn depth(self) -> i64 {
        match self {
            Self { rungs_off: 1.., .. } => 3,
            Self { half_rate: true, .. } => 2,
            Self { brief: true, .. } => 1,
            _ => 0,
        }
    }

    /// The last step by name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self { rungs_off: 1.., .. } => "rungs",
            Self { half_rate: true, .. } => "half_rate",
            Self { brief: true, .. } => "preset",
            _ => "none",
        }
    }
}

/// It has a rate that may be halved.
fn is_fast(rung: &Rung) -> bool {
    !rung.halved && rung.fps.milli() > FULL_RATE
}

/// One of a stream's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// What it goes without.
    pub saving: Saving,
    /// What it costs then.
    pub cost: Amounts,
    /// Encoded rungs that it has then.
    pub rungs: usize,
}

/// A stream's steps, each with what it costs then: everything, the least work, half the rate, then rungs off. A source that is not passed through keeps its
/// lowest rung, or nothing would be left of it. Steps that save nothing are not among them.
pub fn steps(demand: &Demand, prices: &Prices) -> Vec<Way> {
    let mut savings = vec![Saving::NONE];
    let has_brief = match prices.encoder {
        Encoder::None => false,
        Encoder::Software => prices.brief != prices.software,
        Encoder::Nvidia(class) => class != Class::Dense,
    };
    let mut saving = Saving::NONE;
    if has_brief && !demand.rungs.is_empty() {
        saving.brief = true;
        savings.push(saving);
    }
    if demand.rungs.iter().any(is_fast) {
        saving.half_rate = true;
        savings.push(saving);
    }
    let most = demand.rungs.len().saturating_sub(usize::from(!demand.passthrough));
    for off in 1..=u8::try_from(most).unwrap_or(u8::MAX) {
        savings.push(Saving { rungs_off: off, ..saving });
    }
    let way = |saving: Saving| {
        let made = saving.of(demand);
        Way { saving, cost: made.cost(prices), rungs: made.rungs.len() }
    };
    savings.into_iter().map(way).collect()
}
