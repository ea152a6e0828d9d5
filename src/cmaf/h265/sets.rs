//! A sequence parameter set (ITU-T H.265, 7.3.2.2), as far as its video usability information. What is only needed for decoding is stepped over.

use crate::cmaf::bits::{BadBits, Bits};
use crate::cmaf::nal::unescaped;
use crate::cmaf::video::{self, Chroma};
use crate::logic::model::FrameRate;

/// What stands in front of the level in every profile_tier_level (7.3.3), and in a configuration record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// general_profile_space, 0 to 3.
    pub space: u8,
    /// general_tier_flag: the high tier.
    pub high_tier: bool,
    /// general_profile_idc, 0 to 31.
    pub idc: u8,
    /// general_profile_compatibility_flags, the first in the highest bit.
    pub compatibility: u32,
    /// The 48 bits behind them, progressive_source_flag first.
    pub constraints: [u8; 6],
    /// general_level_idc, thirty times the level.
    pub level: u8,
}

impl Profile {
    /// RFC 6381 (ISO/IEC 14496-15, E.3), for a sample entry that has all parameter sets: `hvc1.1.6.L93.B0`.
    pub fn codec(&self) -> String {
        let space = ["", "A", "B", "C"].get(usize::from(self.space)).unwrap_or(&"");
        let tier = if self.high_tier { 'H' } else { 'L' };
        let mut out = format!("hvc1.{space}{}.{:X}.{tier}{}", self.idc, self.compatibility.reverse_bits(), self.level);
        let used = self.constraints.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        self.constraints.iter().take(used).for_each(|b| out += &format!(".{b:X}"));
        out
    }
}

/// What an SPS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    pub profile: Profile,
    /// sps_max_sub_layers_minus1 + 1.
    pub sub_layers: u8,
    /// sps_temporal_id_nesting_flag.
    pub nested: bool,
    /// chroma_format_idc, 0 to 3.
    pub chroma_format: u8,
    /// Of luma samples, 8 to 16.
    pub luma_depth: u8,
    /// Of chroma samples.
    pub chroma_depth: u8,
    /// Luma samples inside the conformance window.
    pub width: u32,
    /// Likewise.
    pub height: u32,
    /// Sample aspect ratio as told.
    pub sar: Option<(u32, u32)>,
    /// By vui_timing_info: one picture is one tick.
    pub fps: Option<FrameRate>,
    /// field_seq_flag: every picture is a field.
    pub fields: bool,
    /// matrix_coeffs.
    pub matrix: Option<u8>,
}

impl Sps {
    pub const fn chroma(&self) -> Chroma {
        match self.chroma_format {
            0 => Chroma::None,
            1 => Chroma::Quarter,
            2 => Chroma::Half,
            _ => Chroma::Full,
        }
    }

    /// Fields may occur: as pictures of their own, or by a source that is interlaced and not progressive.
    pub const fn interlaced(&self) -> bool {
        let [flags, ..] = self.profile.constraints;
        self.fields || flags & 0xc0 == 0x40
    }
}

/// Sizes before they are checked: far above what a level has, far below what arithmetic minds.
const MAX_SIDE: u32 = 1 << 16;

/// Table A.8 and 7.4.3.2.1: 64 short-term sets, 32 long-term pictures, 16 pictures in the decoded picture buffer.
const MAX_SHORT_TERM: u32 = 64;
const MAX_LONG_TERM: u32 = 32;
const MAX_REFERENCES: u32 = 16;

/// Reads an SPS NAL unit with its header of two bytes.
pub fn sps(nal: &[u8]) -> Result<Sps, BadBits> {
    let plain = unescaped(nal.get(2..).unwrap_or_default());
    let bits = &mut Bits::new(&plain);
    bits.skip(4, "sps_video_parameter_set_id")?;
    let sub_layers = bits.byte(3, "sps_max_sub_layers_minus1")? + 1;
    let nested = bits.flag("sps_temporal_id_nesting_flag")?;
    let profile = profile_tier_level(bits, sub_layers)?;
    bits.golomb_to(15, "sps_seq_parameter_set_id")?;
    let chroma_format = byte(bits.golomb_to(3, "chroma_format_idc")?);
    let separate = chroma_format == 3 && bits.flag("separate_colour_plane_flag")?;
    let width = bits.golomb_to(MAX_SIDE, "pic_width_in_luma_samples")?;
    let height = bits.golomb_to(MAX_SIDE, "pic_height_in_luma_samples")?;
    let mut window = [0; 4];
    if bits.flag("conformance_window_flag")? {
        for edge in &mut window {
            *edge = bits.golomb_to(MAX_SIDE, "conf_win_offset")?;
        }
    }
    // Table 6-1: offsets count chroma samples.
    let (across, down) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        3 if separate => (1, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = window;
    let width = width.checked_sub((left + right) * across).ok_or(BadBits("conf_win_offset"))?;
    let height = height.checked_sub((top + bottom) * down).ok_or(BadBits("conf_win_offset"))?;
    let luma_depth = 8 + byte(bits.golomb_to(8, "bit_depth_luma_minus8")?);
    let chroma_depth = 8 + byte(bits.golomb_to(8, "bit_depth_chroma_minus8")?);
    let order_bits = 4 + bits.golomb_to(12, "log2_max_pic_order_cnt_lsb_minus4")?;
    let all = bits.flag("sps_sub_layer_ordering_info_present_flag")?;
    for _ in 0..if all { 3 * u32::from(sub_layers) } else { 3 } {
        bits.golomb("sps_max_dec_pic_buffering_minus1")?;
    }
    for _ in 0..6 {
        bits.golomb("coding block and transform sizes")?;
    }
    if bits.flag("scaling_list_enabled_flag")? && bits.flag("sps_scaling_list_data_present_flag")? {
        scaling_lists(bits)?;
    }
    bits.skip(2, "amp_enabled_flag, sample_adaptive_offset_enabled_flag")?;
    if bits.flag("pcm_enabled_flag")? {
        bits.skip(8, "pcm_sample_bit_depth")?;
        bits.golomb("log2_min_pcm_luma_coding_block_size_minus3")?;
        bits.golomb("log2_diff_max_min_pcm_luma_coding_block_size")?;
        bits.skip(1, "pcm_loop_filter_disabled_flag")?;
    }
    short_term_sets(bits)?;
    if bits.flag("long_term_ref_pics_present_flag")? {
        for _ in 0..bits.golomb_to(MAX_LONG_TERM, "num_long_term_ref_pics_sps")? {
            bits.number(order_bits + 1, "lt_ref_pic_poc_lsb_sps")?;
        }
    }
    bits.skip(2, "sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag")?;
    let mut sps = Sps {
        profile,
        sub_layers,
        nested,
        chroma_format,
        luma_depth,
        chroma_depth,
        width,
        height,
        sar: None,
        fps: None,
        fields: false,
        matrix: None,
    };
    if bits.flag("vui_parameters_present_flag")? {
        usability(bits, &mut sps)?;
    }
    Ok(sps)
}

/// What [`Bits::golomb_to`] has bounded.
fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn profile_tier_level(bits: &mut Bits<'_>, sub_layers: u8) -> Result<Profile, BadBits> {
    let mut profile = Profile {
        space: bits.byte(2, "general_profile_space")?,
        high_tier: bits.flag("general_tier_flag")?,
        idc: bits.byte(5, "general_profile_idc")?,
        compatibility: bits.number(32, "general_profile_compatibility_flags")?,
        constraints: [0; 6],
        level: 0,
    };
    for constraint in &mut profile.constraints {
        *constraint = bits.byte(8, "general_constraint_indicator_flags")?;
    }
    profile.level = bits.byte(8, "general_level_idc")?;
    let mut behind = 0;
    for _ in 1..sub_layers {
        behind += if bits.flag("sub_layer_profile_present_flag")? { 88 } else { 0 };
        behind += if bits.flag("sub_layer_level_present_flag")? { 8 } else { 0 };
    }
    if sub_layers > 1 {
        // Up to eight pairs of flags are always there.
        behind += 2 * (9 - usize::from(sub_layers));
    }
    bits.skip(behind, "sub_layer profiles and levels")?;
    Ok(profile)
}

/// 7.3.4.
fn scaling_lists(bits: &mut Bits<'_>) -> Result<(), BadBits> {
    const WHAT: &str = "scaling_list_data";
    for size in 0..4u32 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.flag(WHAT)? {
                bits.golomb(WHAT)?;
                continue;
            }
            let coefficients = (1u32 << (4 + 2 * size)).min(64);
            for _ in 0..coefficients + u32::from(size > 1) {
                bits.golomb(WHAT)?;
            }
        }
    }
    Ok(())
}

/// One set (7.3.7): distances of pictures shown before, then of those shown after, each with the nearest first.
#[derive(Debug, Clone, Default)]
struct ShortTerm {
    before: Vec<i64>,
    after: Vec<i64>,
}

/// The sets are not used; but where one is told by the one before it, its length follows from that one's content.
fn short_term_sets(bits: &mut Bits<'_>) -> Result<(), BadBits> {
    let mut last: Option<ShortTerm> = None;
    for _ in 0..bits.golomb_to(MAX_SHORT_TERM, "num_short_term_ref_pic_sets")? {
        last = Some(short_term_set(bits, last.as_ref())?);
    }
    Ok(())
}

fn short_term_set(bits: &mut Bits<'_>, last: Option<&ShortTerm>) -> Result<ShortTerm, BadBits> {
    const WHAT: &str = "st_ref_pic_set";
    if let Some(last) = last
        && bits.flag(WHAT)?
    {
        return predicted(bits, last);
    }
    let before = bits.golomb_to(MAX_REFERENCES, WHAT)?;
    let after = bits.golomb_to(MAX_REFERENCES, WHAT)?;
    let mut distances = |count: u32, sign: i64| {
        let mut at = 0;
        let one = |_| {
            at += sign * (i64::from(bits.golomb_to(1 << 15, WHAT)?) + 1);
            bits.skip(1, WHAT)?;
            Ok(at)
        };
        (0..count).map(one).collect::<Result<Vec<i64>, BadBits>>()
    };
    Ok(ShortTerm { before: distances(before, -1)?, after: distances(after, 1)? })
}

/// (7-61) and (7-62).
fn predicted(bits: &mut Bits<'_>, last: &ShortTerm) -> Result<ShortTerm, BadBits> {
    const WHAT: &str = "st_ref_pic_set, predicted";
    let negative = bits.flag(WHAT)?;
    let distance = i64::from(bits.golomb_to(1 << 15, WHAT)?) + 1;
    let delta = if negative { -distance } else { distance };
    let count = last.before.len() + last.after.len();
    let mut used = Vec::with_capacity(count + 1);
    for _ in 0..=count {
        // used_by_curr_pic_flag, else use_delta_flag.
        used.push(bits.flag(WHAT)? || bits.flag(WHAT)?);
    }
    let is_used = |at: usize| used.get(at).copied().unwrap_or(false);
    let (befores, afters) = (last.before.iter().enumerate(), last.after.iter().enumerate());
    let before: Vec<(usize, i64)> = befores.map(|(j, poc)| (j, poc + delta)).collect();
    let after: Vec<(usize, i64)> = afters.map(|(j, poc)| (last.before.len() + j, poc + delta)).collect();
    let own = [(count, delta)];
    let collect = |order: [Vec<(usize, i64)>; 3], sign: i64| -> Result<Vec<i64>, BadBits> {
        let kept = |&(at, poc): &(usize, i64)| poc * sign > 0 && is_used(at);
        let out: Vec<i64> = order.into_iter().flatten().filter(kept).map(|(_, poc)| poc).collect();
        Some(out).filter(|out| out.len() <= MAX_REFERENCES as usize).ok_or(BadBits(WHAT))
    };
    let reversed = |list: &[(usize, i64)]| list.iter().rev().copied().collect::<Vec<_>>();
    Ok(ShortTerm {
        before: collect([reversed(&after), own.to_vec(), before.clone()], -1)?,
        after: collect([reversed(&before), own.to_vec(), after], 1)?,
    })
}

/// Annex E.2.1, as far as the timing.
fn usability(bits: &mut Bits<'_>, sps: &mut Sps) -> Result<(), BadBits> {
    if bits.flag("aspect_ratio_info_present_flag")? {
        let idc = bits.byte(8, "aspect_ratio_idc")?;
        sps.sar = if idc == 255 {
            Some((bits.number(16, "sar_width")?, bits.number(16, "sar_height")?))
        } else {
            RATIOS.get(usize::from(idc)).copied()
        };
    }
    if bits.flag("overscan_info_present_flag")? {
        bits.skip(1, "overscan_appropriate_flag")?;
    }
    if bits.flag("video_signal_type_present_flag")? {
        bits.skip(4, "video_format, video_full_range_flag")?;
        if bits.flag("colour_description_present_flag")? {
            bits.skip(16, "colour_primaries, transfer_characteristics")?;
            sps.matrix = Some(bits.byte(8, "matrix_coeffs")?);
        }
    }
    if bits.flag("chroma_loc_info_present_flag")? {
        bits.golomb("chroma_sample_loc_type_top_field")?;
        bits.golomb("chroma_sample_loc_type_bottom_field")?;
    }
    bits.skip(1, "neutral_chroma_indication_flag")?;
    sps.fields = bits.flag("field_seq_flag")?;
    bits.skip(1, "frame_field_info_present_flag")?;
    if bits.flag("default_display_window_flag")? {
        for _ in 0..4 {
            bits.golomb("def_disp_win_offset")?;
        }
    }
    if bits.flag("vui_timing_info_present_flag")? {
        let units = bits.number(32, "vui_num_units_in_tick")?;
        let hz = bits.number(32, "vui_time_scale")?;
        sps.fps = video::rate(hz.into(), units.into());
    }
    Ok(())
}

/// Table E-1, by aspect_ratio_idc.
const RATIOS: [(u32, u32); 17] = [
    (1, 1),
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

#[cfg(test)]
#[path = "sets_tests.rs"]
pub(crate) mod tests;
