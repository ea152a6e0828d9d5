//! What is done with a source's audio: copied, re-encoded, or left out. Pure.

use serde::{Deserialize, Serialize};

use super::model::AudioFormat;
use crate::cmaf::aac::{self, Config};

/// Rate of re-encoded audio, bits per second: that of most publishers, and transparent for most ears at stereo.
pub const BITS_PER_SECOND: u32 = 128_000;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Means {
    /// There are codec processes.
    pub can_encode: bool,
    /// Loudness that all audio is brought to, centi-LUFS.
    pub target: Option<i32>,
    /// By how many millionths its samples are faster than the publisher's times, if that is to be mended; 0: it is not.
    pub stretch_ppm: i32,
}

/// What is done with one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// Its frames are packed as they are.
    Copied,
    /// The codec process makes 48 kHz stereo AAC-LC of it.
    Reencoded {
        /// What players do not take, if that is why.
        reason: Option<String>,
    },
    /// It cannot be published here.
    LeftOut {
        /// Why.
        reason: String,
    },
}

/// What the codec process has to do with a source's audio. It measures its loudness in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// As published.
    pub source: AudioFormat,
    /// Re-encode it; `None`: it is only measured.
    pub encode: Option<AudioEncode>,
}

/// How audio is re-encoded: to AAC-LC, 48 kHz, stereo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioEncode {
    /// Bits per second.
    pub bits_per_second: u32,
    /// Loudness to bring it to, centi-LUFS; `None`: as it is.
    pub target: Option<i32>,
    /// Millionths by which the decoder's samples are taken to be faster than their rate says (negative: slower), so that they come out in the time that the
    /// publisher gave them (rules.md 11); -20,000 to 20,000.
    pub stretch_ppm: i32,
}

/// What players do not take in this format, in a few words; `None` when all take it: AAC-LC, mono or stereo.
fn obstacle(source: &AudioFormat) -> Option<String> {
    let config = Config::read(&source.asc).ok()?;
    let kind = match (config.core, config.sbr, config.ps) {
        (_, _, true) => "HE-AAC v2",
        (_, true, _) => "HE-AAC",
        (1, ..) => "AAC Main",
        (4, ..) => "AAC LTP",
        _ => "AAC-LC",
    };
    let layout = match config.layout {
        0 => "channels in an order of their own",
        1 => "mono",
        2 => "stereo",
        3 => "3.0",
        4 => "4.0",
        5 => "5.0",
        6 => "5.1",
        11 => "6.1",
        _ => "7.1",
    };
    match (kind, config.layout) {
        ("AAC-LC", 1 | 2) => None,
        (_, 1 | 2) => Some(kind.into()),
        _ => Some(format!("{kind} {layout}")),
    }
}

/// What is done with a source's audio.
pub fn treat(source: &AudioFormat, means: Means) -> Treatment {
    match (obstacle(source), means) {
        (reason @ Some(_), Means { can_encode: true, .. }) => Treatment::Reencoded { reason },
        (Some(what), _) => {
            Treatment::LeftOut { reason: format!("{what} would have to be re-encoded, and nothing is encoded here") }
        }
        (None, Means { can_encode: true, target, stretch_ppm }) if target.is_some() || stretch_ppm != 0 => {
            Treatment::Reencoded { reason: None }
        }
        (None, _) => Treatment::Copied,
    }
}

impl Treatment {
    /// The format that is published.
    pub fn published(&self, source: &AudioFormat) -> AudioFormat {
        match self {
            Self::Copied => source.clone(),
            Self::Reencoded { .. } | Self::LeftOut { .. } => AudioFormat { language: source.language, ..aac::silent_format() },
        }
    }

    /// Frames come from the codec process.
    pub fn is_reencoded(&self) -> bool {
        matches!(self, Self::Reencoded { .. })
    }

    /// What the codec process has to do, where there is one.
    pub fn plan(&self, source: &AudioFormat, means: Means) -> Option<AudioPlan> {
        let Means { can_encode, target, stretch_ppm } = means;
        let encode = AudioEncode { bits_per_second: BITS_PER_SECOND, target, stretch_ppm };
        let encode = self.is_reencoded().then_some(encode);
        (can_encode && !matches!(self, Self::LeftOut { .. })).then(|| AudioPlan { source: source.clone(), encode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn format(asc: &'static [u8]) -> AudioFormat {
        aac::read_config(&Bytes::from_static(asc)).unwrap()
    }

    const FREE: Means = Means { can_encode: true, target: None, stretch_ppm: 0 };

    #[test]
    fn mono_and_stereo_lc_are_copied_at_every_rate() {
        // 48, 44.1, 32, 24, 22.05 kHz; mono; with an empty SBR signal behind
        for asc in [
            &[0x11, 0x90][..],
            &[0x12, 0x10],
            &[0x12, 0x90],
            &[0x13, 0x10],
            &[0x13, 0x90],
            &[0x11, 0x88],
            &[0x11, 0x90, 0x56, 0xe5, 0],
        ] {
            let source = format(asc);
            let treatment = treat(&source, FREE);
            assert_eq!(treatment, Treatment::Copied);
            assert_eq!(treatment.published(&source), source);
            assert_eq!(treatment.plan(&source, FREE).unwrap().encode, None, "measured all the same");
            assert_eq!(treatment.plan(&source, Means::default()), None);
        }
    }

    #[test]
    fn what_players_do_not_take_is_reencoded_or_left_out_by_name() {
        for (asc, name) in [
            (&[0x2b, 0x11, 0x88, 0x00][..], "HE-AAC"),
            (&[0xeb, 0x09, 0x88, 0x00], "HE-AAC v2"),
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], "HE-AAC"),
            (&[0x09, 0x90], "AAC Main"),
            (&[0x11, 0xb0], "AAC-LC 5.1"),
            (&[0x11, 0x98], "AAC-LC 3.0"),
            (&[0x2b, 0x31, 0x88, 0x00], "HE-AAC 5.1"),
        ] {
            let source = format(asc);
            let treatment = treat(&source, FREE);
            assert_eq!(treatment, Treatment::Reencoded { reason: Some(name.into()) });
            assert_eq!(treatment.published(&source), aac::silent_format());
            let encode = treatment.plan(&source, FREE).unwrap().encode.unwrap();
            assert_eq!(encode, AudioEncode { bits_per_second: 128_000, target: None, stretch_ppm: 0 });
            let left = treat(&source, Means::default());
            assert!(matches!(&left, Treatment::LeftOut { reason } if reason.starts_with(name)), "{left:?}");
            assert_eq!(left.plan(&source, Means::default()), None);
        }
    }

    #[test]
    fn a_loudness_target_sends_all_audio_through_the_encoder() {
        let means = Means { target: Some(-2300), ..FREE };
        let source = format(&[0x11, 0x90]);
        let treatment = treat(&source, means);
        assert_eq!(treatment, Treatment::Reencoded { reason: None });
        assert_eq!(treatment.plan(&source, means).unwrap().encode.unwrap().target, Some(-2300));
        assert_eq!(treat(&source, Means { can_encode: false, ..means }), Treatment::Copied);
    }

    #[test]
    fn audio_that_is_always_off_goes_through_the_encoder_where_there_is_one() {
        let means = Means { stretch_ppm: -5000, ..FREE };
        let source = format(&[0x12, 0x10]);
        let treatment = treat(&source, means);
        assert_eq!((&treatment, treatment.published(&source)), (&Treatment::Reencoded { reason: None }, aac::silent_format()));
        assert_eq!(treatment.plan(&source, means).unwrap().encode.unwrap().stretch_ppm, -5000);
        assert_eq!(treat(&source, Means { can_encode: false, ..means }), Treatment::Copied);
    }
}
