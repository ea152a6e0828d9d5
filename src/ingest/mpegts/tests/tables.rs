//! Programs: which one is taken, what is refused by name, what happens when they change.

use super::mux::{AUDIO, BOTH, PMT, VIDEO, adts, picture, pmt};
use super::*;

fn refused(streams: &[(u8, u16, &[u8])]) -> Error {
    let mut demux = Demux::new(Limits::default());
    demux.push(&[Mux::of(streams).bytes, Mux::of(streams).bytes].concat(), &mut Vec::new()).unwrap_err()
}

#[test]
fn codecs_that_are_not_taken_are_refused_by_name() {
    let text = |streams: &[(u8, u16, &[u8])]| refused(streams).to_string();
    let sentence = |name: &str| format!("{name} over MPEG-TS is not supported: send H.264 or HEVC video and AAC audio (ADTS)");
    assert_eq!(text(&[(0x33, VIDEO, &[]), (0x0f, AUDIO, &[])]), sentence("VVC video"));
    assert_eq!(text(&[(2, VIDEO, &[]), (3, AUDIO, &[])]), sentence("MPEG-2 video"));
    assert_eq!(text(&[(6, VIDEO, b"\x05\x04AV01")]), sentence("AV1 video"));
    assert_eq!(text(&[(0x11, AUDIO, &[]), (0x81, 0x102, &[])]), sentence("AAC in LATM, AC-3 audio"));
    assert_eq!(text(&[(6, AUDIO, b"\x05\x04Opus")]), sentence("Opus audio"));
    assert_eq!(refused(&[(0x86, VIDEO, &[])]), Error::Empty);
    assert_eq!(refused(&[]), Error::Empty);
}

#[test]
fn audio_that_is_not_taken_leaves_the_pictures() {
    let mut mux =
        Mux::of(&[(0x1b, VIDEO, &[]), (0x11, AUDIO, b"\x0a\x04deu\x00"), (6, 0x102, b"\x05\x04Opus"), (0x81, 0x103, &[])]);
    mux.video(Some((0, 0)), &picture(0, true));
    let (out, _, notes) = demuxed(&mux.bytes, 1316);
    assert_eq!(pictures(&out).len(), 1);
    let left = |name: &str| format!("{name} is not supported, and left out");
    assert_eq!(notes, [left("AAC in LATM (deu)"), left("Opus audio"), left("AC-3 audio")]);
}

#[test]
fn the_first_audio_track_is_taken_and_all_are_named() {
    let german: &[u8] = b"\x0a\x04deu\x00";
    let mut mux = Mux::of(&[(0x1b, VIDEO, &[]), (0x0f, AUDIO, b"\x0a\x04ENG\x00"), (0x0f, 0x102, german)]);
    mux.audio(Some(0), &adts(3, 2, &[1; 30], false));
    mux.pes(0x102, &super::mux::pes(0xc1, Some((0, 0)), &adts(3, 2, &[2; 30], false), true));
    // Sync needs three packets, which these are with the tables.
    let mut demux = Demux::new(Limits::default());
    let mut out = Vec::new();
    demux.push(&mux.bytes, &mut out).unwrap();
    assert_eq!(demux.taken(), (Some(VIDEO), Some(AUDIO)));
    let languages: Vec<Option<&str>> = demux.streams().iter().map(|s| s.language.as_deref()).collect();
    assert_eq!(languages, [None, Some("eng"), Some("deu")]);
    assert_eq!(demux.take_notes(), ["a second audio track (deu) is left out"]);
    assert_eq!(demux.take_notes(), Vec::<String>::new());
    demux.finish(&mut out);
    assert_eq!(sounds(&out), [(0, vec![1; 30])]);
}

#[test]
fn of_several_programs_the_first_with_pictures_is_taken() {
    let mut mux = Mux::default();
    mux.tables(&[(0, 0x10), (1, PMT), (2, PMT + 1), (3, PMT + 2)]);
    mux.sections(PMT + 2, &pmt(3, 0, &[(0x1b, 0x300, &[])]));
    mux.sections(PMT + 1, &pmt(2, 0, BOTH));
    mux.video(Some((0, 0)), &picture(9, true));
    mux.sections(PMT, &pmt(1, 0, &[(0x0f, 0x400, &[])]));
    mux.video(Some((3000, 3000)), &picture(0, true));
    let (out, _, notes) = demuxed(&mux.bytes, 1316);
    assert_eq!(
        pictures(&out).iter().map(|p| p.0).collect::<Vec<_>>(),
        [3000],
        "nothing is taken before the first map is known"
    );
    assert_eq!(notes, ["program 2 of 3 is taken"]);
}

#[test]
fn two_maps_on_one_pid_and_in_one_packet_are_told_apart() {
    let mut mux = Mux::default();
    mux.tables(&[(1, PMT), (2, PMT)]);
    mux.sections(PMT, &[pmt(1, 0, &[(0x0f, 0x400, &[])]), pmt(2, 0, BOTH)].concat());
    mux.video(Some((0, 0)), &picture(0, true));
    assert_eq!(pictures(&demuxed(&mux.bytes, 1316).0).len(), 1);
}

#[test]
fn a_map_over_several_packets_is_put_together() {
    let descriptors = [&[0xfe, 200][..], &[7; 200]].concat();
    let mut mux = Mux::of(&[(6, 0x300, &descriptors), (6, 0x301, &descriptors), (0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
    mux.video(Some((0, 0)), &picture(0, true));
    for piece in [1, 188, 1316] {
        assert_eq!(pictures(&demuxed(&mux.bytes, piece).0).len(), 1);
    }
}

#[test]
fn a_new_map_takes_effect_and_the_old_track_ends() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    mux.sections(PMT, &pmt(1, 1, BOTH)); // another version that says the same
    mux.video(Some((3000, 3000)), &picture(1, false));
    mux.sections(PMT, &pmt(1, 2, &[(0x1b, 0x200, &[])]));
    mux.video(Some((9000, 9000)), &picture(9, true));
    mux.pes(0x200, &super::mux::pes(0xe0, Some((6000, 6000)), &picture(2, true), false));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(pictures(&out).iter().map(|p| p.0).collect::<Vec<_>>(), [0, 3000, 6000]);
    assert_eq!((stats.program_changes, configs(&out)), (1, 2));
}

#[test]
fn a_map_without_anything_for_us_in_mid_stream_is_an_error() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    mux.sections(PMT, &pmt(1, 1, &[(0x33, VIDEO, &[])]));
    let mut out = Vec::new();
    let error = Demux::new(Limits::default()).push(&mux.bytes, &mut out).unwrap_err();
    assert_eq!(error, Error::Unsupported { codecs: "VVC video".into() });
    assert_eq!(pictures(&out).len(), 1, "what came before is given out");
}

#[test]
fn a_program_that_leaves_the_list_ends_and_another_one_is_taken() {
    let mut mux = Mux::of(BOTH);
    mux.video(Some((0, 0)), &picture(0, true));
    mux.tables(&[(7, PMT + 1)]);
    mux.sections(PMT + 1, &pmt(7, 0, &[(0x1b, 0x200, &[])]));
    mux.pes(0x200, &super::mux::pes(0xe0, Some((6000, 6000)), &picture(2, true), false));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(pictures(&out).len(), 2);
    assert_eq!(stats.program_changes, 1);
    assert_eq!(out.iter().filter(|p| matches!(p, Packet::Clock(_))).count(), 1);
}

#[test]
fn tables_that_are_not_in_force_or_broken_change_nothing() {
    let mut next = pmt(1, 1, &[(0x24, VIDEO, &[])]);
    next[5] &= 0xfe;
    let crc = next.len() - 4;
    let sum = mpeg2ts_reader::mpegts_crc::sum32(&next[..crc]);
    next[crc..].copy_from_slice(&sum.to_be_bytes());
    let mut broken = pmt(1, 1, &[(0x24, VIDEO, &[])]);
    broken[8] ^= 1;
    let mut mux = Mux::of(BOTH);
    mux.sections(PMT, &next);
    mux.sections(PMT, &broken);
    mux.sections(PMT, &[2, 0xbf, 0xff, 0, 1, 2, 3]);
    mux.video(Some((0, 0)), &picture(0, true));
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!((pictures(&out).len(), stats.broken_sections, stats.program_changes), (1, 2, 0));
}

#[test]
fn a_stream_without_tables_is_refused_in_time() {
    let limits = Limits { bytes_before_program: 10_000, ..Limits::default() };
    let mut demux = Demux::new(limits);
    let noise = [0x47u8; 1316];
    let refused = (0..20).find_map(|_| demux.push(&noise, &mut Vec::new()).err());
    assert_eq!(refused, Some(Error::NoProgram { bytes: 10_528 }));
}
