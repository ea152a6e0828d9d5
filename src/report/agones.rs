//! Agones' sidecar, by its REST interface (`sdks/swagger` of googleforgames/agones): the worker is a game server, a stream a player. The worker serves without it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::metrics::{counter, gauge};
use crate::blame::Blame;
use crate::clock::Clock;
use crate::logic::agones::{COUNTER, Call, Facts, GameServer, Sidecar};
use crate::outbound::{BadTarget, Client, Failure, Target};

/// Agones wants a sign of life in each 5 s by default (`health.periodSeconds`).
const EVERY: Duration = Duration::from_secs(2);

/// A call stays on the machine. All of one round end before three signs of life are missed.
const DEADLINE: Duration = Duration::from_secs(1);

/// A game server with all its labels is some KiB.
const LONGEST_ANSWER: usize = 256 << 10;

/// How calls fared.
#[derive(Debug, Default)]
pub struct Stats {
    is_used: AtomicBool,
    is_up: AtomicBool,
    failures: AtomicU64,
}

impl Stats {
    /// Where there is a sidecar, whether it answers.
    pub(super) fn metrics(&self, registry: &mut Registry) {
        if self.is_used.load(Ordering::Relaxed) {
            gauge(registry, "agones_up", "1 while Agones' sidecar answers", self.is_up.load(Ordering::Relaxed).into());
            counter(registry, "agones_failures", "Calls of it that failed", self.failures.load(Ordering::Relaxed));
        }
    }
}

/// The sidecar.
#[derive(Debug)]
pub struct Agones {
    client: Client,
    every: Duration,
}

impl Agones {
    /// At this port of the own machine. Nothing is told yet.
    ///
    /// # Errors
    /// The system's certificates, which are not asked for.
    pub fn new(port: u16) -> Result<Self, BadTarget> {
        let url = format!("http://localhost:{port}/");
        let target = Target { url: &url, ca_file: "", allow_http: false, shows: "reports" };
        Ok(Self { client: Client::new(&target)?, every: EVERY })
    }

    /// Tells it what `facts` says, for as long as the worker lives.
    pub async fn follow(&self, facts: impl Fn() -> Facts, clock: Clock, stats: &Stats) {
        stats.is_used.store(true, Ordering::Relaxed);
        let mut sidecar = Sidecar::default();
        let mut said_counter = false;
        let mut trouble = String::new();
        let mut every = tokio::time::interval(self.every);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match self.round(&mut sidecar, &facts, clock, &mut said_counter).await {
                Ok(()) => {
                    stats.is_up.store(true, Ordering::Relaxed);
                    if !std::mem::take(&mut trouble).is_empty() {
                        tracing::info!("agones: the sidecar answers again");
                    }
                }
                Err(failure) => {
                    stats.is_up.store(false, Ordering::Relaxed);
                    stats.failures.fetch_add(1, Ordering::Relaxed);
                    // One line for an outage. It may start after the worker.
                    if trouble.is_empty() {
                        trouble = failure.to_string();
                        tracing::warn!(blame = Blame::Operator.as_str(), "agones: {trouble}; streams go on");
                    }
                }
            }
        }
    }

    /// A sign of life, and what has changed. One call that fails keeps none of the others back: the next round looks again.
    async fn round(
        &self,
        sidecar: &mut Sidecar,
        facts: &impl Fn() -> Facts,
        clock: Clock,
        said_counter: &mut bool,
    ) -> Result<(), Failure> {
        let alive = self.call(Method::POST, "/health", json!({})).await;
        let answer = self.call(Method::GET, "/gameserver", Value::Null).await?;
        let said: GameServer =
            serde_json::from_slice(&answer).map_err(|e| Failure::Connection(format!("/gameserver is no game server: {e}")))?;
        if !Sidecar::has_counter(&said) && !std::mem::replace(said_counter, true) {
            tracing::warn!("agones: the fleet's specification has no counter {COUNTER:?}: how many streams fit is not told");
        }
        let mut outcome = alive.map(drop);
        for call in sidecar.due(&said, &facts(), clock.now().mono) {
            let done = match call {
                Call::Ready => self.call(Method::POST, "/ready", json!({})).await,
                Call::Allocate => self.call(Method::POST, "/allocate", json!({})).await,
                Call::Label { name, value } => {
                    self.call(Method::PUT, "/metadata/label", json!({ "key": name, "value": value })).await
                }
                Call::Counter { count, capacity } => {
                    // 64-bit numbers are texts in protobuf's JSON.
                    let body = json!({ "count": count.to_string(), "capacity": capacity.to_string() });
                    self.call(Method::PATCH, &format!("/v1beta1/counters/{COUNTER}"), body).await
                }
            };
            outcome = outcome.and(done.map(drop));
        }
        outcome
    }

    /// The worker is about to end, all is written: Agones removes the pod.
    pub async fn shut_down(&self) {
        if let Err(failure) = self.call(Method::POST, "/shutdown", json!({})).await {
            tracing::warn!("agones: cannot be told of the end: {failure}");
        }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Result<Bytes, Failure> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let late = || Failure::Connection(format!("{path}: no answer within {} ms", DEADLINE.as_millis()));
        let called = tokio::time::timeout(DEADLINE, self.client.call(method, path, body, LONGEST_ANSWER)).await;
        called.map_err(|_| late())?.map_err(|e| match e {
            Failure::Connection(text) => Failure::Connection(format!("{path}: {text}")),
            other => other,
        })
    }
}

#[cfg(test)]
#[path = "agones_tests.rs"]
mod tests;
