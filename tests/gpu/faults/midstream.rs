//! Something fails while streams are encoded.

use std::time::Duration;

use super::stage::{CLIP, Stage, gaps, own, source_is_whole, story, struck, untouched};
use super::{GENERIC, OUT_OF_MEMORY, UNKNOWN};
use crate::double::{Double, Fault};
use crate::harness::clip::Clip;
use crate::harness::{beside_others, until};

/// A fault in the process of one stream costs it two segments of the encoded rung at most, and the one beside it nothing.
fn one_is_struck(fault: Fault, words: &str, flags: &[&str]) {
    let _machine = beside_others();
    let clip = Clip { seconds: 14, ..CLIP };
    let mut stage = Stage::open(Double::start(), clip, flags);
    stage.two(1);
    let before = stage.only("anna");
    stage.double.set(fault);
    stage.worker.logged(words);
    stage.lost("anna", 1);
    until("another process", || (stage.worker.codec_pid("anna") != before).then_some(()));
    stage.assert_well("bert");
    let seen = stage.finish();
    struck(&seen["anna"], &clip);
    untouched(&seen["bert"], &clip);
}

#[test]
fn a_decoder_dies_in_silence() {
    let fault = Fault::Fail { call: "cuvidDecodePicture", code: UNKNOWN, after: 0, times: None };
    story("decoder-dies", || one_is_struck(fault, "codec process lost: nvh264dec0: Failed to decode data stream=anna", &[]));
}

#[test]
fn an_encoder_fails() {
    let fault = Fault::Fail { call: "nvEncEncodePicture", code: GENERIC, after: 0, times: Some(1) };
    story("encoder-fails", || one_is_struck(fault, "codec process lost", &[]));
}

#[test]
fn the_driver_hangs_in_a_call() {
    let fault = Fault::Hang { call: "nvEncLockBitstream" };
    story("driver-hangs", || {
        one_is_struck(fault, "no output of 90p for 3 s while input flows", &["--set", "codec.output_deadline=3"]);
    });
}

/// Streams that run need next to none of it. One whose process has to be replaced finds none: its rung is shed at the next cut.
#[test]
fn device_memory_is_gone() {
    story("memory-gone-in-mid-stream", || {
        let _machine = beside_others();
        let mut stage = Stage::open(Double::start(), CLIP, &[]);
        stage.two(1);
        stage.double.leave_no_session();
        stage.encoded("anna", 2);
        stage.assert_well("anna");
        stage.only("anna");
        stage.double.set(Fault::Fail { call: "nvEncEncodePicture", code: OUT_OF_MEMORY, after: 0, times: Some(1) });
        stage.lost("anna", 2);
        stage.worker.logged("no encoder, the encoded rungs are shed");
        stage.assert_well("bert");
        let seen = stage.finish();
        untouched(&seen["bert"], &CLIP);
        source_is_whole(&seen["anna"], &CLIP);
        assert!(gaps(&seen["anna"]) <= 2, "{:?}", seen["anna"].tracks["90p"].gaps());
        let own = own(&seen["anna"]);
        assert!(own[0] && !own[own.len() - 1], "{own:?}");
        assert_eq!(seen["anna"].tracks["src"].segments.iter().filter(|s| s.discontinuity).count(), 1);
    });
}

/// On the device of one stream a picture takes longer than it lasts; the other stream is on another device.
#[test]
fn an_encoder_is_slower_than_real_time() {
    story("encoder-too-slow", || {
        let _machine = beside_others();
        let clip = Clip { seconds: 30, ..CLIP };
        let mut double = Double::start();
        double.set(Fault::Devices { count: 2 });
        let mut stage = Stage::open(double, clip, &[]);
        stage.two(1);
        let pid = stage.worker.codec_pid("anna");
        let sessions = stage.double.state().sessions;
        let device = sessions.iter().find(|s| s.pid == pid && s.width > 0).expect("anna encodes").device;
        stage.double.set(Fault::DeviceEncodeTime { device, per_picture: Duration::from_millis(100) });
        stage.finding("anna", "encoder_behind");
        stage.worker.logged("the encoded rungs are shed: slower than real time");
        stage.measured("weir_gaps_total", "stream=\"anna\",rung=\"90p\"", |gaps| gaps > 0);
        stage.measured("weir_gaps_total", "stream=\"anna\",rung=\"src\"", |gaps| gaps == 0);
        stage.assert_well("bert");
        let seen = stage.finish();
        untouched(&seen["bert"], &clip);
        source_is_whole(&seen["anna"], &clip);
        // Rows do not wait for it for ever: what is too late is a gap, and of this rung alone. Then the source rung stands in.
        let own = own(&seen["anna"]);
        let lost = gaps(&seen["anna"]);
        assert!(own[0] && (1..=10).contains(&lost), "{own:?} {lost} gaps");
        assert!(seen["anna"].tracks["90p"].segments.last().is_some_and(|s| !s.gap && s.path.contains("/src/")), "{own:?}");
        assert_eq!(seen["anna"].tracks["src"].segments.iter().filter(|s| s.discontinuity).count(), 1);
    });
}
