//! What a publisher sends, as plain data. Ingest makes it, [`super::stream`] judges it.

use bytes::Bytes;

use super::model::Coding;

/// What a publisher sent, parsed and bounded but not judged. Times are RTMP's: milliseconds modulo 2^32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// `onMetaData`, as far as we use it.
    Metadata(Metadata),
    /// The decoder configuration record of a coding ([`VideoFormat::avcc`]): the pictures behind it are of this coding.
    ///
    /// [`VideoFormat::avcc`]: super::model::VideoFormat::avcc
    VideoConfig(Coding, Bytes),
    /// One access unit: NAL units behind 4-byte (or as the record says) lengths, or the OBUs of one temporal unit of AV1.
    Video {
        /// Decode time.
        time: u32,
        /// Composition time offset, milliseconds.
        composition: i32,
        /// The tag claims a key frame.
        key: bool,
        /// Its bytes.
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
    /// Timed metadata.
    Cue(Cue),
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
    /// `width`, luma samples.
    pub width: Option<u32>,
    /// `height`, luma samples.
    pub height: Option<u32>,
}

/// `onTextData` or `onCuePoint`: something to show or to do at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// When, as of the message.
    pub time: u32,
    /// Its handler's name.
    pub name: &'static str,
    /// Its value as JSON; at most a message long.
    pub text: String,
}
