//! Asks the bucket how far copies are, and keeps what it says for metrics and the status page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::bucket::wanted::{Finding, Standing};
use crate::clock::Clock;
use crate::logic::model::{ObjectKey, StreamId};
use crate::logic::replication::{Sampler, Summary};
use crate::store::Store;

/// What is known of copies in the other region. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replication {
    sampler: Arc<Mutex<Sampler>>,
    more: Arc<Notify>,
    clock: Clock,
    /// What is wrong with the bucket's configuration, as seen at start: empty when nothing is.
    configuration: Arc<[Finding]>,
}

impl Replication {
    /// Nothing was stored yet. `findings` are those of [`crate::bucket::wanted::Wanted::compare_replication`].
    pub fn new(clock: Clock, findings: Vec<Finding>) -> Self {
        let bad = findings.into_iter().filter(|f| matches!(f.standing, Standing::Wrong | Standing::Unknown));
        Self { sampler: Arc::default(), more: Arc::default(), clock, configuration: bad.collect() }
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the bucket, or could not be seen.
    pub fn configuration(&self) -> &[Finding] {
        &self.configuration
    }

    /// An object is durable.
    pub fn stored(&self, stream: &StreamId, key: &ObjectKey) {
        self.sampler().stored(stream, key, self.clock.now().mono);
        self.more.notify_one();
    }

    /// A stream is over here.
    pub fn ended(&self, stream: &StreamId) {
        self.sampler().ended(stream);
    }

    /// How it stands now.
    pub fn summary(&self) -> Summary {
        self.sampler().summary(self.clock.now().mono)
    }

    /// Asks, for as long as the worker runs.
    pub async fn follow(self, store: Arc<Store>) {
        loop {
            let due = self.sampler().poll(self.clock.now().mono);
            let Some((id, key)) = due else {
                let deadline = self.sampler().poll_timeout();
                tokio::select! {
                    () = self.clock.sleep_until(deadline) => {}
                    () = self.more.notified() => {}
                }
                continue;
            };
            let (store, replication) = (Arc::clone(&store), self.clone());
            tokio::spawn(async move {
                let status = store.replication(&key).await;
                if let Err(error) = &status {
                    tracing::debug!(%key, %error, "replication status");
                }
                replication.sampler().answered(id, status.ok(), replication.clock.now().mono);
                replication.more.notify_one();
            });
        }
    }
}
