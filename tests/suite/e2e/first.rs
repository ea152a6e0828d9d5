//! How long a viewer waits for a stream that has just begun.

use std::time::{Duration, Instant};

use crate::harness::clip::{Clip, SMALL};
use crate::harness::publisher::Publisher;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{alone, manifest, until};

#[test]
fn the_first_playlist_has_a_segment_of_every_track_soon() {
    let file = Clip { seconds: 6, ..SMALL }.file();
    let _machine = alone();
    let worker = Worker::start(&["--ladder", SMALL_LADDER]);
    let publisher = Publisher::start(&file, &worker, "anna");
    let variants = until("the multivariant playlist", || manifest::variants(&worker, "anna"));
    let there = Instant::now();
    for variant in &variants {
        let media = manifest::media(&worker, variant);
        assert_eq!((media.sequence, media.ended), (0, false), "{}", variant.name);
        assert!(media.media().next().is_some_and(|s| s.number == 0), "{}: {media:?}", variant.name);
    }
    assert_eq!(variants.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["src", "240p", "audio"]);
    let (published, _) = worker.logged("publishing");
    let waited = there.duration_since(published);
    println!("first playlist {waited:?} after the publish, {:?} after ffmpeg's start", there.duration_since(publisher.started));
    // 2 s is the first segment itself. What comes on top is ours, and on a quiet machine a tenth of this.
    assert!(waited < Duration::from_secs(6), "{waited:?}");
}
