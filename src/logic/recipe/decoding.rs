//! Where a source is decoded, and why it cannot be (rules.md 28).

use std::fmt;

use crate::cmaf::video::{self, Chroma};
use crate::logic::model::{Coding, VideoFormat};

/// Which codings there are decoders for beside H.264, which every encoder comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decoders {
    /// HEVC.
    pub hevc: bool,
    /// AV1.
    pub av1: bool,
}

impl Decoders {
    /// All.
    pub const ALL: Self = Self { hevc: true, av1: true };

    /// Whether this one can be decoded.
    pub const fn has(self, coding: Coding) -> bool {
        match coding {
            Coding::H264 => true,
            Coding::Hevc => self.hevc,
            Coding::Av1 => self.av1,
        }
    }
}

/// The GPU that decodes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfDevice {
    /// What it has.
    pub decoders: Decoders,
    /// The CPU decodes what it has not.
    pub allow_cpu_decode: bool,
}

/// What sources are decoded by here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// What the CPU has.
    pub cpu: Decoders,
    /// `None`: all is decoded by the CPU.
    pub device: Option<OfDevice>,
}

impl Decoding {
    /// Whether a source of this coding can be decoded, of the kinds that there are decoders for.
    pub const fn has(self, coding: Coding) -> bool {
        match self.device {
            None => self.cpu.has(coding),
            Some(device) => device.decoders.has(coding) || (device.allow_cpu_decode && self.cpu.has(coding)),
        }
    }
}

/// Where a source is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodedBy {
    /// NVDEC.
    Device,
    /// The CPU, at its cost; the pictures are then brought into the GPU's memory.
    Cpu,
}

/// What there is no decoder for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Undecodable {
    coding: Coding,
    what: What,
    /// The CPU could, and must not.
    forbidden: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    All,
    Interlaced,
    Depth(u8),
    Chroma(Chroma),
    Size(u32, u32),
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coding = self.coding.as_str();
        f.write_str(if self.forbidden { "the GPU does not decode " } else { "this server does not decode " })?;
        match self.what {
            What::All => write!(f, "{coding}: send H.264")?,
            What::Interlaced => write!(f, "interlaced {coding}: send progressive pictures")?,
            What::Depth(bits) => write!(f, "{bits}-bit {coding}: set Color Format NV12 in OBS (Settings, Advanced)")?,
            What::Chroma(chroma) => {
                write!(f, "{} {coding}: set Color Format NV12 in OBS (Settings, Advanced)", chroma.as_str())?;
            }
            What::Size(width, height) => write!(f, "{coding} of {width}x{height}")?,
        }
        if self.forbidden { f.write_str(" (the server's operator may set nvidia.allow_cpu_decode)") } else { Ok(()) }
    }
}

/// Where a source is decoded, if it can be and may be.
///
/// # Errors
/// [`Undecodable`] when NVDEC has no decoder for it and the CPU has none either, or must not help.
pub fn decoded_by(source: &VideoFormat, by: Decoding) -> Result<DecodedBy, Undecodable> {
    let coding = source.coding();
    let cannot = |what, forbidden| Err(Undecodable { coding, what, forbidden });
    let lacking = cpu_lacks(source, by.cpu);
    let Some(device) = by.device else { return lacking.map_or(Ok(DecodedBy::Cpu), |what| cannot(what, false)) };
    match (device_lacks(source, device.decoders), lacking) {
        (None, _) => Ok(DecodedBy::Device),
        (Some(_), Some(what)) => cannot(what, false),
        (Some(_), None) if device.allow_cpu_decode => Ok(DecodedBy::Cpu),
        (Some(what), None) => cannot(what, true),
    }
}

/// libavcodec and libaom take every kind of picture. HEVC's fields come out of the decoder as pictures of half the height, which nobody puts together.
fn cpu_lacks(source: &VideoFormat, decoders: Decoders) -> Option<What> {
    let fields = source.coding() != Coding::H264 && video::picture(source).is_some_and(|p| p.interlaced);
    (!decoders.has(source.coding())).then_some(What::All).or(fields.then_some(What::Interlaced))
}

/// NVDEC of Ampere (NVDEC application note): H.264 is progressive, 8 bits, 4:2:0, up to 4096; HEVC also has 10 bits and 144 to 8192, AV1 10 bits and 128 to
/// 8192. What HEVC has beyond that (12 bits, 4:4:4) comes in formats that nothing behind it was tried with.
fn device_lacks(source: &VideoFormat, decoders: Decoders) -> Option<What> {
    let coding = source.coding();
    let (depth, smallest, largest) = match coding {
        Coding::H264 => (8, 0, 4096),
        Coding::Hevc => (10, 144, 8192),
        Coding::Av1 => (10, 128, 8192),
    };
    let (long, short) = (source.width.max(source.height), source.width.min(source.height));
    match video::picture(source) {
        _ if !decoders.has(coding) => Some(What::All),
        Some(p) if p.interlaced => Some(What::Interlaced),
        Some(p) if p.depth > depth => Some(What::Depth(p.depth)),
        Some(p) if p.chroma != Chroma::Quarter => Some(What::Chroma(p.chroma)),
        _ if long > largest || short < smallest => Some(What::Size(source.width, source.height)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::h264::tests::records::{self, bytes};
    use crate::cmaf::{av1, h264, h265};

    const GPU: Decoding = Decoding {
        cpu: Decoders::ALL,
        device: Some(OfDevice { decoders: Decoders { hevc: true, av1: false }, allow_cpu_decode: false }),
    };
    const EITHER: Decoding = Decoding {
        cpu: Decoders::ALL,
        device: Some(OfDevice { decoders: Decoders { hevc: true, av1: false }, allow_cpu_decode: true }),
    };
    const CPU: Decoding = Decoding { cpu: Decoders::ALL, device: None };
    const OLD_CPU: Decoding = Decoding { cpu: Decoders { hevc: true, av1: false }, device: None };

    fn h264(hex: &str) -> VideoFormat {
        h264::read_record(&bytes(hex), None).unwrap()
    }

    fn hevc(hex: &str) -> VideoFormat {
        h265::read_record(&bytes(hex), None).unwrap()
    }

    fn refused(source: &VideoFormat, by: Decoding) -> String {
        decoded_by(source, by).unwrap_err().to_string()
    }

    #[test]
    fn what_the_device_cannot_decode_is_refused_by_name_or_decoded_by_the_cpu() {
        use h265::tests::records as of_hevc;
        assert_eq!(decoded_by(&h264(records::BASELINE), GPU), Ok(DecodedBy::Device));
        assert_eq!(decoded_by(&hevc(of_hevc::MAIN), GPU), Ok(DecodedBy::Device));
        assert_eq!(decoded_by(&hevc(of_hevc::MAIN_10), GPU), Ok(DecodedBy::Device));
        let av1 = av1::read_record(&bytes(av1::tests::records::MAIN), None).unwrap();
        for (source, says) in [
            (h264(records::INTERLACED), "interlaced H.264"),
            (h264(records::HIGH_10), "10-bit H.264"),
            (h264(records::HIGH_422), "4:2:2 H.264"),
            (h264(records::HIGH_444), "4:4:4 H.264"),
            (VideoFormat { width: 5120, height: 2880, ..h264(records::BASELINE) }, "H.264 of 5120x2880"),
            (hevc(of_hevc::RANGE_422), "4:2:2 HEVC"),
            (hevc(of_hevc::RANGE_444), "4:4:4 HEVC"),
            (VideoFormat { width: 128, height: 72, ..hevc(of_hevc::MAIN) }, "HEVC of 128x72"),
            (av1, "the GPU does not decode AV1"),
        ] {
            let refused = refused(&source, GPU);
            assert!(refused.contains(says) && refused.contains("nvidia.allow_cpu_decode"), "{refused}");
            assert_eq!(decoded_by(&source, EITHER), Ok(DecodedBy::Cpu), "{says}");
            assert_eq!(decoded_by(&source, CPU), Ok(DecodedBy::Cpu), "{says}");
        }
    }

    #[test]
    fn what_nobody_decodes_is_refused_without_a_hint_that_does_not_help() {
        let fields = hevc(h265::tests::records::INTERLACED);
        for by in [GPU, EITHER, CPU] {
            assert_eq!(refused(&fields, by), "this server does not decode interlaced HEVC: send progressive pictures");
        }
        let av1 = av1::read_record(&bytes(av1::tests::records::MAIN), None).unwrap();
        assert_eq!(refused(&av1, OLD_CPU), "this server does not decode AV1: send H.264");
        let device = OfDevice { decoders: Decoders::default(), allow_cpu_decode: true };
        let neither = Decoding { cpu: Decoders::default(), device: Some(device) };
        assert_eq!(refused(&av1, neither), "this server does not decode AV1: send H.264");
    }

    #[test]
    fn a_coding_is_had_where_its_plainest_source_would_be_decoded() {
        let all = [
            h264(records::BASELINE),
            h265::read_record(&bytes(h265::tests::records::MAIN), None).unwrap(),
            av1::read_record(&bytes(av1::tests::records::MAIN), None).unwrap(),
        ];
        let none = Decoders::default();
        for cpu in [none, Decoders::ALL] {
            let device = |decoders, allow_cpu_decode| Some(OfDevice { decoders, allow_cpu_decode });
            for device in [None, device(none, false), device(none, true), device(Decoders { hevc: true, av1: false }, false)] {
                let by = Decoding { cpu, device };
                for source in &all {
                    assert_eq!(by.has(source.coding()), decoded_by(source, by).is_ok(), "{by:?} {source:?}");
                }
            }
        }
    }
}
