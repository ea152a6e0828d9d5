//! What an access unit is: IDR or not, intra or not, whether decoding may begin there, whether it brings parameter sets. Reads headers only.

use std::io::Read;

use h264_reader::nal::{Nal, RefNal};
use h264_reader::rbsp::BitRead;

use super::H264Error;
use crate::cmaf::video::Scan;

/// NAL unit types (ITU-T H.264, table 7-1).
pub(super) const SLICE: u8 = 1;
pub(super) const PARTITION_A: u8 = 2;
pub(super) const IDR_SLICE: u8 = 5;
pub(super) const SEI: u8 = 6;
pub(super) const SPS: u8 = 7;
pub(super) const PPS: u8 = 8;

/// Bytes of a slice header that are looked at: first_mb_in_slice and slice_type are at most 8.
const SLICE_HEADER: usize = 12;

/// Bytes of an SEI NAL unit that are looked at. A recovery point stands in front of captions and user data in every encoder that was seen; x264's
/// settings text has 700 bytes.
const SEI_BYTES: usize = 4096;

/// Looks at all NAL units of an access unit, each behind its 4-byte length.
///
/// # Errors
/// [`H264Error::Lengths`] when a length points behind the end; an empty access unit is an error too.
pub fn scan(data: &[u8]) -> Result<Scan, H264Error> {
    let mut scan = Scan::default();
    let mut slices = 0u32;
    let mut all_intra = true;
    for nal in nal_units(data)? {
        match nal.first().map_or(0, |first| first & 0x1f) {
            kind @ (SLICE | PARTITION_A | IDR_SLICE) => {
                slices = slices.saturating_add(1);
                scan.idr |= kind == IDR_SLICE;
                all_intra = all_intra && (kind == IDR_SLICE || is_intra(nal));
            }
            SEI => scan.recovery_point = scan.recovery_point || has_recovery_point(nal),
            SPS | PPS => scan.parameter_sets = true,
            _ => {}
        }
    }
    scan.intra = slices > 0 && all_intra;
    Ok(scan)
}

/// The NAL units of an access unit; empty ones are left out.
///
/// # Errors
/// As [`scan`].
pub(super) fn nal_units(data: &[u8]) -> Result<impl Iterator<Item = &[u8]>, H264Error> {
    let mut rest = data;
    // All lengths first: nothing is believed of a unit whose end is not there.
    while !rest.is_empty() {
        rest = split(rest).ok_or(H264Error::Lengths)?.1;
    }
    if data.is_empty() {
        return Err(H264Error::Lengths);
    }
    rest = data;
    let next = move || {
        let (unit, behind) = split(rest)?;
        rest = behind;
        Some(unit)
    };
    Ok(std::iter::from_fn(next).filter(|unit| !unit.is_empty()))
}

/// The first NAL unit and what is behind it.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, behind) = data.split_first_chunk::<4>()?;
    behind.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// slice_type of a slice (7.3.3) is I or SI.
fn is_intra(nal: &[u8]) -> bool {
    let head = &nal[..nal.len().min(SLICE_HEADER)];
    let mut bits = RefNal::new(head, &[], true).rbsp_bits();
    let slice_type = bits.read_ue("first_mb_in_slice").and_then(|_| bits.read_ue("slice_type"));
    matches!(slice_type, Ok(2 | 4 | 7 | 9))
}

/// One of the messages of an SEI NAL unit (7.3.2.3.1) is of type 6.
fn has_recovery_point(nal: &[u8]) -> bool {
    const RECOVERY_POINT: u32 = 6;
    let mut bytes = RefNal::new(&nal[..nal.len().min(SEI_BYTES)], &[], true).rbsp_bytes();
    let mut payload = Vec::with_capacity(SEI_BYTES);
    // Cut in the middle of an emulation prevention: what came before it is read all the same.
    let _ = bytes.read_to_end(&mut payload);
    let mut rest = payload.as_slice();
    while rest.len() > 2 {
        let (Some(kind), Some(size)) = (sei_number(&mut rest), sei_number(&mut rest)) else { return false };
        if kind == RECOVERY_POINT {
            return true;
        }
        rest = rest.get(size as usize..).unwrap_or(&[]);
    }
    false
}

/// payloadType or payloadSize: bytes of 255 and a last one, added up.
fn sei_number(rest: &mut &[u8]) -> Option<u32> {
    let mut sum = 0u32;
    loop {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        sum = sum.saturating_add(byte.into());
        if byte != 255 {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    /// Slices with first_mb_in_slice 0: ue(0) is `1`, ue(7) is `0001000`, ue(5) is `00110`, ue(2) is `011`.
    const IDR_I: &[u8] = &[0x65, 0b1000_1000, 0x80];
    const I: &[u8] = &[0x41, 0b1000_1000, 0x80];
    const I_TOO: &[u8] = &[0x41, 0b1011_1000, 0x80];
    const P: &[u8] = &[0x41, 0b1001_1010, 0x80];
    /// User data of 2 bytes, then a recovery point of 1.
    const RECOVERY: &[u8] = &[6, 5, 2, 0xaa, 0xbb, 6, 1, 0xc4, 0x80];

    #[test]
    fn pictures_are_told_apart() {
        let seen = |nals: &[&[u8]]| scan(&unit(nals)).unwrap();
        assert_eq!(seen(&[IDR_I]), Scan { idr: true, intra: true, ..Scan::default() });
        assert_eq!(seen(&[I, I_TOO]), Scan { intra: true, ..Scan::default() });
        assert_eq!(seen(&[I, P]), Scan::default());
        let open = seen(&[&[0x67, 1], &[0x68, 1], RECOVERY, I]);
        assert_eq!(open, Scan { intra: true, recovery_point: true, parameter_sets: true, ..Scan::default() });
        assert!(open.begins_open_gop(false));
        // A scene cut that is no key frame begins nothing; one that the publisher calls a key frame does.
        assert!(!seen(&[I]).begins_open_gop(false) && seen(&[I]).begins_open_gop(true));
        // Intra refresh has recovery points on P pictures.
        assert!(seen(&[RECOVERY, P]).begins_open_gop(false));
        assert!(!seen(&[RECOVERY, IDR_I]).begins_open_gop(true));
        assert!(seen(&[&[9, 0x10], &[6, 5, 2, 0xaa, 0xbb, 0x80], &[], IDR_I]).idr, "behind other units and an empty one");
        assert!(!seen(&[&[6, 5, 2, 6, 6, 0x80], P]).recovery_point, "the payload of another message is not looked at");
        assert_eq!(scan(&[0, 0, 0, 9, 0x65]), Err(H264Error::Lengths));
        assert_eq!(scan(&[]), Err(H264Error::Lengths));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_looked_at_without_a_panic(nals in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6)) {
            let nals: Vec<&[u8]> = nals.iter().map(Vec::as_slice).collect();
            prop_assert!(scan(&unit(&nals)).is_ok());
        }

        #[test]
        fn and_bytes_without_a_form_too(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = scan(&data);
        }
    }
}
