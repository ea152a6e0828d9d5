//! What a record's first SPS says of the pictures, beside their size.

use h264_reader::avcc::AvcDecoderConfigurationRecord;
use h264_reader::nal::sps::{ChromaFormat, FrameMbsFlags, SeqParameterSet};

use crate::cmaf::video::{Chroma, Matrix, Picture, meant};
use crate::logic::model::Coding;

pub(super) fn of_sps(sps: &SeqParameterSet) -> Picture {
    let chroma = match sps.chroma_info.chroma_format {
        ChromaFormat::Monochrome => Chroma::None,
        ChromaFormat::YUV420 => Chroma::Quarter,
        ChromaFormat::YUV422 => Chroma::Half,
        ChromaFormat::YUV444 | ChromaFormat::Invalid(_) => Chroma::Full,
    };
    let extra = sps.chroma_info.bit_depth_luma_minus8.max(sps.chroma_info.bit_depth_chroma_minus8);
    let told = sps.vui_parameters.as_ref().and_then(|vui| vui.aspect_ratio_info.as_ref()?.get());
    let signal = sps.vui_parameters.as_ref().and_then(|vui| vui.video_signal_type.as_ref());
    let colours = signal.and_then(|signal| signal.colour_description.as_ref());
    let sar = told.map(|(w, h)| (u32::from(w), u32::from(h)));
    Picture {
        coding: Coding::H264,
        profile: sps.profile_idc.into(),
        level: sps.level_idc,
        sar: meant(sar),
        chroma,
        depth: 8u8.saturating_add(extra),
        interlaced: matches!(sps.frame_mbs_flags, FrameMbsFlags::Fields { .. }),
        matrix: colours.and_then(|c| Matrix::told(c.matrix_coefficients)),
    }
}

/// What the first SPS of an AVCDecoderConfigurationRecord says; `None` for bytes that are no record.
pub fn picture(avcc: &[u8]) -> Option<Picture> {
    let record = AvcDecoderConfigurationRecord::try_from(avcc).ok()?;
    let context = record.create_context().ok()?;
    context.sps().next().map(of_sps)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cmaf::h264::read_record;
    use crate::cmaf::video::displayed;
    use crate::logic::model::VideoFormat;

    /// x264's records, one a kind: 640x360 where the name says nothing else.
    pub(crate) mod records {
        pub(crate) const HIGH_10: &str =
            "016e001effe1001b676e001ea6cd940a02ff970110000003001000000303c0f162d96001000468ef8fcbfdfafa00";
        pub(crate) const HIGH_422: &str =
            "017a001effe1001a677a001ebcd940a02ff89c0440000003004000000f03c58b658001000468ef8fcbfef8f800";
        pub(crate) const HIGH_444: &str =
            "01f4001effe1001b67f4001e919b281405ff138088000003000800000301e078b16cb001000668ef8f192190fff8f800";
        pub(crate) const INTERLACED: &str =
            "0164001effe1001a6764001eacd940a063f3e022000003000200000300783e28532c01000468fe8fcbfdf8f800";
        /// 720x576 with samples of 64:45, as DV has them for 16:9.
        pub(crate) const WIDE_576: &str =
            "0164001fffe1001d6764001facd940b4126ffc010000b440000003004000000f03c60c658001000468ef8fcbfdf8f800";
        /// Colours by BT.709, and by BT.2020.
        pub(crate) const BT_709_360: &str =
            "0164001effe100226764001eacb201405ff2ffe00060008d40808050000003001000000303c0f162e48001000668ebc3cb22c0fdf8f800";
        pub(crate) const BT_2020: &str =
            "01640028ffe1002167640028acb200f0044fcbff800180023502020940000003004000000f03c60c9201000668ebc3cb22c0fdf8f800";
        /// 176x144.
        pub(crate) const BASELINE: &str = "0142c00bffe100176742c00bda0b13b0110000030001000003003c0f142aa001000468ce0fc8";
        pub(crate) const GREY: &str =
            "0164001effe1001b6764001ef3650280bfe27016c8000003000800000301e078b16cb001000468ef8fcbfcf8f800";

        pub(crate) fn bytes(hex: &str) -> bytes::Bytes {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>().into()
        }
    }
    use records::*;

    fn read(hex: &str) -> Picture {
        picture(&bytes(hex)).unwrap()
    }

    #[test]
    fn records_of_all_kinds_are_read() {
        let plain = Picture {
            coding: Coding::H264,
            profile: 100,
            level: 30,
            sar: (1, 1),
            chroma: Chroma::Quarter,
            depth: 8,
            interlaced: false,
            matrix: None,
        };
        assert_eq!(read(HIGH_10), Picture { profile: 110, depth: 10, ..plain });
        assert_eq!(read(HIGH_422), Picture { profile: 122, chroma: Chroma::Half, ..plain });
        assert_eq!(read(HIGH_444), Picture { profile: 244, chroma: Chroma::Full, ..plain });
        assert_eq!(read(INTERLACED), Picture { interlaced: true, ..plain });
        assert_eq!(read(WIDE_576), Picture { level: 31, sar: (64, 45), ..plain });
        assert_eq!(read(BASELINE), Picture { profile: 66, level: 11, ..plain });
        assert_eq!(read(GREY), Picture { chroma: Chroma::None, ..plain });
        let (hd, wide) = (Some(Matrix::Bt709), Some(Matrix::Bt2020));
        assert_eq!((read(BT_709_360).matrix, read(BT_2020).matrix, read(BASELINE).matrix), (hd, wide, None));
        assert_eq!(picture(b""), None);
    }

    #[test]
    fn the_displayed_width_counts_the_shape_of_the_samples() {
        let format = |hex| read_record(&bytes(hex), None).unwrap();
        let wide = format(WIDE_576);
        assert_eq!(((wide.width, wide.height), displayed(&wide)), ((720, 576), (1024, 576)));
        assert_eq!(displayed(&format(BASELINE)), (176, 144));
        assert_eq!(displayed(&VideoFormat { avcc: Default::default(), ..wide }), (720, 576));
    }
}
