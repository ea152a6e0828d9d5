//! HEVC: the same packets with other NAL units.

use super::mux::{AUDIO, PMT, VIDEO, annexb, pmt, slice as h264_slice};
use super::*;
use crate::cmaf::h265;
use crate::cmaf::h265::tests::records::{MAIN, MAIN_10};
use crate::logic::model::Coding;

const STREAMS: &[(u8, u16, &[u8])] = &[(0x24, VIDEO, &[]), (0x0f, AUDIO, &[])];
const DELIMITER: &[u8] = &[0x46, 1, 0x50];
const IDR: u8 = 19;
const CRA: u8 = 21;
const TRAIL: u8 = 1;

fn record(hex: &str) -> bytes::Bytes {
    crate::cmaf::h264::tests::records::bytes(hex)
}

/// VPS, SPS and PPS of a record: one in each of its three arrays.
fn sets(hex: &str) -> Vec<Vec<u8>> {
    let record = record(hex);
    let mut rest = &record[23..];
    let mut out = Vec::new();
    while let [_, _, _, high, low, behind @ ..] = rest {
        let (nal, more) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        out.push(nal.to_vec());
        rest = more;
    }
    assert_eq!(out.len(), 3);
    out
}

/// A slice of the picture with this number: its first one, or another one.
fn slice(kind: u8, number: u8, first: bool) -> Vec<u8> {
    vec![kind << 1, 1, if first { 0xa0 } else { 0x20 }, number, 0, 0, 3, 1, number, 0x80]
}

fn picture(kind: u8, number: u8) -> Vec<u8> {
    let slices = [slice(kind, number, true), slice(kind, number, false)];
    let sets = if kind == TRAIL { Vec::new() } else { sets(MAIN) };
    let nals: Vec<&[u8]> =
        [DELIMITER].into_iter().chain(sets.iter().map(Vec::as_slice)).chain(slices.iter().map(Vec::as_slice)).collect();
    annexb(&nals)
}

fn slices(kind: u8, number: u8) -> Vec<Vec<u8>> {
    vec![slice(kind, number, true), slice(kind, number, false)]
}

#[test]
fn units_come_out_with_the_record_that_rtmp_would_have_brought() {
    let mut mux = Mux::of(STREAMS);
    let kinds = [IDR, TRAIL, TRAIL, CRA, TRAIL];
    for (n, kind) in kinds.into_iter().enumerate() {
        let dts = n as u64 * 3003;
        mux.video(Some((dts + 6006, dts)), &picture(kind, n as u8));
    }
    for piece in [1, 188, 1316] {
        let (out, stats, notes) = demuxed(&mux.bytes, piece);
        let Some(Packet::VideoConfig(Coding::Hevc, made)) = out.get(1) else { panic!("{out:?}") };
        let (made, told) = (h265::read_record(made, None).unwrap(), h265::read_record(&record(MAIN), None).unwrap());
        assert_eq!((made.width, made.height, made.fps, made.codec), (told.width, told.height, told.fps, told.codec));
        let got = pictures(&out);
        assert_eq!(got[0].3, [sets(MAIN), slices(IDR, 0)].concat(), "the sets that begin a stream stay in its first unit");
        for (n, (time, composition, key, nals)) in got.into_iter().enumerate().skip(1) {
            assert_eq!((time, composition, key), (n as u32 * 3003, 6006, kinds[n] == CRA));
            assert_eq!(nals, slices(kinds[n], n as u8), "without delimiter and sets that say nothing new");
        }
        assert_eq!((configs(&out), stats.video_units, stats.lost_units, notes.len()), (1, 5, 0, 0));
    }
}

#[test]
fn units_cut_anyhow_are_joined() {
    let stream: Vec<u8> = (0..8).flat_map(|n| picture(if n == 0 { IDR } else { TRAIL }, n)).collect();
    // Never at a unit's end, which would be taken for a sign that all packets end so.
    for piece in [7, 23, 61, 97] {
        let mut mux = Mux::of(STREAMS);
        for part in stream.chunks(piece) {
            mux.video(Some((0, 0)), part);
        }
        let (out, stats, _) = demuxed(&mux.bytes, 1316);
        let got: Vec<Vec<Vec<u8>>> = pictures(&out).into_iter().map(|p| p.3).skip(1).collect();
        assert_eq!(got, (1..8).map(|n| slices(TRAIL, n)).collect::<Vec<_>>(), "pieces of {piece}");
        assert_eq!(stats.lost_units, 0);
    }
}

#[test]
fn what_surrounds_pictures_goes_and_messages_stay() {
    let (prefix, suffix) = (vec![39 << 1, 1, 5, 1, 0xaa, 0x80], vec![40 << 1, 1, 132, 1, 0xaa, 0x80]);
    let filler: Vec<u8> = [&[38 << 1, 1][..], &[0xff; 300], &[0x80]].concat();
    let other_layer = vec![IDR << 1, 9, 0xa0, 7];
    let mut mux = Mux::of(STREAMS);
    let set = sets(MAIN);
    mux.video(
        Some((0, 0)),
        &annexb(&[
            DELIMITER,
            &set[0],
            &set[1],
            &set[2],
            &prefix,
            &slice(IDR, 0, true),
            &other_layer,
            &suffix,
            &filler,
            &[36 << 1, 1],
            &[37 << 1, 1],
        ]),
    );
    mux.video(Some((3000, 3000)), &picture(TRAIL, 1));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    let kept = [set, vec![prefix, slice(IDR, 0, true), other_layer, suffix]].concat();
    assert_eq!(pictures(&out)[0].3, kept);
    assert_eq!((pictures(&out).len(), stats.untimed_units), (2, 0));
}

#[test]
fn other_sets_are_a_new_configuration_and_another_coding_another_track() {
    let mut mux = Mux::of(STREAMS);
    mux.video(Some((0, 0)), &picture(IDR, 0));
    let other = sets(MAIN_10);
    mux.video(Some((3000, 3000)), &annexb(&[DELIMITER, &other[0], &other[1], &other[2], &slice(IDR, 1, true)]));
    mux.video(Some((6000, 6000)), &picture(TRAIL, 2));
    // The same PID, as of an encoder that was set anew behind a multiplexer that was not.
    mux.sections(PMT, &pmt(1, 1, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]));
    mux.video(Some((9000, 9000)), &annexb(&[super::mux::DELIMITER, super::mux::SPS, super::mux::PPS, &h264_slice(3, true)]));
    let (out, ..) = demuxed(&mux.bytes, 1316);
    let order: Vec<&str> = out
        .iter()
        .filter_map(|p| match p {
            Packet::VideoConfig(coding, _) => Some(coding.as_str()),
            Packet::Video { .. } => Some("picture"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["HEVC", "picture", "HEVC", "picture", "picture", "H.264", "picture"]);
}

#[test]
fn pictures_before_all_three_sets_are_left_out() {
    let set = sets(MAIN);
    let mut mux = Mux::of(&[(6, VIDEO, b"\x05\x04HEVC")]);
    mux.video(Some((0, 0)), &annexb(&[DELIMITER, &set[1], &set[2], &slice(IDR, 0, true)]));
    mux.video(Some((3000, 3000)), &picture(IDR, 1));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!((pictures(&out).len(), stats.units_before_config), (1, 1));
}
