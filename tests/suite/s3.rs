//! The same stream with a bucket as store: an S3 server that shares no code with Weir's SDK, the worker's own addresses, and the bucket itself.

use std::process::Command;

use crate::harness::beside_others;
use crate::harness::clip::SMALL;
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::publisher::Publisher;
use crate::harness::s3_server::{BUCKET, CREDENTIALS, Server};
use crate::harness::worker::{FREE_PORTS, NO_SRT, Worker};

const PREFIX: &str = "some/prefix";

/// The segments and init segments that a media playlist names, as keys.
fn named(playlist: &str) -> Vec<String> {
    playlist
        .lines()
        .map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"").map_or(line, |l| l.trim_end_matches('"')))
        .filter_map(|address| address.strip_prefix("../../../").map(str::to_owned))
        .collect()
}

#[test]
fn a_stream_in_a_bucket_plays_by_the_workers_addresses() {
    let file = SMALL.file();
    let _machine = beside_others();
    let server = Server::start();
    let (store, endpoint) = (format!("store=s3://{BUCKET}/{PREFIX}"), format!("s3_endpoint=http://{}", server.address));
    let flags = ["--open", "--set", "reconnect_grace=1", "--set", &store, "--set", &endpoint];
    let worker = Worker::start_with(&flags, &CREDENTIALS);
    Publisher::start(&file, &worker, "anna").finish();
    worker.over("anna");

    let index = worker.get("live/local/anna/index.m3u8");
    assert_eq!(index.status, 200);
    let index = index.text();
    let tracks: Vec<&str> = index.lines().filter(|l| l.ends_with(".m3u8") && !l.starts_with('#')).collect();
    assert_eq!(tracks.len(), 2, "the source and one rung: {index}");
    for track in tracks.into_iter().chain(["audio.m3u8"]) {
        let playlist = worker.get(&format!("live/local/anna/{track}")).text();
        assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
        let keys = named(&playlist);
        assert_eq!(
            keys.len() as u32,
            1 + SMALL.frames() as u32 / SMALL.gop,
            "an init segment, and one for each GOP: {playlist}"
        );
        for key in keys {
            let (kind, caching, body) =
                server.object(&format!("{PREFIX}/{key}")).unwrap_or_else(|| panic!("{key} is not in the bucket"));
            assert_eq!(kind, if key.ends_with(".mp4") { "video/mp4" } else { "video/iso.segment" });
            assert_eq!(caching, "public, max-age=31536000, immutable");
            assert_eq!(worker.get(&key).body, body, "{key} by the worker");
        }
    }
    let (kind, caching, _) = server.object("some/prefix/live/local/anna/manifest.mpd").unwrap();
    assert_eq!((kind.as_str(), caching.as_str()), ("application/dash+xml", "public, max-age=1"));
    let (kind, caching, body) = server.object("some/prefix/thumb/local/anna/latest.jpg").expect("a thumbnail in the bucket");
    assert_eq!((kind.as_str(), caching.as_str()), ("image/jpeg", "public, max-age=1"));
    assert_eq!(worker.get("thumb/local/anna/latest.jpg").body, body, "and by the worker");
    assert_eq!(worker.get("seg/lw/0/local/anna/no/1/src/0.m4s").status, 404);
    let metrics = worker.get("metrics").text();
    assert!(metrics.contains("weir_store_operations_total{operation=\"put\",result=\"ok\"}"), "{metrics}");
    assert!(!metrics.contains("operation=\"swap\",result=\"server_error\""), "{metrics}");
    assert!(worker.log().iter().all(|l| !l.contains("hush-hush")));
    worker.stop();
}

/// Two workers on such a store would write one playlist, each over the other's.
#[test]
fn a_store_that_ignores_conditions_is_refused_unless_that_is_wanted() {
    let server = Server::start();
    let proxy = FaultProxy::start(server.address);
    for (header, told) in [("if-match", "ignores If-Match"), ("if-none-match", "ignores If-None-Match")] {
        proxy.set(Mode::Ignore { header });
        let state = tempfile::tempdir().unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--open", "--ladder", "none"])
            .args(FREE_PORTS)
            .args(NO_SRT)
            .args(["--store", &format!("s3://{BUCKET}"), "--s3-endpoint", &format!("http://{}", proxy.address)])
            .arg("--state-dir")
            .arg(state.path())
            .envs(CREDENTIALS)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(4), "{said}");
        assert!(said.contains(told), "{said}");
    }
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), proxy.endpoint());
    let flags = ["--open", "--ladder", "none", "--set", "unfenced_store=true", "--set", &store, "--set", &endpoint];
    let worker = Worker::start_with(&flags, &CREDENTIALS);
    let facts: serde_json::Value = serde_json::from_slice(&worker.get("v1/worker").body).unwrap();
    assert!(facts["store"]["unfenced"].as_str().unwrap().contains("If-None-Match"), "{facts}");
    worker.stop();
    assert!(server.keys("ckpt/probe/").is_empty(), "the trial leaves nothing behind");
}

#[test]
fn a_bucket_that_is_not_there_is_said_at_once() {
    let server = Server::start();
    let state = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--open", "--ladder", "none"])
        .args(FREE_PORTS)
        .args(NO_SRT)
        .args(["--store", "s3://no-such-bucket", "--s3-endpoint", &format!("http://{}", server.address)])
        .arg("--state-dir")
        .arg(state.path())
        .envs(CREDENTIALS)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(4), "{said}");
    assert!(said.contains("s3://no-such-bucket") && said.contains("NoSuchBucket"), "{said}");
}
