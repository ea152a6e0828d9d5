//! Sessions in virtual time: a publisher, a pretended encoder and a store that can be slow or fail.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

mod allowed;
mod captions;
mod codings;
mod cues;
mod paused;
mod pictures;
mod recorded;
mod saved;
mod sim;
mod sounded;
mod spared;
mod thumbnails;
mod world;

use super::*;
use crate::cmaf::fragment;
use crate::cmaf::h264::tests::RECORD_720P30;
use crate::cmaf::sei::{self, Triplet};
use crate::logic::journal::Journal;
use crate::logic::ladder::Step;
use crate::logic::playlist::{Snapshot, Track};
use crate::logic::publish::Outcome;
use crate::logic::recipe::Decoders;
use crate::logic::recording::{self, Measured};
use crate::logic::state::{self, State};
use crate::logic::takeover;
use crate::logic::timeline::LongGop;
use world::*;

#[test]
fn another_worker_goes_on_with_the_playlists() {
    let mut a = World::new(setup());
    a.configs();
    a.publish(9, 2000);
    let before: Vec<_> = TRACKS.iter().map(|t| entries(a.playlist(t))).collect();
    assert_eq!(before[0].len(), 4);
    let mut b = a.successor();
    b.wait(3);
    b.configs();
    b.publish(9, 2000);
    for (track, before) in TRACKS.iter().zip(before) {
        let after = entries(b.playlist(track));
        for (number, was) in before.iter().filter(|(n, _)| after.contains_key(n)) {
            assert_eq!(after[number], *was, "{track}");
        }
        let breaks: Vec<u64> = after.iter().filter(|(_, (d, _))| *d).map(|(n, _)| *n).collect();
        assert_eq!(breaks, [4], "{track}: {}", b.playlist(track));
        assert_eq!((after.len(), after.keys().last()), (5, Some(&7)), "{track}: {}", b.playlist(track));
        assert_eq!(b.gaps(track), 0);
    }
    assert!(b.mpd().contains("<Period id=\"1\""), "{}", b.mpd());
    assert!(b.playlist("480p").contains("/s1/2/480p/"), "the new epoch's own objects");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A worker that dies between any two writes leaves playlists that play, and one that goes on with them changes nothing that was listed
    /// (rules.md 18). Dead means dead: the third worker finds what the second left between two writes of its own.
    #[test]
    fn killed_between_any_two_writes(first in 0usize..90, second in 0usize..60) {
        let mut w = World::new(setup());
        let mut seen: BTreeMap<&str, BTreeMap<u64, (bool, String, u64)>> = BTreeMap::new();
        for (term, writes) in [Some(first), Some(second), None].into_iter().enumerate() {
            w.writes_left = writes;
            w.configs();
            w.publish(13, 2000);
            for track in TRACKS {
                let (listed, sequences) = (entries(w.playlist(track)), sequences(w.playlist(track)));
                for (number, (discontinuity, address)) in listed {
                    let now = (discontinuity, address, sequences[&number]);
                    let before = seen.entry(track).or_default().entry(number).or_insert_with(|| now.clone());
                    // The discontinuity of a row that has become the oldest one keeps its tag.
                    prop_assert_eq!(&*before, &now, "{} {} in term {}", track, number, term);
                }
            }
            if writes.is_some() {
                w = w.successor();
                w.wait(1);
            }
        }
        let numbers = |track: &str, w: &World| entries(w.playlist(track)).into_keys().collect::<Vec<_>>();
        let all = numbers("src", &w);
        prop_assert!(all.len() >= 5);
        for track in TRACKS {
            prop_assert_eq!(numbers(track, &w), all.clone(), "{}", track);
            prop_assert_eq!(w.discontinuities(track), w.discontinuities("src"));
            // Nobody skips a number: what a player has not seen by then has only left the window.
            prop_assert!(seen[track].keys().zip(seen[track].keys().skip(1)).all(|(a, b)| b - a < 7), "{:?}", seen[track].keys());
        }
    }
}

#[test]
fn a_new_session_goes_on_with_the_numbers_of_the_old_one() {
    let mut a = World::new(setup());
    a.configs();
    a.publish(9, 2000);
    let state = State::read(a.manifests[&ObjectKey::parse("ckpt/local/demo/state.json").unwrap()].as_bytes()).unwrap();
    assert_eq!(state.announced.as_ref().map(|a| a.tracks.len()), Some(4));
    let from = playlist::Continuation { number: 40, discontinuity_sequence: 3, ..Default::default() };
    let mut b = World::new(Setup { past: Past { announced: None, from }, ..setup() });
    b.configs();
    b.publish(9, 2000);
    for track in TRACKS {
        assert_eq!(entries(b.playlist(track)).keys().next(), Some(&40), "{track}");
        assert!(b.playlist(track).contains("#EXT-X-DISCONTINUITY-SEQUENCE:3\n"), "{}", b.playlist(track));
        assert!(b.discontinuities(track).is_empty());
    }
}

#[test]
fn an_outage_makes_no_gap_and_one_write_behind_it_names_everything() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(5, 2000);
    w.down = true;
    let begin = w.ms;
    // The publisher's clock goes on, so the same connection is published in one go.
    w.publish_from(5, 8, 2000);
    let named = entries(w.playlist("src")).len();
    assert!(named <= 3, "nothing is named meanwhile: {named}");
    w.down = false;
    w.publish_from(13, 4, 2000);
    assert!(w.ms > begin);
    for track in TRACKS {
        assert_eq!(w.gaps(track), 0, "{}", w.playlist(track));
        let numbers: Vec<u64> = entries(w.playlist(track)).into_keys().collect();
        assert!(numbers.windows(2).all(|n| n[1] == n[0] + 1) && numbers.last() >= Some(&7), "{numbers:?}");
    }
}

#[test]
fn what_left_the_window_during_an_outage_is_skipped_and_both_sequences_advance() {
    let mut w = World::new(Setup { keeping: Keeping { recorded: true, ..Keeping::default() }, ..setup() });
    w.configs();
    w.publish(7, 2000);
    w.down = true;
    w.publish_from(7, 30, 2000);
    w.down = false;
    w.publish_from(37, 6, 2000);
    let first = *entries(w.playlist("src")).keys().next().unwrap();
    assert!(first >= 13, "{}", w.playlist("src"));
    for track in TRACKS {
        assert_eq!(w.gaps(track), 0, "{}", w.playlist(track));
        assert_eq!(entries(w.playlist(track)).keys().next(), Some(&first));
    }
    // 42 s behind, in 2 s segments: every one of them is in the store, for the recording.
    for n in 0..20 {
        let key = format!("/src/{}.m4s", n * 180_000);
        assert!(w.objects.iter().any(|o| o.as_str().ends_with(&key)), "{key}");
    }
    assert!(w.kept.len() < 8, "{} wait", w.kept.len());
    assert!(w.deleted.is_empty(), "a recording keeps everything");
}

#[test]
fn a_session_from_publish_to_endlist() {
    let mut w = World::new(Setup { grace: Grace { reconnect: Duration::from_secs(1), ..setup().grace }, ..setup() });
    w.configs();
    w.publish(9, 2000);
    assert!(w.playlist("src").contains("#EXTINF:2.000000"));
    w.packet(Packet::Unpublish);
    w.wait(2);
    assert!(w.playlist("src").ends_with("#EXT-X-ENDLIST\n"));
    assert!(w.mpd().contains("type=\"dynamic\"") && !w.over, "dash.js reads the last segments of a live MPD only");
    w.wait(3);
    assert!(w.mpd().contains("type=\"static\"") && w.over);
    for track in TRACKS {
        assert_eq!(w.gaps(track), 0, "{track}");
        assert_eq!(w.playlist(track).matches("#EXTINF").count(), 5, "{track}: {}", w.playlist(track));
        assert!(w.playlist(track).ends_with("#EXT-X-ENDLIST\n"));
    }
    assert!(w.encoder.dead, "the codec process is let go");
}

#[test]
fn an_mpd_that_has_named_the_last_segments_for_long_is_static_at_once() {
    let mut w = World::new(Setup { grace: Grace { reconnect: Duration::from_secs(10), ..setup().grace }, ..setup() });
    w.configs();
    w.publish(9, 2000);
    w.packet(Packet::Unpublish);
    w.wait(9);
    assert!(!w.playlist("src").contains("#EXT-X-ENDLIST"));
    w.wait(2);
    assert!(w.mpd().contains("type=\"static\"") && w.over);
}

#[test]
fn a_worker_that_ends_waits_for_no_player() {
    for stopped_before in [false, true] {
        let mut w = World::new(setup());
        w.configs();
        w.publish(9, 2000);
        let now = w.now();
        if stopped_before {
            w.stream.stop(now);
            w.outputs();
            w.wait(1);
            assert!(w.playlist("src").ends_with("#EXT-X-ENDLIST\n") && !w.over);
        }
        let now = w.now();
        w.stream.drain(now);
        w.outputs();
        w.wait(1);
        assert!(w.mpd().contains("type=\"static\"") && w.over);
    }
}

#[test]
fn a_dead_codec_process_costs_no_segment_that_can_still_be_made() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(5, 2000);
    let now = w.now();
    w.stream.codec_lost("killed", now);
    w.outputs();
    assert_eq!(w.encoder.starts, 2);
    w.ms += 40;
    w.wait(2);
    assert_eq!((w.gaps("src"), w.gaps("480p"), w.gaps("360p")), (0, 0, 0));
    assert!(w.discontinuities("480p").is_empty(), "the parameter sets are the same");
}

#[test]
fn an_encoder_that_hangs_costs_gaps_on_its_rungs_only() {
    let mut w = World::new(setup());
    w.configs();
    w.encoder.delay = 12;
    w.publish(5, 2000);
    w.encoder.delay = usize::MAX;
    // the publisher's clock goes on where it was: 40 ms behind the last frame
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 125..400u64 {
        let t = n * 40;
        w.ms += 40;
        let idr = t % 2000 == 0;
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
        if w.encoder.starts == 2 {
            w.encoder.delay = 12;
        }
        w.encode();
        w.store();
        w.timers();
    }
    assert_eq!(w.gaps("src"), 0);
    let gaps = w.gaps("480p");
    assert!((1..=4).contains(&gaps), "5 s and two segments at the most: {gaps}");
    assert_eq!(w.encoder.starts, 2);
}

#[test]
fn a_reconnect_is_a_discontinuity_at_the_same_number_everywhere() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    w.publish(5, 2000);
    w.packet(Packet::Unpublish);
    w.wait(4);
    let now = w.now();
    assert!(w.stream.returned(now));
    w.configs();
    w.publish(6, 2000);
    w.wait(1);
    let expected = w.discontinuities("src");
    assert_eq!(expected.len(), 1);
    for track in TRACKS {
        assert_eq!(w.discontinuities(track), expected, "{track}");
        assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
    }
    assert_eq!(w.mpd().matches("<Period ").count(), 2);
}

#[test]
fn another_format_in_mid_stream_is_a_discontinuity_and_loses_nothing() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    w.publish(5, 2000);
    // The same size at another level: the record differs by one byte.
    let mut other = RECORD_720P30.to_vec();
    other[3] = 0x20;
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 125..300u64 {
        if n == 150 {
            w.packet(Packet::VideoConfig(Coding::H264, other.clone().into()));
        }
        let t = n * 40;
        w.ms = t;
        let idr = t % 2000 == 0;
        w.packet(Packet::Audio { time: t as u32, data: Bytes::from_static(b"aac") });
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
        w.encode();
        w.store();
        w.timers();
    }
    w.wait(1);
    let expected = w.discontinuities("src");
    assert_eq!(expected, [3], "{}", w.playlist("src"));
    assert_eq!(w.encoder.starts, 2);
    for track in TRACKS {
        assert_eq!(w.discontinuities(track), expected, "{track}");
        assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
    }
    assert_eq!(w.playlist("src").matches("#EXT-X-MAP").count(), 2);
}

#[test]
fn a_publisher_that_left_before_the_first_segment_may_begin_anew() {
    // 0.3 s are too short to keep
    let mut short = World::new(setup());
    short.configs();
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 0..8u32 {
        short.packet(Packet::Video {
            time: n * 40,
            composition: 80,
            key: n == 0,
            data: unit(if n == 0 { 0x65 } else { 0x41 }),
        });
    }
    short.packet(Packet::Unpublish);
    short.wait(3);
    let now = short.now();
    assert!(short.stream.returned(now));
    short.configs();
    short.publish(7, 2000);
    short.wait(1);
    for track in TRACKS {
        assert_eq!(short.playlist(track).matches("#EXTINF").count(), 3, "{track}: {}", short.playlist(track));
        assert_eq!(short.gaps(track), 0, "{track}");
    }
}

#[test]
fn a_source_whose_clock_stands_still_is_refused() {
    let mut w = World::new(setup());
    w.configs();
    for n in 0..3000 {
        let idr = n == 0;
        let unit = Bytes::from([&[0, 0, 0, 2, if idr { 0x65 } else { 0x41 }, 0][..]].concat());
        w.packet(Packet::Video { time: 0, composition: 0, key: idr, data: unit });
    }
    assert!(w.refused.unwrap().contains("do not advance"));
}

#[test]
fn obs_at_its_defaults_gets_a_reencoded_top_rung() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(9, 8320);
    let index = &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()];
    assert!(index.contains("top.m3u8") && !index.contains("src.m3u8"), "{index}");
    assert_eq!(w.encoder.starts, 2, "once for the likely ladder, once for the decided one");
    assert!(w.playlist("top").matches("#EXTINF").count() >= 3);
    assert_eq!(w.gaps("top"), 0);
}

#[test]
fn a_source_whose_gop_grows_is_stood_in_for_by_the_next_rung() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
    for n in 0..350u64 {
        let t = n * 40;
        w.ms = t;
        let idr = t % 2000 == 0 && t <= 4000;
        w.packet(Packet::Audio { time: t as u32, data: Bytes::from_static(b"aac") });
        w.packet(Packet::Video { time: t as u32, composition: 80, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
        w.encode();
        w.store();
        w.timers();
    }
    let expected = w.discontinuities("src");
    assert_eq!(expected.len(), 1, "{}", w.playlist("src"));
    for track in TRACKS {
        assert_eq!(w.discontinuities(track), expected, "{track}");
        assert_eq!(w.gaps(track), 0, "{track}: {}", w.playlist(track));
    }
    let (own, lent) = w.playlist("src").split_once("#EXT-X-DISCONTINUITY\n").unwrap();
    assert!(own.contains("/src/") && !own.contains("/480p/"), "{own}");
    assert!(!lent.contains("/src/") && lent.contains("/480p/init-") && lent.contains("/480p/"), "{lent}");
    let mpd = &w.manifests[&ObjectKey::parse("live/local/demo/manifest.mpd").unwrap()];
    let periods: Vec<&str> = mpd.split("<Period ").skip(1).collect();
    assert_eq!(periods.iter().map(|p| p.contains("id=\"src\"")).collect::<Vec<_>>(), [true, false], "{mpd}");
}

#[test]
fn a_source_is_refused_where_the_operator_says_so() {
    let policy = timeline::Policy { long_gop: LongGop::Refuse, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.configs();
    w.publish(6, 8320);
    assert!(w.refused.unwrap().contains("2 s in OBS"));
}

#[test]
fn without_encoders_the_source_goes_live_alone() {
    let policy = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let mut w = World::new(Setup { timeline: policy, ..setup() });
    w.configs();
    w.publish(7, 2000);
    assert_eq!(w.encoder.starts, 0);
    assert_eq!(w.playlist("src").matches("#EXTINF").count(), 3);
}

#[test]
fn encoders_that_never_start_do_not_hold_the_source_back_for_ever() {
    let mut w = World::new(setup());
    w.encoder.delay = usize::MAX;
    w.configs();
    w.publish(14, 2000);
    assert!(w.playlist("src").contains("#EXTINF"));
    let gaps = w.gaps("480p");
    let counted = w.stream.status(None, None, w.now()).rungs.into_iter().find(|r| r.name == "480p").map(|r| r.gaps);
    assert!(gaps > 0 && counted == Some(gaps as u64), "{counted:?} of {gaps} are counted");
    let index = &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()];
    assert!(index.contains("480p.m3u8") && index.contains("avc1.6400"), "announced by what was asked for: {index}");
}

#[test]
fn rungs_whose_encoder_cannot_be_had_are_stood_in_for_by_the_source() {
    let mut w = World::new(setup());
    w.configs();
    w.encoder.unable = true;
    w.publish(8, 2000);
    assert!(w.encoder.starts >= 2, "tried again");
    assert!(w.refused.is_none());
    assert!(w.playlist("480p").matches("/src/").count() >= 3, "{}", w.playlist("480p"));
    for track in TRACKS {
        assert_eq!((w.gaps(track), w.discontinuities(track)), (0, vec![]), "{track}: {}", w.playlist(track));
    }
    let index = &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()];
    assert!(index.contains("480p.m3u8") && index.contains("360p.m3u8"), "the set stays whole: {index}");
}

/// The second try fails when the tracks are decided already, and rows wait for them.
#[test]
fn rungs_that_never_had_a_segment_are_stood_in_for_from_the_first_one_on() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(120), ..setup() });
    w.configs();
    w.encoder.delay = usize::MAX;
    w.publish(5, 2000);
    w.encoder.unable = true;
    for _ in 0..2 {
        let now = w.now();
        w.stream.codec_unable("cannot encode: no session", now);
        w.outputs();
    }
    w.publish_from(5, 12, 2000);
    w.wait(1);
    for track in TRACKS {
        assert_eq!((w.gaps(track), w.discontinuities(track)), (0, vec![]), "{track}: {}", w.playlist(track));
    }
    assert!(
        w.playlist("480p").contains("#EXT-X-MEDIA-SEQUENCE:0\n") && !w.playlist("480p").contains("/480p/"),
        "{}",
        w.playlist("480p")
    );
}

#[test]
fn an_encoder_that_goes_and_comes_back_is_two_discontinuities_and_no_more() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(120), ..setup() });
    w.configs();
    w.publish(6, 2000);
    w.encoder.unable = true;
    let now = w.now();
    w.stream.codec_lost("killed", now);
    w.outputs();
    w.publish_from(6, 20, 2000);
    w.encoder.unable = false;
    w.publish_from(26, 40, 2000);
    w.wait(1);
    for track in TRACKS {
        assert_eq!(w.discontinuities(track).len(), 2, "{track}: {}", w.playlist(track));
        assert!(w.gaps(track) <= 2, "{track}: {}", w.playlist(track));
    }
    assert_eq!(w.gaps("src"), 0);
    let spells: Vec<bool> = w.playlist("480p").split("#EXT-X-DISCONTINUITY\n").map(|spell| spell.contains("/480p/")).collect();
    assert_eq!(spells, [true, false, true], "{}", w.playlist("480p"));
    assert!(w.notes.iter().any(|n| n.contains("pictures again")));
}

#[test]
fn an_encoder_slower_than_real_time_is_stood_in_for_by_the_source() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(120), ..setup() });
    w.configs();
    w.publish(6, 2000);
    // Nearly 5 s of pictures are always in it.
    w.encoder.delay = 145;
    w.publish_from(6, 40, 2000);
    assert!(w.notes.iter().any(|n| n.contains("rungs are shed: slower than real time")), "{:?}", w.notes);
    assert!(w.playlist("480p").contains("/src/"), "{}", w.playlist("480p"));
    assert_eq!((w.gaps("src"), w.discontinuities("src").len()), (0, 1));
    assert!(w.gaps("480p") <= 10, "{}", w.playlist("480p"));
    w.encoder.delay = 12;
    w.publish_from(40, 80, 2000);
    assert_eq!(w.discontinuities("480p").len(), 2, "{:?}", w.notes);
    assert!(w.notes.iter().any(|n| n.contains("pictures again")));
}

#[test]
fn a_new_process_that_catches_up_is_not_too_slow() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(6, 2000);
    w.encoder.delay = 140;
    w.publish_from(6, 14, 2000);
    w.encoder.delay = 12;
    w.publish_from(14, 30, 2000);
    assert!(!w.notes.iter().any(|n| n.contains("shed")), "{:?}", w.notes);
}

#[test]
fn without_a_source_rung_a_stream_whose_encoder_cannot_be_had_is_refused() {
    let mut w = World::new(setup());
    w.configs();
    w.encoder.unable = true;
    w.publish(9, 8320);
    assert!(w.refused.unwrap().contains("no encoder"));
}

#[test]
fn what_left_the_window_is_deleted_behind_the_playlist_without_it() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(40, 2000);
    let gone: usize = w.deleted.iter().map(|(_, keys)| keys.len()).sum();
    assert!(gone >= 4 * 10, "{gone}");
    assert!(w.deleted.iter().all(|(after, _)| *after == Duration::from_secs(94)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the store does, in whichever order, nothing is named that is not there (asserted in `check`), and the session ends.
    #[test]
    fn a_slow_and_failing_store_never_makes_a_playlist_lie(choices in proptest::collection::vec(any::<u8>(), 600)) {
        let mut w = World::new(Setup { grace: Grace { reconnect: Duration::from_secs(1), ..setup().grace }, ..setup() });
        let mut choices = choices.into_iter().cycle();
        w.configs();
        let unit = |t: u8| Bytes::from([&[0, 0, 0, 2, t, 0][..]].concat());
        for n in 0..500u64 {
            w.ms = n * 40;
            let idr = n % 50 == 0;
            w.packet(Packet::Video { time: w.ms as u32, composition: 0, key: idr, data: unit(if idr { 0x65 } else { 0x41 }) });
            w.encode();
            let choice = choices.next().unwrap_or(0);
            let now = w.now();
            if !w.puts.is_empty() && choice & 1 == 0 {
                let put = w.puts.swap_remove(usize::from(choice >> 1) % w.puts.len());
                let failed = choice >> 1 & 7 == 0;
                // A failed put may still have stored its first object.
                let stored = if failed { put.objects.len() - 1 } else { put.objects.len() };
                w.objects.extend(put.objects[..stored].iter().map(|(key, _)| key.clone()));
                w.stream.stored(put.id, if failed { Outcome::Failed } else { Outcome::Stored }, "no", now);
                w.outputs();
            }
            if w.writing && choice & 2 == 0 {
                w.writing = false;
                w.stream.manifests_written(if choice & 0x30 == 0 { Err("no".into()) } else { Ok(()) }, now);
                w.outputs();
            }
            w.timers();
        }
        w.packet(Packet::Unpublish);
        w.wait(20);
        prop_assert!(w.over, "puts {} writing {} notes {:?}", w.puts.len(), w.writing, w.notes);
        let count = w.playlist("src").matches("#EXTINF").count();
        for track in TRACKS {
            prop_assert_eq!(w.playlist(track).matches("#EXTINF").count(), count);
        }
    }
}
