//! What is known of a picture's coding whichever it is: H.264, HEVC or AV1. The three modules beside this one read the bits; here a format's coding decides
//! which of them is asked. Pure and bounded.

use bytes::Bytes;

use super::{av1, h264, h265};
use crate::logic::model::{Coding, FrameRate, VideoFormat};

/// Why a decoder configuration record or an access unit cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VideoError {
    /// Of H.264.
    #[error(transparent)]
    H264(#[from] h264::H264Error),
    /// Of HEVC.
    #[error(transparent)]
    Hevc(#[from] h265::HevcError),
    /// Of AV1.
    #[error(transparent)]
    Av1(#[from] av1::Av1Error),
}

/// Larger or smaller than anything that a level allows in practice, whatever the coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("picture of {width}x{height} is outside 16x16 to 8192x8192")]
pub struct BadSize {
    /// Luma samples.
    pub width: u32,
    /// Luma samples.
    pub height: u32,
}

impl BadSize {
    /// Lets sizes pass that are within.
    pub(super) fn check(width: u32, height: u32) -> Result<(), Self> {
        let within = |side: u32| (16..=8192).contains(&side);
        if within(width) && within(height) { Ok(()) } else { Err(Self { width, height }) }
    }
}

/// Colour samples against luma samples (ITU-T H.264, table 6-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chroma {
    /// 4:0:0, grey.
    None,
    /// 4:2:0, what browsers decode.
    Quarter,
    /// 4:2:2.
    Half,
    /// 4:4:4, or a number that the specification does not have.
    Full,
}

impl Chroma {
    /// `4:2:0`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "4:0:0",
            Self::Quarter => "4:2:0",
            Self::Half => "4:2:2",
            Self::Full => "4:4:4",
        }
    }
}

/// By what luma and colour differences are made of red, green and blue (ITU-T H.273, table 4), of those that a streamer can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// Of standard definition.
    Bt601,
    /// Of high definition; what OBS sends by default.
    Bt709,
    /// Of wide gamuts.
    Bt2020,
}

impl Matrix {
    /// By its number, MatrixCoefficients; `None` where none is told, or another one.
    pub(super) const fn told(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Bt709),
            // FCC's differs from BT.601's by a thousandth.
            4..=6 => Some(Self::Bt601),
            9 | 10 => Some(Self::Bt2020),
            _ => None,
        }
    }

    /// What decoders and players take for one that is not told, of pictures so many samples high (GStreamer's gst_video_info_set_format; Chromium likewise).
    pub const fn of_height(height: u32) -> Self {
        if height <= 576 { Self::Bt601 } else { Self::Bt709 }
    }
}

/// What decides whether a source can be passed through and where it can be decoded, and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// How it is coded.
    pub coding: Coding,
    /// H.264's profile_idc (66 Baseline, 77 Main, 100 High, 110 High 10, 122 High 4:2:2), HEVC's general_profile_idc (1 Main, 2 Main 10), AV1's seq_profile
    /// (0 Main).
    pub profile: u8,
    /// The level in tenths: 41 is level 4.1.
    pub level: u8,
    /// Sample aspect ratio, width to height; 1:1 where none is told or none can be meant.
    pub sar: (u32, u32),
    /// Colour samples.
    pub chroma: Chroma,
    /// Bits of a sample, luma or chroma, whichever has more: 8 to 16.
    pub depth: u8,
    /// Fields may occur.
    pub interlaced: bool,
    /// How its colours are coded, if it says so.
    pub matrix: Option<Matrix>,
}

impl Picture {
    /// The profile's name, `High`; `None` for one that no live encoder makes.
    pub const fn profile_name(&self) -> Option<&'static str> {
        Some(match (self.coding, self.profile) {
            (Coding::H264, 66) => "Baseline",
            (Coding::H264, 77) | (Coding::Hevc, 1) | (Coding::Av1, 0) => "Main",
            (Coding::H264, 88) => "Extended",
            (Coding::H264, 100) | (Coding::Av1, 1) => "High",
            (Coding::H264, 110) => "High 10",
            (Coding::H264, 122) => "High 4:2:2",
            (Coding::H264, 244) => "High 4:4:4",
            (Coding::Hevc, 2) => "Main 10",
            (Coding::Hevc, 4) => "Format Range Extensions",
            (Coding::Av1, 2) => "Professional",
            _ => return None,
        })
    }

    /// Samples are as wide as they are high.
    pub const fn is_square(&self) -> bool {
        self.sar.0 == self.sar.1
    }
}

/// Samples more than so many times as wide as high, or as high as wide, are a mistake of the encoder's: the largest ratio of table E-1 is 160:99.
const MAX_STRETCH: u32 = 4;

/// The sample aspect ratio that can be meant.
pub(super) fn meant(told: Option<(u32, u32)>) -> (u32, u32) {
    let possible = |&(w, h): &(u32, u32)| w > 0 && h > 0 && w / h <= MAX_STRETCH && h / w <= MAX_STRETCH;
    told.filter(possible).unwrap_or((1, 1))
}

/// `units` of a clock with `hz` ticks a second between two pictures, if that is 1 to 240 pictures a second.
pub(super) fn rate(hz: u64, units: u64) -> Option<FrameRate> {
    if units == 0 || hz / units < 1 || hz / units > 240 {
        return None;
    }
    let divisor = gcd(hz, units);
    Some(FrameRate { num: u32::try_from(hz / divisor).ok()?, den: u32::try_from(units / divisor).ok()? })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// What was seen in an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// Decoding can begin here and nothing behind it refers back over it: an IDR picture of H.264 or HEVC, a shown key frame of AV1.
    pub idr: bool,
    /// All its slices are I or SI (H.264).
    pub intra: bool,
    /// A decoder may begin here, but what refers back over it is broken: a recovery point SEI (H.264, D.2.8; HEVC, D.3.8), HEVC's CRA and BLA pictures.
    pub recovery_point: bool,
    /// It brings parameter sets, or AV1's sequence header.
    pub parameter_sets: bool,
    /// It is decoded behind a key picture and shown before it (HEVC's RADL and RASL pictures).
    pub leading: bool,
}

impl Scan {
    /// A GOP begins here without an IDR: open GOP, or intra refresh. `claimed`: the publisher calls it a key frame.
    pub fn begins_open_gop(&self, claimed: bool) -> bool {
        !self.idr && (self.recovery_point || (self.intra && claimed))
    }
}

/// Reads a decoder configuration record. `fallback_fps` is used where it has no timing information.
///
/// # Errors
/// [`VideoError`] for one that cannot be read, or of a kind that nobody here takes.
pub fn read_record(coding: Coding, record: &Bytes, fallback_fps: Option<FrameRate>) -> Result<VideoFormat, VideoError> {
    Ok(match coding {
        Coding::H264 => h264::read_record(record, fallback_fps)?,
        Coding::Hevc => h265::read_record(record, fallback_fps)?,
        Coding::Av1 => av1::read_record(record, fallback_fps)?,
    })
}

/// What an access unit (of AV1: a temporal unit) is.
///
/// # Errors
/// [`VideoError`] when its lengths do not add up.
pub fn scan(coding: Coding, data: &[u8]) -> Result<Scan, VideoError> {
    Ok(match coding {
        Coding::H264 => h264::scan(data)?,
        Coding::Hevc => h265::scan(data)?,
        Coding::Av1 => av1::scan(data)?,
    })
}

/// An access unit as a sample of its own coding's sample entry: without what the entry says itself, HEVC's parameter sets, and without AV1's temporal delimiters.
pub fn sample(coding: Coding, data: Bytes) -> Bytes {
    match coding {
        Coding::H264 => data,
        Coding::Hevc => h265::without_sets(&data),
        Coding::Av1 => av1::without_delimiters(&data),
    }
}

/// The record that is in force behind an access unit, when its parameter sets are others than the format's; `None` when they say nothing new.
///
/// # Errors
/// [`VideoError`] when they cannot be read.
pub fn renewed(format: &VideoFormat, data: &[u8]) -> Result<Option<Bytes>, VideoError> {
    renewed_record(format.coding(), &format.avcc, data)
}

/// The same of a record that nobody has read yet.
///
/// # Errors
/// As [`renewed`].
pub fn renewed_record(coding: Coding, record: &[u8], data: &[u8]) -> Result<Option<Bytes>, VideoError> {
    Ok(match coding {
        Coding::H264 => h264::renewed(record, data)?,
        Coding::Hevc => h265::renewed(record, data)?,
        Coding::Av1 => av1::renewed(record, data)?,
    })
}

/// The record of a source that announces nothing, as MPEG-TS does: made of an access unit's parameter sets. `None` while it has not all of them, and always of AV1,
/// which is not taken over MPEG-TS.
///
/// # Errors
/// [`VideoError`] when they cannot be read.
pub fn first_record(coding: Coding, data: &[u8]) -> Result<Option<Bytes>, VideoError> {
    Ok(match coding {
        Coding::H264 => h264::first_record(data)?,
        Coding::Hevc => h265::first_record(data)?,
        Coding::Av1 => None,
    })
}

/// What a format's record says of the pictures beside their size; `None` where there is none that can be read.
pub fn picture(format: &VideoFormat) -> Option<Picture> {
    match format.coding() {
        Coding::H264 => h264::picture(&format.avcc),
        Coding::Hevc => h265::picture(&format.avcc),
        Coding::Av1 => av1::picture(&format.avcc),
    }
}

/// The size at which the picture is shown, in square samples: the height as it is, the width by the sample aspect ratio, to the nearest whole sample.
pub fn displayed(format: &VideoFormat) -> (u32, u32) {
    let (w, h) = picture(format).map_or((1, 1), |p| p.sar);
    let width = (u64::from(format.width) * u64::from(w) + u64::from(h) / 2) / u64::from(h);
    (u32::try_from(width).unwrap_or(u32::MAX).max(1), format.height)
}

/// How a format's colours are coded: as it says, or as everybody takes it where it says nothing.
pub fn matrix(format: &VideoFormat) -> Matrix {
    picture(format).and_then(|p| p.matrix).unwrap_or(Matrix::of_height(format.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lack_what_their_entry_says_and_nothing_else() {
        let unit = |nals: &[&[u8]]| -> Bytes {
            nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect::<Vec<u8>>().into()
        };
        let (vps, sps, pps, sei, idr) = (&[0x40, 1, 7], &[0x42, 1, 7], &[0x44, 1, 7], &[0x4e, 1, 7], &[0x26, 1, 7]);
        assert_eq!(sample(Coding::Hevc, unit(&[vps, sps, pps, sei, idr])), unit(&[sei, idr]));
        let delimited = Bytes::from_static(&[0x12, 0, 0x32, 1, 0x10]);
        assert_eq!(sample(Coding::Av1, delimited), [0x32, 1, 0x10][..]);
        let avc = unit(&[&[0x67, 7], &[0x65, 7]]);
        assert_eq!(sample(Coding::H264, avc.clone()), avc, "as it came");
    }

    #[test]
    fn both_sides_are_bounded_and_the_bounds_are_within() {
        for (width, height) in [(16, 16), (8192, 16), (16, 8192), (8192, 8192)] {
            assert_eq!(BadSize::check(width, height), Ok(()));
        }
        for (width, height) in [(15, 16), (16, 15), (8193, 8192), (8192, 8193), (0, u32::MAX)] {
            assert_eq!(BadSize::check(width, height), Err(BadSize { width, height }));
        }
    }
}
