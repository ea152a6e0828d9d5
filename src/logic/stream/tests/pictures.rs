//! Sources of other kinds than browsers play, and sources that change.

use super::*;
use crate::cmaf::h264::tests::records::{self, bytes};

impl World {
    /// 25 pictures a second from `from` to `to` seconds of the publisher's clock, an IDR every 2 s; `sets` go into each IDR's access unit.
    fn film(&mut self, from: u64, to: u64, sets: &[u8]) {
        for n in from * 25..to * 25 {
            self.ms = n * 40;
            let idr = n % 50 == 0;
            let slice = Bytes::from([&[0, 0, 0, 2, if idr { 0x65 } else { 0x41 }, 0][..]].concat());
            let data = if idr { [sets, &slice].concat().into() } else { slice };
            self.packet(Packet::Audio { time: self.ms as u32, data: Bytes::from_static(b"aac") });
            self.packet(Packet::Video { time: self.ms as u32, composition: 80, key: idr, data });
            self.encode();
            self.store();
            self.timers();
        }
    }

    /// One picture a second, each sent `composition` ms before it is shown.
    fn screen(&mut self, from: u32, to: u32, composition: i32) {
        for second in from..to {
            let idr = second % 2 == 0;
            let slice = Bytes::from([&[0, 0, 0, 2, if idr { 0x65 } else { 0x41 }, 0][..]].concat());
            self.packet(Packet::Video { time: second * 1000, composition, key: idr, data: slice });
            for n in 0..25 {
                self.ms = u64::from(second) * 1000 + n * 40;
                self.packet(Packet::Audio { time: self.ms as u32, data: Bytes::from_static(b"aac") });
                self.encode();
                self.store();
                self.timers();
            }
        }
    }

    /// Every track has a segment of every number, and discontinuities at these.
    fn assert_whole(&self, tracks: &[&str], discontinuities: &[usize]) {
        for track in tracks {
            assert_eq!(self.gaps(track), 0, "{track}: {}", self.playlist(track));
            assert_eq!(self.discontinuities(track), discontinuities, "{track}: {}", self.playlist(track));
        }
    }

    pub(super) fn index(&self) -> &str {
        &self.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()]
    }
}

fn long_window() -> Setup {
    Setup { window: MediaTime::from_secs(60), ..setup() }
}

/// Addresses of the media segments of a playlist, one a segment.
fn segments(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|l| !l.starts_with('#')).collect()
}

#[test]
fn a_10_bit_source_is_encoded_from_its_first_picture_on() {
    let mut w = World::new(long_window());
    w.packet(Packet::VideoConfig(Coding::H264, bytes(records::HIGH_10)));
    w.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    w.film(0, 9, &[]);
    assert_eq!(w.encoder.starts, 1, "the plan is right at once");
    assert!(w.index().contains("top.m3u8") && !w.index().contains("src.m3u8"), "{}", w.index());
    w.assert_whole(&["top", "half", "audio"], &[]);
    assert_eq!(segments(w.playlist("top")).len(), 4);
}

#[test]
fn a_source_that_turns_10_bit_is_stood_in_for_and_comes_back() {
    let mut w = World::new(long_window());
    w.configs();
    w.film(0, 6, &[]);
    w.packet(Packet::VideoConfig(Coding::H264, bytes(records::HIGH_10)));
    w.film(6, 12, &[]);
    w.packet(Packet::VideoConfig(Coding::H264, Bytes::from_static(RECORD_720P30)));
    w.film(12, 17, &[]);
    w.wait(1);
    // 640x360 is smaller than the set's rungs: the lowest shows it at its own size.
    w.assert_whole(&TRACKS, &[3, 6]);
    let src = segments(w.playlist("src"));
    let own = |s: &&&str| s.contains("/src/");
    assert_eq!(src.iter().map(|s| own(&s)).collect::<Vec<_>>(), [true, true, true, false, false, false, true, true]);
    assert!(src[3].contains("/360p/"), "{src:?}");
}

#[test]
fn a_smaller_source_stands_in_for_rungs_that_are_larger_than_it() {
    let mut w = World::new(long_window());
    w.configs();
    w.film(0, 6, &[]);
    w.packet(Packet::VideoConfig(Coding::H264, bytes(records::BASELINE)));
    w.film(6, 11, &[]);
    w.wait(1);
    w.assert_whole(&TRACKS, &[3]);
    for track in ["src", "480p", "360p"] {
        assert!(segments(w.playlist(track))[3].contains("/src/"), "{track}: {}", w.playlist(track));
    }
}

#[test]
fn parameter_sets_in_the_pictures_alone_are_a_new_format_once() {
    let wide = bytes(records::WIDE_576);
    let sps_length = usize::from(u16::from_be_bytes([wide[6], wide[7]]));
    let (sps, pps) = (&wide[8..8 + sps_length], &wide[8 + sps_length + 3..wide.len() - 4]);
    let sets = [sps, pps].iter().flat_map(|s| [&(s.len() as u32).to_be_bytes()[..], s].concat()).collect::<Vec<u8>>();
    let mut w = World::new(long_window());
    w.configs();
    w.film(0, 6, &[]);
    w.film(6, 13, &sets);
    w.wait(1);
    w.assert_whole(&TRACKS, &[3]);
    let format = w.stream.timeline.video_format().unwrap();
    assert_eq!((format.width, format.height), (720, 576));
    assert_eq!(format.avcc, wide);
}

#[test]
fn what_nobody_can_show_is_refused_by_name() {
    let policy = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.packet(Packet::VideoConfig(Coding::H264, bytes(records::INTERLACED)));
    w.film(0, 1, &[]);
    let reason = w.refused.unwrap();
    assert!(reason.contains("interlaced") && reason.contains("does not encode"), "{reason}");
}

#[test]
fn samples_that_are_not_square_pass_with_their_shape_and_rungs_have_square_ones() {
    let mut w = World::new(long_window());
    w.packet(Packet::VideoConfig(Coding::H264, bytes(records::WIDE_576)));
    w.film(0, 7, &[]);
    let source = w.index().lines().find(|l| l.contains("STABLE-VARIANT-ID=\"src\"")).unwrap();
    assert!(source.contains("RESOLUTION=1024x576"), "{source}");
    let plans: Vec<_> = w.encoder.plan.iter().map(|r| (r.name.as_str(), r.width, r.height)).collect();
    assert_eq!(plans, [("480p", 854, 480), ("360p", 640, 360)]);
    let representation = w.mpd().lines().find(|l| l.contains("Representation id=\"src\"")).unwrap();
    assert!(representation.contains("width=\"1024\" height=\"576\""), "{representation}");
}

#[test]
fn a_source_that_becomes_slow_gets_other_encoders_and_its_rungs_miss_two_segments() {
    let mut w = World::new(long_window());
    w.configs();
    w.film(0, 6, &[]);
    w.screen(6, 20, 80);
    assert_eq!(w.encoder.starts, 2, "{:?}", w.notes);
    assert_eq!((w.stream.encoding.as_ref().unwrap().deaths(), w.stream.shedding.shed), (0, false));
    assert!(w.notes.iter().any(|n| n.contains("few pictures a second")), "{:?}", w.notes);
    assert!(!w.notes.iter().any(|n| n.contains("lost") || n.contains("given up")), "{:?}", w.notes);
    // What the old encoders held back when it became slow, and what had ended 2 s before five pictures had come slowly.
    let gaps: Vec<usize> = TRACKS.iter().map(|track| w.gaps(track)).collect();
    assert_eq!(gaps, [0, 2, 2, 0], "{}", w.playlist("480p"));
}

#[test]
fn rows_wait_for_sound_where_pictures_are_sent_long_before_they_are_shown() {
    for (can_encode, tracks) in [(true, &TRACKS[..]), (false, &["src", "audio"])] {
        let policy = timeline::Policy { can_encode, ..timeline::Policy::default() };
        let mut w = World::new(Setup { timeline: policy, ..long_window() });
        w.configs();
        w.screen(0, 20, 2000);
        w.assert_whole(tracks, &[]);
    }
}
