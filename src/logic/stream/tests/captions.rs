//! Closed captions from the source into the encoded rungs.

use mp4_atom::{Decode, Moof};

use super::*;

/// One field of line 21 and one triplet of DTVCC, with the picture's number in both; the first second begins with a roll-up command.
fn captions(ms: u64) -> Vec<Triplet> {
    let [a, b] = u16::try_from(ms / 40).unwrap().to_be_bytes();
    let field = if ms < 1000 { [0xfc, 0x94, 0x25] } else { [0xfc, a, b] };
    vec![field, [0xfe, a, b]]
}

fn captioned(setup: Setup, halved: bool) -> World {
    let mut w = World::new(setup);
    w.captions = Some(captions);
    w.encoder.halved = halved;
    w.configs();
    w
}

/// Presentation time and captions of each picture of a segment.
fn pictures(segment: &[u8]) -> Vec<(i64, Vec<Triplet>)> {
    let at = segment.windows(4).position(|w| w == b"moof").unwrap() - 4;
    let mut rest = &segment[at..];
    let moof = Moof::decode(&mut rest).unwrap();
    let traf = &moof.traf[0];
    let (mut dts, mut data) = (traf.tfdt.as_ref().unwrap().base_media_decode_time as i64, &rest[8..]);
    let mut out = Vec::new();
    for entry in traf.trun[0].samples.iter() {
        let (sample, behind) = data.split_at(entry.size.unwrap() as usize);
        out.push((dts + entry.cts.unwrap(), sei::read(Coding::H264, sample)));
        data = behind;
        dts += i64::from(entry.duration.unwrap());
    }
    assert!(data.is_empty());
    out.sort_by_key(|(pts, _)| *pts);
    out
}

/// All pictures that a track has in the store.
fn track(w: &World, name: &str) -> Vec<(i64, Vec<Triplet>)> {
    let folder = format!("/{name}/");
    let mut all: Vec<_> = w
        .bodies
        .iter()
        .filter(|(key, _)| key.as_str().contains(&folder) && key.as_str().ends_with(".m4s"))
        .flat_map(|(_, body)| pictures(body))
        .collect();
    all.sort_by_key(|(pts, _)| *pts);
    all
}

fn of_kind(pictures: &[(i64, Vec<Triplet>)], kind: u8) -> Vec<Triplet> {
    pictures.iter().flat_map(|(_, t)| t).filter(|t| t[0] == kind).copied().collect()
}

fn index(w: &World) -> &str {
    &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()]
}

/// Every triplet of the source, once and in its order.
fn same_as_the_source(w: &World, name: &str) {
    let (source, rung) = (track(w, "src"), track(w, name));
    assert!(!source.is_empty());
    for kind in [0xfc, 0xfe] {
        assert_eq!(of_kind(&rung, kind), of_kind(&source, kind), "{name}");
    }
}

#[test]
fn captions_are_in_the_same_pictures_of_every_rung_and_announced_at_once() {
    let mut w = captioned(setup(), false);
    w.publish(9, 2000);
    assert_eq!(track(&w, "src").len(), 4 * 50);
    for rung in ["480p", "360p"] {
        assert_eq!(track(&w, rung), track(&w, "src"), "{rung}");
    }
    let media = "#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"CC1\",AUTOSELECT=YES,INSTREAM-ID=\"CC1\"\n";
    assert_eq!(index(&w).matches(media).count(), 1, "{}", index(&w));
    assert_eq!(index(&w).matches(",CLOSED-CAPTIONS=\"cc\"").count(), 3);
    assert!(
        w.mpd().contains("<Accessibility schemeIdUri=\"urn:scte:dash:cc:cea-608:2015\" value=\"CC1=und\"/>"),
        "{}",
        w.mpd()
    );
    assert_eq!(w.notes.iter().filter(|n| n.as_str() == "closed captions: CC1").count(), 1);
}

#[test]
fn half_rate_rungs_have_the_captions_of_the_pictures_that_they_leave_out() {
    let mut w = captioned(setup(), true);
    w.publish(9, 2000);
    let rung = track(&w, "480p");
    assert_eq!(rung.len(), 4 * 25);
    let (first, second) = (captions(1960), captions(2000));
    let at_cut = rung.iter().find(|(pts, _)| *pts == 180_000).unwrap();
    assert_eq!(at_cut.1, [first[0], second[0], first[1], second[1]], "over the cut, fields first");
    // The last picture of the last segment is left out, and the next one is not stored yet.
    let mut expected = track(&w, "src");
    expected.pop();
    for kind in [0xfc, 0xfe] {
        assert_eq!(of_kind(&rung, kind), of_kind(&expected, kind));
    }
}

#[test]
fn a_restarted_codec_process_doubles_and_loses_nothing() {
    for (halved, at) in [(false, 5), (true, 5), (true, 6)] {
        let mut w = captioned(setup(), halved);
        w.publish(at, 2000);
        for _ in 0..2 {
            let now = w.now();
            w.stream.codec_lost("killed", now);
            w.outputs();
        }
        assert!(w.encoder.starts >= 2);
        w.publish_from(at, 4, 2000);
        w.packet(Packet::Unpublish);
        w.wait(3);
        assert_eq!((w.gaps("480p"), w.gaps("360p")), (0, 0));
        same_as_the_source(&w, "480p");
        same_as_the_source(&w, "360p");
    }
}

#[test]
fn the_end_of_a_run_keeps_its_captions_and_the_next_run_gets_none_of_them() {
    let mut w = captioned(Setup { window: MediaTime::from_secs(60), ..setup() }, true);
    w.publish(5, 2000);
    w.packet(Packet::Unpublish);
    w.wait(4);
    let first = track(&w, "480p");
    same_as_the_source(&w, "480p");
    let now = w.now();
    assert!(w.stream.returned(now));
    w.configs();
    w.publish(4, 2000);
    w.packet(Packet::Unpublish);
    w.wait(4);
    same_as_the_source(&w, "480p");
    let next = &track(&w, "480p")[first.len()];
    assert_eq!(next.1, captions(0), "only its own");
}

#[test]
fn captions_that_begin_later_are_announced_then_and_by_every_writer_afterwards() {
    let mut w = World::new(setup());
    w.configs();
    w.publish(5, 2000);
    assert!(!index(&w).contains("CLOSED-CAPTIONS"), "unknown is left out: rules.md 10");
    w.captions = Some(|_| vec![[0xfd, 0x15, 0x2c], [0xfd, 0x15, 0x25], [0xff, 0x02, 0x21], [0xfe, b'a', 0]]);
    w.publish_from(5, 4, 2000);
    let announced = |w: &World| {
        let names: Vec<&str> = index(w).split("INSTREAM-ID=\"").skip(1).map(|t| t.split('"').next().unwrap()).collect();
        names.join(" ")
    };
    assert_eq!(announced(&w), "CC3 SERVICE1");
    assert!(w.mpd().contains("urn:scte:dash:cc:cea-708:2015\" value=\"1=lang:und\""), "{}", w.mpd());
    let mut next = w.successor();
    next.configs();
    next.publish(4, 2000);
    assert_eq!(announced(&next), "CC3 SERVICE1", "although this publisher has none");
}

#[test]
fn a_recording_announces_what_was_seen() {
    let grace = Grace { reconnect: Duration::from_secs(1), ..setup().grace };
    let mut w = captioned(Setup { keeping: Keeping { recorded: true, ..Keeping::default() }, grace, ..setup() }, false);
    w.publish(7, 2000);
    w.packet(Packet::Unpublish);
    w.wait(8);
    let seen = &w.recording.as_ref().unwrap().captions;
    assert_eq!(seen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["CC1"]);
}
