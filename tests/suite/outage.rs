//! The store is away, slow, refuses, breaks, lies: afterwards everything that was made is in the bucket, byte for byte, and no playlist ever named
//! what was not there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::outage::{all_there, made, through, whole, worker, worker_with_disk};
use crate::harness::players;
use crate::harness::publisher::Publisher;
use crate::harness::recording::Recording;
use crate::harness::s3_server::Server;
use crate::harness::worker::{FREE_PORTS, NO_SRT, Worker};
use crate::harness::{beside_others, until};

#[test]
fn a_store_that_is_away_for_ten_seconds_costs_nothing() {
    let (_server, seen, log, _) = through(Mode::Down, 10, &[]);
    whole(&seen, 10);
    let told = |text: &str| log.iter().filter(|l| l.contains(text)).count();
    assert_eq!((told("the store does not answer"), told("the store answers again")), (1, 1), "one line each: {log:#?}");
}

#[test]
fn a_store_that_never_answers_costs_nothing() {
    let (_server, seen, _, faults) = through(Mode::Hang, 12, &[]);
    assert!(faults > 0);
    whole(&seen, 11);
}

#[test]
fn an_answer_that_is_lost_is_not_taken_for_a_rival() {
    let (_server, seen, log, faults) = through(Mode::LoseAnswer { every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
    assert!(log.iter().all(|l| !l.contains("taken over")), "{log:#?}");
}

/// The flag's value must live as long as the test.
fn spool(folder: &tempfile::TempDir) -> String {
    folder.path().join("spool").display().to_string()
}

#[test]
fn a_worker_that_is_killed_while_the_store_is_away_finishes_its_spool_when_it_is_back() {
    let file = Clip { seconds: 20, ..SMALL }.file();
    let _machine = beside_others();
    let server = Server::start();
    let proxy = FaultProxy::start(server.address);
    let folder = tempfile::tempdir().unwrap();
    let dir = spool(&folder);
    let a = worker(&proxy, &["--worker", "a", "--spool", &dir]);
    let mut publisher = Publisher::start(&file, &a, "anna");
    players::segments(&a, "anna", 2);
    proxy.set(Mode::Down);
    players::segments(&a, "anna", 6);
    // It is locked as long as its worker lives.
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--open", "--ladder", "none"])
        .args(FREE_PORTS)
        .args(NO_SRT)
        .args(["--worker", "a", "--spool", &dir, "--store", &format!("folder:{}", folder.path().display())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{said}");
    assert!(said.contains("is in use by process") && said.contains(&a.pid().to_string()), "{said}");
    let made = made(&a);
    drop(a);
    publisher.outcome();
    let lost = made.keys().filter(|key| server.object(key).is_none()).count();
    assert!(lost > 6, "the outage kept them from the bucket");
    proxy.set(Mode::Pass);
    // Another worker on the same disk, as after a pod was replaced.
    let b = worker(&proxy, &["--worker", "b", "--spool", &dir]);
    b.logged("adopted from the spools of dead workers");
    b.logged("what an earlier run left in the spool is in the store");
    // The last ones were just being written when the worker was killed.
    let there = made.iter().filter(|(key, _)| server.object(key).is_some()).map(|(k, s)| (k.clone(), s.clone())).collect();
    all_there(&server, &there);
    assert!(made.len() - there.len() <= 3, "{made:?} {there:?}");
    // The session goes on there; at its end the recording has what the spool brought.
    Publisher::start(&file, &b, "anna").finish();
    b.over("anna");
    let all: BTreeSet<String> = self::made(&b).into_keys().chain(there.into_keys()).collect();
    let recording = Recording::of(&server, "anna");
    recording.holds(&server, &all);
    assert_eq!(recording.discontinuities("src").len(), 1, "one for each writer but the first");
    b.stop();
}

/// Filled in a few seconds; a segment of 1 s at 1.2 Mbit/s is less than the fifth above the water mark.
const ROOM_KIB: u32 = 1024;

#[test]
fn a_full_spool_ends_the_stream_with_a_reason_or_goes_on_in_memory() {
    full("spool is full: ", |proxy, dir, policy| {
        let limit = format!("spool.limit_mib={}", ROOM_KIB / 1024);
        worker(proxy, &["--spool", &dir.display().to_string(), "--set", &limit, "--set", policy, "--set", "segment_target=1"])
    });
}

#[test]
fn a_full_disk_under_the_spool_ends_the_stream_with_a_reason_or_goes_on_in_memory() {
    full("spool is full: no space is left on the disk", |proxy, dir, policy| {
        worker_with_disk(
            proxy,
            dir,
            ROOM_KIB,
            &["--spool", &dir.display().to_string(), "--set", policy, "--set", "segment_target=1"],
        )
    });
}

fn full(told: &str, start: impl Fn(&FaultProxy, &Path, &str) -> Worker) {
    let file = Clip { seconds: 20, kbps: 1200, gop: 30, ..SMALL }.file();
    let _machine = beside_others();
    let server = Server::start();
    for refuse in [true, false] {
        let proxy = FaultProxy::start(server.address);
        let folder = tempfile::tempdir().unwrap();
        let worker = start(&proxy, folder.path(), &format!("spool.full={}", if refuse { "refuse" } else { "live-only" }));
        let mut publisher = Publisher::start(&file, &worker, "anna");
        players::segments(&worker, "anna", 2);
        proxy.set(Mode::Down);
        worker.logged(told);
        let mut other = Publisher::start(&file, &worker, "berta");
        worker.logged("the store is behind and the spool is nearly full");
        assert!(!other.outcome().0.success());
        if refuse {
            worker.logged(&format!("source refused: nothing more can be kept: {told}"));
            assert!(!publisher.outcome().0.success());
        }
        proxy.set(Mode::Pass);
        if !refuse {
            publisher.finish();
        }
        worker.over("anna");
        let made = made(&worker);
        all_there(&server, &made);
        until("an empty spool", || worker.get("metrics").text().contains("weir_spool_bytes 0\n").then_some(()));
        worker.stop();
    }
}

#[test]
fn a_store_that_is_away_when_a_publisher_comes_says_so() {
    let file = SMALL.file();
    let _machine = beside_others();
    let server = Server::start();
    let proxy = FaultProxy::start(server.address);
    let worker = worker(&proxy, &[]);
    proxy.set(Mode::Down);
    let mut publisher = Publisher::start(&file, &worker, "anna");
    worker.logged("the store does not say who writes the stream");
    let (status, _) = publisher.outcome();
    assert!(!status.success());
    proxy.set(Mode::Pass);
    Publisher::start(&file, &worker, "anna").finish();
    until("the end", || worker.stream("anna").is_none().then_some(()));
    worker.stop();
}
