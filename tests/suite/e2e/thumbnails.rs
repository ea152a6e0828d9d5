//! Thumbnails from a publisher's socket to the store, the status and a viewer.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::publisher::Publisher;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, tools, until};

/// Names of the thumbnails in the store.
fn stored(worker: &Worker) -> BTreeSet<String> {
    let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    let all = worker.stored();
    all.iter().filter(|p| p.to_string_lossy().contains("/thumb/local/anna/")).filter_map(|p| name(p)).collect()
}

/// How many bytes ffmpeg makes of it: 4:2:0, so one and a half for each picture element.
fn decoded(jpeg: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thumbnail.jpg");
    std::fs::write(&path, jpeg).unwrap();
    tools::ffmpeg(["-i", tools::text(&path), "-f", "rawvideo", "-"]).len()
}

#[test]
fn a_live_stream_has_a_thumbnail_that_changes() {
    let file = Clip { seconds: 6, ..SMALL }.file();
    let _machine = beside_others();
    let worker = Worker::start(&["--ladder", SMALL_LADDER, "--set", "thumbnail.every=2"]);
    let publisher = Publisher::start(&file, &worker, "anna");
    let first = until("a thumbnail", || {
        let said = worker.stream("anna")?["thumbnail"].clone();
        said["url"].is_string().then_some(said)
    });
    assert_eq!((&first["width"], &first["height"], &first["reason"]), (&320.into(), &180.into(), &serde_json::Value::Null));
    let url = first["url"].as_str().unwrap().trim_start_matches('/').to_owned();
    assert_eq!(url, "thumb/local/anna/latest.jpg");
    let latest = worker.get(&url);
    assert_eq!((latest.status, decoded(&latest.body)), (200, 320 * 180 * 3 / 2));
    let later = until("another one", || {
        let said = worker.stream("anna")?["thumbnail"].clone();
        (said["at"] != first["at"]).then_some(said)
    });
    assert!(later["at"].as_str() > first["at"].as_str(), "{first} {later}");
    publisher.finish();
    worker.over("anna");

    let names = stored(&worker);
    // One at the beginning, then one in two seconds; the last picture comes 33 ms before the fourth would be due.
    let mut own: Vec<i64> = names.iter().filter_map(|n| n.strip_suffix(".jpg")?.parse().ok()).collect();
    own.sort_unstable();
    assert_eq!((own.len(), names.len()), (3, 4), "{names:?}");
    assert!(names.contains("latest.jpg"), "it stays");
    // Dates are set once tracks are known, which is behind the first picture; what is nearer than half of what was asked for is left out.
    assert!(own.windows(2).all(|pair| pair[1] - pair[0] > 1000), "{own:?}");
    let newest = worker.get(&format!("thumb/local/anna/{}.jpg", own[2]));
    assert_eq!(worker.get(&url).body, newest.body, "the latest is the newest");
    worker.stop();
}

#[test]
fn a_worker_that_decodes_nothing_says_why_there_is_none() {
    let file = Clip { seconds: 2, ..SMALL }.file();
    let _machine = beside_others();
    let worker = Worker::start(&["--ladder", "none"]);
    let publisher = Publisher::start(&file, &worker, "anna");
    let said = until("the stream", || {
        let stream = worker.stream("anna")?;
        (stream["state"] == "live").then(|| stream["thumbnail"].clone())
    });
    assert!(said["url"].is_null() && said["reason"].as_str().unwrap().contains("passed through only"), "{said}");
    publisher.finish();
    worker.over("anna");
    assert!(stored(&worker).is_empty());
    worker.stop();
}
