//! Recipe of the NVIDIA path: NVDEC decodes, CUDA scales, NVENC encodes, and pictures stay in the GPU's memory from one end to the other.

use serde::{Deserialize, Serialize};

use super::{
    BENCH_NV, DECODE_AV1_NV, DECODE_HEVC_NV, DECODE_NV, DecodedBy, Decoders, Decoding, Name, Numbers, OfDevice, PICTURES_NV,
    QUEUE_BYTES, RUNG_NV, RecipeError, Rung, SINK, UPLOAD_NV, Value, VideoFormat, WARM_NV, decoded_by, software, within,
};
use crate::cmaf::video::Matrix;
use crate::logic::ladder::Size;
use crate::logic::model::Coding;

/// The smallest picture that GStreamer's encoders take: NVENC on Ampere says 145 x 49, and their caps round that up to whole macroblocks.
pub const SMALLEST: Size = Size { width: 160, height: 64 };

/// Units in a row that the decoder may fail on: a second of video at the lowest usual rate. Single damaged pictures are common with lossy uplinks; a
/// second without any picture is a decoder that is gone.
const MAX_ERRORS: u64 = 25;

/// Largest picture that is measured with: NVENC's of H.264, luma samples a side.
const MAX_SIDE: u32 = 4096;

/// How much work an encoder puts into a picture (`logic::placement` says when). Fixed for a session: another class gives other parameter sets, and with them
/// a discontinuity on all tracks (rules.md 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// P1, no B-frames: 25 streams of 720p, 480p and 360p beside a source that is passed through.
    #[default]
    Dense,
    /// P4, no B-frames: about half as many.
    Normal,
    /// P5, two B-frames, lookahead, two passes: about a fifth.
    Premium,
}

/// GStreamer's names of NVENC's presets, the fastest first.
const PRESETS: [&str; 7] = ["p1", "p2", "p3", "p4", "p5", "p6", "p7"];

struct Effort {
    preset: u8,
    multi_pass: &'static str,
    bframes: u64,
    lookahead: u64,
}

impl Class {
    /// Its name, as configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Normal => "normal",
            Self::Premium => "premium",
        }
    }

    /// NVENC's preset, 1 (fastest) to 7.
    pub const fn preset(self) -> u8 {
        self.effort().preset
    }

    /// Dense gives up first what costs CUDA work and memory beside NVENC: lookahead and the second pass.
    const fn effort(self) -> Effort {
        match self {
            Self::Dense => Effort { preset: 1, multi_pass: "disabled", bframes: 0, lookahead: 0 },
            Self::Normal => Effort { preset: 4, multi_pass: "disabled", bframes: 0, lookahead: 0 },
            // NVIDIA suggests 10 to 20 pictures of lookahead; 8 is what 0.3 s of delay allow at 30 fps.
            Self::Premium => Effort { preset: 5, multi_pass: "two-pass-quarter", bframes: 2, lookahead: 8 },
        }
    }
}

/// Settings of the NVIDIA path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nvidia {
    /// Speed against quality.
    pub class: Class,
    /// What NVDEC cannot decode may be decoded on the CPU.
    pub allow_cpu_decode: bool,
    /// What NVDEC decodes here beside H.264.
    pub decoders: Decoders,
    /// Threads of such a decoder, 1 to 16.
    pub decoder_threads: u8,
    /// The source has so few pictures a second that none may be held back for the sake of those behind it.
    pub low_delay: bool,
}

pub(super) fn decode(settings: &Nvidia, source: &VideoFormat) -> Result<String, RecipeError> {
    // What the CPU has no decoder for was refused before a plan was made.
    let device = Some(OfDevice { decoders: settings.decoders, allow_cpu_decode: settings.allow_cpu_decode });
    match decoded_by(source, Decoding { cpu: Decoders::ALL, device })? {
        DecodedBy::Device => {
            let template = match source.coding() {
                Coding::H264 => DECODE_NV,
                Coding::Hevc => DECODE_HEVC_NV,
                Coding::Av1 => DECODE_AV1_NV,
            };
            Ok(template.fill(&[("queue_bytes", Value::Number(QUEUE_BYTES)), ("max_errors", Value::Number(MAX_ERRORS))])?)
        }
        DecodedBy::Cpu => {
            let decoded = software::decode(source, settings.decoder_threads, settings.low_delay)?;
            Ok(format!("{decoded} ! {}", UPLOAD_NV.fill(&[])?))
        }
    }
}

/// GStreamer's name of how colours are coded, in the range of video: what the scaler makes of others.
pub(super) const fn colorimetry(matrix: Matrix) -> &'static str {
    match matrix {
        Matrix::Bt601 => "bt601",
        Matrix::Bt709 => "bt709",
        Matrix::Bt2020 => "bt2020",
    }
}

/// Likewise for what becomes a JPEG, whose colours are BT.601's in the full range: the GPU converts the range, because GStreamer's converter on the CPU takes pictures of
/// one matrix for equal (`same_matrix` in video-converter.c).
pub(super) const fn jpeg_colorimetry(matrix: Matrix) -> &'static str {
    match matrix {
        Matrix::Bt601 => "1:4:5:1",
        other => colorimetry(other),
    }
}

/// The elements count rates in units of 1024 bits and everybody else in units of 1000 (`bitrate * 1024` in GStreamer's source).
const fn in_1024(thousands: u64) -> u64 {
    let kibi = thousands * 1000 / 1024;
    if kibi == 0 { 1 } else { kibi }
}

pub(super) fn encode(from: Name, index: usize, rung: &Rung, settings: &Nvidia) -> Result<String, RecipeError> {
    if !SMALLEST.fits(rung.width, rung.height) {
        return Err(RecipeError::Small { width: rung.width, height: rung.height, smallest: SMALLEST });
    }
    let effort = settings.class.effort();
    let (bframes, lookahead) = if settings.low_delay { (0, 0) } else { (effort.bframes, effort.lookahead) };
    encode_with(from, index, rung, Effort { bframes, lookahead, ..effort })
}

fn encode_with(from: Name, index: usize, rung: &Rung, effort: Effort) -> Result<String, RecipeError> {
    let Numbers { kbps, vbv_ms, fps_num, fps_den, key_interval } = Numbers::of(rung)?;
    let Effort { preset, multi_pass, bframes, lookahead } = effort;
    let preset = usize::try_from(within("preset", preset.into(), 1, 7)?).unwrap_or(1) - 1;
    Ok(RUNG_NV.fill(&[
        ("from", Value::Name(from)),
        ("sink", Value::Name(Name(SINK, index))),
        ("fps_num", Value::Number(fps_num)),
        ("fps_den", Value::Number(fps_den)),
        ("preset", Value::Word(PRESETS[preset])),
        ("multi_pass", Value::Word(multi_pass)),
        ("bframes", Value::Number(bframes)),
        ("lookahead", Value::Number(lookahead)),
        ("kibps", Value::Number(in_1024(kbps))),
        ("vbv_kibit", Value::Number(in_1024(kbps * vbv_ms / 1000))),
        ("key_interval", Value::Number(key_interval)),
    ])?)
}

/// Pictures of the trial: more than an encoder without B-frames and lookahead holds back.
pub const TRIAL_PICTURES: u64 = 4;

/// The text of the trial before any stream: [`TRIAL_PICTURES`], scaled down as a ladder does.
///
/// # Errors
/// [`RecipeError::Template`], which is a mistake of this program.
pub fn warm_up() -> Result<String, RecipeError> {
    Ok(WARM_NV.fill(&[
        ("pictures", Value::Number(TRIAL_PICTURES)),
        ("width", Value::Number(256)),
        ("height", Value::Number(144)),
        ("source_width", Value::Number(512)),
        ("source_height", Value::Number(288)),
    ])?)
}

/// Different pictures that are encoded in turn when encoders are measured: enough to have motion at every loop, 50 MB of 1080p.
pub const BENCH_PICTURES: u64 = 16;

/// The text that makes [`BENCH_PICTURES`] in the GPU's memory, 16 to 4096 luma samples a side.
///
/// # Errors
/// [`RecipeError`] when a side is outside its range.
pub fn bench_pictures(width: u32, height: u32) -> Result<String, RecipeError> {
    Ok(PICTURES_NV.fill(&[
        ("pictures", Value::Number(BENCH_PICTURES)),
        ("width", Value::Number(within("width", width.into(), 16, MAX_SIDE.into())?)),
        ("height", Value::Number(within("height", height.into(), 16, MAX_SIDE.into())?)),
    ])?)
}

/// The text that encodes such pictures as a rung is encoded, by preset 1 to 7, without B-frames, lookahead and second pass.
///
/// # Errors
/// [`RecipeError`] when a number is outside its range.
pub fn bench(preset: u8, rung: &Rung) -> Result<String, RecipeError> {
    let effort = Effort { preset, multi_pass: "disabled", bframes: 0, lookahead: 0 };
    let size = Name("size", 0);
    Ok(format!("{} {}", BENCH_NV.fill(&[("to", Value::Name(size))])?, encode_with(size, 0, rung, effort)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmaf::h264::read_record;
    use crate::cmaf::h264::tests::records::{self, bytes};
    use crate::logic::model::FrameRate;
    use crate::logic::recipe::{Encoders, pipeline};
    use crate::logic::thumbnail::Thumbnail;
    use crate::logic::time::MediaTime;

    const DENSE: Nvidia = Nvidia {
        class: Class::Dense,
        allow_cpu_decode: false,
        decoders: Decoders { hevc: true, av1: false },
        decoder_threads: 2,
        low_delay: false,
    };

    fn format(hex: &str) -> VideoFormat {
        read_record(&bytes(hex), None).unwrap()
    }

    fn rung(width: u32, height: u32) -> Rung {
        let fps = FrameRate::whole(30);
        Rung { name: format!("{height}p").parse().unwrap(), width, height, fps, halved: false, kbps: 1024, max_kbps: 1536 }
    }

    #[test]
    fn pictures_stay_in_the_devices_memory() {
        let text =
            pipeline(&format(records::WIDE_576), &[rung(640, 360), rung(426, 240)], None, Encoders::Nvidia(&DENSE)).unwrap();
        for word in text.split_whitespace().filter(|w| w.contains("video/x-raw")) {
            assert!(word.contains("video/x-raw(memory:CUDAMemory)"), "{word}");
        }
        assert!(!text.contains("cudadownload") && !text.contains("cudaupload") && !text.contains("avdec"), "{text}");
        assert!(text.contains("nvh264dec max-errors="), "{text}");
    }

    /// GStreamer's cudaconvertscale has no conversion from one matrix to another, and takes what it is told for converted.
    #[test]
    fn colours_stay_as_the_source_has_them() {
        let of = |hex: &str, height| {
            let source = VideoFormat { height, ..format(hex) };
            let thumbnail = Thumbnail { width: 320, height: 180, quality: 75, every: MediaTime::from_secs(4) };
            let text = pipeline(&source, &[rung(640, 360)], Some(&thumbnail), Encoders::Nvidia(&DENSE)).unwrap();
            ["bt601", "bt709", "bt2020"].map(|name| text.matches(&format!("colorimetry={name},")).count())
        };
        assert_eq!(of(records::WIDE_576, 576), [1, 0, 0], "not told, and not high; of the thumbnail, a JPEG's");
        assert_eq!(of(records::WIDE_576, 578), [0, 2, 0], "not told, and high");
        assert_eq!(of(records::BT_709_360, 360), [0, 2, 0]);
        assert_eq!(of(records::BT_2020, 1080), [0, 0, 2]);
    }

    #[test]
    fn thumbnails_are_scaled_before_they_are_downloaded() {
        let thumbnail = Thumbnail { width: 320, height: 180, quality: 75, every: MediaTime::from_secs(4) };
        let rungs = [rung(640, 360)];
        let text = pipeline(&format(records::WIDE_576), &rungs, Some(&thumbnail), Encoders::Nvidia(&DENSE)).unwrap();
        let branch = &text[text.find("name=due").unwrap()..];
        let place = |part: &str| branch.find(part).unwrap_or_else(|| panic!("{part}: {branch}"));
        assert!(place("width=320,height=180") < place("cudadownload") && place("cudadownload") < place("jpegenc"));
        assert!(branch[..place("cudadownload")].contains("cudaconvertscale"), "{branch}");
        assert_eq!(text.matches("cudadownload").count(), 1, "{text}");
    }

    #[test]
    fn what_the_cpu_decodes_is_uploaded_once() {
        let settings = Nvidia { allow_cpu_decode: true, ..DENSE };
        let text = pipeline(&format(records::INTERLACED), &[rung(640, 360)], None, Encoders::Nvidia(&settings)).unwrap();
        assert_eq!(text.matches("cudaupload").count(), 1);
        assert!(text.contains("avdec_h264") && text.contains("deinterlace") && !text.contains("nvh264dec"), "{text}");
        let refused = pipeline(&format(records::INTERLACED), &[rung(640, 360)], None, Encoders::Nvidia(&DENSE));
        assert!(matches!(refused, Err(RecipeError::Undecodable(_))));
    }

    #[test]
    fn each_coding_has_its_decoder() {
        use crate::cmaf::{av1, h265};
        let hevc = h265::read_record(&bytes(h265::tests::records::MAIN), None).unwrap();
        let av1 = av1::read_record(&bytes(av1::tests::records::MAIN), None).unwrap();
        let text = |source, settings| pipeline(source, &[rung(320, 180)], None, Encoders::Nvidia(settings));
        let device = text(&hevc, &DENSE).unwrap();
        assert!(device.contains("h265parse ! nvh265dec max-errors=") && !device.contains("cudaupload"), "{device}");
        assert!(matches!(text(&av1, &DENSE), Err(RecipeError::Undecodable(_))));
        let cpu = text(&av1, &Nvidia { allow_cpu_decode: true, ..DENSE }).unwrap();
        assert!(cpu.contains("av1parse ! av1dec") && cpu.matches("cudaupload").count() == 1, "{cpu}");
        let all = text(&av1, &Nvidia { decoders: Decoders::ALL, ..DENSE }).unwrap();
        assert!(all.contains("av1parse ! nvav1dec"), "{all}");
    }

    #[test]
    fn rates_are_told_in_units_of_1024_bits() {
        let text = pipeline(&format(records::WIDE_576), &[rung(640, 360)], None, Encoders::Nvidia(&DENSE)).unwrap();
        assert!(text.contains(" bitrate=1000 ") && text.contains(" vbv-buffer-size=1000 "), "{text}");
        assert_eq!(in_1024(1), 1, "never none");
    }

    #[test]
    fn only_the_premium_class_reorders_pictures() {
        for (class, bframes) in [(Class::Dense, 0), (Class::Normal, 0), (Class::Premium, 2)] {
            let settings = Nvidia { class, ..DENSE };
            let text = pipeline(&format(records::WIDE_576), &[rung(640, 360)], None, Encoders::Nvidia(&settings)).unwrap();
            assert!(text.contains(&format!(" bframes={bframes} ")), "{text}");
        }
    }

    #[test]
    fn what_is_measured_is_a_rung_as_streams_have_it() {
        let stream = pipeline(&format(records::WIDE_576), &[rung(640, 360)], None, Encoders::Nvidia(&DENSE)).unwrap();
        let measured = bench(1, &rung(640, 360)).unwrap();
        let encoder = |text: &str| text[text.find("capssetter").unwrap()..].to_owned();
        assert_eq!(encoder(&measured), encoder(&stream));
        assert!(bench(7, &rung(640, 360)).unwrap().contains(" preset=p7 "));
        assert!(bench(0, &rung(640, 360)).is_err() && bench(8, &rung(640, 360)).is_err());
        assert!(bench_pictures(0, 64).is_err());
    }

    #[test]
    fn a_rung_below_the_encoders_smallest_picture_is_refused() {
        let text = pipeline(&format(records::WIDE_576), &[rung(128, 72)], None, Encoders::Nvidia(&DENSE));
        assert_eq!(text.unwrap_err().to_string(), "128x72 is smaller than 160x64, the encoder's smallest picture");
    }
}
