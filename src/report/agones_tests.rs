use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, patch, post, put};
use serde::Deserialize;
use tokio::sync::{oneshot, watch};

use super::*;

/// The sidecar of Agones (b19d5fe, March 2026) as its published interface (`sdks/swagger/sdk.swagger.json` and `beta.swagger.json`) describes it, with what its documents say of states and
/// counters. Bodies with anything that the interface does not have are refused.
#[derive(Debug, Default)]
struct Known {
    state: String,
    labels: BTreeMap<String, String>,
    counter: Option<(i64, i64)>,
    health: u32,
    /// Calls in their order, without health and readings.
    calls: Vec<String>,
    /// So many calls are answered by 500 first.
    failing: u32,
}

type Shared = Arc<Endpoint>;

#[derive(Debug)]
struct Endpoint {
    inner: Mutex<Known>,
    /// Counts calls: what a test waits for.
    calls: watch::Sender<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValue {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CounterUpdate {
    #[serde(default)]
    count: Option<String>,
    #[serde(default)]
    capacity: Option<String>,
    #[serde(default)]
    count_diff: Option<String>,
}

impl Endpoint {
    /// One call, unless calls fail.
    fn take(&self, name: &str, act: impl FnOnce(&mut Known) -> Result<Value, &'static str>) -> Response {
        let mut server = self.inner.lock().unwrap();
        let response = if server.failing > 0 {
            server.failing -= 1;
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "code": 2, "message": "injected" }))).into_response()
        } else {
            match act(&mut server) {
                Ok(answer) => {
                    if !name.is_empty() {
                        server.calls.push(name.to_owned());
                    }
                    Json(answer).into_response()
                }
                Err(message) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "code": 2, "message": message }))).into_response()
                }
            }
        };
        drop(server);
        self.calls.send_modify(|n| *n += 1);
        response
    }
}

fn state(to: &'static str, name: &'static str) -> axum::routing::MethodRouter<Shared> {
    post(move |State(server): State<Shared>, Json(Empty {}): Json<Empty>| async move {
        server.take(name, |s| {
            s.state = to.into();
            Ok(json!({}))
        })
    })
}

async fn health(State(server): State<Shared>, Json(Empty {}): Json<Empty>) -> Response {
    server.take("", |s| {
        s.health += 1;
        Ok(json!({}))
    })
}

async fn label(State(server): State<Shared>, Json(KeyValue { key, value }): Json<KeyValue>) -> Response {
    server.take(&format!("label {key}={value}"), |s| {
        s.labels.insert(format!("agones.dev/sdk-{key}"), value.clone());
        Ok(json!({}))
    })
}

async fn game_server(State(server): State<Shared>) -> Response {
    server.take("", |s| {
        let counters: BTreeMap<&str, Value> =
            s.counter.iter().map(|(n, c)| ("streams", json!({ "count": n.to_string(), "capacity": c.to_string() }))).collect();
        Ok(json!({
            "object_meta": { "name": "weir-1", "namespace": "default", "labels": s.labels },
            "spec": { "health": { "period_seconds": 5, "failure_threshold": 3, "initial_delay_seconds": 5 } },
            "status": { "state": s.state, "address": "192.0.2.1", "ports": [{ "name": "rtmp", "port": 7000 }], "counters": counters },
        }))
    })
}

async fn update_counter(State(server): State<Shared>, Path(name): Path<String>, Json(update): Json<CounterUpdate>) -> Response {
    let number = |text: &Option<String>| text.as_ref().map(|t| t.parse::<i64>().unwrap());
    let (count, capacity) = (number(&update.count), number(&update.capacity));
    assert!(update.count_diff.is_none(), "a count is set, and not added to");
    server.take(&format!("counter {name} {}/{}", count.unwrap_or(-1), capacity.unwrap_or(-1)), |s| {
        let counter = s.counter.as_mut().filter(|_| name == "streams").ok_or("counter not found")?;
        let (count, capacity) = (count.unwrap_or(counter.0), capacity.unwrap_or(counter.1));
        if capacity < 0 || !(0..=capacity).contains(&count) {
            return Err("out of range. Count must be within range [0,Capacity]");
        }
        *counter = (count, capacity);
        Ok(json!({ "name": name, "count": count.to_string(), "capacity": capacity.to_string() }))
    })
}

/// A fresh sidecar: nobody has told it anything, and the counter is as the specification has it.
async fn start(address: SocketAddr) -> (Shared, SocketAddr, Running) {
    let inner = Known { state: "Scheduled".into(), counter: Some((0, 0)), ..Known::default() };
    let server = Arc::new(Endpoint { inner: Mutex::new(inner), calls: watch::Sender::new(0) });
    let router = Router::new()
        .route("/ready", state("Ready", "ready"))
        .route("/allocate", state("Allocated", "allocate"))
        .route("/shutdown", state("Shutdown", "shutdown"))
        .route("/health", post(health))
        .route("/metadata/label", put(label))
        .route("/gameserver", get(game_server))
        .route("/v1beta1/counters/{name}", patch(update_counter))
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { drop(stopped.await) });
    let task = tokio::spawn(async move { serving.await.unwrap() });
    (server, address, Running { stop, task })
}

struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Ends it, and its connections.
    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn until(server: &Shared, is_so: impl Fn(&Known) -> bool) {
    let mut calls = server.calls.subscribe();
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so(&server.inner.lock().unwrap()) {
            calls.changed().await.unwrap();
        }
    });
    assert!(waited.await.is_ok(), "{:?}", server.inner.lock().unwrap());
}

fn facts(streams: usize, draining: bool) -> Facts {
    let state = if draining { "draining" } else { "ready" };
    let count = if draining { 25 } else { i64::try_from(streams).unwrap() };
    Facts {
        has_streams: streams > 0,
        capacity: 25,
        count,
        labels: [("weir-state", state.to_owned())].into(),
        is_draining: draining,
    }
}

/// A worker whose facts a test changes; rounds follow each other faster than in earnest.
fn follow(address: SocketAddr) -> (watch::Sender<Facts>, Arc<Stats>) {
    let (sender, receiver) = watch::channel(facts(0, false));
    let stats = Arc::<Stats>::default();
    let shared = Arc::clone(&stats);
    let agones = Agones { every: Duration::from_millis(20), ..Agones::new(address.port()).unwrap() };
    tokio::spawn(async move { agones.follow(|| receiver.borrow().clone(), Clock::start(), &shared).await });
    (sender, stats)
}

#[tokio::test]
async fn a_worker_is_ready_then_allocated_then_shut_down_and_gives_signs_of_life() {
    let (server, address, _running) = start(ANY).await;
    let (worker, stats) = follow(address);
    until(&server, |s| s.counter == Some((0, 25)) && s.health > 2).await;
    assert_eq!(server.inner.lock().unwrap().calls, ["ready", "label weir-state=ready", "counter streams 0/25"]);
    worker.send_replace(facts(2, false));
    until(&server, |s| s.state == "Allocated" && s.counter == Some((2, 25))).await;
    worker.send_replace(facts(1, true));
    until(&server, |s| s.counter == Some((25, 25)) && s.labels["agones.dev/sdk-weir-state"] == "draining").await;
    Agones::new(address.port()).unwrap().shut_down().await;
    let health = server.inner.lock().unwrap().health;
    until(&server, |s| s.state == "Shutdown" && s.health > health + 2).await;
    let calls = server.inner.lock().unwrap().calls.clone();
    assert_eq!(
        calls[3..],
        ["allocate", "counter streams 2/25", "label weir-state=draining", "counter streams 25/25", "shutdown"]
    );
    assert!(stats.is_up.load(Ordering::Relaxed));
}

#[tokio::test]
async fn calls_that_fail_are_made_again() {
    let (server, address, _running) = start(ANY).await;
    server.inner.lock().unwrap().failing = 7;
    let (_worker, stats) = follow(address);
    until(&server, |s| s.state == "Ready" && s.counter == Some((0, 25)) && !s.labels.is_empty()).await;
    assert!(stats.failures.load(Ordering::Relaxed) > 0);
    // Without the counter in the specification all else is told.
    server.inner.lock().unwrap().counter = None;
    let health = server.inner.lock().unwrap().health;
    until(&server, |s| s.health > health + 3).await;
}

#[tokio::test]
async fn a_sidecar_that_starts_late_or_again_is_told_all() {
    let late = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let address = late.local_addr().unwrap();
    drop(late);
    let (worker, stats) = follow(address);
    worker.send_replace(facts(3, false));
    while stats.failures.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        let (server, _, running) = start(address).await;
        until(&server, |s| s.state == "Allocated" && s.counter == Some((3, 25)) && s.labels.len() == 1).await;
        let first = server.inner.lock().unwrap().calls[0].clone();
        assert_eq!(first, "ready", "and then allocated");
        running.stop().await;
    }
}
