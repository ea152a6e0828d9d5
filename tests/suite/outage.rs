//! The store is away, slow, refuses, breaks, lies: afterwards everything that was made is in the bucket, byte for byte, and no playlist ever named
//! what was not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::fault_proxy::{FaultProxy, Mode};
use crate::harness::players;
use crate::harness::publisher::Publisher;
use crate::harness::s3_server::{BUCKET, CREDENTIALS, Server};
use crate::harness::watch::{Seen, Watch};
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::harness::{beside_others, until};

pub fn worker(proxy: &FaultProxy, more: &[&str]) -> Worker {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), proxy.endpoint());
    let flags = ["--open", "--ladder", SMALL_LADDER, "--set", "reconnect_grace=1", "--set", &store, "--set", &endpoint];
    let environment = [&CREDENTIALS[..], &[("WEIR_LOG", "info,weir::produced=debug")]].concat();
    Worker::start_with(&[&flags[..], more].concat(), &environment)
}

/// A worker that reads the bucket past the proxy, for who watches.
fn onlooker(server: &Server) -> Arc<Worker> {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), server.endpoint());
    Arc::new(Worker::start_with(&["--open", "--ladder", "none", "--set", &store, "--set", &endpoint], &CREDENTIALS))
}

/// What the worker says that it made: key to checksum.
pub fn made(worker: &Worker) -> BTreeMap<String, String> {
    let field = |line: &str, name: &str| {
        let from = line.find(&format!(" {name}="))? + name.len() + 2;
        Some(line[from..].split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let log = worker.log();
    log.iter().filter(|l| l.contains(" DEBUG made ")).map(|l| (field(l, "key").unwrap(), field(l, "crc32").unwrap())).collect()
}

/// Every object that was made is in the bucket as it was made.
pub fn all_there(server: &Server, made: &BTreeMap<String, String>) {
    assert!(made.len() > 6, "{made:?}");
    for (key, sum) in made {
        let (_, _, body) = server.object(key).unwrap_or_else(|| panic!("{key} is not in the bucket"));
        assert_eq!(weir::store::checksum(&body), *sum, "{key}");
    }
}

/// Publishes a clip; from its third segment on the fault is there for `seconds`.
fn through(mode: Mode, seconds: u64, more: &[&str]) -> (Server, Seen, Vec<String>, u32) {
    let clip = Clip { seconds: 10 + u32::try_from(seconds).unwrap(), ..SMALL };
    let file = clip.file();
    let _machine = beside_others();
    let server = Server::start();
    let proxy = FaultProxy::start(server.address);
    let (worker, onlooker) = (worker(&proxy, more), onlooker(&server));
    let watch = Watch::start(&onlooker, "anna");
    let publisher = Publisher::start(&file, &worker, "anna");
    players::segments(&worker, "anna", 3);
    proxy.set(mode);
    let until_segment = 3 + seconds / 2;
    players::segments(&worker, "anna", until_segment);
    proxy.set(Mode::Pass);
    publisher.finish();
    worker.over("anna");
    let seen = watch.finish_sliding();
    all_there(&server, &made(&worker));
    let (log, faults) = (worker.log(), proxy.faults());
    worker.stop();
    (server, seen, log, faults)
}

/// Nothing was skipped and nothing is a gap.
fn whole(seen: &Seen, segments: u64) {
    for (track, media) in &seen.tracks {
        assert!(media.gaps().is_empty(), "{track}: {:?}", media.gaps());
        assert_eq!(media.sequence + media.segments.len() as u64, segments, "{track}");
        let numbers: Vec<u64> = seen.listed.keys().filter(|(t, _)| t == track).map(|(_, n)| *n).collect();
        assert_eq!(numbers, (0..segments).collect::<Vec<_>>(), "{track}");
    }
}

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
fn a_store_that_refuses_every_third_put_costs_nothing() {
    let (_server, seen, _, faults) = through(Mode::Status { code: 503, name: "SlowDown", every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
}

#[test]
fn connections_that_break_and_bytes_that_change_cost_nothing() {
    let (_server, seen, _, faults) = through(Mode::Reset { every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
    let (_server, seen, _, faults) = through(Mode::Corrupt { every: 3 }, 6, &[]);
    assert!(faults > 5, "{faults}");
    whole(&seen, 8);
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
        .args(["run", "--open", "--ladder", "none", "--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
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
    assert!(server.keys("seg/").len() >= there.len());
    b.stop();
}

#[test]
fn a_full_spool_ends_the_stream_with_a_reason_or_goes_on_in_memory() {
    let file = Clip { seconds: 20, kbps: 1500, ..SMALL }.file();
    let _machine = beside_others();
    let server = Server::start();
    for refuse in [true, false] {
        let proxy = FaultProxy::start(server.address);
        let folder = tempfile::tempdir().unwrap();
        let dir = spool(&folder);
        let policy = format!("spool.full={}", if refuse { "refuse" } else { "live-only" });
        let worker = worker(&proxy, &["--spool", &dir, "--set", "spool.limit_mib=1", "--set", &policy]);
        let mut publisher = Publisher::start(&file, &worker, "anna");
        players::segments(&worker, "anna", 2);
        proxy.set(Mode::Down);
        worker.logged("spool is full");
        let mut other = Publisher::start(&file, &worker, "berta");
        worker.logged("the store is behind and the spool is nearly full");
        assert!(!other.outcome().0.success());
        if refuse {
            worker.logged("source refused: nothing more can be kept: spool is full");
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
