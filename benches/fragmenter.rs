//! Packaging and rendering, which the supervisor does for every stream all the time: samples to one segment, a window to its manifests.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weir::cmaf::fragment::{Fragmenter, Sample};
use weir::logic::pathway::Pathways;
use weir::logic::render::{dash, hls};
use weir::logic::time::Timescale;

#[allow(dead_code, reason = "shared with the golden tests, which use more of it")]
#[path = "../tests/suite/golden/scene.rs"]
mod scene;

/// A segment of 2 s at 30 fps and 6 Mbit/s: 60 samples of 25,000 bytes.
const SAMPLES: i64 = 60;
const SIZE: usize = 25_000;

/// One picture at 30 fps in the 90 kHz timescale.
const STEP: i64 = 3000;

/// Presentation order I P B B P B B ..., as an encoder with two B-frames sends it.
fn samples() -> Vec<Sample> {
    (0..SAMPLES)
        .map(|i| {
            let (group, place) = ((i - 1).div_euclid(3), (i - 1).rem_euclid(3));
            // the last two, which fill no group, are shown as they come
            let shown = if i == 0 || i > SAMPLES - 3 { i } else { group * 3 + [3, 1, 2][place as usize] };
            Sample { pts: shown * STEP, sync: i == 0, data: Bytes::from(vec![0x55; SIZE]) }
        })
        .collect()
}

fn fragment(samples: Vec<Sample>) -> usize {
    let mut fragmenter = Fragmenter::new(Timescale::VIDEO);
    for sample in samples {
        fragmenter.push(sample);
    }
    let segment = fragmenter.close_segment(SAMPLES * STEP).expect("times are in range").expect("there are samples");
    segment.bytes.len()
}

fn packaging(c: &mut Criterion) {
    let samples = samples();
    let bytes = SIZE * usize::try_from(SAMPLES).expect("60");
    let mut group = c.benchmark_group("fragment");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("2 s, 30 fps, 6 Mbit/s", |b| b.iter_batched(|| samples.clone(), fragment, BatchSize::SmallInput));
    group.finish();
}

fn rendering(c: &mut Criterion) {
    // 16 rows of three tracks: a full window of 30 s.
    let snapshot = scene::Scene::new(scene::ladder(), 2).rows((0..16).map(|_| scene::Cut::two_seconds())).snapshot();
    let keys = scene::keys();
    let now = scene::ANCHOR;
    let options = dash::MpdOptions { utc_timing_url: Some("/time".into()), ..Default::default() };
    let mut group = c.benchmark_group("render");
    group.bench_function("multivariant playlist", |b| {
        b.iter(|| hls::multivariant(black_box(&snapshot), &keys, &Pathways::default(), "s7 1 1"))
    });
    group.bench_function("media playlist", |b| b.iter(|| hls::media(black_box(&snapshot), &keys, 0, None, "s7 1 1")));
    group.bench_function("MPD", |b| b.iter(|| dash::mpd(black_box(&snapshot), &keys, now, &options, "s7 1 1")));
    group.finish();
}

criterion_group!(benches, packaging, rendering);
criterion_main!(benches);
