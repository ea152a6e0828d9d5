//! Reports that go to a scheduler of their own accord: signed, one at a time, each a new one. Nobody waits for them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::blame::Blame;
use crate::config::ReportSettings;
use crate::ingest::auth;
use crate::logic::heartbeat::Pace;
use crate::outbound::{self, Client, Failure, Target};
use crate::secret::Secret;

/// Where the secret is if no file is named.
pub const SECRET: &str = "WEIR_REPORT_SECRET";

/// Answers are not read; this much of one is, so that its connection can be used again.
const LONGEST_ANSWER: usize = 4 << 10;

/// Why there are no heartbeats. Always the operator's to mend; holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The receiver's address.
    #[error("report: {0}")]
    Target(#[from] outbound::BadTarget),
    /// The file.
    #[error(transparent)]
    Secret(#[from] auth::Error),
    /// No secret, or a short one.
    #[error("report.url needs a secret of at least {} bytes: set report.secret_file or {SECRET}", auth::MIN_SECRET)]
    Unsigned,
}

impl Error {
    /// Settings are his.
    pub const fn blame(&self) -> Blame {
        Blame::Operator
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    Late,
    Connection,
    Refused,
}

impl Sent {
    const ALL: [Self; 4] = [Self::Taken, Self::Late, Self::Connection, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Late => "late",
            Self::Connection => "connection",
            Self::Refused => "refused",
        }
    }
}

/// How reports fared.
#[derive(Debug, Default)]
pub struct Stats {
    sent: [AtomicU64; Sent::ALL.len()],
    is_sending: AtomicBool,
    is_failing: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

impl Stats {
    fn count(&self, sent: Sent) {
        self.sent[sent as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Where reports are sent, how they fared.
    pub(super) fn metrics(&self, registry: &mut Registry) {
        if !self.is_sending.load(Ordering::Relaxed) {
            return;
        }
        let family = Family::<OfResult, Counter>::default();
        for sent in Sent::ALL {
            let n = self.sent[sent as usize].load(Ordering::Relaxed);
            family.get_or_create(&OfResult { result: sent.as_str() }).inc_by(n);
        }
        registry.register("heartbeats", "Reports that were sent to the scheduler", family);
    }
}

/// The way to the scheduler.
#[derive(Debug)]
pub struct Heartbeat {
    client: Client,
    secret: Secret,
    interval: Duration,
    deadline: Duration,
}

impl Heartbeat {
    /// Nothing is sent yet. `variable`: what [`SECRET`] says. `None` where nothing is to be sent.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(settings: &ReportSettings, variable: Option<String>) -> Result<Option<Self>, Error> {
        let ReportSettings { url, secret_file, ca_file, allow_http, interval_ms, deadline_ms, .. } = settings;
        if url.is_empty() {
            return Ok(None);
        }
        let secret = match (secret_file.as_str(), variable) {
            ("", None) => return Err(Error::Unsigned),
            ("", Some(text)) if text.len() < auth::MIN_SECRET => return Err(Error::Unsigned),
            ("", Some(text)) => Secret::new(text),
            (file, _) => auth::read_secret("report secret", Path::new(file))?,
        };
        let client = Client::new(&Target { url, ca_file, allow_http: *allow_http, shows: "reports" })?;
        let of = |ms: &u32| Duration::from_millis((*ms).into());
        Ok(Some(Self { client, secret, interval: of(interval_ms), deadline: of(deadline_ms) }))
    }

    /// Sends what `report` makes, for as long as the worker lives. It is asked anew each time, and what was not taken is not sent again.
    pub async fn beat(self, report: impl Fn() -> String, stats: &Stats) {
        stats.is_sending.store(true, Ordering::Relaxed);
        let mut pace = Pace::new(self.interval);
        loop {
            let body = report();
            let at = u64::try_from(crate::clock::wall().0 / 1000).unwrap_or_default();
            let headers = outbound::signed(Some(&self.secret), at, &body);
            let sent = tokio::time::timeout(self.deadline, self.client.post(headers, body, LONGEST_ANSWER)).await;
            let (sent, trouble) = match sent {
                // What it says is of no interest.
                Ok(Ok(_) | Err(Failure::TooLong(_))) => (Sent::Taken, None),
                // As good as 200, and many servers' answer to what needs none.
                Ok(Err(Failure::Status(201..=204))) => (Sent::Taken, None),
                Ok(Err(e @ Failure::Status(_))) => (Sent::Refused, Some(e.to_string())),
                Ok(Err(e @ Failure::Connection(_))) => (Sent::Connection, Some(e.to_string())),
                Err(_) => (Sent::Late, Some(format!("no answer within {} ms", self.deadline.as_millis()))),
            };
            stats.count(sent);
            // One line for an outage, not one for each report.
            match (trouble, stats.is_failing.swap(sent != Sent::Taken, Ordering::Relaxed)) {
                (Some(trouble), false) => {
                    let blame = Blame::Operator.as_str();
                    tracing::warn!(blame, cause = sent.as_str(), "report: {}: {trouble}; streams go on", self.client.host());
                }
                (None, true) => tracing::info!("report: {} takes reports again", self.client.host()),
                _ => {}
            }
            let random = getrandom::u64().unwrap_or_default();
            tokio::time::sleep(pace.next(sent == Sent::Taken, random)).await;
        }
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
