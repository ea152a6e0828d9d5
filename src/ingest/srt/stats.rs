//! Counters of the SRT listener, for metrics.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::ingest::gauge::Gauge;

/// Why a call ended, coarse enough for a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// The publisher closed the connection.
    Finished,
    /// Nothing came from it any more.
    Lost,
    /// No place free.
    Full,
    /// No place free for the address.
    AddressFull,
    /// Unknown key, or refused by the worker.
    Refused,
    /// Asked to wait: its key is being looked up, or its address asks too often.
    Busy,
    /// A stream id that is none, or asks for something else than to publish.
    StreamId,
    /// Admitted, but not connected: another passphrase as a rule.
    Passphrase,
    /// Media that cannot be taken.
    Media,
    /// Over a limit.
    Limit,
    /// No media for too long.
    Deadline,
    /// The worker was late, is shutting down, or ended the stream.
    Worker,
    /// The SRT process ended.
    Process,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Cause; 13] = [
        Cause::Finished,
        Cause::Lost,
        Cause::Full,
        Cause::AddressFull,
        Cause::Refused,
        Cause::Busy,
        Cause::StreamId,
        Cause::Passphrase,
        Cause::Media,
        Cause::Limit,
        Cause::Deadline,
        Cause::Worker,
        Cause::Process,
    ];

    /// Label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Finished => "finished",
            Cause::Lost => "lost",
            Cause::Full => "full",
            Cause::AddressFull => "address_full",
            Cause::Refused => "refused",
            Cause::Busy => "busy",
            Cause::StreamId => "stream_id",
            Cause::Passphrase => "passphrase",
            Cause::Media => "media",
            Cause::Limit => "limit",
            Cause::Deadline => "deadline",
            Cause::Worker => "worker",
            Cause::Process => "process",
        }
    }
}

/// The counters. Each is exact; two read one after the other may not fit together.
#[derive(Debug, Default)]
pub struct Stats {
    connected: AtomicU64,
    calls: AtomicU64,
    bytes: AtomicU64,
    unasked: AtomicU64,
    starts: AtomicU64,
    pid: AtomicU32,
    ended: [AtomicU64; Cause::ALL.len()],
}

impl Stats {
    /// Callers that are connected now.
    pub fn connected(&self) -> u64 {
        self.connected.load(Relaxed)
    }

    /// Callers that ever asked.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Bytes of media from all callers.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Processes that were started in place of another.
    pub fn restarts(&self) -> u64 {
        self.starts.load(Relaxed).saturating_sub(1)
    }

    /// The process that listens; `None` while there is none.
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Relaxed)).filter(|&pid| pid != 0)
    }

    /// Calls that ended for this cause.
    pub fn ended(&self, cause: Cause) -> u64 {
        let unasked = if cause == Cause::Busy { self.unasked.load(Relaxed) } else { 0 };
        self.ended[cause as usize].load(Relaxed).saturating_add(unasked)
    }

    pub(super) fn count_end(&self, cause: Cause) {
        self.ended[cause as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(super) fn count_bytes(&self, n: usize) {
        self.bytes.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn count_unasked(&self, n: u64) {
        self.unasked.fetch_add(n, Relaxed);
    }

    pub(super) fn process(&self, pid: u32) {
        self.starts.fetch_add(1, Relaxed);
        self.pid.store(pid, Relaxed);
    }

    pub(super) fn no_process(&self) {
        self.pid.store(0, Relaxed);
    }

    /// Counts a caller as connected until the guard drops.
    pub(super) fn connection(&self) -> Gauge<'_> {
        Gauge::raise(&self.connected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_counts_for_itself() {
        let stats = Stats::default();
        for (i, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(i, cause as usize);
            stats.count_end(cause);
        }
        stats.count_unasked(2);
        assert!(Cause::ALL.into_iter().all(|c| stats.ended(c) == if c == Cause::Busy { 3 } else { 1 }));
    }
}
