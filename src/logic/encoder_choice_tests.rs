//! Every sentence, provoked on plain data.

use super::super::gpu::{DecoderCaps, EncoderCaps, Fault, Libraries, Load, Reading, SelfTest};
use super::*;

fn device(index: u32) -> Device {
    let uuid = format!("GPU-{index}");
    Device {
        index,
        uuid,
        name: "NVIDIA A10G".into(),
        compute: Version { major: 8, minor: 6 },
        memory: 23028 << 20,
        encoder: Some(EncoderCaps {
            engines: 1,
            width: (145, 4096),
            height: (49, 4096),
            b_frames: 4,
            macroblocks: 65536,
            presets: (1..=7).collect(),
            legacy_presets: true,
            raw: Vec::new(),
        }),
        decoder: Some(DecoderCaps { h264: true, engines: 2, width: (48, 4096), height: (16, 4096), macroblocks: 65536 }),
        self_test: Some(SelfTest { frames: 8, bytes: 900 }),
        fault: None,
    }
}

fn load(index: u32) -> Load {
    Load { index, uuid: format!("GPU-{index}"), name: "NVIDIA A10G".into(), ..Load::default() }
}

fn survey(devices: u32) -> Survey {
    let libraries = Libraries {
        cuda: Library::Loaded,
        encode: Library::Loaded,
        decode: Library::Loaded,
        monitor: Library::Loaded,
        compiler: Library::Loaded,
        compiler_name: "libnvrtc.so.12".into(),
        compiler_version: Some(Version { major: 12, minor: 4 }),
    };
    let probe = Probe {
        libraries,
        driver: Some("550.163.01".into()),
        cuda: Some(Version { major: 12, minor: 4 }),
        encode_api: Some(Version { major: 12, minor: 2 }),
        cuda_fault: None,
        devices: (0..devices).map(device).collect(),
    };
    Survey { probe, reading: Reading { monitor_fault: None, devices: (0..devices).map(load).collect() } }
}

fn inventory() -> Inventory {
    let all = Elements { has_pipelines: true, ..Elements::default() };
    Inventory { gstreamer: "1.26.2".into(), nvidia: all.clone(), software: all }
}

fn fault(call: &str, kind: FaultKind) -> Option<Fault> {
    Some(Fault { call: call.into(), answer: "NO (10)".into(), kind })
}

fn missing() -> Library {
    Library::Missing { reason: "cannot open shared object file: No such file or directory".into() }
}

/// Under `nvidia` it is refused with this code and a sentence that has these words; under `auto` it is x264, with the same sentence.
fn refused(survey: Survey, inventory: Inventory, code: &str, words: &[&str]) {
    let (survey, inventory) = (Ok(survey), Ok(inventory));
    let refused = choose(Wanted::Nvidia, &survey, &inventory).expect_err(code);
    assert_eq!(refused.code, code, "{refused}");
    for word in words {
        assert!(refused.reason.contains(word), "{word:?} is not in {:?}", refused.reason);
    }
    let auto = choose(Wanted::Auto, &survey, &inventory).unwrap();
    assert_eq!((auto.encoder, auto.code), (Encoder::Software, code));
    assert!(auto.reason.ends_with(&refused.reason) && auto.devices.is_empty(), "{auto:?}");
}

fn without(change: impl FnOnce(&mut Survey)) -> Survey {
    let mut survey = survey(1);
    change(&mut survey);
    survey
}

#[test]
fn a_device_that_encodes_is_chosen_and_named() {
    for wanted in [Wanted::Auto, Wanted::Nvidia] {
        let choice = choose(wanted, &Ok(survey(1)), &Ok(inventory())).unwrap();
        assert_eq!((choice.encoder, choice.code), (Encoder::Nvidia, "self_test_passed"));
        assert_eq!(choice.devices, ["GPU-0"]);
        assert_eq!(choice.reason, "NVENC on GPU 0 (NVIDIA A10G), driver 550.163.01: the self-test encoded 8 pictures");
    }
}

#[test]
fn what_is_asked_for_is_not_overruled_by_a_device() {
    let (survey, inventory) = (Ok(survey(1)), Ok(inventory()));
    assert_eq!(choose(Wanted::Software, &survey, &inventory).unwrap().encoder, Encoder::Software);
    assert_eq!(choose(Wanted::None, &survey, &inventory).unwrap().encoder, Encoder::None);
}

#[test]
fn no_driver() {
    refused(without(|s| s.probe.libraries.cuda = missing()), inventory(), "no_driver", &["no NVIDIA driver", "--gpus all"]);
    let broken = Library::Broken { reason: "it lacks cuCtxCreate_v2".into() };
    refused(without(|s| s.probe.libraries.cuda = broken), inventory(), "broken_driver", &["it lacks cuCtxCreate_v2"]);
}

#[test]
fn an_old_driver() {
    let old = |s: &mut Survey| {
        (s.probe.encode_api, s.probe.driver) = (Some(Version { major: 10, minor: 0 }), Some("450.119".into()));
        s.probe.devices[0].encoder = None;
    };
    refused(without(old), inventory(), "old_driver", &["450.119", "10.0", "11.1 is needed", "470.57"]);
    let refuses = |s: &mut Survey| s.probe.devices[0].fault = fault("nvEncOpenEncodeSessionEx", FaultKind::OldDriver);
    refused(without(refuses), inventory(), "old_driver", &["470.57"]);
    let init = |s: &mut Survey| (s.probe.cuda_fault, s.probe.devices) = (fault("cuInit", FaultKind::OldDriver), Vec::new());
    refused(without(init), inventory(), "old_driver", &["470.57"]);
}

#[test]
fn a_container_without_the_video_capability() {
    let cure = "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video";
    let both = |s: &mut Survey| (s.probe.libraries.encode, s.probe.libraries.decode) = (missing(), missing());
    refused(without(both), inventory(), "no_video_capability", &["libnvidia-encode.so.1 and libnvcuvid.so.1", cure]);
    refused(without(|s| s.probe.libraries.decode = missing()), inventory(), "no_video_capability", &["libnvcuvid.so.1", cure]);
}

#[test]
fn a_driver_without_a_device() {
    let none = |s: &mut Survey| (s.probe.cuda_fault, s.probe.devices) = (fault("cuInit", FaultKind::NoDevice), Vec::new());
    refused(without(none), inventory(), "no_device", &["NVIDIA_VISIBLE_DEVICES", "cuInit"]);
    refused(without(|s| s.probe.devices.clear()), inventory(), "no_device", &["NVIDIA_VISIBLE_DEVICES"]);
    let other = |s: &mut Survey| s.probe.cuda_fault = fault("cuInit", FaultKind::Other);
    refused(without(other), inventory(), "cuda_failed", &["NVRM", "nvidia_uvm"]);
}

#[test]
fn no_run_time_compiler_or_one_that_is_too_new() {
    let none = |s: &mut Survey| {
        s.probe.libraries.compiler = missing();
        s.probe.libraries.compiler_name = "libnvrtc.so".into();
    };
    refused(without(none), inventory(), "no_nvrtc", &["libnvrtc.so ", "GST_CUDA_NVRTC_LIBNAME=libnvrtc.so.12"]);
    let new = |s: &mut Survey| s.probe.libraries.compiler_version = Some(Version { major: 13, minor: 0 });
    refused(without(new), inventory(), "new_nvrtc", &["NVRTC 13.0", "1.26.2", "NVRTC 12"]);
    let newer = Inventory { gstreamer: "1.26.7".into(), ..inventory() };
    assert_eq!(choose(Wanted::Nvidia, &Ok(without(new)), &Ok(newer)).unwrap().encoder, Encoder::Nvidia);
}

#[test]
fn an_old_gstreamer() {
    let old = Inventory { gstreamer: "1.22.0".into(), ..inventory() };
    refused(survey(1), old.clone(), "old_gstreamer", &["1.22.0", "1.26 or later", "drivers from 590 on do not have"]);
    let new_driver = |s: &mut Survey| {
        s.probe.driver = Some("595.71".into());
        s.probe.devices[0].encoder.as_mut().unwrap().legacy_presets = false;
    };
    refused(without(new_driver), old, "old_gstreamer", &["this driver does not have any more"]);
    let unreadable = Inventory { gstreamer: "unknown".into(), ..inventory() };
    refused(survey(1), unreadable, "old_gstreamer", &["unknown"]);
}

#[test]
fn elements_of_before_the_new_presets_on_a_driver_without_the_old_ones() {
    let mut old = Inventory { gstreamer: "1.24.2".into(), ..inventory() };
    old.nvidia.lacking = vec!["nvh264enc lacks tune".into()];
    let new_driver = |s: &mut Survey| {
        s.probe.driver = Some("595.71".into());
        s.probe.devices[0].encoder.as_mut().unwrap().legacy_presets = false;
    };
    refused(without(new_driver), old.clone(), "legacy_presets", &["nvh264enc lacks tune", "595.71", "1.26", "before 590"]);
    refused(survey(1), old, "missing_elements", &["nvh264enc lacks tune"]);
}

#[test]
fn elements_that_are_not_there() {
    let mut bare = inventory();
    bare.nvidia.missing = vec!["cudaconvertscale (gstreamer1.0-plugins-bad)".into()];
    refused(survey(1), bare, "missing_elements", &["cudaconvertscale", "gstreamer-registry.bin"]);
    refused(survey(1), Inventory { nvidia: Elements::default(), ..inventory() }, "no_pipelines", &["no pipelines"]);
}

#[test]
fn a_device_that_cannot_be_used_says_why() {
    let faulty = |kind| without(|s| s.probe.devices[0].fault = fault("nvEncOpenEncodeSessionEx", kind));
    refused(
        faulty(FaultKind::NoSession),
        inventory(),
        "no_session",
        &["GPU 0 (NVIDIA A10G)", "no free encode session", "nvidia-smi"],
    );
    refused(faulty(FaultKind::Lost), inventory(), "device_lost", &["is lost", "Xid"]);
    refused(faulty(FaultKind::NoMemory), inventory(), "no_memory", &["no free memory"]);
    refused(faulty(FaultKind::NoDevice), inventory(), "no_encoder", &["no NVENC"]);
    refused(faulty(FaultKind::BadOutput), inventory(), "self_test_failed", &["self-test", "weir probe"]);
    refused(without(|s| s.probe.devices[0].self_test = None), inventory(), "self_test_failed", &["was not run"]);
    refused(
        without(|s| s.probe.devices[0].decoder.as_mut().unwrap().h264 = false),
        inventory(),
        "no_decoder",
        &["cannot decode"],
    );
    let lost = |s: &mut Survey| s.reading.devices[0] = Load { lost: true, fault: Some("lost".into()), ..load(0) };
    refused(without(lost), inventory(), "device_lost", &["is lost"]);
}

#[test]
fn one_of_two_devices_lost_leaves_the_other() {
    let mut two = survey(2);
    two.reading.devices[0].lost = true;
    let choice = choose(Wanted::Nvidia, &Ok(two), &Ok(inventory())).unwrap();
    assert_eq!(choice.devices, ["GPU-1"]);
    for words in ["NVENC on GPU 1", "1 of 2 GPUs cannot be used: GPU 0 (NVIDIA A10G) is lost"] {
        assert!(choice.reason.contains(words), "{}", choice.reason);
    }
}

#[test]
fn a_lost_device_that_cuda_does_not_list_is_named_as_well() {
    let mut one = survey(1);
    one.reading.devices.push(Load { index: 1, lost: true, ..Load::default() });
    let choice = choose(Wanted::Nvidia, &Ok(one), &Ok(inventory())).unwrap();
    assert!(choice.reason.contains("1 of 2 GPUs cannot be used: GPU 1 (unknown) is lost"), "{}", choice.reason);
    let all = |s: &mut Survey| {
        (s.probe.cuda_fault, s.probe.devices) = (fault("cuDeviceGetCount", FaultKind::Lost), Vec::new());
        s.reading.devices[0].lost = true;
    };
    refused(without(all), inventory(), "device_lost", &["GPU 0 (NVIDIA A10G) is lost"]);
    assert_eq!(without(all).without_the_lost(), None);
    let mut half = survey(2);
    half.probe.cuda_fault = fault("cuDeviceGetCount", FaultKind::Lost);
    assert_eq!(half.without_the_lost(), None);
    half.reading.devices[0].lost = true;
    assert_eq!(half.without_the_lost(), Some(vec!["GPU-1".to_owned()]));
}

#[test]
fn nvml_gone_does_not_stand_against_a_device_that_encodes() {
    let gone = without(|s| s.reading = Reading { monitor_fault: Some("no NVML".into()), devices: Vec::new() });
    assert_eq!(choose(Wanted::Nvidia, &Ok(gone), &Ok(inventory())).unwrap().encoder, Encoder::Nvidia);
}

#[test]
fn a_probe_that_hangs_is_told_with_its_step() {
    let hung = Err("no answer within 3 s at nvEncOpenEncodeSessionEx on GPU 0".to_owned());
    let refused = choose(Wanted::Nvidia, &hung, &Ok(inventory())).unwrap_err();
    assert!(refused.code == "probe_failed" && refused.reason.contains("nvEncOpenEncodeSessionEx on GPU 0"), "{refused}");
    assert_eq!(choose(Wanted::Auto, &hung, &Ok(inventory())).unwrap().encoder, Encoder::Software);
}

#[test]
fn without_a_codec_process_or_x264_sources_are_passed_through() {
    let nothing = Err("weir-codec is not there".to_owned());
    let auto = choose(Wanted::Auto, &Ok(survey(1)), &nothing).unwrap();
    assert_eq!((auto.encoder, auto.code), (Encoder::None, "no_codec_process"));
    assert_eq!(auto.reason, "sources are passed through only: weir-codec is not there");
    for wanted in [Wanted::Nvidia, Wanted::Software] {
        assert_eq!(choose(wanted, &Ok(survey(1)), &nothing).unwrap_err().code, "no_codec_process");
    }
    let mut bare = inventory();
    bare.software.missing = vec!["x264enc (gstreamer1.0-plugins-ugly)".into()];
    let auto = choose(Wanted::Auto, &Ok(without(|s| s.probe.libraries.cuda = missing())), &Ok(bare.clone())).unwrap();
    assert_eq!(auto.encoder, Encoder::None);
    assert!(auto.reason.contains("x264enc") && auto.reason.contains("no NVIDIA driver"), "{}", auto.reason);
    assert_eq!(choose(Wanted::Software, &Ok(survey(1)), &Ok(bare)).unwrap_err().code, "missing_elements");
}
