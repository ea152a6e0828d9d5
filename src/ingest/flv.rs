//! The bodies of RTMP audio and video messages: legacy FLV tags and Enhanced RTMP headers. Pure; knows nothing of connections or time.
//!
//! H.264, HEVC, AV1 and AAC come out. Everything else that the two specifications name is refused by its name, so that a streamer learns what
//! to change. Sources: Adobe Flash Video File Format 10.1, annex E.4; Enhanced RTMP v1 and v2 (veovera.org). Nothing here recurses and
//! nothing is copied: results are slices of the message.

use std::borrow::Cow;

use bytes::Bytes;

use crate::logic::model::Coding;
use crate::logic::packet::Packet;

/// Longest decoder configuration. Real ones have under 200 bytes; an IPC header that carries one may have 32 KiB
/// ([`crate::link::wire::MAX_HEADER`]) in all.
pub const MAX_CONFIG: usize = 4096;

/// Most ModEx prefixes before a packet. The specification defines one kind (a nanosecond offset); more than a few is no encoder.
const MAX_MODEX: usize = 8;

/// What is wrong with a message body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field or a stated length reaches beyond the end of the message.
    #[error("{what} is cut short: {need} bytes needed, {have} left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Bytes that it needs.
        need: usize,
        /// Bytes that were left.
        have: usize,
    },
    /// A decoder configuration of more than [`MAX_CONFIG`] bytes.
    #[error("{what} of {have} bytes is too long, at most {MAX_CONFIG}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length.
        have: usize,
    },
    /// A value that neither specification defines.
    #[error("{what} {value} is not defined")]
    Undefined {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// A lawful packet of a kind that Weir does not take.
    #[error("{codec} is not supported: send H.264, HEVC or AV1 video and AAC audio")]
    Unsupported {
        /// Name of the codec (or of the layout, `multitrack video`) for people.
        codec: Cow<'static, str>,
    },
}

impl Error {
    fn unsupported(codec: &'static str) -> Self {
        Error::Unsupported { codec: Cow::Borrowed(codec) }
    }
}

/// What a video message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Video {
    /// The coding's decoder configuration record, 1 to [`MAX_CONFIG`] bytes, not looked into.
    Config(Coding, Bytes),
    /// One access unit, or one temporal unit of AV1.
    Frame {
        /// What the message calls it.
        coding: Coding,
        /// Composition time offset, -8388608 to 8388607 ms; 0 for AV1.
        composition: i32,
        /// The message claims a key frame.
        key: bool,
        /// NAL units behind their lengths, or OBUs; never empty, not looked into.
        data: Bytes,
    },
    /// Lawful and without media: end of sequence, seek command, metadata, an empty message.
    Nothing,
}

/// From video messages to packets: pictures belong to the last configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pictures {
    /// Of that one.
    coding: Option<Coding>,
}

impl Pictures {
    /// A message at this time, milliseconds; `None` for what holds no media, and for pictures of another coding than the configuration in front of them, which nobody
    /// could decode.
    pub fn packet(&mut self, video: Video, time: u32) -> Option<Packet> {
        match video {
            Video::Config(coding, record) => {
                self.coding = Some(coding);
                Some(Packet::VideoConfig(coding, record))
            }
            Video::Frame { coding, .. } if self.coding.is_some_and(|configured| configured != coding) => None,
            Video::Frame { composition, key, data, .. } => Some(Packet::Video { time, composition, key, data }),
            Video::Nothing => None,
        }
    }
}

/// What an audio message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audio {
    /// AudioSpecificConfig, 2 to [`MAX_CONFIG`] bytes, not looked into.
    Config(Bytes),
    /// One raw AAC frame; never empty.
    Frame(Bytes),
    /// Lawful and without media.
    Nothing,
}

/// Reads a video message.
///
/// # Errors
/// [`Error::Unsupported`] for all but single-track H.264, HEVC and AV1; the others for what breaks the specifications.
pub fn video(body: &Bytes) -> Result<Video, Error> {
    let mut rest = Reader(body.clone());
    if body.is_empty() {
        return Ok(Video::Nothing);
    }
    let head = rest.u8("video header")?;
    // Enhanced RTMP took the top bit of the frame type, which no legacy value uses.
    if head & 0x80 != 0 {
        return enhanced_video(head, rest);
    }
    let codec = head & 0x0f;
    if codec != 7 {
        return Err(legacy_video_codec(codec));
    }
    let Some(key) = frame_type(head >> 4)? else { return Ok(Video::Nothing) };
    match rest.u8("AVC packet type")? {
        0 => {
            rest.si24("AVC composition time")?;
            rest.video_config(Coding::H264)
        }
        1 => {
            let composition = rest.si24("AVC composition time")?;
            Ok(rest.video_frame(Coding::H264, composition, key))
        }
        2 => Ok(Video::Nothing),
        value => Err(Error::Undefined { what: "AVC packet type", value }),
    }
}

/// Reads an audio message.
///
/// # Errors
/// [`Error::Unsupported`] for all but single-track AAC; the others for what breaks the specifications.
pub fn audio(body: &Bytes) -> Result<Audio, Error> {
    let mut rest = Reader(body.clone());
    if body.is_empty() {
        return Ok(Audio::Nothing);
    }
    let head = rest.u8("audio header")?;
    match head >> 4 {
        // The rate, size and channel bits are fixed for AAC and mean nothing (E.4.2.1).
        10 => match rest.u8("AAC packet type")? {
            0 => rest.audio_config(),
            1 => Ok(rest.audio_frame()),
            value => Err(Error::Undefined { what: "AAC packet type", value }),
        },
        9 => enhanced_audio(head, rest),
        format => Err(legacy_audio_codec(format)),
    }
}

fn enhanced_video(head: u8, mut rest: Reader) -> Result<Video, Error> {
    let frame = (head >> 4) & 0x07;
    let packet = rest.skip_modex(head & 0x0f)?;
    if packet == 4 {
        // Metadata (HDR colour): AMF from a stranger that we have no use for.
        return Ok(Video::Nothing);
    }
    let Some(key) = frame_type(frame)? else { return Ok(Video::Nothing) };
    if packet == 6 {
        return Err(Error::unsupported("multitrack video"));
    }
    let fourcc = rest.fourcc("video FourCC")?;
    let coding = match &fourcc {
        b"avc1" => Coding::H264,
        b"hvc1" => Coding::Hevc,
        b"av01" => Coding::Av1,
        _ => return Err(video_fourcc(fourcc)),
    };
    match packet {
        0 => rest.video_config(coding),
        1 => {
            // AV1 has no composition times: what is not shown yet stands in the temporal unit that shows it.
            let composition = if coding == Coding::Av1 { 0 } else { rest.si24("composition time")? };
            Ok(rest.video_frame(coding, composition, key))
        }
        2 => Ok(Video::Nothing),
        3 => Ok(rest.video_frame(coding, 0, key)),
        5 if coding == Coding::Av1 => Err(Error::unsupported("AV1 video with a sequence header of MPEG-2 TS")),
        value => Err(Error::Undefined { what: "enhanced video packet type", value }),
    }
}

fn enhanced_audio(head: u8, mut rest: Reader) -> Result<Audio, Error> {
    let packet = rest.skip_modex(head & 0x0f)?;
    if packet == 5 {
        return Err(Error::unsupported("multitrack audio"));
    }
    let fourcc = rest.fourcc("audio FourCC")?;
    if &fourcc != b"mp4a" {
        return Err(audio_fourcc(fourcc));
    }
    match packet {
        0 => rest.audio_config(),
        1 => Ok(rest.audio_frame()),
        // 4 is MultichannelConfig: the AudioSpecificConfig says the same of AAC.
        2 | 4 => Ok(Audio::Nothing),
        value => Err(Error::Undefined { what: "enhanced audio packet type for mp4a", value }),
    }
}

/// `Some(claims a key frame)`, or `None` for a command frame, which holds a seek flag in place of media.
fn frame_type(value: u8) -> Result<Option<bool>, Error> {
    match value {
        1 | 4 => Ok(Some(true)),
        2 | 3 => Ok(Some(false)),
        5 => Ok(None),
        value => Err(Error::Undefined { what: "video frame type", value }),
    }
}

/// Annex E.4.3.1, and two numbers that encoders took without a specification.
fn legacy_video_codec(codec: u8) -> Error {
    Error::unsupported(match codec {
        2 => "Sorenson H.263 video",
        3 => "Screen video",
        4 => "VP6 video",
        5 => "VP6 video with alpha",
        6 => "Screen video 2",
        8 => "H.263 video",
        9 => "MPEG-4 Part 2 video",
        12 => "HEVC video as codec 12 of FLV, which is not Enhanced RTMP,",
        13 => "AV1 video as codec 13 of FLV, which is not Enhanced RTMP,",
        value => return Error::Undefined { what: "video codec", value },
    })
}

/// Annex E.4.2.1.
fn legacy_audio_codec(format: u8) -> Error {
    Error::unsupported(match format {
        0 | 3 => "PCM audio",
        1 => "ADPCM audio",
        2 | 14 => "MP3 audio",
        4..=6 => "Nellymoser audio",
        7 | 8 => "G.711 audio",
        11 => "Speex audio",
        15 => "device-specific audio",
        value => return Error::Undefined { what: "audio format", value },
    })
}

fn video_fourcc(code: [u8; 4]) -> Error {
    match &code {
        b"hev1" => Error::unsupported("HEVC video with its parameter sets among the pictures (hev1)"),
        b"vp09" => Error::unsupported("VP9 video (vp09)"),
        b"vp08" => Error::unsupported("VP8 video (vp08)"),
        b"vvc1" => Error::unsupported("VVC video (vvc1)"),
        _ => Error::Unsupported { codec: Cow::Owned(format!("video codec {}", printable(code))) },
    }
}

fn audio_fourcc(code: [u8; 4]) -> Error {
    match &code {
        b"Opus" => Error::unsupported("Opus audio"),
        b"ac-3" => Error::unsupported("AC-3 audio"),
        b"ec-3" => Error::unsupported("E-AC-3 audio"),
        b".mp3" => Error::unsupported("MP3 audio"),
        b"fLaC" => Error::unsupported("FLAC audio"),
        _ => Error::Unsupported { codec: Cow::Owned(format!("audio codec {}", printable(code))) },
    }
}

/// The name goes into logs and to the publisher: nothing but visible ASCII.
fn printable(code: [u8; 4]) -> String {
    code.iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '?' }).collect()
}

/// What is left of a message.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, need: usize, what: &'static str) -> Result<Bytes, Error> {
        let have = self.0.len();
        if have < need {
            return Err(Error::Truncated { what, need, have });
        }
        Ok(self.0.split_to(need))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(self.take(1, what)?[0])
    }

    fn si24(&mut self, what: &'static str) -> Result<i32, Error> {
        let b = self.take(3, what)?;
        // Into the top three bytes, so that the shift back extends the sign.
        Ok(i32::from_be_bytes([b[0], b[1], b[2], 0]) >> 8)
    }

    fn fourcc(&mut self, what: &'static str) -> Result<[u8; 4], Error> {
        let b = self.take(4, what)?;
        Ok([b[0], b[1], b[2], b[3]])
    }

    /// Steps over ModEx prefixes (Enhanced RTMP v2, packet type 7 of both media) and returns the packet type behind them. The only one
    /// defined is an offset under a millisecond, finer than anything that we keep.
    fn skip_modex(&mut self, first: u8) -> Result<u8, Error> {
        let mut packet = first;
        for _ in 0..MAX_MODEX {
            if packet != 7 {
                return Ok(packet);
            }
            let mut size = usize::from(self.u8("ModEx size")?) + 1;
            if size == 256 {
                let b = self.take(2, "ModEx size")?;
                size = usize::from(u16::from_be_bytes([b[0], b[1]])) + 1;
            }
            self.take(size, "ModEx data")?;
            packet = self.u8("ModEx type")? & 0x0f;
        }
        Err(Error::Undefined { what: "packet type after eight ModEx", value: packet })
    }

    /// An empty configuration is skipped: encoders that learn it late announce it again.
    fn video_config(self, coding: Coding) -> Result<Video, Error> {
        match self.0.len() {
            0 => Ok(Video::Nothing),
            1..=MAX_CONFIG => Ok(Video::Config(coding, self.0)),
            have => Err(Error::TooLong { what: "video decoder configuration", have }),
        }
    }

    fn audio_config(self) -> Result<Audio, Error> {
        match self.0.len() {
            0 => Ok(Audio::Nothing),
            have @ 1 => Err(Error::Truncated { what: "AudioSpecificConfig", need: 2, have }),
            2..=MAX_CONFIG => Ok(Audio::Config(self.0)),
            have => Err(Error::TooLong { what: "AudioSpecificConfig", have }),
        }
    }

    fn video_frame(self, coding: Coding, composition: i32, key: bool) -> Video {
        if self.0.is_empty() { Video::Nothing } else { Video::Frame { coding, composition, key, data: self.0 } }
    }

    fn audio_frame(self) -> Audio {
        if self.0.is_empty() { Audio::Nothing } else { Audio::Frame(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v(body: &[u8]) -> Result<Video, Error> {
        video(&Bytes::copy_from_slice(body))
    }

    fn a(body: &[u8]) -> Result<Audio, Error> {
        audio(&Bytes::copy_from_slice(body))
    }

    fn frame(composition: i32, key: bool, data: &'static [u8]) -> Video {
        Video::Frame { coding: Coding::H264, composition, key, data: Bytes::from_static(data) }
    }

    fn named(error: impl Into<Cow<'static, str>>) -> Error {
        Error::Unsupported { codec: error.into() }
    }

    #[test]
    fn legacy_avc_gives_configuration_frames_and_signed_composition_time() {
        assert_eq!(v(b"\x17\x00\x00\x00\x00\x01\x64"), Ok(Video::Config(Coding::H264, Bytes::from_static(b"\x01\x64"))));
        assert_eq!(v(b"\x17\x01\x00\x00\x50abc"), Ok(frame(80, true, b"abc")));
        assert_eq!(v(b"\x27\x01\xff\xff\xd8abc"), Ok(frame(-40, false, b"abc")));
        assert_eq!(v(b"\x37\x01\x80\x00\x00abc"), Ok(frame(-8_388_608, false, b"abc")));
    }

    #[test]
    fn legacy_aac_gives_configuration_and_frames() {
        assert_eq!(a(b"\xaf\x00\x11\x90"), Ok(Audio::Config(Bytes::from_static(b"\x11\x90"))));
        assert_eq!(a(b"\xaf\x01abc"), Ok(Audio::Frame(Bytes::from_static(b"abc"))));
    }

    #[test]
    fn enhanced_avc1_and_mp4a_mean_the_same_as_legacy() {
        assert_eq!(v(b"\x90avc1\x01\x64"), v(b"\x17\x00\x00\x00\x00\x01\x64"));
        assert_eq!(v(b"\x91avc1\x00\x00\x50abc"), v(b"\x17\x01\x00\x00\x50abc"));
        assert_eq!(v(b"\xa3avc1abc"), v(b"\x27\x01\x00\x00\x00abc"));
        assert_eq!(a(b"\x90mp4a\x11\x90"), a(b"\xaf\x00\x11\x90"));
        assert_eq!(a(b"\x91mp4aabc"), a(b"\xaf\x01abc"));
    }

    #[test]
    fn enhanced_hvc1_and_av01_say_what_they_are() {
        let frame = |coding, composition, key, data| {
            let data = Bytes::from_static(data);
            Ok(Video::Frame { coding, composition, key, data })
        };
        assert_eq!(v(b"\x90hvc1\x01\x02"), Ok(Video::Config(Coding::Hevc, Bytes::from_static(b"\x01\x02"))));
        assert_eq!(v(b"\x91hvc1\xff\xff\xd8abc"), frame(Coding::Hevc, -40, true, b"abc"));
        assert_eq!(v(b"\xa3hvc1abc"), frame(Coding::Hevc, 0, false, b"abc"));
        assert_eq!(v(b"\x92hvc1"), Ok(Video::Nothing));
        assert_eq!(v(b"\x90av01\x81"), Ok(Video::Config(Coding::Av1, Bytes::from_static(b"\x81"))));
        assert_eq!(v(b"\x91av01\x0a\x0b\x00"), frame(Coding::Av1, 0, true, b"\x0a\x0b\x00"));
        assert_eq!(v(b"\xa3av01\x32"), frame(Coding::Av1, 0, false, b"\x32"));
        assert!(matches!(v(b"\x91hvc1\x00"), Err(Error::Truncated { .. })));
        // A nanosecond offset in front (v2), and HDR metadata alone.
        assert_eq!(v(b"\x97\x02\x01\xe2\x40\x01hvc1\x00\x00\x28abc"), frame(Coding::Hevc, 40, true, b"abc"));
        assert_eq!(v(b"\x94hvc1\x02\x00\x09colorInfo"), Ok(Video::Nothing));
    }

    #[test]
    fn pictures_of_another_coding_than_the_configuration_are_left_out() {
        let mut pictures = Pictures::default();
        let mut packet = |body| pictures.packet(v(body).unwrap(), 40);
        let unit = |data| Some(Packet::Video { time: 40, composition: 0, key: false, data: Bytes::from_static(data) });
        assert_eq!(packet(b"\x90hvc1\x01"), Some(Packet::VideoConfig(Coding::Hevc, Bytes::from_static(b"\x01"))));
        assert_eq!(packet(b"\xa3hvc1abc"), unit(b"abc"));
        assert_eq!(packet(b"\x27\x01\x00\x00\x00abc"), None);
        assert_eq!(packet(b"\x92hvc1"), None);
        assert_eq!(packet(b"\x17\x00\x00\x00\x00\x01"), Some(Packet::VideoConfig(Coding::H264, Bytes::from_static(b"\x01"))));
        assert_eq!(packet(b"\x27\x01\x00\x00\x00abc"), unit(b"abc"));
        assert_eq!(packet(b"\xa3hvc1abc"), None);
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        assert_eq!(v(b"\x90vp08\x01"), Err(named("VP8 video (vp08)")));
        assert!(v(b"\x90hev1\x01").unwrap_err().to_string().contains("hev1"));
        assert!(v(b"\x95av01\x01").unwrap_err().to_string().contains("MPEG-2 TS"));
        assert_eq!(v(b"\x93vp09\x00"), Err(named("VP9 video (vp09)")));
        assert_eq!(v(b"\x93a\x1b\nz\x00"), Err(named("video codec a??z")));
        assert_eq!(v(b"\x14\x00"), Err(named("VP6 video")));
        assert_eq!(v(b"\x22\x00"), Err(named("Sorenson H.263 video")));
        assert!(v(b"\x1c\x00").unwrap_err().to_string().contains("HEVC video as codec 12"));
        assert_eq!(a(b"\x2f\x00"), Err(named("MP3 audio")));
        assert_eq!(a(b"\xb2\x00"), Err(named("Speex audio")));
        assert_eq!(a(b"\x90Opus\x00"), Err(named("Opus audio")));
        assert_eq!(
            v(b"\x90vp09").unwrap_err().to_string(),
            "VP9 video (vp09) is not supported: send H.264, HEVC or AV1 video and AAC audio"
        );
    }

    #[test]
    fn multitrack_is_refused_even_for_our_codecs() {
        assert_eq!(v(b"\x96\x00avc1\x00abc"), Err(named("multitrack video")));
        assert_eq!(a(b"\x95\x00mp4a\x00abc"), Err(named("multitrack audio")));
    }

    #[test]
    fn messages_without_media_are_nothing() {
        for body in [
            &b""[..],
            b"\x17\x02",             // end of sequence
            b"\x17\x00\x00\x00\x00", // empty configuration
            b"\x27\x01\x00\x00\x00", // empty frame
            b"\x57\x00",             // seek command
            b"\xd1\x00",             // enhanced seek command
            b"\x92avc1",             // enhanced end of sequence
            b"\x94hvc1\x02\xff\xff", // metadata is not read, not even its codec
        ] {
            assert_eq!(v(body), Ok(Video::Nothing), "{body:02x?}");
        }
        for body in [&b""[..], b"\xaf\x00", b"\xaf\x01", b"\x92mp4a", b"\x94mp4a\x01\x02\x00\x00\x00\x03"] {
            assert_eq!(a(body), Ok(Audio::Nothing), "{body:02x?}");
        }
    }

    #[test]
    fn modex_is_stepped_over_in_both_sizes() {
        assert_eq!(v(b"\x97\x02abc\x01avc1\x00\x00\x00xyz"), Ok(frame(0, true, b"xyz")));
        let mut long = b"\x97\xff\x01\x00".to_vec(); // 256 + 1 bytes
        long.extend([0; 257]);
        long.extend(b"\x03avc1xyz");
        assert_eq!(v(&long), Ok(frame(0, true, b"xyz")));
        assert_eq!(a(b"\x97\x00n\x01mp4axyz"), Ok(Audio::Frame(Bytes::from_static(b"xyz"))));
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let cut = |what, need, have| Err(Error::Truncated { what, need, have });
        assert_eq!(v(b"\x97\x09abc"), cut("ModEx data", 10, 3));
        assert_eq!(v(b"\x97\xff\xff\xffabc"), cut("ModEx data", 65536, 3));
        assert_eq!(v(b"\x17\x01\x00"), cut("AVC composition time", 3, 1));
        assert_eq!(a(b"\xaf\x00\x11").unwrap_err().to_string(), "AudioSpecificConfig is cut short: 2 bytes needed, 1 left");
        let endless = b"\x97".iter().copied().chain([0, 0, 7].into_iter().cycle().take(3 * 100_000)).collect::<Vec<_>>();
        assert_eq!(v(&endless), Err(Error::Undefined { what: "packet type after eight ModEx", value: 7 }));
    }

    #[test]
    fn a_configuration_is_bounded() {
        let mut body = b"\x17\x00\x00\x00\x00".to_vec();
        body.resize(5 + MAX_CONFIG, 1);
        assert!(matches!(v(&body), Ok(Video::Config(_, c)) if c.len() == MAX_CONFIG));
        body.push(1);
        assert_eq!(v(&body), Err(Error::TooLong { what: "video decoder configuration", have: MAX_CONFIG + 1 }));
    }

    #[test]
    fn undefined_values_are_errors() {
        assert_eq!(v(b"\x17\x03\x00\x00\x00"), Err(Error::Undefined { what: "AVC packet type", value: 3 }));
        assert_eq!(v(b"\x07\x01"), Err(Error::Undefined { what: "video frame type", value: 0 }));
        assert_eq!(v(b"\x1f\x01"), Err(Error::Undefined { what: "video codec", value: 15 }));
        assert_eq!(v(b"\x95avc1"), Err(Error::Undefined { what: "enhanced video packet type", value: 5 }));
        assert_eq!(a(b"\xc0\x01"), Err(Error::Undefined { what: "audio format", value: 12 }));
    }

    /// Lawful bodies whose every prefix must be harmless.
    const LAWFUL: [&[u8]; 11] = [
        b"\x17\x00\x00\x00\x00\x01\x64\x00\x1f\xff\xe1\x00\x04\x67\x64\x00\x1f\x01\x00\x02\x68\xee",
        b"\x27\x01\x00\x00\x50\x00\x00\x00\x04\x41\x9a\x00\x01",
        b"\x90avc1\x01\x64\x00\x1f",
        b"\xa1avc1\x00\x00\x50abcdef",
        b"\xa1hvc1\x00\x00\x50abcdef",
        b"\xa1av01\x12\x00\x32\x01\x10",
        b"\x97\x02abc\x17\x02abc\x01avc1\x00\x00\x00xyz",
        b"\xaf\x00\x11\x90",
        b"\xaf\x01\x21\x10\x04",
        b"\x91mp4a\x21\x10\x04",
        b"\x94hvc1\x02\x00\x09colorInfo",
    ];

    #[test]
    fn every_prefix_of_a_lawful_body_is_an_error_or_a_shorter_slice_of_it() {
        for body in LAWFUL {
            for end in 0..=body.len() {
                let cut = &body[..end];
                if let Ok(Video::Config(_, d) | Video::Frame { data: d, .. }) = v(cut) {
                    assert!(cut.ends_with(&d));
                }
                if let Ok(Audio::Config(d) | Audio::Frame(d)) = a(cut) {
                    assert!(cut.ends_with(&d));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn strange_bytes_never_panic_and_never_grow(body in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Video::Config(_, d) | Video::Frame { data: d, .. }) = v(&body) {
                prop_assert!(!d.is_empty() && body.ends_with(&d));
            }
            if let Ok(Audio::Config(d) | Audio::Frame(d)) = a(&body) {
                prop_assert!(!d.is_empty() && body.ends_with(&d));
            }
        }

        #[test]
        fn lawful_bodies_with_one_byte_changed_never_panic(which in 0..LAWFUL.len(), at in any::<prop::sample::Index>(), to: u8) {
            let mut body = LAWFUL[which].to_vec();
            let at = at.index(body.len());
            body[at] = to;
            let _ = (v(&body), a(&body));
        }

        #[test]
        fn enhanced_and_legacy_frames_are_equal(composition in -8_388_608_i32..=8_388_607, key: bool,
                                                data in prop::collection::vec(any::<u8>(), 0..40)) {
            let time = &composition.to_be_bytes()[1..];
            let legacy = [&[if key { 0x17 } else { 0x27 }, 1], time, &data].concat();
            let enhanced = [&[if key { 0x91 } else { 0xa1 }][..], b"avc1", time, &data].concat();
            prop_assert_eq!(v(&legacy), v(&enhanced));
        }
    }
}
