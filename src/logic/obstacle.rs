//! Why a source is not passed through as it is. Pure; what follows from it is the timeline's business.

use std::fmt;

use super::model::{Coding, VideoFormat};
use super::time::MediaTime;
use super::timeline::Policy;
use crate::cmaf::video::{self, Chroma};

/// A GOP above this is not passed through, and the first playlist waits no longer for the second IDR (rules.md 3).
pub const MAX_GOP: MediaTime = MediaTime::from_millis(4500);

/// Highest level_idc that is passed through: 4.2, what decoders in phones of ten years ago have.
pub const MAX_LEVEL: u8 = 42;

/// Likewise of HEVC and AV1, in tenths: 5.1, which every decoder of them in hardware has (2160p60).
const MAX_LEVEL_NEWER: u8 = 51;

/// One reason, with what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Browsers differ in whether they play it.
    Coding(Coding),
    /// The session's source rung is of another coding (the second), and players that chose it decode no other.
    OtherCoding(Coding, Coding),
    /// Fields may occur. Browsers show both at once.
    Interlaced,
    /// More than 8 bits a sample.
    Depth(u8),
    /// Colour samples other than 4:2:0.
    Chroma(Chroma),
    /// A profile that is neither Baseline, Main nor High; RFC 6381.
    Profile(String),
    /// A level above [`MAX_LEVEL`]; RFC 6381.
    Level(String),
    /// Larger than viewers' screens.
    Size {
        /// As displayed.
        width: u32,
        /// As displayed.
        height: u32,
        /// Short side that is passed through at the most.
        limit: u32,
    },
    /// More than viewers' lines.
    Bitrate {
        /// Measured, bits per second.
        measured: u64,
        /// Allowed, bits per second.
        limit: u64,
    },
    /// No IDR within [`MAX_GOP`].
    Gop,
}

impl Obstacle {
    /// Viewers could not see it, so it is not shown even where nobody can encode.
    pub const fn is_unplayable(&self) -> bool {
        matches!(
            self,
            Self::Coding(_) | Self::OtherCoding(..) | Self::Interlaced | Self::Depth(_) | Self::Chroma(_) | Self::Profile(_)
        )
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coding(coding) => write!(f, "{} is not played by every browser: send H.264", coding.as_str()),
            Self::OtherCoding(coding, rung) => {
                write!(f, "the stream began as {} and comes as {}: send the same again", rung.as_str(), coding.as_str())
            }
            Self::Interlaced => f.write_str("interlaced video is not played by browsers: send progressive pictures"),
            Self::Depth(bits) => {
                write!(f, "{bits}-bit video is not played by browsers: set Color Format NV12 in OBS (Settings, Advanced)")
            }
            Self::Chroma(chroma) => {
                let chroma = chroma.as_str();
                write!(f, "{chroma} video is not played by browsers: set Color Format NV12 in OBS (Settings, Advanced)")
            }
            Self::Profile(codec) | Self::Level(codec) => {
                write!(f, "{codec} is not played by browsers: use profile High, at most level 4.2")
            }
            Self::Size { width, height, limit } => write!(f, "{width}x{height} is larger than {limit}p"),
            Self::Bitrate { measured, limit } => {
                write!(f, "{} kbit/s is over the limit of {} kbit/s", measured / 1000, limit / 1000)
            }
            Self::Gop => f.write_str("no key frame within 4.5 s: set the keyframe interval to 2 s in OBS"),
        }
    }
}

/// What the parameter sets alone say, known before the first picture.
pub fn of_format(format: &VideoFormat, policy: &Policy) -> Option<Obstacle> {
    let coding = format.coding();
    if !policy.passthrough_codecs.contains(&coding) {
        return Some(Obstacle::Coding(coding));
    }
    if let Some(picture) = video::picture(format) {
        if picture.interlaced {
            return Some(Obstacle::Interlaced);
        }
        if picture.depth > 8 {
            return Some(Obstacle::Depth(picture.depth));
        }
        if picture.chroma != Chroma::Quarter {
            return Some(Obstacle::Chroma(picture.chroma));
        }
        // Baseline, Main and High of H.264, and Main of the others, at 8 bits 4:2:0 are what browsers decode.
        let (played, level) = match coding {
            Coding::H264 => (matches!(picture.profile, 66 | 77 | 100), MAX_LEVEL),
            Coding::Hevc => (picture.profile == 1, MAX_LEVEL_NEWER),
            Coding::Av1 => (picture.profile == 0, MAX_LEVEL_NEWER),
        };
        if !played {
            return Some(Obstacle::Profile(format.codec.clone()));
        }
        if picture.level > level {
            return Some(Obstacle::Level(format.codec.clone()));
        }
    }
    let (width, height) = video::displayed(format);
    let limit = policy.passthrough_short_side;
    (width.min(height) > limit).then_some(Obstacle::Size { width, height, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::h264::read_record;
    use crate::cmaf::h264::tests::records::{self, bytes};

    fn of(hex: &str) -> Option<Obstacle> {
        of_format(&read_record(&bytes(hex), None).unwrap(), &Policy::default())
    }

    #[test]
    fn only_progressive_8_bit_420_is_passed_through() {
        assert_eq!(of(records::BASELINE), None);
        assert_eq!(of(records::WIDE_576), None, "samples that are not square are passed through with their shape");
        assert_eq!(of(records::INTERLACED), Some(Obstacle::Interlaced));
        assert_eq!(of(records::HIGH_10), Some(Obstacle::Depth(10)));
        assert_eq!(of(records::HIGH_422), Some(Obstacle::Chroma(Chroma::Half)));
        assert_eq!(of(records::HIGH_444), Some(Obstacle::Chroma(Chroma::Full)));
        assert_eq!(of(records::GREY), Some(Obstacle::Chroma(Chroma::None)));
        for hex in [records::INTERLACED, records::HIGH_10, records::HIGH_422, records::HIGH_444, records::GREY] {
            assert!(of(hex).unwrap().is_unplayable());
        }
    }

    #[test]
    fn hevc_and_av1_are_shown_by_what_is_made_of_them() {
        use crate::cmaf::{av1, h265};
        let hevc = h265::read_record(&bytes(h265::tests::records::MAIN), None).unwrap();
        let av1 = av1::read_record(&bytes(av1::tests::records::MAIN), None).unwrap();
        for (format, coding) in [(hevc, Coding::Hevc), (av1, Coding::Av1)] {
            let obstacle = of_format(&format, &Policy::default()).unwrap();
            assert_eq!(obstacle, Obstacle::Coding(coding));
            assert!(obstacle.is_unplayable() && obstacle.to_string().starts_with(coding.as_str()), "{obstacle}");
            let allowed = Policy { passthrough_codecs: vec![Coding::H264, coding], ..Policy::default() };
            assert_eq!(of_format(&format, &allowed), None);
        }
    }

    #[test]
    fn of_hevc_only_main_is_passed_through() {
        use crate::cmaf::h265::{self, tests::records as hevc};
        let allowed = Policy { passthrough_codecs: vec![Coding::H264, Coding::Hevc], ..Policy::default() };
        let of = |hex| of_format(&h265::read_record(&bytes(hex), None).unwrap(), &allowed);
        assert_eq!((of(hevc::MAIN), of(hevc::WIDE_576), of(hevc::HD_60)), (None, None, None));
        assert_eq!(of(hevc::MAIN_10), Some(Obstacle::Depth(10)));
        assert_eq!(of(hevc::RANGE_422), Some(Obstacle::Chroma(Chroma::Half)));
        assert_eq!(of(hevc::INTERLACED), Some(Obstacle::Interlaced));
    }

    #[test]
    fn the_size_is_the_displayed_one() {
        let policy = |limit| Policy { passthrough_short_side: limit, ..Policy::default() };
        let wide = read_record(&bytes(records::WIDE_576), None).unwrap();
        assert_eq!(of_format(&wide, &policy(576)), None);
        let obstacle = of_format(&wide, &policy(540)).unwrap();
        assert_eq!(obstacle.to_string(), "1024x576 is larger than 540p");
        assert!(!obstacle.is_unplayable());
        let uhd = VideoFormat { width: 3840, height: 2160, ..wide };
        assert!(matches!(of_format(&uhd, &Policy::default()), Some(Obstacle::Size { height: 2160, limit: 1080, .. })));
    }
}
