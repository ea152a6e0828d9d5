//! RTMPS and the move of publishers on a whole worker: certificate, log, metrics, `weir check`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustls::version::TLS13;

use crate::harness::clip::SMALL;
use crate::harness::publisher::Publisher;
use crate::harness::worker::Worker;
use crate::harness::{GUARD, beside_others, tools, until};
use crate::raw_rtmp::{self, AUDIO, AUDIO_CONFIG, audio, hello};
use crate::tls_client::Pair;

/// A worker with a second listener, and that one's address.
pub fn start(pair: &Pair, folder: &std::path::Path, flags: &[&str]) -> (Worker, SocketAddr) {
    let (certificate, key) = pair.write(folder);
    let (certificate, key) = (format!("tls.certificate={}", certificate.display()), format!("tls.key={}", key.display()));
    let own = ["--ladder", "none", "--rtmps", "127.0.0.1:0", "--set", &certificate, "--set", &key];
    let worker = Worker::start(&[&own[..], flags].concat());
    let (_, listening) = worker.logged("listening");
    let rtmps = listening.split_whitespace().find_map(|w| w.strip_prefix("rtmps=")?.parse().ok()).unwrap();
    (worker, rtmps)
}

fn signal(worker: &Worker, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(worker.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Sends this and waits for the other side's end. Gives the address that it was seen under.
fn knock(door: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(door).unwrap();
    socket.set_read_timeout(Some(GUARD)).unwrap();
    let peer = format!("peer={}", socket.local_addr().unwrap());
    let _ = socket.write_all(bytes);
    let _ = socket.read_to_end(&mut Vec::new());
    peer
}

#[test]
fn a_stream_over_tls_outlives_its_certificate() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), Pair::new(), Pair::new());
    let file = SMALL.file();
    let _machine = beside_others();
    let (worker, rtmps) = start(&old, folder.path(), &[]);
    let url = format!("rtmps://{rtmps}/live/anna");
    let publisher = Publisher::run_to(&["-re", "-i", tools::text(&file)], &["-c", "copy"], &url);
    until("the stream", || (worker.stream("anna")?["segments"].as_u64()? >= 1).then_some(()));

    // A file that is not there yet: the old pair stays.
    let key = folder.path().join("key.pem");
    std::fs::rename(&key, folder.path().join("gone.pem")).unwrap();
    signal(&worker, Signal::HUP);
    assert!(worker.logged("the old one stays").1.contains("key.pem"));
    new.write(folder.path());
    signal(&worker, Signal::HUP);
    worker.logged("new certificate: for localhost, valid until");
    runtime().block_on(async {
        new.dial(rtmps, &TLS13).await.unwrap();
        old.dial(rtmps, &TLS13).await.unwrap_err();
    });

    for (door, bytes, told) in [
        (rtmps, &hello()[..], "must begin with rtmps://"),
        (rtmps, b"GET / HTTP/1.1\r\n\r\n", "not TLS: the first byte is 0x47"),
        (worker.rtmp, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS on the RTMP listener"),
        (worker.rtmp, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "not in proxy_protocol_from"),
    ] {
        let peer = knock(door, bytes);
        let lines = || worker.log().into_iter().filter(|l| l.split_whitespace().any(|w| w == peer)).collect::<Vec<_>>();
        until("the end of the connection in the log", || (!lines().is_empty()).then_some(()));
        assert!(lines().len() == 1 && lines()[0].contains(told), "{told:?}: {:?}", lines());
    }
    publisher.finish();
    let anna = worker.stream("anna").expect("alive for the grace of a second");
    assert_eq!((anna["gaps"].as_u64(), anna["discontinuities"].as_u64()), (Some(0), Some(0)), "{anna}");
    let metrics = worker.get("metrics").text();
    for sample in [
        "weir_tls_handshakes_total{result=\"done\"} 2",
        "weir_tls_handshakes_total{result=\"failed\"} 1",
        "weir_tls_handshakes_total{result=\"not_tls\"} 2",
        "weir_tls_certificate_reloads_total{result=\"taken\"} 1",
        "weir_tls_certificate_expiry_timestamp_seconds 6",
        "weir_rtmp_connections_ended_total{cause=\"proxy\"} 1",
    ] {
        assert!(metrics.contains(sample), "{sample}: {metrics}");
    }
    let about: serde_json::Value = serde_json::from_str(&worker.get("v1/worker").text()).unwrap();
    assert_eq!(about["rtmp"][1], format!("rtmps://{rtmps}/live"));
    worker.stop();
}

#[test]
fn check_holds_key_and_certificate_against_each_other() {
    let (folder, one, other) = (tempfile::tempdir().unwrap(), Pair::new(), Pair::new());
    let check = || {
        let done = Command::new(env!("CARGO_BIN_EXE_weir"))
            .current_dir(folder.path())
            .args(["check", "--open", "--rtmps", "127.0.0.1:1936"])
            .args(["--set", "tls.certificate=cert.pem", "--set", "tls.key=key.pem"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.code(), said)
    };
    let (_, key) = one.write(folder.path());
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("certificate for localhost, valid until 4096-01-01"), "{said}");
    std::fs::write(&key, &other.key).unwrap();
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("the key is not the certificate's"), "{said}");
    std::fs::remove_file(&key).unwrap();
    let (code, said) = check();
    assert!(code == Some(2) && said.contains("key.pem: No such file"), "{said}");
}

/// A publisher that knows Enhanced RTMP, with these capabilities, whose media come.
async fn publisher(worker: &Worker, key: &str, caps: f64) -> raw_rtmp::Publisher<tokio::net::TcpStream> {
    let mut publisher = raw_rtmp::Publisher::new(tokio::net::TcpStream::connect(worker.rtmp).await.unwrap());
    publisher.connect_enhanced("live", caps).await;
    let bytes = publisher.to.publish(key);
    publisher.send(&bytes).await;
    publisher.until("NetStream.Publish.Start").await;
    publisher.message(0, 4, 0, AUDIO, AUDIO_CONFIG).await;
    publisher
}

#[test]
fn publishers_that_can_move_are_asked_to_and_all_others_are_disconnected() {
    let _machine = beside_others();
    let worker = Worker::start(&["--ladder", "none", "--set", "drain=60", "--set", "move_to=rtmps://b.example/live"]);
    runtime().block_on(async {
        let (mut anna, mut berta) = (publisher(&worker, "anna", 1.0).await, publisher(&worker, "berta", 0.0).await);
        anna.message(0, 4, 0, AUDIO, &audio(8)).await;
        until("both sessions", || worker.stream("anna").and(worker.stream("berta")));
        signal(&worker, Signal::TERM);
        berta.until("worker is shutting down").await;
        assert!(!berta.has_heard("ReconnectRequest"));
        anna.until("rtmps://b.example/live").await;
        assert!(anna.has_heard("NetConnection.Connect.ReconnectRequest"));
        // It is served until it goes, and nothing else is said to it.
        anna.message(0, 4, 23, AUDIO, &audio(8)).await;
        let bytes = anna.to.goodbye("anna");
        anna.send(&bytes).await;
        anna.until_closed().await.unwrap();
        assert!(!anna.has_heard("shutting down"));
    });
    // Its going ends the wait of half a minute.
    worker.logged("publisher said goodbye");
    let (status, log) = worker.ended();
    assert!(status.success(), "{status}: {log:#?}");
}

#[test]
fn a_publisher_that_does_not_move_is_disconnected_in_time() {
    let _machine = beside_others();
    let worker = Worker::start(&["--ladder", "none", "--set", "drain=4"]);
    runtime().block_on(async {
        let mut anna = publisher(&worker, "anna", 1.0).await;
        signal(&worker, Signal::TERM);
        anna.until("ReconnectRequest").await;
        assert!(!anna.has_heard("tcUrl"), "it is to come again where it is");
        anna.until("worker is shutting down").await;
    });
    let (status, log) = worker.ended();
    assert!(status.success(), "{status}: {log:#?}");
}
