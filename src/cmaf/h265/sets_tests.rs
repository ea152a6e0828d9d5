use bytes::Bytes;
use proptest::prelude::*;

use super::super::{picture, read_record, renewed, without_sets};
use super::*;
use crate::cmaf::h264::tests::records::bytes;
use crate::cmaf::h265::{HevcError, kind};
use crate::cmaf::video::Picture;
use crate::logic::model::Coding;
use records::*;

/// x265's records, one a kind, without the SEI message that tells its settings: 640x360 at 30 pictures a second where the name says nothing else.
pub(crate) mod records {
    pub(crate) const MAIN: &str = "0101600000009000000000003ff000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003f959009a10001002b42010101600000030090000003000003003fa005020171f2e595912930bc05a020000003002000000303c1a2000100064401c073c189";
    pub(crate) const MAIN_10: &str = "0102200000009000000000003ff000fcfdfafa00000f03a00001001840010c01ffff02200000030090000003000003003f959409a10001002c42010102200000030090000003000003003fa005020171f2b6595952930bc05a020000030002000003003c10a2000100064401c073c189";
    pub(crate) const RANGE_422: &str = "0104080000009d08000000003ff000fcfef8f800000f03a00001001740010c01ffff0408000003009d0800000300003f959409a10001002b4201010408000003009d0800000300003fb005020171f13965654a4c2f016808000003000800000300f040a2000100064401c073c189";
    pub(crate) const RANGE_444: &str = "0104080000009e08000000003ff000fcfff8f800000f03a00001001740010c01ffff0408000003009e0800000300003f959409a10001002b4201010408000003009e0800000300003f9000a0402e3e272caca94985e02d010000030001000003001e08a2000100084401c07318301890";
    pub(crate) const INTERLACED: &str = "0101600000004000000000003ff000fcfdf8f800000f03a00001001840010c01ffff01600000030040000003000003003f959409a10001002b42010101600000030040000003000003003fa005020171f2e595952930bc05a1a0000003002000000303c1a2000100064401c073c189";
    /// 720x576, samples of 64:45, 25 pictures a second.
    pub(crate) const WIDE_576: &str = "0101600000009000000000005af000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003005a959409a10001002f42010101600000030090000003000003005aa005a200905965654a4c2fff0040002d6808000003000800000300c840a2000100064401c073c189";
    /// 320x180, colours by BT.601.
    pub(crate) const BT_601: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c959809a10001002e42010101600000030090000003000003003ca00a080b9f796566924caf016a04040c08000003000800000300f040a2000100074401c172b46240";
    /// 1920x1080, 60000/1001 pictures a second.
    pub(crate) const HD_60: &str = "0101600000009000000000007bf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003007b959409a10001002a42010101600000030090000003000003007ba003c0801107cb965654a4c2f01680800001f48000753004a2000100064401c073c189";
}

fn read(hex: &str) -> Picture {
    picture(&bytes(hex)).unwrap()
}

#[test]
fn records_of_all_kinds_are_read() {
    let plain = Picture {
        coding: Coding::Hevc,
        profile: 1,
        level: 21,
        sar: (1, 1),
        chroma: Chroma::Quarter,
        depth: 8,
        interlaced: false,
        matrix: None,
    };
    assert_eq!(read(MAIN), plain);
    assert_eq!(read(MAIN_10), Picture { profile: 2, depth: 10, ..plain });
    assert_eq!(read(RANGE_422), Picture { profile: 4, chroma: Chroma::Half, ..plain });
    assert_eq!(read(RANGE_444), Picture { profile: 4, chroma: Chroma::Full, ..plain });
    assert_eq!(read(INTERLACED), Picture { interlaced: true, ..plain });
    assert_eq!(read(BT_601).matrix, Some(crate::cmaf::video::Matrix::Bt601));
    assert_eq!(read(WIDE_576), Picture { level: 30, sar: (64, 45), ..plain });
    assert_eq!(read(HD_60), Picture { level: 41, ..plain });
    assert_eq!(picture(b""), None);
}

#[test]
fn size_rate_and_codec_come_from_the_parameter_sets() {
    let of = |hex| {
        let f = read_record(&bytes(hex), None).unwrap();
        assert_eq!(f.coding(), Coding::Hevc);
        (f.width, f.height, f.fps, f.codec)
    };
    assert_eq!(of(MAIN), (640, 360, FrameRate::whole(30), "hvc1.1.6.L63.90".into()));
    assert_eq!(of(MAIN_10), (640, 360, FrameRate::whole(30), "hvc1.2.4.L63.90".into()));
    assert_eq!(of(WIDE_576), (720, 576, FrameRate::whole(25), "hvc1.1.6.L90.90".into()));
    // The conformance window takes 8 lines off 1088.
    assert_eq!(of(HD_60), (1920, 1080, FrameRate { num: 60_000, den: 1001 }, "hvc1.1.6.L123.90".into()));
    assert_eq!(of(RANGE_422).3, "hvc1.4.10.L63.9D.8");
}

#[test]
fn what_cannot_be_taken_is_refused_by_name() {
    let mut short = bytes(MAIN).to_vec();
    short[21] = 0x0d;
    assert_eq!(read_record(&short.into(), None), Err(HevcError::Unsupported("short NAL unit length")));
    let mut none = bytes(MAIN).to_vec();
    none.truncate(22);
    none.push(0);
    assert_eq!(read_record(&none.into(), None), Err(HevcError::Record("no SPS".into())));
}

/// The sets of a record as an access unit in front of an IDR slice.
fn in_band(record: &[u8], wanted: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &record[23..];
    while let [_, _, _, high, low, behind @ ..] = rest {
        let (set, behind) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if wanted.contains(&kind(set).unwrap()) {
            out.extend((set.len() as u32).to_be_bytes());
            out.extend(set);
        }
        rest = behind;
    }
    out.extend([0, 0, 0, 4, 0x26, 1, 0xaf, 0x80]);
    out
}

#[test]
fn sets_in_mid_stream_make_the_record_that_a_sequence_header_would_have_brought() {
    let old = bytes(MAIN);
    assert_eq!(renewed(&old, &in_band(&old, &[32, 33, 34])).unwrap(), None);
    assert_eq!(renewed(&old, &in_band(&old, &[])).unwrap(), None);
    for hex in [MAIN_10, RANGE_422, RANGE_444, INTERLACED, WIDE_576, HD_60] {
        let made = renewed(&old, &in_band(&bytes(hex), &[32, 33, 34])).unwrap().unwrap();
        assert_eq!(made, bytes(hex), "byte for byte");
        assert_eq!(renewed(&made, &in_band(&made, &[32, 33, 34])).unwrap(), None);
    }
    // Without its VPS the old one stays; a PPS alone takes the place of the one with its number.
    let made = renewed(&old, &in_band(&bytes(WIDE_576), &[33, 34])).unwrap().unwrap();
    assert_eq!(read_record(&made, None).unwrap().width, 720);
    let made = renewed(&old, &in_band(&bytes(RANGE_444), &[34])).unwrap().unwrap();
    assert_eq!(made.len(), old.len() + 2, "the longer PPS");
    assert_eq!(read_record(&made, None).unwrap().width, 640);
    assert!(renewed(&old, &[0, 0, 0, 3, 0x42, 1, 9]).is_err());
}

#[test]
fn samples_are_left_without_sets() {
    let with = Bytes::from(in_band(&bytes(MAIN), &[32, 33, 34]));
    let without = Bytes::from(in_band(&bytes(MAIN), &[]));
    assert_eq!(without_sets(&with), without);
    assert_eq!(without_sets(&without), without);
}

#[test]
fn sets_of_references_told_by_the_one_before_are_as_long_as_they_say() {
    /// Bits of a text of 0 and 1.
    fn packed(text: &str) -> Vec<u8> {
        let bits: Vec<u8> = text.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
        bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |byte, (i, bit)| byte | bit << (7 - i))).collect()
    }
    // Two before (-1, -3), one after (+2): ue(2), ue(1), then ue(0) 1, ue(1) 1, ue(1) 1.
    let told = "011 010 1 1 010 1 010 1";
    let bytes = packed(told);
    let first = short_term_set(&mut Bits::new(&bytes), None).unwrap();
    assert_eq!((&first.before[..], &first.after[..]), (&[-1, -3][..], &[2][..]));
    // Predicted, one earlier, all used: -4, -2, +1 and -1 itself. (7-61): 2 - 1 is after; -1; -2; -4.
    let bytes = packed("1 1 1 1 1 1 1");
    let bits = &mut Bits::new(&bytes);
    let second = short_term_set(bits, Some(&first)).unwrap();
    assert_eq!((&second.before[..], &second.after[..]), (&[-1, -2, -4][..], &[1][..]));
    // One that is not used and not kept has two bits.
    let bytes = packed("1 0 1 1 00 1 01 ");
    let third = short_term_set(&mut Bits::new(&bytes), Some(&first)).unwrap();
    assert_eq!((&third.before[..], &third.after[..]), (&[][..], &[1, 3][..]), "-1 + 1 is the picture itself");
}

proptest! {
    #[test]
    fn mutated_records_never_panic(changes in prop::collection::vec((0usize..120, any::<u8>()), 0..6), cut in 0usize..120) {
        let mut record = bytes(HD_60).to_vec();
        for (at, value) in changes {
            if let Some(b) = record.get_mut(at) { *b = value }
        }
        record.truncate(cut);
        let record = Bytes::from(record);
        let _ = read_record(&record, None);
        let _ = picture(&record);
        let _ = renewed(&record, &in_band(&bytes(MAIN), &[32, 33, 34]));
    }

    #[test]
    fn strange_sets_never_panic(body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 0..120)) {
        let nal = [&[0x42, 1][..], &body].concat();
        let _ = sps(&nal);
        let unit = Bytes::from([&(nal.len() as u32).to_be_bytes()[..], &nal].concat());
        if let Ok(Some(record)) = renewed(&bytes(MAIN), &unit) {
            let _ = read_record(&record, None);
        }
        let _ = without_sets(&unit);
    }
}
