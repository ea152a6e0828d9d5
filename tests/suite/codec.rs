//! The codec process, driven over its link with clips that ffmpeg makes.

mod clip;
mod process;
mod sound;
mod thumbnails;

use bytes::Bytes;
use clip::Clip;
use process::{Codec, message, plan};
use weir::link::wire::{Encoder, FromCodec, Inventory, ToCodec};
use weir::logic::model::Coding;

/// Every `n`-th presentation time from the first: cuts as the supervisor makes them without a source rung.
fn every(times: &[i64], n: usize) -> Vec<i64> {
    times.iter().copied().step_by(n).collect()
}

/// Runs and checks what must hold for every clip that is not damaged.
fn check(clip: &Clip, rungs: &[(u32, u32, bool)], cuts: &[i64]) -> process::Output {
    let plan = plan(clip, rungs);
    let mut codec = Codec::start();
    codec.greet();
    let out = codec.run(&plan, clip, cuts);
    assert_eq!(out.failed, None);
    let (status, log) = codec.finish();
    assert!(status.success() && log.is_empty(), "{status} {log}");
    let times = clip.times();
    for (rung, (made, wanted)) in out.rungs.iter().zip(rungs).enumerate() {
        assert_eq!(made.keys(), cuts, "rung {rung}: an IDR at every cut and nowhere else");
        let expected = if wanted.2 { halved(&times, cuts) } else { times.clone() };
        assert_eq!(made.times(), expected, "rung {rung}: every picture once, at exactly the source's times");
        assert_eq!(made.configs.len(), 1, "rung {rung}: one configuration");
        assert_eq!(made.decoded(), expected.len(), "rung {rung}: all pictures decode");
    }
    out
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

#[test]
fn every_cut_is_an_idr_on_every_rung_at_the_common_frame_rates() {
    for fps in [25, 30, 50, 60] {
        let clip = Clip::make(640, 360, fps, 5, &[]);
        let half = fps > 30;
        let rungs = [(640, 360, false), (426, 240, half), (320, 180, half)];
        // 2 s, and once an odd number of frames, so that parity has to restart
        let cuts = every(&clip.times(), fps as usize + 1);
        let out = check(&clip, &rungs, &cuts);
        assert!(out.rungs[0].keys().len() >= 4);
    }
}

#[test]
fn hevc_and_av1_become_the_same_rungs() {
    let clips = [
        ("HEVC", Clip::coded(Coding::Hevc, 640, 360, 30, 2, "")),
        ("HEVC, 10 bit", Clip::coded(Coding::Hevc, 640, 360, 30, 2, "-pix_fmt yuv420p10le")),
        ("HEVC, 4:2:2", Clip::coded(Coding::Hevc, 638, 358, 30, 2, "-pix_fmt yuv422p")),
        ("AV1", Clip::coded(Coding::Av1, 640, 360, 30, 2, "")),
        ("AV1, 10 bit", Clip::coded(Coding::Av1, 640, 360, 30, 1, "-pix_fmt yuv420p10le")),
    ];
    for (kind, clip) in clips {
        println!("{kind}");
        let reorders = clip.units.iter().any(|u| u.pts != u.dts);
        assert_eq!(reorders, kind.starts_with("HEVC"), "{kind}");
        let cuts = every(&clip.times(), 31);
        let out = check(&clip, &[(426, 240, false), (320, 180, false)], &cuts);
        assert_eq!(u8::from(out.rungs[0].sps().profile_idc), 100, "{kind}: High");
    }
}

#[test]
fn cuts_at_the_sources_own_idrs() {
    let clip = Clip::make(640, 360, 30, 6, &["-force_key_frames", "0,1.3,2.9,4"]);
    let cuts: Vec<_> = clip.units.iter().filter(|u| u.idr).map(|u| u.pts).collect();
    assert_eq!(cuts.len(), 4);
    check(&clip, &[(320, 180, false)], &cuts);
}

#[test]
fn a_full_rate_rung_below_a_halved_one_keeps_its_frames() {
    let clip = Clip::make(640, 360, 60, 2, &[]);
    let cuts = every(&clip.times(), 45);
    check(&clip, &[(480, 270, true), (320, 180, false)], &cuts);
}

#[test]
fn times_may_be_negative_or_days_away() {
    // 60 days: beyond the 1000 hours that x264enc adds to smaller times
    for shift in [-9_000, 30 * 86_400 * 90_000, 60 * 86_400 * 90_000] {
        let clip = Clip::make(320, 180, 30, 2, &[]).shifted(shift);
        let cuts = every(&clip.times(), 25);
        check(&clip, &[(160, 90, false)], &cuts);
    }
}

#[test]
fn sources_of_other_kinds_become_plain_rungs() {
    let clips = [
        ("4:2:2", Clip::make(640, 360, 30, 2, &["-pix_fmt", "yuv422p"])),
        ("4:4:4", Clip::make(640, 360, 30, 2, &["-pix_fmt", "yuv444p"])),
        ("10 bit", Clip::make(640, 360, 30, 2, &["-pix_fmt", "yuv420p10le"])),
        ("full range", Clip::make(640, 360, 30, 2, &["-pix_fmt", "yuvj420p", "-color_range", "pc"])),
        ("BT.601", Clip::make(640, 360, 30, 2, &["-colorspace", "smpte170m", "-color_primaries", "smpte170m"])),
        ("cropped", Clip::make(638, 358, 30, 2, &[])),
        ("4:3 samples", Clip::make(480, 360, 30, 2, &["-vf", "setsar=4/3"])),
    ];
    for (kind, clip) in clips {
        println!("{kind}");
        let cuts = every(&clip.times(), 31);
        let out = check(&clip, &[(426, 240, false), (320, 180, false)], &cuts);
        for rung in out.rungs {
            let sps = rung.sps();
            assert_eq!(u8::from(sps.profile_idc), 100, "{kind}: High");
            let vui = sps.vui_parameters.unwrap();
            assert_eq!(vui.aspect_ratio_info.and_then(|a| a.get()).unwrap_or((1, 1)), (1, 1), "{kind}");
            let signal = vui.video_signal_type.unwrap();
            assert!(!signal.video_full_range_flag, "{kind}");
            assert_eq!(signal.colour_description.unwrap().matrix_coefficients, 1, "{kind}: BT.709");
            assert_eq!(vui.timing_info.map(|t| t.time_scale / t.num_units_in_tick), Some(60), "{kind}: fields per second");
            assert_eq!(vui.bitstream_restrictions.unwrap().max_num_reorder_frames, 1, "{kind}");
        }
    }
}

#[test]
fn an_interlaced_source_becomes_progressive_at_its_frame_rate() {
    let clip = Clip::make(640, 360, 25, 2, &["-flags", "+ildct+ilme", "-x264-params", "tff=1:weightp=0"]);
    let cuts = every(&clip.times(), 20);
    let out = check(&clip, &[(320, 180, false)], &cuts);
    assert_eq!(out.rungs[0].sps().frame_mbs_flags, h264_reader::nal::sps::FrameMbsFlags::Frames);
}

#[test]
fn captions_are_left_to_the_supervisor() {
    let mut clip = Clip::make(320, 180, 30, 1, &[]);
    // A T.35 SEI with one pair of CEA-608 bytes (ATSC A/53 part 4, 6.2.3) in front of every picture.
    let captions = [6, 4, 14, 0xb5, 0, 0x31, b'G', b'A', b'9', b'4', 3, 0x41, 0xff, 0xfc, 0x94, 0x2c, 0xff, 0x80];
    for unit in &mut clip.units {
        let mut data = (captions.len() as u32).to_be_bytes().to_vec();
        data.extend(captions);
        data.extend(&unit.data[..]);
        unit.data = data.into();
    }
    let out = check(&clip, &[(160, 90, false)], &clip.times()[..1]);
    let is_caption = |nal: &[u8]| nal[0] & 0x1f == 6 && nal.windows(4).any(|w| w == b"GA94");
    assert!(!out.rungs[0].units.iter().any(|(_, _, data)| process::nals(data).any(is_caption)));
}

#[test]
fn the_rates_of_the_plan_reach_the_encoder() {
    let clip = Clip::make(320, 180, 30, 1, &[]);
    let out = check(&clip, &[(160, 90, false)], &clip.times()[..1]);
    // x264 writes its settings into an SEI of the first picture.
    let first = String::from_utf8_lossy(&out.rungs[0].units[0].2).into_owned();
    for setting in [
        "bitrate=400",
        "vbv_maxrate=400",
        "vbv_bufsize=400",
        "keyint=300",
        "keyint_min=1",
        "scenecut=0",
        "bframes=2",
        "b_pyramid=0",
        "open_gop=0",
        "threads=1",
        "lookahead_threads=1",
        "interlaced=0",
        "cabac=1",
        "8x8dct=1",
    ] {
        assert!(first.contains(&format!(" {setting} ")), "{setting} is not in {first}");
    }
}

#[test]
fn parameter_sets_are_the_same_after_a_restart_and_for_every_preset_up_to_faster() {
    let clip = Clip::make(640, 360, 30, 3, &[]);
    let other = Clip::make(640, 360, 30, 2, &["-vf", "hue=s=0"]);
    let mut records = Vec::new();
    for (clip, preset) in
        [(&clip, "ultrafast"), (&other, "ultrafast"), (&clip, "superfast"), (&clip, "veryfast"), (&clip, "faster")]
    {
        let mut plan = plan(clip, &[(640, 360, false), (320, 180, false)]);
        plan.source = self::clip::Clip::clone(clip).format;
        plan.encoder = Encoder::Software { preset: preset.into(), threads: 1 };
        let mut codec = Codec::start();
        codec.greet();
        let out = codec.run(&plan, clip, &clip.times()[..1]);
        records.push(out.rungs.iter().map(|r| r.configs.clone()).collect::<Vec<_>>());
    }
    for record in &records {
        assert_eq!(record, &records[0]);
    }
    // High profile: AVCProfileIndication 100
    assert_eq!(records[0][0][0][1], 100);
}

#[test]
fn garbage_ends_the_process_with_one_clear_line() {
    let mut unversioned = message(&ToCodec::Hello { version: 999 }, &[]).to_vec();
    unversioned.extend([0; 40]);
    for (bytes, says) in [
        (vec![0xff; 100], "frame of 4294967295 bytes"),
        (vec![0, 0, 0, 4, 0, 2, 0xee, 0xee], "header is no message"),
        (unversioned, "link version 999"),
        (message(&ToCodec::Probe, &[]).to_vec(), "did not begin with its version"),
    ] {
        let mut codec = Codec::start();
        codec.send_raw(&bytes);
        while codec.receive().is_some() {}
        let (status, log) = codec.finish();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(says) && log.lines().count() == 1 && !log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_message_that_does_not_fit_its_stream_ends_the_process() {
    let clip = Clip::make(320, 180, 30, 1, &[]);
    let start = message(&ToCodec::Start { stream: 7, plan: Box::new(plan(&clip, &[(160, 90, false)])) }, &[]);
    let end = message(&ToCodec::End { stream: 7 }, &[]);
    for (bytes, says) in [
        ([&end[..], &[]].concat(), "stream 7, which was not started"),
        ([start.clone(), start].concat(), "stream 7 is running"),
    ] {
        let mut codec = Codec::start();
        codec.greet();
        codec.send_raw(&bytes);
        assert!(codec.receive().is_none());
        let (status, log) = codec.finish();
        assert_eq!(status.code(), Some(2));
        assert!(log.contains(says), "{log}");
    }
}

#[test]
fn a_plan_that_cannot_be_met_fails_with_a_reason_and_the_process_lives() {
    let clip = Clip::make(320, 180, 30, 1, &[]);
    let mut codec = Codec::start();
    codec.greet();
    let mut bad = plan(&clip, &[(160, 90, false)]);
    bad.encoder = Encoder::Software { preset: "veryfast ! filesink location=/tmp/x".into(), threads: 1 };
    codec.send_raw(&message(&ToCodec::Start { stream: 3, plan: Box::new(bad) }, &[]));
    let (answer, _) = codec.receive().unwrap();
    assert!(matches!(&answer, FromCodec::Failed { stream: 3, reason } if reason.contains("is no preset")), "{answer:?}");
    let out = codec.run(&plan(&clip, &[(160, 90, false)]), &clip, &clip.times()[..1]);
    assert!(out.ended && out.rungs[0].units.len() == clip.units.len());
}

/// A fixed sequence (xorshift64), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n.max(1)
    }

    fn flip(&mut self, data: &Bytes, times: usize) -> Bytes {
        let mut data = data.to_vec();
        for _ in 0..times {
            let at = self.below(data.len());
            data[at] ^= 1 << self.below(8);
        }
        data.into()
    }
}

#[test]
fn damaged_pictures_do_not_stop_the_stream() {
    let mut clip = Clip::make(320, 180, 30, 4, &["-g", "30"]);
    let cuts: Vec<_> = clip.units.iter().filter(|u| u.idr).map(|u| u.pts).collect();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for unit in clip.units.iter_mut().skip(3).filter(|u| !u.idr) {
        unit.data = dice.flip(&unit.data, 8);
    }
    let mut codec = Codec::start();
    codec.greet();
    let out = codec.run(&plan(&clip, &[(160, 90, false)]), &clip, &cuts);
    assert!(out.ended, "{:?}", out.failed);
    assert_eq!(out.rungs[0].keys(), cuts);
    let (status, log) = codec.finish();
    assert!(status.success() && !log.contains("panicked"), "{log}");
}

#[test]
fn whatever_a_stranger_sends_gets_an_answer() {
    let clip = Clip::make(320, 180, 30, 2, &["-g", "15"]);
    let large = Clip::make(640, 360, 30, 1, &[]);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut cases: Vec<(String, Clip)> = Vec::new();
    for round in 0..6 {
        let mut flipped = clip.clone();
        flipped.units.iter_mut().for_each(|u| u.data = dice.flip(&u.data, 1 + round * 4));
        cases.push((format!("bits flipped everywhere {round}"), flipped));
        let mut record = clip.clone();
        record.format.avcc = dice.flip(&record.format.avcc, 1 + round);
        cases.push((format!("bits flipped in the parameter sets {round}"), record));
    }
    let changed = |what: &str, change: &mut dyn FnMut(&mut clip::Unit)| {
        let mut changed = clip.clone();
        changed.units.iter_mut().for_each(change);
        (what.to_owned(), changed)
    };
    cases.push(changed("random bytes", &mut |u| u.data = (0..200).map(|_| dice.below(256) as u8).collect()));
    cases.push(changed("cut short", &mut |u| u.data = u.data.slice(..u.data.len() / 2)));
    cases.push(changed("a length that lies", &mut |u| u.data = [&[0x7f, 0xff, 0xff, 0xff], &u.data[4..]].concat().into()));
    cases.push(changed("empty", &mut |u| u.data = Bytes::new()));
    cases.push(changed("no IDR", &mut |u| {
        if u.idr {
            u.data = Bytes::from_static(&[0, 0, 0, 1, 0x09]);
        }
    }));
    cases.push(changed("all at one time", &mut |u| (u.pts, u.dts) = (0, 0)));
    cases.push(changed("backwards", &mut |u| (u.pts, u.dts) = (-u.pts, -u.dts)));
    cases.push(changed("out of range", &mut |u| u.pts = i64::MIN));
    let mut empty = clip.clone();
    empty.format.avcc = Bytes::new();
    cases.push(("no parameter sets".into(), empty));
    let mut wrong = clip.clone();
    wrong.format.avcc = large.format.avcc.clone();
    cases.push(("parameter sets of another stream".into(), wrong));
    // a change of size in the middle: the new parameter sets come in band
    let mut grown = clip.clone();
    let length = clip.times().last().unwrap() + 3000;
    let sets = process::parameter_sets(&large.format.avcc);
    for (index, mut unit) in large.shifted(length).units.into_iter().enumerate() {
        if index == 0 {
            unit.data = [&sets[..], &unit.data[..]].concat().into();
        }
        grown.units.push(unit);
    }
    cases.push(("another size in the middle".into(), grown));
    for (what, clip) in cases {
        println!("{what}");
        let mut codec = Codec::start();
        codec.greet();
        let cuts: Vec<_> = clip.units.iter().filter(|u| u.idr).map(|u| u.pts).collect();
        let out = codec.run(&plan(&clip, &[(160, 90, false), (96, 54, true)]), &clip, &cuts);
        assert!(out.ended != out.failed.is_some(), "{what}");
        let (status, log) = codec.finish();
        println!("  {} {:?} {}", out.rungs[0].units.len(), out.failed, log.lines().count());
        assert!(status.success() && !log.contains("panicked") && log.lines().count() <= 25, "{what}: {status} {log}");
    }
}

#[test]
fn several_streams_share_a_process_and_a_number_can_be_used_again() {
    let clip = Clip::make(320, 180, 30, 1, &[]);
    let mut codec = Codec::start();
    codec.greet();
    let plan = plan(&clip, &[(160, 90, false)]);
    for round in 0..2 {
        for stream in [1, 2] {
            codec.send_raw(&message(&ToCodec::Start { stream, plan: Box::new(plan.clone()) }, &[]));
        }
        for u in &clip.units {
            for stream in [1, 2] {
                let video = ToCodec::Video { stream, pts: u.pts, dts: u.dts, idr: u.idr, cut: u.idr };
                codec.send_raw(&message(&video, &u.data));
            }
        }
        for stream in [1, 2] {
            codec.send_raw(&message(&ToCodec::End { stream }, &[]));
        }
        let (mut units, mut ended) = ([0, 0], 0);
        while ended < 2 {
            match codec.receive().unwrap().0 {
                FromCodec::Unit { stream, .. } => units[stream as usize - 1] += 1,
                FromCodec::Ended { .. } => ended += 1,
                FromCodec::Config { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(units, [clip.units.len(); 2], "round {round}");
    }
}

#[test]
fn a_process_whose_parent_is_gone_does_not_begin() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_weir-codec")).args(["--parent", "2147483646"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("is gone"));
}

#[test]
fn an_end_without_a_beginning_is_answered() {
    let mut clip = Clip::make(320, 180, 30, 1, &[]);
    clip.units.clear();
    let mut codec = Codec::start();
    codec.greet();
    assert!(codec.run(&plan(&clip, &[(160, 90, false)]), &clip, &[]).ended);
}

#[test]
fn the_inventory_is_printed_and_sent() {
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_weir-codec")).arg("--inventory").output().unwrap();
    let printed: Inventory = serde_json::from_slice(&printed.stdout).unwrap();
    let mut codec = Codec::start();
    codec.greet();
    codec.send_raw(&message(&ToCodec::Probe, &[]));
    let (answer, _) = codec.receive().unwrap();
    assert_eq!(answer, FromCodec::Inventory(printed.clone()));
    assert!(printed.elements.iter().any(|e| e.name == "x264enc" && e.present && e.missing_properties.is_empty()));
}

#[test]
fn the_process_ends_with_the_link_even_in_the_middle_of_a_stream() {
    let clip = Clip::make(320, 180, 30, 2, &[]);
    let mut codec = Codec::start();
    codec.greet();
    let plan = plan(&clip, &[(160, 90, false)]);
    codec.send_raw(&message(&ToCodec::Start { stream: 1, plan: Box::new(plan) }, &[]));
    for u in &clip.units {
        let video = ToCodec::Video { stream: 1, pts: u.pts, dts: u.dts, idr: u.idr, cut: false };
        codec.send_raw(&message(&video, &u.data));
    }
    let (status, log) = codec.finish();
    assert!(status.success(), "{status} {log}");
}

#[test]
fn the_sandbox_denies_what_it_says_and_leaves_what_a_pipeline_needs() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_weir-codec")).arg("--sandbox-check").output().unwrap();
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && log.is_empty(), "{log}");
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    for part in ["denied", "allowed"] {
        for (what, fine) in answer[part].as_object().unwrap() {
            assert!(fine == true, "{part}: {what}");
        }
    }
}
