//! Counters of handshakes and of replaced certificates, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of a handshake, coarse enough for a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// TLS stands.
    Done,
    /// It took too long.
    Deadline,
    /// Another protocol.
    NotTls,
    /// Closed in the middle.
    Left,
    /// Nothing in common, an alert, or broken.
    Failed,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Outcome; 5] = [Outcome::Done, Outcome::Deadline, Outcome::NotTls, Outcome::Left, Outcome::Failed];

    /// Label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Deadline => "deadline",
            Outcome::NotTls => "not_tls",
            Outcome::Left => "left",
            Outcome::Failed => "failed",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Stats {
    handshakes: [AtomicU64; Outcome::ALL.len()],
    /// Refused, taken.
    reloads: [AtomicU64; 2],
}

impl Stats {
    /// Handshakes that came to this.
    pub fn handshakes(&self, outcome: Outcome) -> u64 {
        self.handshakes[outcome as usize].load(Relaxed)
    }

    /// New certificates that were found, and taken or not.
    pub fn reloads(&self, taken: bool) -> u64 {
        self.reloads[usize::from(taken)].load(Relaxed)
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.handshakes[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_reload(&self, taken: bool) {
        self.reloads[usize::from(taken)].fetch_add(1, Relaxed);
    }
}
