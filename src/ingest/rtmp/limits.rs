//! What one listener and one connection may use. Lives in the configuration file; decides nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of the RTMP ingest.
///
/// Worst case of memory: a stranger who has not been accepted holds `bytes_before_publish`, a few times over while it is parsed. A
/// publisher holds `queued_bytes`, one read of 16 KiB, and up to four times `message_bytes` while one of the longest messages is put
/// together (its chunk, the message, its copy as a tag, the growth of buffers). A publisher's command message of the greatest length costs
/// 280 MiB for the moment of its parsing (measured with 8 MiB of AMF nulls: rtmp-runtime keeps 32 bytes for each), on at most as many
/// connections at once as the runtime has threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once, 1 to 65536. Default 512: a node takes about 30 streams; the rest is room for reconnects and strangers, at one
    /// file descriptor each half of the usual soft limit of 1024 for the whole process.
    pub connections: u32,
    /// Connections at once from one IPv4 address or one IPv6 /64, 1 to 65536. Default 32: a studio behind one NAT with a
    /// node's worth of streams.
    pub connections_per_address: u32,
    /// Bytes that a connection may send before it has asked to publish, 4096 to 1048576. Default 64 KiB: handshake (3073) and the four
    /// commands of OBS and ffmpeg come to about 4 KiB.
    pub bytes_before_publish: u32,
    /// Milliseconds from the connection to the end of a PROXY header and of TLS's handshake, where there are any, 100 to 60000. Default 5 s: two
    /// round trips for TCP and TLS 1.2, and a lost packet's first two retries (RFC 6298: 1 s, 2 s).
    pub handshake_ms: u64,
    /// Milliseconds from there to `publish`, 100 to 60000. Default 10 s: five round trips on a bad mobile line.
    pub setup_ms: u64,
    /// Milliseconds for the worker's verdict, 100 to 60000. Default 10 s: one call to a control plane and a second
    /// try.
    pub verdict_ms: u64,
    /// Milliseconds without an audio, video or data message before a publisher counts as lost, 1000 to 300000. Default 10 s: longer than
    /// a change of Wi-Fi network, shorter than a viewer's patience. Time in which we do not read does not count.
    pub idle_ms: u64,
    /// Milliseconds for one reply to leave, 100 to 60000. Default 5 s: the longest has 3 KiB and fits any socket buffer.
    pub write_ms: u64,
    /// Milliseconds to wait for the other side to close after our last word, or after its own, 0 to 60000. Default 2 s: closing at once with unread bytes
    /// resets the connection (RFC 1122, 4.2.2.13) and the publisher may lose the text of the refusal.
    pub goodbye_ms: u64,
    /// Longest message, that is one access unit, 65536 to 8388608 bytes. Default and maximum 8 MiB: the first picture of a 2160p stream may
    /// have 6.2 MB (H.264, A.3.1 with MinCR 2: half of 384 bytes for each of 32,400 macroblocks), and frames to the codec process have room
    /// for 8 MiB ([`crate::link::wire::MAX_FRAME`]).
    pub message_bytes: u32,
    /// Bytes of packets that may wait for the worker per publisher, at least `message_bytes`, at most 256 MiB. Default 16 MiB: 16 s at
    /// 8 Mbit/s, or two of the largest messages. Over it we stop reading and TCP slows the publisher down.
    pub queued_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: 32,
            bytes_before_publish: 64 << 10,
            handshake_ms: 5_000,
            setup_ms: 10_000,
            verdict_ms: 10_000,
            idle_ms: 10_000,
            write_ms: 5_000,
            goodbye_ms: 2_000,
            message_bytes: 8 << 20,
            queued_bytes: 16 << 20,
        }
    }
}

/// A limit outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rtmp limit {name} is {value}, must be {min} to {max}")]
pub struct OutOfRange {
    /// Name of the field.
    pub name: &'static str,
    /// What was given.
    pub value: u64,
    /// Smallest allowed.
    pub min: u64,
    /// Largest allowed.
    pub max: u64,
}

impl Limits {
    /// Checks all ranges.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let max_queued = 256 << 20;
        let ranges = [
            ("connections", self.connections.into(), 1, 65_536),
            ("connections_per_address", self.connections_per_address.into(), 1, 65_536),
            ("bytes_before_publish", self.bytes_before_publish.into(), 4096, 1 << 20),
            ("handshake_ms", self.handshake_ms, 100, 60_000),
            ("setup_ms", self.setup_ms, 100, 60_000),
            ("verdict_ms", self.verdict_ms, 100, 60_000),
            ("idle_ms", self.idle_ms, 1000, 300_000),
            ("write_ms", self.write_ms, 100, 60_000),
            ("goodbye_ms", self.goodbye_ms, 0, 60_000),
            ("message_bytes", self.message_bytes.into(), 65_536, 8 << 20),
            ("queued_bytes", self.queued_bytes.into(), self.message_bytes.into(), max_queued),
        ];
        match ranges.into_iter().find(|&(_, value, min, max)| !(min..=max).contains(&value)) {
            Some((name, value, min, max)) => Err(OutOfRange { name, value, min, max }),
            None => Ok(()),
        }
    }

    /// Bytes of unfinished messages on all chunk streams: one of the longest and 64 KiB, since audio and commands may begin in the middle
    /// of a video message.
    pub(super) fn max_in_progress(&self) -> usize {
        widen(self.message_bytes).saturating_add(64 << 10)
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(super) fn setup(&self) -> Duration {
        Duration::from_millis(self.setup_ms)
    }

    pub(in crate::ingest) fn verdict(&self) -> Duration {
        Duration::from_millis(self.verdict_ms)
    }

    pub(in crate::ingest) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(super) fn write(&self) -> Duration {
        Duration::from_millis(self.write_ms)
    }

    pub(super) fn goodbye(&self) -> Duration {
        Duration::from_millis(self.goodbye_ms)
    }
}

/// `u32` as a length; Weir runs on 64-bit machines, and elsewhere this only makes a limit smaller.
pub(super) fn widen(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_fit_the_link() {
        let limits = Limits::default();
        limits.check().unwrap();
        assert!(widen(limits.message_bytes) <= crate::link::wire::MAX_FRAME);
    }

    #[test]
    fn a_partial_table_keeps_the_other_defaults_and_a_typo_is_refused() {
        let limits: Limits = toml::from_str("idle_ms = 20000").unwrap();
        assert_eq!(limits, Limits { idle_ms: 20_000, ..Limits::default() });
        assert!(toml::from_str::<Limits>("idle_sm = 20000").is_err());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let limits = Limits { queued_bytes: 65_536, ..Limits::default() };
        assert_eq!(limits.check().unwrap_err().to_string(), "rtmp limit queued_bytes is 65536, must be 8388608 to 268435456");
    }
}
