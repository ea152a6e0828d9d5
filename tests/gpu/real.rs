//! NVIDIA's own libraries on a machine without a device, whole and with each one missing: nothing panics, and `auto` goes on in software.

use std::process::Command;
use std::sync::Arc;

use crate::harness::alone;
use crate::harness::clip::SMALL;
use crate::harness::publisher::Publisher;
use crate::harness::tools;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::worker::{SMALL_LADDER, Worker};
use crate::nvidia::{Libraries, Library};
use crate::nvrtc::Nvrtc;

/// Every set of libraries that a test goes through, with its name.
fn sets() -> Vec<(String, Libraries)> {
    let mut sets = vec![("all of them".to_owned(), Libraries::all()), ("none of them".to_owned(), Libraries::of(&[]))];
    sets.extend(Library::ALL.into_iter().map(|l| (format!("all but {l}"), Libraries::without(l))));
    sets
}

/// The run of a program of ours to its end, with what it said.
fn run(program: &str, arguments: &[&str], libraries: &Libraries) -> (bool, String, String) {
    let done = tools::run(Command::new(program).args(arguments).envs(libraries.environment()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn the_compiler_is_the_one_of_the_image() {
    assert_eq!(Nvrtc::open().version(), (12, 4));
}

/// A kernel for the A10G's architecture, compiled here: what is missing is only the device.
#[test]
fn the_compiler_compiles_for_an_a10g_without_one() {
    let source = "extern \"C\" __global__ void twice(int *n) { n[threadIdx.x] *= 2; }";
    let nvrtc = Nvrtc::open();
    let made = nvrtc.compile(source, &["--gpu-architecture=compute_86".into()]);
    assert!(made.status == 0 && made.ptx.contains(".target sm_86") && made.ptx.contains(".entry twice("), "{made:?}");
    let made = nvrtc.compile(source, &["--gpu-architecture=sm_86".into()]);
    assert!(made.status == 0 && made.cubin.starts_with(b"\x7fELF"), "{made:?}");
    let refused = nvrtc.compile("__global__ void wrong(", &[]);
    assert!(refused.status != 0 && refused.log.contains("error"), "{refused:?}");
}

#[test]
fn a_probe_says_what_it_found_and_does_not_panic() {
    for (name, libraries) in sets() {
        let (good, said, complaints) = run(env!("CARGO_BIN_EXE_weir"), &["probe"], &libraries);
        assert!(good && !complaints.contains("panicked"), "{name}: {said}{complaints}");
        assert!(said.contains("GStreamer 1.26") && said.contains("encoder: software ("), "{name}: {said}{complaints}");
    }
}

#[test]
fn a_worker_serves_in_software_whichever_library_is_missing() {
    let file = SMALL.file();
    let _machine = alone();
    // Together: each waits for its publisher most of the time.
    let running: Vec<_> = sets()
        .into_iter()
        .map(|(name, libraries)| {
            let flags = ["--open", "--set", "reconnect_grace=1", "--ladder", SMALL_LADDER];
            let worker = Arc::new(Worker::start_with(&flags, &libraries.environment()));
            let watch = Watch::start(&worker, "anna");
            let publisher = Publisher::start(&file, &worker, "anna");
            (name, libraries, worker, watch, publisher)
        })
        .collect();
    for (name, _libraries, worker, watch, publisher) in running {
        publisher.finish();
        let seen = watch.finish();
        let worker = Arc::into_inner(worker).expect("the watch is over");
        let log = worker.log();
        assert!(!log.iter().any(|l| l.contains("panicked")), "{name}: {log:#?}");
        worker.stop();
        assert_eq!(seen.rungs(), ["src", "240p"], "{name}: {log:#?}");
        for track in seen.rungs() {
            assert_eq!(Track::of(&seen, track).times().len(), SMALL.frames(), "{name}: {track}");
        }
    }
}
