//! Why there is no listener, and why a caller's connection ended otherwise than by a goodbye.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::stats::Cause;
use crate::blame::Blame;
use crate::ingest::gate::Full;
use crate::ingest::queue::Left;
use crate::ingest::{Refusal, mpegts};

/// Why there is no listener; always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("SRT listener {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No thread to start processes from.
    #[error("SRT listener: {source}")]
    Thread {
        /// Why.
        source: io::Error,
    },
    /// The program is not there, or not to be run.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not listen.
    #[error("{} does not listen: {reason}", program.display())]
    Hello {
        /// The program.
        program: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Ends a caller's connection. The log line that shows it has the peer's address beside it; no variant holds a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All places are taken.
    #[error("{0} callers are connected, the limit")]
    Full(u32),
    /// All places of this address are taken.
    #[error("{0} callers from this address are connected, the limit")]
    AddressFull(u32),
    /// It asks for more latency than may be.
    #[error("latency of {asked} ms, the limit is {limit}: set less in the encoder")]
    Latency {
        /// What both sides agreed on, ms.
        asked: u32,
        /// [`super::SrtListener::max_latency_ms`].
        limit: u32,
    },
    /// The worker's answer is late.
    #[error("the worker did not answer in time")]
    Verdict,
    /// The worker said no.
    #[error("refused: {}", .0.reason)]
    Refused(Refusal),
    /// No media for longer than `limits.idle_ms`, though the connection stands.
    #[error("idle deadline: no media")]
    Idle,
    /// Media that cannot be taken.
    #[error("{0}")]
    Media(#[from] mpegts::Error),
    /// The worker takes no new publishers.
    #[error("worker is shutting down")]
    ShuttingDown,
    /// The worker dropped its end of the packets.
    #[error("the worker ended the stream")]
    WorkerLeft,
    /// The same, and said why.
    #[error("the worker ended the stream: {}", .0.reason)]
    Dismissed(Refusal),
    /// Nothing came any more.
    #[error("connection lost")]
    Lost,
    /// The SRT process is gone.
    #[error("the SRT process is gone")]
    Process,
}

impl Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Full(_) | Self::Verdict | Self::ShuttingDown | Self::WorkerLeft | Self::Dismissed(_) | Self::Process => {
                Blame::Worker
            }
            Self::Refused(refusal) if refusal.code == Refusal::REJECTED => Blame::Worker,
            _ => Blame::Publisher,
        }
    }

    /// How it is counted.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Full(_) => Cause::Full,
            Self::AddressFull(_) => Cause::AddressFull,
            Self::Refused(_) => Cause::Refused,
            Self::Latency { .. } => Cause::Limit,
            Self::Idle => Cause::Deadline,
            Self::Media(_) => Cause::Media,
            Self::Verdict | Self::ShuttingDown | Self::WorkerLeft | Self::Dismissed(_) => Cause::Worker,
            Self::Lost => Cause::Lost,
            Self::Process => Cause::Process,
        }
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        match full {
            Full::All(limit) => Self::Full(limit),
            Full::Address(limit) => Self::AddressFull(limit),
        }
    }
}

impl From<Left> for Error {
    fn from(Left(reason): Left) -> Self {
        reason.map_or(Self::WorkerLeft, Self::Dismissed)
    }
}
