//! What a connection and its session tell each other beside packets: why the session ended it, and how the reading goes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Refusal;
use crate::logic::srt::Numbers;

/// One publisher's line. Shared by its connection and its session; each only adds.
#[derive(Debug, Default)]
pub struct Line {
    refusal: OnceLock<Refusal>,
    /// The publisher moves to another server when he is asked to.
    can_move: AtomicBool,
    /// He is to; to another address than the one that he knows, if there is one.
    move_to: OnceLock<Option<Arc<str>>>,
    moved: Notify,
    received: AtomicU64,
    blocked_micros: AtomicU64,
    srt: Mutex<Option<Numbers>>,
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

    /// Asks the publisher to move to this server, or to come again at the address that he has. `false` where his encoder does not know of
    /// such requests: then only the end of the connection moves him. The second request is the first.
    pub fn ask_to_move(&self, to: Option<&Arc<str>>) -> bool {
        if !self.can_move.load(Relaxed) {
            return false;
        }
        let _ = self.move_to.set(to.cloned());
        // One waits, and whoever comes later finds the note.
        self.moved.notify_one();
        true
    }

    /// The publisher moves when he is asked to.
    pub(super) fn can_move(&self) {
        self.can_move.store(true, Relaxed);
    }

    /// Waits until the session asks the publisher to move.
    pub(super) async fn asked_to_move(&self) -> Option<Arc<str>> {
        loop {
            if let Some(to) = self.move_to.get() {
                return to.clone();
            }
            self.moved.notified().await;
        }
    }

    /// What SRT measures of the connection, where it is one of SRT.
    pub fn srt(&self) -> Option<Numbers> {
        *self.srt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn measured(&self, numbers: Numbers) {
        *self.srt.lock().unwrap_or_else(PoisonError::into_inner) = Some(numbers);
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn count_blocked(&self, waited: Duration) {
        self.blocked_micros.fetch_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}
