//! `/v1/capacity` and `/availability`: what the worker can still take, for whatever places streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::http::VERSION;
use super::metrics::{counter, gauge};
use crate::capacity::Capacity;
use crate::gpu::Watcher;
use crate::logic::capacity::{self, Levels, TTL_MS};
use crate::worker::Worker;

/// Version of the report's form.
const FORM: u32 = 1;

/// Counts the reports of this process, so that a reader can drop one that comes late.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// The report. `boot` and `seq` tell a late one from a new one, `ttl_ms` says for how long it holds.
pub fn report(worker: &Worker) -> Value {
    let c = &worker.config;
    let Levels { units, dimensions, accepts } = worker.capacity.levels();
    let seen = worker.gpu.as_ref().map(Watcher::seen);
    let gpu: Vec<Value> = seen.iter().flat_map(|s| &s.reading.devices).map(device).collect();
    let spool = worker.context.spool.as_ref();
    json!({
        "v": FORM,
        "worker": c.worker,
        "boot": worker.started_at,
        "seq": SEQUENCE.fetch_add(1, Ordering::Relaxed),
        "ts_ms": crate::clock::wall().0,
        "ttl_ms": TTL_MS,
        "region": c.region,
        "version": VERSION,
        "state": state(worker),
        "ingest": [{ "proto": "rtmp", "addr": c.rtmp.ip(), "port": c.rtmp.port() }],
        "encoder": worker.encoder.name,
        "enforced": worker.capacity.is_enforced(),
        "units": units,
        "dimensions": dimensions,
        "accepts": accepts,
        "max_streams": c.max_streams,
        "gpu": gpu,
        "limits": {
            "spool_bytes": spool.map(|s| s.bytes()),
            "store_healthy": worker.context.store.is_healthy(),
        },
        "streams": worker.capacity.leased(),
    })
}

fn state(worker: &Worker) -> capacity::State {
    let state = worker.capacity.levels().state(worker.is_draining());
    // What nobody is refused for makes no worker full.
    match state {
        capacity::State::Full if !worker.capacity.is_enforced() => capacity::State::Ready,
        capacity::State::Ready if worker.is_at_most_streams() => capacity::State::Full,
        state => state,
    }
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

/// The same as gauges, for autoscalers.
pub(super) fn metrics(registry: &mut Registry, capacity: &Capacity) {
    let Levels { units, dimensions, accepts } = capacity.levels();
    let amount = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let levels = Family::<OfDimension, Gauge>::default();
    for (dimension, level) in dimensions {
        let all = [
            ("total", level.total),
            ("believed", level.believed),
            ("limit", level.limit),
            ("used", level.used),
            ("pending", level.pending),
        ];
        for (of, n) in all {
            levels.get_or_create(&OfDimension { dimension, of }).set(amount(n));
        }
    }
    let room = Family::<OfProfile, Gauge>::default();
    for (profile, n) in accepts {
        room.get_or_create(&OfProfile { profile }).set(n.into());
    }
    registry.register("capacity", "What can run out, each in its unit (docs/api.md), and what of it is promised", levels);
    registry.register("accepts", "How many more streams of a kind fit", room);
    if let Some(total) = units.total_milli {
        gauge(registry, "capacity_milli", "Streams like the reference that fit, thousandths", total);
    }
    gauge(registry, "capacity_used_milli", "Of these, what is promised", units.used_milli);
    counter(registry, "refused_full", "Publishers for whom there was no room", capacity.refused());
}

/// The whole report.
pub async fn full(State(worker): State<Arc<Worker>>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(report(&worker))).into_response()
}

/// For load balancers: 200 while a reference stream would be taken, else 503.
pub async fn available(State(worker): State<Arc<Worker>>) -> Response {
    let (status, word) = match state(&worker) {
        capacity::State::Ready => (StatusCode::OK, "ready\n"),
        capacity::State::Full => (StatusCode::SERVICE_UNAVAILABLE, "full\n"),
        capacity::State::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], word).into_response()
}
