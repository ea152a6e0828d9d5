//! The codec process, driven over its link with clips that ffmpeg makes.

mod clip;
mod process;

use clip::Clip;
use process::{Codec, message, plan};
use weir::link::wire::{Encoder, FromCodec, Inventory, ToCodec};

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
    for shift in [-9_000, 30 * 86_400 * 90_000] {
        let clip = Clip::make(320, 180, 30, 2, &[]).shifted(shift);
        let cuts = every(&clip.times(), 25);
        check(&clip, &[(160, 90, false)], &cuts);
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
fn a_message_about_an_unknown_stream_ends_the_process() {
    let mut codec = Codec::start();
    codec.greet();
    codec.send_raw(&message(&ToCodec::End { stream: 7 }, &[]));
    assert!(codec.receive().is_none());
    let (status, log) = codec.finish();
    assert_eq!(status.code(), Some(2));
    assert!(log.contains("stream 7"), "{log}");
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

#[test]
fn damaged_pictures_do_not_stop_the_stream() {
    let mut clip = Clip::make(320, 180, 30, 4, &["-g", "30"]);
    let cuts: Vec<_> = clip.units.iter().filter(|u| u.idr).map(|u| u.pts).collect();
    // a fixed sequence, so that a failure can be repeated
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for unit in clip.units.iter_mut().skip(3).filter(|u| !u.idr) {
        let mut data = unit.data.to_vec();
        for _ in 0..8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = seed as usize % data.len();
            data[at] ^= 1 << (seed >> 60 & 7);
        }
        unit.data = data.into();
    }
    let mut codec = Codec::start();
    codec.greet();
    let out = codec.run(&plan(&clip, &[(160, 90, false)]), &clip, &cuts);
    assert!(out.ended, "{:?}", out.failed);
    let keys = out.rungs[0].keys();
    assert_eq!(keys, cuts);
    let (status, log) = codec.finish();
    assert!(status.success() && !log.contains("panicked"), "{log}");
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
