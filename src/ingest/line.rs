//! What a connection and its session tell each other beside packets: why the session ended it, and how the reading goes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Refusal;

/// One publisher's line. Shared by its connection and its session; each only adds.
#[derive(Debug, Default)]
pub struct Line {
    refusal: OnceLock<Refusal>,
    received: AtomicU64,
    blocked_micros: AtomicU64,
}

impl Line {
    /// The session ends the connection. To be said before it drops the packets' receiver; only the first reason counts.
    pub fn dismiss(&self, refusal: Refusal) {
        let _ = self.refusal.set(refusal);
    }

    /// Why the session ended the connection, if it said so.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().cloned()
    }

    /// Bytes that the connection has read, whatever they were.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// How long the connection did not read because the session took no packets.
    pub fn blocked(&self) -> Duration {
        Duration::from_micros(self.blocked_micros.load(Relaxed))
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn count_blocked(&self, waited: Duration) {
        self.blocked_micros.fetch_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}
