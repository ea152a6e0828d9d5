//! Bytes from publishers to packets. Knows sockets, RTMP, FLV and stream keys; knows nothing of rungs, playlists or stores.
//!
//! A listener hands a [`Request`] to the worker, which accepts it with a place to put packets or refuses it with a reason that the streamer sees.

pub mod auth;
pub mod flv;
pub mod rtmp;

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::secret::Secret;

/// Somebody wants to publish. Dropping it refuses.
#[derive(Debug)]
pub struct Request {
    /// The publisher's address.
    pub peer: SocketAddr,
    /// RTMP application, `live`.
    pub app: String,
    /// What stands before a `?` in the stream key.
    pub key: Secret,
    /// The value of `token=` behind the `?`.
    pub token: Option<Secret>,
    /// Where the verdict goes.
    pub verdict: oneshot::Sender<Verdict>,
}

/// The worker's answer.
#[derive(Debug)]
pub enum Verdict {
    /// Send packets here; the channel is bounded, and a full one stops the reading (TCP back-pressure). When the receiver is dropped the
    /// connection is ended. A few hundred packets is a good capacity: bytes are bounded beside it ([`rtmp::Limits::queued_bytes`]), by the
    /// channel's own count, so nothing else may be sent through a clone of the sender.
    Accept(mpsc::Sender<Packet>),
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

/// What a publisher sent, parsed and bounded but not judged. Times are RTMP's: milliseconds modulo 2^32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// `onMetaData`, as far as we use it.
    Metadata(Metadata),
    /// AVCDecoderConfigurationRecord.
    VideoConfig(Bytes),
    /// One H.264 access unit, NAL units behind 4-byte (or as the record says) lengths.
    Video {
        /// Decode time.
        time: u32,
        /// Composition time offset, milliseconds.
        composition: i32,
        /// The tag claims a key frame.
        key: bool,
        /// NAL units.
        data: Bytes,
    },
    /// AudioSpecificConfig.
    AudioConfig(Bytes),
    /// One raw AAC frame.
    Audio {
        /// Presentation time.
        time: u32,
        /// The frame.
        data: Bytes,
    },
    /// The publisher said goodbye (FCUnpublish, deleteStream). A channel that closes without it is a cut connection.
    Unpublish,
}

/// What `onMetaData` claims; advice only, nothing in it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `videodatarate`, bits per second.
    pub video_bitrate: Option<u64>,
    /// `audiodatarate`, bits per second.
    pub audio_bitrate: Option<u64>,
    /// `framerate` in thousandths.
    pub frame_rate_milli: Option<u32>,
}
