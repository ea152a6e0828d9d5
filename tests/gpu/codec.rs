//! The codec process on a GPU, driven over its link.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/codec/clip.rs"]
mod clip;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/codec/process.rs"]
mod process;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/codec/thumbnails.rs"]
mod thumbnails;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use clip::Clip;
pub use process::message;
use process::{Codec, plan};
use weir::link::wire::{Encoder, FromCodec, Plan, ToCodec};
use weir::logic::model::Coding;
use weir::logic::recipe::Class;

use crate::double::{Double, Fault};
use crate::harness::tools;

/// NV_ENC_ERR_OUT_OF_MEMORY: also what the driver says when there are too many sessions.
const OUT_OF_MEMORY: i32 = 10;
/// CUDA_ERROR_UNKNOWN.
const UNKNOWN: i32 = 999;

/// What the sandbox has to let through: the double keeps its state and its trace in files, as no driver does, and its libraries lie where they were built.
pub fn driver_paths(double: &Double) -> [PathBuf; 2] {
    let target = Path::new(env!("CARGO_BIN_EXE_weir")).ancestors().nth(2).expect("a profile's folder in the target folder");
    [double.folder().to_owned(), target.join("driver-double")]
}

/// As the supervisor starts it: the registry is written before, by a process without a sandbox.
fn on_gpu(double: &Double) -> Command {
    const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-codec");
    let inventory = tools::run(double.command(PROGRAM).arg("--inventory"));
    assert!(inventory.status.success(), "{}", String::from_utf8_lossy(&inventory.stderr));
    let mut command = double.command(PROGRAM);
    command.env("GST_REGISTRY_UPDATE", "no").args(["--encoder", "nvidia"]);
    for path in driver_paths(double) {
        command.arg("--device-path").arg(path);
    }
    command
}

pub fn start(double: &Double) -> Codec {
    Codec::start_by(on_gpu(double))
}

pub fn nvidia(clip: &Clip, rungs: &[(u32, u32, bool)]) -> Plan {
    Plan { encoder: Encoder::Nvidia { class: Class::Dense, allow_cpu_decode: false }, ..plan(clip, rungs) }
}

/// Every `n`-th presentation time from the first.
fn every(times: &[i64], n: usize) -> Vec<i64> {
    times.iter().copied().step_by(n).collect()
}

/// Every second time, beginning anew at each cut.
fn halved(times: &[i64], cuts: &[i64]) -> Vec<i64> {
    let mut since = 0;
    let keep = |t: &&i64| {
        since = if cuts.contains(t) { 0 } else { since + 1 };
        since % 2 == 0
    };
    times.iter().filter(keep).copied().collect()
}

fn check(out: &process::Output, clip: &Clip, rungs: &[(u32, u32, bool)], cuts: &[i64]) {
    assert_eq!(out.failed, None);
    for (rung, (made, wanted)) in out.rungs.iter().zip(rungs).enumerate() {
        let times = clip.times();
        assert_eq!(made.keys(), cuts, "rung {rung}: an IDR at every cut and nowhere else");
        let expected = if wanted.2 { halved(&times, cuts) } else { times };
        assert_eq!(made.times(), expected, "rung {rung}: every picture once, at exactly the source's times");
        assert_eq!(made.configs.len(), 1, "rung {rung}: one configuration");
        let sps = made.sps();
        assert_eq!(u8::from(sps.profile_idc), 100, "rung {rung}: High");
        assert_eq!(sps.pixel_dimensions().unwrap(), (wanted.0, wanted.1), "rung {rung}");
        assert_eq!(made.decoded(), expected.len(), "rung {rung}: all pictures decode");
    }
}

#[test]
fn every_cut_is_an_idr_on_every_rung_and_no_picture_leaves_the_device() {
    for fps in [30, 60] {
        let double = Double::start();
        let clip = Clip::make(640, 360, fps, 5, &[]);
        let rungs = [(640, 360, false), (426, 240, fps > 30), (320, 180, fps > 30)];
        let cuts = every(&clip.times(), fps as usize + 1);
        let mut codec = start(&double);
        codec.greet();
        let before = double.state();
        let out = codec.run(&nvidia(&clip, &rungs), &clip, &cuts);
        check(&out, &clip, &rungs, &cuts);
        let after = double.state();
        assert_eq!(after.calls("nvEncLockInputBuffer"), 0, "pictures are not copied into the encoder");
        assert_eq!(after.host_copies(), before.host_copies(), "nor through the host's memory");
        assert!(after.calls("nvEncEncodePicture") > before.calls("nvEncEncodePicture"));
        let (status, log) = codec.finish();
        assert!(status.success() && log.is_empty(), "{status} {log}");
        double.until_clean();
    }
}

/// What comes to the host is the thumbnails, in their own size: one copy of each, and not a byte more.
#[test]
fn thumbnails_are_scaled_on_the_device_and_nothing_else_is_downloaded() {
    let double = Double::start();
    // OBS sends BT.709 by default, and BT.601 where it is told to. The scaler does not convert from one matrix to another.
    let in_709 = "drawbox=color=red:t=fill,scale=in_color_matrix=bt601:out_color_matrix=bt709";
    let in_709 = ["-vf", in_709, "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"];
    let in_601 = ["-vf", "drawbox=color=red:t=fill", "-colorspace", "smpte170m", "-color_primaries", "smpte170m"];
    let rungs = [(426, 240, false), (320, 180, false)];
    // The second one's rung has borders, so that its thumbnail is made of the decoder's picture.
    for (clip, matrix) in [
        (Clip::make(640, 360, 25, 5, &in_709), 1),
        (Clip::make(480, 360, 25, 5, &in_709), 1),
        (Clip::make(640, 360, 25, 5, &in_601), 6),
    ] {
        let plan = thumbnails::ordered(&clip, nvidia(&clip, &rungs));
        let ordered = plan.thumbnail.unwrap();
        let cuts = &clip.times()[..1];
        let mut codec = start(&double);
        codec.greet();
        let before = double.state();
        let out = codec.run(&plan, &clip, cuts);
        check(&out, &clip, &rungs, cuts);
        let after = double.state();
        assert_eq!(out.thumbnails.iter().map(|t| t.0).collect::<Vec<_>>(), [clip.times()[0], clip.times()[100]]);
        for rung in &out.rungs {
            let signal = rung.sps().vui_parameters.unwrap().video_signal_type.unwrap();
            assert_eq!(signal.colour_description.unwrap().matrix_coefficients, matrix, "what players convert by");
        }
        for (_, jpeg) in &out.thumbnails {
            thumbnails::is_all(&thumbnails::decoded(jpeg, &ordered), [255, 0, 0]);
        }
        let more = |what: &str| after.calls(what) - before.calls(what);
        assert_eq!((more("copy.device_to_host"), more("copy.host_to_device"), more("nvEncLockInputBuffer")), (2, 0, 0));
        assert_eq!(more("bytes.device_to_host"), 2 * u64::from(ordered.width * ordered.height) * 3 / 2);
        let (status, log) = codec.finish();
        assert!(status.success() && log.is_empty(), "{status} {log}");
        double.until_clean();
    }
}

#[test]
fn hevc_is_decoded_on_the_device() {
    let double = Double::start();
    let rungs = [(640, 360, false), (426, 240, false)];
    for (kind, options) in [("8 bit", ""), ("10 bit", "-pix_fmt yuv420p10le")] {
        let clip = Clip::coded(Coding::Hevc, 640, 360, 30, 2, options);
        if kind == "10 bit" {
            // The double compiles the converter's kernel, which a process in its sandbox cannot.
            for (width, height) in [(640, 360), (426, 240)] {
                let text = format!(
                    "videotestsrc num-buffers=1 ! video/x-raw,format=P010_10LE,width=640,height=360 ! cudaupload ! cudaconvertscale ! \
                     video/x-raw(memory:CUDAMemory),format=NV12,width={width},height={height} ! fakesink"
                );
                let done = tools::run(double.command("gst-launch-1.0").arg("-q").args(text.split(' ')));
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
        }
        let cuts = every(&clip.times(), 31);
        let mut codec = start(&double);
        codec.greet();
        let before = double.state();
        let out = codec.run(&nvidia(&clip, &rungs), &clip, &cuts);
        check(&out, &clip, &rungs, &cuts);
        let after = double.state();
        assert_eq!(after.host_copies(), before.host_copies(), "{kind}: not through the host's memory");
        assert_eq!(after.calls("cuvidDecodePicture") - before.calls("cuvidDecodePicture"), clip.units.len() as u64, "{kind}");
        let (status, log) = codec.finish();
        assert!(status.success() && log.is_empty(), "{status} {log}");
    }
    double.until_clean();
}

#[test]
fn b_frames_of_the_source_and_of_the_premium_class_keep_their_times() {
    let double = Double::start();
    let clip = Clip::make(640, 360, 30, 3, &["-bf", "3"]);
    let cuts: Vec<_> = clip.units.iter().filter(|u| u.idr).map(|u| u.pts).collect();
    let mut codec = start(&double);
    codec.greet();
    let rungs = [(426, 240, false)];
    let mut plan = nvidia(&clip, &rungs);
    check(&codec.run(&plan, &clip, &cuts), &clip, &rungs, &cuts);
    plan.encoder = Encoder::Nvidia { class: Class::Premium, allow_cpu_decode: false };
    let out = codec.run(&plan, &clip, &cuts);
    check(&out, &clip, &rungs, &cuts);
    let times: Vec<_> = out.rungs[0].units.iter().map(|u| u.0).collect();
    assert!(!times.is_sorted(), "it reorders");
}

#[test]
fn parameter_sets_are_the_same_after_a_restart() {
    let double = Double::start();
    let clip = Clip::make(640, 360, 30, 2, &[]);
    let other = Clip::make(640, 360, 30, 1, &["-vf", "hue=s=0"]);
    let mut records = Vec::new();
    for clip in [&clip, &other, &clip] {
        let mut codec = start(&double);
        codec.greet();
        let out = codec.run(&nvidia(clip, &[(426, 240, false), (320, 180, false)]), clip, &clip.times()[..1]);
        records.push(out.rungs.iter().map(|r| r.configs.clone()).collect::<Vec<_>>());
    }
    assert_eq!(records[1], records[0]);
    assert_eq!(records[2], records[0]);
}

#[test]
fn all_streams_of_a_process_share_one_context() {
    let double = Double::start();
    let clip = Clip::make(320, 180, 30, 1, &[]);
    let mut codec = start(&double);
    codec.greet();
    let start = |stream| message(&ToCodec::Start { stream, plan: Box::new(nvidia(&clip, &[(160, 90, false)])) }, &[]);
    for stream in 1..=5 {
        codec.send_raw(&start(stream));
        for u in &clip.units {
            let video = ToCodec::Video { stream, pts: u.pts, dts: u.dts, idr: u.idr, cut: u.idr };
            codec.send_raw(&message(&video, &u.data));
        }
    }
    // Once each has given a picture, all five pipelines are up.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 5 {
        match codec.receive().expect("pictures") {
            (FromCodec::Unit { stream, .. }, _) => drop(seen.insert(stream)),
            (FromCodec::Config { .. }, _) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
    let state = double.state();
    assert_eq!((state.gauge("contexts"), state.sessions.len()), (1, 5));
}

#[test]
fn a_process_that_gets_no_session_says_so_and_ends() {
    let mut double = Double::start();
    double.set(Fault::Fail { call: "nvEncOpenEncodeSessionEx", code: OUT_OF_MEMORY, after: 0, times: None });
    let mut codec = start(&double);
    let (said, _) = codec.receive().expect("a reason");
    assert!(matches!(&said, FromCodec::Unable { reason } if !reason.is_empty()), "{said:?}");
    assert!(codec.receive().is_none());
    let (status, log) = codec.finish();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    double.clear();
    start(&double).greet();
}

#[test]
fn a_decoder_that_dies_in_silence_fails_the_stream_and_not_the_process() {
    let mut double = Double::start();
    let clip = Clip::make(320, 180, 30, 6, &[]);
    let mut codec = start(&double);
    codec.greet();
    double.set(Fault::Fail { call: "cuvidDecodePicture", code: UNKNOWN, after: 60, times: None });
    let plan = nvidia(&clip, &[(160, 90, false)]);
    let out = codec.run(&plan, &clip, &clip.times()[..1]);
    assert!(out.failed.is_some() && !out.rungs[0].units.is_empty(), "{:?}", out.failed);
    double.clear();
    let out = codec.run(&plan, &clip, &clip.times()[..1]);
    assert!(out.ended, "{:?}", out.failed);
}

#[test]
fn what_the_gpu_does_not_decode_is_decoded_by_the_cpu_where_that_is_allowed() {
    let double = Double::start();
    let rungs = [(426, 240, false)];
    let mut clips = Vec::new();
    for (kind, options) in [
        ("10-bit", &["-pix_fmt", "yuv420p10le"][..]),
        ("4:2:2", &["-pix_fmt", "yuv422p"]),
        ("interlaced", &["-flags", "+ildct+ilme", "-x264-params", "tff=1:weightp=0"]),
    ] {
        clips.push((kind, Clip::make(640, 360, 25, 2, options)));
    }
    // The double has no AV1, and GStreamer no element for it then.
    clips.push(("AV1", Clip::coded(Coding::Av1, 640, 360, 25, 2, "")));
    clips.push(("4:2:2", Clip::coded(Coding::Hevc, 640, 360, 25, 2, "-pix_fmt yuv422p")));
    for (kind, clip) in clips {
        let cuts = every(&clip.times(), 20);
        let mut codec = start(&double);
        codec.greet();
        let mut plan = nvidia(&clip, &rungs);
        let refused = codec.run(&plan, &clip, &cuts).failed.unwrap();
        assert!(refused.contains(kind), "{refused}");
        plan.encoder = Encoder::Nvidia { class: Class::Dense, allow_cpu_decode: true };
        check(&codec.run(&plan, &clip, &cuts), &clip, &rungs, &cuts);
    }
}

#[test]
fn the_sandbox_of_a_gpu_leaves_the_drivers_files_and_no_others() {
    let double = Double::start();
    let said = tools::run(on_gpu(&double).arg("--sandbox-check"));
    let answer: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let all = answer.as_object().unwrap().values().flat_map(|group| group.as_object().unwrap());
    for (what, holds) in all {
        assert_eq!(holds, true, "{what}: {answer}");
    }
}
