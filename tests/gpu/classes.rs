//! `nvidia.class=auto`: how much work is put into a stream's pictures follows how full its device is, down to the preset that NVENC was asked for.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::double::{Double, Fault};
use crate::faults::stage::{CLIP, RUNG, Stage, lost_at_most, untouched};
use crate::harness::clip::Clip;
use crate::harness::{alone, until};

/// Megahertz at which an A10G has a budget of 15,931 macroblocks a second (846 x 5 / 1950 pictures of 8160, and of that 90 %). The clip's rung has
/// 60 x 20, which is 7.5 % of it; as normal 15.8 %, as premium 36.2 %.
const CLOCK: u32 = 5;

/// What the presets of dense, normal and premium are to the double.
const PRESETS: [&str; 3] = ["nvenc.preset.p1", "nvenc.preset.p4", "nvenc.preset.p5"];

/// The encoders that were set up so far by each.
fn encoders(double: &Double) -> [u64; 3] {
    let state = double.state();
    PRESETS.map(|preset| state.calls(preset))
}

/// Waits for a codec process of the stream, other than this one, with a picture of it; gives what its status says of the class.
fn class(stage: &Stage, name: &str, other_than: Option<u32>) -> Value {
    until("an encoder of the stream", || {
        let stream = stage.worker.stream(name)?;
        let pid = u32::try_from(stream["codec_pid"].as_u64()?).ok().filter(|&pid| Some(pid) != other_than)?;
        let encodes = stage.double.state().sessions.iter().any(|s| s.pid == pid && (s.width, s.height) == (160, 90));
        encodes.then(|| stream["encoder_class"].clone())
    })
}

#[test]
fn the_first_streams_are_premium_and_the_last_dense_and_a_restart_keeps_the_class() {
    const LONG: Clip = Clip { seconds: 20, ..CLIP };
    // By name: what the class is, the share of the budget with it, and encoders of P4 and P5 that it brought.
    const STREAMS: [(&str, &str, u64, [u64; 2]); 4] = [
        ("anna", "premium", 37, [0, 1]),
        ("bert", "normal", 52, [1, 0]),
        ("cleo", "normal", 68, [1, 0]),
        ("dora", "dense", 76, [0, 0]),
    ];
    // Made before anything waits for it.
    LONG.file();
    let mut double = Double::start();
    double.set(Fault::Reading { what: "clock_video_max_mhz", value: CLOCK });
    let _machine = alone();
    let mut stage = Stage::open(double, LONG, &["--set", "nvidia.class=auto"]);
    for (name, wanted, percent, [normal, premium]) in STREAMS {
        let [_, p4, p5] = encoders(&stage.double);
        stage.publish(name);
        let said = class(&stage, name, None);
        assert_eq!(said, serde_json::json!({ "class": wanted, "reason": "load", "load_percent": percent }), "{name}");
        let [p1, normals, premiums] = encoders(&stage.double);
        assert_eq!([normals - p4, premiums - p5], [normal, premium], "{name}: by NVENC");
        assert!(p1 > 0, "what is dense, and each trial");
    }
    stage.worker.logged("encoder class: 76 % of the device's budget is taken with it");
    let metrics = stage.worker.get("metrics").text();
    for (name, class, ..) in STREAMS {
        let line = format!("weir_encoder_class{{stream=\"{name}\",class=\"{class}\",reason=\"load\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert!(metrics.contains("weir_encoder_budget_ratio{uuid=\"GPU-"), "{metrics}");

    let pid = stage.worker.codec_pid("anna");
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    let again = class(&stage, "anna", Some(pid));
    assert_eq!(again, serde_json::json!({ "class": "premium", "reason": "kept", "load_percent": 76 }));
    assert_eq!(encoders(&stage.double)[2], 2, "premium again, though the device is fuller than that");

    let seen = stage.finish();
    for (name, ..) in &STREAMS[1..] {
        untouched(&seen[*name], &LONG);
    }
    // Which also says that its parameter sets are the same: no discontinuity.
    lost_at_most(&seen["anna"], &LONG, 2);
    let init = |name: &str| {
        let path = seen[name].tracks[RUNG].segments[0].init.as_ref().expect("an init segment");
        &seen[name].objects[path]
    };
    assert_eq!(init("bert"), init("cleo"));
    assert_ne!(init("anna"), init("dora"), "another class has other parameter sets");
}
