//! What we read of AV1 (AV1 Bitstream & Decoding Process Specification, version 1.0.0 with errata 1): the configuration record, the sequence header, and what a
//! temporal unit is. Pure and bounded; everything comes from a stranger, so every failure is a typed error.

mod obu;
mod sequence;

use bytes::Bytes;

use super::bits::BadBits;
use super::video::{BadSize, Matrix, Picture, Scan};
use crate::logic::model::{Coding, FrameRate, VideoFormat};
use obu::{Obu, obus};
use sequence::Sequence;

pub use obu::{metadata, without_delimiters};

/// Why a configuration record or a temporal unit cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Av1Error {
    /// The record is no valid AV1CodecConfigurationRecord.
    #[error("AV1 configuration record: {0}")]
    Record(&'static str),
    /// The sequence header is broken.
    #[error("AV1 sequence header: {0}")]
    Sequence(#[from] BadBits),
    /// Larger or smaller than anything that a level allows in practice.
    #[error(transparent)]
    Size(#[from] BadSize),
    /// The OBU lengths do not add up to the temporal unit.
    #[error("OBU lengths do not fit the temporal unit")]
    Lengths,
}

/// A longer record cannot come from a real encoder: libaom's and SVT's have 16 bytes.
const MAX_RECORD: usize = 4096;

/// Bytes in front of the OBUs of a record.
const HEAD: usize = 4;

/// The payload of the sequence header in a record (AV1 in ISOBMFF, 2.3.3).
fn header_of(record: &[u8]) -> Result<&[u8], Av1Error> {
    if record.len() > MAX_RECORD {
        return Err(Av1Error::Record("too long"));
    }
    let (head, configuration) = record.split_at_checked(HEAD).ok_or(Av1Error::Record("cut short"))?;
    if head.first() != Some(&0x81) {
        return Err(Av1Error::Record("its version is not 1"));
    }
    // It may lack the header, which then stands in front of the key frames; no live encoder was seen to do so.
    let header = obus(configuration).find(|obu| obu.as_ref().is_ok_and(|o| o.kind == obu::SEQUENCE_HEADER));
    header.and_then(Result::ok).map(|o| o.payload).ok_or(Av1Error::Record("no sequence header"))
}

/// Reads an AV1CodecConfigurationRecord. `fallback_fps` is used where the sequence header has no timing information.
///
/// # Errors
/// [`Av1Error`] for a broken record or sequence header, and a size that no level has.
pub fn read_record(record: &Bytes, fallback_fps: Option<FrameRate>) -> Result<VideoFormat, Av1Error> {
    let sequence = Sequence::read(header_of(record)?)?;
    let (width, height) = (sequence.width, sequence.height);
    BadSize::check(width, height)?;
    let fps = sequence.fps.or(fallback_fps).unwrap_or(FrameRate::whole(30));
    Ok(VideoFormat { width, height, fps, codec: sequence.codec(), avcc: record.clone() })
}

/// What the sequence header of a record says; `None` for bytes that are no record.
pub fn picture(record: &[u8]) -> Option<Picture> {
    let sequence = Sequence::read(header_of(record).ok()?).ok()?;
    Some(Picture {
        coding: Coding::Av1,
        profile: sequence.profile,
        // Annex A.3: index 0 is level 2.0, 4 is 3.0.
        level: 20 + sequence.level / 4 * 10 + sequence.level % 4,
        sar: (1, 1),
        chroma: sequence.chroma,
        depth: sequence.depth,
        interlaced: false,
        matrix: Matrix::told(sequence.matrix),
    })
}

/// What a temporal unit is. A key frame that is only decoded and shown later by `show_existing_frame` is no place to begin a segment.
///
/// # Errors
/// [`Av1Error::Lengths`] when a length points behind the end; an empty temporal unit is an error too.
pub fn scan(data: &[u8]) -> Result<Scan, Av1Error> {
    let mut scan = Scan::default();
    let mut frames = 0u32;
    for obu in obus(data) {
        let Obu { kind, payload } = obu?;
        match kind {
            obu::SEQUENCE_HEADER => scan.parameter_sets = true,
            obu::FRAME_HEADER | obu::FRAME => {
                // uncompressed_header() (5.9.2): show_existing_frame, frame_type, show_frame. 0 is KEY_FRAME.
                let head = payload.first().copied().unwrap_or(0x80);
                let (existing, key, shown) = (head & 0x80 != 0, head & 0x60 == 0, head & 0x10 != 0);
                scan.idr |= frames == 0 && !existing && key && shown;
                scan.recovery_point |= !existing && key && !shown;
                frames = frames.saturating_add(1);
            }
            _ => {}
        }
    }
    if data.is_empty() { Err(Av1Error::Lengths) } else { Ok(scan) }
}

/// The record that is in force behind a temporal unit, when its sequence header is another than the record's; `None` when it says nothing new.
///
/// # Errors
/// [`Av1Error`] for a temporal unit or a sequence header that cannot be read.
pub fn renewed(record: &[u8], data: &[u8]) -> Result<Option<Bytes>, Av1Error> {
    let old = header_of(record)?;
    let mut header = None;
    for obu in obus(data) {
        let Obu { kind, payload } = obu?;
        if kind == obu::SEQUENCE_HEADER {
            header = Some(payload);
        }
    }
    let Some(header) = header.filter(|new| *new != old) else { return Ok(None) };
    let sequence = Sequence::read(header)?;
    let mut out = sequence.head().to_vec();
    out.extend(obu::written(obu::SEQUENCE_HEADER, header));
    if out.len() > MAX_RECORD { Err(Av1Error::Record("too long")) } else { Ok(Some(out.into())) }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cmaf::h264::tests::records::bytes;
    use crate::cmaf::video::Chroma;
    use records::*;

    /// Records of real encoders.
    pub(crate) mod records {
        /// SVT-AV1, 640x360.
        pub(crate) const MAIN: &str = "81010c000a0b0000000cc4ff6700be0010";
        /// libaom, 320x180, 10 bits.
        pub(crate) const MAIN_10: &str = "81004c000a0b000000043cfeccdaf94040";
        /// libaom, 320x180, colours by BT.709.
        pub(crate) const BT_709: &str = "81000c000a0e000000043cfeccdaf91020201040";
        /// libaom, 320x180, 4:4:4.
        pub(crate) const HIGH_444: &str = "812000000a0a200000043cfeccdaf902";
    }

    #[test]
    fn records_of_all_kinds_are_read() {
        let of = |hex| {
            let f = read_record(&bytes(hex), Some(FrameRate::whole(25))).unwrap();
            assert_eq!((f.coding(), f.fps), (Coding::Av1, FrameRate::whole(25)));
            let p = picture(&f.avcc).unwrap();
            (f.width, f.height, f.codec, p.profile, p.level, p.depth, p.chroma)
        };
        assert_eq!(of(MAIN), (640, 360, "av01.0.01M.08".into(), 0, 21, 8, Chroma::Quarter));
        assert_eq!(of(MAIN_10), (320, 180, "av01.0.00M.10".into(), 0, 20, 10, Chroma::Quarter));
        assert_eq!(of(HIGH_444), (320, 180, "av01.1.00M.08".into(), 1, 20, 8, Chroma::Full));
        let matrix = |hex| picture(&bytes(hex)).unwrap().matrix;
        assert_eq!((matrix(BT_709), matrix(MAIN)), (Some(Matrix::Bt709), None));
        assert_eq!(read_record(&bytes("81010c00"), None), Err(Av1Error::Record("no sequence header")));
        assert_eq!(picture(b""), None);
    }

    /// OBUs of this type and payload, each with its size.
    fn unit(of: &[(u8, &[u8])]) -> Vec<u8> {
        of.iter().flat_map(|(kind, payload)| obu::written(*kind, payload)).collect()
    }

    #[test]
    fn temporal_units_are_told_apart() {
        let seen = |of: &[(u8, &[u8])]| scan(&unit(of)).unwrap();
        let delimiter: (u8, &[u8]) = (2, &[]);
        let header: (u8, &[u8]) = (1, &[0]);
        assert_eq!(seen(&[delimiter, header, (6, &[0x10])]), Scan { idr: true, parameter_sets: true, ..Scan::default() });
        assert!(seen(&[(3, &[0x10]), (4, &[1])]).idr, "a frame header of its own");
        assert_eq!(seen(&[(6, &[0x30])]), Scan::default(), "an inter frame");
        assert!(!seen(&[(6, &[0x50])]).idr, "an intra-only frame");
        let forward = seen(&[(6, &[0x00]), (6, &[0x30])]);
        assert!(!forward.idr && forward.begins_open_gop(false), "a key frame that is shown later");
        assert_eq!(seen(&[(3, &[0x80])]), Scan::default(), "the showing of one");
        assert_eq!(scan(&[]), Err(Av1Error::Lengths));
        assert_eq!(scan(&[0x32, 9, 0x10]), Err(Av1Error::Lengths));
        // The last OBU of a sample may go without its size.
        assert!(scan(&[0x30, 0x10, 0xff]).unwrap().idr);
    }

    #[test]
    fn another_sequence_header_makes_another_record() {
        for (old, new) in [(MAIN, MAIN_10), (MAIN, HIGH_444), (MAIN_10, MAIN)] {
            let theirs = bytes(new);
            let data = unit(&[(1, header_of(&theirs).unwrap()), (6, &[0x10])]);
            let made = renewed(&bytes(old), &data).unwrap().unwrap();
            assert_eq!(made, theirs, "byte for byte the encoder's");
            assert_eq!(renewed(&made, &data).unwrap(), None);
        }
        assert_eq!(renewed(&bytes(MAIN), &unit(&[(6, &[0x30])])).unwrap(), None);
        assert!(renewed(&bytes(MAIN), &unit(&[(1, &[0])])).is_err());
    }

    proptest! {
        #[test]
        fn mutated_records_never_panic(changes in prop::collection::vec((0usize..18, any::<u8>()), 0..6), cut in 0usize..18) {
            let mut record = bytes(MAIN).to_vec();
            for (at, value) in changes {
                if let Some(b) = record.get_mut(at) { *b = value }
            }
            record.truncate(cut);
            let record = Bytes::from(record);
            let _ = read_record(&record, None);
            let _ = picture(&record);
            let _ = renewed(&record, &unit(&[(1, &[0, 0, 0])]));
        }

        #[test]
        fn strange_bytes_never_panic(data in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x0a), Just(0x32)], 0..64)) {
            let _ = scan(&data);
            let _ = renewed(&bytes(MAIN), &data);
            let _ = metadata(&data).count();
            let _ = without_delimiters(&Bytes::from(data.clone()));
            let _ = Sequence::read(&data);
        }
    }
}
