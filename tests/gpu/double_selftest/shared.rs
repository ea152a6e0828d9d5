//! What processes share, and that a dead one gives back what it held.

use crate::double::{Double, Fault};
use crate::harness::{beside_others, tools, until};

use super::{DEVICE, Running, complaint, live, pattern, run, run_well};

/// A pipeline from the decoder to an encoder that goes on at its own pace.
fn whole() -> String {
    format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! x264enc tune=zerolatency ! h264parse ! nvh264dec ! {DEVICE} ! \
         cudaconvertscale ! {DEVICE},width=160,height=120 ! nvh264enc ! fakesink"
    )
}

#[test]
fn a_killed_process_gives_back_all_that_it_held() {
    let _machine = beside_others();
    let double = Double::start();
    let running = Running::start(&double, &whole());
    until("a picture", || (double.state().total("encoded_pictures") > 0).then_some(()));
    double.assert_loaded_by(running.pid());
    let state = double.state();
    assert_eq!((state.gauge("encode_sessions"), state.gauge("decode_sessions"), state.sessions.len()), (1, 1, 1), "{state:?}");
    assert!(state.gauge("contexts") > 0 && state.memory[&0] > 0, "{state:?}");
    assert_eq!((state.sessions[0].pid, state.sessions[0].width, state.sessions[0].height), (running.pid(), 160, 120));
    running.kill();
    double.until_clean();
    assert!(double.state().processes.is_empty());
}

#[test]
fn twenty_starts_leave_nothing_behind() {
    let _machine = beside_others();
    let double = Double::start();
    for n in 0..20 {
        if n % 3 == 2 {
            let running = Running::start(&double, &whole());
            let before = double.state().total("encoded_pictures");
            until("a picture", || (double.state().total("encoded_pictures") > before).then_some(()));
            running.kill();
            double.until_clean();
        } else {
            run_well(
                &double,
                &format!(
                    "{} ! cudaupload ! cudaconvertscale ! {DEVICE},width=160,height=120 ! nvh264enc ! fakesink",
                    pattern(5, 320, 240, "ball")
                ),
            );
            assert!(double.state().is_clean(), "start {n}: {:?}", double.state());
        }
    }
    assert!(double.state().total("processes_started") >= 20);
}

#[test]
fn the_session_limit_holds_over_processes() {
    let _machine = beside_others();
    let mut double = Double::start();
    // Each process needs a session for a moment when it loads the plugin, so the limit comes when the first one has its own.
    let two = format!("{} ! tee name=t t. ! queue ! nvh264enc ! fakesink t. ! queue ! nvh264enc ! fakesink", live(320, 240));
    let first = Running::start(&double, &two);
    until("two sessions at work", || double.state().sessions.iter().filter(|s| s.width == 320).nth(1).map(drop));
    double.set(Fault::Sessions { at_most: 3 });
    let third = format!("{} ! nvh264enc ! fakesink", pattern(5, 320, 240, "ball"));
    run_well(&double, &third);
    let over = run(&double, &two);
    assert!(!over.status.success() && complaint(&over).contains("Failed to open session"), "{}", complaint(&over));
    first.kill();
    double.until_clean();
    double.set(Fault::Sessions { at_most: 2 });
    let again = Running::start(&double, &two);
    until("two sessions at work", || double.state().sessions.iter().filter(|s| s.width == 320).nth(1).map(drop));
    again.kill();
}

#[test]
fn device_memory_is_shared_by_processes() {
    let _machine = beside_others();
    let mut double = Double::start();
    double.set(Fault::SessionMemory { mib: 100 });
    let encoder = format!("{} ! nvh264enc ! fakesink", live(320, 240));
    let first = Running::start(&double, &encoder);
    until("a session", || double.state().sessions.iter().any(|s| s.width == 320).then_some(()));
    double.set(Fault::DeviceMemory { mib: 150 });
    // Not even the plugin's own trial has room: the process has no encoder at all.
    let second = run(&double, &format!("{} ! nvh264enc ! fakesink", pattern(5, 320, 240, "ball")));
    assert!(!second.status.success(), "{}", complaint(&second));
    first.kill();
    double.until_clean();
    run_well(&double, &format!("{} ! nvh264enc ! fakesink", pattern(5, 320, 240, "ball")));
}

/// What a program reads that opens NVML as ours will.
fn readings(double: &Double) -> String {
    let program =
        std::path::Path::new(env!("CARGO_BIN_EXE_weir")).ancestors().nth(2).unwrap().join("driver-double/nvdouble-nvml");
    let done = tools::run(&mut double.command(program));
    assert!(done.status.success(), "{}", complaint(&done));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn nvml_sees_the_sessions_and_memory_of_every_process() {
    let _machine = beside_others();
    let double = Double::start();
    let processes =
        [Running::start(&double, &whole()), Running::start(&double, &format!("{} ! nvh264enc ! fakesink", live(640, 360)))];
    let seen = until("a rate of both sessions", || {
        let ready = double.state().sessions.iter().filter(|s| s.width > 0 && s.fps > 0).count() == 2;
        ready.then(|| readings(&double))
    });
    assert!(seen.contains("device 0 total 24146608128 ") && seen.contains(" sessions 2 "), "{seen}");
    for (process, size) in processes.iter().zip(["160x120", "640x360"]) {
        assert!(seen.contains(&format!("session 0 pid {} size {size}", process.pid())), "{seen}");
        let used = seen.lines().find_map(|l| l.strip_prefix(&format!("process 0 pid {} used ", process.pid())));
        // A session takes 64 MiB, and pictures on the device come on top.
        assert!(used.is_some_and(|bytes| bytes.parse::<u64>().unwrap() >= 64 << 20), "{seen}");
    }
    for process in processes {
        process.kill();
    }
    double.until_clean();
    let after = readings(&double);
    assert!(after.contains(" used 0 sessions 0 fps 0 load 0"), "{after}");
}

#[test]
fn readings_are_what_is_set() {
    let mut double = Double::start();
    assert!(readings(&double).starts_with("cuda 12040\n"));
    double.set(Fault::CudaVersion { version: 11040 });
    double.set(Fault::Reading { what: "encoder", value: 87 });
    let seen = readings(&double);
    assert!(seen.starts_with("cuda 11040\n") && seen.contains(" sessions 0 fps 0 load 87\n"), "{seen}");
    double.set(Fault::Devices { count: 2 });
    double.set(Fault::DeviceLost { device: 1 });
    let seen = readings(&double);
    // NVML_ERROR_GPU_IS_LOST
    assert!(seen.contains("device 0 total") && seen.contains("lost 1 15\n"), "{seen}");
    double.clear();
    double.set(Fault::Fail { call: "nvmlInit_v2", code: 999, after: 0, times: Some(1) });
    assert_eq!(readings(&double), "error init 999\n");
    assert!(readings(&double).contains("device 0 total"));
}

#[test]
fn a_process_sees_the_devices_that_it_may() {
    let mut double = Double::start();
    double.set(Fault::Devices { count: 2 });
    let on = |device: &str| {
        let mut command = super::pipeline(&double, &format!("{} ! nvh264enc ! fakesink", live(320, 240)));
        command.env("CUDA_VISIBLE_DEVICES", device).env("GST_REGISTRY", double.folder().join(format!("registry-{device}.bin")));
        Running(command.spawn().unwrap())
    };
    let processes = [on("0"), on("1")];
    let sessions = until("a session on each", || {
        let sessions = double.state().sessions;
        (sessions.len() == 2 && sessions.iter().all(|s| s.width == 320)).then_some(sessions)
    });
    for (n, process) in processes.iter().enumerate() {
        assert!(sessions.iter().any(|s| s.pid == process.pid() && s.device as usize == n), "{sessions:?}");
    }
}
