//! What Agones' sidecar has to be told, by what it says of itself. Level by level: what it says is compared with what is so, and the difference told, so that it does not matter
//! what was told before and whether the sidecar remembers it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::capacity::{Levels, Profile, State};

/// The counter that the fleet's specification has to have (`counters: streams`): its capacity is in streams like the reference.
pub const COUNTER: &str = "streams";

/// What Agones puts before the names of labels that a game server sets.
const PREFIX: &str = "agones.dev/sdk-";

/// An allocation sends a streamer here, and counts him (`GameServerAllocation`, `counters: increment`): for so long he may be on his way. A person who has to copy an
/// address takes less than a minute.
const ON_THE_WAY: Duration = Duration::from_secs(60);

/// The worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Somebody streams, or has been promised room.
    pub has_streams: bool,
    /// Streams like the reference that fit in all.
    pub capacity: i64,
    /// And that are not free.
    pub count: i64,
    /// By name.
    pub labels: BTreeMap<&'static str, String>,
    /// No publishers are taken any more.
    pub is_draining: bool,
}

impl Facts {
    /// By the same numbers that a report has. `streams`: so many have been promised room.
    pub fn new(levels: &Levels, state: State, streams: usize, region: &str, encoder: &str, version: &str) -> Self {
        let accepts = levels.accepts.get(Profile::REFERENCE.name).copied().unwrap_or(0);
        // Who takes none has none free, whatever fits.
        let free = if state == State::Ready { i64::from(accepts) } else { 0 };
        let streams_now = i64::try_from(streams).unwrap_or(i64::MAX);
        let units = levels.units.total_milli.map(|n| i64::try_from(n / 1000).unwrap_or(i64::MAX));
        // Where nothing can run out but places, these are the capacity. A machine for less than one stream still takes one.
        let capacity = units.unwrap_or_else(|| streams_now.saturating_add(free)).max(free);
        let word = match state {
            State::Ready => "ready",
            State::Full => "full",
            State::Draining => "draining",
        };
        let labels = [("weir-state", word), ("weir-region", region), ("weir-encoder", encoder), ("weir-version", version)];
        Self {
            has_streams: streams > 0,
            capacity,
            count: capacity.saturating_sub(free),
            labels: labels.into_iter().map(|(name, value)| (name, label(value))).collect(),
            is_draining: state == State::Draining,
        }
    }
}

/// As Kubernetes takes it: up to 63 letters, digits, `-`, `_` and `.`, the first and last of them a letter or digit.
fn label(value: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let text: String = value.chars().map(allowed).take(63).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// What the sidecar says (`GET /gameserver`), as far as it matters here. 64-bit numbers are texts in protobuf's JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GameServer {
    object_meta: Meta,
    status: Status,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Meta {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Status {
    state: String,
    counters: BTreeMap<String, Counter>,
}

/// A number that is left out is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Counter {
    count: Number,
    capacity: Number,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(i64),
}

impl Default for Number {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Number {
    fn value(&self) -> i64 {
        match self {
            Self::Text(text) => text.parse().unwrap_or(0),
            Self::Number(n) => *n,
        }
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Streams may come.
    Ready,
    /// Somebody streams: Agones must not remove the worker.
    Allocate,
    /// What is so.
    Label {
        /// Its name, without Agones' prefix.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// How many fit, and how many of that are not free.
    Counter {
        /// In streams like the reference.
        count: i64,
        /// Likewise.
        capacity: i64,
    },
}

/// What has been seen of the sidecar.
#[derive(Debug, Clone, Default)]
pub struct Sidecar {
    /// Since when it says more than is so: that the worker is allocated, and that more is taken.
    idle_since: Option<Duration>,
    above_since: Option<Duration>,
}

/// Since when something is so, and whether that is long enough.
fn lasts(since: &mut Option<Duration>, is_so: bool, now: Duration) -> bool {
    if !is_so {
        *since = None;
        return false;
    }
    now.saturating_sub(*since.get_or_insert(now)) >= ON_THE_WAY
}

impl Sidecar {
    /// What is to be told now.
    pub fn due(&mut self, said: &GameServer, facts: &Facts, now: Duration) -> Vec<Call> {
        let mut calls = Vec::new();
        let state = said.status.state.as_str();
        // Allocated by somebody, and nobody has come.
        let is_idle = lasts(&mut self.idle_since, state == "Allocated" && !facts.has_streams, now);
        match state {
            "Ready" | "Reserved" if facts.has_streams => calls.push(Call::Allocate),
            "Allocated" if is_idle && !facts.is_draining => calls.push(Call::Ready),
            // Before it has been told, by whatever name. What is on its way needs no second word, and what is over stays so.
            "Ready" | "Reserved" | "RequestReady" | "Allocated" | "Shutdown" | "Unhealthy" | "Error" => {}
            _ if facts.is_draining => {}
            _ => calls.push(Call::Ready),
        }
        for (name, value) in &facts.labels {
            if said.object_meta.labels.get(&format!("{PREFIX}{name}")) != Some(value) {
                calls.push(Call::Label { name, value: value.clone() });
            }
        }
        // Without it in the specification there is none, and none can be made.
        if let Some(counter) = said.status.counters.get(COUNTER) {
            let (count, capacity) = (counter.count.value(), counter.capacity.value());
            // More than is so was counted by an allocation, for a streamer who is on his way.
            let is_above = count > facts.count;
            let is_over = lasts(&mut self.above_since, is_above, now);
            let count_wanted = if is_above && !is_over { count.min(facts.capacity) } else { facts.count };
            if (count, capacity) != (count_wanted, facts.capacity) {
                calls.push(Call::Counter { count: count_wanted, capacity: facts.capacity });
            }
        }
        calls
    }

    /// Whether there is a counter to be told.
    pub fn has_counter(said: &GameServer) -> bool {
        said.status.counters.contains_key(COUNTER)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn facts(has_streams: bool, count: i64) -> Facts {
        Facts { has_streams, capacity: 25, count, labels: [("weir-state", "ready".to_owned())].into(), is_draining: false }
    }

    fn said(state: &str, count: &str, capacity: &str) -> GameServer {
        let labels = json!({ "agones.dev/sdk-weir-state": "ready", "other": "x" });
        let counters = json!({ "streams": { "count": count, "capacity": capacity } });
        let all =
            json!({ "object_meta": { "labels": labels, "name": "w" }, "status": { "state": state, "counters": counters } });
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_new_sidecar_is_told_everything_and_one_that_knows_nothing() {
        let mut sidecar = Sidecar::default();
        let fresh: GameServer =
            serde_json::from_value(json!({ "status": { "state": "Scheduled", "counters": { "streams": {} } } })).unwrap();
        let label = Call::Label { name: "weir-state", value: "ready".into() };
        let all = vec![Call::Ready, label, Call::Counter { count: 3, capacity: 25 }];
        assert_eq!(sidecar.due(&fresh, &facts(false, 3), s(0)), all);
        assert_eq!(sidecar.due(&said("Ready", "3", "25"), &facts(false, 3), s(2)), []);
        assert_eq!(sidecar.due(&fresh, &facts(false, 3), s(4)), all, "it was started anew");
        let nothing: GameServer = serde_json::from_str("{}").unwrap();
        assert!(!sidecar.due(&nothing, &facts(false, 3), s(6)).iter().any(|c| matches!(c, Call::Counter { .. })));
    }

    #[test]
    fn who_streams_is_allocated_and_an_allocation_that_nobody_came_for_ends() {
        let mut sidecar = Sidecar::default();
        assert_eq!(sidecar.due(&said("Ready", "1", "25"), &facts(true, 1), s(0)), [Call::Allocate]);
        assert_eq!(sidecar.due(&said("Allocated", "1", "25"), &facts(true, 1), s(2)), []);
        assert_eq!(sidecar.due(&said("Allocated", "0", "25"), &facts(false, 0), s(4)), []);
        assert_eq!(sidecar.due(&said("Allocated", "0", "25"), &facts(false, 0), s(63)), [], "he may be on his way");
        assert_eq!(sidecar.due(&said("Allocated", "0", "25"), &facts(false, 0), s(64)), [Call::Ready]);
        for over in ["Shutdown", "Unhealthy", "Error", "RequestReady"] {
            assert_eq!(sidecar.due(&said(over, "0", "25"), &facts(false, 0), s(66)), [], "{over}");
        }
    }

    #[test]
    fn a_count_rises_at_once_and_falls_when_nobody_came() {
        let mut sidecar = Sidecar::default();
        let count = |count, capacity| vec![Call::Counter { count, capacity }];
        assert_eq!(sidecar.due(&said("Ready", "1", "25"), &facts(false, 4), s(0)), count(4, 25));
        // An allocation counted one more.
        assert_eq!(sidecar.due(&said("Ready", "5", "25"), &facts(false, 4), s(2)), []);
        assert_eq!(sidecar.due(&said("Ready", "5", "25"), &facts(false, 4), s(62)), count(4, 25));
        assert_eq!(sidecar.due(&said("Ready", "4", "25"), &facts(false, 4), s(64)), []);
        // Fewer fit than were taken: never above the capacity, which Agones refuses.
        assert_eq!(sidecar.due(&said("Ready", "30", "30"), &facts(false, 4), s(66)), count(25, 25));
    }

    #[test]
    fn a_worker_that_drains_is_not_called_ready() {
        let mut sidecar = Sidecar::default();
        let draining = Facts { is_draining: true, ..facts(false, 25) };
        assert_eq!(sidecar.due(&said("Scheduled", "25", "25"), &draining, s(0)), []);
        sidecar.due(&said("Allocated", "25", "25"), &draining, s(2));
        assert_eq!(sidecar.due(&said("Allocated", "25", "25"), &draining, s(200)), []);
    }

    #[test]
    fn labels_are_as_kubernetes_takes_them() {
        assert_eq!(label("0.1.0 (abc+)"), "0.1.0--abc");
        assert_eq!(label("eu-central-1"), "eu-central-1");
        assert_eq!(label("---"), "");
        assert_eq!(label(&"x".repeat(99)).len(), 63);
    }
}
