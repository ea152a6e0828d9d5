//! Each fault does what it says, and what GStreamer's elements make of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::double::{Double, Fault, Library};
use crate::harness::{beside_others, tools, until};

use super::{DEVICE, Running, complaint, live, pattern, pictures, run, run_well};

/// Pictures in, bits thrown away.
fn encode(pictures: u32) -> String {
    format!("{} ! nvh264enc ! fakesink", pattern(pictures, 320, 240, "ball"))
}

/// 60 pictures of 320x240.
fn stream(double: &Double) -> PathBuf {
    let file = double.folder().join("in.h264");
    tools::ffmpeg(
        ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30:duration=2", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "40"]
            .into_iter()
            .chain([tools::text(&file)]),
    );
    file
}

fn elements(double: &Double) -> Vec<String> {
    // What the driver is like is part of the registry.
    let _ = fs::remove_file(double.folder().join("registry.bin"));
    let done = tools::run(double.command("gst-inspect-1.0").arg("nvcodec"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let names = said.lines().filter_map(|l| l.strip_prefix("  ")?.split_once(": ")).map(|(name, _)| name);
    names.filter(|name| name.chars().all(char::is_alphanumeric)).map(str::to_owned).collect()
}

/// NV_ENC_ERR_GENERIC, NV_ENC_ERR_ENCODER_BUSY, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_UNKNOWN.
const GENERIC: i32 = 20;
const BUSY: i32 = 18;
const NO_MEMORY: i32 = 2;
const UNKNOWN: i32 = 999;

#[test]
fn a_call_fails_after_so_many_and_so_often() {
    let mut double = Double::start();
    double.set(Fault::Fail { call: "nvEncEncodePicture", code: GENERIC, after: 30, times: None });
    let done = run(&double, &encode(60));
    assert!(!done.status.success(), "{}", complaint(&done));
    assert_eq!(double.state().total("encoded_pictures"), 30);
    double.until_clean();
    // The element asks again while the encoder is busy.
    double.clear();
    double.set(Fault::Fail { call: "nvEncEncodePicture", code: BUSY, after: 30, times: Some(5) });
    run_well(&double, &encode(60));
    assert_eq!(double.state().total("encoded_pictures"), 30 + 60);
    // A rule that is lifted and made again counts anew.
    double.clear();
    double.set(Fault::Fail { call: "nvEncEncodePicture", code: GENERIC, after: 10, times: None });
    assert!(!run(&double, &encode(60)).status.success());
    assert_eq!(double.state().total("encoded_pictures"), 30 + 60 + 10);
}

#[test]
fn the_nth_session_is_refused() {
    let mut double = Double::start();
    double.set(Fault::Sessions { at_most: 2 });
    let three = ["t. ! queue ! nvh264enc ! fakesink"; 3].join(" ");
    let done = run(&double, &format!("{} ! tee name=t {three}", pattern(30, 320, 240, "ball")));
    assert!(!done.status.success() && complaint(&done).contains("Failed to open session"), "{}", complaint(&done));
    double.until_clean();
}

#[test]
fn device_memory_runs_out_at_start_and_in_mid_stream() {
    let mut double = Double::start();
    double.set(Fault::DeviceMemoryTaken { mib: 23_000 });
    assert!(!run(&double, &encode(30)).status.success());
    double.clear();
    double.set(Fault::Fail { call: "cuMemAllocPitch_v2", code: NO_MEMORY, after: 3, times: None });
    let done = run(&double, &format!("{} ! cudaupload ! {DEVICE} ! nvh264enc ! fakesink", pattern(60, 320, 240, "ball")));
    assert!(!done.status.success(), "{}", complaint(&done));
    double.until_clean();
}

/// This is how the real element is: without `max-errors` a dead decoder eats its input and ends well.
#[test]
fn a_dead_decoder_is_silent_unless_it_is_told_to_count() {
    let mut double = Double::start();
    let file = stream(&double);
    let dead = Fault::Fail { call: "cuvidDecodePicture", code: UNKNOWN, after: 20, times: None };
    let decode = |property: &str| {
        format!("filesrc location={} ! h264parse ! nvh264dec {property} ! {DEVICE} ! fakesink", file.display())
    };
    double.set(dead);
    run_well(&double, &decode(""));
    assert_eq!(double.state().total("decoded_pictures"), 20);
    double.clear();
    double.set(dead);
    let done = run(&double, &decode("max-errors=3"));
    assert!(!done.status.success() && complaint(&done).contains("Failed to decode data"), "{}", complaint(&done));
}

#[test]
fn a_lost_device_comes_back_for_new_processes_only() {
    let _machine = beside_others();
    let mut double = Double::start();
    let mut running = Running::start(&double, &format!("{} ! nvh264enc ! fakesink", live(320, 240)));
    until("a picture", || (double.state().total("encoded_pictures") > 0).then_some(()));
    double.set(Fault::Lost);
    let status = until("an end", || running.0.try_wait().unwrap());
    assert!(!status.success());
    assert!(!run(&double, &encode(5)).status.success());
    assert!(elements(&double).is_empty());
    double.lift(Fault::Lost);
    assert!(elements(&double).contains(&"nvh264enc".to_owned()));
    run_well(&double, &encode(5));
}

/// A process that had the device when it went does not get it back: it was stopped meanwhile, and noticed nothing.
#[test]
fn a_process_that_slept_through_a_loss_finds_its_device_gone() {
    let _machine = beside_others();
    let mut double = Double::start();
    let mut running = Running::start(&double, &format!("{} ! nvh264enc ! fakesink", live(320, 240)));
    until("a picture", || (double.state().total("encoded_pictures") > 0).then_some(()));
    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    double.set(Fault::Lost);
    double.lift(Fault::Lost);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let status = until("an end", || running.0.try_wait().unwrap());
    assert!(!status.success());
}

#[test]
fn one_of_two_devices_is_lost() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::Devices { count: 2 });
    let on = |device: &str| {
        let mut command = super::pipeline(&double, &format!("{} ! nvh264enc ! fakesink", live(320, 240)));
        command.env("CUDA_VISIBLE_DEVICES", device).env("GST_REGISTRY", double.folder().join(format!("registry-{device}.bin")));
        Running(command.spawn().unwrap())
    };
    let (stays, mut goes) = (on("0"), on("1"));
    until("a session on each", || (double.state().sessions.iter().filter(|s| s.width == 320).count() == 2).then_some(()));
    double.set(Fault::DeviceLost { device: 1 });
    let status = until("an end", || goes.0.try_wait().unwrap());
    assert!(!status.success());
    let before = double.state().total("encoded_pictures");
    until("more pictures on the other device", || (double.state().total("encoded_pictures") > before + 10).then_some(()));
    let state = double.state();
    assert_eq!(state.sessions.iter().map(|s| (s.pid, s.device)).collect::<Vec<_>>(), [(stays.pid(), 0)], "{state:?}");
}

#[test]
fn a_call_hangs_until_it_may_go_on() {
    let _machine = beside_others();
    let mut double = Double::start();
    let hang = Fault::Hang { call: "nvEncEncodePicture" };
    double.set(hang);
    let mut running = Running::start(&double, &encode(30));
    until("the call", || (double.calls("nvEncEncodePicture") > 0).then_some(()));
    assert!(running.0.try_wait().unwrap().is_none());
    assert_eq!(double.state().total("encoded_pictures"), 0);
    double.lift(hang);
    let status = until("an end", || running.0.try_wait().unwrap());
    assert!(status.success());
    assert_eq!(double.state().total("encoded_pictures"), 30);
}

#[test]
fn a_call_takes_longer() {
    let mut double = Double::start();
    double.set(Fault::Delay { call: "nvEncEncodePicture", by: Duration::from_millis(20) });
    let begun = Instant::now();
    run_well(&double, &encode(30));
    assert!(begun.elapsed() >= Duration::from_millis(30 * 20), "{:?}", begun.elapsed());
}

/// One engine: two processes together take as long as one of them with all the pictures.
#[test]
fn encoders_of_all_processes_share_an_engine() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::EncodeTime { per_picture: Duration::from_millis(20) });
    let begun = Instant::now();
    let mut both = [Running::start(&double, &encode(30)), Running::start(&double, &encode(30))];
    for running in &mut both {
        let status = until("an end", || running.0.try_wait().unwrap());
        assert!(status.success());
    }
    assert!(begun.elapsed() >= Duration::from_millis(60 * 20), "{:?}", begun.elapsed());
    double.clear();
    let file = stream(&double);
    double.set(Fault::DecodeTime { per_picture: Duration::from_millis(10) });
    let begun = Instant::now();
    run_well(&double, &format!("filesrc location={} ! h264parse ! nvh264dec ! {DEVICE} ! fakesink", file.display()));
    assert!(begun.elapsed() >= Duration::from_millis(60 * 10), "{:?}", begun.elapsed());
}

#[test]
fn bits_are_spoilt_and_left_out() {
    let mut double = Double::start();
    let out = double.folder().join("out.h264");
    let made = |double: &Double| {
        run_well(
            double,
            &format!(
                "{} ! nvh264enc gop-size=30 ! video/x-h264,profile=main,stream-format=byte-stream ! filesink location={}",
                pattern(60, 320, 240, "ball"),
                out.display()
            ),
        );
        fs::read(&out).unwrap()
    };
    let good = made(&double);
    assert_eq!(pictures(&out).len(), 60);
    double.set(Fault::Corrupt { every: 7 });
    let spoilt = made(&double);
    assert!(spoilt.len() == good.len() && spoilt != good);
    double.clear();
}

/// This is how the real element is: it follows the pointer to no bits.
#[test]
fn a_picture_without_bits_is_the_end_of_the_process() {
    let mut double = Double::start();
    double.set(Fault::Empty { every: 7 });
    let mut running = Running::start(&double, &encode(60));
    let status = until("an end", || running.0.try_wait().unwrap());
    assert_eq!(status.signal(), Some(rustix::process::Signal::SEGV.as_raw()), "{status}");
    double.until_clean();
}

/// The pictures that fail are the seed's, so a run can be had again.
#[test]
fn random_faults_are_the_same_for_the_same_seed() {
    let first_failure = |seed: u32| {
        let mut double = Double::start();
        double.set(Fault::Random { seed, permille: 15 });
        let done = run(&double, &encode(300));
        let log = double.log();
        let failed = log.lines().filter_map(|l| l.split_once("] ")).find(|(_, what)| what.contains(": injected "));
        let failed = failed.map(|(_, what)| what.to_owned());
        assert!(failed.is_some() || done.status.success(), "{log}");
        failed
    };
    let seeds: Vec<_> = (1..=4).map(first_failure).collect();
    assert!(seeds.iter().any(Option::is_some), "{seeds:?}");
    assert!(seeds.iter().any(|s| *s != seeds[0]), "{seeds:?}");
    assert_eq!(first_failure(1), seeds[0]);
    assert_eq!(first_failure(2), seeds[1]);
}

#[test]
fn a_driver_that_is_missing_old_or_in_part_leaves_elements_out() {
    let encoders = |names: &[String]| names.iter().any(|n| n == "nvh264enc");
    let scalers = |names: &[String]| names.iter().any(|n| n == "cudaconvertscale");
    let mut double = Double::start();
    let all = elements(&double);
    assert!(encoders(&all) && scalers(&all), "{all:?}");
    double.set(Fault::Devices { count: 0 });
    assert_eq!(elements(&double), Vec::<String>::new());
    double.clear();
    double.set(Fault::NvencVersion { major: 9, minor: 1 });
    let old = elements(&double);
    assert!(!encoders(&old) && scalers(&old), "{old:?}");
    // GStreamer 1.26 asks for P1 to P7 under whichever name.
    double.clear();
    double.set(Fault::NoLegacyPresets);
    assert_eq!(elements(&double), all);
    for preset in ["p1", "hq"] {
        run_well(&double, &format!("{} ! nvh264enc preset={preset} ! fakesink", pattern(5, 320, 240, "ball")));
    }
    let parts = Double::without(&[Library::Nvrtc]);
    let names = elements(&parts);
    assert!(encoders(&names) && !scalers(&names), "{names:?}");
    let parts = Double::without(&[Library::Encode]);
    let names = elements(&parts);
    assert!(!encoders(&names) && scalers(&names), "{names:?}");
}

#[test]
fn capabilities_are_what_is_set() {
    let mut double = Double::start();
    // NV_ENC_CAPS_WIDTH_MIN
    double.set(Fault::Cap { number: 45, value: 400 });
    let done = run(&double, &encode(5));
    assert!(!done.status.success(), "{}", complaint(&done));
}

#[test]
fn what_the_double_does_not_know_is_refused() {
    let mut double = Double::start();
    run_well(&double, &encode(1));
    let refused =
        catch_unwind(AssertUnwindSafe(|| double.set(Fault::Fail { call: "glClear", code: 1, after: 0, times: None })));
    let said = *refused.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("no such setting: fail.glClear"), "{said}");
    double.clear();
}

#[test]
fn a_test_that_never_loads_the_double_fails() {
    let outcome = catch_unwind(|| drop(Double::start()));
    assert!(outcome.unwrap_err().downcast::<&str>().unwrap().contains("no process has loaded"));
}
