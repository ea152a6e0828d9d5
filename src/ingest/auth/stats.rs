//! Counters of judgements, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of a publishing name, as a metric label has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Judgement {
    /// May publish.
    Granted,
    /// No store knows the key.
    Unknown,
    /// Not a name that can be read.
    Malformed,
    /// A signature that is not right, or of a signing key that there is not.
    Signature,
    /// A signature whose time is over.
    Expired,
    /// The control plane said no.
    Refused,
    /// The control plane did not answer.
    Unavailable,
    /// Too many wrong keys from there.
    Banned,
    /// Has to be asked first, and was told to come again.
    NotYet,
}

impl Judgement {
    /// All of them, in the order of their numbers.
    pub const ALL: [Judgement; 9] = [
        Judgement::Granted,
        Judgement::Unknown,
        Judgement::Malformed,
        Judgement::Signature,
        Judgement::Expired,
        Judgement::Refused,
        Judgement::Unavailable,
        Judgement::Banned,
        Judgement::NotYet,
    ];

    /// Label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Judgement::Granted => "granted",
            Judgement::Unknown => "unknown",
            Judgement::Malformed => "malformed",
            Judgement::Signature => "signature",
            Judgement::Expired => "expired",
            Judgement::Refused => "refused",
            Judgement::Unavailable => "unavailable",
            Judgement::Banned => "banned",
            Judgement::NotYet => "not_yet",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Stats {
    judged: [AtomicU64; Judgement::ALL.len()],
    bans: AtomicU64,
    read_again: AtomicU64,
    broken: AtomicU64,
}

impl Stats {
    /// Publishing names that came to this.
    pub fn judged(&self, judgement: Judgement) -> u64 {
        self.judged[judgement as usize].load(Relaxed)
    }

    /// Bans that ever began.
    pub fn bans(&self) -> u64 {
        self.bans.load(Relaxed)
    }

    /// Files that were read again, and those that were broken then.
    pub fn reloads(&self) -> (u64, u64) {
        (self.read_again.load(Relaxed), self.broken.load(Relaxed))
    }

    pub(super) fn count(&self, judgement: Judgement) {
        self.judged[judgement as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_ban(&self) {
        self.bans.fetch_add(1, Relaxed);
    }

    pub(super) fn reloaded(&self, well: bool) {
        if well { &self.read_again } else { &self.broken }.fetch_add(1, Relaxed);
    }
}
