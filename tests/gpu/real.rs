//! NVIDIA's own libraries on a machine without a device, whole and with each one missing: nothing panics, and `auto` goes on in software.

use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::faults::stage::{self, LADDER, RUNG};
use crate::harness::beside_others;
use crate::harness::clip::Clip;
use crate::harness::publisher::Publisher;
use crate::harness::tools;
use crate::harness::track::Track;
use crate::harness::watch::Watch;
use crate::harness::worker::{FREE_PORTS, NO_SRT, Worker};
use crate::nvidia::{Libraries, Library};
use crate::nvrtc::Nvrtc;

/// A set of libraries that programs see, and what is to be said of it.
struct Case {
    name: String,
    libraries: Libraries,
    missing: Vec<Library>,
}

impl Case {
    fn new(missing: &[Library]) -> Self {
        let there: Vec<_> = Library::ALL.into_iter().filter(|l| !missing.contains(l)).collect();
        Self { name: format!("without {missing:?}"), libraries: Libraries::of(&there), missing: missing.to_owned() }
    }

    /// A driver and no device; no driver; and a driver with one part missing at a time, as containers and broken installations have it.
    fn all() -> Vec<Self> {
        let alone = Library::ALL.iter().map(std::slice::from_ref);
        [&[][..], &Library::ALL[..]].into_iter().chain(alone).map(Self::new).collect()
    }

    /// The sentence with the cure for what an operator has to mend first. Without a device the rest does not matter yet.
    fn cure(&self) -> [&'static str; 2] {
        if self.missing.contains(&Library::Cuda) {
            ["there is no NVIDIA driver: libcuda.so.1 is not found.", "Install the driver on the host"]
        } else {
            [
                "there is a driver and no GPU for this process (cuInit: CUDA_ERROR_NO_DEVICE (100)).",
                "run nvidia-smi on the host",
            ]
        }
    }

    /// Runs weir to its end.
    fn weir(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let done = tools::run(command.args(arguments).envs(self.libraries.environment()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let done = Done { code: done.status.code(), said: text(&done.stdout), complaints: text(&done.stderr) };
        assert!(!done.complaints.contains("panicked"), "{}: {done:?}", self.name);
        done
    }
}

/// How a run ended.
#[derive(Debug)]
struct Done {
    /// `None`: by a signal.
    code: Option<i32>,
    said: String,
    complaints: String,
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
fn a_probe_names_each_library_and_the_cure() {
    for case in Case::all() {
        let done = case.weir(&["probe"]);
        let Case { name, missing, .. } = &case;
        assert_eq!(done.code, Some(0), "{name}: {done:?}");
        for library in Library::ALL {
            let line = done.said.lines().find(|l| l.trim_start().starts_with(library.name()));
            let state = line.and_then(|l| l.split_once(library.name())).map(|(_, state)| state.trim().to_owned());
            let expected = match library {
                _ if missing.contains(&library) => "missing",
                // It is linked to NVDEC's.
                Library::Encode if missing.contains(&Library::Cuvid) => "cannot be used: libnvcuvid.so.1: cannot open",
                _ => "loaded",
            };
            assert!(state.is_some_and(|s| s.starts_with(expected)), "{name}: {library}: {}", done.said);
        }
        let encoder = done.said.lines().last().unwrap_or_default();
        assert!(encoder.starts_with("encoder: software (x264, because "), "{name}: {encoder}");
        assert!(case.cure().iter().all(|words| encoder.contains(words)), "{name}: {encoder}");
    }
}

/// What NVENC's own library says of its version, read as the bindings read it.
#[test]
fn a_probe_reads_the_versions_of_driver_550() {
    let Done { said, .. } = Case::new(&[]).weir(&["probe", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let probe = &said["gpu"]["probe"];
    let version = |of: &Value| (of["major"].as_u64(), of["minor"].as_u64());
    assert_eq!(version(&probe["encode_api"]), (Some(12), Some(2)), "{said:#}");
    assert_eq!(version(&probe["cuda"]), (Some(12), Some(4)), "{said:#}");
    assert_eq!(version(&probe["libraries"]["compiler_version"]), (Some(12), Some(4)), "{said:#}");
    assert_eq!(probe["devices"].as_array().map(Vec::len), Some(0), "{said:#}");
}

/// Never software where NVENC was asked for.
#[test]
fn a_worker_that_must_use_nvenc_ends_with_the_cure() {
    for case in Case::all() {
        let folder = tempfile::tempdir().unwrap();
        let (store, state) = (format!("folder:{}", folder.path().join("store").display()), folder.path().join("state"));
        let mut flags = vec!["run", "--open", "--encoder", "nvidia", "--store", &store, "--state-dir", tools::text(&state)];
        flags.extend(FREE_PORTS.into_iter().chain(NO_SRT));
        let done = case.weir(&flags);
        assert_eq!(done.code, Some(7), "{}: {done:?}", case.name);
        assert!(case.cure().iter().all(|words| done.complaints.contains(words)), "{}: {done:?}", case.name);
    }
}

#[test]
fn a_worker_serves_in_software_whichever_library_is_missing() {
    const CLIP: Clip = Clip { seconds: 6, ..stage::CLIP };
    let file = CLIP.file();
    let _machine = beside_others();
    // Together: each waits for its publisher most of the time.
    let running: Vec<_> = Case::all()
        .into_iter()
        .map(|case| {
            let flags = ["--open", "--set", "reconnect_grace=1", "--ladder", LADDER];
            let worker = Arc::new(Worker::start_with(&flags, &case.libraries.environment()));
            let watch = Watch::start(&worker, "anna");
            let publisher = Publisher::start(&file, &worker, "anna");
            (case, worker, watch, publisher)
        })
        .collect();
    for (case, worker, watch, publisher) in running {
        publisher.finish();
        let seen = watch.finish();
        let worker = Arc::into_inner(worker).expect("the watch is over");
        let name = &case.name;
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", worker.pid())).unwrap();
        let mapped = maps.lines().find(|l| ["libcuda", "libnv"].iter().any(|library| l.contains(library)));
        assert_eq!(mapped, None, "{name}: the supervisor maps a library of NVIDIA's");
        let log = worker.log();
        worker.stop();
        assert!(!log.iter().any(|l| l.contains("panicked")), "{name}: {log:#?}");
        let started = log.iter().find(|l| case.cure().iter().all(|words| l.contains(words)));
        assert!(started.is_some_and(|l| l.contains("encoder=\"software\"")), "{name}: {log:#?}");
        assert_eq!(seen.rungs(), ["src", RUNG], "{name}: {log:#?}");
        for track in seen.rungs() {
            assert_eq!(Track::of(&seen, track).times().len(), CLIP.frames(), "{name}: {track}");
        }
    }
}
