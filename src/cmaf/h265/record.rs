//! HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.2.1), read and written.

use bytes::Bytes;

use super::sets::{Sps, sps};
use super::{HevcError, PPS, SPS, VPS, kind};
use crate::cmaf::bits::Bits;
use crate::cmaf::nal::{unescaped, units};
use crate::cmaf::video::{BadSize, Matrix, Picture, meant};
use crate::logic::model::{Coding, FrameRate, VideoFormat};

/// A longer record cannot come from a real encoder: x265 puts its settings into it as an SEI message of 2,100 bytes.
const MAX_RECORD: usize = 4096;

/// Bytes in front of the arrays.
const HEAD: usize = 22;

/// The parameter sets of a record or of an access unit, each with its NAL unit header, in their order.
#[derive(Debug, Default)]
struct Sets<'a> {
    vps: Vec<&'a [u8]>,
    sps: Vec<&'a [u8]>,
    pps: Vec<&'a [u8]>,
}

impl<'a> Sets<'a> {
    fn push(&mut self, nal: &'a [u8]) {
        let list = match kind(nal) {
            Some(VPS) => &mut self.vps,
            Some(SPS) => &mut self.sps,
            Some(PPS) => &mut self.pps,
            _ => return,
        };
        if !list.contains(&nal) {
            list.push(nal);
        }
    }

    /// # Errors
    /// [`HevcError::Record`] where lengths lie.
    fn of_record(record: &'a [u8]) -> Result<Self, HevcError> {
        let broken = |what: &str| HevcError::Record(what.into());
        if record.len() > MAX_RECORD {
            return Err(HevcError::Record(format!("{} bytes long", record.len())));
        }
        let (head, rest) = record.split_at_checked(HEAD).ok_or_else(|| broken("cut short"))?;
        if head.first() != Some(&1) {
            return Err(broken("its version is not 1"));
        }
        if head.last().is_none_or(|b| b & 3 != 3) {
            // As with H.264: every RTMP sender writes 4.
            return Err(HevcError::Unsupported("short NAL unit length"));
        }
        let mut sets = Self::default();
        let (&arrays, mut rest) = rest.split_first().ok_or_else(|| broken("cut short"))?;
        for _ in 0..arrays {
            let (array, behind) = rest.split_first_chunk::<3>().ok_or_else(|| broken("an array is cut short"))?;
            rest = behind;
            for _ in 0..u16::from_be_bytes([array[1], array[2]]) {
                let (length, behind) = rest.split_first_chunk::<2>().ok_or_else(|| broken("a set is cut short"))?;
                let length = u16::from_be_bytes(*length).into();
                let (nal, behind) = behind.split_at_checked(length).ok_or_else(|| broken("a set is cut short"))?;
                sets.push(nal);
                rest = behind;
            }
        }
        Ok(sets)
    }
}

fn first_sps(record: &[u8]) -> Result<Sps, HevcError> {
    let sets = Sets::of_record(record)?;
    let first = sets.sps.first().ok_or_else(|| HevcError::Record("no SPS".into()))?;
    Ok(sps(first)?)
}

/// Reads a record. `fallback_fps` is used where the SPS has no timing information.
///
/// # Errors
/// [`HevcError`] for a broken record or SPS, a size that no level has, and NAL lengths other than 4 bytes.
pub fn read_record(record: &Bytes, fallback_fps: Option<FrameRate>) -> Result<VideoFormat, HevcError> {
    let sps = first_sps(record)?;
    let (width, height) = (sps.width, sps.height);
    BadSize::check(width, height)?;
    let fps = sps.fps.or(fallback_fps).unwrap_or(FrameRate::whole(30));
    Ok(VideoFormat { width, height, fps, codec: sps.profile.codec(), avcc: record.clone() })
}

/// What the first SPS of a record says; `None` for bytes that are no record.
pub fn picture(record: &[u8]) -> Option<Picture> {
    let sps = first_sps(record).ok()?;
    Some(Picture {
        coding: Coding::Hevc,
        profile: sps.profile.idc,
        level: sps.profile.level / 3,
        sar: meant(sps.sar),
        chroma: sps.chroma(),
        depth: sps.luma_depth.max(sps.chroma_depth),
        interlaced: sps.interlaced(),
        matrix: sps.matrix.and_then(Matrix::told),
    })
}

/// The record that is in force behind an access unit, when its parameter sets are others than those of `record`; `None` when they say nothing new.
///
/// A unit with another SPS brings all that is in force (a VPS that it does not bring stays); otherwise each set stands beside or in place of the one with its
/// number.
///
/// # Errors
/// [`HevcError`] for an access unit that cannot be read, an SPS that cannot be, or sets too long for a record.
pub fn renewed(record: &[u8], data: &[u8]) -> Result<Option<Bytes>, HevcError> {
    let mut new = Sets::default();
    units(data).ok_or(HevcError::Lengths)?.for_each(|nal| new.push(nal));
    let old = Sets::of_record(record)?;
    let known = |new: &[&[u8]], old: &[&[u8]]| new.iter().all(|set| old.contains(set));
    let other_picture = !known(&new.sps, &old.sps);
    if !other_picture && known(&new.vps, &old.vps) && known(&new.pps, &old.pps) {
        return Ok(None);
    }
    let sets = if other_picture {
        let (vps, pps) =
            (if new.vps.is_empty() { old.vps } else { new.vps }, if new.pps.is_empty() { old.pps } else { new.pps });
        Sets { vps, sps: new.sps, pps }
    } else {
        Sets { vps: merged(&old.vps, new.vps), sps: old.sps, pps: merged(&old.pps, new.pps) }
    };
    write(&sets).map(Some)
}

/// The record of a source that announces nothing: made of an access unit's parameter sets. `None` while it has not all three kinds.
///
/// # Errors
/// As [`renewed`].
pub fn first_record(data: &[u8]) -> Result<Option<Bytes>, HevcError> {
    let mut sets = Sets::default();
    units(data).ok_or(HevcError::Lengths)?.for_each(|nal| sets.push(nal));
    if sets.vps.is_empty() || sets.sps.is_empty() || sets.pps.is_empty() { Ok(None) } else { write(&sets).map(Some) }
}

/// The old ones whose number no new one has, and the new ones.
fn merged<'a>(old: &[&'a [u8]], new: Vec<&'a [u8]>) -> Vec<&'a [u8]> {
    let kept = |old: &&&[u8]| !new.iter().any(|new| number(new) == number(old));
    old.iter().filter(kept).copied().chain(new.iter().copied()).collect()
}

/// vps_video_parameter_set_id (7.3.2.1, four bits) or pps_pic_parameter_set_id (7.3.2.3, ue(v) of at most 63): both stand first.
fn number(nal: &[u8]) -> Option<u32> {
    let plain = unescaped(nal.get(2..nal.len().min(16))?);
    let mut bits = Bits::new(&plain);
    match kind(nal)? {
        VPS => bits.number(4, "vps_video_parameter_set_id").ok(),
        _ => bits.golomb("pps_pic_parameter_set_id").ok(),
    }
}

fn write(sets: &Sets<'_>) -> Result<Bytes, HevcError> {
    let first = sets.sps.first().ok_or_else(|| HevcError::Record("no SPS".into()))?;
    let sps = sps(first)?;
    let profile = &sps.profile;
    let mut out = vec![1, profile.space << 6 | u8::from(profile.high_tier) << 5 | profile.idc];
    out.extend(profile.compatibility.to_be_bytes());
    out.extend(profile.constraints);
    out.push(profile.level);
    // min_spatial_segmentation_idc and parallelismType say nothing, as do avgFrameRate and constantFrameRate.
    out.extend([0xf0, 0x00, 0xfc, 0xfc | sps.chroma_format]);
    out.extend([0xf8 | (sps.luma_depth - 8), 0xf8 | (sps.chroma_depth - 8), 0, 0]);
    out.push(sps.sub_layers << 3 | u8::from(sps.nested) << 2 | 3);
    out.push(3);
    for (kind, list) in [(VPS, &sets.vps), (SPS, &sets.sps), (PPS, &sets.pps)] {
        let count = u16::try_from(list.len()).map_err(|_| HevcError::Record("too many sets".into()))?;
        // array_completeness: `hvc1` has no sets among the pictures.
        out.push(0x80 | kind);
        out.extend(count.to_be_bytes());
        for set in list {
            let length = u16::try_from(set.len()).map_err(|_| HevcError::Record(format!("a set of {} bytes", set.len())))?;
            out.extend(length.to_be_bytes());
            out.extend(*set);
        }
    }
    if out.len() > MAX_RECORD {
        return Err(HevcError::Record(format!("{} bytes of parameter sets in an access unit", out.len())));
    }
    Ok(out.into())
}

/// The access unit without its parameter sets, which a sample of `hvc1` does not have (ISO/IEC 14496-15, 8.3.2); the same bytes where it has none.
pub fn without_sets(data: &Bytes) -> Bytes {
    let is_set = |nal: &[u8]| matches!(kind(nal), Some(VPS..=PPS));
    let Some(all) = units(data) else { return data.clone() };
    let all: Vec<&[u8]> = all.collect();
    if !all.iter().any(|nal| is_set(nal)) {
        return data.clone();
    }
    let mut out = Vec::with_capacity(data.len());
    for nal in all.into_iter().filter(|nal| !is_set(nal)) {
        // It stood behind a length of four bytes before.
        out.extend(u32::try_from(nal.len()).unwrap_or_default().to_be_bytes());
        out.extend(nal);
    }
    out.into()
}
