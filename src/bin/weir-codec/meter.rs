//! Loudness of decoded audio (ITU-R BS.1770, EBU R 128), by the crate `ebur128`.

use ebur128::{Channel, EbuR128, Mode};

/// Interleaved samples of one format.
#[derive(Debug)]
pub struct Meter {
    ebu: EbuR128,
    channels: usize,
    rate: u64,
    /// Samples per channel since the last [`Meter::is_due`].
    since: u64,
    clean: Vec<f32>,
}

/// Beyond what any decoder gives for a lawful stream: +36 dB of full scale.
const MAX_SAMPLE: f32 = 64.0;

impl Meter {
    /// `mask`: where the channels are (`GstAudioChannelPosition`), 0 where nothing is known. `None` for a format that has no loudness.
    pub fn new(channels: u32, rate: u32, mask: u64) -> Option<Self> {
        // The histogram keeps a meter that runs for days within a few kilobytes.
        let mut ebu = EbuR128::new(channels, rate, Mode::I | Mode::S | Mode::HISTOGRAM).ok()?;
        if channels > 2 && mask.count_ones() == channels {
            for (channel, bit) in (0..64).filter(|bit| mask >> bit & 1 == 1).enumerate() {
                ebu.set_channel(u32::try_from(channel).ok()?, place(bit)).ok()?;
            }
        }
        Some(Self { ebu, channels: channels as usize, rate: rate.into(), since: 0, clean: Vec::new() })
    }

    /// Interleaved samples.
    pub fn push(&mut self, samples: &[f32]) {
        let clean = |s: &f32| if s.is_finite() { s.clamp(-MAX_SAMPLE, MAX_SAMPLE) } else { 0.0 };
        self.clean.clear();
        self.clean.extend(samples.iter().map(clean));
        self.since += (samples.len() / self.channels) as u64;
        // Fails for a part of a frame only, of which buffers have none.
        let _ = self.ebu.add_frames_f32(&self.clean);
    }

    /// True once for each `millis` of sound.
    pub fn is_due(&mut self, millis: u64) -> bool {
        let due = self.since * 1000 >= self.rate * millis;
        if due {
            self.since = 0;
        }
        due
    }

    /// Since the beginning, in centi-LUFS; `None` when all was below the gate.
    pub fn integrated(&self) -> Option<i32> {
        centi(self.ebu.loudness_global().ok()?)
    }

    /// Of the last 3 s.
    pub fn short_term(&self) -> Option<i32> {
        centi(self.ebu.loudness_shortterm().ok()?)
    }
}

fn centi(lufs: f64) -> Option<i32> {
    (lufs.is_finite() && lufs > -120.0).then(|| (lufs * 100.0).round() as i32)
}

/// The weight of a channel: 1 in front, 1.41 at the sides and behind, none for low frequency effects.
fn place(bit: u32) -> Channel {
    match bit {
        0 | 6 => Channel::Left,
        1 | 7 => Channel::Right,
        2 => Channel::Center,
        4 | 10 => Channel::LeftSurround,
        5 | 8 | 11 => Channel::RightSurround,
        _ => Channel::Unused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One second of 997 Hz in each of `channels`.
    fn tone(channels: usize, amplitude: f32) -> Vec<f32> {
        let sample = |n: usize| amplitude * ((n / channels) as f32 * 997.0 * std::f32::consts::TAU / 48_000.0).sin();
        (0..48_000 * channels).map(sample).collect()
    }

    #[test]
    fn the_reference_tone_has_its_loudness() {
        // EBU Tech 3341, case 1: a stereo sine of -23 dBFS is -23 LUFS
        let mut m = Meter::new(2, 48_000, 3).unwrap();
        assert_eq!((m.integrated(), m.short_term()), (None, None));
        let amplitude = 10f32.powf(-23.0 / 20.0);
        (0..20).for_each(|_| m.push(&tone(2, amplitude)));
        for measured in [m.integrated(), m.short_term()] {
            assert!((measured.unwrap() + 2300).abs() <= 10, "{measured:?}");
        }
    }

    #[test]
    fn low_frequency_effects_count_nothing_and_surround_more() {
        let loudness = |only: usize| {
            let mut m = Meter::new(6, 48_000, 0b11_1111).unwrap();
            let mut samples = tone(6, 0.1);
            samples.iter_mut().enumerate().filter(|(n, _)| n % 6 != only).for_each(|(_, s)| *s = 0.0);
            (0..4).for_each(|_| m.push(&samples));
            m.short_term()
        };
        let (front, surround) = (loudness(0).unwrap(), loudness(4).unwrap());
        assert!((surround - front - 149).abs() <= 2, "{front} {surround}");
        assert_eq!(loudness(3), None);
    }

    #[test]
    fn what_is_no_number_does_no_harm() {
        let mut m = Meter::new(2, 48_000, 3).unwrap();
        m.push(&vec![f32::NAN; 96_000]);
        m.push(&vec![f32::INFINITY; 96_000]);
        (0..10).for_each(|_| m.push(&tone(2, 0.1)));
        assert!((-2400..-1500).contains(&m.short_term().unwrap()));
    }
}
