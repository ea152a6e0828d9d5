//! `/v1/capacity` and `/availability`: what the worker can still take, for whatever places streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::{Value, json};

use super::http::VERSION;
use super::metrics::{counter, gauge};
use crate::capacity::Capacity;
use crate::config::Config;
use crate::gpu::Watcher;
use crate::logic::agones::Facts;
use crate::logic::capacity::{self, Levels, TTL_MS};
use crate::worker::Worker;

/// Version of the report's form.
const FORM: u32 = 1;

/// Counts the reports of this process, so that a reader can drop one that comes late.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// A report as it is written: its version comes first, so that a reader knows what follows.
#[derive(Debug, Serialize)]
pub struct Report {
    v: u32,
    #[serde(flatten)]
    rest: Value,
}

impl Report {
    /// As it is sent.
    pub fn text(&self) -> String {
        // Texts and numbers always have a form in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The report. `boot` and `seq` tell a late one from a new one, `ttl_ms` says for how long it holds.
pub fn report(worker: &Worker) -> Report {
    let c = &worker.config;
    let levels = worker.levels();
    let state = state(worker, &levels);
    let Levels { units, dimensions, accepts, places } = levels;
    let seen = worker.gpu.as_ref().map(Watcher::seen);
    let gpu: Vec<Value> = seen.iter().flat_map(|s| &s.reading.devices).map(device).collect();
    let spool = worker.context.spool.as_ref();
    let pressure = worker.capacity.pressure();
    let now = worker.context.clock.now().mono;
    let rest = json!({
        "worker": c.worker,
        "boot": worker.started_at,
        "seq": SEQUENCE.fetch_add(1, Ordering::Relaxed),
        "ts_ms": crate::clock::wall().0,
        "ttl_ms": TTL_MS,
        "age_ms": millis(now.saturating_sub(worker.capacity.looked())),
        "region": c.region,
        "version": VERSION,
        "state": state,
        "ingest": ingest(c),
        "encoder": worker.encoder.name,
        "enforced": worker.capacity.is_enforced(),
        "units": units,
        "dimensions": dimensions,
        "accepts": accepts,
        "accepts_shed": worker.capacity.accepts_shed(places),
        "max_streams": c.max_streams,
        "gpu": gpu,
        "limits": {
            "cpu_busy_pct": percent(pressure.cpu),
            "cpu_stalled_pct": percent(pressure.stalled),
            "cpu_price_pct": percent(Some(worker.capacity.calibration())),
            "spool_bytes": spool.map(|s| s.bytes()),
            "spool_oldest_ms": spool.and_then(|s| s.oldest()).map(millis),
            "store_healthy": worker.context.store.is_healthy(),
        },
        "streams": worker.capacity.leased(),
        "drain": worker.leaving().map(|l| json!({ "deadline_ms": l.until.0, "reason": l.reason })),
    });
    Report { v: FORM, rest }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What Agones' sidecar is told, by the same numbers.
pub fn facts(worker: &Worker) -> Facts {
    let levels = worker.levels();
    let streams = worker.capacity.leased().len();
    let version = env!("CARGO_PKG_VERSION");
    Facts::new(&levels, state(worker, &levels), streams, worker.config.region.as_str(), worker.encoder.name, version)
}

/// The same in a line, for the status page.
pub(super) fn summary(worker: &Worker) -> Value {
    let levels = worker.levels();
    json!({
        "state": state(worker, &levels),
        "enforced": worker.capacity.is_enforced(),
        "accepts": levels.accepts,
        "scarce": levels.units.scarce,
        "basis": levels.units.basis,
    })
}

/// Where publishers go.
fn ingest(c: &Config) -> Vec<Value> {
    let of = |proto: &str, a: SocketAddr| json!({ "proto": proto, "addr": a.ip(), "port": a.port() });
    let others = [("rtmps", &c.rtmps), ("srt", &c.srt)].into_iter();
    let others = others.filter_map(|(proto, address)| Some(of(proto, address.parse().ok()?)));
    [of("rtmp", c.rtmp)].into_iter().chain(others).collect()
}

fn percent(permille: Option<u16>) -> Option<u16> {
    permille.map(|p| p / 10)
}

/// Whether new streams may come.
fn state(worker: &Worker, levels: &Levels) -> capacity::State {
    levels.state(worker.is_draining(), worker.capacity.is_enforced())
}

fn device(load: &crate::logic::gpu::Load) -> Value {
    json!({
        "uuid": load.uuid,
        "model": load.name,
        "lost": load.lost,
        "enc_pct": load.encoder.map(|b| b.percent),
        "dec_pct": load.decoder.map(|b| b.percent),
        "mem_used_mb": load.memory_used.map(|b| b >> 20),
        "mem_total_mb": load.memory_total.map(|b| b >> 20),
        "enc_sessions": load.sessions,
    })
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDimension {
    dimension: &'static str,
    of: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProfile {
    profile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDirection {
    direction: &'static str,
}

/// The same as gauges, for autoscalers.
pub(super) fn metrics(registry: &mut Registry, capacity: &Capacity, levels: Levels) {
    let Levels { units, dimensions, accepts, .. } = levels;
    let amount = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let amounts = Family::<OfDimension, Gauge>::default();
    for (dimension, level) in dimensions {
        let all = [
            ("total", level.total),
            ("believed", level.believed),
            ("limit", level.limit),
            ("used", level.used),
            ("pending", level.pending),
        ];
        for (of, n) in all {
            amounts.get_or_create(&OfDimension { dimension, of }).set(amount(n));
        }
    }
    let room = Family::<OfProfile, Gauge>::default();
    for (profile, n) in accepts {
        room.get_or_create(&OfProfile { profile }).set(n.into());
    }
    registry.register("capacity", "What can run out, each in its unit (docs/api.md), and what of it is promised", amounts);
    registry.register("accepts", "How many more streams of a kind fit", room);
    let pressure = capacity.pressure();
    for (name, help, value) in [
        ("host_cpu_busy_ratio", "Processor time that is used, of all that this worker may use", pressure.cpu),
        ("host_cpu_stalled_ratio", "Share of the last 10 s in which somebody waited for a processor", pressure.stalled),
        ("cpu_price_ratio", "What software encoding takes here of what was assumed", Some(capacity.calibration())),
    ] {
        if let Some(permille) = value {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(f64::from(permille) / 1000.0);
            registry.register(name, help, gauge);
        }
    }
    if let Some(total) = units.total_milli {
        gauge(registry, "capacity_milli", "Streams like the reference that fit, thousandths", total);
    }
    gauge(registry, "capacity_used_milli", "Of these, what is promised", units.used_milli);
    let steps = capacity.steps();
    let counts = Family::<OfDirection, Counter>::default();
    for (direction, n) in [("down", steps.down), ("back", steps.back)] {
        counts.get_or_create(&OfDirection { direction }).inc_by(n);
    }
    registry.register(
        "shed_steps",
        "Times that a stream went without something for want of room (down), or got it back",
        counts,
    );
    counter(registry, "refused_full", "Publishers for whom there was no room", capacity.refused());
}

/// The whole report.
pub async fn full(State(worker): State<Arc<Worker>>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(report(&worker))).into_response()
}

/// For load balancers: 200 while a reference stream would be taken, else 503.
pub async fn available(State(worker): State<Arc<Worker>>) -> Response {
    let (status, word) = match state(&worker, &worker.levels()) {
        capacity::State::Ready => (StatusCode::OK, "ready\n"),
        capacity::State::Full => (StatusCode::SERVICE_UNAVAILABLE, "full\n"),
        capacity::State::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], word).into_response()
}
