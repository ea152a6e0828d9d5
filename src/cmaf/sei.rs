//! Closed captions in an access unit: SEI messages (ITU-T H.264, 7.3.2.3 and D.1.6) of the kind `user_data_registered_itu_t_t35` with the `cc_data()` of
//! ATSC A/53 part 4 (6.2.3). Pure and bounded: what is read comes from a stranger.
//!
//! NAL units stand behind 4-byte lengths. Nothing here says what the captions mean ([`crate::logic::services`]) or when they are shown ([`super::captions`]).

use bytes::Bytes;

use super::av1;
use super::nal::{message, unescaped};
use crate::logic::model::Coding;

/// One caption construct of `cc_data()` (CTA-708): marker bits, `cc_valid` and `cc_type` in the first byte, then two bytes of data.
pub type Triplet = [u8; 3];

/// Triplets that one picture can carry: `cc_count` has five bits.
pub const MAX_TRIPLETS: usize = 31;

/// Triplets that are taken from one access unit, however many messages it has: two fields, and as much again.
const MAX_READ: usize = 4 * MAX_TRIPLETS;

/// Bytes of SEI that are looked at in one access unit. A caption message has about 100; x264 tells its settings in 700 in front of it.
const MAX_SEI: usize = 16 << 10;

/// NAL unit type (ITU-T H.264, table 7-1).
const SEI: u8 = 6;

/// Likewise of HEVC (ITU-T H.265, table 7-1).
const PREFIX_SEI: u8 = 39;

/// payloadType of `user_data_registered_itu_t_t35` (D.1.1).
const REGISTERED: usize = 4;

/// Country United States, provider ATSC, `GA94`, and `user_data_type_code` of cc_data (A/53 part 4, 6.2.3).
const HEAD: [u8; 8] = [0xb5, 0x00, 0x31, b'G', b'A', b'9', b'4', 0x03];

/// process_cc_data_flag.
const PROCESS: u8 = 0x40;

/// All triplets of an access unit of the source in their order; none where lengths lie. HEVC has them in a prefix SEI (ITU-T H.265, D.2.6), AV1 in a metadata OBU
/// (6.7.2) without emulation prevention.
pub fn read(coding: Coding, unit: &[u8]) -> Vec<Triplet> {
    let mut out = Vec::new();
    let mut budget = MAX_SEI;
    let mut spend = |body: &'_ [u8]| {
        let taken = body.len().min(budget);
        budget -= taken;
        taken
    };
    match coding {
        Coding::Av1 => {
            for payload in av1::metadata(unit) {
                let taken = spend(payload);
                out.extend(cc_data(payload.get(..taken).unwrap_or_default()).unwrap_or_default());
            }
        }
        Coding::H264 | Coding::Hevc => {
            for (_, nal) in nal_units(unit) {
                let Some(body) = sei_body(coding, nal) else { continue };
                let taken = spend(body);
                messages(&unescaped(body.get(..taken).unwrap_or_default()), &mut out);
            }
        }
    }
    out.truncate(MAX_READ);
    out
}

/// What is behind the header of an SEI NAL unit.
fn sei_body(coding: Coding, nal: &[u8]) -> Option<&[u8]> {
    match (coding, nal) {
        (Coding::Hevc, [first, _, body @ ..]) if first >> 1 & 0x3f == PREFIX_SEI => Some(body),
        (Coding::H264, [first, body @ ..]) if first & 0x1f == SEI => Some(body),
        _ => None,
    }
}

/// The access unit with the triplets in an SEI NAL unit of their own in front of its first slice, which is behind its delimiter, parameter sets and other SEI
/// (7.4.1.2.3). `None` when it has no slice. Triplets above [`MAX_TRIPLETS`] have no place and are left out.
pub fn insert(unit: &[u8], triplets: &[Triplet]) -> Option<Bytes> {
    // A prefix NAL unit (14) belongs to the slice behind it.
    let (at, _) = nal_units(unit).find(|(_, nal)| matches!(kind(nal), Some(1..=5 | 14)))?;
    let nal = nal_unit(triplets);
    let length = u32::try_from(nal.len()).ok()?;
    let (before, behind) = unit.split_at_checked(at)?;
    Some(Bytes::from([before, &length.to_be_bytes(), &nal, behind].concat()))
}

/// Each NAL unit and where its length begins; ends at the first length that points behind the end.
fn nal_units(unit: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        let at = unit.len() - rest.len();
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (nal, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = behind;
        Some((at, nal))
    })
}

fn kind(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header & 0x1f)
}

/// The caption triplets of each `sei_message()`.
fn messages(mut rbsp: &[u8], out: &mut Vec<Triplet>) {
    // What ends the NAL unit (rbsp_trailing_bits) looks like the beginning of a message that has no size.
    while let Some((kind, payload, behind)) = message(rbsp) {
        if kind == REGISTERED {
            out.extend(cc_data(payload).unwrap_or_default());
        }
        rbsp = behind;
    }
}

fn cc_data(payload: &[u8]) -> Option<&[Triplet]> {
    let [flags, _em_data, rest @ ..] = payload.strip_prefix(&HEAD)? else { return None };
    let (triplets, _) = rest.as_chunks::<3>();
    let count = usize::from(flags & 0x1f);
    // A message that promises more than it has is none: nobody knows where its data end.
    (flags & PROCESS != 0).then(|| triplets.get(..count)).flatten()
}

fn nal_unit(triplets: &[Triplet]) -> Vec<u8> {
    let triplets = triplets.get(..MAX_TRIPLETS).unwrap_or(triplets);
    let count = u8::try_from(triplets.len()).unwrap_or_default();
    let mut payload = HEAD.to_vec();
    payload.extend([0x80 | PROCESS | count, 0xff]);
    payload.extend(triplets.as_flattened());
    payload.push(0xff);
    // At most 8 + 2 + 93 + 1 bytes: the size is one byte.
    let size = u8::try_from(payload.len()).unwrap_or_default();
    let mut nal = vec![SEI];
    escape(&[&[4, size], &payload[..], &[0x80]].concat(), &mut nal);
    nal
}

/// Puts emulation prevention bytes in (7.4.1).
fn escape(rbsp: &[u8], nal: &mut Vec<u8>) {
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            nal.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal.push(byte);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An access unit of these NAL units.
    pub(crate) fn unit(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat()).collect()
    }

    /// One SEI message with cc_data, as A/53 draws it.
    fn message(triplets: &[Triplet]) -> Vec<u8> {
        let count = triplets.len() as u8;
        let head = [4, 11 + 3 * count, 0xb5, 0, 0x31, b'G', b'A', b'9', b'4', 3, 0xc0 | count, 0xff];
        [&head[..], triplets.as_flattened(), &[0xff]].concat()
    }

    const A: Triplet = [0xfc, 0x94, 0x20];
    const B: Triplet = [0xff, 0x02, 0x21];

    #[test]
    fn captions_stand_behind_parameter_sets_and_other_sei_in_front_of_the_first_slice() {
        let (delimiter, sps, pps, sei, slice) =
            (&[9, 0xf0][..], &[0x67, 1][..], &[0x68, 2][..], &[6, 5, 1, 0, 0x80][..], &[0x65, 3][..]);
        let out = insert(&unit(&[delimiter, sps, pps, sei, slice, slice]), &[A, B]).unwrap();
        let own = [&[6], &message(&[A, B])[..], &[0x80]].concat();
        assert_eq!(out, unit(&[delimiter, sps, pps, sei, &own, slice, slice]));
        assert_eq!(read(Coding::H264, &out), [A, B]);
        assert_eq!(insert(&unit(&[delimiter, sps]), &[A]), None, "no slice");
        assert_eq!(insert(&[0, 0, 0, 9, 0x65], &[A]), None, "a length that lies");
    }

    #[test]
    fn several_messages_and_several_nal_units_are_read_in_their_order() {
        let other = [5, 3, 1, 2, 3];
        let long = [&[0xff, 0x01, 0xff, 0x02][..], &[7; 257]].concat();
        let first = [&[6], &other[..], &message(&[A]), &long, &message(&[B, A]), &[0x80]].concat();
        let second = [&[6], &message(&[B])[..], &[0x80]].concat();
        assert_eq!(read(Coding::H264, &unit(&[&first, &[0x41, 1], &second])), [A, B, A, B]);
    }

    #[test]
    fn other_user_data_and_broken_sizes_are_no_captions() {
        let with = |at: usize, value: u8| {
            let mut m = message(&[A]);
            m[at] = value;
            read(Coding::H264, &unit(&[&[&[6], &m[..], &[0x80]].concat()]))
        };
        assert_eq!(with(0, 4), [A]);
        for (at, value) in [(0, 5), (2, 0xb4), (4, 0x2f), (5, b'D'), (9, 6), (10, 0x81), (1, 200), (10, 0xc2)] {
            assert!(with(at, value).is_empty(), "byte {at} as {value:#x}");
        }
    }

    #[test]
    fn what_is_read_of_an_access_unit_is_bounded() {
        let full = [&[6], &message(&[A; 31])[..], &[0x80]].concat();
        let nals: Vec<&[u8]> = std::iter::repeat_n(&full[..], 40).collect();
        assert_eq!(read(Coding::H264, &unit(&nals)).len(), MAX_READ);
        let behind = [&[6, 5][..], &[0xff; 70], &[0], &vec![9; 70 * 255], &message(&[A]), &[0x80]].concat();
        assert!(read(Coding::H264, &unit(&[&behind])).is_empty());
    }

    #[test]
    fn hevc_and_av1_carry_the_same_captions_in_their_own_units() {
        let sei = [&[39 << 1, 1][..], &message(&[A, B]), &[0x80]].concat();
        let data = unit(&[&[35 << 1, 1, 0x50], &sei, &[19 << 1, 1, 0xaf]]);
        assert_eq!(read(Coding::Hevc, &data), [A, B]);
        assert!(read(Coding::H264, &data).is_empty() && read(Coding::Av1, &data).is_empty());
        // Payload type and size of the SEI message are the OBU's own here: type 5, metadata_type 4, then the country code.
        let payload = &message(&[A, B])[2..];
        let obu = [&[5 << 3 | 2, 1 + payload.len() as u8, 4][..], payload].concat();
        assert_eq!(read(Coding::Av1, &[&[0x12, 0][..], &obu, &[0x32, 1, 0x10]].concat()), [A, B]);
    }

    proptest! {
        #[test]
        fn what_is_inserted_is_read_back_and_nothing_else_changes(
            triplets in prop::collection::vec(prop_oneof![any::<[u8; 3]>(), prop::array::uniform3(0u8..4)], 0..=MAX_TRIPLETS),
            behind in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let slice = [&[0x41], &behind[..]].concat();
            let before = unit(&[&[9, 0xf0], &slice]);
            let out = insert(&before, &triplets).unwrap();
            prop_assert_eq!(read(Coding::H264, &out), triplets);
            let nals: Vec<&[u8]> = nal_units(&out).map(|(_, nal)| nal).collect();
            prop_assert_eq!(nals.len(), 3);
            prop_assert_eq!(unit(&[nals[0], nals[2]]), before);
            // 7.4.1: no start code, and no byte sequence that may not stand in a NAL unit.
            prop_assert!(nals[1].windows(3).all(|w| w[..2] != [0, 0] || w[2] > 2));
            prop_assert!(nals[1].last() != Some(&0));
        }

        #[test]
        fn strange_bytes_never_panic(
            body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(3)], 0..200),
            raw in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            prop_assert!(read(Coding::H264, &unit(&[&[&[6], &body[..]].concat()])).len() <= MAX_READ);
            for coding in [Coding::H264, Coding::Hevc, Coding::Av1] {
                prop_assert!(read(coding, &raw).len() <= MAX_READ);
            }
            let _ = insert(&raw, &[A]);
            let _ = read(Coding::H264, &unit(&[&[&[6, 4, 0x20][..], &HEAD, &body].concat()]));
        }
    }
}
