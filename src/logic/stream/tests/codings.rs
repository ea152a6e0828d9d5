//! Sources of HEVC and AV1.

use super::*;
use crate::cmaf::h264::tests::records::bytes;
use crate::cmaf::{av1, h265};

const HEVC: &str = h265::tests::records::WIDE_576;

/// One HEVC NAL unit of this type behind its length.
fn nal(kind: u8) -> Vec<u8> {
    vec![0, 0, 0, 4, kind << 1, 1, 0xaf, 0x80]
}

fn passing_through() -> Setup {
    let passthrough_codecs = vec![Coding::H264, Coding::Hevc, Coding::Av1];
    let timeline = timeline::Policy { passthrough_codecs, ..timeline::Policy::default() };
    Setup { timeline, window: MediaTime::from_secs(60), ..setup() }
}

impl World {
    /// 25 pictures a second from `from` to `to` seconds of the publisher's clock, a key picture every 2 s.
    fn show(&mut self, from: u64, to: u64, key: &[u8], other: &[u8]) {
        for n in from * 25..to * 25 {
            self.ms = n * 40;
            let idr = n % 50 == 0;
            let data = Bytes::copy_from_slice(if idr { key } else { other });
            self.packet(Packet::Audio { time: self.ms as u32, data: Bytes::from_static(b"aac") });
            self.packet(Packet::Video { time: self.ms as u32, composition: 0, key: idr, data });
            self.encode();
            self.store();
            self.timers();
        }
    }

    fn show_hevc(&mut self, from: u64, to: u64) {
        self.show(from, to, &nal(19), &nal(1));
    }

    fn begins(&mut self, coding: Coding, record: &str) {
        self.packet(Packet::VideoConfig(coding, bytes(record)));
        self.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    }
}

#[test]
fn hevc_and_av1_are_encoded_from_their_first_picture_on() {
    for (coding, record) in [(Coding::Hevc, HEVC), (Coding::Av1, av1::tests::records::MAIN)] {
        let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
        w.begins(coding, record);
        match coding {
            Coding::Av1 => w.show(0, 9, &[0x32, 1, 0x10], &[0x32, 1, 0x30]),
            _ => w.show_hevc(0, 9),
        }
        assert_eq!((w.refused.clone(), w.encoder.starts), (None, 1), "{coding:?}: the plan is right at once");
        assert!(w.index().contains("top.m3u8") && !w.index().contains("src.m3u8"), "{}", w.index());
        assert_eq!((w.gaps("top"), w.discontinuities("top")), (0, vec![]));
        assert!(w.playlist("top").matches("#EXTINF").count() >= 3, "{}", w.playlist("top"));
    }
}

#[test]
fn what_nothing_here_decodes_or_encodes_is_refused_by_name() {
    let refused = |setup: Setup| {
        let mut w = World::new(setup);
        w.begins(Coding::Av1, av1::tests::records::MAIN);
        w.show(0, 1, &[0x32, 1, 0x10], &[0x32, 1, 0x30]);
        w.refused.expect("refused")
    };
    let without = Setup { encoders: EncoderLimits::software(Decoders { hevc: true, av1: false }), ..setup() };
    assert_eq!(refused(without), "this server does not decode AV1: send H.264");
    let device = Setup { encoders: EncoderLimits::nvidia(Decoders::ALL, Decoders::default(), false), ..setup() };
    assert!(refused(device).contains("the GPU does not decode AV1"));
    // Passed through, it needs no decoder.
    let mut w = World::new(Setup { encoders: EncoderLimits::software(Decoders::default()), ..passing_through() });
    w.begins(Coding::Av1, av1::tests::records::MAIN);
    w.show(0, 9, &[0x32, 1, 0x10], &[0x32, 1, 0x30]);
    assert_eq!((w.refused.as_deref(), w.encoder.plan.len()), (None, 0));
    assert!(w.index().matches("CODECS").count() == 1 && w.index().contains("av01.0.01M.08"), "{}", w.index());
    let policy = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let said = refused(Setup { timeline: policy, ..setup() });
    assert!(said.contains("AV1") && said.contains("does not encode"), "{said}");
}

#[test]
fn a_source_that_is_passed_through_stands_beside_a_whole_ladder() {
    let mut w = World::new(passing_through());
    w.begins(Coding::Hevc, HEVC);
    w.show_hevc(0, 9);
    let plans: Vec<_> = w.encoder.plan.iter().map(|r| (r.name.as_str(), r.height)).collect();
    assert_eq!(plans, [("top", 576), ("480p", 480), ("360p", 360)]);
    let codecs: Vec<&str> = w.index().lines().filter_map(|l| l.split("CODECS=\"").nth(1)?.get(..4)).collect();
    assert_eq!(codecs, ["hvc1", "avc1", "avc1", "avc1"]);
    assert_eq!(w.mpd().matches("<AdaptationSet").count(), 3, "{}", w.mpd());
    for track in ["src", "top", "480p", "360p", "audio"] {
        assert_eq!((w.gaps(track), w.discontinuities(track)), (0, vec![]), "{track}");
    }
    assert_eq!(w.encoder.starts, 1);
}

#[test]
fn codings_are_never_mixed_in_one_rung() {
    let mut w = World::new(passing_through());
    w.begins(Coding::Hevc, HEVC);
    w.show_hevc(0, 6);
    w.packet(Packet::VideoConfig(Coding::H264, Bytes::from_static(RECORD_720P30)));
    w.show(6, 12, &picture(true), &picture(false));
    w.packet(Packet::VideoConfig(Coding::Hevc, bytes(HEVC)));
    w.show_hevc(12, 17);
    assert_eq!(w.refused, None);
    let lines = w.playlist("src").to_owned();
    let own: Vec<bool> = lines.lines().filter(|l| l.ends_with(".m4s")).map(|l| l.contains("/src/")).collect();
    assert!(own.iter().all(|own| *own), "of no other rung: {lines}");
    assert_eq!(w.gaps("src"), 3, "{lines}");
    assert_eq!(w.gaps("top"), 0, "{}", w.playlist("top"));
    for track in ["src", "top", "360p", "audio"] {
        assert_eq!(w.discontinuities(track), [3, 6], "{track}");
    }
    let index = w.index();
    assert!(index.matches("hvc1").count() == 1 && index.matches("avc1").count() == 3, "{index}");
}

#[test]
fn pictures_that_are_shown_before_their_idr_are_left_out() {
    let mut w = World::new(passing_through());
    w.begins(Coding::Hevc, HEVC);
    w.show_hevc(0, 5);
    let before = w.stream.facts.has_b_frames();
    for (n, (kind, composition)) in [(19, 80), (7, -40), (1, 80), (21, 80), (9, -40)].into_iter().enumerate() {
        let time = 5000 + 40 * n as u32;
        w.packet(Packet::Video { time, composition, key: kind > 16, data: nal(kind).into() });
    }
    assert!(!before);
    let said: Vec<_> = w.notes.iter().filter(|n| n.contains("RADL")).collect();
    assert_eq!(said.len(), 1, "the one behind the IDR, not the one behind the CRA: {:?}", w.notes);
    assert_eq!(w.stream.facts.open_gops().count(), 1);
}

#[test]
fn what_the_gpu_does_not_decode_is_refused_by_name() {
    use crate::cmaf::h264::tests::records;
    let mut w = World::new(Setup { encoders: EncoderLimits::nvidia(Decoders::ALL, Decoders::default(), false), ..setup() });
    w.packet(Packet::VideoConfig(Coding::H264, records::bytes(records::HIGH_10)));
    w.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    w.publish(3, 2000);
    assert!(w.refused.as_ref().unwrap().contains("10-bit"), "{:?}", w.refused);
    let mut w = World::new(Setup { encoders: EncoderLimits::nvidia(Decoders::ALL, Decoders::default(), true), ..setup() });
    w.packet(Packet::VideoConfig(Coding::H264, records::bytes(records::HIGH_10)));
    w.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    w.publish(3, 2000);
    assert_eq!((w.refused, w.encoder.starts), (None, 1));
}
