//! Steps of a stream that goes without something while the machine is busy: viewers play on through each (rules.md 1, 2 and 5).

use super::*;

fn world() -> World {
    let mut world = World::new(Setup { window: MediaTime::from_secs(120), ..setup() });
    world.configs();
    world.publish(6, 2000);
    world
}

fn saved(world: &mut World, rungs_off: u8, brief: bool) {
    world.stream.save(Saving { rungs_off, half_rate: false, brief });
    world.outputs();
}

/// Whose segments a playlist names, spell by spell.
fn spells(world: &World, track: &str) -> Vec<&'static str> {
    let of =
        |spell: &str| ["src", "480p", "360p"].into_iter().filter(|t| spell.contains(&format!("/{t}/"))).collect::<Vec<_>>();
    let all = world.playlist(track);
    all.split("#EXT-X-DISCONTINUITY\n").map(|spell| *of(spell).first().unwrap_or(&"")).collect()
}

#[test]
fn a_rung_that_is_left_out_goes_on_with_the_next_lower_ones_segments_and_comes_back() {
    let mut w = world();
    saved(&mut w, 1, true);
    w.publish_from(6, 20, 2000);
    assert_eq!(w.encoder.plan.iter().map(|r| r.name.to_string()).collect::<Vec<_>>(), ["360p"]);
    let status = w.stream.status(None, None, w.now());
    assert_eq!((status.shed.step, status.shed.rungs), ("rungs", vec!["480p".to_owned()]));
    saved(&mut w, 0, false);
    w.publish_from(20, 34, 2000);
    w.wait(1);
    assert_eq!(spells(&w, "480p"), ["480p", "360p", "480p"], "{}", w.playlist("480p"));
    assert_eq!(spells(&w, "360p"), ["360p"; 3]);
    assert_eq!(spells(&w, "src"), ["src"; 3], "the source is never touched");
    for track in TRACKS {
        assert_eq!((w.gaps(track), w.discontinuities(track).len()), (0, 2), "{track}: {}", w.playlist(track));
    }
    assert!(w.refused.is_none() && w.encoder.starts == 3, "{}", w.encoder.starts);
}

#[test]
fn without_any_encoded_rung_all_viewers_get_the_source() {
    let mut w = world();
    saved(&mut w, 2, true);
    w.publish_from(6, 20, 2000);
    w.wait(1);
    assert_eq!(spells(&w, "480p"), ["480p", "src"], "{}", w.playlist("480p"));
    assert_eq!(spells(&w, "360p"), ["360p", "src"]);
    assert!(w.encoder.plan.is_empty() || w.encoder.dead, "no encoder runs");
    for track in TRACKS {
        assert_eq!((w.gaps(track), w.discontinuities(track).len()), (0, 1), "{track}: {}", w.playlist(track));
    }
}

#[test]
fn a_stream_that_begins_without_a_rung_announces_it_all_the_same() {
    let mut w = World::new(setup());
    saved(&mut w, 1, true);
    w.configs();
    w.publish(12, 2000);
    w.wait(1);
    let index = &w.manifests[&ObjectKey::parse("live/local/demo/index.m3u8").unwrap()];
    assert!(index.contains("480p.m3u8") && index.contains("360p.m3u8"), "{index}");
    assert_eq!(spells(&w, "480p"), ["360p"], "{}", w.playlist("480p"));
    assert_eq!((w.encoder.starts, w.gaps("480p")), (1, 0));
    assert_eq!(w.stream.demand().map(|d| d.rungs.len()), Some(2), "what it would take whole");
}

#[test]
fn what_is_taken_back_before_it_took_effect_changes_nothing() {
    let mut w = world();
    saved(&mut w, 1, true);
    saved(&mut w, 0, false);
    w.publish_from(6, 14, 2000);
    w.wait(1);
    assert_eq!(w.encoder.plan.len(), 2);
    assert_eq!((w.encoder.starts, w.discontinuities("src")), (1, vec![]));
    assert_eq!(w.gaps("480p"), 0);
}
