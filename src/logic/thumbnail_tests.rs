use proptest::prelude::*;

use super::*;
use crate::logic::model::FrameRate;

/// The form of a JPEG: all that [`check`] looks at, and a scan that decodes to nothing sensible.
pub(crate) fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    out.extend([0xff, 0xe0, 0, 16]);
    out.extend(b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    out.extend([0xff, 0xdb, 0, 4, 0, 1]);
    out.extend([0xff, 0xc0, 0, 17, 8]);
    out.extend(height.to_be_bytes());
    out.extend(width.to_be_bytes());
    out.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
    out.extend([0xff, 0xc4, 0, 4, 0, 1]);
    out.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
    out.extend([1, 2, 0xff, 0, 3, 0xff, 0xd0, 4]);
    out.extend([0xff, 0xd9]);
    out
}

const SIZE: Size = Size { width: 320, height: 180 };

fn with(segment: &[u8]) -> Vec<u8> {
    let plain = jpeg(320, 180);
    [&plain[..2], segment, &plain[2..]].concat()
}

#[test]
fn a_plain_picture_of_the_right_size_passes() {
    assert_eq!(check(&jpeg(320, 180), SIZE), Ok(()));
    let other = Size { width: 180, height: 320 };
    assert_eq!(check(&jpeg(180, 320), SIZE), Err(BadJpeg::Size(other, SIZE)));
}

#[test]
fn nothing_else_hides_in_it() {
    let plain = jpeg(320, 180);
    let behind = [&plain[..], b"<script>"].concat();
    assert_eq!(check(&behind, SIZE), Err(BadJpeg::Not));
    assert_eq!(check(&[&plain[..], &plain].concat(), SIZE), Err(BadJpeg::Not));
    assert_eq!(check(&with(&[0xff, 0xfe, 0, 5, b'h', b't', b'm']), SIZE), Err(BadJpeg::Marker(0xfe)), "a comment");
    assert_eq!(check(&with(b"\xff\xe1\0\x08Exif\0\0"), SIZE), Err(BadJpeg::Marker(0xe1)), "metadata");
    assert_eq!(check(&with(b"\xff\xe0\0\x09JFXX\0\x10\0"), SIZE), Err(BadJpeg::Marker(0xe0)), "a picture in the header");
    assert_eq!(check(&with(&[0xff, 0xdb, 0, 1]), SIZE), Err(BadJpeg::Marker(0xdb)), "a length that lies");
    assert_eq!(check(b"<html>", SIZE), Err(BadJpeg::Not));
    assert_eq!(check(b"\x89PNG\r\n", SIZE), Err(BadJpeg::Not));
    let progressive: Vec<u8> = plain.iter().map(|&b| if b == 0xc0 { 0xc2 } else { b }).collect();
    assert_eq!(check(&progressive, SIZE), Err(BadJpeg::Marker(0xc2)));
    let mut long = plain;
    long.resize(MAX_BYTES + 1, 0);
    assert_eq!(check(&long, SIZE), Err(BadJpeg::Long(MAX_BYTES + 1)));
}

#[test]
fn what_is_cut_short_anywhere_is_refused() {
    let plain = jpeg(320, 180);
    for length in 0..plain.len() {
        assert!(check(&plain[..length], SIZE).is_err(), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn bytes_of_a_stranger_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..100, value: u8) {
        let _ = check(&bytes, SIZE);
        let _ = check(&[&[0xff, 0xd8], &bytes[..]].concat(), SIZE);
        let mut spoiled = jpeg(320, 180);
        let at = at % spoiled.len();
        spoiled[at] = value;
        let _ = check(&spoiled, SIZE);
    }

    #[test]
    fn a_thumbnail_has_the_sources_shape_and_is_never_larger(w in 2u32..9000, h in 2u32..9000, short_side in 64u32..=720) {
        let source = Source { width: w, height: h, fps: FrameRate::whole(30), bitrate: None };
        if let Some(t) = Thumbnail::of(&source, &settings(4, short_side)) {
            prop_assert!(t.width.is_multiple_of(2) && t.height.is_multiple_of(2));
            prop_assert!(t.width.max(t.height) <= MAX_SIDE);
            prop_assert!(t.width <= w.next_multiple_of(2) && t.height <= h.next_multiple_of(2));
            prop_assert!(t.width.min(t.height) <= short_side);
            // One step of two samples, on the long side.
            let (ours, theirs) = (f64::from(t.width) / f64::from(t.height), f64::from(w) / f64::from(h));
            let step = 4.0 / f64::from(t.width.min(t.height));
            prop_assert!((ours / theirs - 1.0).abs() <= step, "{ours} for {theirs}");
        }
    }
}

fn settings(every: u64, short_side: u32) -> Settings {
    Settings { every: Duration::from_secs(every), short_side, quality: 75, keep: Duration::from_secs(300) }
}

#[test]
fn sizes_of_common_sources() {
    let of = |width, height, short_side| {
        let source = Source { width, height, fps: FrameRate::whole(30), bitrate: None };
        Thumbnail::of(&source, &settings(4, short_side)).map(|t| (t.width, t.height))
    };
    assert_eq!(of(1920, 1080, 180), Some((320, 180)));
    assert_eq!(of(1080, 1920, 180), Some((180, 320)));
    assert_eq!(of(1440, 1080, 180), Some((240, 180)));
    assert_eq!(of(160, 90, 180), Some((160, 90)), "never larger than the source");
    assert_eq!(of(1280, 720, 720), Some((1280, 720)));
    assert_eq!(of(8000, 64, 64), None, "a strip");
    let source = Source { width: 1920, height: 1080, fps: FrameRate::whole(30), bitrate: None };
    assert_eq!(Thumbnail::of(&source, &settings(0, 180)), None, "none are wanted");
    assert_eq!(Thumbnail::of(&source, &settings(4, 180)).unwrap().every, MediaTime::from_secs(4));
}
