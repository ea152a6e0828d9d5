//! The listener's settings. They come from configuration, so they are public, named, and checked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::Listener;

/// Settings of the SRT listener. What holds for RTMP too stands in [`crate::ingest::rtmp::Limits`]: `idle_ms`, `verdict_ms`, `message_bytes`, `queued_bytes`.
///
/// A caller costs up to 12 MiB in the SRT process (libsrt's receive buffer, 8,192 packets) if its latency is filled with media, and 1 MiB on the way here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SrtListener {
    /// The program. Empty: `weir-srt` beside `weir`.
    pub program: PathBuf,
    /// Least latency, ms, 20 to 8000; a caller that asks for more gets more. Default 250: four round trips of 60 ms, which is a continent. With it 2 % of loss is
    /// mended at an RTT of 40 ms; SRT's own default of 120 lost 14 packets of 13,000 there.
    pub latency_ms: u32,
    /// Most latency that a caller may ask for, ms, 20 to 30000; who asks for more is disconnected. Default 8000: four round trips over two satellites, and at
    /// 8 Mbit/s two thirds of libsrt's receive buffer.
    pub max_latency_ms: u32,
    /// A caller that is silent for so long is gone, ms, 1000 to 60000. Default 5000, libsrt's own: it sends a sign of life each second.
    pub peer_idle_ms: u32,
    /// Length of the AES key that the listener asks for, bytes: 16, 24 or 32. Default 0: the caller's word holds, and where it gives none libsrt takes 16.
    pub key_length: u8,
    /// Callers at once, 1 to 4096. Default 128: a node takes about 30 streams; the rest is for those that come back before they are missed.
    pub callers: u32,
    /// Callers at once from one IPv4 address or one IPv6 /64. Default 32, as RTMP's.
    pub callers_per_address: u32,
    /// Memory over which the process is ended, MiB, 64 to 65536. Default 1024: 60 callers with full receive buffers.
    pub memory_mib: u32,
}

impl Default for SrtListener {
    fn default() -> Self {
        Self {
            program: PathBuf::new(),
            latency_ms: 250,
            max_latency_ms: 8000,
            peer_idle_ms: 5000,
            key_length: 0,
            callers: 128,
            callers_per_address: 32,
            memory_mib: 1024,
        }
    }
}

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("srt_listener.{name} is {value}, must be {must}")]
pub struct OutOfRange {
    name: &'static str,
    value: u32,
    must: String,
}

impl SrtListener {
    /// Checks all ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let ranges = [
            ("latency_ms", self.latency_ms, 20, 8000),
            ("max_latency_ms", self.max_latency_ms, self.latency_ms, 30_000),
            ("peer_idle_ms", self.peer_idle_ms, 1000, 60_000),
            ("callers", self.callers, 1, 4096),
            ("callers_per_address", self.callers_per_address, 1, 4096),
            ("memory_mib", self.memory_mib, 64, 65_536),
        ];
        if let Some((name, value, low, high)) = ranges.into_iter().find(|&(_, value, low, high)| !(low..=high).contains(&value))
        {
            return Err(OutOfRange { name, value, must: format!("{low} to {high}") });
        }
        match self.key_length {
            0 | 16 | 24 | 32 => Ok(()),
            other => Err(OutOfRange { name: "key_length", value: other.into(), must: "0, 16, 24 or 32".into() }),
        }
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        if self.program.as_os_str().is_empty() {
            return std::env::current_exe().unwrap_or_default().with_file_name("weir-srt");
        }
        self.program.clone()
    }

    /// Resident bytes over which the process is ended.
    pub(super) fn memory(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    /// As the process is told. Its own bound counts reserved stacks as well (8 MiB for each thread, two threads for each caller).
    pub(super) fn listener(&self) -> Listener {
        Listener {
            latency_ms: self.latency_ms,
            peer_idle_ms: self.peer_idle_ms,
            key_length: self.key_length,
            memory: self.memory().saturating_add(u64::from(self.callers) * 2 * (8 << 20)).saturating_add(256 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_what_is_not_is_named() {
        SrtListener::default().check().unwrap();
        let check = |text: &str| toml::from_str::<SrtListener>(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(check("latency_ms = 10"), "srt_listener.latency_ms is 10, must be 20 to 8000");
        assert_eq!(check("max_latency_ms = 100"), "srt_listener.max_latency_ms is 100, must be 250 to 30000");
        assert_eq!(check("key_length = 20"), "srt_listener.key_length is 20, must be 0, 16, 24 or 32");
        assert!(toml::from_str::<SrtListener>("latency = 10").is_err());
    }
}
