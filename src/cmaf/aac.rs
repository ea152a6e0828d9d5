//! AudioSpecificConfig and canned silence (ISO/IEC 14496-3). Pure and bounded.

use bytes::Bytes;

use crate::logic::model::AudioFormat;
use crate::logic::time::Timescale;

/// Samples per channel in one AAC frame.
pub const FRAME: i64 = 1024;

/// Why an AudioSpecificConfig cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// Too short, or a reserved value.
    #[error("AudioSpecificConfig is broken")]
    Broken,
    /// A lawful one that players do not take.
    #[error("AAC {0} is not supported")]
    Unsupported(String),
}

/// ISO/IEC 14496-3, table 1.18.
const RATES: [u32; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

/// Reads an AudioSpecificConfig: AAC-LC, and HE-AAC signalled explicitly (whose frames count at the core's rate).
///
/// # Errors
/// [`AacError`] when it is broken, has more than 8 channels, frames of 960 samples, or another object type.
pub fn read_config(asc: &Bytes) -> Result<AudioFormat, AacError> {
    let &[a, b, ..] = &asc[..] else { return Err(AacError::Broken) };
    // 64 bytes: a program config element with comment is the longest lawful one that encoders write.
    if asc.len() > 64 {
        return Err(AacError::Broken);
    }
    let object_type = a >> 3;
    if !matches!(object_type, 2 | 5 | 29) {
        return Err(AacError::Unsupported(format!("object type {object_type}")));
    }
    let index = usize::from((a & 7) << 1 | b >> 7);
    let rate = RATES.get(index).copied().and_then(Timescale::new).ok_or(AacError::Broken)?;
    let channels = match (b >> 3) & 0xf {
        n @ 1..=6 => n,
        7 => 8,
        other => return Err(AacError::Unsupported(format!("channel configuration {other}"))),
    };
    if object_type == 2 && b & 0b100 != 0 {
        return Err(AacError::Unsupported("frames of 960 samples".into()));
    }
    Ok(AudioFormat { rate, channels, codec: format!("mp4a.40.{object_type}"), asc: asc.clone() })
}

/// The format of a stream that brings no audio: AAC-LC, 48 kHz, stereo (rules.md 10).
pub fn silent_format() -> AudioFormat {
    let asc = Bytes::from_static(&[0x11, 0x90]);
    let rate = const { Timescale::new(48_000).expect("48000 is not zero") };
    AudioFormat { rate, channels: 2, codec: "mp4a.40.2".into(), asc }
}

/// One AAC-LC frame of silence; `None` for channel counts that we have none for (such a stream gets no filling, a hole stays a hole).
///
/// The frames are the shortest lawful ones: every scale factor band empty. A test decodes them with ffmpeg.
pub fn silence(channels: u8) -> Option<Bytes> {
    let frame: &'static [u8] = match channels {
        // single_channel_element, max_sfb 0, then the end element
        1 => &[0x00, 0xc8, 0x00, 0x80, 0x23, 0x80],
        // channel_pair_element likewise
        2 => &[0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80],
        _ => return None,
    };
    Some(Bytes::from_static(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<AudioFormat, AacError> {
        read_config(&Bytes::from_static(bytes))
    }

    #[test]
    fn rate_channels_and_codec_are_read() {
        let f = read(&[0x11, 0x90]).unwrap();
        assert_eq!((f.rate.hz(), f.channels, f.codec.as_str()), (48_000, 2, "mp4a.40.2"));
        let f = read(&[0x12, 0x08]).unwrap();
        assert_eq!((f.rate.hz(), f.channels), (44_100, 1));
        assert_eq!(read(&[0x11, 0xb0]).unwrap().channels, 6);
    }

    #[test]
    fn what_players_do_not_take_is_refused_by_name() {
        assert_eq!(read(&[0x11]), Err(AacError::Broken));
        assert_eq!(read(&[0x0a, 0x10]), Err(AacError::Unsupported("object type 1".into())));
        assert_eq!(read(&[0x11, 0x94]), Err(AacError::Unsupported("frames of 960 samples".into())));
        assert_eq!(read(&[0x17, 0x90]), Err(AacError::Broken), "escaped rates are for no streamer");
    }
}
