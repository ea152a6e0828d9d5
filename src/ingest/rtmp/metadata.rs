//! `onMetaData`: a few numbers out of whatever an encoder writes. Pure; advice only.

use rtmp_runtime::amf0::{Amf0Value, Command};

use crate::ingest::Metadata;

/// Longest script message that is read; longer ones are skipped. OBS writes under 1 KiB. An AMF value takes 32 times its bytes in memory
/// at worst, so this is 2 MiB.
const MAX_SCRIPT: usize = 64 << 10;

/// Highest bit rate believed, 1 Gbit/s: the network card's.
const MAX_BITRATE: f64 = 1e9;

/// Highest frame rate believed. Cameras end at 240; the field counts thousandths, so that this still fits easily.
const MAX_FPS: f64 = 1000.0;

/// Longest side believed: level 6.2 of H.264 ends at 8192.
const MAX_SIDE: f64 = 8192.0;

/// An empty name and a zero: what stands before the values in a command and not in a script message (AMF 0, sections 2.4 and 2.2).
const COMMAND_HEAD: [u8; 12] = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `None` for other script data, and for what cannot be read: a stream must not die of its advertisement.
pub(super) fn parse(body: &[u8]) -> Option<Metadata> {
    if body.len() > MAX_SCRIPT {
        return None;
    }
    // rtmp-runtime reads sequences of AMF values (with a limit of depth) only as a command.
    let values = Command::parse(&[&COMMAND_HEAD, body].concat()).ok()?.arguments;
    let mut values = values.into_iter();
    let mut name = values.next()?;
    if matches!(&name, Amf0Value::String(s) if s == "@setDataFrame") {
        name = values.next()?;
    }
    if !matches!(&name, Amf0Value::String(s) if s == "onMetaData") {
        return None;
    }
    let (Amf0Value::EcmaArray(pairs) | Amf0Value::Object(pairs)) = values.next()? else { return None };
    let plain = |wanted: &str, factor: f64, max: f64| {
        pairs.iter().find_map(|(name, value)| match value {
            Amf0Value::Number(n) if name == wanted => positive(*n * factor, max),
            _ => None,
        })
    };
    // These are given in thousands of what we keep: kbit/s, and frames per second for thousandths of a frame.
    let number = |wanted: &str, max: f64| plain(wanted, 1000.0, max);
    let side = |wanted: &str| plain(wanted, 1.0, MAX_SIDE).and_then(|n| u32::try_from(n).ok());
    Some(Metadata {
        video_bitrate: number("videodatarate", MAX_BITRATE),
        audio_bitrate: number("audiodatarate", MAX_BITRATE),
        frame_rate_milli: number("framerate", MAX_FPS * 1000.0).and_then(|n| u32::try_from(n).ok()),
        width: side("width"),
        height: side("height"),
    })
}

/// Rounded and at most `max`; nothing for zero, negative and not a number, which encoders write for "unknown".
fn positive(n: f64, max: f64) -> Option<u64> {
    // `min` gives `max` for infinity, and the cast of what is left is exact.
    let n = if n.is_nan() { 0.0 } else { n.min(max).round() };
    (n >= 1.0).then_some(n as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(s: &str) -> Vec<u8> {
        [&[2], &u16::try_from(s.len()).unwrap().to_be_bytes()[..], s.as_bytes()].concat()
    }

    fn script(marker: &[u8], pairs: &[(&str, f64)]) -> Vec<u8> {
        let mut body = [string("@setDataFrame"), string("onMetaData"), marker.to_vec()].concat();
        for (name, n) in pairs {
            body.extend(&string(name)[1..]);
            body.push(0);
            body.extend(n.to_be_bytes());
        }
        body.extend([0, 0, 9]);
        body
    }

    const ECMA: &[u8] = &[8, 0, 0, 0, 3];

    #[test]
    fn rates_are_read_from_both_kinds_of_object() {
        let want = Metadata {
            video_bitrate: Some(2_500_000),
            audio_bitrate: Some(160_000),
            frame_rate_milli: Some(29_970),
            width: Some(1280),
            height: None,
        };
        let pairs = [("width", 1280.0), ("videodatarate", 2500.0), ("audiodatarate", 160.0), ("framerate", 29.97)];
        for marker in [ECMA, &[3]] {
            assert_eq!(parse(&script(marker, &pairs)), Some(want));
        }
        let without_prefix = &script(ECMA, &pairs)[string("@setDataFrame").len()..];
        assert_eq!(parse(without_prefix), Some(want));
    }

    #[test]
    fn insane_numbers_are_clamped_or_dropped() {
        let of = |n: f64| parse(&script(ECMA, &[("videodatarate", n), ("framerate", n)])).unwrap();
        for nothing in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY, 1e-9] {
            assert_eq!(of(nothing), Metadata::default(), "{nothing}");
        }
        let most = Metadata { video_bitrate: Some(1_000_000_000), frame_rate_milli: Some(1_000_000), ..Metadata::default() };
        for much in [f64::INFINITY, f64::MAX, 1e12] {
            assert_eq!(of(much), most, "{much}");
        }
    }

    #[test]
    fn other_scripts_long_ones_and_deep_ones_are_skipped() {
        assert_eq!(parse(&[string("onTextData"), ECMA.to_vec(), vec![0, 0, 9]].concat()), None);
        assert_eq!(parse(&string("onMetaData")), None);
        assert_eq!(parse(b""), None);
        let mut deep = [string("onMetaData"), vec![3]].concat();
        deep.extend(b"\x00\x01a\x03".repeat(10_000));
        assert_eq!(parse(&deep), None);
        let arrays = [string("onMetaData"), b"\x0a\xff\xff\xff\xff".to_vec()].concat();
        assert_eq!(parse(&arrays), None);
        let mut long = script(ECMA, &[("framerate", 30.0)]);
        long.resize(MAX_SCRIPT, 5);
        assert!(parse(&long).is_some(), "more values behind do no harm");
        long.push(5);
        assert_eq!(parse(&long), None);
    }

    proptest! {
        #[test]
        fn strange_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body);
            let _ = parse(&[string("onMetaData"), body].concat());
        }
    }
}
