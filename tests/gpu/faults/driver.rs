//! The driver is not there, too old, or does not tell how it does. (Their sentences are told in `probe.rs`.)

use serde_json::Value;

use super::UNKNOWN;
use super::stage::{CLIP, LADDER, Stage, story, untouched};
use crate::double::{Double, Fault, Library};
use crate::harness::beside_others;
use crate::harness::worker::Worker;

/// With `auto`, streams are encoded by x264, and everybody can read why; streamers and viewers notice nothing.
fn by_software(double: Double, code: &str, cure: &str) {
    let _machine = beside_others();
    let flags = ["--open", "--set", "reconnect_grace=1", "--ladder", LADDER, "--encoder", "auto"];
    let worker = Worker::start_with(&flags, &double.environment());
    let mut stage = Stage::of(double, worker, CLIP);
    let about: Value = serde_json::from_slice(&stage.worker.get("v1/worker").body).unwrap();
    assert_eq!((about["encoder"].as_str(), about["encoder_code"].as_str()), (Some("software"), Some(code)), "{about}");
    let metrics = stage.worker.get("metrics").text();
    assert!(metrics.contains(&format!("weir_encoder_info{{encoder=\"software\",reason=\"{code}\"}} 1")), "{metrics}");
    let (_, said) = stage.worker.logged(cure);
    assert!(said.contains("encoder=\"software\""), "{said}");
    stage.two(2);
    ["anna", "bert"].iter().for_each(|name| stage.assert_well(name));
    let seen = stage.finish();
    seen.values().for_each(|seen| untouched(seen, &CLIP));
}

#[test]
fn there_is_no_driver() {
    story("no-driver", || {
        by_software(Double::without(&[Library::Cuda]), "no_driver", "Install the driver on the host");
    });
}

#[test]
fn the_driver_is_too_old() {
    story("driver-too-old", || {
        let mut double = Double::start();
        double.set(Fault::NvencVersion { major: 10, minor: 0 });
        by_software(double, "old_driver", "Update the host's driver to 470.57");
    });
}

/// Nobody can tell how the device does; it encodes all the same, for streams that begin now too.
#[test]
fn nvml_is_gone() {
    story("nvml-gone", || {
        let _machine = beside_others();
        let mut stage = Stage::open(Double::start(), CLIP, &[]);
        stage.publish("anna");
        stage.encoded("anna", 1);
        stage.double.set(Fault::Fail { call: "nvmlDeviceGetCount_v2", code: UNKNOWN, after: 0, times: None });
        stage.worker.logged("NVML does not answer any more");
        assert!(stage.worker.get("metrics").text().contains("weir_gpu_monitor_up 0\n"));
        stage.publish("bert");
        stage.encoded("bert", 2);
        ["anna", "bert"].iter().for_each(|name| stage.assert_well(name));
        let seen = stage.finish();
        seen.values().for_each(|seen| untouched(seen, &CLIP));
    });
}
