//! Gain and limiter on interleaved stereo samples. Pure.
//!
//! Sample peaks are limited, not true peaks: what comes out never exceeds the ceiling, and a decoder may show a little more between the samples. A block
//! is held back while the next one is looked at, so that the gain is down before a peak comes and no sample is cut.

use std::collections::VecDeque;

/// Frames of a block: 10 ms at 48 kHz, over which the gain moves in a line.
const BLOCK: usize = 480;

/// Frames by which sound comes out later.
pub const DELAY: usize = 2 * BLOCK;

const CHANNELS: usize = 2;

/// Behind a peak the gain rises by this factor from block to block: 20 dB in a second.
const RISE: f32 = 1.023_293;

/// Beyond what any decoder gives for a lawful stream: +36 dB of full scale.
const MAX_SAMPLE: f32 = 64.0;

/// See above.
#[derive(Debug)]
pub struct Leveller {
    ceiling: f32,
    wanted: f32,
    /// At the end of the last block that went out.
    factor: f32,
    /// Being filled.
    next: Vec<f32>,
    /// Waits for it.
    held: Vec<f32>,
    out: VecDeque<f32>,
}

fn peak(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |peak, s| peak.max(s.abs()))
}

impl Leveller {
    /// No sample comes out above `ceiling` (1: full scale).
    pub fn new(ceiling: f32) -> Self {
        Self {
            ceiling,
            wanted: 1.0,
            factor: 1.0,
            next: Vec::with_capacity(BLOCK * CHANNELS),
            held: vec![0.0; BLOCK * CHANNELS],
            out: VecDeque::from(vec![0.0; BLOCK * CHANNELS]),
        }
    }

    /// The gain from here on, thousandths of a decibel.
    pub fn set_gain(&mut self, thousandths: i32) {
        self.wanted = 10f32.powf(thousandths as f32 / 20_000.0);
    }

    /// Takes these samples and puts what came [`DELAY`] frames earlier in their place.
    pub fn process(&mut self, samples: &mut [f32]) {
        for sample in samples {
            // What is no number would stay in the gain for ever.
            let taken = if sample.is_finite() { sample.clamp(-MAX_SAMPLE, MAX_SAMPLE) } else { 0.0 };
            self.next.push(taken);
            *sample = self.out.pop_front().unwrap_or(0.0);
            if self.next.len() == BLOCK * CHANNELS {
                self.turn();
            }
        }
    }

    /// The held block goes out: its gain moves to one at which neither it nor the next block exceeds the ceiling. The gain that it begins with was
    /// chosen so for it.
    fn turn(&mut self) {
        let most = self.ceiling / peak(&self.held).max(peak(&self.next)).max(f32::MIN_POSITIVE);
        let end = self.wanted.min(self.factor * RISE).min(most);
        let step = (end - self.factor) / BLOCK as f32;
        for (n, frame) in self.held.chunks_exact(CHANNELS).enumerate() {
            let factor = self.factor + step * (n + 1) as f32;
            // A rounding error at the ceiling itself.
            self.out.extend(frame.iter().map(|s| (s * factor).clamp(-self.ceiling, self.ceiling)));
        }
        self.factor = end;
        std::mem::swap(&mut self.held, &mut self.next);
        self.next.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `frames` of a tone, both channels alike.
    fn tone(frames: usize, amplitude: f32) -> Vec<f32> {
        (0..frames * CHANNELS).map(|n| amplitude * ((n / CHANNELS) as f32 * 0.13).sin()).collect()
    }

    #[test]
    fn without_gain_and_peaks_sound_comes_out_as_it_was_a_little_later() {
        let mut l = Leveller::new(1.0);
        let source = tone(5000, 0.9);
        let mut out = source.clone();
        // in pieces of any size
        out.chunks_mut(2 * 333).for_each(|piece| l.process(piece));
        assert!(out[..DELAY * CHANNELS].iter().all(|s| *s == 0.0));
        assert_eq!(out[DELAY * CHANNELS..], source[..source.len() - DELAY * CHANNELS]);
    }

    #[test]
    fn a_peak_is_met_by_a_lower_gain_and_not_cut() {
        let mut l = Leveller::new(0.5);
        let source = [tone(4800, 0.2), tone(4800, 2.0), tone(4800, 0.2)].concat();
        let mut out = source.clone();
        l.process(&mut out);
        // from its first sample on
        let at = (4800 + DELAY) * CHANNELS;
        let loud = &out[at..(9600 + DELAY - BLOCK) * CHANNELS];
        assert!(peak(loud) <= 0.5 && peak(loud) > 0.49);
        // a scaled copy: no flat tops
        let was = &source[at - DELAY * CHANNELS..];
        assert!(loud.iter().zip(was).all(|(o, i)| (o - i * 0.25).abs() < 0.01));
    }

    #[test]
    fn the_gain_is_followed_and_rises_slowly_behind_a_peak() {
        let mut l = Leveller::new(1.0);
        l.set_gain(6000);
        let mut out = [tone(48_000, 0.1), tone(480, 10.0), tone(96_000, 0.1)].concat();
        l.process(&mut out);
        assert!((peak(&out[60_000..90_000]) - 0.1995).abs() < 0.001);
        let behind = (48_000 + 480 + DELAY + 4800) * CHANNELS;
        assert!(peak(&out[behind..behind + 960]) < 0.02, "still low");
        assert!((peak(&out[out.len() - 960..]) - 0.1995).abs() < 0.001, "and back");
    }

    proptest! {
        #[test]
        fn nothing_exceeds_the_ceiling(
            parts in proptest::collection::vec((1usize..3000, prop_oneof![0f32..1.0, 0f32..100.0, Just(f32::NAN), Just(f32::INFINITY)], -12_000i32..=12_000), 1..30),
        ) {
            let mut l = Leveller::new(0.891);
            for (frames, amplitude, gain) in parts {
                l.set_gain(gain);
                let mut out = tone(frames, amplitude);
                l.process(&mut out);
                prop_assert!(peak(&out) <= 0.891 && out.iter().all(|s| s.is_finite()));
            }
        }
    }
}
