//! Access units and frames: how they may lie in PES packets.

use h264_reader::nal::sps::{FrameMbsFlags, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

use super::mux::{BOTH, DELIMITER, PPS, SPS, adts, annexb, picture, slice};
use super::*;
use crate::logic::model::Coding;

/// What `picture(number, idr)` at `dts` should come out as, without delimiter and sets.
fn expected(number: u8, idr: bool, dts: u32, composition: i32) -> Picture {
    (dts, composition, idr, vec![slice(number, idr)])
}

/// The sets that begin a stream stay in its first unit, because they are new.
fn first(dts: u32, composition: i32) -> Picture {
    (dts, composition, true, vec![SPS.to_vec(), PPS.to_vec(), slice(0, true)])
}

#[test]
fn a_unit_in_each_packet_comes_out_with_its_times() {
    let mut mux = Mux::of(BOTH);
    for n in 0..6u8 {
        let dts = 90_000 + u64::from(n) * 3003;
        mux.video(Some((dts + 6006, dts)), &picture(n, n == 0 || n == 4));
    }
    for piece in [1, 188, 1316, 100_000] {
        let (out, stats, notes) = demuxed(&mux.bytes, piece);
        assert_eq!(out[0], Packet::Clock(Clock::Ticks90k));
        let got = pictures(&out);
        assert_eq!(got[0], first(90_000, 6006));
        let rest: Vec<Picture> = (1..6u8).map(|n| expected(n, n == 4, 90_000 + u32::from(n) * 3003, 6006)).collect();
        assert_eq!(got[1..], rest);
        assert_eq!(configs(&out), 1, "the same sets again are no news");
        assert_eq!((stats.video_units, stats.lost_units, stats.untimed_units), (6, 0, 0));
        assert!(notes.is_empty());
    }
}

#[test]
fn the_record_is_the_one_that_rtmp_would_have_brought() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    let (out, ..) = demuxed(&mux.bytes, 1316);
    let Some(Packet::VideoConfig(Coding::H264, record)) = out.get(1) else { panic!("{out:?}") };
    let format = crate::cmaf::h264::read_record(record, None).unwrap();
    assert_eq!((format.width, format.height, format.codec.as_str()), (1280, 720, "avc1.64001f"));
}

#[test]
fn several_units_in_a_packet_are_parted_and_timed_by_the_picture_rate() {
    for delimiters in [true, false] {
        let mut mux = Mux::of(BOTH);
        for n in 0..4u8 {
            let (a, b) = (slice(2 * n, n == 0), slice(2 * n + 1, false));
            let second = [&[0x41, 0x48][..], &a].concat(); // first_mb_in_slice 1: of the same picture
            let sets = if n == 0 { annexb(&[SPS, PPS]) } else { Vec::new() };
            let delimiter = if delimiters { annexb(&[DELIMITER]) } else { Vec::new() };
            let both = [&delimiter[..], &sets, &annexb(&[&a, &second]), &delimiter, &annexb(&[&b])].concat();
            let t = u64::from(n) * 6000;
            mux.video(Some((t, t)), &both);
        }
        let (out, stats, _) = demuxed(&mux.bytes, 1316);
        let got = pictures(&out);
        assert_eq!(got.iter().map(|p| p.0).collect::<Vec<_>>(), (0..8).map(|n| n * 3000).collect::<Vec<_>>());
        assert_eq!(got.iter().map(|p| p.3.len()).collect::<Vec<_>>(), [4, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!((stats.video_units, stats.untimed_units), (8, 4));
    }
}

#[test]
fn units_cut_anyhow_are_joined() {
    let units: Vec<Vec<u8>> = (0..12).map(|n| picture(n, n == 0)).collect();
    let stream = units.concat();
    // Where each unit begins, to say whose time stands in front of a piece.
    let starts: Vec<usize> = units.iter().scan(0, |at, u| Some(std::mem::replace(at, *at + u.len()))).collect();
    // A first packet that ends with a unit's end (or with the zero that may stand before the next start code) is taken for a sign that all do.
    for piece in (3..stream.len()).filter(|piece| !starts.contains(piece) && !starts.contains(&(piece - 1))) {
        let mut mux = Mux::of(BOTH);
        for (n, part) in stream.chunks(piece).enumerate() {
            let within = n * piece..n * piece + part.len();
            let unit = starts.iter().position(|at| within.contains(at)).map(|unit| unit as u64 * 3000);
            mux.video(unit.map(|t| (t, t)), part);
        }
        let (out, stats, _) = demuxed(&mux.bytes, 1316);
        let got = pictures(&out);
        let expected: Vec<Picture> = (1..12).map(|n| expected(n as u8, false, n * 3000, 0)).collect();
        assert_eq!(got[0], first(0, 0), "pieces of {piece}");
        assert_eq!(got[1..], expected, "pieces of {piece}");
        assert_eq!(stats.lost_units, 0);
    }
}

#[test]
fn two_fields_in_a_packet_are_one_unit() {
    /// x264, 96x64, interlaced.
    const FIELDS: &[u8] = &[
        0x67, 0x64, 0x00, 0x15, 0xac, 0xd9, 0x46, 0x4d, 0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x01, 0x90,
        0xf8, 0xa1, 0x4c, 0xb0,
    ];
    let sps = SeqParameterSet::from_bits(RefNal::new(FIELDS, &[], true).rbsp_bits());
    assert!(matches!(sps.map(|s| s.frame_mbs_flags), Ok(FrameMbsFlags::Fields { .. })), "the set of this test");
    let mut mux = Mux::of(BOTH);
    for n in 0..3u8 {
        let (top, bottom) = (slice(2 * n, n == 0), slice(2 * n + 1, false));
        let sets = if n == 0 { annexb(&[FIELDS, PPS]) } else { Vec::new() };
        mux.video(
            Some((u64::from(n) * 3600, u64::from(n) * 3600)),
            &[annexb(&[DELIMITER]), sets, annexb(&[&top, DELIMITER, &bottom])].concat(),
        );
    }
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(pictures(&out).iter().map(|p| p.0).collect::<Vec<_>>(), [0, 3600, 7200]);
    assert_eq!(stats.untimed_units, 0);
}

#[test]
fn what_surrounds_pictures_goes_and_captions_stay() {
    const CAPTIONS: &[u8] = &[6, 4, 9, 0xb5, 0, 0x31, b'G', b'A', b'9', b'4', 3, 0, 0x80];
    let mut mux = Mux::of(BOTH);
    let filler: Vec<u8> = [&[12][..], &[0xff; 300], &[0x80]].concat();
    mux.video(Some((0, 0)), &annexb(&[DELIMITER, SPS, PPS, CAPTIONS, &slice(0, true), &filler, &[10], &[11], &[]]));
    let (out, ..) = demuxed(&mux.bytes, 1316);
    assert_eq!(pictures(&out), [(0, 0, true, vec![SPS.to_vec(), PPS.to_vec(), CAPTIONS.to_vec(), slice(0, true)])]);
}

#[test]
fn other_sets_in_mid_stream_are_a_new_configuration() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    let other = [PPS, &[0x80]].concat();
    let other: &[u8] = &other;
    mux.video(Some((3000, 3000)), &annexb(&[DELIMITER, SPS, other, &slice(1, true)]));
    mux.video(Some((6000, 6000)), &annexb(&[DELIMITER, SPS, other, &slice(2, true)]));
    let (out, ..) = demuxed(&mux.bytes, 1316);
    let records: Vec<usize> =
        out.iter().enumerate().filter(|(_, p)| matches!(p, Packet::VideoConfig(..))).map(|(n, _)| n).collect();
    assert_eq!(records, [1, 3], "{out:?}");
    assert_eq!(pictures(&out)[2].3, [slice(2, true)]);
}

#[test]
fn pictures_before_the_first_sets_are_left_out() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &annexb(&[DELIMITER, &slice(9, false)]));
    mux.video(Some((3000, 3000)), &picture(0, true));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(pictures(&out), [first(3000, 0)]);
    assert_eq!(stats.units_before_config, 1);
}

#[test]
fn times_wrap_at_33_bits_and_come_out_as_their_remainder() {
    let mut mux = Mux::of(BOTH);
    for n in 0..4u64 {
        let dts = ((1 << 33) - 6000 + n * 3000) % (1 << 33);
        mux.video(Some(((dts + 3000) % (1 << 33), dts)), &picture(n as u8, n == 0));
    }
    let (out, ..) = demuxed(&mux.bytes, 1316);
    let times: Vec<(u32, i32)> = pictures(&out).iter().map(|p| (p.0, p.1)).collect();
    assert_eq!(times, [(u32::MAX - 5999, 3000), (u32::MAX - 2999, 3000), (0, 3000), (3000, 3000)]);
}

#[test]
fn frames_of_a_packet_count_on_from_its_time() {
    let mut mux = Mux::of(BOTH);
    // 44.1 kHz: a frame has 2089.79 ticks.
    let frames: Vec<Vec<u8>> = (0..7u8).map(|n| adts(4, 2, &[n; 30], false)).collect();
    mux.audio(Some(1000), &frames[..4].concat());
    mux.audio(Some(1000 + 8359), &frames[4..].concat());
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(out[1], Packet::AudioConfig(bytes::Bytes::from_static(&[0x12, 0x10])));
    let times: Vec<u32> = sounds(&out).iter().map(|s| s.0).collect();
    assert_eq!(times, [1000, 3089, 5179, 7269, 9359, 11448, 13538]);
    assert_eq!(sounds(&out)[6].1, [6; 30]);
    assert_eq!((stats.audio_frames, stats.skipped_audio_bytes), (7, 0));
}

#[test]
fn frames_over_packets_are_joined_and_a_crc_is_stepped_over() {
    let frames: Vec<Vec<u8>> = (0..20u8).map(|n| adts(3, 1, &[n; 40], n % 2 == 0)).collect();
    let stream = frames.concat();
    for piece in 1..200 {
        let mut mux = Mux::of(BOTH);
        let mut starts =
            (0..20usize).scan(0, |at, n| Some(std::mem::replace(at, *at + frames[n].len()))).enumerate().peekable();
        for (n, part) in stream.chunks(piece).enumerate() {
            let end = n * piece + part.len();
            let begins = starts.next_if(|(_, at)| *at < end).map(|(frame, _)| frame as u64 * 1920);
            while starts.next_if(|(_, at)| *at < end).is_some() {}
            mux.audio(begins, part);
        }
        let (out, stats, _) = demuxed(&mux.bytes, 1316);
        let expected: Vec<(u32, Vec<u8>)> = (0..20u8).map(|n| (u32::from(n) * 1920, vec![n; 40])).collect();
        assert_eq!(sounds(&out), expected, "pieces of {piece}");
        assert_eq!(stats.skipped_audio_bytes, 0);
    }
}

#[test]
fn bytes_that_are_no_frame_are_skipped_and_another_format_is_a_configuration() {
    let mut mux = Mux::of(BOTH);
    let (a, b) = (adts(3, 2, &[1; 30], false), adts(3, 2, &[2; 30], false));
    mux.audio(Some(0), &[&[0xff, 0xf1, 0x3d, 2, 3, 0xff][..], &a, &b].concat());
    mux.audio(Some(3840), &adts(3, 6, &[3; 30], false));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(sounds(&out).iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1920, 3840]);
    assert_eq!((configs(&out), stats.skipped_audio_bytes), (2, 6));
}

#[test]
fn aac_that_adts_cannot_describe_is_left_out_by_name() {
    let mut mux = Mux::of(BOTH);
    let mut blocks = adts(3, 2, &[1; 30], false);
    blocks[6] |= 1;
    mux.audio(Some(0), &[blocks, adts(3, 0, &[1; 30], false), adts(3, 2, &[2; 30], false)].concat());
    let (out, _, notes) = demuxed(&mux.bytes, 1316);
    assert_eq!(sounds(&out), [(3 * 1920, vec![2; 30])], "time goes on under what is left out");
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn a_unit_over_the_limit_is_given_up_and_the_next_one_comes() {
    let limits = Limits { unit_bytes: 2000, ..Limits::default() };
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    mux.video(Some((3000, 3000)), &annexb(&[DELIMITER, &[slice(1, false), vec![7; 3000]].concat()]));
    mux.video(Some((6000, 6000)), &picture(2, false));
    let mut demux = Demux::new(limits);
    let mut out = Vec::new();
    demux.push(&mux.bytes, &mut out).unwrap();
    demux.finish(&mut out);
    assert_eq!(pictures(&out).iter().map(|p| p.0).collect::<Vec<_>>(), [0, 6000]);
    assert_eq!(demux.stats().oversized_units, 1);
}

#[test]
fn a_packet_of_tiny_units_makes_no_flood() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    mux.video(Some((3000, 3000)), &(0..5000).flat_map(|_| annexb(&[DELIMITER, &[0x41, 0x88, 1]])).collect::<Vec<u8>>());
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert!(out.len() < 100, "{}", out.len());
    assert!(stats.oversized_units > 0);
}
