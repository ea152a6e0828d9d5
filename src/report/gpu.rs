//! The encoder and the GPUs in `weir probe`, `/v1/worker` and `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::gpu::Seen;
use crate::logic::gpu::{Device, Library, Load, Survey};
use crate::worker::EncoderReport;

use super::metrics::{counter, gauge};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEncoder {
    encoder: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGpu {
    gpu: u32,
    uuid: String,
}

/// `weir_encoder_info`: the sentence would be a new series with each of its words, so the label is the code.
pub fn encoder(registry: &mut Registry, report: &EncoderReport) {
    let family = Family::<OfEncoder, Gauge>::default();
    family.get_or_create(&OfEncoder { encoder: report.name, reason: report.code }).set(1);
    registry.register("encoder_info", "The encoder of this worker, and why it was chosen", family);
}

/// What of a load is a number, with its name and meaning.
type Measure = (&'static str, &'static str, fn(&Load) -> Option<f64>);

const MEASURES: [Measure; 14] = [
    ("gpu_lost", "1 for a device that does not answer any more", |l| Some(l.lost.into())),
    ("gpu_encoder_ratio", "Share of time in which its encoders worked, 0 to 1", |l| ratio(l.encoder?.percent)),
    ("gpu_decoder_ratio", "Share of time in which its decoders worked, 0 to 1", |l| ratio(l.decoder?.percent)),
    ("gpu_compute_ratio", "Share of time in which any kernel ran, 0 to 1", |l| ratio(l.gpu_percent?)),
    ("gpu_memory_busy_ratio", "Share of time in which its memory was read or written, 0 to 1", |l| ratio(l.memory_percent?)),
    ("gpu_memory_used_bytes", "Memory in use by everybody", |l| Some(l.memory_used? as f64)),
    ("gpu_memory_bytes", "Its memory", |l| Some(l.memory_total? as f64)),
    ("gpu_encode_sessions", "Encode sessions of all processes", |l| Some(l.sessions?.into())),
    ("gpu_encoded_fps", "Pictures per second of all its encode sessions together", |l| Some(l.encoded_fps?.into())),
    ("gpu_encode_latency_seconds", "Time that a picture takes in an encoder", |l| Some(f64::from(l.encode_latency_us?) / 1e6)),
    ("gpu_video_clock_hertz", "Clock of its encoders and decoders", |l| hertz(l.video_clock_mhz?)),
    ("gpu_video_clock_max_hertz", "And at the most", |l| hertz(l.video_clock_max_mhz?)),
    ("gpu_temperature_celsius", "Its temperature", |l| Some(l.temperature?.into())),
    ("gpu_monitor_fault", "1 when NVML fails on it otherwise than by its loss", |l| {
        Some((l.fault.is_some() && !l.lost).into())
    }),
];

fn ratio(percent: u32) -> Option<f64> {
    Some(f64::from(percent) / 100.0)
}

fn hertz(mhz: u32) -> Option<f64> {
    Some(f64::from(mhz) * 1e6)
}

/// `weir_gpu_*`. While NVML is gone the devices have no values, and `weir_gpu_monitor_up` is 0: the last known values would look like fresh ones.
pub fn metrics(registry: &mut Registry, seen: &Seen) {
    for (name, help, of) in MEASURES {
        let family = Family::<OfGpu, Gauge<f64, AtomicU64>>::default();
        for load in &seen.reading.devices {
            if let Some(value) = of(load) {
                family.get_or_create(&OfGpu { gpu: load.index, uuid: load.uuid.clone() }).set(value);
            }
        }
        registry.register(name, help, family);
    }
    let age = Gauge::<f64, AtomicU64>::default();
    age.set(seen.age.as_secs_f64());
    registry.register("gpu_reading_age_seconds", "Age of the last reading of the GPUs", age);
    let up = seen.reading.monitor_fault.is_none() && seen.trouble.is_none();
    gauge(registry, "gpu_monitor_up", "1 while NVML answers", up.into());
    counter(registry, "gpu_watcher_restarts", "Watcher processes that hung or died", seen.restarts);
}

/// The field `gpu` of `/v1/worker`.
pub fn json(seen: &Seen) -> Value {
    let Seen { survey, reading, age, trouble, restarts, pid } = seen;
    json!({
        "probe": survey.probe,
        "devices": reading.devices,
        "monitor_fault": reading.monitor_fault,
        "reading_age_seconds": age.as_secs_f64(),
        "watcher": { "pid": pid, "restarts": restarts, "trouble": trouble },
    })
}

/// What `weir probe` prints for people.
pub fn text(survey: &Survey) -> String {
    let (probe, mut out) = (&survey.probe, String::new());
    let l = &probe.libraries;
    let compiler = l.compiler_name.as_str();
    let libraries = [
        ("libcuda.so.1", &l.cuda),
        ("libnvidia-encode.so.1", &l.encode),
        ("libnvcuvid.so.1", &l.decode),
        ("libnvidia-ml.so.1", &l.monitor),
        (compiler, &l.compiler),
    ];
    let or = |what: Option<String>| what.unwrap_or_else(|| "unknown".into());
    let versions = [probe.driver.clone(), probe.cuda.map(|v| v.to_string()), probe.encode_api.map(|v| v.to_string())].map(or);
    if l.cuda.is_loaded() {
        let _ = writeln!(out, "NVIDIA driver {}, CUDA {}, NVENC {}", versions[0], versions[1], versions[2]);
    }
    for (name, library) in libraries {
        let state = match library {
            Library::Loaded => "loaded".to_owned(),
            Library::Missing { .. } => "missing".to_owned(),
            Library::Broken { reason } => format!("cannot be used: {reason}"),
        };
        let _ = writeln!(out, "  {name:<22} {state}");
    }
    if let Some(fault) = &probe.cuda_fault {
        let _ = writeln!(out, "  CUDA does not start: {fault}");
    }
    for device in &probe.devices {
        out.push_str(&device_text(device, survey.reading.of(&device.uuid)));
    }
    if let Some(fault) = survey.reading.monitor_fault.as_ref().filter(|_| l.monitor.is_loaded()) {
        let _ = writeln!(out, "  NVML does not answer: {fault}");
    }
    out
}

fn device_text(device: &Device, load: Option<&Load>) -> String {
    let mut out = String::new();
    let Device { index, uuid, name, compute, memory, encoder, decoder, self_test, fault } = device;
    let _ = writeln!(out, "GPU {index}: {name}, {uuid}, compute capability {compute}, {} MiB", memory >> 20);
    if let Some(e) = encoder {
        let presets: Vec<String> = e.presets.iter().map(|p| format!("P{p}")).collect();
        let legacy = if e.legacy_presets { " and those of before" } else { "" };
        let (w, h) = (e.width, e.height);
        let _ = writeln!(
            out,
            "  encoder: {} NVENC, {}x{} to {}x{}, presets {}{legacy}",
            e.engines,
            w.0,
            h.0,
            w.1,
            h.1,
            presets.join(" ")
        );
    }
    if let Some(d) = decoder {
        let (w, h) = (d.width, d.height);
        let can = if d.h264 { "" } else { ", no H.264" };
        let _ = writeln!(out, "  decoder: {} NVDEC, {}x{} to {}x{}{can}", d.engines, w.0, h.0, w.1, h.1);
    }
    if let Some(t) = self_test {
        let _ = writeln!(out, "  self-test: {} pictures, {} bytes", t.frames, t.bytes);
    }
    if let Some(fault) = fault {
        let _ = writeln!(out, "  fails: {fault}");
    }
    if let Some(load) = load {
        let number = |n: Option<u32>| n.map_or_else(|| "?".into(), |n| n.to_string());
        let busy = [load.encoder.map(|b| b.percent), load.decoder.map(|b| b.percent), load.gpu_percent].map(number);
        let _ = writeln!(
            out,
            "  now: encoder {} %, decoder {} %, kernels {} %, {} encode sessions, {} of {} MHz, {} C{}",
            busy[0],
            busy[1],
            busy[2],
            number(load.sessions),
            number(load.video_clock_mhz),
            number(load.video_clock_max_mhz),
            number(load.temperature),
            if load.lost { ", LOST" } else { "" }
        );
    }
    out
}
