//! Recorded sessions.

use super::*;

fn recorded() -> Setup {
    let grace = Grace { reconnect: Duration::from_secs(1), ..setup().grace };
    Setup { keeping: Keeping { recorded: true, ..Keeping::default() }, grace, ..setup() }
}

/// The segments of a track that the recording names, in order.
fn named(s: &Snapshot, track: &str) -> Vec<ObjectKey> {
    let index = s.tracks.iter().position(|t| t.name.as_str() == track).unwrap();
    let slot = |r: &playlist::Row| match &r.slots[index] {
        playlist::Slot::Media(m) => Some(m.key.clone()),
        playlist::Slot::Gap => None,
    };
    s.rows.iter().filter_map(slot).collect()
}

fn stored(w: &World, track: &str) -> BTreeSet<ObjectKey> {
    let folder = format!("/{track}/");
    w.objects.iter().filter(|k| k.as_str().contains(&folder) && k.as_str().ends_with(".m4s")).cloned().collect()
}

#[test]
fn what_live_playlists_skipped_is_recorded() {
    let mut w = World::new(recorded());
    w.configs();
    w.publish(7, 2000);
    w.down = true;
    w.publish_from(7, 30, 2000);
    w.down = false;
    w.publish_from(37, 6, 2000);
    w.packet(Packet::Unpublish);
    w.wait(8);
    assert!(w.over);
    let recording = w.recording.as_ref().unwrap();
    assert_eq!(recording.rows.len(), 22);
    assert_eq!(recording.eras.len(), 1, "an outage is no break of the recording");
    for track in TRACKS {
        let named = named(recording, track);
        assert_eq!(named.len(), 22, "{track}");
        assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), stored(&w, track));
    }
}

#[test]
fn the_session_counts_as_ended_when_its_recording_is_written_and_not_before() {
    let mut w = World::new(recorded());
    w.configs();
    w.publish(9, 2000);
    w.unrecorded = true;
    w.packet(Packet::Unpublish);
    w.wait(20);
    let phase = |w: &World| {
        let text = &w.manifests[&ObjectKey::parse("ckpt/local/demo/state.json").unwrap()];
        State::read(text.as_bytes()).unwrap().phase
    };
    assert!(w.playlist("src").ends_with("#EXT-X-ENDLIST\n"), "players are told at once");
    assert_eq!((phase(&w), w.over), (state::Phase::Live, false), "whoever finds it ends it, and records it");
    let now = w.now();
    w.stream.recorded(Ok(()), now);
    w.outputs();
    w.wait(1);
    assert_eq!((phase(&w), w.over), (state::Phase::Ended, true));
}

#[test]
fn a_worker_that_hands_over_leaves_the_recording_to_the_next() {
    let mut w = World::new(recorded());
    w.configs();
    w.publish(9, 2000);
    let now = w.now();
    w.stream.hand_over(now);
    w.outputs();
    w.wait(2);
    assert!(w.over && w.recording.is_none());
    let journals: Vec<&ObjectKey> = w.objects.iter().filter(|k| k.as_str().contains("/j/")).collect();
    let rows = |key: &&ObjectKey| Journal::read(&w.bodies[*key]).unwrap().rows.len();
    assert_eq!(journals.iter().map(rows).sum::<usize>(), 5, "{journals:?}");
}

/// Both writers die before a journal of theirs names an init segment of the lowest rung, and the second goes on with the first one's.
#[test]
fn an_init_segment_that_only_the_last_writer_describes_serves_the_ones_before() {
    let recording = written_by_three(12, 12);
    assert_eq!(recording.rows.iter().take(2).flat_map(|r| &r.slots).filter(|s| **s == playlist::Slot::Gap).count(), 0);
}

/// Two writers die after so many writes each, a third one ends the session. Everything that came to the store is in the recording, once.
fn written_by_three(first: usize, second: usize) -> Snapshot {
    let mut w = World::new(recorded());
    for writes in [Some(first), Some(second), None] {
        w.writes_left = writes;
        w.configs();
        w.publish(13, 2000);
        if writes.is_some() {
            w = w.successor_by(recorded());
            w.wait(1);
        }
    }
    w.packet(Packet::Unpublish);
    w.wait(8);
    assert!(w.over);
    let recording = w.recording.take().unwrap();
    for track in TRACKS {
        let (named, stored) = (named(&recording, track), stored(&w, track));
        assert_eq!(named.iter().cloned().collect::<BTreeSet<_>>(), stored, "{track}");
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
    }
    let starts: Vec<i64> = recording.rows.iter().map(|r| r.start.0).collect();
    assert!(starts.windows(2).all(|s| s[0] < s[1]), "{starts:?}");
    recording
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_came_to_the_store_is_missing_in_the_recording(first in 12usize..110, second in 12usize..80) {
        written_by_three(first, second);
    }
}
