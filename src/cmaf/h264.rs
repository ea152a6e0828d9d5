//! What we read of H.264: the decoder configuration record, and what an access unit's NAL units are. Pure and bounded.
//!
//! Parameter sets are parsed by `h264-reader`; everything comes from a stranger, so every failure is a typed error.

mod picture;
mod scan;
mod sets;

use bytes::Bytes;
use h264_reader::avcc::AvcDecoderConfigurationRecord;
use h264_reader::nal::sps::SeqParameterSet;

pub use picture::picture;
pub use scan::scan;
pub use sets::{first_record, renewed};

use super::video;
use crate::logic::model::{FrameRate, VideoFormat};

/// Why a decoder configuration record or an access unit cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// The record is no valid AVCDecoderConfigurationRecord, or its SPS is broken.
    #[error("decoder configuration record: {0}")]
    Record(String),
    /// What nobody here takes apart.
    #[error("{0} H.264 is not supported")]
    Unsupported(&'static str),
    /// Larger or smaller than anything that a level of H.264 allows in practice.
    #[error(transparent)]
    Size(#[from] video::BadSize),
    /// The NAL unit lengths do not add up to the access unit.
    #[error("NAL unit lengths do not fit the access unit")]
    Lengths,
}

/// A longer record cannot come from a real encoder: 31 SPS and 255 PPS are allowed, one of each is what is used (about 50 bytes).
const MAX_RECORD: usize = 4096;

/// Macroblock rows at the most, before the size is computed: [`H264Error::Size`] allows 512, and `h264-reader` adds one without a check.
const MAX_MAP_UNITS: u32 = 1 << 16;

/// Reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
///
/// `fallback_fps` is used where the SPS has no timing information.
///
/// # Errors
/// [`H264Error`] for a broken record, a size that no level has, and NAL lengths other than 4 bytes.
pub fn read_record(avcc: &Bytes, fallback_fps: Option<FrameRate>) -> Result<VideoFormat, H264Error> {
    let broken = |e: &dyn std::fmt::Debug| H264Error::Record(format!("{e:?}").chars().take(120).collect());
    if avcc.len() > MAX_RECORD {
        return Err(H264Error::Record(format!("{} bytes long", avcc.len())));
    }
    let record = AvcDecoderConfigurationRecord::try_from(&avcc[..]).map_err(|e| broken(&e))?;
    if avcc.get(4).is_none_or(|b| b & 3 != 3) {
        // Every RTMP sender writes 4; shorter ones would have to be rewritten sample by sample.
        return Err(H264Error::Unsupported("short NAL unit length"));
    }
    let context = record.create_context().map_err(|e| broken(&e))?;
    let sps = context.sps().next().ok_or_else(|| H264Error::Record("no SPS".into()))?;
    if sps.pic_height_in_map_units_minus1 > MAX_MAP_UNITS {
        return Err(H264Error::Record(format!("{} rows of macroblocks", sps.pic_height_in_map_units_minus1)));
    }
    let (width, height) = sps.pixel_dimensions().map_err(|e| broken(&e))?;
    video::BadSize::check(width, height)?;
    let fps = timing(sps).or(fallback_fps).unwrap_or(FrameRate::whole(30));
    let profile: u8 = sps.profile_idc.into();
    let constraints = avcc.get(2).copied().unwrap_or(0);
    let codec = format!("avc1.{profile:02x}{constraints:02x}{:02x}", sps.level_idc);
    Ok(VideoFormat { width, height, fps, codec, avcc: avcc.clone() })
}

/// The frame rate of the SPS's VUI (ITU-T H.264, E.2.1: one frame is two ticks), if it is between 1 and 240.
fn timing(sps: &SeqParameterSet) -> Option<FrameRate> {
    let t = sps.vui_parameters.as_ref()?.timing_info.as_ref()?;
    let (num, den) = (u64::from(t.time_scale), u64::from(t.num_units_in_tick).checked_mul(2)?);
    video::rate(num, den)
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::picture::tests::records;
    use super::*;
    use proptest::prelude::*;

    /// A real record: x264, 1280x720, High, level 3.1, 30 fps.
    pub(crate) const RECORD_720P30: &[u8] = &[
        0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10,
        0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3,
        0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];

    #[test]
    fn size_rate_and_codec_come_from_the_parameter_sets() {
        let f = read_record(&Bytes::from_static(RECORD_720P30), None).unwrap();
        assert_eq!((f.width, f.height, f.codec.as_str()), (1280, 720, "avc1.64001f"));
        assert_eq!(f.fps, FrameRate::whole(30));
    }

    #[test]
    fn short_lengths_are_refused_by_name() {
        let mut record = RECORD_720P30.to_vec();
        record[4] = 0xfd;
        assert_eq!(read_record(&record.into(), None), Err(H264Error::Unsupported("short NAL unit length")));
    }

    proptest! {
        #[test]
        fn mutated_records_never_panic(at in 0usize..60, value in any::<u8>(), cut in 0usize..60) {
            let mut record = RECORD_720P30.to_vec();
            if let Some(b) = record.get_mut(at) { *b = value }
            record.truncate(cut);
            let _ = read_record(&record.into(), None);
        }
    }
}
