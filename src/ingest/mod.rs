//! Bytes from publishers to packets. Knows sockets, RTMP, FLV and stream keys; knows nothing of rungs, playlists or stores.
//!
//! A listener hands a [`Request`] to the worker, which accepts it with a place to put packets or refuses it with a reason that the streamer sees.

pub mod auth;
pub mod flv;
mod gate;
mod gauge;
mod household;
mod line;
pub mod mpegts;
pub mod proxy;
mod queue;
pub mod rtmp;
pub mod srt;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use self::household::household;
pub use self::line::Line;
pub use crate::logic::packet::{Clock, Cue, Metadata, Packet};
use crate::secret::Secret;

/// How a publisher's media come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTMP in the clear.
    Rtmp,
    /// RTMP over TLS.
    Rtmps,
    /// MPEG-TS over SRT.
    Srt,
}

impl Protocol {
    /// Lower-case word for logs, metric labels and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Rtmp => "rtmp",
            Protocol::Rtmps => "rtmps",
            Protocol::Srt => "srt",
        }
    }
}

/// Somebody wants to publish. Dropping it refuses.
#[derive(Debug)]
pub struct Request {
    /// How.
    pub protocol: Protocol,
    /// The publisher's address.
    pub peer: SocketAddr,
    /// RTMP application, `live`.
    pub app: String,
    /// What stands before a `?` in the stream key.
    pub key: Secret,
    /// The value of `token=` behind the `?`.
    pub token: Option<Secret>,
    /// The signature there, if the key is a signed one.
    pub signed: Option<auth::Signed>,
    /// Where the verdict goes.
    pub verdict: oneshot::Sender<Verdict>,
}

/// The worker's answer.
#[derive(Debug)]
pub enum Verdict {
    /// Send packets here; the channel is bounded, and a full one stops the reading (TCP back-pressure). When the receiver is dropped the
    /// connection is ended. A few hundred packets is a good capacity: bytes are bounded beside it ([`rtmp::Limits::queued_bytes`]), by the
    /// channel's own count, so nothing else may be sent through a clone of the sender. The line is the session's too.
    Accept(mpsc::Sender<Packet>, Arc<Line>),
    /// Tell the streamer and end the connection.
    Refuse(Refusal),
}

/// A refusal as the publisher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// NetStream status code, `NetStream.Publish.BadName`.
    pub code: &'static str,
    /// One sentence for the streamer; holds no secret.
    pub reason: String,
}

impl Refusal {
    /// The name is unknown, taken or badly formed: the streamer has to change it. OBS, ffmpeg and librtmp know this code and the next.
    pub const BAD_NAME: &'static str = "NetStream.Publish.BadName";
    /// Not now or not like this: the worker is full or stopping, or the media are of a kind that it does not take.
    pub const REJECTED: &'static str = "NetStream.Publish.Rejected";
}
