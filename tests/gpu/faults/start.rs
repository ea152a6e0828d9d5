//! A stream begins, and its encoder cannot.

use super::OUT_OF_MEMORY;
use super::stage::{CLIP, Stage, own, source_is_whole, story, untouched};
use crate::double::{Double, Fault};
use crate::harness::clip::Clip;
use crate::harness::publisher::Publisher;
use crate::harness::{beside_others, manifest};

/// While one stream encodes, another one begins and finds nothing left: its source rung stands in for its encoded one, and its streamer notices nothing.
fn second_stream_finds_nothing(take: impl FnOnce(&mut Double)) {
    let _machine = beside_others();
    let mut stage = Stage::open(Double::start(), CLIP, &[]);
    stage.publish("anna");
    stage.encoded("anna", 1);
    take(&mut stage.double);
    stage.publish("bert");
    stage.made("bert", 2);
    stage.lost("bert", 2);
    stage.worker.logged("cannot encode");
    stage.worker.logged("no encoder, the encoded rungs are shed");
    stage.assert_well("anna");
    let seen = stage.finish();
    untouched(&seen["anna"], &CLIP);
    source_is_whole(&seen["bert"], &CLIP);
    assert!(own(&seen["bert"]).iter().all(|own| !own) && super::stage::gaps(&seen["bert"]) == 0, "{:?}", own(&seen["bert"]));
}

#[test]
fn the_nth_session_is_refused() {
    story("session-limit", || second_stream_finds_nothing(|double| double.set(Fault::Sessions { at_most: 1 })));
}

#[test]
fn device_memory_is_gone_at_the_start() {
    story("memory-gone-at-start", || second_stream_finds_nothing(|double| double.leave_no_session()));
}

/// A source that viewers cannot be given as it is, and no encoder: then nothing is left to show, and the streamer is told.
#[test]
fn a_source_that_has_to_be_encoded_is_refused_with_the_reason() {
    story("nothing-to-show", || {
        let _machine = beside_others();
        let mut stage = Stage::open(Double::start(), CLIP, &["--set", "passthrough_kbps=400"]);
        // The machine has an encoder for this one.
        stage.publish("bert");
        stage.encoded("bert", 1);
        stage.double.set(Fault::Fail { call: "nvEncOpenEncodeSessionEx", code: OUT_OF_MEMORY, after: 0, times: None });
        let clip = Clip { kbps: 800, ..CLIP };
        let mut publisher = Publisher::start(&clip.file(), &stage.worker, "anna");
        let (status, said) = publisher.outcome();
        assert!(!status.success() && said.contains("the server has no encoder for this stream now"), "{status} {said}");
        stage.worker.logged("source refused: the server has no encoder");
        stage.measured("weir_rtmp_connections_ended_total", "cause=\"worker\"", |ended| ended == 1);
        // Viewers of what was announced meanwhile see that there are no pictures, and the end.
        stage.worker.over("anna");
        for variant in manifest::variants(&stage.worker, "anna").unwrap_or_default() {
            let media = manifest::media(&stage.worker, &variant);
            let pictures = variant.attributes.contains_key("RESOLUTION") && media.media().next().is_some();
            assert!(media.ended && !pictures, "{media:?}");
        }
        stage.assert_well("bert");
        let seen = stage.finish();
        untouched(&seen["bert"], &CLIP);
    });
}
