//! Timed metadata from the publisher into segments.

use mp4_atom::{Decode, Emsg, EmsgTimestamp};

use super::*;
use crate::logic::packet::Cue;

fn cue(time: u32, text: &str) -> Packet {
    Packet::Cue(Cue { time, name: "onTextData", text: text.to_owned() })
}

/// Milliseconds, id and the end of the text of each message of a track, by segment.
fn messages(w: &World, track: &str) -> Vec<(i64, u32, String)> {
    let folder = format!("/{track}/");
    let mut out = Vec::new();
    for (key, body) in &w.bodies {
        if !key.as_str().contains(&folder) || !key.as_str().ends_with(".m4s") {
            continue;
        }
        let start: i64 = key.as_str().rsplit('/').next().unwrap().trim_end_matches(".m4s").parse().unwrap();
        let styp = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
        let moof = body.windows(4).position(|w| w == b"moof").unwrap() - 4;
        let mut rest = &body[styp..moof];
        let (_, duration) = fragment::measure(body).unwrap();
        while !rest.is_empty() {
            let emsg = Emsg::decode(&mut rest).unwrap();
            let EmsgTimestamp::Absolute(time) = emsg.presentation_time else { panic!("version 1") };
            let time = i64::try_from(time).unwrap();
            assert!((start..start + duration).contains(&time), "{time} is not in {key}");
            let text = emsg.message_data.rsplit(|b| *b == 0).next().unwrap();
            out.push((time * 1000 / i64::from(emsg.timescale), emsg.id, String::from_utf8(text.to_vec()).unwrap()));
        }
    }
    out.sort();
    out
}

fn texts(messages: &[(i64, u32, String)]) -> Vec<(i64, &str)> {
    messages.iter().map(|(t, _, text)| (*t, text.as_str())).collect()
}

#[test]
fn a_cue_is_in_the_same_segment_of_every_rung_and_not_in_the_audio() {
    let mut w = World::new(setup());
    w.configs();
    w.packet(cue(0, "before the first picture"));
    w.publish(3, 2000);
    w.packet(cue(3000, "now"));
    w.packet(cue(900, "late"));
    w.packet(cue(4500, "ahead"));
    w.packet(cue(4_000_000, "by another clock"));
    w.publish_from(3, 6, 2000);
    let source = messages(&w, "src");
    // Media time 0 is the first picture, whose composition is 80 ms; the newest one is at 2960 and ends 33 ms later.
    let expected =
        [(0, "before the first picture"), (2000, "late"), (2920, "now"), (2993, "by another clock"), (4420, "ahead")];
    assert_eq!(texts(&source), expected);
    for rung in ["480p", "360p"] {
        assert_eq!(messages(&w, rung), source, "{rung}");
    }
    assert!(messages(&w, "audio").is_empty());
    let [video, audio] = [0, 1].map(|n| w.mpd().split("<AdaptationSet ").nth(n + 1).unwrap());
    let stream = "<InbandEventStream schemeIdUri=\"https://aomedia.org/emsg/ID3\"/>";
    assert!(video.contains(stream) && !audio.contains(stream), "{}", w.mpd());
}

#[test]
fn a_dead_codec_process_doubles_no_cue() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(3, 2000);
    w.packet(cue(2800, "once"));
    let now = w.now();
    w.stream.codec_lost("killed", now);
    w.outputs();
    w.publish_from(3, 4, 2000);
    assert_eq!(texts(&messages(&w, "480p")), [(2720, "once")]);
    assert_eq!(messages(&w, "480p"), messages(&w, "src"));
}

#[test]
fn a_cue_behind_the_last_picture_is_shown_with_it_and_not_after_the_reconnect() {
    let mut w = World::new(Setup { window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    w.publish(5, 2000);
    w.packet(cue(5200, "goodbye"));
    w.packet(Packet::Unpublish);
    w.packet(cue(5300, "from nobody"));
    w.wait(4);
    let now = w.now();
    assert!(w.stream.returned(now));
    w.configs();
    w.packet(cue(0, "again"));
    w.publish(4, 2000);
    w.packet(Packet::Unpublish);
    w.wait(4);
    let found = messages(&w, "src");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(texts(&found)[0], (4993, "goodbye"));
    assert_eq!(found[1].2, "again");
    assert_eq!(messages(&w, "480p"), found);
}

#[test]
fn audio_alone_carries_the_cues() {
    let mut w = World::new(setup());
    w.packet(Packet::AudioConfig(Bytes::from_static(&[0x11, 0x90])));
    for n in 0..400u64 {
        w.ms = n * 1024 / 48;
        w.packet(Packet::Audio { time: w.ms as u32, data: Bytes::from_static(b"aac") });
        if n == 200 {
            w.packet(cue(4300, "tune"));
        }
        w.store();
        w.timers();
    }
    assert_eq!(texts(&messages(&w, "audio")), [(4300, "tune")]);
    assert!(w.mpd().contains("InbandEventStream"));
}

#[test]
fn too_many_and_too_long_ones_are_left_out_and_the_operator_is_told_once() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(3, 2000);
    for n in 0..20 {
        w.packet(cue(2900, &n.to_string()));
    }
    w.ms += 1000;
    w.packet(cue(2900, &"x".repeat(4097)));
    w.packet(cue(2900, &"y".repeat(4096)));
    w.packet(cue(2900, &"z".repeat(4096)));
    w.packet(cue(2900, "no room"));
    w.publish_from(3, 4, 2000);
    let found = messages(&w, "src");
    assert_eq!(found.len(), 12);
    assert_eq!(found.iter().filter(|(_, _, t)| t.len() == 4096).count(), 2);
    assert!(found.iter().all(|(_, _, t)| t != "no room" && t != "10"));
    assert_eq!(w.notes.iter().filter(|n| n.starts_with("timed metadata left out")).count(), 1);
    let mut ids: Vec<u32> = found.iter().map(|(_, id, _)| *id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 12);
}
