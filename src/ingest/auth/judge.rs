//! What a key store is asked and what it answers, whichever store it is.

use std::net::SocketAddr;
use std::time::Duration;

use super::Keys;
use crate::ingest::{Protocol, Refusal};
use crate::logic::model::StreamId;
use crate::secret::Secret;

/// Somebody who wants to publish, as he presents himself.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How his media come.
    pub protocol: Protocol,
    /// Where from; behind a load balancer, the address that it told.
    pub peer: SocketAddr,
    /// RTMP application or first part of an SRT resource, `live`.
    pub app: String,
    /// The stream key, what stands before a `?`.
    pub key: Secret,
}

/// What an accepted publisher may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The stream that the key stands for.
    pub stream: StreamId,
    /// The passphrase that SRT must use; 10 to 79 bytes. Without one the connection must not be encrypted.
    pub passphrase: Option<Secret>,
    /// SRT's latency for this stream instead of the listener's.
    pub latency: Option<Duration>,
    /// The name of a ladder instead of the worker's.
    pub ladder: Option<String>,
    /// The highest bitrate of all that he sends, kbit/s.
    pub max_kbps: Option<u32>,
}

impl Granted {
    /// The stream, and nothing special.
    pub fn new(stream: StreamId) -> Self {
        Self { stream, passphrase: None, latency: None, ladder: None, max_kbps: None }
    }
}

/// Why somebody may not publish. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No stream has this key.
    #[error("unknown stream key")]
    Unknown,
}

impl Denied {
    /// As the streamer sees it over RTMP.
    pub fn refusal(&self) -> Refusal {
        match self {
            Denied::Unknown => Refusal { code: Refusal::BAD_NAME, reason: self.to_string() },
        }
    }

    /// SRT's rejection reason, of its access control guidelines' range 1400 to 1599.
    pub const fn srt_rejection(&self) -> u16 {
        match self {
            // SRT_REJX_UNAUTHORIZED.
            Denied::Unknown => 1401,
        }
    }
}

impl Keys {
    /// Whether `asked` may publish, and what.
    ///
    /// # Errors
    /// Why not.
    pub async fn judge(&self, asked: &Asked) -> Result<Granted, Denied> {
        self.stream(&asked.key).map(Granted::new).ok_or(Denied::Unknown)
    }
}
