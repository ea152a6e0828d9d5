//! What fuzzers run, as plain functions: `fuzz/` gives them to libFuzzer, and the tests below replay its corpora and mutate them on a stable toolchain.
//!
//! Each takes any bytes and panics where a promise is broken, be it only that there is no panic. Exists in tests and under `cfg(fuzzing)`.

use bytes::Bytes;
use rtmp_runtime::server::{ServerConfig, ServerEvent, ServerSession};

use crate::cmaf::{aac, av1, h264, h265, sei, video};
use crate::ingest::mpegts::{Demux, Limits};
use crate::ingest::rtmp::{parse_script, tag_body};
use crate::ingest::{Packet, flv};
use crate::logic::language::Language;
use crate::logic::model::Coding;

/// A body of one target.
pub type Body = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Body); 7] = [
    ("rtmp", rtmp),
    ("flv", flv),
    ("enhanced", enhanced),
    ("amf0", amf0),
    ("mpegts", mpegts),
    ("mpegts_tracks", mpegts_tracks),
    ("records", records),
];

/// A publisher's bytes: what comes out does not depend on where they were cut. The first byte says how long the pieces are.
pub fn rtmp(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = messages(std::iter::once(bytes));
    let parts = messages(bytes.chunks(usize::from(cut) + 1));
    // An error takes its read's events with it, so the pieces may give more before it.
    assert!(parts.0.starts_with(&whole.0), "pieces of {} give less", usize::from(cut) + 1);
    assert_eq!(whole.1, parts.1, "pieces of {} end otherwise", usize::from(cut) + 1);
    for flv in parts.0 {
        let Some((kind, time, body)) = tag_body(flv) else { continue };
        match kind {
            8 => drop(flv::audio(&body)),
            9 => drop(flv::video(&body)),
            18 => drop(parse_script(time, &body)),
            _ => {}
        }
    }
}

/// Media messages, and whether the session went on to the end.
fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let mut session = ServerSession::new(ServerConfig::default().with_max_in_progress_bytes(1 << 20));
    let mut media = Vec::new();
    for piece in pieces {
        let Ok((_, events)) = session.handle_data(piece) else { return (media, false) };
        media.extend(events.into_iter().filter_map(|e| if let ServerEvent::Media { flv } = e { Some(flv) } else { None }));
    }
    (media, true)
}

/// Video and audio messages: what comes out is a part of what went in.
pub fn flv(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok(flv::Video::Config(_, d) | flv::Video::Frame { data: d, .. }) = flv::video(&body) {
        assert!(!d.is_empty() && data.ends_with(&d));
    }
    if let Ok(flv::Audio::Config(d) | flv::Audio::Frame(d)) = flv::audio(&body) {
        assert!(!d.is_empty() && data.ends_with(&d));
    }
}

/// The same with Enhanced RTMP's headers, which most bytes are not.
pub fn enhanced(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    flv(&[&[0x80 | first], rest].concat());
    flv(&[&[0x90 | first & 0x0f], rest].concat());
}

/// Script messages: metadata and cues, bounded whatever is nested in them.
pub fn amf0(data: &[u8]) {
    if let Some(Packet::Cue(cue)) = parse_script(0, data) {
        assert!(cue.text.len() <= data.len().saturating_mul(64) + 1024, "{} bytes of {}", cue.text.len(), data.len());
        assert!(serde_json::from_str::<serde_json::Value>(&cue.text).is_ok(), "no JSON: {}", cue.text);
    }
}

/// A transport stream's bytes: what comes out does not depend on where they were cut. The first byte says how long the pieces are.
pub fn mpegts(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = demuxed(std::iter::once(bytes));
    let parts = demuxed(bytes.chunks(usize::from(cut) + 1));
    assert_eq!(whole.1, parts.1);
    assert_eq!(whole.0, parts.0);
    let mut now = Coding::H264;
    for packet in whole.0 {
        match packet {
            Packet::VideoConfig(coding, record) => {
                now = coding;
                let _ = video::read_record(coding, &record, None);
            }
            Packet::Video { data, .. } => assert!(video::scan(now, &data).is_ok(), "lengths that do not fit"),
            Packet::AudioConfig(config) => drop(aac::Config::read(&config)),
            _ => {}
        }
    }
}

/// The longest unit in what is fuzzed.
const UNIT: usize = 64 << 10;

fn demuxed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Packet>, bool) {
    let wishes: Vec<Language> = [*b"deu", *b"fra"].into_iter().filter_map(Language::from_code).collect();
    let mut demux = Demux::new(Limits { unit_bytes: UNIT, bytes_before_program: u64::MAX }).preferring(&wishes);
    let mut out = Vec::new();
    for piece in pieces {
        if demux.push(piece, &mut out).is_err() {
            return (out, false);
        }
    }
    demux.finish(&mut out);
    (out, true)
}

/// Packets of one program's tracks, which hardly any bytes are: tables stand before them, and for each packet one byte chooses its track, whether a PES packet
/// begins, whether its counter is right; the next says how much content follows. The video is read as H.264 and as HEVC.
pub fn mpegts_tracks(data: &[u8]) {
    /// PAT and PMT of program 1: PMT 0x1000, H.264 or HEVC 0x100, ADTS 0x101, with their CRCs.
    const PAT: &[u8] = b"\x47\x40\x00\x10\x00\x00\xb0\x0d\x00\x01\xc1\x00\x00\x00\x01\xf0\x00\x2a\xb1\x04\xb2";
    const H264: &[u8] = b"\x47\x50\x00\x10\x00\x02\xb0\x17\x00\x01\xc1\x00\x00\xe1\x00\xf0\x00\x1b\xe1\x00\xf0\x00\x0f\xe1\x01\xf0\x00\x2f\x44\xb9\x9b";
    const HEVC: &[u8] = b"\x47\x50\x00\x10\x00\x02\xb0\x17\x00\x01\xc1\x00\x00\xe1\x00\xf0\x00\x24\xe1\x00\xf0\x00\x0f\xe1\x01\xf0\x00\xc7\x72\xb7\xcb";
    for map in [H264, HEVC] {
        tracks(PAT, map, data);
    }
}

fn tracks(pat: &[u8], map: &[u8], data: &[u8]) {
    let mut stream = vec![0];
    for table in [pat, map] {
        stream.extend(table.iter().copied().chain(std::iter::repeat(0xff)).take(188));
    }
    let mut counters = [0u8; 2];
    let mut rest = data;
    while let Some((&[head, length], behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(length).clamp(1, 183).min(behind.len());
        let (content, behind) = behind.split_at(length);
        rest = behind;
        let track = usize::from(head & 1);
        let start = head >> 1 & 1;
        counters[track] = counters[track].wrapping_add(u8::from(head & 0x3c != 0x3c)) & 15;
        let stuffing = 184 - length;
        stream.extend([0x47, start << 6 | 1, track as u8, 0x30 | counters[track], (stuffing - 1) as u8]);
        stream.extend((1..stuffing).map(|n| if n == 1 { head & 0x80 } else { 0xff }));
        stream.extend(content);
    }
    // The first byte of all: the longest pieces.
    stream[0] = 255;
    mpegts(&stream);
}

/// Decoder configurations and access units, as they are read behind every way in.
pub fn records(data: &[u8]) {
    let record = Bytes::copy_from_slice(data);
    let _ = h264::read_record(&record, None);
    let _ = aac::Config::read(data);
    let _ = h264::scan(data);
    let _ = h264::first_record(data);
    for coding in [Coding::H264, Coding::Hevc, Coding::Av1] {
        let _ = video::scan(coding, data);
        let _ = sei::read(coding, data);
        let sample = video::sample(coding, record.clone());
        assert!(sample.len() <= data.len());
        let Ok(format) = video::read_record(coding, &record, None) else { continue };
        assert_eq!(format.coding(), coding);
        let _ = video::displayed(&format);
    }
    if let Some((&at, rest)) = data.split_first() {
        let (record, unit) = rest.split_at(usize::from(at).min(rest.len()));
        let _ = h264::renewed(record, unit);
        let _ = h265::renewed(record, unit);
        let _ = av1::renewed(record, unit);
    }
}

#[cfg(test)]
#[path = "fuzzing_tests.rs"]
mod tests;
