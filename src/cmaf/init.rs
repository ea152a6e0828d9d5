//! Init segments: `ftyp` and `moov` of one track (ISO/IEC 23000-19, 7.3.1), boxes by `mp4-atom`.

use bytes::Bytes;
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Codec, Compressor, Decode, Dinf, Dref, DrefEntry, Encode, Esds, FixedPoint, Ftyp,
    Hdlr, Hvc1, Hvcc, Mdhd, Mdia, Minf, Moov, Mp4a, Mvex, Mvhd, Pasp, Smhd, Stbl, Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd,
};
use sha2::{Digest, Sha256};

use super::video;
use crate::logic::model::{AudioFormat, Coding, VideoFormat};
use crate::logic::playlist::Format;

/// Why no init segment can be written.
#[derive(Debug, thiserror::Error)]
#[error("init segment: {0}")]
pub struct InitError(#[from] mp4_atom::Error);

/// The only track of every file that we write.
pub const TRACK_ID: u32 = 1;

/// The init segment of a track.
///
/// # Errors
/// [`InitError`] when the decoder configuration record cannot be put into a box.
pub fn write(format: &Format) -> Result<Bytes, InitError> {
    let mut out = Vec::with_capacity(1024);
    let ftyp = Ftyp {
        major_brand: b"cmf2".into(),
        minor_version: 0,
        compatible_brands: vec![b"iso6".into(), b"cmfc".into(), b"cmf2".into(), b"mp41".into()],
    };
    ftyp.encode(&mut out)?;
    moov(format)?.encode(&mut out)?;
    Ok(out.into())
}

/// The name part of an init segment's key: the first 8 hexadecimal digits of its SHA-256 (rules.md 5).
pub fn content_hash(init: &[u8]) -> String {
    Sha256::digest(init).iter().take(4).map(|b| format!("{b:02x}")).collect()
}

fn moov(format: &Format) -> Result<Moov, InitError> {
    let timescale = format.timescale().hz();
    let (codec, handler, width, height) = match format {
        Format::Video(v) => {
            // 8.3.2.3: the visual presentation size, which the sample aspect ratio is part of.
            let (width, height) = video::displayed(v);
            (video(v)?, b"vide", width, height)
        }
        Format::Audio(a) => (audio(a), b"soun", 0, 0),
    };
    let is_video = matches!(format, Format::Video(_));
    let language = match format {
        Format::Audio(AudioFormat { language: Some(language), .. }) => language.code(),
        _ => "und",
    };
    let side = |n: u32| FixedPoint::from(u16::try_from(n).unwrap_or(u16::MAX));
    Ok(Moov {
        mvhd: Mvhd { timescale, rate: 1.into(), volume: 1.into(), next_track_id: TRACK_ID + 1, ..Default::default() },
        mvex: Some(Mvex {
            trex: vec![Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Default::default() }],
            ..Default::default()
        }),
        trak: vec![Trak {
            tkhd: Tkhd {
                track_id: TRACK_ID,
                enabled: true,
                in_movie: true,
                volume: u8::from(!is_video).into(),
                width: side(width),
                height: side(height),
                ..Default::default()
            },
            mdia: Mdia {
                mdhd: Mdhd { timescale, language: language.into(), ..Default::default() },
                hdlr: Hdlr { handler: handler.into(), name: "Weir".into() },
                minf: Minf {
                    vmhd: is_video.then(Vmhd::default),
                    smhd: (!is_video).then(Smhd::default),
                    dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url { location: String::new() })] } },
                    stbl: Stbl { stsd: Stsd { codecs: vec![codec] }, stco: Some(Default::default()), ..Default::default() },
                    ..Default::default()
                },
            },
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn video(v: &VideoFormat) -> Result<Codec, InitError> {
    let mut body = &v.avcc[..];
    let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let sar = video::picture(v).filter(|p| !p.is_square()).map(|p| p.sar);
    let visual = Visual {
        data_reference_index: 1,
        width: side(v.width),
        height: side(v.height),
        compressor: Compressor::from(""),
        ..Default::default()
    };
    let pasp = sar.map(|(h_spacing, v_spacing)| Pasp { h_spacing, v_spacing });
    Ok(match v.coding() {
        Coding::H264 => Codec::Avc1(Avc1 {
            visual,
            avcc: Avcc::decode_body(&mut body)?,
            btrt: None,
            colr: None,
            pasp,
            taic: None,
            fiel: None,
            spatial: None,
        }),
        // All parameter sets are in the entry, and none in the samples: Apple's players take no `hev1` (HLS Authoring Specification, 1.5).
        Coding::Hevc => Codec::Hvc1(Hvc1 { visual, hvcc: Hvcc::decode_body(&mut body)?, pasp, ..Default::default() }),
        Coding::Av1 => Codec::Av01(Av01 { visual, av1c: Av1c::decode_body(&mut body)?, pasp, ..Default::default() }),
    })
}

fn audio(a: &AudioFormat) -> Codec {
    Codec::Mp4a(Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: u16::from(a.channels),
            sample_size: 16,
            // The field holds 16 bits; a higher rate is written as 0 and read from the AudioSpecificConfig.
            sample_rate: u16::try_from(a.rate.hz()).unwrap_or(0).into(),
        },
        esds: Esds {
            es_desc: EsDescriptor {
                es_id: 0,
                dec_config: DecoderConfig {
                    // ISO/IEC 14496-1: 0x40 is MPEG-4 audio, stream type 5 is audio
                    object_type_indication: 0x40,
                    stream_type: 5,
                    dec_specific: Some(DecoderSpecific { raw: a.asc.to_vec(), ..Default::default() }),
                    ..Default::default()
                },
                sl_config: SLConfig::default(),
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    })
}

/// Reads an init segment back, for tests: its `moov`.
///
/// # Errors
/// [`InitError`] when it is none.
pub fn parse(init: &[u8]) -> Result<Moov, InitError> {
    let mut rest = init;
    let _ = Ftyp::decode(&mut rest)?;
    Ok(Moov::decode(&mut rest)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::h264::read_record;
    use crate::cmaf::h264::tests::{RECORD_720P30, records};
    use crate::cmaf::{aac, av1, h265};

    #[test]
    fn the_decoder_configuration_survives_byte_for_byte() {
        let format = read_record(&Bytes::from_static(RECORD_720P30), None).unwrap();
        let init = write(&Format::Video(format)).unwrap();
        assert!(init.windows(RECORD_720P30.len()).any(|w| w == RECORD_720P30));
        let moov = parse(&init).unwrap();
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, 90_000);
        assert!(moov.trak[0].edts.is_none(), "no edit list (rules.md 6)");
    }

    #[test]
    fn hevc_and_av1_have_their_own_sample_entries() {
        let of = |format: VideoFormat| {
            let record = format.avcc.clone();
            let init = write(&Format::Video(format)).unwrap();
            assert!(init.windows(record.len()).any(|w| w == record), "byte for byte");
            parse(&init).unwrap().trak[0].mdia.minf.stbl.stsd.codecs[0].clone()
        };
        let hevc = h265::read_record(&records::bytes(h265::tests::records::WIDE_576), None).unwrap();
        let Codec::Hvc1(entry) = of(hevc) else { panic!("no hvc1") };
        assert_eq!((entry.visual.width, entry.pasp), (720, Some(Pasp { h_spacing: 64, v_spacing: 45 })));
        let av1 = av1::read_record(&records::bytes(av1::tests::records::MAIN), None).unwrap();
        let Codec::Av01(entry) = of(av1) else { panic!("no av01") };
        assert_eq!((entry.visual.width, entry.visual.height), (640, 360));
    }

    #[test]
    fn samples_that_are_not_square_are_told_and_counted_in_the_shown_size() {
        let format = read_record(&records::bytes(records::WIDE_576), None).unwrap();
        let moov = parse(&write(&Format::Video(format)).unwrap()).unwrap();
        let Codec::Avc1(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!("no avc1") };
        assert_eq!(entry.pasp, Some(Pasp { h_spacing: 64, v_spacing: 45 }));
        assert_eq!((entry.visual.width, entry.visual.height), (720, 576));
        let shown = &moov.trak[0].tkhd;
        assert_eq!((shown.width.integer(), shown.height.integer()), (1024, 576));
    }

    #[test]
    fn audio_counts_in_its_own_rate_and_says_its_language() {
        let moov = parse(&write(&Format::Audio(aac::silent_format())).unwrap()).unwrap();
        assert_eq!((moov.trak[0].mdia.mdhd.timescale, moov.trak[0].mdia.mdhd.language.as_str()), (48_000, "und"));
        let format = AudioFormat { language: "de".parse().ok(), ..aac::silent_format() };
        let moov = parse(&write(&Format::Audio(format)).unwrap()).unwrap();
        assert_eq!(moov.trak[0].mdia.mdhd.language, "deu");
    }

    #[test]
    fn names_depend_on_content_only() {
        let a = write(&Format::Audio(aac::silent_format())).unwrap();
        assert_eq!(content_hash(&a), content_hash(&write(&Format::Audio(aac::silent_format())).unwrap()));
        assert_eq!(content_hash(&a).len(), 8);
    }
}
