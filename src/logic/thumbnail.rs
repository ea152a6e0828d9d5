//! Thumbnails: which size a source gets, and whether what a codec process gave is that picture and nothing else. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ladder::{self, Size, Source};
use super::model::ObjectKey;
use super::time::{MediaTime, UnixMillis};

/// Longest thumbnail that is taken from a codec process, bytes. 320x180 at quality 75 is 5 to 20 kB, 1280x720 of a busy picture at quality 90 some
/// 400 kB; noise may be more, and is left out.
pub const MAX_BYTES: usize = 512 << 10;

/// Longest side, luma samples. A source of 16:9 or 9:16 has 1280 at the largest short side that can be set (720); what is longer than this is a
/// strip that nobody recognises anything in.
const MAX_SIDE: u32 = 2048;

/// What the operator wants of every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From one to the next. Zero: there are none.
    pub every: Duration,
    /// The picture's short side, luma samples, 64 to 720.
    pub short_side: u32,
    /// Of the JPEG, 1 to 90, on libjpeg's scale.
    pub quality: u8,
    /// How long each is kept under its own name. Zero: only the latest is there.
    pub keep: Duration,
}

/// What a codec process makes beside the rungs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Luma samples, even.
    pub width: u32,
    /// Luma samples, even.
    pub height: u32,
    /// Of the JPEG, 1 to 90, on libjpeg's scale.
    pub quality: u8,
    /// Of media, from one to the next.
    pub every: MediaTime,
}

impl Thumbnail {
    /// What is made of a source: in its shape, never larger than it. `None` where none are wanted, or its shape is no picture's.
    pub fn of(source: &Source, settings: &Settings) -> Option<Self> {
        if settings.every.is_zero() {
            return None;
        }
        let short = settings.short_side.min(source.width).min(source.height);
        let (width, height) = ladder::scaled(source, short);
        let every = MediaTime::from_millis(i64::try_from(settings.every.as_millis()).ok()?);
        (width.max(height) <= MAX_SIDE).then_some(Self { width, height, quality: settings.quality, every })
    }

    /// Whether these bytes are such a picture: see [`check`].
    ///
    /// # Errors
    /// [`BadJpeg`]; always the codec process's fault.
    pub fn check(&self, jpeg: &[u8]) -> Result<(), BadJpeg> {
        check(jpeg, Size { width: self.width, height: self.height })
    }
}

/// The date in the name of a thumbnail ([`super::model::Keys::thumbnail`]); `None` for the latest one, and for what is none.
pub fn date_of(key: &ObjectKey) -> Option<UnixMillis> {
    let (_, name) = key.as_str().strip_prefix("thumb/")?.rsplit_once('/')?;
    name.strip_suffix(".jpg")?.parse().ok().map(UnixMillis)
}

/// What is wrong with a thumbnail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJpeg {
    /// Over [`MAX_BYTES`].
    #[error("it has {0} bytes, more than {MAX_BYTES}")]
    Long(usize),
    /// It ends before its picture does.
    #[error("it is cut short")]
    Short,
    /// It does not begin as a JPEG, or goes on behind its end.
    #[error("it is no JPEG, or more than one")]
    Not,
    /// Bytes that no marker stands in front of, or a marker that a plain baseline JPEG does not have where it is.
    #[error("marker {0:#04x} has no place in it")]
    Marker(u8),
    /// Another picture than was ordered.
    #[error("it is {0}, not {1}")]
    Size(Size, Size),
}

/// Markers of ITU-T T.81, table B.1, and of JFIF.
mod marker {
    pub const BASELINE: u8 = 0xc0;
    pub const HUFFMAN: u8 = 0xc4;
    pub const RESTART_FIRST: u8 = 0xd0;
    pub const RESTART_LAST: u8 = 0xd7;
    pub const BEGIN: u8 = 0xd8;
    pub const END: u8 = 0xd9;
    pub const SCAN: u8 = 0xda;
    pub const QUANTIZATION: u8 = 0xdb;
    pub const RESTART_INTERVAL: u8 = 0xdd;
    pub const JFIF: u8 = 0xe0;
}

/// A JFIF header without a picture of its own inside: the length field and 14 bytes (JFIF 1.02).
const JFIF_LENGTH: usize = 16;

/// Whether bytes are one baseline JPEG (ITU-T T.81) of this size with one scan, and hold nothing besides: no comments, no metadata, nothing behind the
/// end. The codec process parses what strangers send and browsers show what it gives, so nothing may hide in it. Entropy-coded data are not decoded: what they
/// come to is up to the decoder of whoever looks.
///
/// # Errors
/// [`BadJpeg`] with the first thing that is wrong.
pub fn check(jpeg: &[u8], size: Size) -> Result<(), BadJpeg> {
    if jpeg.len() > MAX_BYTES {
        return Err(BadJpeg::Long(jpeg.len()));
    }
    let mut rest = jpeg.strip_prefix(&[0xff, marker::BEGIN]).ok_or(BadJpeg::Not)?;
    let mut found = None;
    loop {
        let (&[prefix, kind], after) = rest.split_first_chunk::<2>().ok_or(BadJpeg::Short)?;
        if prefix != 0xff {
            return Err(BadJpeg::Marker(prefix));
        }
        let (length, _) = after.split_first_chunk::<2>().ok_or(BadJpeg::Short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (segment, tail) = after.split_at_checked(length).ok_or(BadJpeg::Short)?;
        let body = segment.get(2..).ok_or(BadJpeg::Marker(kind))?;
        rest = tail;
        match kind {
            marker::JFIF if length == JFIF_LENGTH && body.starts_with(b"JFIF\0") => {}
            marker::QUANTIZATION | marker::HUFFMAN | marker::RESTART_INTERVAL => {}
            // B.2.2: sample precision, lines, samples per line.
            marker::BASELINE if found.is_none() => match *body {
                [8, h1, h0, w1, w0, ..] => {
                    let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                    found = Some(Size { width: side(w1, w0), height: side(h1, h0) });
                }
                _ => return Err(BadJpeg::Marker(kind)),
            },
            marker::SCAN => break,
            other => return Err(BadJpeg::Marker(other)),
        }
    }
    match found {
        None => return Err(BadJpeg::Marker(marker::SCAN)),
        Some(found) if found != size => return Err(BadJpeg::Size(found, size)),
        Some(_) => {}
    }
    // B.1.1.5: within a scan 0xff is followed by 0, or it begins a marker, of which only restarts go on with the scan.
    while let Some(at) = rest.iter().position(|&b| b == 0xff) {
        match *rest.get(at + 1).ok_or(BadJpeg::Short)? {
            0 | marker::RESTART_FIRST..=marker::RESTART_LAST => rest = rest.get(at + 2..).unwrap_or_default(),
            marker::END if rest.len() == at + 2 => return Ok(()),
            marker::END => return Err(BadJpeg::Not),
            other => return Err(BadJpeg::Marker(other)),
        }
    }
    Err(BadJpeg::Short)
}

#[cfg(test)]
#[path = "thumbnail_tests.rs"]
pub(crate) mod tests;
