//! What a publisher sends, as plain data. Ingest makes it, [`super::stream`] judges it.

use bytes::Bytes;

use super::language::Language;
use super::model::Coding;
use super::time::MediaTime;

/// What one unit of a publisher's times is. Times are modulo 2^32 units in either case: RTMP's have 32 bits, and a remainder of MPEG-TS's 2^33 by 2^32 is
/// as good for steps of up to half of that, which are 6 h 37 min. Larger ones are jumps whatever they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// RTMP's milliseconds (RTMP 1.0, section 5.3.1).
    #[default]
    Milliseconds,
    /// The 1/90000 s of PTS and DTS (ISO/IEC 13818-1, 2.4.3.7).
    Ticks90k,
}

impl Clock {
    /// The length of so many units. Saturates.
    pub const fn time(self, units: i64) -> MediaTime {
        match self {
            Clock::Milliseconds => MediaTime::from_millis(units),
            Clock::Ticks90k => MediaTime(units),
        }
    }
}

/// What a publisher sent, parsed and bounded but not judged. Times are of the publisher's [`Clock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// What the times behind it are counted in. A publisher whose packets come without it counts in milliseconds.
    Clock(Clock),
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
        /// Composition time offset, in the same units.
        composition: i32,
        /// The tag claims a key frame.
        key: bool,
        /// Its bytes.
        data: Bytes,
    },
    /// The language of the audio behind it; `None`: the publisher does not say it, as none does whose packets come without this one.
    AudioLanguage(Option<Language>),
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
