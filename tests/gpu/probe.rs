//! The probe, the choice of encoder and the watcher process under the driver double: what is found, each obstacle's sentence, and what the worker shows
//! when the driver hangs, dies or loses a device. Each finds its fault by the real path: no reading is made up.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir::logic::encoder_choice::{Elements, Encoder, Inventory, Wanted, choose};
use weir::logic::gpu::{FaultKind, Line, Survey, Version};

use crate::double::{Double, Fault, Library};
use crate::harness::worker::{FREE_PORTS, NO_SRT, Worker};
use crate::harness::{GUARD, beside_others, tools, until};

/// What the worker gives a call into the driver in these tests.
const DEADLINE: Duration = Duration::from_secs(3);

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// What `weir gpu-watch --once` found.
fn survey(double: &Double) -> Survey {
    let done = tools::run(double.command(WEIR).args(["gpu-watch", "--once"]));
    let (said, complaints) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && complaints.is_empty(), "{}: {said}{complaints}", done.status);
    match serde_json::from_str(said.lines().last().unwrap_or_default()) {
        Ok(Line::Survey(survey)) => *survey,
        other => panic!("{other:?} in {said}"),
    }
}

/// A whole GStreamer, as the choice sees it.
fn inventory() -> Inventory {
    let all = Elements { has_pipelines: true, ..Elements::default() };
    Inventory { gstreamer: "1.26.2".into(), nvidia: all.clone(), software: all }
}

/// `weir run --encoder nvidia` ends with the code for it and a sentence that has these words; `weir probe` takes x264 and says the same.
fn refused(double: &Double, code: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = double.command(WEIR);
    command.args(["run", "--encoder", "nvidia", "--open", "--set", "gpu.probe_deadline_ms=3000"]).current_dir(folder.path());
    command.args(FREE_PORTS).args(NO_SRT);
    // Whoever runs the tests may have settings of his own.
    let given: Vec<&str> = double.environment().into_iter().map(|(name, _)| name).collect();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_") && !given.contains(&name.as_str())) {
        command.env_remove(name);
    }
    let done = tools::run(&mut command);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(7) && !said.contains("panicked"), "{code}: {}: {said}", done.status);
    for word in words {
        assert!(said.contains(word), "{code}: {word:?} is not in {said}");
    }
    if code != "probe_failed" {
        // A registry of another driver must not decide.
        let _ = fs::remove_file(double.folder().join("registry.bin"));
        let done = tools::run(double.command(WEIR).args(["probe", "--json"]));
        let body: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{code}: {e}"));
        assert_eq!((body["encoder"].as_str(), body["encoder_code"].as_str()), (Some("software"), Some(code)), "{body}");
        let reason = body["reason"].as_str().unwrap();
        assert!(words.iter().all(|w| reason.contains(w)), "{code}: {words:?} are not in {reason}");
    }
}

#[test]
fn a_healthy_device_is_described_and_encodes() {
    let double = Double::start();
    let Survey { probe, reading } = survey(&double);
    assert_eq!((probe.driver.as_deref(), probe.encode_api), (Some("550.163.01"), Some(Version { major: 12, minor: 2 })));
    assert!(probe.cuda_fault.is_none() && reading.monitor_fault.is_none(), "{probe:?} {reading:?}");
    let [device] = &probe.devices[..] else { panic!("{probe:?}") };
    assert_eq!((device.name.as_str(), device.memory, &device.fault), ("NVIDIA A10G", 23028 << 20, &None));
    let encoder = device.encoder.as_ref().unwrap();
    assert_eq!((encoder.engines, encoder.width, encoder.height), (1, (145, 4096), (49, 4096)));
    assert_eq!((&encoder.presets[..], encoder.legacy_presets), (&[1, 2, 3, 4, 5, 6, 7][..], true));
    let decoder = device.decoder.as_ref().unwrap();
    assert!(decoder.h264 && decoder.engines == 2, "{decoder:?}");
    let tested = device.self_test.as_ref().unwrap();
    assert!(tested.frames == 8 && tested.bytes > 0, "{tested:?}");
    let load = reading.of(&device.uuid).expect("CUDA and NVML name the same device");
    assert_eq!((load.lost, load.sessions, load.memory_total), (false, Some(0), Some(device.memory)));
    let state = double.state();
    assert_eq!((state.total("encoded_pictures"), state.host_copies(), state.calls("nvEncLockInputBuffer")), (8, 0, 0));
    double.until_clean();
}

#[test]
fn the_choice_is_the_device_once_gstreamer_has_pipelines_for_it() {
    let double = Double::start();
    let choice = choose(Wanted::Nvidia, &Ok(survey(&double)), &Ok(inventory())).unwrap();
    assert_eq!((choice.encoder, choice.devices.len()), (Encoder::Nvidia, 1));
    assert!(choice.reason.starts_with("NVENC on GPU 0 (NVIDIA A10G), driver 550.163.01"), "{}", choice.reason);
}

#[test]
fn libraries_that_are_missing_have_their_sentences() {
    let _machine = beside_others();
    refused(&Double::without(&[Library::Cuda]), "no_driver", &["no NVIDIA driver", "--gpus all"]);
    let cure = "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video";
    let both = ["libnvidia-encode.so.1 and libnvcuvid.so.1", cure];
    refused(&Double::without(&[Library::Encode, Library::Cuvid]), "no_video_capability", &both);
    refused(&Double::without(&[Library::Cuvid]), "no_video_capability", &["libnvcuvid.so.1", cure]);
    let cure = "GST_CUDA_NVRTC_LIBNAME=libnvrtc.so.12";
    refused(&Double::without(&[Library::Nvrtc]), "no_nvrtc", &["GStreamer looks for libnvrtc.so.0", cure]);
}

#[test]
fn a_driver_that_is_old_or_has_no_device_has_its_sentence() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::NvencVersion { major: 10, minor: 0 });
    refused(&double, "old_driver", &["interface is 10.0", "470.57"]);
    double.clear();
    double.set(Fault::Devices { count: 0 });
    refused(&double, "no_device", &["CUDA_ERROR_NO_DEVICE (100)", "NVIDIA_VISIBLE_DEVICES=all"]);
    double.clear();
    // CUDA_ERROR_UNKNOWN: a driver whose module is not loaded.
    double.set(Fault::Fail { call: "cuInit", code: 999, after: 0, times: None });
    refused(&double, "cuda_failed", &["CUDA_ERROR_UNKNOWN (999)", "NVRM"]);
}

#[test]
fn a_device_that_cannot_encode_has_its_sentence() {
    let _machine = beside_others();
    let mut double = Double::start();
    for (fault, code, words) in [
        (Fault::Lost, "device_lost", &["GPU 0", "is lost", "Xid"][..]),
        (
            Fault::Fail { call: "nvEncOpenEncodeSessionEx", code: 10, after: 0, times: None },
            "no_session",
            &["no free encode session", "NV_ENC_ERR_OUT_OF_MEMORY (10)"],
        ),
        (
            Fault::Fail { call: "cuMemAllocPitch_v2", code: 2, after: 0, times: None },
            "no_memory",
            &["no free memory", "nvidia-smi"],
        ),
        (Fault::Empty { every: 1 }, "self_test_failed", &["failed the self-test", "weir probe"]),
        (
            Fault::Fail { call: "nvEncEncodePicture", code: 20, after: 3, times: None },
            "self_test_failed",
            &["NV_ENC_ERR_GENERIC (20)"],
        ),
        (
            Fault::Fail { call: "nvEncInitializeEncoder", code: 10, after: 0, times: None },
            "no_session",
            &["nvEncInitializeEncoder"],
        ),
    ] {
        double.set(fault);
        refused(&double, code, words);
        double.clear();
        double.until_clean();
    }
}

#[test]
fn a_driver_without_the_old_presets_is_seen() {
    let mut double = Double::start();
    double.set(Fault::NoLegacyPresets);
    let found = survey(&double);
    let encoder = found.probe.devices[0].encoder.as_ref().unwrap();
    assert!(encoder.presets.len() == 7 && !encoder.legacy_presets, "{encoder:?}");
    let mut old = inventory();
    old.nvidia.lacking = vec!["nvh264enc lacks tune".into()];
    assert_eq!(choose(Wanted::Nvidia, &Ok(found), &Ok(old)).unwrap_err().code, "legacy_presets");
}

/// Whichever it is: without the first one this driver answers nothing that is asked without a context.
#[test]
fn one_of_two_devices_lost_leaves_the_other() {
    for lost in [0, 1] {
        let mut double = Double::start();
        double.set(Fault::Devices { count: 2 });
        double.set(Fault::DeviceLost { device: lost });
        let options = gpu_options(&double);
        let found = weir::gpu::survey(&options).unwrap();
        let seen: Vec<bool> = found.reading.devices.iter().map(|d| d.lost).collect();
        assert_eq!(seen, [lost == 0, lost == 1], "{found:?}");
        let good: Vec<u32> = found.probe.devices.iter().filter(|d| d.self_test.is_some()).map(|d| d.index).collect();
        assert_eq!(good, [1 - lost], "{found:?}");
        let choice = choose(Wanted::Nvidia, &Ok(found), &Ok(inventory())).unwrap();
        assert_eq!(choice.devices.len(), 1);
        let words = format!("1 of 2 GPUs cannot be used: GPU {lost}");
        assert!(choice.reason.contains(&words) && choice.reason.contains("is lost"), "{}", choice.reason);
    }
}

/// For what runs in this process and starts the watcher as the worker does: a script gives it the double's environment.
fn gpu_options(double: &Double) -> weir::gpu::Options {
    let program = double.folder().join("weir");
    let given: String = double.environment().iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    let script = format!("#!/bin/sh\nexec env {given}{WEIR} \"$@\"\n");
    // Written by another process: a file that a fork of another test has open for writing cannot be run (ETXTBSY).
    let write = ["-ec", "printf %s \"$1\" > \"$0\"; chmod +x \"$0\""];
    assert!(tools::run(Command::new("sh").args(write).arg(&program).arg(script)).status.success());
    weir::gpu::Options { program, interval: Duration::from_millis(100), reading_deadline: DEADLINE, probe_deadline: GUARD }
}

#[test]
fn nvml_gone_is_told_apart_from_a_lost_device() {
    let mut double = Double::start();
    // NVML_ERROR_DRIVER_NOT_LOADED.
    double.set(Fault::Fail { call: "nvmlInit_v2", code: 9, after: 0, times: None });
    let found = survey(&double);
    assert!(found.reading.monitor_fault.is_some() && found.reading.devices.is_empty(), "{:?}", found.reading);
    assert!(found.probe.devices[0].self_test.is_some() && found.probe.driver.is_none(), "{:?}", found.probe);
    assert_eq!(choose(Wanted::Nvidia, &Ok(found), &Ok(inventory())).unwrap().encoder, Encoder::Nvidia);
    let gone = Double::without(&[Library::Nvml]);
    let found = survey(&gone);
    assert!(found.reading.monitor_fault.is_some() && found.probe.devices[0].self_test.is_some(), "{found:?}");
}

/// Every call of the probe fails in turn: there is always an answer, which names the call, and never a panic.
#[test]
fn whichever_call_fails_is_named() {
    let mut double = Double::start();
    for call in [
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceTotalMem_v2",
        "cuDeviceGetAttribute",
        "cuCtxCreate_v2",
        "cuMemAllocPitch_v2",
        "cuMemsetD8_v2",
        "cuCtxSynchronize",
        "nvEncGetEncodeCaps",
        "nvEncGetEncodePresetCount",
        "nvEncGetEncodePresetGUIDs",
        "nvEncGetEncodePresetConfigEx",
        "nvEncRegisterResource",
        "nvEncMapInputResource",
        "nvEncCreateBitstreamBuffer",
        "nvEncLockBitstream",
        "cuvidGetDecoderCaps",
    ] {
        double.set(Fault::Fail { call, code: 999, after: 0, times: None });
        let found = survey(&double);
        let fault = found.probe.cuda_fault.or_else(|| found.probe.devices.first()?.fault.clone());
        let fault = fault.unwrap_or_else(|| panic!("{call} failed and nobody says so"));
        assert_eq!((fault.call.as_str(), fault.kind), (call, FaultKind::Other), "{fault}");
        double.clear();
    }
    double.until_clean();
}

#[test]
fn a_probe_that_hangs_ends_at_its_deadline_and_names_the_call() {
    let _machine = beside_others();
    for (call, words) in
        [("cuCtxCreate_v2", "cuCtxCreate on GPU 0"), ("nvEncEncodePicture", "encoding a few pictures on GPU 0")]
    {
        let mut double = Double::start();
        double.set(Fault::Hang { call });
        let begun = Instant::now();
        refused(&double, "probe_failed", &["the driver hangs: no answer within 3 s", words]);
        assert!(begun.elapsed() >= DEADLINE && begun.elapsed() < GUARD, "{:?}", begun.elapsed());
        double.until_clean();
    }
}

fn worker(double: &Double) -> Worker {
    let flags = ["--open", "--set", "gpu.interval_ms=100", "--set", "gpu.reading_deadline_ms=3000", "--set", "codec.warm=0"];
    Worker::start_with(&flags, &double.environment())
}

fn gpu(worker: &Worker) -> Value {
    let about: Value = serde_json::from_slice(&worker.get("v1/worker").body).unwrap();
    assert!(about["gpu"].is_object(), "{about}");
    about["gpu"].clone()
}

fn until_gpu(worker: &Worker, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    until(what, || Some(gpu(worker)).filter(&look))
}

/// The samples of a metric, behind its name.
fn samples(worker: &Worker, name: &str) -> Vec<String> {
    let text = worker.get("metrics").text();
    let found: Vec<String> = text.lines().filter_map(|l| l.strip_prefix(name).map(str::to_owned)).collect();
    assert!(!found.is_empty(), "no {name} in {text}");
    found
}

#[test]
fn a_worker_shows_its_gpus_and_maps_no_library_of_nvidias() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::Reading { what: "encoder", value: 42 });
    let worker = worker(&double);
    let seen = until_gpu(&worker, "a reading", |g| g["devices"][0]["encoder"]["percent"] == 42 && g["watcher"]["pid"].is_u64());
    assert_eq!(seen["probe"]["devices"][0]["self_test"]["frames"], 8);
    assert!(samples(&worker, "weir_gpu_encoder_ratio").iter().all(|s| s.ends_with("} 0.42")));
    assert_eq!(samples(&worker, "weir_gpu_monitor_up"), [" 1"]);
    let info = samples(&worker, "weir_encoder_info");
    assert!(info.len() == 1 && info[0].ends_with(" 1"), "{info:?}");
    let pid = u32::try_from(seen["watcher"]["pid"].as_u64().unwrap()).unwrap();
    double.assert_loaded_by(pid);
    let maps = fs::read_to_string(format!("/proc/{}/maps", worker.pid())).unwrap();
    for library in ["libcuda", "libnvidia", "libnvcuvid", "libnvrtc", "libnvdouble", "libgst"] {
        assert!(!maps.contains(library), "the supervisor maps {library}: {maps}");
    }
    // Nothing of ours but what is on the list.
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(!environment.contains("CARGO") && environment.contains("LD_LIBRARY_PATH"), "{environment}");
    worker.stop();
    until("the watcher's end", || (!double.state().processes.iter().any(|(p, _)| *p == pid)).then_some(()));
}

#[test]
fn a_watcher_that_is_killed_or_hangs_is_replaced_and_the_last_reading_stands() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::Reading { what: "temperature", value: 61 });
    let worker = worker(&double);
    let temperature = |g: &Value| g["devices"][0]["temperature"].as_u64();
    let first = until_gpu(&worker, "a reading", |g| temperature(g) == Some(61) && g["watcher"]["pid"].is_u64());
    let pid = first["watcher"]["pid"].as_u64().unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    let back = until_gpu(&worker, "another watcher", |g| {
        g["watcher"]["pid"].as_u64().is_some_and(|p| p != pid) && g["watcher"]["trouble"].is_null()
    });
    assert_eq!((back["watcher"]["restarts"].as_u64(), temperature(&back)), (Some(1), Some(61)));
    assert_eq!(samples(&worker, "weir_gpu_watcher_restarts_total"), [" 1"]);

    let hang = Fault::Hang { call: "nvmlDeviceGetTemperature" };
    let begun = Instant::now();
    double.set(hang);
    let hung = until_gpu(&worker, "the deadline", |g| g["watcher"]["restarts"] == 2);
    assert!(begun.elapsed() >= DEADLINE, "{:?}", begun.elapsed());
    assert_eq!(temperature(&hung), Some(61));
    let trouble = hung["watcher"]["trouble"].as_str().unwrap();
    assert!(trouble.contains("the driver hangs") && hung["reading_age_seconds"].as_f64() >= Some(3.0), "{hung}");
    assert_eq!(samples(&worker, "weir_gpu_monitor_up"), [" 0"]);
    assert_eq!(worker.get("healthz").status, 200);
    double.lift(hang);
    until_gpu(&worker, "a fresh reading", |g| {
        g["watcher"]["trouble"].is_null() && g["reading_age_seconds"].as_f64() < Some(1.0)
    });
    worker.logged("the driver hangs");
    worker.stop();
}

#[test]
fn a_device_that_is_lost_and_nvml_that_is_gone_are_shown_and_come_back() {
    let _machine = beside_others();
    let mut double = Double::start();
    let worker = worker(&double);
    until_gpu(&worker, "a reading", |g| g["watcher"]["pid"].is_u64() && g["devices"][0]["lost"] == false);
    double.set(Fault::Lost);
    let lost = until_gpu(&worker, "the loss", |g| g["devices"][0]["lost"] == true);
    assert!(lost["devices"][0]["uuid"].as_str().is_some_and(|u| u.starts_with("GPU-")), "its name is kept: {lost}");
    assert!(samples(&worker, "weir_gpu_lost").iter().all(|s| s.ends_with("} 1.0")));
    worker.logged("GPU 0 (NVIDIA A10G) is lost");
    double.lift(Fault::Lost);
    until_gpu(&worker, "its return", |g| g["devices"][0]["lost"] == false);
    worker.logged("GPU 0 (NVIDIA A10G) answers again");

    // NVML_ERROR_UNKNOWN, as after an update of the driver under a running worker.
    let gone = Fault::Fail { call: "nvmlDeviceGetCount_v2", code: 999, after: 0, times: None };
    double.set(gone);
    let seen = until_gpu(&worker, "NVML's end", |g| g["monitor_fault"].is_string());
    assert_eq!(seen["devices"].as_array().map(Vec::len), Some(0));
    assert_eq!(samples(&worker, "weir_gpu_monitor_up"), [" 0"]);
    worker.logged("NVML does not answer any more");
    double.lift(gone);
    until_gpu(&worker, "NVML's return", |g| g["monitor_fault"].is_null() && g["devices"][0]["lost"] == false);
    worker.logged("NVML answers again");
    worker.stop();
}

#[test]
fn auto_serves_in_software_beside_a_driver_that_hangs() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::Hang { call: "cuCtxCreate_v2" });
    let flags = ["--open", "--set", "gpu.probe_deadline_ms=3000", "--set", "codec.warm=0"];
    let worker = Worker::start_with(&flags, &double.environment());
    let about: Value = serde_json::from_slice(&worker.get("v1/worker").body).unwrap();
    assert_eq!(
        (about["encoder"].as_str(), about["encoder_code"].as_str()),
        (Some("software"), Some("probe_failed")),
        "{about}"
    );
    assert!(about["encoder_reason"].as_str().unwrap().contains("cuCtxCreate on GPU 0"), "{about}");
    worker.stop();
}

#[test]
fn probe_prints_the_devices_for_people() {
    let double = Double::start();
    let done = tools::run(Command::new(WEIR).arg("probe").envs(double.environment()));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    for words in
        ["NVIDIA driver 550.163.01, CUDA 12.4, NVENC 12.2", "GPU 0: NVIDIA A10G", "1 NVENC", "2 NVDEC", "self-test: 8 pictures"]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}
