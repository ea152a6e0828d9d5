//! A worker that is told to stop, with live streams on it: nothing of them is lost, and another worker goes on with each.

use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::beside_others;
use crate::harness::clip::{Clip, SMALL};
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::outage;
use crate::harness::players;
use crate::harness::publisher::Publisher;
use crate::harness::s3_server::{BUCKET, CREDENTIALS, Server};
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::Worker;

const STREAMS: [&str; 5] = ["anna", "ben", "carl", "dora", "emil"];

fn worker(server: &Server, name: &str) -> Worker {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), server.endpoint());
    let flags = ["--open", "--ladder", "none", "--worker", name, "--set", "reconnect_grace=1"];
    Worker::start_with(&[&flags[..], &["--set", &store, "--set", &endpoint]].concat(), &CREDENTIALS)
}

/// On every track one discontinuity, at the same number, no number left out and no gap.
fn went_on_once(stream: &str, seen: &Seen) {
    let mut at = Vec::new();
    for (name, track) in &seen.tracks {
        assert!(track.gaps().is_empty(), "{stream} {name}: {:?}", track.gaps());
        let listed = || seen.listed.iter().filter(|((t, _), _)| t == name);
        let numbers: Vec<u64> = listed().map(|((_, n), _)| *n).collect();
        assert!(numbers.first() == Some(&0) && numbers.windows(2).all(|n| n[1] == n[0] + 1), "{stream} {name}: {numbers:?}");
        at.push(listed().filter(|(_, s)| s.discontinuity).map(|((_, n), _)| *n).collect::<Vec<_>>());
    }
    assert!(at.len() == 2 && at[0].len() == 1 && at[0] == at[1], "{stream}: {at:?}");
}

#[test]
fn five_streams_are_handed_over_and_each_goes_on_elsewhere() {
    let (first, second) = (Clip { seconds: 60, ..SMALL }.file(), SMALL.file());
    let _machine = beside_others();
    let server = Server::start();
    let (a, b) = (worker(&server, "a"), Arc::new(worker(&server, "b")));
    let watches = STREAMS.map(|stream| Watch::start(&b, stream));
    let mut publishers = STREAMS.map(|stream| Publisher::start(&first, &a, stream));
    STREAMS.iter().for_each(|stream| players::segments(&a, stream, 2));
    let told = Instant::now();
    assert_eq!(a.post("v1/drain?seconds=30"), 202);
    let report: Value = serde_json::from_str(&a.get("v1/capacity").text()).unwrap();
    assert_eq!((&report["state"], &report["drain"]["reason"]), (&"draining".into(), &"control".into()));
    assert!(report["drain"]["deadline_ms"].as_i64() > report["ts_ms"].as_i64(), "{report:#}");
    publishers.iter_mut().for_each(|p| drop(p.outcome()));
    let publishers = STREAMS.map(|stream| Publisher::start(&second, &b, stream));
    let (status, log) = a.ended();
    println!("{:?} from the order to the end of a worker with five streams", told.elapsed());
    assert!(status.success(), "{status}: {log:#?}");
    publishers.into_iter().for_each(Publisher::finish);
    for (stream, watch) in STREAMS.iter().zip(watches) {
        went_on_once(stream, &watch.finish());
    }
    Arc::into_inner(b).unwrap().stop();
}

#[test]
fn a_drain_without_a_deadline_refuses_only_and_one_that_is_none_is_told_so() {
    let _machine = beside_others();
    let worker = Worker::start(&["--ladder", "none"]);
    for wrong in ["0", "86401", "soon"] {
        assert_eq!(worker.post(&format!("v1/drain?seconds={wrong}")), 400, "{wrong}");
    }
    assert_eq!(worker.get("readyz").status, 200);
    assert_eq!(worker.post("v1/drain"), 202);
    assert_eq!(worker.get("readyz").text(), "draining\n");
    assert_eq!(worker.post("v1/drain?seconds=5"), 202);
    let (status, log) = worker.ended();
    assert!(status.success(), "{status}: {log:#?}");
}

/// A store that does not answer: nothing can be written to its end.
fn stuck(spool: &std::path::Path) -> (Server, FaultProxy, Worker, Publisher) {
    let server = Server::start();
    let proxy = FaultProxy::start(server.address);
    let spool = spool.display().to_string();
    let worker = outage::worker(&proxy, &["--spool", &spool, "--set", "drain=600"]);
    let publisher = Publisher::start(&Clip { seconds: 60, ..SMALL }.file(), &worker, "anna");
    players::segments(&worker, "anna", 2);
    proxy.set(Mode::Hang);
    players::segments(&worker, "anna", 4);
    (server, proxy, worker, publisher)
}

#[test]
fn when_the_deadline_is_over_the_rest_stays_in_the_spool_and_the_exit_code_says_so() {
    let _machine = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let (_server, _proxy, worker, _publisher) = stuck(folder.path());
    assert_eq!(worker.post("v1/drain?seconds=2"), 202);
    // Who waits for the order's end may be told to stop once more: that does not cut it short.
    worker.signal(Signal::TERM);
    let (status, log) = worker.ended();
    assert_eq!(status.code(), Some(5), "{log:#?}");
    let last = log.last().unwrap();
    assert!(last.contains("bytes stay in the spool") && !last.contains(" 0 bytes"), "{log:#?}");
    assert!(last.contains("drain deadline"), "{log:#?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let _machine = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let (_server, _proxy, worker, _publisher) = stuck(folder.path());
    worker.signal(Signal::TERM);
    worker.logged("stopping");
    worker.signal(Signal::TERM);
    let (status, log) = worker.ended();
    assert_eq!(status.code(), Some(5), "{log:#?}");
    let last = log.last().unwrap();
    assert!(last.contains("told to stop at once") && last.contains("bytes stay in the spool"), "{log:#?}");
}
