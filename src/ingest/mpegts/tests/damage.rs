//! Damage: every loss is counted, costs what it touches, and nothing that comes out is made up.

use proptest::prelude::*;

use super::super::sync::PACKET;
use super::mux::{AUDIO, BOTH, DELIMITER, PMT, PPS, SPS, VIDEO, adts, annexb, picture, pmt, slice};
use super::*;

/// 40 pictures of several packets each, and sound between them.
fn stream() -> Mux {
    let mut mux = Mux::of(BOTH);
    for n in 0..40u8 {
        let t = 90_000 + u64::from(n) * 3000;
        let large = [slice(n, n == 0), vec![n | 0x80; 700]].concat();
        let unit = if n == 0 { annexb(&[DELIMITER, SPS, PPS, &large]) } else { annexb(&[DELIMITER, &large]) };
        mux.video(Some((t + 3000, t)), &unit);
        mux.audio(Some(t), &[adts(3, 2, &[n; 300], false), adts(3, 2, &[n; 200], false)].concat());
        if n % 10 == 0 {
            mux.tables(&[(1, PMT)]);
            mux.sections(PMT, &pmt(1, 0, BOTH));
        }
    }
    mux
}

/// Whatever came out of a damaged stream stands in the whole one as well.
fn check_subset(damaged: &[Packet], whole: &[Packet]) {
    for picture in pictures(damaged) {
        assert!(pictures(whole).contains(&picture), "{picture:?} was made up");
    }
    for sound in sounds(damaged) {
        assert!(sounds(whole).contains(&sound), "{sound:?} was made up");
    }
}

#[test]
fn each_lost_packet_costs_the_unit_that_it_was_of() {
    let whole = stream();
    let (all, ..) = demuxed(&whole.bytes, 1316);
    assert_eq!((pictures(&all).len(), sounds(&all).len()), (40, 80));
    let pids: Vec<u16> = whole.bytes.chunks(PACKET).map(|p| u16::from_be_bytes([p[1] & 0x1f, p[2]])).collect();
    // Before are the tables and the picture that brings the parameter sets, with what may cost it.
    for lost in 20..pids.len() {
        // A loss that nothing follows cannot be seen.
        if !pids[lost + 1..].contains(&pids[lost]) {
            continue;
        }
        let mut bytes = whole.bytes.clone();
        bytes.drain(lost * PACKET..(lost + 1) * PACKET);
        let (out, stats, _) = demuxed(&bytes, 1316);
        check_subset(&out, &all);
        assert_eq!(stats.continuity_errors, 1, "packet {lost}");
        let gone = (40 - pictures(&out).len(), 80 - sounds(&out).len());
        match pids[lost] {
            // A hole at a PES packet's first packet is seen at its second: the one before may have lost its end, for all that is known.
            VIDEO => assert!((1..=2).contains(&gone.0) && gone.1 == 0, "{gone:?} for packet {lost}"),
            AUDIO => assert_eq!(gone, (0, 2), "packet {lost}"),
            _ => assert_eq!(gone, (0, 0)),
        }
    }
}

#[test]
fn packets_that_come_twice_change_nothing() {
    let whole = stream();
    let (all, ..) = demuxed(&whole.bytes, 1316);
    let mut bytes = Vec::new();
    for (n, packet) in whole.bytes.chunks(PACKET).enumerate() {
        bytes.extend(packet);
        if n % 3 == 0 {
            bytes.extend(packet);
        }
    }
    let (out, stats, _) = demuxed(&bytes, 1316);
    assert_eq!(out, all);
    assert_eq!(stats.continuity_errors, 0);
    assert!(stats.duplicates > 50);
}

#[test]
fn packets_that_are_marked_broken_are_holes() {
    let mut mux = stream();
    let (all, ..) = demuxed(&mux.bytes, 1316);
    mux.packets_of(VIDEO).nth(22).unwrap()[1] |= 0x80;
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    check_subset(&out, &all);
    assert_eq!((stats.error_packets, stats.continuity_errors, stats.lost_units, pictures(&out).len()), (1, 1, 1, 39));
}

#[test]
fn a_counter_that_begins_anew_where_it_says_so_is_no_error() {
    // An adaptation field in the middle of a stream: the pictures are small enough to leave room for it.
    let mut mux = Mux::of(BOTH);
    for n in 0..4u8 {
        mux.video(Some((u64::from(n) * 3000, u64::from(n) * 3000)), &picture(n, n == 0));
    }
    for (n, packet) in mux.packets_of(VIDEO).enumerate().skip(2) {
        packet[3] = (packet[3] & 0xf0) | ((n as u8 + 9) & 15);
    }
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!((pictures(&out).len(), stats.continuity_errors), (3, 1), "the picture before may have lost its end");
    let announced = mux.packets_of(VIDEO).nth(2).unwrap();
    assert!(announced[3] & 0x20 != 0 && announced[4] > 0);
    announced[5] |= 0x80;
    let (out, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!((pictures(&out).len(), stats.continuity_errors), (4, 0));
}

#[test]
fn scrambled_tracks_are_refused_and_a_few_packets_are_not() {
    let mut mux = stream();
    mux.packets_of(VIDEO).skip(10).take(20).for_each(|p| p[3] |= 0x80);
    let (_, stats, _) = demuxed(&mux.bytes, 1316);
    assert_eq!(stats.scrambled, 20);
    mux.packets_of(VIDEO).skip(10).for_each(|p| p[3] |= 0x80);
    let error = Demux::new(Limits::default()).push(&mux.bytes, &mut Vec::new()).unwrap_err();
    assert_eq!(error, Error::Scrambled);
}

#[test]
fn jumps_of_the_program_clock_are_counted() {
    let clock = |base: u64, announced: bool| {
        let mut p = vec![0x47, 1, 0, 0x20, 183, if announced { 0x90 } else { 0x10 }];
        p.extend([(base >> 25) as u8, (base >> 17) as u8, (base >> 9) as u8, (base >> 1) as u8, (base as u8) << 7 | 0x7e, 0]);
        p.resize(PACKET, 0xff);
        p
    };
    let mut mux = Mux::of(BOTH);
    let wrap = 1u64 << 33;
    for (base, announced) in [
        (wrap - 4000, false),
        (wrap - 1, false),
        (2000, false),
        (900_000, true),
        (903_000, false),
        (100, false),
        (200_000, false),
    ] {
        mux.bytes.extend(clock(base, announced));
    }
    assert_eq!(demuxed(&mux.bytes, 1316).1.pcr_jumps, 2, "one back, one ahead; the wrap and the announced one are none");
}

#[test]
fn garbage_between_packets_is_counted_and_stepped_over() {
    let whole = stream();
    let (all, ..) = demuxed(&whole.bytes, 1316);
    let mut bytes = vec![0x47; 50];
    for (n, packet) in whole.bytes.chunks(PACKET).enumerate() {
        bytes.extend(packet);
        if n % 7 == 6 {
            bytes.extend((0..n % 200).map(|b| (b * 31) as u8 & 0x3f));
        }
    }
    // Three sync bytes in a row make a beginning: the last packets are not to be among those.
    bytes.extend([&[0x47, 0x1f, 0xff, 0x10][..], &[0; 184]].concat().repeat(3));
    for piece in [1, 100, 1316] {
        let (out, stats, _) = demuxed(&bytes, piece);
        assert_eq!(out, all);
        assert!(stats.garbage_bytes > 1000 && stats.resyncs > 5, "{stats:?}");
    }
}

#[test]
fn every_cut_of_the_bytes_gives_the_same() {
    let mux = stream();
    let all = demuxed(&mux.bytes, usize::MAX);
    for piece in 1..=400 {
        assert_eq!(demuxed(&mux.bytes, piece), all, "pieces of {piece}");
    }
}

/// What a stranger may do to a stream.
#[derive(Debug, Clone)]
enum Harm {
    Byte(prop::sample::Index, u8),
    Lose(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Twice(prop::sample::Index, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || any::<prop::sample::Index>();
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(a, b)| Harm::Byte(a, b)),
        1 => (at(), 1usize..600).prop_map(|(a, n)| Harm::Lose(a, n)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(a, b)| Harm::Insert(a, b)),
        1 => (at(), 1usize..600).prop_map(|(a, n)| Harm::Twice(a, n)),
    ]
}

fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        match harm {
            Harm::Byte(at, to) => {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            Harm::Lose(at, n) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + n).min(bytes.len() - 1).max(at));
            }
            Harm::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Harm::Twice(at, n) => {
                let at = at.index(bytes.len());
                let again = bytes[at..(at + n).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_streams_never_panic_and_pieces_make_no_difference(harms in prop::collection::vec(harm(), 1..40), piece in 1usize..1500) {
        let bytes = harmed(stream().bytes, &harms);
        let limits = Limits { unit_bytes: 3000, ..Limits::default() };
        let run = |piece: usize| {
            let (mut demux, mut out) = (Demux::new(limits), Vec::new());
            let result = bytes.chunks(piece).try_for_each(|piece| demux.push(piece, &mut out));
            demux.finish(&mut out);
            (result, out, *demux.stats())
        };
        let (result, out, _) = run(piece);
        for packet in &out {
            match packet {
                // A NAL unit of one byte behind a start code of three grows by a byte.
                Packet::Video { data, .. } => prop_assert!(data.len() <= limits.unit_bytes * 5 / 4),
                // The length of an ADTS frame has 13 bits, whatever the limit.
                Packet::Audio { data, .. } => prop_assert!(data.len() < 1 << 13),
                _ => {}
            }
        }
        if result.is_ok() {
            prop_assert_eq!(out, run(bytes.len()).1);
        }
    }
}
