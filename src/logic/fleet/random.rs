//! Random numbers that a seed repeats on every machine.

/// splitmix64 (Steele, Lea, Flood 2014): a number says everything about a run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both among them; `low` where there is nothing between.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1).max(1);
        // The bias is under span / 2^64.
        low.saturating_add(u64::try_from((u128::from(self.next()) * u128::from(span)) >> 64).unwrap_or(0))
    }

    /// Of an exponential distribution with this mean.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        // 53 bits, never 0.
        let unit = ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        // Beyond u64 the cast stops at its largest number.
        (-unit.ln() * mean as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_repeated_and_stay_within_their_bounds() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.between(3, 7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!((draw(1).iter().min(), draw(1).iter().max()), (Some(&3), Some(&7)));
        assert_eq!(Random::new(1).between(5, 5), 5);
        let mut random = Random::new(1);
        let mean = (0..10_000).map(|_| random.exponential(1000)).sum::<u64>() / 10_000;
        assert!((950..1050).contains(&mean), "{mean}");
    }
}
