//! Recipe of the software path: libavcodec decodes, libx264 encodes.

use std::str::FromStr;

use super::{
    DECODE, DECODE_AV1, DECODE_HEVC, DEINTERLACE, Name, Numbers, QUEUE_BYTES, RUNG, RecipeError, Rung, SINK, Value, within,
};
use crate::cmaf::video;
use crate::logic::model::{Coding, VideoFormat};

/// x264enc's flag of that name.
const ZEROLATENCY: u64 = 4;
/// B-frames between two others.
const B_FRAMES: u64 = 2;
/// An encoder looks no further ahead: a playlist waits for a rung as long as a segment is (2 s), and half of that belongs to decoding, encoding and
/// the store. The fast presets look ahead less at all common rates.
const MAX_LOOKAHEAD_MS: u64 = 500;

/// x264's presets from the fastest; `slower` and beyond are no live presets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are x264's")]
pub enum Preset {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Fast,
    Medium,
    Slow,
}

impl Preset {
    const NAMES: [(Self, &'static str); 7] = [
        (Self::Ultrafast, "ultrafast"),
        (Self::Superfast, "superfast"),
        (Self::Veryfast, "veryfast"),
        (Self::Faster, "faster"),
        (Self::Fast, "fast"),
        (Self::Medium, "medium"),
        (Self::Slow, "slow"),
    ];

    /// Pictures that it looks ahead (x264's `param_apply_preset`).
    fn lookahead(self) -> u64 {
        match self {
            Self::Ultrafast | Self::Superfast => 0,
            Self::Veryfast => 10,
            Self::Faster => 20,
            Self::Fast => 30,
            Self::Medium => 40,
            Self::Slow => 50,
        }
    }

    /// x264's name.
    pub(crate) fn word(self) -> &'static str {
        Self::NAMES.iter().find(|(p, _)| *p == self).map_or("veryfast", |(_, name)| name)
    }
}

impl FromStr for Preset {
    type Err = RecipeError;
    fn from_str(s: &str) -> Result<Self, RecipeError> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == s);
        found.map(|(p, _)| *p).ok_or_else(|| RecipeError::Preset(s.chars().take(40).collect()))
    }
}

/// Settings of the software path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Software {
    /// Speed against quality.
    pub preset: Preset,
    /// Threads of each encoder, 1 to 16.
    pub threads: u8,
    /// Threads of the decoder, 1 to 16. With more than one it holds back a picture for each.
    pub decoder_threads: u8,
    /// The source has so few pictures a second that none may be held back for the sake of those behind it.
    pub low_delay: bool,
}

/// From the access units to pictures of frames.
pub(super) fn decode(source: &VideoFormat, threads: u8, low_delay: bool) -> Result<String, RecipeError> {
    let threads = within("decoder threads", threads.into(), 1, 16)?;
    let threads = Value::Number(if low_delay { 1 } else { threads });
    let queue = ("queue_bytes", Value::Number(QUEUE_BYTES));
    let mut text = match source.coding() {
        Coding::H264 => DECODE.fill(&[queue, ("threads", threads)])?,
        Coding::Hevc => DECODE_HEVC.fill(&[queue, ("threads", threads)])?,
        // Its threads are its own matter; it holds no picture back for them.
        Coding::Av1 => DECODE_AV1.fill(&[queue])?,
    };
    if video::picture(source).is_some_and(|p| p.interlaced) {
        text += " ! ";
        text += &DEINTERLACE.fill(&[])?;
    }
    Ok(text)
}

pub(super) fn encode(from: Name, index: usize, rung: &Rung, settings: &Software) -> Result<String, RecipeError> {
    let threads = within("encoder threads", settings.threads.into(), 1, 16)?;
    let Numbers { kbps, vbv_ms, fps_num, fps_den, key_interval } = Numbers::of(rung)?;
    let (tune, bframes, lookahead) = match settings.low_delay {
        true => (ZEROLATENCY, 0, 0),
        false => (0, B_FRAMES, settings.preset.lookahead().min(rung.fps.milli() * MAX_LOOKAHEAD_MS / 1_000_000)),
    };
    Ok(RUNG.fill(&[
        ("from", Value::Name(from)),
        ("sink", Value::Name(Name(SINK, index))),
        ("fps_num", Value::Number(fps_num)),
        ("fps_den", Value::Number(fps_den)),
        ("preset", Value::Word(settings.preset.word())),
        ("threads", Value::Number(threads)),
        ("kbps", Value::Number(kbps)),
        ("vbv_ms", Value::Number(vbv_ms)),
        ("tune", Value::Number(tune)),
        ("bframes", Value::Number(bframes)),
        ("lookahead", Value::Number(lookahead)),
        ("key_interval", Value::Number(key_interval)),
    ])?)
}
