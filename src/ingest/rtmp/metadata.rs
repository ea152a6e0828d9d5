//! Script data: of `onMetaData` a few numbers out of whatever an encoder writes, and cues as JSON. Pure; advice only.

use rtmp_runtime::amf0::{Amf0Value, Command};

use crate::ingest::{Cue, Metadata, Packet};

/// Longest script message that is read; longer ones are skipped. OBS writes under 1 KiB. An AMF value takes 32 times its bytes in memory
/// at worst, so this is 2 MiB.
const MAX_SCRIPT: usize = 64 << 10;

/// Highest bit rate believed, 1 Gbit/s: the network card's.
const MAX_BITRATE: f64 = 1e9;

/// Highest frame rate believed. Cameras end at 240; the field counts thousandths, so that this still fits easily.
const MAX_FPS: f64 = 1000.0;

/// Longest side believed: level 6.2 of H.264 ends at 8192.
const MAX_SIDE: f64 = 8192.0;

/// Whole numbers up to here are exact in AMF's numbers and in JavaScript's (2^53).
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Handlers whose data are cues, by the names that players of Flash knew (Adobe FLV 10.1, annex E.5, for the second).
const CUES: [&str; 2] = ["onTextData", "onCuePoint"];

/// An empty name and a zero: what stands before the values in a command and not in a script message (AMF 0, sections 2.4 and 2.2).
const COMMAND_HEAD: [u8; 12] = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `None` for other script data, and for what cannot be read: a stream must not die of its advertisement.
pub(crate) fn parse(time: u32, body: &[u8]) -> Option<Packet> {
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
    let (Amf0Value::String(name), value) = (name, values.next()?) else { return None };
    if let Some(name) = CUES.into_iter().find(|cue| *cue == name) {
        let mut text = String::new();
        json(&value, &mut text);
        return Some(Packet::Cue(Cue { time, name, text }));
    }
    match value {
        Amf0Value::EcmaArray(pairs) | Amf0Value::Object(pairs) if name == "onMetaData" => Some(Packet::Metadata(rates(&pairs))),
        _ => None,
    }
}

fn rates(pairs: &[(String, Amf0Value)]) -> Metadata {
    let plain = |wanted: &str, factor: f64, max: f64| {
        pairs.iter().find_map(|(name, value)| match value {
            Amf0Value::Number(n) if name == wanted => positive(*n * factor, max),
            _ => None,
        })
    };
    // These are given in thousands of what we keep: kbit/s, and frames per second for thousandths of a frame.
    let number = |wanted: &str, max: f64| plain(wanted, 1000.0, max);
    let side = |wanted: &str| plain(wanted, 1.0, MAX_SIDE).and_then(|n| u32::try_from(n).ok());
    Metadata {
        video_bitrate: number("videodatarate", MAX_BITRATE),
        audio_bitrate: number("audiodatarate", MAX_BITRATE),
        frame_rate_milli: number("framerate", MAX_FPS * 1000.0).and_then(|n| u32::try_from(n).ok()),
        width: side("width"),
        height: side("height"),
    }
}

/// A value as JSON (RFC 8259), as a script would write it: dates as milliseconds since 1970, what JSON has no word for as null. Names stay in their
/// order. A byte of AMF makes six of JSON at the most, and the parser has bounded the depth.
fn json(value: &Amf0Value, out: &mut String) {
    match value {
        Amf0Value::Number(n) | Amf0Value::Date(n) => number(*n, out),
        Amf0Value::Boolean(b) => out.push_str(if *b { "true" } else { "false" }),
        Amf0Value::String(s) | Amf0Value::LongString(s) => string(s, out),
        Amf0Value::Object(pairs) | Amf0Value::EcmaArray(pairs) => {
            list(('{', '}'), pairs, out, |(name, value), out| {
                string(name, out);
                out.push(':');
                json(value, out);
            });
        }
        Amf0Value::StrictArray(values) => list(('[', ']'), values, out, json),
        _ => out.push_str("null"),
    }
}

fn list<T>((open, close): (char, char), items: &[T], out: &mut String, each: impl Fn(&T, &mut String)) {
    out.push(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(close);
}

fn string(s: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(s).to_string());
}

fn number(n: f64, out: &mut String) {
    // A whole number without its point, as every other writer of JSON has it; the cast is exact.
    let text =
        if n.fract() == 0.0 && n.abs() <= MAX_EXACT { (n as i64).to_string() } else { serde_json::Value::from(n).to_string() };
    out.push_str(&text);
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

    fn metadata(body: &[u8]) -> Option<Metadata> {
        match parse(0, body)? {
            Packet::Metadata(metadata) => Some(metadata),
            other => panic!("{other:?}"),
        }
    }

    fn cue(body: &[u8]) -> Option<(u32, &'static str, String)> {
        match parse(7, body)? {
            Packet::Cue(cue) => Some((cue.time, cue.name, cue.text)),
            other => panic!("{other:?}"),
        }
    }

    fn long(s: &str) -> Vec<u8> {
        [&[12], &u32::try_from(s.len()).unwrap().to_be_bytes()[..], s.as_bytes()].concat()
    }

    fn number_of(n: f64) -> Vec<u8> {
        [&[0][..], &n.to_be_bytes()].concat()
    }

    #[test]
    fn cues_become_json_in_the_order_of_their_names() {
        let pair = |name: &str, value: &[u8]| [&string(name)[1..], value].concat();
        let date = [&[11][..], &1_700_000_000_000f64.to_be_bytes(), &[0, 0]].concat();
        let inner = [&[3][..], &pair("z", &[5]), &pair("a", &[6]), &[0, 0, 9]].concat();
        let list = [&[10, 0, 0, 0, 2][..], &number_of(1.0), &number_of(-0.25)].concat();
        let fields = [
            pair("text", &string("a \"quoted\"\n line \u{1} ü")),
            pair("n", &number_of(3.0)),
            pair("big", &number_of(1e300)),
            pair("none", &number_of(f64::NAN)),
            pair("yes", &[1, 1]),
            pair("when", &date),
            pair("in", &inner),
            pair("list", &list),
            pair("long", &long("x")),
        ];
        let value = [ECMA, &fields.concat(), &[0, 0, 9]].concat();
        let expected = r#"{"text":"a \"quoted\"\n line \u0001 ü","n":3,"big":1e+300,"none":null,"yes":true,"when":1700000000000,"in":{"z":null,"a":null},"list":[1,-0.25],"long":"x"}"#;
        for prefix in [vec![], string("@setDataFrame")] {
            let body = [&prefix[..], &string("onTextData"), &value].concat();
            assert_eq!(cue(&body), Some((7, "onTextData", expected.to_owned())));
        }
        assert_eq!(cue(&[string("onCuePoint"), string("plain")].concat()), Some((7, "onCuePoint", "\"plain\"".to_owned())));
        assert_eq!(parse(7, &[string("onFI"), value.clone()].concat()), None);
        assert_eq!(parse(7, &string("onTextData")), None, "without data");
    }

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
            assert_eq!(metadata(&script(marker, &pairs)), Some(want));
        }
        let without_prefix = &script(ECMA, &pairs)[string("@setDataFrame").len()..];
        assert_eq!(metadata(without_prefix), Some(want));
    }

    #[test]
    fn insane_numbers_are_clamped_or_dropped() {
        let of = |n: f64| metadata(&script(ECMA, &[("videodatarate", n), ("framerate", n)])).unwrap();
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
        assert_eq!(parse(0, &[string("onFI"), ECMA.to_vec(), vec![0, 0, 9]].concat()), None);
        assert_eq!(parse(0, &string("onMetaData")), None);
        assert_eq!(parse(0, b""), None);
        let mut deep = [string("onMetaData"), vec![3]].concat();
        deep.extend(b"\x00\x01a\x03".repeat(10_000));
        assert_eq!(parse(0, &deep), None);
        let arrays = [string("onMetaData"), b"\x0a\xff\xff\xff\xff".to_vec()].concat();
        assert_eq!(parse(0, &arrays), None);
        let mut long = script(ECMA, &[("framerate", 30.0)]);
        long.resize(MAX_SCRIPT, 5);
        assert!(parse(0, &long).is_some(), "more values behind do no harm");
        long.push(5);
        assert_eq!(parse(0, &long), None);
    }

    proptest! {
        #[test]
        fn strange_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(0, &body);
            let _ = parse(0, &[string("onMetaData"), body.clone()].concat());
            if let Some(Packet::Cue(cue)) = parse(0, &[string("onTextData"), body].concat()) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&cue.text).is_ok(), "{}", cue.text);
            }
        }
    }
}
