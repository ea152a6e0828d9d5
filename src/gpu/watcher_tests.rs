//! With shell scripts in the place of the watcher process: each misbehaviour that a driver can cause.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::logic::gpu::{Libraries, Library, Load, Probe};

/// Longer than anything here takes on a busy machine; turns a hang into a failure.
const GUARD: Duration = Duration::from_secs(30);

fn options(folder: &Path, script: &str) -> Options {
    let program = folder.join("watch");
    // Written by another process: a file that a fork of another test has open for writing cannot be run (ETXTBSY).
    let write = ["-ec", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\"; chmod +x \"$0\""];
    assert!(Command::new("sh").args(write).arg(&program).arg(script).status().unwrap().success());
    let deadline = Duration::from_millis(300);
    Options { program, interval: Duration::from_millis(10), reading_deadline: deadline, probe_deadline: GUARD }
}

fn empty() -> Survey {
    let missing = || Library::Missing { reason: String::new() };
    let libraries = Libraries {
        cuda: missing(),
        encode: missing(),
        decode: missing(),
        monitor: missing(),
        compiler: missing(),
        compiler_name: String::new(),
        compiler_version: None,
    };
    let probe = Probe { libraries, driver: None, cuda: None, encode_api: None, cuda_fault: None, devices: Vec::new() };
    Survey { probe, reading: Reading::default() }
}

fn line(temperature: u32) -> String {
    let load = Load { temperature: Some(temperature), ..Load::default() };
    let line = Line::Reading(Reading { monitor_fault: None, devices: vec![load] });
    format!("echo '{}'", serde_json::to_string(&line).unwrap())
}

fn until(watcher: &Watcher, what: impl Fn(&Seen) -> bool) -> Seen {
    let end = Instant::now() + GUARD;
    loop {
        let seen = watcher.seen();
        if what(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "{seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn temperature(seen: &Seen) -> Option<u32> {
    seen.reading.devices.first()?.temperature
}

#[test]
fn a_process_that_hangs_is_replaced_and_its_last_reading_stands() {
    let folder = tempfile::tempdir().unwrap();
    // The first one hangs behind its reading, the second one goes on.
    let script = format!(
        "if mkdir {0}/was 2>/dev/null; then {1}; exec sleep 1000; fi; while :; do {2}; sleep 0.05; done",
        folder.path().display(),
        line(50),
        line(60)
    );
    let watcher = Watcher::start(options(folder.path(), &script), empty()).unwrap();
    let first = until(&watcher, |s| temperature(s) == Some(50));
    let hung = until(&watcher, |s| s.restarts == 1);
    assert_ne!(first.pid, hung.pid);
    let back = until(&watcher, |s| temperature(s) == Some(60));
    assert_eq!((back.trouble, back.restarts), (None, 1));
}

#[test]
fn a_process_that_dies_or_says_nonsense_leaves_the_last_reading_and_a_reason() {
    for (end, reason) in
        [("exit 3", "exit status: 3"), ("echo nonsense; exec sleep 1000", "nonsense"), ("kill -9 $$", "signal: 9")]
    {
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::start(options(folder.path(), &format!("{}; {end}", line(50))), empty()).unwrap();
        let seen = until(&watcher, |s| s.restarts > 1);
        assert_eq!(temperature(&seen), Some(50));
        let trouble = until(&watcher, |s| s.trouble.is_some()).trouble.unwrap();
        assert!(trouble.contains(reason), "{trouble}");
    }
}

#[test]
fn a_probe_that_hangs_names_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let step = serde_json::to_string(&Line::Step("cuInit".into())).unwrap();
    let mut options = options(folder.path(), &format!("echo '{step}'; exec sleep 1000"));
    options.probe_deadline = Duration::from_millis(500);
    let error = survey(&options).unwrap_err();
    assert_eq!(error.to_string(), "the driver hangs: no answer within 0.5 s at cuInit");
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { program: folder.path().join("nothing"), ..options(folder.path(), "") };
    assert!(matches!(survey(&options), Err(Error::Start { .. })));
    let watcher = Watcher::start(options, empty()).unwrap();
    assert!(until(&watcher, |s| s.restarts > 0).trouble.unwrap().contains("cannot start"));
}

#[test]
fn our_environment_stays_here() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("env > {}/env; exit 1", folder.path().display());
    let _ = survey(&options(folder.path(), &script));
    let text = std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(text.contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"), "{text}");
    // cargo sets it for tests; it stands for everything that is not on the list.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !text.contains("CARGO_MANIFEST_DIR"), "{text}");
}
