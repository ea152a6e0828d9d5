//! The slate's file: FLV, as ffmpeg writes it from any clip (`ffmpeg -i CLIP -c:v libx264 -c:a aac -g 30 slate.flv`).

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::ingest::Packet;
use crate::ingest::flv;
use crate::logic::slate::{BadClip, Clip};

/// Two seconds of black, 1280x720 at 30 frames a second with an IDR every second, and without audio: silence is filled in as the stream's audio is.
/// `ffmpeg -f lavfi -i color=black:size=1280x720:rate=30:duration=2 -c:v libx264 -preset veryslow -profile:v high -level 3.1 -bf 0 -g 30 -keyint_min 30
/// -sc_threshold 0 -pix_fmt yuv420p -bitexact -f flv -flvflags no_duration_filesize black.flv`
const BLACK: &[u8] = include_bytes!("../pipelines/slate/black.flv");

/// Bytes of a tag's header (Adobe Flash Video File Format 10.1, annex E.4.1).
const TAG: usize = 11;

/// Why there is no slate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("slate {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no FLV, or a broken one.
    #[error("slate: {0}; make one by: ffmpeg -i CLIP -c:v libx264 -pix_fmt yuv420p -g 30 -c:a aac slate.flv")]
    Flv(&'static str),
    /// A codec that we do not send.
    #[error("slate: {0}")]
    Codec(#[from] flv::Error),
    /// It is not fit.
    #[error("slate: {0}")]
    Clip(#[from] BadClip),
}

/// The black one.
///
/// # Errors
/// None that a test would not see.
pub fn black() -> Result<Clip, Error> {
    read(&Bytes::from_static(BLACK))
}

/// The operator's.
///
/// # Errors
/// [`Error`].
pub fn open(file: &Path) -> Result<Clip, Error> {
    let bytes = std::fs::read(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    read(&bytes.into())
}

fn read(file: &Bytes) -> Result<Clip, Error> {
    Ok(Clip::new(packets(file)?)?)
}

/// What an FLV file holds, in its order.
///
/// # Errors
/// [`Error::Flv`] and [`Error::Codec`].
pub fn packets(file: &Bytes) -> Result<Vec<Packet>, Error> {
    let header = file.get(5..9).and_then(|b| <[u8; 4]>::try_from(b).ok());
    let (true, Some(header)) = (file.starts_with(b"FLV\x01"), header) else { return Err(Error::Flv("is no FLV file")) };
    // Behind the header, and behind each tag, stands the size of the tag before.
    let mut at = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX).saturating_add(4);
    let (mut packets, mut pictures) = (Vec::new(), flv::Pictures::default());
    while let Some(tag) = at.checked_add(TAG).and_then(|end| file.get(at..end)) {
        let size = usize::from(tag[1]) << 16 | usize::from(tag[2]) << 8 | usize::from(tag[3]);
        let time = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
        let begin = at + TAG;
        if file.len() - begin < size {
            return Err(Error::Flv("is cut short"));
        }
        let body = file.slice(begin..begin + size);
        packets.extend(match tag[0] & 0x1f {
            8 => match flv::audio(&body)? {
                flv::Audio::Config(config) => Some(Packet::AudioConfig(config)),
                flv::Audio::Frame(data) => Some(Packet::Audio { time, data }),
                flv::Audio::Nothing => None,
            },
            9 => pictures.packet(flv::video(&body)?, time),
            _ => None,
        });
        at = begin + size + 4;
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::logic::slate::Player;

    #[test]
    fn the_black_one_begins_each_second_with_an_idr() {
        let mut player = Player::new(Arc::new(black().unwrap()), Duration::ZERO);
        let mut keys = Vec::new();
        while let Some(packet) = player.next(Duration::from_millis(3999)) {
            let Packet::Video { time, key, data, .. } = packet else { panic!("{packet:?}") };
            assert_eq!(crate::cmaf::h264::scan(&data).unwrap().idr, key);
            keys.extend(key.then_some(time));
        }
        assert_eq!(keys, [0, 1000, 2000, 3000]);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_a_shorter_clip_or_an_error() {
        for end in 0..BLACK.len() {
            let _ = read(&Bytes::from_static(&BLACK[..end]));
        }
        assert!(matches!(read(&Bytes::from_static(b"RIFF")), Err(Error::Flv("is no FLV file"))));
        assert!(matches!(read(&Bytes::from_static(&BLACK[..BLACK.len() - 9])), Err(Error::Flv("is cut short"))));
        assert!(open(Path::new("/nowhere/slate.flv")).unwrap_err().to_string().starts_with("slate /nowhere/slate.flv: "));
    }
}
