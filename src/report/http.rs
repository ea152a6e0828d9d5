//! The worker's HTTP server: playback from the store, probes, metrics, read-only facts and the status page in public; control on the admin address.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use axum::{Router, body::Body};
use serde_json::json;
use tower::ServiceExt;
use tower_http::cors::{Any, CorsLayer};
use tower_http::services::ServeFile;

use crate::codecs::Codecs;
use crate::config::Config;
use crate::gpu::Watcher;
use crate::logic::model::{ObjectKey, StreamId};
use crate::logic::stream::Status;
use crate::replication::Replication;
use crate::store::{self, Absent, S3, Store};
use crate::worker::Worker;

use super::{capacity, gpu, metrics};

/// Commit and version, as the page and `--version` show them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("WEIR_COMMIT"), ")");

type Shared = State<Arc<Worker>>;

/// What everybody may read.
pub fn public(worker: Arc<Worker>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::OPTIONS])
        .allow_headers(Any)
        .expose_headers([header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ACCEPT_RANGES, header::DATE]);
    Router::new()
        .route("/live/{*key}", get(object))
        .route("/seg/{*key}", get(object))
        .route("/rec/{*key}", get(object))
        .route("/thumb/{*key}", get(object))
        .route("/time", get(time))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(capacity::available))
        .route("/metrics", get(scrape))
        .route("/v1/streams", get(streams))
        .route("/v1/streams/{id}", get(stream))
        .route("/v1/streams/{id}/health", get(health))
        .route("/v1/worker", get(about))
        .route("/v1/capacity", get(capacity::full))
        .route("/availability", get(capacity::available))
        .merge(super::page::routes())
        .layer(cors)
        .with_state(worker)
}

/// What the operator may do. No CORS: a page of another origin must not stop streams.
pub fn admin(worker: Arc<Worker>) -> Router {
    Router::new()
        .route("/v1/streams", get(streams))
        .route("/v1/streams/{id}", delete(stop))
        .route("/v1/drain", post(drain))
        .route("/v1/bans", get(bans).delete(lift_bans))
        .route("/v1/bans/{address}", delete(lift_ban))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(worker)
}

async fn object(State(worker): Shared, request: Request) -> Response {
    let Some(key) = ObjectKey::parse(request.uri().path().trim_start_matches('/')) else {
        return (StatusCode::NOT_FOUND, "no such object\n").into_response();
    };
    match worker.context.store.as_ref() {
        Store::Folder(folder) => {
            let path = folder.path(&key);
            if !tokio::fs::metadata(&path).await.is_ok_and(|m| m.is_file()) {
                // A player asks for what is not there yet; nobody may remember the answer.
                return (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")]).into_response();
            }
            let mut response = match ServeFile::new(path).oneshot(request).await {
                Ok(response) => response.map(Body::new),
                Err(never) => match never {},
            };
            if response.status() == StatusCode::NOT_FOUND {
                // Deleted since.
                return (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")]).into_response();
            }
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(store::content_type(&key)));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(store::cache_control(&key)));
            response
        }
        Store::S3(s3) => proxied(s3, &key, request.headers().get(header::RANGE).and_then(|r| r.to_str().ok())).await,
        Store::Memory(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The same addresses answer from the bucket, so that the page's player works with every store.
async fn proxied(s3: &S3, key: &ObjectKey, range: Option<&str>) -> Response {
    let found = match s3.fetch(key, range).await {
        Ok(found) => found,
        Err(absent) => {
            let status = match absent {
                Absent::Missing => StatusCode::NOT_FOUND,
                Absent::Range => StatusCode::RANGE_NOT_SATISFIABLE,
                Absent::Failed => StatusCode::BAD_GATEWAY,
            };
            return (status, [(header::CACHE_CONTROL, "no-store")]).into_response();
        }
    };
    let mut response =
        (if found.range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }, found.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(store::content_type(key)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(store::cache_control(key)));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    for (name, value) in [(header::CONTENT_RANGE, found.range), (header::ETAG, found.etag)] {
        if let Some(value) = value.and_then(|v| HeaderValue::from_str(&v).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

/// UTCTiming `urn:mpeg:dash:utc:http-iso:2014` (ISO/IEC 23009-1, 5.8.4.11).
async fn time() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], crate::clock::wall().to_string())
}

async fn scrape(State(worker): Shared) -> Response {
    const OPEN_METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let seen = worker.gpu.as_ref().map(Watcher::seen);
    let sources = metrics::Sources {
        statuses: &worker.statuses().await,
        rtmp: &worker.rtmp,
        tls: worker.tls.as_deref(),
        keys: &worker.keys,
        capacity: &worker.capacity,
        levels: worker.levels(),
        srt: worker.srt.as_deref(),
        store: &worker.context.store,
        spool: worker.context.spool.as_deref(),
        replication: worker.context.replication.as_ref(),
        codecs: worker.context.codecs.as_ref().map(Codecs::store),
        encoder: &worker.encoder,
        gpu: seen.as_ref(),
        told: &worker.told,
    };
    match metrics::render(&sources) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

async fn streams(State(worker): Shared) -> Response {
    (NO_STORE, Json(json!({ "streams": worker.statuses().await }))).into_response()
}

async fn stream(State(worker): Shared, Path(id): Path<String>) -> Response {
    match worker.statuses().await.into_iter().find(|s| s.id == id) {
        Some(status) => (NO_STORE, Json(status)).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": "no such stream" }))).into_response(),
    }
}

async fn health(State(worker): Shared, Path(id): Path<String>) -> Response {
    match worker.statuses().await.into_iter().find(|s| s.id == id) {
        Some(Status { id, state, health, measured, .. }) => {
            let body = json!({ "id": id, "state": state, "overall": health.overall, "findings": health.findings, "measured": measured });
            (NO_STORE, Json(body)).into_response()
        }
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": "no such stream" }))).into_response(),
    }
}

async fn about(State(worker): Shared) -> Response {
    let c = &worker.config;
    let body = json!({
        "name": c.worker,
        "region": c.region,
        "version": VERSION,
        "started_at": worker.started_at,
        "encoder": worker.encoder.name,
        "encoder_reason": worker.encoder.reason,
        "encoder_code": worker.encoder.code,
        "gstreamer": worker.encoder.gstreamer,
        "gpu": worker.gpu.as_ref().map(|g| gpu::json(&g.seen())),
        "store": { "kind": worker.context.store.kind(), "healthy": worker.context.store.is_healthy(), "unfenced": worker.unfenced },
        "replication": worker.context.replication.as_ref().map(replication),
        "capacity": capacity::summary(&worker),
        "rtmp": publish_addresses(c),
        "srt": worker.srt.as_ref().map(|_| format!("srt://{}", c.srt)).into_iter().collect::<Vec<_>>(),
        "open": c.open != crate::config::Open::No,
        "draining": worker.is_draining(),
    });
    (NO_STORE, Json(body)).into_response()
}

fn publish_addresses(c: &Config) -> Vec<String> {
    let rtmps = (!c.rtmps.is_empty()).then(|| format!("rtmps://{}/live", c.rtmps));
    [format!("rtmp://{}/live", c.rtmp)].into_iter().chain(rtmps).collect()
}

/// How copies in another region stand, and what is wrong with the bucket.
fn replication(replication: &Replication) -> serde_json::Value {
    let summary = replication.summary();
    let wrong: Vec<String> = replication.configuration().iter().map(|f| format!("{}: {}", f.line, f.found)).collect();
    let behind = summary.behind.iter().map(|(_, age)| age.as_secs()).max();
    json!({
        "state": summary.state,
        "samples": summary.histogram.iter().sum::<u64>(),
        "failed": summary.failed,
        "untracked": summary.untracked,
        "oldest_seconds": summary.oldest.map(|o| o.as_secs()),
        "rpo_seconds": behind,
        "configuration": wrong,
    })
}

async fn stop(State(worker): Shared, Path(id): Path<String>) -> Response {
    let found = match id.parse::<StreamId>() {
        Ok(id) => worker.stop(&id).await,
        Err(_) => false,
    };
    if found { StatusCode::ACCEPTED.into_response() } else { (StatusCode::NOT_FOUND, "no such stream\n").into_response() }
}

async fn bans(State(worker): Shared) -> Response {
    (NO_STORE, Json(json!({ "bans": worker.keys.banned() }))).into_response()
}

async fn lift_bans(State(worker): Shared) -> Response {
    (NO_STORE, Json(json!({ "lifted": worker.keys.lift_bans(None) }))).into_response()
}

async fn lift_ban(State(worker): Shared, Path(address): Path<String>) -> Response {
    match address.parse() {
        Err(_) => (StatusCode::BAD_REQUEST, "no address\n").into_response(),
        Ok(address) if worker.keys.lift_bans(Some(address)) > 0 => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => (StatusCode::NOT_FOUND, "no such ban\n").into_response(),
    }
}

/// How the worker is to end.
#[derive(Debug, serde::Deserialize)]
struct DrainOrder {
    /// Within so many seconds. Without it streams that run go on, and the worker does not end.
    seconds: Option<u32>,
}

/// A day: nobody waits longer for a worker, and the answer would be a mistake of the unit.
const LONGEST_DRAIN: u32 = 86_400;

async fn drain(State(worker): Shared, Query(DrainOrder { seconds }): Query<DrainOrder>) -> Response {
    match seconds {
        None => {
            worker.begin_drain();
            (StatusCode::ACCEPTED, "taking no new publishers\n").into_response()
        }
        Some(seconds @ 1..=LONGEST_DRAIN) => {
            worker.leave(Duration::from_secs(seconds.into()), "control");
            (StatusCode::ACCEPTED, "streams are handed over or ended, and then the worker ends\n").into_response()
        }
        Some(_) => (StatusCode::BAD_REQUEST, "seconds must be 1 to 86400\n").into_response(),
    }
}
