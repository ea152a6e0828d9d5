//! A publisher who is away: the slate takes its place (rules.md 8).

use super::*;
use crate::logic::slate;

fn slated(audio: bool) -> World {
    World::new(Setup { slate: Some(slate::tests::clip(audio)), window: MediaTime::from_secs(120), ..setup() })
}

/// Time passes, and the slate's pictures are encoded.
fn pass(w: &mut World, millis: u64) {
    for _ in 0..millis / 20 {
        w.ms += 20;
        w.timers();
        w.encode();
        w.store();
    }
}

/// EXTINF in milliseconds, and where the discontinuities stand.
fn listed(playlist: &str) -> (Vec<u64>, Vec<usize>) {
    let (mut lengths, mut breaks) = (Vec::new(), Vec::new());
    for line in playlist.lines() {
        if line == "#EXT-X-DISCONTINUITY" {
            breaks.push(lengths.len());
        } else if let Some(seconds) = line.strip_prefix("#EXTINF:") {
            let (whole, fraction) = seconds.trim_end_matches(',').split_once('.').unwrap();
            lengths.push(whole.parse::<u64>().unwrap() * 1000 + fraction[..3].parse::<u64>().unwrap());
        }
    }
    (lengths, breaks)
}

#[test]
fn playlists_go_on_while_the_publisher_is_away_and_it_comes_back_into_them() {
    for audio in [false, true] {
        let mut w = slated(audio);
        w.configs();
        w.publish(8, 2000);
        w.packet(Packet::Unpublish);
        pass(&mut w, 2900);
        assert!(listed(w.playlist("src")).1.is_empty(), "it may be back before anybody notices");
        pass(&mut w, 8100);
        let (status, now) = (w.stream.status(None, None, w.now()), w.now());
        assert!(status.slate && status.state == "paused" && status.input.video.is_none(), "{status:?}");
        let during: Vec<_> = TRACKS.iter().map(|t| listed(w.playlist(t))).collect();
        for (track, (lengths, breaks)) in TRACKS.iter().zip(&during) {
            assert_eq!(breaks, &[4], "{track}: rules.md 2");
            assert!((7..=8).contains(&lengths.len()), "{track}: {lengths:?}");
        }
        assert!(w.stream.returned(now));
        w.configs();
        w.publish(8, 2000);
        w.packet(Packet::Unpublish);
        pass(&mut w, 1000);
        let after: Vec<_> = TRACKS.iter().map(|t| listed(w.playlist(t))).collect();
        let breaks = &after[0].1;
        assert_eq!(breaks.len(), 2);
        for (track, ((lengths, own), (before, _))) in TRACKS.iter().zip(after.iter().zip(&during)) {
            assert_eq!(own, breaks, "{track}: rules.md 2");
            assert_eq!(&lengths[..before.len()], &before[..], "{track}: what was said stays");
            assert_eq!(lengths.len(), breaks[1] + 4, "{track}: {lengths:?}");
            assert!(lengths.iter().all(|l| (480..=2100).contains(l)), "{track}: {lengths:?}");
        }
        let playlist = w.playlist("audio");
        assert!(!playlist.contains("#EXT-X-GAP"), "{playlist}");
        // rules.md 7: the publisher's and the slate's audio have one configuration.
        let maps: BTreeSet<&str> = playlist.lines().filter(|l| l.starts_with("#EXT-X-MAP")).collect();
        assert_eq!(maps.len(), 1, "{playlist}");
    }
}

#[test]
fn the_session_ends_with_the_slate() {
    let mut w = slated(false);
    w.configs();
    w.publish(8, 2000);
    w.packet(Packet::Unpublish);
    pass(&mut w, 70_000);
    assert!(w.over);
    let (lengths, breaks) = listed(w.playlist("360p"));
    assert_eq!(breaks, [4]);
    // 60 s of grace, of which 3 s are waited.
    assert!((4 + 28..=4 + 29).contains(&lengths.len()), "{lengths:?}");
    assert!(w.playlist("360p").ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn a_publisher_who_is_back_in_time_or_never_showed_anything_gets_no_slate() {
    let mut w = slated(false);
    w.configs();
    w.publish(8, 2000);
    w.packet(Packet::Unpublish);
    pass(&mut w, 2000);
    let now = w.now();
    assert!(w.stream.returned(now));
    w.configs();
    w.publish(8, 2000);
    assert!(!w.notes.iter().any(|n| n.contains("slate")), "{:?}", w.notes);
    let mut w = slated(false);
    w.configs();
    w.packet(Packet::Unpublish);
    pass(&mut w, 10_000);
    assert!(!w.notes.iter().any(|n| n.contains("slate")), "{:?}", w.notes);
}
