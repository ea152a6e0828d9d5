//! AudioSpecificConfig and canned silence (ISO/IEC 14496-3). Pure and bounded.

use bytes::Bytes;

use crate::logic::model::AudioFormat;
use crate::logic::time::Timescale;

/// Samples per channel in one AAC frame.
pub const FRAME: i64 = 1024;

/// Longest AAC frame: 6144 bits per channel (ISO/IEC 14496-3, 4.5.3), 8 channels, rounded up.
pub const MAX_FRAME_BYTES: usize = 8192;

/// Longest AudioSpecificConfig: a program config element with comment is the longest lawful one that encoders write.
pub const MAX_CONFIG_BYTES: usize = 64;

/// Why an AudioSpecificConfig cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// Too short, or a reserved value.
    #[error("AudioSpecificConfig is broken")]
    Broken,
    /// A lawful one that nothing here can decode.
    #[error("AAC {0} is not supported")]
    Unsupported(String),
}

/// ISO/IEC 14496-3, table 1.18.
const RATES: [u32; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

/// syncExtensionType of SBR and of PS behind a core configuration (ISO/IEC 14496-3, 1.6.5.1).
const SYNC_SBR: u32 = 0x2b7;
const SYNC_PS: u32 = 0x548;

/// An AudioSpecificConfig, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Audio object type of the core: 1 Main, 2 LC, 4 LTP.
    pub core: u8,
    /// Spectral band replication is signalled, hierarchically or behind the core's configuration. (Its frames may bring it unsignalled, too.)
    pub sbr: bool,
    /// And parametric stereo.
    pub ps: bool,
    /// Samples per second that come out of the decoder.
    pub rate: Timescale,
    /// channelConfiguration; 0 when a program config element names the channels.
    pub layout: u8,
    /// Channels that come out of the decoder, 1 to 8.
    pub channels: u8,
}

impl Config {
    /// Reads an AudioSpecificConfig with frames of 1024 samples.
    ///
    /// # Errors
    /// [`AacError`] when it is broken, has more than 8 channels, frames of 960 samples, or an object type other than Main, LC, LTP, SBR and PS.
    pub fn read(asc: &[u8]) -> Result<Self, AacError> {
        if asc.len() > MAX_CONFIG_BYTES {
            return Err(AacError::Broken);
        }
        let mut bits = Bits { data: asc, at: 0 };
        let outer = bits.object_type()?;
        let mut rate = bits.rate()?;
        let layout = bits.take(4)? as u8;
        let (mut sbr, mut ps) = (matches!(outer, 5 | 29), outer == 29);
        let mut core = outer;
        if sbr {
            rate = bits.rate()?;
            core = bits.object_type()?;
        }
        if !matches!(core, 1 | 2 | 4) {
            return Err(AacError::Unsupported(format!("object type {core}")));
        }
        // GASpecificConfig (ISO/IEC 14496-3, table 4.1)
        if bits.take(1)? == 1 {
            return Err(AacError::Unsupported("frames of 960 samples".into()));
        }
        if bits.take(1)? == 1 {
            bits.take(14)?;
        }
        bits.take(1)?;
        let named = match layout {
            0 => bits.program_channels()?,
            n @ 1..=6 => n,
            7 | 12 | 14 => 8,
            11 => 7,
            other => return Err(AacError::Unsupported(format!("channel configuration {other}"))),
        };
        if outer == core && bits.left() >= 16 && bits.take(11)? == SYNC_SBR && bits.object_type()? == 5 && bits.take(1)? == 1 {
            sbr = true;
            rate = bits.rate()?;
            ps = bits.left() >= 12 && bits.take(11)? == SYNC_PS && bits.take(1)? == 1;
        }
        // Parametric stereo makes two channels of one.
        let channels = if ps && named == 1 { 2 } else { named };
        if !(1..=8).contains(&channels) {
            return Err(AacError::Unsupported(format!("with {channels} channels")));
        }
        Ok(Self { core: core as u8, sbr, ps, rate, layout, channels })
    }

    /// RFC 6381 string.
    fn codec(&self) -> String {
        let object_type = match (self.sbr, self.ps) {
            (_, true) => 29,
            (true, false) => 5,
            (false, false) => self.core,
        };
        format!("mp4a.40.{object_type}")
    }
}

/// Reads bits from the front.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn left(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.at)
    }

    /// Up to 32 bits.
    fn take(&mut self, count: usize) -> Result<u32, AacError> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.data.get(self.at / 8).ok_or(AacError::Broken)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn object_type(&mut self) -> Result<u32, AacError> {
        Ok(match self.take(5)? {
            31 => 32 + self.take(6)?,
            n => n,
        })
    }

    fn rate(&mut self) -> Result<Timescale, AacError> {
        let hz = match self.take(4)? as usize {
            15 => self.take(24)?,
            index => *RATES.get(index).ok_or(AacError::Broken)?,
        };
        Timescale::new(hz).filter(|_| (7350..=96_000).contains(&hz)).ok_or(AacError::Broken)
    }

    /// Channels of a program config element (ISO/IEC 14496-3, table 4.2), read to its end.
    fn program_channels(&mut self) -> Result<u8, AacError> {
        self.take(4 + 2 + 4)?;
        let (front, side, back) = (self.take(4)?, self.take(4)?, self.take(4)?);
        let (lfe, data, coupling) = (self.take(2)?, self.take(3)?, self.take(4)?);
        for length in [4, 4, 3] {
            if self.take(1)? == 1 {
                self.take(length)?;
            }
        }
        let mut channels = lfe;
        for _ in 0..front + side + back {
            channels += 1 + self.take(1)?;
            self.take(4)?;
        }
        for length in [lfe * 4, data * 4, coupling * 5] {
            for _ in 0..length {
                self.take(1)?;
            }
        }
        self.at = self.at.next_multiple_of(8);
        for _ in 0..self.take(8)? {
            self.take(8)?;
        }
        Ok(u8::try_from(channels).unwrap_or(u8::MAX))
    }
}

/// Reads an AudioSpecificConfig as a format: rate and channels as they come out of the decoder, and no language, which it does not have.
///
/// # Errors
/// As [`Config::read`].
pub fn read_config(asc: &Bytes) -> Result<AudioFormat, AacError> {
    let config = Config::read(asc)?;
    Ok(AudioFormat { rate: config.rate, channels: config.channels, codec: config.codec(), asc: asc.clone(), language: None })
}

/// AAC-LC, 48 kHz, stereo: of a stream that brings no audio (rules.md 10), and of all audio that is re-encoded.
pub fn silent_format() -> AudioFormat {
    let asc = Bytes::from_static(&[0x11, 0x90]);
    let rate = const { Timescale::new(48_000).expect("48000 is not zero") };
    AudioFormat { rate, channels: 2, codec: "mp4a.40.2".into(), asc, language: None }
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
        assert_eq!(read(&[0x09, 0x90]).unwrap().codec, "mp4a.40.1");
    }

    #[test]
    fn he_aac_is_seen_however_it_is_signalled() {
        for (bytes, rate, channels, codec) in [
            // hierarchical, as FDK writes it: SBR over 24 kHz, and PS over mono
            (&[0x2b, 0x11, 0x88, 0x00][..], 48_000, 2, "mp4a.40.5"),
            (&[0xeb, 0x09, 0x88, 0x00], 48_000, 2, "mp4a.40.29"),
            // behind the core's configuration, so that old decoders see AAC-LC
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], 48_000, 2, "mp4a.40.5"),
            (&[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80], 48_000, 2, "mp4a.40.29"),
            // and the same that says it has none: ffmpeg's AAC-LC
            (&[0x11, 0x90, 0x56, 0xe5, 0x00], 48_000, 2, "mp4a.40.2"),
            // implicit: nothing shows it
            (&[0x13, 0x10], 24_000, 2, "mp4a.40.2"),
        ] {
            let f = read_config(&Bytes::copy_from_slice(bytes)).unwrap();
            assert_eq!((f.rate.hz(), f.channels, f.codec.as_str()), (rate, channels, codec), "{bytes:02x?}");
        }
    }

    #[test]
    fn channels_of_a_program_config_element_are_counted() {
        // 48 kHz: front one single and one pair, back one pair, one LFE; no comment
        let mut bits = String::from("00010 0011 0000 000");
        bits += "0000 01 0011 0010 0000 0001 01 000 0000 0 0 0";
        bits += "0 0000 1 0000 1 0001 0000";
        let mut bits: String = bits.split(' ').collect();
        while !bits.len().is_multiple_of(8) {
            bits.push('0');
        }
        bits += "00000000";
        let bytes: Vec<u8> = (0..bits.len()).step_by(8).map(|n| u8::from_str_radix(&bits[n..n + 8], 2).unwrap()).collect();
        assert_eq!(Config::read(&bytes).map(|c| (c.layout, c.channels)), Ok((0, 6)));
        assert_eq!(Config::read(&bytes[..6]), Err(AacError::Broken));
    }

    #[test]
    fn what_nothing_here_decodes_is_refused_by_name() {
        assert_eq!(read(&[0x11]), Err(AacError::Broken));
        assert_eq!(read(&[0x19, 0x10]), Err(AacError::Unsupported("object type 3".into())));
        assert_eq!(read(&[0x11, 0x94]), Err(AacError::Unsupported("frames of 960 samples".into())));
        assert_eq!(read(&[0x11, 0xc0]), Err(AacError::Unsupported("channel configuration 8".into())));
        assert_eq!(read(&[0x17, 0x90]), Err(AacError::Broken), "an escaped rate that is cut short");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8..=255, 0..80)) {
            if let Ok(config) = Config::read(&bytes) {
                assert!((1..=8).contains(&config.channels));
            }
        }
    }
}
