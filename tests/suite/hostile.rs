//! Strangers against a whole worker with a stream on it: each is told off in one line of the log, nothing of theirs stays, and the stream goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::clip::SMALL;
use crate::harness::publisher::Publisher;
use crate::harness::worker::Worker;
use crate::harness::{GUARD, beside_others, until};
use crate::raw_rtmp::{Chunker, VIDEO, VIDEO_CONFIG, hello, number, session, string, video};

/// Rounds of every attack: enough that a leak of a descriptor or of 64 KiB each would show.
const ROUNDS: usize = 40;

/// What the log says of an attack, and its bytes.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let connected = |then: &dyn Fn(&Chunker) -> Vec<u8>| {
        let mut to = Chunker::default();
        let mut bytes = [hello(), vec![0; 1536]].concat();
        bytes.extend(to.set_size(65_536));
        bytes.extend(to.connect("live"));
        bytes.extend(then(&to));
        bytes
    };
    let deep = [string("xyz"), number(1.0), vec![3], b"\x00\x01a\x03".repeat(15_000)].concat();
    let lying_units = [b"\x17\x01\x00\x00\x00".to_vec(), vec![0xff; 2000]].concat();
    vec![
        ("malformed", vec![0x80; 3000]),
        ("malformed", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("left before publishing", hello()[..700].to_vec()),
        ("protocol", connected(&|to| to.command(3, &[&deep]))),
        ("65536 bytes", connected(&|_| [Chunker::header(0, 6, 0, 1 << 20, VIDEO), vec![0; 200_000]].concat())),
        ("cut short", session(4096, "mallory", &[b"\x17\x01\x00".to_vec()])),
        // The session refuses the configuration, or the connection is cut before it comes to that: both end in one line.
        ("connection ended", session(4096, "mallory", &[[b"\x90hvc1".to_vec(), vec![0; 20]].concat()])),
        ("connection ended", session(4096, "mallory", &[VIDEO_CONFIG.to_vec(), lying_units, video(3000, true)])),
    ]
}

/// Sends everything and waits until the other side has closed. Gives the address that it was seen under.
fn attack(worker: &Worker, bytes: &[u8]) -> SocketAddr {
    let mut socket = TcpStream::connect(worker.rtmp).unwrap();
    socket.set_read_timeout(Some(GUARD)).unwrap();
    let peer = socket.local_addr().unwrap();
    // The worker may have had enough before all is written.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut buffer = [0; 4096];
    while socket.read(&mut buffer).is_ok_and(|n| n > 0) {}
    peer
}

fn descriptors(worker: &Worker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).unwrap().count()
}

/// Resident memory in KiB.
fn memory(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn strangers_cost_nobody_anything() {
    let file = SMALL.file();
    let _machine = beside_others();
    let worker = Worker::start(&["--ladder", "none"]);
    let publisher = Publisher::start(&file, &worker, "anna");
    until("the stream", || (worker.stream("anna")?["segments"].as_u64()? >= 1).then_some(()));
    let attacks = attacks();
    // Once for what is allocated once: buffers of the runtime's threads, the folders of the second stream.
    let first: Vec<SocketAddr> = attacks.iter().map(|(_, bytes)| attack(&worker, bytes)).collect();
    for ((told, _), peer) in attacks.iter().zip(&first) {
        let peer = format!("peer={peer}");
        let lines = || worker.log().into_iter().filter(|l| l.split_whitespace().any(|w| w == peer)).collect::<Vec<_>>();
        until("the end of the connection in the log", || lines().iter().any(|l| l.contains(told)).then_some(()));
    }
    until("mallory's end", || worker.stream("mallory").is_none_or(|s| s["state"] == "paused").then_some(()));
    let before = (descriptors(&worker), memory(&worker));
    for _ in 0..ROUNDS {
        for (_, bytes) in &attacks {
            attack(&worker, bytes);
        }
    }
    publisher.finish();
    let anna = worker.stream("anna").expect("alive for the grace of a second");
    assert_eq!((anna["gaps"].as_u64(), anna["discontinuities"].as_u64()), (Some(0), Some(0)), "{anna}");
    until("as many descriptors as before", || (descriptors(&worker) <= before.0).then_some(()));
    let after = memory(&worker);
    // 320 connections at the 64 KiB that a stranger may send would be 20 MiB.
    assert!(after <= before.1 + (8 << 10), "{} KiB, before {} KiB", after, before.1);
    worker.stop();
}
