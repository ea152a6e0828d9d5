//! Asks the operator's control plane who may publish: one signed POST, its answer kept for a while.
//!
//! Nobody waits for anybody else's question: each publisher's is asked by a task of its own, of which a bounded number run at once and which end within
//! the deadline. The same question is asked once, however many wait for it. docs/security.md describes the messages.

mod cache;
mod client;
mod message;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use super::error::{Error, read_secret};
use super::reload::{Looked, Reloaded};
use super::{Answer, Asked, Denied, Granted, KeyStore, unix_seconds};
use crate::clock::Clock;
use crate::secret::Secret;
use cache::{Cache, Found, Question};
use client::Client;

/// The control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookSettings {
    /// Where who may publish is asked, `https://...`. Empty: nowhere.
    pub url: String,
    /// File with the secret that signs the questions, at least 16 bytes. Empty: they are not signed.
    pub secret_file: String,
    /// File with PEM certificates of the authorities that may vouch for the server, instead of the system's. Empty: the system's.
    pub ca_file: String,
    /// Allow `http://` to another machine: stream keys then cross the network in clear. Default no.
    pub allow_http: bool,
    /// Milliseconds for a question, connection and answer together, 100 to 10,000. Default 3000.
    pub deadline_ms: u32,
    /// Questions under way at once, 1 to 1024. Default 32.
    pub concurrency: u32,
    /// Seconds for which a yes is kept where the answer does not say, 15 to 86,400. Default 60.
    pub ttl: u32,
    /// Seconds for which a no is kept, 1 to 3600. Default 5: who has just been unlocked tries again by then.
    pub deny_ttl: u32,
    /// Whom to let in when it does not answer: `refuse`: nobody, `last-known`: who was let in by its last answer. Default `refuse`.
    pub on_outage: OnOutage,
}

/// Whom to let in when the control plane does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOutage {
    /// Nobody whose answer is not fresh.
    #[default]
    Refuse,
    /// Whoever was let in within the last day.
    LastKnown,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret_file: String::new(),
            ca_file: String::new(),
            allow_http: false,
            deadline_ms: 3000,
            concurrency: 32,
            ttl: 60,
            deny_ttl: 5,
            on_outage: OnOutage::Refuse,
        }
    }
}

impl WebhookSettings {
    /// Checks all ranges.
    ///
    /// # Errors
    /// What is outside.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("deadline_ms", self.deadline_ms, 100, 10_000),
            ("concurrency", self.concurrency, 1, 1024),
            ("ttl", self.ttl, MIN_TTL, MAX_TTL),
            ("deny_ttl", self.deny_ttl, 1, 3600),
        ];
        match ranges.into_iter().find(|&(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((name, value, low, high)) => Err(format!("webhook.{name} is {value}, must be {low} to {high}")),
            None => Ok(()),
        }
    }
}

/// A yes is kept at least so long, seconds: a caller that was told to come again must be let in then, and OBS comes again after up to 10.
const MIN_TTL: u32 = 15;

/// And at most so long: a day.
const MAX_TTL: u32 = 86_400;

/// How long a yes that was asked for again in vain stands: as long as a fresh one at the least.
const AGAIN: Duration = Duration::from_secs(MIN_TTL as u64);

/// Questions that wait or run: several times the connections of a worker. More are refused at once.
const MAX_WAITING: usize = 4096;

/// What a question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// Yes.
    Allowed,
    /// No.
    Denied,
    /// Nothing within the deadline.
    Late,
    /// No connection, or one that broke.
    Connection,
    /// Another status than 200.
    Status,
    /// An answer that cannot be read, or is too long.
    Garbage,
    /// Too many questions wait.
    Crowded,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Outcome; 7] = [
        Outcome::Allowed,
        Outcome::Denied,
        Outcome::Late,
        Outcome::Connection,
        Outcome::Status,
        Outcome::Garbage,
        Outcome::Crowded,
    ];

    /// Label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Late => "late",
            Outcome::Connection => "connection",
            Outcome::Status => "status",
            Outcome::Garbage => "garbage",
            Outcome::Crowded => "crowded",
        }
    }
}

/// Why there is no answer. Holds nothing of the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
struct Failure {
    outcome: Outcome,
    text: String,
}

/// What waiters are given.
type Verdict = Result<Granted, Denied>;

/// The secret of the questions.
#[derive(Debug)]
struct Key(Secret);

impl Key {
    fn read(path: &Path) -> Result<Self, Error> {
        read_secret("webhook secret", path).map(Self)
    }
}

/// The store.
#[derive(Debug)]
pub struct Webhook(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    secret: Option<Reloaded<Key>>,
    clock: Clock,
    deadline: Duration,
    ttl: u32,
    deny_ttl: Duration,
    last_known: bool,
    worker: String,
    region: String,
    places: Semaphore,
    cache: Mutex<Cache>,
    waiting: Mutex<HashMap<Question, watch::Receiver<Option<Verdict>>>>,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// The last question came to nothing: said once.
    failing: std::sync::atomic::AtomicBool,
}

impl Webhook {
    pub(super) fn new(settings: &WebhookSettings, (worker, region): (&str, &str), clock: Clock) -> Result<Self, Error> {
        let secret = (!settings.secret_file.is_empty()).then(|| Reloaded::open(settings.secret_file.clone().into(), Key::read));
        Ok(Self(Arc::new(Inner {
            client: Client::new(settings)?,
            secret: secret.transpose()?,
            clock,
            deadline: Duration::from_millis(settings.deadline_ms.into()),
            ttl: settings.ttl,
            deny_ttl: Duration::from_secs(settings.deny_ttl.into()),
            last_known: settings.on_outage == OnOutage::LastKnown,
            worker: worker.to_owned(),
            region: region.to_owned(),
            places: Semaphore::new(settings.concurrency as usize),
            cache: Mutex::default(),
            waiting: Mutex::default(),
            outcomes: Default::default(),
            failing: Default::default(),
        })))
    }

    /// Questions that came to this.
    pub fn asked(&self, outcome: Outcome) -> u64 {
        self.0.outcomes[outcome as usize].load(Relaxed)
    }

    /// Answers that are remembered.
    pub fn remembered(&self) -> usize {
        self.0.cache().len()
    }

    pub(super) fn secret_path(&self) -> Option<&Path> {
        self.0.secret.as_ref().map(Reloaded::path)
    }

    pub(super) fn look(&self, at_once: bool) -> Option<Looked> {
        self.0.secret.as_ref().map(|secret| secret.look(at_once))
    }

    /// Begins to ask, unless that is under way already; `None` if too many wait.
    fn begin(&self, asked: &Asked, question: Question) -> Option<watch::Receiver<Option<Verdict>>> {
        let mut waiting = lock(&self.0.waiting);
        if let Some(receiver) = waiting.get(&question) {
            // One whose task is gone without an answer is asked again.
            if receiver.has_changed().is_ok() || receiver.borrow().is_some() {
                return Some(receiver.clone());
            }
        }
        if waiting.len() >= MAX_WAITING {
            self.0.count(Outcome::Crowded);
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        waiting.insert(question, receiver.clone());
        drop(waiting);
        let (inner, asked) = (Arc::clone(&self.0), asked.clone());
        tokio::spawn(async move {
            let verdict = inner.answer(&asked, question).await;
            // In this order: who looks into the cache behind the removal finds the answer there.
            lock(&inner.waiting).remove(&question);
            let _ = sender.send(Some(verdict));
        });
        Some(receiver)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole: a poisoned lock is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Ok(granted) => Answer::Granted(granted),
        Err(denied) => Answer::Denied(denied),
    }
}

impl KeyStore for Webhook {
    fn known(&self, asked: &Asked) -> Answer {
        let question = Question::of(asked);
        if let Found::Fresh(verdict) = self.0.cache().find(&question, self.0.clock.now().mono) {
            return answer(verdict);
        }
        match self.begin(asked, question) {
            Some(_) => Answer::NotYet,
            None => Answer::Denied(Denied::Unavailable),
        }
    }

    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let question = Question::of(asked);
            if let Found::Fresh(verdict) = self.0.cache().find(&question, self.0.clock.now().mono) {
                return answer(verdict);
            }
            let Some(mut receiver) = self.begin(asked, question) else { return Answer::Denied(Denied::Unavailable) };
            match receiver.wait_for(Option::is_some).await.ok().and_then(|found| found.clone()) {
                Some(verdict) => answer(verdict),
                None => Answer::Denied(Denied::Unavailable),
            }
        })
    }
}

impl Inner {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Asks, and remembers the answer.
    async fn answer(&self, asked: &Asked, question: Question) -> Verdict {
        let outcome = tokio::time::timeout(self.deadline, self.ask(asked)).await.unwrap_or_else(|_| {
            Err(Failure { outcome: Outcome::Late, text: format!("no answer within {} ms", self.deadline.as_millis()) })
        });
        let now = self.clock.now().mono;
        match outcome {
            Ok(message::Answer { verdict, ttl }) => {
                self.count(if verdict.is_ok() { Outcome::Allowed } else { Outcome::Denied });
                if self.failing.swap(false, Relaxed) {
                    tracing::info!("webhook: {} answers again", self.client.host());
                }
                let ttl = match verdict {
                    Ok(_) => Duration::from_secs(ttl.unwrap_or(self.ttl).clamp(MIN_TTL, MAX_TTL).into()),
                    Err(_) => self.deny_ttl,
                };
                self.cache().put(question, verdict.clone(), now, ttl);
                verdict
            }
            Err(failure) => {
                self.count(failure.outcome);
                let known = self.last_known.then(|| self.cache().prolong(&question, now, AGAIN)).flatten();
                // One line for an outage, not one for each publisher.
                if !self.failing.swap(true, Relaxed) {
                    let instead = if self.last_known { "; who was known is let in" } else { "" };
                    tracing::warn!(
                        blame = crate::blame::Blame::Operator.as_str(),
                        cause = failure.outcome.as_str(),
                        "webhook: {}: {failure}{instead}",
                        self.client.host()
                    );
                }
                known.unwrap_or(Err(Denied::Unavailable))
            }
        }
    }

    async fn ask(&self, asked: &Asked) -> Result<message::Answer, Failure> {
        let _place = self.places.acquire().await;
        let body = message::question(asked, &self.worker, &self.region);
        let at = unix_seconds();
        let key = self.secret.as_ref().map(Reloaded::current);
        let answer = self.client.post(body, at, key.as_ref().map(|key| &key.0)).await?;
        message::read(&answer).map_err(|text| Failure { outcome: Outcome::Garbage, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Protocol;

    fn nowhere(on_outage: OnOutage) -> Webhook {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = WebhookSettings { url: format!("http://127.0.0.1:{port}/"), on_outage, ..WebhookSettings::default() };
        Webhook::new(&settings, ("w", "r"), Clock::start()).unwrap()
    }

    fn asked(key: &str) -> Asked {
        let (peer, key) = ("192.0.2.1:1".parse().unwrap(), Secret::new(key));
        Asked { protocol: Protocol::Srt, peer, app: "live".into(), key, signed: None }
    }

    #[tokio::test]
    async fn in_an_outage_those_are_let_in_whose_last_answer_was_yes_if_that_is_set() {
        let anna = Granted::new("anna".parse().unwrap());
        for (policy, want) in
            [(OnOutage::LastKnown, Answer::Granted(anna.clone())), (OnOutage::Refuse, Answer::Denied(Denied::Unavailable))]
        {
            let webhook = nowhere(policy);
            // An answer whose time is over.
            webhook.0.cache().put(Question::of(&asked("k1")), Ok(anna.clone()), Duration::ZERO, Duration::ZERO);
            assert_eq!(webhook.known(&asked("k1")), Answer::NotYet);
            assert_eq!(webhook.ask(&asked("k1")).await, want);
            assert_eq!(
                webhook.known(&asked("k1")) == want,
                policy == OnOutage::LastKnown,
                "and known without waiting from then on"
            );
            assert_eq!(webhook.ask(&asked("k2")).await, Answer::Denied(Denied::Unavailable));
        }
    }

    #[tokio::test]
    async fn questions_that_wait_are_bounded() {
        let webhook = nowhere(OnOutage::Refuse);
        let (_sender, receiver) = watch::channel(None);
        for n in 0..MAX_WAITING {
            lock(&webhook.0.waiting).insert(Question::of(&asked(&n.to_string())), receiver.clone());
        }
        assert_eq!(webhook.ask(&asked("one more")).await, Answer::Denied(Denied::Unavailable));
        assert_eq!(webhook.known(&asked("one more")), Answer::Denied(Denied::Unavailable));
        assert_eq!(webhook.known(&asked("7")), Answer::NotYet, "one that waits already");
        assert_eq!(webhook.asked(Outcome::Crowded), 2);
    }

    #[test]
    fn a_secret_is_long_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Key::read(&path).map(|key| key.0.expose().to_owned()).map_err(|e| e.to_string())
        };
        assert_eq!(read("hunter2hunter2hunter2\n", 0o640).unwrap(), "hunter2hunter2hunter2");
        assert!(read("hunter2hunter2hunter2\n", 0o644).unwrap_err().contains("others may read it"));
        let short = read("hunter2", 0o600).unwrap_err();
        assert!(short.contains("a secret of 7 bytes is too short") && !short.contains("hunter2"), "{short}");
    }
}
