//! Parameter sets in mid-stream: an encoder that changes its picture may send new ones in the access units alone. Makes the record that a sequence header
//! would have brought.

use bytes::Bytes;
use h264_reader::avcc::AvcDecoderConfigurationRecord;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};
use h264_reader::rbsp::BitRead;

use super::scan::{PPS, SPS, nal_units};
use super::{H264Error, MAX_RECORD};

/// The record that is in force behind an access unit, when its parameter sets are others than those of `avcc`; `None` when they say nothing new.
///
/// A unit with another SPS brings all that is in force; a PPS alone stands beside or in place of the one with its number.
///
/// # Errors
/// [`H264Error`] for an access unit that cannot be read, an SPS that cannot be, or sets too long for a record.
pub fn renewed(avcc: &[u8], data: &[u8]) -> Result<Option<Bytes>, H264Error> {
    let (sps, pps) = sets_of(data)?;
    let record = AvcDecoderConfigurationRecord::try_from(avcc).map_err(|e| broken(&e))?;
    let old_sps: Vec<&[u8]> = record.sequence_parameter_sets().filter_map(Result::ok).collect();
    let old_pps: Vec<&[u8]> = record.picture_parameter_sets().filter_map(Result::ok).collect();
    let other_picture = sps.iter().any(|s| !old_sps.contains(s));
    if !other_picture && pps.iter().all(|p| old_pps.contains(p)) {
        return Ok(None);
    }
    if !other_picture {
        let kept = |old: &&[u8]| !pps.iter().any(|new| pps_number(new) == pps_number(old));
        let merged: Vec<&[u8]> = old_pps.iter().filter(|old| kept(old)).chain(&pps).copied().collect();
        return write(&old_sps, &merged).map(Some);
    }
    let pps = if pps.is_empty() { old_pps } else { pps };
    write(&sps, &pps).map(Some)
}

/// The record of a source that announces nothing, as MPEG-TS does: made of an access unit's parameter sets. `None` while it has not both.
///
/// # Errors
/// As [`renewed`].
pub fn first_record(data: &[u8]) -> Result<Option<Bytes>, H264Error> {
    let (sps, pps) = sets_of(data)?;
    if sps.is_empty() || pps.is_empty() { Ok(None) } else { write(&sps, &pps).map(Some) }
}

/// SPS and PPS.
type Sets<'a> = (Vec<&'a [u8]>, Vec<&'a [u8]>);

/// Those of an access unit, each once.
fn sets_of(data: &[u8]) -> Result<Sets<'_>, H264Error> {
    let (mut sps, mut pps) = (Vec::new(), Vec::new());
    for nal in nal_units(data)? {
        match nal.first().map_or(0, |first| first & 0x1f) {
            SPS if !sps.contains(&nal) => sps.push(nal),
            PPS if !pps.contains(&nal) => pps.push(nal),
            _ => {}
        }
    }
    Ok((sps, pps))
}

fn broken(error: &dyn std::fmt::Debug) -> H264Error {
    H264Error::Record(format!("{error:?}").chars().take(120).collect())
}

/// pic_parameter_set_id (7.3.2.2).
fn pps_number(nal: &[u8]) -> Option<u32> {
    RefNal::new(nal, &[], true).rbsp_bits().read_ue("pic_parameter_set_id").ok()
}

/// An AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) with NAL unit lengths of 4 bytes.
fn write(sps: &[&[u8]], pps: &[&[u8]]) -> Result<Bytes, H264Error> {
    let (Some(first), Ok(sps_count @ 1..=31), Ok(pps_count)) = (sps.first(), u8::try_from(sps.len()), u8::try_from(pps.len()))
    else {
        return Err(H264Error::Record(format!("{} SPS and {} PPS in an access unit", sps.len(), pps.len())));
    };
    let parsed = SeqParameterSet::from_bits(RefNal::new(first, &[], true).rbsp_bits()).map_err(|e| broken(&e))?;
    let &[_, profile, constraints, level, ..] = *first else { return Err(H264Error::Record("an SPS of no length".into())) };
    let mut out = vec![1, profile, constraints, level, 0xff, 0xe0 | sps_count];
    let put = |out: &mut Vec<u8>, set: &[u8]| -> Result<(), H264Error> {
        let length = u16::try_from(set.len()).map_err(|_| H264Error::Record(format!("a set of {} bytes", set.len())))?;
        out.extend(length.to_be_bytes());
        out.extend(set);
        Ok(())
    };
    sps.iter().try_for_each(|set| put(&mut out, set))?;
    out.push(pps_count);
    pps.iter().try_for_each(|set| put(&mut out, set))?;
    if parsed.profile_idc.has_chroma_info() {
        let colour = &parsed.chroma_info;
        let chroma = colour.chroma_format.to_u32().to_be_bytes()[3] & 3;
        out.extend([0xfc | chroma, 0xf8 | (colour.bit_depth_luma_minus8 & 7), 0xf8 | (colour.bit_depth_chroma_minus8 & 7), 0]);
    }
    if out.len() > MAX_RECORD {
        return Err(H264Error::Record(format!("{} bytes of parameter sets in an access unit", out.len())));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::h264::picture::tests::records::{BASELINE, HIGH_10, WIDE_576, bytes};
    use crate::cmaf::h264::{read_record, tests::RECORD_720P30};
    use proptest::prelude::*;

    /// The sets of a record as an access unit in front of an IDR slice.
    fn in_band(avcc: &[u8], sps: bool, pps: bool) -> Vec<u8> {
        let record = AvcDecoderConfigurationRecord::try_from(avcc).unwrap();
        let mut sets: Vec<&[u8]> = Vec::new();
        if sps {
            sets.extend(record.sequence_parameter_sets().map(Result::unwrap));
        }
        if pps {
            sets.extend(record.picture_parameter_sets().map(Result::unwrap));
        }
        sets.push(&[0x65, 0x88]);
        sets.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    #[test]
    fn sets_that_say_the_same_change_nothing() {
        assert_eq!(renewed(RECORD_720P30, &in_band(RECORD_720P30, true, true)).unwrap(), None);
        assert_eq!(renewed(RECORD_720P30, &in_band(RECORD_720P30, false, false)).unwrap(), None);
    }

    #[test]
    fn other_sets_make_the_record_that_a_sequence_header_would_have_brought() {
        for hex in [HIGH_10, WIDE_576, BASELINE] {
            let theirs = bytes(hex);
            let made = renewed(RECORD_720P30, &in_band(&theirs, true, true)).unwrap().unwrap();
            assert_eq!(made, theirs, "byte for byte x264's");
            assert_eq!(renewed(&made, &in_band(&theirs, true, true)).unwrap(), None);
        }
        // The SPS alone: the PPS stays.
        let made = renewed(RECORD_720P30, &in_band(&bytes(WIDE_576), true, false)).unwrap().unwrap();
        assert_eq!(read_record(&made, None).unwrap().width, 720);
        // A PPS alone takes the place of the one with its number.
        let made = renewed(RECORD_720P30, &in_band(&bytes(HIGH_10), false, true)).unwrap().unwrap();
        let record = AvcDecoderConfigurationRecord::try_from(&made[..]).unwrap();
        assert_eq!(record.picture_parameter_sets().count(), 1);
        assert_eq!(read_record(&made, None).unwrap().width, 1280);
    }

    #[test]
    fn sets_that_cannot_be_read_are_refused() {
        let long = |nal: &[u8]| [&(nal.len() as u32).to_be_bytes()[..], nal].concat();
        assert!(renewed(RECORD_720P30, &long(&[0x67])).is_err());
        assert!(renewed(RECORD_720P30, &long(&[[0x68].as_slice(), &[7; 5000]].concat())).is_err());
    }

    proptest! {
        #[test]
        fn mutated_sets_never_panic(at in 0usize..80, value in any::<u8>()) {
            let mut unit = in_band(&bytes(WIDE_576), true, true);
            if let Some(b) = unit.get_mut(at) { *b = value }
            if let Ok(Some(record)) = renewed(RECORD_720P30, &unit) {
                let _ = read_record(&record, None);
            }
        }
    }
}
