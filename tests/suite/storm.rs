//! Everybody at once: three hundred publishers within a moment, a third of whom find room. What 1,500 within half a minute are for a region of
//! several workers, five times as fast.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

use crate::harness::worker::Worker;
use crate::harness::{beside_others, until};
use crate::raw_rtmp::{AUDIO, AUDIO_CONFIG, Publisher};
use crate::rtmps;
use crate::tls_client::Pair;

/// Addresses that publishers come from.
const ADDRESSES: u8 = 30;

/// Publishers of each, below the limit for one.
const EACH: u8 = 10;

/// Streams that the worker takes.
const ROOM: usize = 100;

/// Each must have its answer so long after it set out, however many others do.
const ANSWER: Duration = Duration::from_secs(10);

trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// Publishes over either listener, from an address of a network of many. What it was told, and its connection if it was accepted.
async fn publish(key: String, from: SocketAddr, to: SocketAddr, tls: Option<&Pair>) -> Option<Publisher<Box<dyn Bytes>>> {
    let io: Box<dyn Bytes> = match tls {
        Some(pair) => Box::new(pair.dial_from(from, to).await.unwrap()),
        None => {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(from).unwrap();
            Box::new(socket.connect(to).await.unwrap())
        }
    };
    let mut publisher = Publisher::new(io);
    publisher.connect("live").await;
    let bytes = publisher.to.publish(&key);
    publisher.send(&bytes).await;
    publisher.until_any(&["NetStream.Publish.Start", "worker is full"]).await;
    if publisher.has_heard("worker is full") {
        return None;
    }
    publisher.message(0, 4, 0, AUDIO, AUDIO_CONFIG).await;
    Some(publisher)
}

/// All of them at once; the keys of those who were accepted, and their connections.
async fn storm(pair: &'static Pair, rtmp: SocketAddr, rtmps: SocketAddr) -> Vec<(String, Publisher<Box<dyn Bytes>>)> {
    let mut tasks = tokio::task::JoinSet::new();
    for address in 0..ADDRESSES {
        for n in 0..EACH {
            tasks.spawn(async move {
                let key = format!("s{address}-{n}");
                let from = SocketAddr::from(([127, 0, 1, address + 1], 0));
                let (to, tls) = if n % 2 == 0 { (rtmp, None) } else { (rtmps, Some(pair)) };
                let answered = tokio::time::timeout(ANSWER, publish(key.clone(), from, to, tls));
                (key, answered.await.expect("answered in time"))
            });
        }
    }
    let answers = tasks.join_all().await;
    answers.into_iter().filter_map(|(key, publisher)| Some((key, publisher?))).collect()
}

/// Resident memory in KiB.
fn memory(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn everybody_is_answered_when_everybody_comes_back_at_once() {
    let pair: &'static Pair = Box::leak(Box::new(Pair::new()));
    let folder = tempfile::tempdir().unwrap();
    let _machine = beside_others();
    let room = format!("max_streams={ROOM}");
    let (worker, rtmps) = rtmps::start(pair, folder.path(), &["--set", &room, "--set", "drain=60"]);
    let before = memory(&worker);
    let runtime = rtmps::runtime();
    let first = runtime.block_on(storm(pair, worker.rtmp, rtmps));
    assert_eq!(first.len(), ROOM);
    let during = memory(&worker);
    // 300 times the 64 KiB that a stranger may send, and as much again for TLS: 38 MiB.
    assert!(during < before + (38 << 10), "{during} KiB, before {before} KiB");
    let streams: BTreeSet<String> = first.iter().map(|(key, _)| key.clone()).collect();
    // Cut without a goodbye, as by a switch that fails.
    drop(first);
    until("the end of all connections", || {
        let about = worker.get("metrics").text();
        about.contains("weir_rtmp_connections_open 0\n").then_some(())
    });
    let second = runtime.block_on(storm(pair, worker.rtmp, rtmps));
    assert_eq!(second.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>(), streams, "the streams that stand come back");
    let after = memory(&worker);
    assert!(after < during + (8 << 10), "{after} KiB, after the first storm {during} KiB");
    drop(second);
    worker.stop();
}
