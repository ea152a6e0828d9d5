//! The messages between the supervisor and a codec process, and their frames on the socket.
//!
//! A frame is `u32 length | u16 header length | header (postcard) | payload`, big endian; `length` counts all that follows it. The
//! supervisor treats the other side as untrusted: every length is checked before a byte is read into memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cmaf::aac;
use crate::logic::capacity::Prices;
use crate::logic::ladder::Rung;
use crate::logic::loudness::Loudness;
use crate::logic::model::VideoFormat;
use crate::logic::recipe::{Class, Decoders, Preset};
use crate::logic::sound::AudioPlan;
use crate::logic::stream::EncoderLimits;
use crate::logic::thumbnail::Thumbnail;

/// Raised with every change of a message; both sides refuse any other.
pub const VERSION: u16 = 6;

/// Longest frame: the RTMP message limit (8 MiB by default, at most) for one access unit, and its header.
pub const MAX_FRAME: usize = (8 << 20) + MAX_HEADER + 2;

/// Longest header. The largest is `Start` (a few hundred bytes for eight rungs) or an inventory (about 4 KiB).
pub const MAX_HEADER: usize = 32 << 10;

/// Which encoder family a plan wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoder {
    /// libx264 by `x264enc`.
    Software {
        /// x264's name of the preset, `veryfast`.
        preset: String,
        /// Threads of each encoder, 1 to 16.
        threads: u8,
    },
    /// NVENC by `nvh264enc`, on the one device that the process sees.
    Nvidia {
        /// Speed against quality.
        class: Class,
        /// Sources that NVDEC cannot decode are decoded on the CPU.
        allow_cpu_decode: bool,
    },
}

impl Encoder {
    /// Changes the class, where it has one.
    pub fn set_class(&mut self, to: Class) {
        if let Self::Nvidia { class, .. } = self {
            *class = to;
        }
    }

    /// To the least work that is worth it, where it does more.
    pub fn hurry(&mut self) {
        match self {
            Self::Software { preset, .. } if preset.parse().is_ok_and(|p: Preset| p > Prices::BRIEF) => {
                *preset = Prices::BRIEF.word().to_owned();
            }
            Self::Software { .. } => {}
            Self::Nvidia { class, .. } => *class = Class::Dense,
        }
    }

    /// What it does not take, where the CPU and the GPU have these decoders.
    pub const fn limits(&self, cpu: Decoders, device: Decoders) -> EncoderLimits {
        match self {
            Self::Software { .. } => EncoderLimits::software(cpu),
            Self::Nvidia { allow_cpu_decode, .. } => EncoderLimits::nvidia(cpu, device, *allow_cpu_decode),
        }
    }
}

/// What a codec process has to make of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The source.
    pub source: VideoFormat,
    /// What to encode, from the largest to the smallest.
    pub rungs: Vec<Rung>,
    /// Small pictures beside them, if wanted.
    pub thumbnail: Option<Thumbnail>,
    /// With what.
    pub encoder: Encoder,
    /// Threads of the decoder, 1 to 16.
    pub decoder_threads: u8,
    /// Few pictures a second come: decoder and encoders hold none back.
    pub low_delay: bool,
}

/// From the supervisor. Every message about media carries a stream number (rules.md 23).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCodec {
    /// First message.
    Hello {
        /// [`VERSION`].
        version: u16,
    },
    /// Begin a stream.
    Start {
        /// Its number.
        stream: u32,
        /// Boxed: much larger than the others.
        plan: Box<Plan>,
    },
    /// One access unit in decode order; payload: NAL units behind 4-byte lengths.
    Video {
        /// Stream number.
        stream: u32,
        /// 1/90000 s.
        pts: i64,
        /// 1/90000 s.
        dts: i64,
        /// An IDR picture.
        idr: bool,
        /// A segment begins at this unit's `pts` on every track: each encoder must give an IDR there.
        cut: bool,
    },
    /// Audio begins on a stream, whether it has pictures or not. In place of audio that runs already: that is drained first, and
    /// [`FromCodec::AudioEnded`] says so.
    StartAudio {
        /// Stream number.
        stream: u32,
        /// Boxed: much larger than the others.
        plan: Box<AudioPlan>,
    },
    /// One frame of the source's audio; payload: raw AAC, at most [`aac::MAX_FRAME_BYTES`].
    Audio {
        /// Stream number.
        stream: u32,
        /// 1/90000 s: of the first sample that a decoder gives for it.
        pts: i64,
    },
    /// No more input: drain the encoders, then answer [`FromCodec::Ended`].
    End {
        /// Stream number.
        stream: u32,
    },
    /// No more input and nothing more is wanted of it: take it down at once, then answer [`FromCodec::Ended`].
    Stop {
        /// Stream number.
        stream: u32,
    },
    /// Ask for an [`FromCodec::Inventory`].
    Probe,
}

impl ToCodec {
    /// The same message about another stream.
    #[must_use]
    pub fn of_stream(mut self, number: u32) -> Self {
        match &mut self {
            Self::Hello { .. } | Self::Probe => {}
            Self::Start { stream, .. }
            | Self::Video { stream, .. }
            | Self::StartAudio { stream, .. }
            | Self::Audio { stream, .. }
            | Self::End { stream }
            | Self::Stop { stream } => *stream = number,
        }
        self
    }
}

/// From the codec process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromCodec {
    /// First message, once GStreamer is up.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// `1.22.0`.
        gstreamer: String,
    },
    /// In place of [`FromCodec::Hello`]: it cannot encode here, and ends.
    Unable {
        /// For the log.
        reason: String,
    },
    /// The parameter sets of a rung, before its first unit and whenever they change; payload: AVCDecoderConfigurationRecord.
    Config {
        /// Stream number.
        stream: u32,
        /// Index into [`Plan::rungs`].
        rung: u8,
    },
    /// One encoded picture in decode order; payload: NAL units behind 4-byte lengths.
    Unit {
        /// Stream number.
        stream: u32,
        /// Index into [`Plan::rungs`].
        rung: u8,
        /// 1/90000 s: exactly the `pts` of the source's access unit.
        pts: i64,
        /// An IDR picture.
        idr: bool,
    },
    /// A small picture; payload: JPEG of the size that was ordered, at most [`crate::logic::thumbnail::MAX_BYTES`].
    Thumbnail {
        /// Stream number.
        stream: u32,
        /// 1/90000 s: exactly the `pts` of the source's access unit.
        pts: i64,
    },
    /// One frame of re-encoded audio, in order; payload: raw AAC-LC, 48 kHz, stereo, at most [`aac::MAX_FRAME_BYTES`].
    Audio {
        /// Stream number.
        stream: u32,
        /// 1/90000 s: of the first sample that a decoder gives for it. What decoder and encoder add in front is subtracted (rules.md 11).
        pts: i64,
    },
    /// How loud the source's audio is; about once a second of media.
    Loudness {
        /// Stream number.
        stream: u32,
        /// The measurement.
        loudness: Loudness,
    },
    /// All that was made of the audio before the last [`ToCodec::StartAudio`] has been sent.
    AudioEnded {
        /// Stream number.
        stream: u32,
    },
    /// The audio cannot be decoded, or not be encoded; pictures go on.
    AudioFailed {
        /// Stream number.
        stream: u32,
        /// For the log.
        reason: String,
    },
    /// All units of the stream have been sent.
    Ended {
        /// Stream number.
        stream: u32,
    },
    /// The stream's pipeline failed; the process may be stopped.
    Failed {
        /// Stream number.
        stream: u32,
        /// For the log.
        reason: String,
    },
    /// Answer to [`ToCodec::Probe`].
    Inventory(Inventory),
}

impl FromCodec {
    /// Which stream it is about.
    pub const fn stream(&self) -> Option<u32> {
        match self {
            Self::Hello { .. } | Self::Unable { .. } | Self::Inventory(_) => None,
            Self::Config { stream, .. }
            | Self::Unit { stream, .. }
            | Self::Thumbnail { stream, .. }
            | Self::Audio { stream, .. }
            | Self::Loudness { stream, .. }
            | Self::AudioEnded { stream }
            | Self::AudioFailed { stream, .. }
            | Self::Ended { stream }
            | Self::Failed { stream, .. } => Some(*stream),
        }
    }
}

/// What GStreamer offers here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// `1.22.0`.
    pub gstreamer: String,
    /// Every element that a pipeline template names.
    pub elements: Vec<Element>,
}

/// One element of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Factory name.
    pub name: String,
    /// It can be made here.
    pub present: bool,
    /// Properties that our templates set and that this version lacks.
    pub missing_properties: Vec<String>,
    /// The Debian package that brings it.
    pub package: String,
    /// What it is needed for: `software`, `nvidia`, `picture`.
    pub role: String,
}

/// Why a frame was refused; always the other side's fault, and the end of the link.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The length field is over the longest frame of this link ([`MAX_FRAME`] to a codec process) or under the smallest.
    #[error("frame of {0} bytes is too long or too short")]
    Length(usize),
    /// The header length does not fit the frame or is over [`MAX_HEADER`].
    #[error("header of {0} bytes does not fit its frame")]
    Header(usize),
    /// The header is no message of this version.
    #[error("header is no message: {0}")]
    Message(#[from] postcard::Error),
}

/// Whether a payload can be a frame of AAC.
pub fn is_aac_frame(payload: &[u8]) -> bool {
    (1..=aac::MAX_FRAME_BYTES).contains(&payload.len())
}

/// Appends one frame to `out`.
///
/// # Errors
/// [`WireError::Length`] when header and payload together are over [`MAX_FRAME`].
pub fn encode<M: Serialize>(message: &M, payload: &[u8], out: &mut BytesMut) -> Result<(), WireError> {
    let header = postcard::to_stdvec(message)?;
    let length = 2 + header.len() + payload.len();
    if length > MAX_FRAME {
        return Err(WireError::Length(length));
    }
    let header_length = u16::try_from(header.len()).map_err(|_| WireError::Header(header.len()))?;
    out.reserve(4 + length);
    out.put_u32(u32::try_from(length).map_err(|_| WireError::Length(length))?);
    out.put_u16(header_length);
    out.put_slice(&header);
    out.put_slice(payload);
    Ok(())
}

/// Takes one whole frame from the front of `input`; `Ok(None)` when more bytes are needed.
///
/// # Errors
/// [`WireError`] when the bytes can be no frame; nothing after them can be trusted.
pub fn decode<M: DeserializeOwned>(input: &mut BytesMut) -> Result<Option<(M, Bytes)>, WireError> {
    decode_within(input, MAX_FRAME)
}

/// The same on a link whose frames are shorter.
///
/// # Errors
/// As [`decode`].
pub fn decode_within<M: DeserializeOwned>(input: &mut BytesMut, longest: usize) -> Result<Option<(M, Bytes)>, WireError> {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(3..=longest).contains(&length) {
        return Err(WireError::Length(length));
    }
    if rest.len() < length {
        return Ok(None);
    }
    input.advance(4);
    let mut frame = input.split_to(length).freeze();
    let header_length = usize::from(frame.get_u16());
    if header_length > MAX_HEADER || header_length > frame.len() {
        return Err(WireError::Header(header_length));
    }
    let header = frame.split_to(header_length);
    Ok(Some((postcard::from_bytes(&header)?, frame)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_survives_every_split_point() {
        let message = ToCodec::Video { stream: 7, pts: -3, dts: 90_000, idr: true, cut: false };
        let mut whole = BytesMut::new();
        encode(&message, b"payload", &mut whole).unwrap();
        for at in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..at]);
            assert!(decode::<ToCodec>(&mut input).unwrap().is_none());
            input.extend_from_slice(&whole[at..]);
            let (back, payload) = decode::<ToCodec>(&mut input).unwrap().unwrap();
            assert_eq!((back, &payload[..]), (message.clone(), &b"payload"[..]));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_lie_about_the_length_is_refused_before_memory_is_taken() {
        let mut input = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(matches!(decode::<FromCodec>(&mut input), Err(WireError::Length(_))));
        let mut input = BytesMut::from(&[0, 0, 0, 3, 0xff, 0xff, 0][..]);
        assert!(matches!(decode::<FromCodec>(&mut input), Err(WireError::Header(_))));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode::<FromCodec>(&mut input) {}
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode::<ToCodec>(&mut input) {}
        }

        /// Garbage behind an honest frame header: what reads messages sees every kind of them.
        #[test]
        fn a_header_is_a_message_or_refused(kind in 0u8..15, rest in proptest::collection::vec(any::<u8>(), 0..100)) {
            let header = [&[kind][..], &rest].concat();
            let mut frame = BytesMut::new();
            frame.put_u32(2 + header.len() as u32);
            frame.put_u16(header.len() as u16);
            frame.put_slice(&header);
            let _ = decode::<FromCodec>(&mut frame.clone());
            let _ = decode::<ToCodec>(&mut frame);
        }

        #[test]
        fn audio_and_loudness_come_back_as_they_were_sent(
            stream: u32, pts: i64, payload in proptest::collection::vec(any::<u8>(), 0..9000),
            integrated: Option<i32>, short_term: Option<i32>, gain: Option<i32>,
        ) {
            let loudness = Loudness { integrated, short_term, gain };
            for message in [FromCodec::Audio { stream, pts }, FromCodec::Thumbnail { stream, pts }, FromCodec::Loudness { stream, loudness }, FromCodec::AudioEnded { stream }] {
                let mut frame = BytesMut::new();
                encode(&message, &payload, &mut frame).unwrap();
                let (back, bytes) = decode::<FromCodec>(&mut frame).unwrap().unwrap();
                prop_assert_eq!(back, message);
                prop_assert_eq!(is_aac_frame(&bytes), (1..=8192).contains(&payload.len()));
            }
            let mut frame = BytesMut::new();
            let message = ToCodec::Audio { stream, pts };
            encode(&message, &payload, &mut frame).unwrap();
            prop_assert_eq!(decode::<ToCodec>(&mut frame).unwrap().unwrap(), (message, Bytes::from(payload)));
        }
    }
}
