//! How loud the source is, and how its gain follows a target. Pure: whole numbers, no samples.
//!
//! Loudness is that of ITU-R BS.1770 in hundredths of LUFS; gains are in thousandths of a decibel.

use serde::{Deserialize, Serialize};

/// Quieter than this no programme is, and louder none: beyond the full scale of BS.1770's meter on either side. Centi-LUFS.
const RANGE: std::ops::RangeInclusive<i32> = -12_000..=3000;

/// Short-term loudness below this is a pause or noise: the gain stays. Centi-LUFS: 20 LU under the quietest target and a little more.
const GATE: i32 = -4600;

/// Gain at the most: more would lift a noisy room into the programme.
const MAX_GAIN: i32 = 12_000;

/// And at the least: from the loudest that there is, a tone at full scale, to the quietest target.
const MIN_GAIN: i32 = -24_000;

/// The gain falls by this much in a second at the most: 2 dB, so that a loud passage is met within the meter's 3 s window.
const ATTACK_PER_SECOND: i32 = 2000;

/// And rises by this much: 0.5 dB, slower than music's own dynamics.
const RELEASE_PER_SECOND: i32 = 500;

/// What the codec process measured. Nothing until a meter's window was filled, or while all was below its gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loudness {
    /// Since the measuring began, gated (EBU R 128). Centi-LUFS.
    pub integrated: Option<i32>,
    /// Of the last 3 s (EBU Tech 3341). Centi-LUFS.
    pub short_term: Option<i32>,
    /// Where loudness is corrected: what is added now, thousandths of a decibel.
    pub gain: Option<i32>,
}

impl Loudness {
    /// Without values that no meter can show: the other side of the link is not trusted.
    pub fn sane(self) -> Self {
        let lufs = |v: Option<i32>| v.filter(|v| RANGE.contains(v));
        Self {
            integrated: lufs(self.integrated),
            short_term: lufs(self.short_term),
            gain: self.gain.filter(|g| (MIN_GAIN..=MAX_GAIN).contains(g)),
        }
    }
}

/// Follows a target slowly. Peaks are not its affair: a limiter stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gain {
    target: i32,
    gain: i32,
}

impl Gain {
    /// Begins at 0 dB. `target` in centi-LUFS.
    pub fn new(target: i32) -> Self {
        Self { target, gain: 0 }
    }

    /// `millis` of sound with this short-term loudness (centi-LUFS) have passed. Gives the gain from here on, thousandths of a decibel.
    pub fn step(&mut self, short_term: Option<i32>, millis: u32) -> i32 {
        let Some(loudness) = short_term.filter(|&l| l >= GATE) else { return self.gain };
        let wanted = self.target.saturating_sub(loudness).saturating_mul(10).clamp(MIN_GAIN, MAX_GAIN);
        let most = |per_second: i32| i32::try_from(i64::from(per_second) * i64::from(millis) / 1000).unwrap_or(i32::MAX);
        let change = wanted - self.gain;
        self.gain += change.clamp(-most(ATTACK_PER_SECOND), most(RELEASE_PER_SECOND));
        self.gain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quiet_source_is_lifted_to_the_target_by_half_a_decibel_a_second() {
        let mut g = Gain::new(-2300);
        let gains: Vec<i32> = (0..200).map(|_| g.step(Some(-2900), 100)).collect();
        assert_eq!((gains[9], gains[119], gains[199]), (500, 6000, 6000));
    }

    #[test]
    fn a_loud_source_is_lowered_by_two_decibels_a_second() {
        let mut g = Gain::new(-2300);
        let gains: Vec<i32> = (0..100).map(|_| g.step(Some(-1300), 100)).collect();
        assert_eq!((gains[9], gains[49], gains[99]), (-2000, -10_000, -10_000));
    }

    #[test]
    fn pauses_and_whispers_are_not_lifted_and_the_gain_has_an_end() {
        let mut g = Gain::new(-1400);
        for _ in 0..100 {
            g.step(Some(-1900), 100);
        }
        assert_eq!(g.step(None, 60_000), 5000);
        assert_eq!(g.step(Some(-5000), 60_000), 5000);
        for _ in 0..100 {
            g.step(Some(-4500), 1000);
        }
        assert_eq!(g.step(Some(-4500), 1000), MAX_GAIN);
    }

    #[test]
    fn numbers_that_no_meter_shows_are_dropped() {
        let l = Loudness { integrated: Some(i32::MIN), short_term: Some(-2300), gain: Some(i32::MIN + 1) }.sane();
        assert_eq!(l, Loudness { integrated: None, short_term: Some(-2300), gain: None });
    }

    proptest! {
        #[test]
        fn it_never_moves_faster_than_it_may(steps in proptest::collection::vec((proptest::option::of(-12_000i32..3000), 1u32..2000), 1..200)) {
            let mut g = Gain::new(-2300);
            let mut before = 0;
            for (loudness, millis) in steps {
                let after = g.step(loudness, millis);
                let change = i64::from(after - before) * 1000;
                prop_assert!(change <= i64::from(RELEASE_PER_SECOND) * i64::from(millis));
                prop_assert!(change >= -i64::from(ATTACK_PER_SECOND) * i64::from(millis));
                prop_assert!((MIN_GAIN..=MAX_GAIN).contains(&after));
                before = after;
            }
        }
    }
}
