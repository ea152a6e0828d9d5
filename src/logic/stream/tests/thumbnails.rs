//! Small pictures beside the rungs: ordered of the codec process, checked, named, and never in anybody's way.

use super::*;
use crate::logic::slate;
use crate::logic::thumbnail::tests::jpeg;
use crate::logic::thumbnail::{Settings, Thumbnail};

const SETTINGS: Settings =
    Settings { every: Duration::from_secs(4), short_side: 180, quality: 75, keep: Duration::from_secs(300) };

fn pictured() -> World {
    let mut w = World::new(Setup { thumbnails: SETTINGS, window: MediaTime::from_secs(60), ..setup() });
    w.configs();
    w.publish(2, 2000);
    w
}

/// The codec process gives the picture at a time, of the size that was ordered.
fn give(w: &mut World, at: MediaTime) {
    let ordered = w.encoder.thumbnail.expect("thumbnails are ordered");
    give_bytes(w, at, jpeg(ordered.width as u16, ordered.height as u16));
}

fn give_bytes(w: &mut World, at: MediaTime, bytes: Vec<u8>) {
    let now = w.now();
    w.stream.thumbnail(at, bytes.into(), now);
    w.outputs();
}

/// The store answers what waits there.
fn answer(w: &mut World, ok: bool) -> Vec<Picture> {
    let pictures = std::mem::take(&mut w.pictures);
    pictures.iter().for_each(|_| w.stream.thumbnail_stored(ok));
    w.outputs();
    pictures
}

fn status(w: &World) -> ThumbnailStatus {
    w.stream.status(None, None, w.now()).thumbnail
}

fn dropped(w: &World) -> Vec<(&'static str, u64)> {
    status(w).dropped.into_iter().collect()
}

#[test]
fn the_size_is_ordered_and_pictures_are_stored_under_two_names() {
    let mut w = pictured();
    let ordered = Thumbnail { width: 320, height: 180, quality: 75, every: MediaTime::from_secs(4) };
    assert_eq!(w.encoder.thumbnail, Some(ordered));
    assert_eq!((status(&w).url, status(&w).reason), (None, None));
    w.publish_from(2, 2, 2000);
    let mut names = Vec::new();
    for second in [0, 1, 2] {
        give(&mut w, MediaTime::from_millis(second * 1333));
        names.extend(answer(&mut w, true));
    }
    // What comes sooner than half of what was ordered was shown before.
    let own: Vec<String> = names.iter().map(|p| p.own.as_ref().unwrap().to_string()).collect();
    assert_eq!(own, [format!("thumb/local/demo/{START}.jpg"), format!("thumb/local/demo/{}.jpg", START + 2666)]);
    assert!(names.iter().all(|p| p.latest.as_str() == "thumb/local/demo/latest.jpg" && p.jpeg == jpeg(320, 180)));
    assert_eq!(dropped(&w), [("early", 1)]);
    let said = status(&w);
    assert_eq!((said.url.as_deref(), said.published), (Some("/thumb/local/demo/latest.jpg"), 2));
    assert_eq!((said.at.unwrap(), said.width, said.height), (UnixMillis(START + 2666).to_string(), Some(320), Some(180)));
    // They go by themselves, however the session ends.
    let gone: Vec<_> = w.deleted.iter().filter(|(_, keys)| keys[0].as_str().starts_with("thumb/")).collect();
    assert_eq!(gone.iter().map(|(_, keys)| keys[0].to_string()).collect::<Vec<_>>(), own);
    assert!(gone.iter().all(|(after, _)| *after == SETTINGS.keep + UPLOAD_DEADLINE));
}

#[test]
fn one_is_on_its_way_at_the_most_and_none_is_tried_again() {
    let mut w = pictured();
    w.publish_from(2, 2, 2000);
    give(&mut w, MediaTime::ZERO);
    give(&mut w, MediaTime::from_millis(3000));
    assert_eq!((w.pictures.len(), dropped(&w)), (1, vec![("busy", 1)]));
    answer(&mut w, false);
    assert!(w.pictures.is_empty());
    assert_eq!((status(&w).url, dropped(&w)), (None, vec![("busy", 1), ("store_failed", 1)]));
    give(&mut w, MediaTime::from_millis(3500));
    assert_eq!(answer(&mut w, true).len(), 1);
    assert_eq!(status(&w).published, 1);
}

#[test]
fn a_store_that_is_away_gets_none_and_media_do_not_wait_for_them() {
    let mut w = pictured();
    give(&mut w, MediaTime::ZERO);
    // This one is answered late.
    w.publish_from(2, 6, 2000);
    assert!(w.playlist("src").contains("#EXTINF"), "playlists go on");
    answer(&mut w, true);
    w.down = true;
    w.publish_from(8, 8, 2000);
    give(&mut w, MediaTime::from_secs(9));
    assert!(w.pictures.is_empty());
    assert_eq!(dropped(&w), [("store_away", 1)]);
    assert_eq!(status(&w).at.unwrap(), UnixMillis(START).to_string(), "what is in the store is what is said");
}

#[test]
fn a_codec_process_that_gives_something_else_is_ended() {
    type Lie = (&'static str, fn(&mut World));
    let lies: [Lie; 4] = [
        ("a page", |w| give_bytes(w, MediaTime::ZERO, b"<html><script>".to_vec())),
        ("another size", |w| give_bytes(w, MediaTime::ZERO, jpeg(640, 360))),
        ("too much", |w| give_bytes(w, MediaTime::ZERO, vec![0xff; thumbnail::MAX_BYTES + 1])),
        ("a picture that it was not given", |w| give(w, MediaTime::from_secs(100))),
    ];
    for (lie, tell) in lies {
        let mut w = pictured();
        let starts = w.encoder.starts;
        tell(&mut w);
        assert!(w.pictures.is_empty(), "{lie}");
        assert!(w.notes.iter().any(|n| n.contains("codec process lost: gave a thumbnail")), "{lie}: {:?}", w.notes);
        assert_eq!(w.encoder.starts, starts + 1, "{lie}: another one takes its place");
    }
    let mut w = World::new(setup());
    w.configs();
    w.publish(2, 2000);
    give_bytes(&mut w, MediaTime::ZERO, jpeg(320, 180));
    assert!(w.notes.iter().any(|n| n.contains("not asked for")), "thumbnails are off: {:?}", w.notes);
}

#[test]
fn a_process_that_begins_anew_does_not_show_again_what_was_shown() {
    let mut w = pictured();
    w.publish_from(2, 2, 2000);
    give(&mut w, MediaTime::from_millis(3000));
    assert_eq!(answer(&mut w, true).len(), 1);
    let now = w.now();
    w.stream.codec_lost("killed", now);
    w.outputs();
    // It is fed from an IDR on that lies before.
    give(&mut w, MediaTime::from_millis(2000));
    assert!(w.pictures.is_empty());
    w.publish_from(4, 2, 2000);
    give(&mut w, MediaTime::from_millis(5500));
    assert_eq!(answer(&mut w, true).len(), 1);
}

#[test]
fn no_picture_is_taken_of_the_slate() {
    let mut w = World::new(Setup {
        slate: Some(slate::tests::clip(false)),
        thumbnails: SETTINGS,
        window: MediaTime::from_secs(120),
        ..setup()
    });
    w.configs();
    w.publish(4, 2000);
    assert!(w.encoder.thumbnail.is_some());
    w.packet(Packet::Unpublish);
    for _ in 0..300 {
        w.ms += 20;
        w.timers();
        w.encode();
        w.store();
    }
    assert!(w.stream.status(None, None, w.now()).slate);
    assert!(!w.encoder.plan.is_empty(), "it is encoded");
    assert_eq!(w.encoder.thumbnail, None);
}

#[test]
fn another_writers_picture_is_left_alone() {
    let mut w = pictured();
    let now = w.now();
    w.stream.fenced(now);
    w.outputs();
    give_bytes(&mut w, MediaTime::ZERO, jpeg(320, 180));
    assert!(w.pictures.is_empty());
}

#[test]
fn the_status_says_why_there_are_none() {
    let reason = |setup: Setup| {
        let mut w = World::new(setup);
        w.configs();
        w.publish(4, 2000);
        assert!(w.encoder.thumbnail.is_none());
        status(&w).reason
    };
    assert_eq!(reason(setup()), Some("thumbnails are off"));
    let timeline = timeline::Policy { can_encode: false, ..timeline::Policy::default() };
    let passed = reason(Setup { thumbnails: SETTINGS, timeline, ..setup() });
    assert_eq!(passed, Some("nothing is decoded here: the source is passed through only"));
}

#[test]
fn only_the_latest_is_there_where_none_is_kept() {
    let mut w = World::new(Setup { thumbnails: Settings { keep: Duration::ZERO, ..SETTINGS }, ..setup() });
    w.configs();
    w.publish(2, 2000);
    give(&mut w, MediaTime::ZERO);
    let stored = answer(&mut w, true);
    assert_eq!((stored.len(), &stored[0].own), (1, &None));
    assert!(w.deleted.is_empty());
}
