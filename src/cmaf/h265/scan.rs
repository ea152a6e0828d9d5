//! What an access unit is, by its NAL units' headers.

use super::{BLA_W_LP, CRA, HevcError, IDR_N_LP, IDR_W_RADL, PPS, PREFIX_SEI, RADL_N, RASL_R, VPS, kind};
use crate::cmaf::nal::{message, unescaped, units};
use crate::cmaf::video::Scan;

/// payloadType of a recovery point (D.2.8).
const RECOVERY_POINT: usize = 6;

/// Bytes of an SEI NAL unit that are looked at: x265 tells its settings in 2,000, behind what matters.
const SEI_BYTES: usize = 4096;

/// Looks at all NAL units of an access unit, each behind its 4-byte length.
///
/// A CRA picture begins an open GOP, as every encoder that sends them has it: whether pictures behind it refer back over it (RASL) is not known before they come.
/// A BLA picture stands where streams were spliced, and counts as one.
///
/// # Errors
/// [`HevcError::Lengths`] when a length points behind the end; an empty access unit is an error too.
pub fn scan(data: &[u8]) -> Result<Scan, HevcError> {
    let mut scan = Scan::default();
    for nal in units(data).ok_or(HevcError::Lengths)? {
        match kind(nal) {
            Some(IDR_W_RADL | IDR_N_LP) => scan.idr = true,
            Some(BLA_W_LP..=CRA) => scan.recovery_point = true,
            Some(RADL_N..=RASL_R) => scan.leading = true,
            Some(VPS..=PPS) => scan.parameter_sets = true,
            Some(PREFIX_SEI) => scan.recovery_point = scan.recovery_point || has_recovery_point(nal),
            _ => {}
        }
    }
    Ok(scan)
}

fn has_recovery_point(nal: &[u8]) -> bool {
    let body = nal.get(2..).unwrap_or_default();
    let plain = unescaped(body.get(..SEI_BYTES).unwrap_or(body));
    let mut rest = plain.as_slice();
    while let Some((kind, _, behind)) = message(rest) {
        if kind == RECOVERY_POINT {
            return true;
        }
        rest = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
    }

    fn nal(kind: u8) -> [u8; 4] {
        [kind << 1, 1, 0xaf, 0x80]
    }

    #[test]
    fn pictures_are_told_apart() {
        let seen = |kinds: &[u8]| {
            let nals: Vec<[u8; 4]> = kinds.iter().map(|k| nal(*k)).collect();
            scan(&unit(&nals.iter().map(|n| &n[..]).collect::<Vec<_>>())).unwrap()
        };
        for idr in [19, 20] {
            assert_eq!(seen(&[35, 32, 33, 34, idr]), Scan { idr: true, parameter_sets: true, ..Scan::default() });
        }
        for open in [16, 17, 18, 21] {
            assert!(seen(&[open]).begins_open_gop(false) && !seen(&[open]).idr, "type {open}");
        }
        assert_eq!(seen(&[0]), Scan::default());
        assert_eq!(seen(&[1, 40]), Scan::default());
        for leading in 6..=9 {
            assert_eq!(seen(&[leading]), Scan { leading: true, ..Scan::default() });
        }
        // A recovery point on a P picture is intra refresh; behind another message.
        let sei = [39 << 1, 1, 5, 1, 0xaa, 6, 1, 0x80, 0x80];
        assert!(scan(&unit(&[&sei, &nal(1)])).unwrap().begins_open_gop(false));
        // An IDR of another layer is none.
        assert!(!scan(&unit(&[&[20 << 1, 9, 0x80], &nal(1)])).unwrap().idr);
        assert_eq!(scan(&[0, 0, 0, 9, 0x26]), Err(HevcError::Lengths));
        assert_eq!(scan(&[]), Err(HevcError::Lengths));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_looked_at_without_a_panic(nals in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)) {
            let nals: Vec<&[u8]> = nals.iter().map(Vec::as_slice).collect();
            prop_assert!(scan(&unit(&nals)).is_ok());
        }

        #[test]
        fn and_bytes_without_a_form_too(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = scan(&data);
        }
    }
}
