//! A machine without a GPU that can be used: what a worker and a probe say of it. With one, `./dev test gpu` says the rest.

use std::process::Command;

use serde_json::Value;

use crate::harness::worker::{FREE_PORTS, NO_SRT, Worker};
use crate::harness::{beside_others, tools};

/// Hides a device that this machine may have; then its driver is there, and no device.
const HIDDEN: (&str, &str) = ("CUDA_VISIBLE_DEVICES", "-1");

/// By which of the two it is.
const CODES: [&str; 2] = ["no_driver", "no_device"];

#[test]
fn auto_takes_x264_and_says_why_wherever_somebody_may_look() {
    let _machine = beside_others();
    let worker = Worker::start_with(&["--open", "--set", "codec.warm=0"], &[HIDDEN]);
    let about: Value = serde_json::from_slice(&worker.get("v1/worker").body).unwrap();
    assert_eq!(about["encoder"], "software");
    let code = about["encoder_code"].as_str().unwrap();
    assert!(CODES.contains(&code), "{about}");
    assert!(about["encoder_reason"].as_str().unwrap().starts_with("x264, because there is"), "{about}");
    let metrics = worker.get("metrics").text();
    let info = format!("weir_encoder_info{{encoder=\"software\",reason=\"{code}\"}} 1");
    assert!(metrics.contains(&info), "{metrics}");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", worker.pid())).unwrap();
    for library in ["libcuda", "libnvidia", "libnvcuvid", "libnvrtc", "libgst"] {
        assert!(!maps.contains(library), "the supervisor maps {library}: {maps}");
    }
    worker.stop();
}

#[test]
fn nvidia_is_never_software_instead() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["run", "--encoder", "nvidia", "--open"]).env(HIDDEN.0, HIDDEN.1).current_dir(folder.path());
    command.args(FREE_PORTS).args(NO_SRT);
    let done = tools::run(&mut command);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert!(said.contains("NVIDIA_VISIBLE_DEVICES") || said.contains("--gpus all"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn none_passes_sources_through_and_asks_nobody() {
    let _machine = beside_others();
    let worker = Worker::start(&["--encoder", "none"]);
    let about: Value = serde_json::from_slice(&worker.get("v1/worker").body).unwrap();
    assert_eq!((about["encoder"].as_str(), about["encoder_code"].as_str()), (Some("none"), Some("asked_for")), "{about}");
    assert!(about["gpu"].is_null(), "{about}");
    worker.stop();
}

#[test]
fn a_probe_names_the_encoder_and_every_library() {
    let probe = |arguments: &[&str]| {
        let done = tools::run(Command::new(env!("CARGO_BIN_EXE_weir")).arg("probe").args(arguments).env(HIDDEN.0, HIDDEN.1));
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let text = probe(&[]);
    for words in
        ["libcuda.so.1", "libnvidia-encode.so.1", "libnvcuvid.so.1", "libnvidia-ml.so.1", "encoder: software (x264, because"]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let body: Value = serde_json::from_str(&probe(&["--json"])).unwrap();
    assert!(CODES.contains(&body["encoder_code"].as_str().unwrap()), "{body}");
    assert!(body["gpu"]["probe"]["libraries"].is_object() && body["gpu_error"].is_null(), "{body}");
}
