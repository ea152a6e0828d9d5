//! The sequence header (5.5). What is only needed for decoding is stepped over.

use crate::cmaf::bits::{BadBits, Bits};
use crate::cmaf::video::{self, Chroma};
use crate::logic::model::FrameRate;

/// What a sequence header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// seq_profile, 0 to 2.
    pub profile: u8,
    /// seq_level_idx of the first operating point, 0 to 31.
    pub level: u8,
    /// seq_tier of it.
    pub high_tier: bool,
    /// Largest picture, luma samples.
    pub width: u32,
    /// Likewise.
    pub height: u32,
    /// By timing_info(), where all pictures are equally far apart.
    pub fps: Option<FrameRate>,
    /// 8, 10 or 12.
    pub depth: u8,
    /// Colour samples.
    pub chroma: Chroma,
    /// matrix_coefficients; 2 where none is told.
    pub matrix: u8,
    /// chroma_sample_position, 0 to 3.
    position: u8,
}

impl Sequence {
    /// Reads the payload of a sequence header OBU.
    pub fn read(payload: &[u8]) -> Result<Self, BadBits> {
        let bits = &mut Bits::new(payload);
        let profile = bits.byte(3, "seq_profile")?;
        bits.skip(1, "still_picture")?;
        let reduced = bits.flag("reduced_still_picture_header")?;
        let mut out = Self {
            profile,
            level: 0,
            high_tier: false,
            width: 0,
            height: 0,
            fps: None,
            depth: 8,
            chroma: Chroma::Quarter,
            matrix: 2,
            position: 0,
        };
        if reduced {
            out.level = bits.byte(5, "seq_level_idx")?;
        } else {
            out.operating_points(bits)?;
        }
        let (across, down) =
            (bits.number(4, "frame_width_bits_minus_1")? + 1, bits.number(4, "frame_height_bits_minus_1")? + 1);
        out.width = bits.number(across, "max_frame_width_minus_1")? + 1;
        out.height = bits.number(down, "max_frame_height_minus_1")? + 1;
        if !reduced && bits.flag("frame_id_numbers_present_flag")? {
            bits.skip(7, "delta_frame_id_length_minus_2")?;
        }
        bits.skip(3, "use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter")?;
        if !reduced {
            bits.skip(4, "enable_interintra_compound to enable_dual_filter")?;
            let order = bits.flag("enable_order_hint")?;
            if order {
                bits.skip(2, "enable_jnt_comp, enable_ref_frame_mvs")?;
            }
            // seq_choose_screen_content_tools stands for 2, which is above 0.
            let screen = bits.flag("seq_choose_screen_content_tools")? || bits.flag("seq_force_screen_content_tools")?;
            if screen && !bits.flag("seq_choose_integer_mv")? {
                bits.skip(1, "seq_force_integer_mv")?;
            }
            if order {
                bits.skip(3, "order_hint_bits_minus_1")?;
            }
        }
        bits.skip(3, "enable_superres, enable_cdef, enable_restoration")?;
        out.colour(bits)?;
        Ok(out)
    }

    /// From timing_info_present_flag to the last operating point.
    fn operating_points(&mut self, bits: &mut Bits<'_>) -> Result<(), BadBits> {
        let mut delay_bits = None;
        if bits.flag("timing_info_present_flag")? {
            let units = bits.number(32, "num_units_in_display_tick")?;
            let hz = bits.number(32, "time_scale")?;
            if bits.flag("equal_picture_interval")? {
                let ticks = u64::from(bits.golomb("num_ticks_per_picture_minus_1")?) + 1;
                self.fps = u64::from(units).checked_mul(ticks).and_then(|units| video::rate(hz.into(), units));
            }
            if bits.flag("decoder_model_info_present_flag")? {
                delay_bits = Some(bits.number(5, "buffer_delay_length_minus_1")? as usize + 1);
                bits.skip(42, "decoder_model_info")?;
            }
        }
        let delays = bits.flag("initial_display_delay_present_flag")?;
        for point in 0..=bits.number(5, "operating_points_cnt_minus_1")? {
            bits.skip(12, "operating_point_idc")?;
            let level = bits.byte(5, "seq_level_idx")?;
            let high = level > 7 && bits.flag("seq_tier")?;
            if point == 0 {
                (self.level, self.high_tier) = (level, high);
            }
            if let Some(n) = delay_bits
                && bits.flag("decoder_model_present_for_this_op")?
            {
                bits.skip(2 * n + 1, "operating_parameters_info")?;
            }
            if delays && bits.flag("initial_display_delay_present_for_this_op")? {
                bits.skip(4, "initial_display_delay_minus_1")?;
            }
        }
        Ok(())
    }

    /// color_config() (5.5.2).
    fn colour(&mut self, bits: &mut Bits<'_>) -> Result<(), BadBits> {
        /// sRGB by colour primaries, transfer characteristics and matrix: always 4:4:4.
        const SRGB: (u8, u8, u8) = (1, 13, 0);
        let high = bits.flag("high_bitdepth")?;
        self.depth = match (self.profile, high) {
            (2, true) if bits.flag("twelve_bit")? => 12,
            (_, true) => 10,
            (_, false) => 8,
        };
        let grey = self.profile != 1 && bits.flag("mono_chrome")?;
        let mut described = (2, 2, 2);
        if bits.flag("color_description_present_flag")? {
            let mut next = || bits.byte(8, "color_description");
            described = (next()?, next()?, next()?);
        }
        self.matrix = described.2;
        if grey {
            self.chroma = Chroma::None;
            return bits.skip(1, "color_range");
        }
        if described == SRGB {
            self.chroma = Chroma::Full;
            return Ok(());
        }
        bits.skip(1, "color_range")?;
        self.chroma = match self.profile {
            0 => Chroma::Quarter,
            1 => Chroma::Full,
            _ if self.depth < 12 => Chroma::Half,
            _ if !bits.flag("subsampling_x")? => Chroma::Full,
            _ if bits.flag("subsampling_y")? => Chroma::Quarter,
            _ => Chroma::Half,
        };
        if self.chroma == Chroma::Quarter {
            self.position = bits.byte(2, "chroma_sample_position")?;
        }
        Ok(())
    }

    /// RFC 6381 (AV1 in ISOBMFF, 5): `av01.0.04M.08`. The colour parameters are left out, all together, as the specification allows.
    pub fn codec(&self) -> String {
        let tier = if self.high_tier { 'H' } else { 'M' };
        format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.depth)
    }

    /// The bytes of a configuration record in front of its OBUs (2.3.3).
    pub fn head(&self) -> [u8; 4] {
        let (x, y) = match self.chroma {
            Chroma::None | Chroma::Quarter => (1, 1),
            Chroma::Half => (1, 0),
            Chroma::Full => (0, 0),
        };
        let depth = u8::from(self.depth > 8) << 6 | u8::from(self.depth > 10) << 5;
        let grey = u8::from(self.chroma == Chroma::None) << 4;
        let third = u8::from(self.high_tier) << 7 | depth | grey | x << 3 | y << 2 | self.position;
        [0x81, self.profile << 5 | self.level, third, 0]
    }
}
