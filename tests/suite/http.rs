//! The worker's HTTP servers from outside: what players, probes and operators rely on.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::harness::publisher::Publisher;
use crate::harness::worker::Worker;
use crate::harness::{GUARD, clip::SMALL};

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).timeout_global(Some(GUARD)).build().into()
}

fn header(answer: &Response<Body>, name: &str) -> String {
    answer.headers().get(name).map(|h| h.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// A worker without streams whose store holds one object of each kind.
fn worker() -> (Worker, Agent) {
    let worker = Worker::start(&["--ladder", "none"]);
    let store = worker.scratch().join("store");
    for (key, body) in [
        ("live/local/anna/index.m3u8", &b"#EXTM3U\n"[..]),
        ("live/local/anna/manifest.mpd", b"<MPD/>"),
        ("seg/lw/0/local/anna/s/1/src/0.m4s", b"0123456789"),
        ("seg/lw/0/local/anna/s/1/src/init-00000000.mp4", b"init"),
        ("thumb/local/anna/latest.jpg", b"latest"),
        ("thumb/local/anna/1764140000123.jpg", b"then"),
    ] {
        let path = store.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    }
    (worker, agent())
}

#[test]
fn objects_have_their_type_their_caching_and_any_origin() {
    let (worker, agent) = worker();
    for (key, kind, caching) in [
        ("live/local/anna/index.m3u8", "application/vnd.apple.mpegurl", "public, max-age=1"),
        ("live/local/anna/manifest.mpd", "application/dash+xml", "public, max-age=1"),
        ("seg/lw/0/local/anna/s/1/src/0.m4s", "video/iso.segment", "public, max-age=31536000, immutable"),
        ("seg/lw/0/local/anna/s/1/src/init-00000000.mp4", "video/mp4", "public, max-age=31536000, immutable"),
        ("thumb/local/anna/latest.jpg", "image/jpeg", "public, max-age=1"),
        ("thumb/local/anna/1764140000123.jpg", "image/jpeg", "public, max-age=31536000, immutable"),
    ] {
        let url = format!("http://{}/{key}", worker.http);
        for answer in [agent.get(&url).call().unwrap(), agent.head(&url).call().unwrap()] {
            assert_eq!(answer.status(), 200, "{key}");
            assert_eq!(header(&answer, "content-type"), kind);
            assert_eq!(header(&answer, "cache-control"), caching);
            assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        }
    }
    let missing = agent.get(format!("http://{}/seg/lw/0/local/anna/s/1/src/9.m4s", worker.http)).call().unwrap();
    assert_eq!((missing.status().as_u16(), header(&missing, "cache-control").as_str()), (404, "no-store"));
}

#[test]
fn a_part_of_an_object_can_be_asked_for() {
    let (worker, agent) = worker();
    let url = format!("http://{}/seg/lw/0/local/anna/s/1/src/0.m4s", worker.http);
    let mut part = agent.get(&url).header("range", "bytes=2-5").call().unwrap();
    assert_eq!((part.status().as_u16(), header(&part, "content-range").as_str()), (206, "bytes 2-5/10"));
    assert_eq!(part.body_mut().read_to_string().unwrap(), "2345");
    assert_eq!(agent.get(&url).header("range", "bytes=10-").call().unwrap().status(), 416);
    let asked = agent.options(&url).header("origin", "http://page").header("access-control-request-method", "GET");
    let asked = asked.header("access-control-request-headers", "range").call().unwrap();
    assert_eq!(asked.status(), 200);
    assert!(["*", "range"].contains(&header(&asked, "access-control-allow-headers").as_str()));
}

#[test]
fn nothing_outside_the_layout_is_served() {
    let (worker, _) = worker();
    fs::write(worker.scratch().join("store/seg/.unfinished-1-1"), b"secret").unwrap();
    fs::write(worker.scratch().join("outside"), b"secret").unwrap();
    // As raw bytes: a client would tidy these paths.
    for path in [
        "/seg/../../outside",
        "/live/../../../outside",
        "/seg/%2e%2e/%2e%2e/outside",
        "/seg/..%2f..%2foutside",
        "/seg//outside",
        "/seg/lw",
        "/live/local/anna/",
        "/ckpt/x",
        "/seg/\u{e4}",
    ] {
        let mut socket = TcpStream::connect(worker.http).unwrap();
        socket.set_read_timeout(Some(GUARD)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 40") && !text.contains("secret"), "{path}: {text}");
    }
}

#[test]
fn probes_facts_and_the_page_answer() {
    let (worker, agent) = worker();
    let text = |path: &str| {
        let mut answer = agent.get(format!("http://{}{path}", worker.http)).call().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.body_mut().read_to_string().unwrap()
    };
    assert_eq!(text("/healthz"), "ok\n");
    assert_eq!(text("/readyz"), "ready\n");
    assert!(text("/metrics").contains("weir_streams 0"));
    assert!(text("/time").ends_with('Z'));
    assert!(text("/").contains("weir.js") && text("/vendor/hls.min.js").len() > 100_000);
    assert_eq!(text("/v1/streams"), r#"{"streams":[]}"#);
    let about: Value = serde_json::from_str(&text("/v1/worker")).unwrap();
    assert_eq!(about["encoder"], "none");
    assert_eq!(about["rtmp"][0], format!("rtmp://{}/live", worker.rtmp));
}

#[test]
fn control_is_on_the_admin_address_only_and_drain_refuses_publishers() {
    let (worker, agent) = worker();
    assert_eq!(agent.post(format!("http://{}/v1/drain", worker.http)).send_empty().unwrap().status(), 404);
    assert_eq!(agent.delete(format!("http://{}/v1/streams/anna", worker.http)).call().unwrap().status(), 405);
    assert_eq!(worker.delete("anna"), 404);
    assert_eq!(agent.post(format!("http://{}/v1/drain", worker.admin)).send_empty().unwrap().status(), 202);
    assert_eq!(worker.get("readyz").status, 503);
    let (status, said) = Publisher::start(&SMALL.file(), &worker, "anna").outcome();
    assert!(!status.success() && said.contains("worker is shutting down"), "{said}");
}
