//! FLV files tag by tag (Adobe FLV 10.1, annex E): what no muxer writes is put together of what ffmpeg wrote.

use std::path::{Path, PathBuf};

use super::clip::Clip;

const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;

/// Header and the first PreviousTagSize.
const HEAD: usize = 13;

/// One tag.
#[derive(Debug, Clone)]
pub struct Tag {
    kind: u8,
    /// Decode time.
    pub millis: u32,
    pub body: Vec<u8>,
}

impl Tag {
    /// An access unit of AVC behind five bytes; else a configuration, sound, or metadata.
    pub fn is_picture(&self) -> bool {
        self.kind == VIDEO && self.body[1] == 1
    }

    fn is_key(&self) -> bool {
        self.is_picture() && self.body[0] >> 4 == 1
    }

    /// When the picture is shown, in milliseconds.
    pub fn shown(&self) -> i64 {
        let composition = i32::from_be_bytes([self.body[2], self.body[3], self.body[4], 0]) >> 8;
        i64::from(self.millis) + i64::from(composition)
    }

    /// Puts NAL units, each with its length, in front of the picture's own.
    pub fn prepend(&mut self, units: &[Vec<u8>]) {
        let with_length = |unit: &Vec<u8>| [&u32::try_from(unit.len()).unwrap().to_be_bytes()[..], unit].concat();
        self.body.splice(5..5, units.iter().flat_map(with_length));
    }
}

pub fn read(path: &Path) -> Vec<Tag> {
    let file = std::fs::read(path).unwrap();
    let (mut tags, mut rest) = (Vec::new(), &file[HEAD..]);
    while let [kind, size @ .., _, _, _] = &rest[..rest.len().min(11)] {
        let number = |bytes: &[u8]| bytes.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let length = number(&size[..3]) as usize;
        let millis = number(&size[3..6]) | u32::from(size[6]) << 24;
        tags.push(Tag { kind: *kind, millis, body: rest[11..11 + length].to_vec() });
        rest = &rest[11 + length + 4..];
    }
    assert!(rest.is_empty() && !tags.is_empty(), "{}: {} bytes are no tag", path.display(), rest.len());
    tags
}

/// With picture and sound announced.
pub fn write(path: &Path, tags: &[Tag]) {
    let mut out = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for Tag { kind, millis, body } in tags {
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        let [high, time @ ..] = millis.to_be_bytes();
        out.extend([&[*kind][..], &size[1..], &time, &[high, 0, 0, 0], body].concat());
        out.extend(u32::try_from(11 + body.len()).unwrap().to_be_bytes());
    }
    std::fs::write(path, out).unwrap();
}

/// How a publisher says that its pictures have other parameter sets from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// By another AVCDecoderConfigurationRecord.
    Header,
    /// In front of each IDR and nowhere else; the record of the first ones is the only one.
    InBand,
}

/// Clips one behind the other as one publisher's: the sound and the metadata are those of one clip that lasts as long as all. All reorder alike.
pub fn joined(folder: &Path, clips: &[Clip], sets: Sets) -> PathBuf {
    let seconds = clips.iter().map(|c| c.seconds).sum();
    let whole = Clip { seconds, ..clips[0] }.file();
    let mut tags: Vec<Tag> = read(&whole).into_iter().filter(|t| t.kind != VIDEO).collect();
    let mut before = 0;
    for (n, clip) in clips.iter().enumerate() {
        let mut own: Vec<Tag> = read(&clip.file()).into_iter().filter(|t| t.kind == VIDEO && t.body[1] < 2).collect();
        if n > 0 && sets == Sets::InBand {
            let record = own.remove(0);
            assert!(!record.is_picture());
            let units = of_record(&record.body[5..]);
            own.iter_mut().filter(|t| t.is_key()).for_each(|t| t.prepend(&units));
        }
        own.iter_mut().for_each(|t| t.millis += before * 1000);
        tags.extend(own);
        before += clip.seconds;
    }
    // Metadata first, then by time; of the same time what was first stays so.
    tags.sort_by_key(|t| (t.kind != SCRIPT, t.millis));
    let path = folder.join(format!("{sets:?}.flv"));
    write(&path, &tags);
    path
}

/// The parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
fn of_record(record: &[u8]) -> Vec<Vec<u8>> {
    let (mut units, mut rest) = (Vec::new(), &record[5..]);
    for mask in [0x1f, 0xff] {
        let count = rest[0] & mask;
        rest = &rest[1..];
        for _ in 0..count {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            units.push(rest[2..2 + length].to_vec());
            rest = &rest[2 + length..];
        }
    }
    units
}
