//! Why a connection ended otherwise than by a goodbye: who is to blame, what the publisher is told, how it is counted.

use rtmp_runtime::RtmpError;

use super::stats::Cause;
use crate::blame::Blame;
use crate::ingest::auth::BadName;
use crate::ingest::gate::Full;
use crate::ingest::queue::Left;
use crate::ingest::{Refusal, flv, proxy, tls};

/// The RTMP application that publishers must name: `rtmp://host/live`.
pub const APP: &str = "live";

/// A deadline by its name; lengths are in [`super::Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// From the connection to the end of a PROXY header and of TLS's handshake.
    Handshake,
    /// From the connection to `publish`.
    Setup,
    /// The worker's answer to a request.
    Verdict,
    /// The next message of a publisher.
    Idle,
    /// A reply leaving.
    Write,
}

impl std::fmt::Display for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Deadline::Handshake => "handshake deadline: no PROXY header or no TLS in time",
            Deadline::Setup => "setup deadline: no publish in time",
            Deadline::Verdict => "verdict deadline: the worker did not answer in time",
            Deadline::Idle => "idle deadline: no media",
            Deadline::Write => "write deadline: the other side does not read",
        })
    }
}

/// Ends a connection. The log line that shows it has the peer's address beside it; no variant holds a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All places are taken.
    #[error("{limit} connections are open, the limit")]
    Full {
        /// [`super::Limits::connections`].
        limit: u32,
    },
    /// All places of this address are taken.
    #[error("{limit} connections from this address are open, the limit")]
    AddressFull {
        /// [`super::Limits::connections_per_address`].
        limit: u32,
    },
    /// A PROXY header that is missing, wrong, or not to be taken from there.
    #[error("{0}")]
    Proxy(#[from] proxy::Error),
    /// No TLS where it must be.
    #[error("{0}")]
    Tls(tls::Failure),
    /// TLS where there is none.
    #[error("TLS on the RTMP listener: the server address must begin with rtmp://, or have the port of RTMPS")]
    UnaskedTls,
    /// Not RTMP, or not as it should be.
    #[error("protocol error: {0}")]
    Protocol(#[from] RtmpError),
    /// More bytes than any encoder needs, and no `publish` among them.
    #[error("{limit} bytes without publish")]
    NoPublish {
        /// [`super::Limits::bytes_before_publish`].
        limit: u32,
    },
    /// A deadline has passed.
    #[error("{0}")]
    Deadline(Deadline),
    /// Another application than [`APP`].
    #[error("application {app:?} refused")]
    WrongApp {
        /// Its name, cut to 40 characters.
        app: String,
    },
    /// `publish` without a name.
    #[error("publish without a stream key")]
    NoKey,
    /// `publish` with a name that cannot be one.
    #[error("{0}")]
    BadName(#[from] BadName),
    /// The worker said no.
    #[error("refused: {} ({})", .0.reason, .0.code)]
    Refused(Refusal),
    /// The worker takes no new publishers, or dropped the request.
    #[error("worker is shutting down")]
    ShuttingDown,
    /// A second `connect`, `createStream` or `publish` behind the first `publish`.
    #[error("a second stream on one connection")]
    SecondStream,
    /// A codec that Weir does not take; the source names it.
    #[error("{0}")]
    Codec(flv::Error),
    /// A media message that breaks its specification.
    #[error("bad media message at {time} ms: {source}")]
    Media {
        /// The message's RTMP time.
        time: u32,
        /// What is wrong.
        source: flv::Error,
    },
    /// A message over the limit.
    #[error("message of {bytes} bytes at {time} ms, the limit is {limit}")]
    TooLong {
        /// The message's RTMP time.
        time: u32,
        /// Its length.
        bytes: usize,
        /// [`super::Limits::message_bytes`].
        limit: u32,
    },
    /// The worker dropped its end of the packets.
    #[error("the worker ended the stream")]
    WorkerLeft,
    /// The same, and said why.
    #[error("the worker ended the stream: {} ({})", .0.reason, .0.code)]
    Dismissed(Refusal),
    /// End of the byte stream in the middle of a publication.
    #[error("connection cut while publishing")]
    Cut,
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(#[from] std::io::Error),
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        match full {
            Full::All(limit) => Error::Full { limit },
            Full::Address(limit) => Error::AddressFull { limit },
        }
    }
}

impl From<Left> for Error {
    fn from(Left(reason): Left) -> Self {
        reason.map_or(Error::WorkerLeft, Error::Dismissed)
    }
}

impl Error {
    /// Whose fault it is. A refusal by the worker is the publisher's where it is about the name or the right to it.
    pub fn blame(&self) -> Blame {
        match self {
            Error::Full { .. }
            | Error::ShuttingDown
            | Error::WorkerLeft
            | Error::Dismissed(_)
            | Error::Deadline(Deadline::Verdict) => Blame::Worker,
            // The load balancer's settings and ours do not fit.
            Error::Proxy(error) if *error != proxy::Error::Untrusted => Blame::Operator,
            Error::Refused(refusal) if refusal.code == Refusal::REJECTED => Blame::Worker,
            _ => Blame::Publisher,
        }
    }

    /// How it is counted.
    pub fn cause(&self) -> Cause {
        match self {
            Error::Full { .. } => Cause::Full,
            Error::AddressFull { .. } => Cause::AddressFull,
            Error::Proxy(_) | Error::Tls(tls::Failure::Proxy(_)) => Cause::Proxy,
            Error::Tls(tls::Failure::Deadline) => Cause::Deadline,
            Error::Tls(_) => Cause::Tls,
            Error::Protocol(_) | Error::UnaskedTls | Error::SecondStream | Error::Media { .. } => Cause::Protocol,
            Error::NoPublish { .. } | Error::TooLong { .. } => Cause::Limit,
            Error::Deadline(Deadline::Verdict) | Error::ShuttingDown | Error::WorkerLeft | Error::Dismissed(_) => Cause::Worker,
            Error::Deadline(_) => Cause::Deadline,
            Error::WrongApp { .. } | Error::NoKey | Error::BadName(_) | Error::Refused(_) => Cause::Refused,
            Error::Codec(_) => Cause::Codec,
            Error::Cut | Error::Io(_) => Cause::Cut,
        }
    }

    /// What the publisher is told, where telling makes sense: not to a peer that is gone, silent, or speaks no RTMP.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let (code, reason) = match self {
            Error::Refused(refusal) | Error::Dismissed(refusal) => return Some(refusal.clone()),
            Error::WrongApp { .. } => (Refusal::BAD_NAME, format!("the server address must end in /{APP}")),
            Error::NoKey => (Refusal::BAD_NAME, "no stream key given".to_owned()),
            Error::BadName(_) => (Refusal::BAD_NAME, self.to_string()),
            Error::Deadline(Deadline::Verdict) => (Refusal::REJECTED, "the server is too busy, try again".to_owned()),
            Error::ShuttingDown | Error::SecondStream | Error::Codec(_) | Error::WorkerLeft => {
                (Refusal::REJECTED, self.to_string())
            }
            Error::Media { .. } | Error::TooLong { .. } => (Refusal::REJECTED, self.to_string()),
            Error::Full { .. } | Error::AddressFull { .. } | Error::NoPublish { .. } => return None,
            Error::Proxy(_) | Error::Tls(_) | Error::UnaskedTls => return None,
            Error::Protocol(_) | Error::Deadline(_) | Error::Cut | Error::Io(_) => return None,
        };
        Some(Refusal { code, reason })
    }
}
