//! Closed captions in a publisher's pictures, and a reader of them that knows as much as was written.

use std::path::{Path, PathBuf};

use super::clip::Clip;
use super::flv;

/// What is lifted out of a picture: constructs of three bytes (ATSC A/53 part 4).
pub type CcData = Vec<u8>;

/// `cc_data` of the n-th picture that is shown: channel 1 of CTA-608 (the command for two lines that roll up, then letters), and of CTA-708 a packet with
/// two letters for service 1. Unique among 4096 pictures.
pub fn written(n: usize) -> CcData {
    let [a, b] = [n / 64, n % 64].map(|n| b'!' + u8::try_from(n).unwrap());
    let pair = if n == 0 { (0x14, 0x25) } else { (a, b) };
    let odd = |byte: u8| byte | u8::from(byte.count_ones().is_multiple_of(2)) << 7;
    // Sequence number and size (2 x 2 bytes) of the packet; service 1, two bytes.
    let (packet, block) = (u8::try_from(n % 4).unwrap() << 6 | 2, 1 << 5 | 2);
    vec![0xfc, odd(pair.0), odd(pair.1), 0xff, packet, block, 0xfe, a, b]
}

/// The clip with captions in each picture.
pub fn captioned(clip: &Clip, folder: &Path) -> PathBuf {
    let mut tags = flv::read(&clip.file());
    let mut shown: Vec<i64> = tags.iter().filter(|t| t.is_picture()).map(flv::Tag::shown).collect();
    shown.sort_unstable();
    for tag in tags.iter_mut().filter(|t| t.is_picture()) {
        let cc_data = written(shown.binary_search(&tag.shown()).unwrap());
        let count = 0x40 | u8::try_from(cc_data.len() / 3).unwrap();
        let data = [&[0xb5, 0, 0x31][..], b"GA94", &[3, count, 0xff], &cc_data, &[0xff]].concat();
        tag.prepend(&[[&[6, 4, u8::try_from(data.len()).unwrap()][..], &data, &[0x80]].concat()]);
    }
    let path = folder.join("captioned.flv");
    flv::write(&path, &tags);
    path
}

/// `cc_data` of a sample; empty where there is none.
pub fn read(mut sample: &[u8]) -> CcData {
    while let Some((length, rest)) = sample.split_first_chunk::<4>() {
        let (unit, behind) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let start = unit.windows(7).position(|w| w == [0xb5, 0, 0x31, b'G', b'A', b'9', b'4']);
        if let (6, Some(at)) = (unit[0] & 0x1f, start) {
            let data = &unit[at + 7..];
            assert_eq!(data[0], 3);
            return data[3..3 + 3 * usize::from(data[1] & 0x1f)].to_vec();
        }
        sample = behind;
    }
    Vec::new()
}
