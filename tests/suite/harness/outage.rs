//! A worker behind a [`FaultProxy`], and what must hold when the fault is over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::beside_others;
use super::clip::{Clip, SMALL};
use super::fault_proxy::{FaultProxy, Mode};
use super::players;
use super::publisher::Publisher;
use super::recording::Recording;
use super::s3_server::{BUCKET, CREDENTIALS, Server};
use super::watch::{Seen, Watch};
use super::worker::{SMALL_LADDER, Worker};

pub fn worker(proxy: &FaultProxy, more: &[&str]) -> Worker {
    start(proxy, more, Worker::start_with)
}

/// One with a disk of its own ([`Worker::start_with_disk`]).
pub fn worker_with_disk(proxy: &FaultProxy, disk: &Path, kib: u32, more: &[&str]) -> Worker {
    start(proxy, more, |flags, environment| Worker::start_with_disk(disk, kib, flags, environment))
}

fn start(proxy: &FaultProxy, more: &[&str], by: impl Fn(&[&str], &[(&str, &str)]) -> Worker) -> Worker {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), proxy.endpoint());
    let flags = [
        "--open",
        "--ladder",
        SMALL_LADDER,
        "--set",
        "reconnect_grace=1",
        "--set",
        "record=true",
        "--set",
        &store,
        "--set",
        &endpoint,
    ];
    let environment = [&CREDENTIALS[..], &[("WEIR_LOG", "info,weir::produced=debug")]].concat();
    by(&[&flags[..], more].concat(), &environment)
}

/// A worker on the bucket itself, past the proxy: for who watches, and to go on with what another one left.
pub fn onlooker(server: &Server, ladder: &str) -> Arc<Worker> {
    let (store, endpoint) = (format!("store=s3://{BUCKET}"), server.endpoint());
    let flags = ["--open", "--ladder", ladder, "--set", "reconnect_grace=1", "--set", &store, "--set", &endpoint];
    Arc::new(Worker::start_with(&flags, &CREDENTIALS))
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
pub fn through(mode: Mode, seconds: u64, more: &[&str]) -> (Server, Seen, Vec<String>, u32) {
    let clip = Clip { seconds: 10 + u32::try_from(seconds).unwrap(), ..SMALL };
    let file = clip.file();
    let _machine = beside_others();
    let server = Server::start();
    let proxy = FaultProxy::start(server.address);
    let (worker, onlooker) = (worker(&proxy, more), onlooker(&server, "none"));
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
    let made = made(&worker);
    all_there(&server, &made);
    Recording::of(&server, "anna").holds(&server, &made.into_keys().collect());
    let (log, faults) = (worker.log(), proxy.faults());
    worker.stop();
    (server, seen, log, faults)
}

/// Nothing was skipped and nothing is a gap.
pub fn whole(seen: &Seen, segments: u64) {
    for (track, media) in &seen.tracks {
        assert!(media.gaps().is_empty(), "{track}: {:?}", media.gaps());
        assert_eq!(media.sequence + media.segments.len() as u64, segments, "{track}");
        let numbers: Vec<u64> = seen.listed.keys().filter(|(t, _)| t == track).map(|(_, n)| *n).collect();
        assert_eq!(numbers, (0..segments).collect::<Vec<_>>(), "{track}");
    }
}
