//! Counters of the ingest, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ingest::gauge::Gauge;

/// Why a connection ended, coarse enough for a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Cause {
    /// The publisher said goodbye.
    Finished,
    /// Closed before `publish`: port scanners, health probes, encoders that gave up.
    Left,
    /// Cut while publishing.
    Cut,
    /// No place free.
    Full,
    /// No place free for the address.
    AddressFull,
    /// Wrong application or no key, or refused by the worker.
    Refused,
    /// A codec that we do not take.
    Codec,
    /// No TLS where it must be, or a handshake that failed.
    Tls,
    /// A PROXY header that is missing, wrong, or not to be taken from there.
    Proxy,
    /// Broke RTMP or FLV.
    Protocol,
    /// Over a limit of size.
    Limit,
    /// Setup, idle or write deadline.
    Deadline,
    /// The worker was late, is shutting down, or ended the stream.
    Worker,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Cause; 13] = [
        Cause::Finished,
        Cause::Left,
        Cause::Cut,
        Cause::Full,
        Cause::AddressFull,
        Cause::Refused,
        Cause::Codec,
        Cause::Tls,
        Cause::Proxy,
        Cause::Protocol,
        Cause::Limit,
        Cause::Deadline,
        Cause::Worker,
    ];

    /// Label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Finished => "finished",
            Cause::Left => "left",
            Cause::Cut => "cut",
            Cause::Full => "full",
            Cause::AddressFull => "address_full",
            Cause::Refused => "refused",
            Cause::Codec => "codec",
            Cause::Tls => "tls",
            Cause::Proxy => "proxy",
            Cause::Protocol => "protocol",
            Cause::Limit => "limit",
            Cause::Deadline => "deadline",
            Cause::Worker => "worker",
        }
    }
}

/// The counters. Each is exact; two read one after the other may not fit together.
#[derive(Debug, Default)]
pub struct Stats {
    open: AtomicU64,
    publishing: AtomicU64,
    connections: AtomicU64,
    publications: AtomicU64,
    bytes_in: AtomicU64,
    accept_failures: AtomicU64,
    ended: [AtomicU64; Cause::ALL.len()],
}

impl Stats {
    /// Connections that are open now, with those not yet publishing.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Publishers that are accepted and connected now.
    pub fn publishing(&self) -> u64 {
        self.publishing.load(Relaxed)
    }

    /// Connections that ever came, with those refused for want of a place.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Publishers that were ever accepted.
    pub fn publications(&self) -> u64 {
        self.publications.load(Relaxed)
    }

    /// Bytes read from all connections.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Times that the listener could not take a connection, for want of descriptors or memory.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Relaxed)
    }

    /// Connections that ended for this cause.
    pub fn ended(&self, cause: Cause) -> u64 {
        self.ended[cause as usize].load(Relaxed)
    }

    pub(super) fn count_end(&self, cause: Cause) {
        self.ended[cause as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_accept_failure(&self) {
        self.accept_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn count_bytes(&self, n: usize) {
        self.bytes_in.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts a connection, as open until the guard drops.
    pub(super) fn connected(&self) -> Gauge<'_> {
        self.connections.fetch_add(1, Relaxed);
        Gauge::raise(&self.open)
    }

    /// Counts a publisher likewise.
    pub(super) fn published(&self) -> Gauge<'_> {
        self.publications.fetch_add(1, Relaxed);
        Gauge::raise(&self.publishing)
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
        assert!(Cause::ALL.into_iter().all(|c| stats.ended(c) == 1));
    }

    #[test]
    fn gauges_fall_when_their_guard_drops() {
        let stats = Stats::default();
        let connected = stats.connected();
        drop(stats.published());
        assert_eq!((stats.open(), stats.publishing(), stats.publications()), (1, 0, 1));
        drop(connected);
        assert_eq!((stats.open(), stats.connections()), (0, 1));
    }
}
