//! From a plan to the text of a GStreamer pipeline: which templates, in which order, with which values. Pure; compiles without GStreamer.
//!
//! Every value comes from a typed field, and the names of elements are made here: no text from outside reaches the parser.

mod decoding;
mod nvidia;
mod software;

use std::collections::BTreeSet;

use super::drift;
use super::ladder::{Rung, Size};
use super::model::VideoFormat;
use super::sound::AudioPlan;
use super::template::{Name, Template, TemplateError, Value};
use super::thumbnail::Thumbnail;
use super::time::MediaTime;
use crate::cmaf::video;

pub use decoding::{DecodedBy, Decoders, Decoding, OfDevice, Undecodable, decoded_by};
pub use nvidia::{BENCH_PICTURES, Class, Nvidia, SMALLEST as NVIDIA_SMALLEST, TRIAL_PICTURES, bench, bench_pictures, warm_up};
pub use software::{Preset, Software};

macro_rules! template {
    ($file:literal) => {
        Template { file: $file, text: include_str!(concat!("../../pipelines/", $file)) }
    };
}

/// The publisher's H.264 to raw pictures.
pub const DECODE: Template = template!("decode-sw.gst");
/// Likewise of HEVC.
pub const DECODE_HEVC: Template = template!("decode-h265-sw.gst");
/// Likewise of AV1.
pub const DECODE_AV1: Template = template!("decode-av1-sw.gst");
/// For sources with fields.
pub const DEINTERLACE: Template = template!("deinterlace-sw.gst");
/// From one decoder to all rungs.
pub const FAN_OUT: Template = template!("fan-out.gst");
/// Half the frame rate.
pub const HALVE: Template = template!("halve.gst");
/// One size.
pub const SCALE: Template = template!("scale-sw.gst");
/// One rung.
pub const RUNG: Template = template!("rung-h264-sw.gst");

/// Small pictures beside the rungs.
pub const THUMBNAIL: Template = template!("thumbnail-sw.gst");

/// The publisher's AAC to samples.
pub const AUDIO_DECODE: Template = template!("audio-decode.gst");
/// Behind it: re-encoded.
pub const AUDIO_ENCODE: Template = template!("audio-encode.gst");
/// Or only measured.
pub const AUDIO_MEASURE: Template = template!("audio-measure.gst");

/// By the GPU: the publisher's H.264 to pictures in its memory.
pub const DECODE_NV: Template = template!("decode-nv.gst");
/// Likewise of HEVC.
pub const DECODE_HEVC_NV: Template = template!("decode-h265-nv.gst");
/// Likewise of AV1.
pub const DECODE_AV1_NV: Template = template!("decode-av1-nv.gst");
/// What the CPU decoded, into its memory.
pub const UPLOAD_NV: Template = template!("upload-nv.gst");
/// One size.
pub const SCALE_NV: Template = template!("scale-nv.gst");
/// One rung.
pub const RUNG_NV: Template = template!("rung-h264-nv.gst");
/// Small pictures beside the rungs, scaled before they are downloaded.
pub const THUMBNAIL_NV: Template = template!("thumbnail-nv.gst");
/// A trial before any stream.
pub const WARM_NV: Template = template!("warm-nv.gst");

/// Pictures in its memory, to measure with.
pub const PICTURES_NV: Template = template!("pictures-nv.gst");
/// From those to an encoder.
pub const BENCH_NV: Template = template!("bench-nv.gst");

/// The test picture.
pub const PICTURE: Template = template!("picture.gst");

/// Every template there is.
pub const ALL: [Template; 23] = [
    DECODE,
    DECODE_HEVC,
    DECODE_AV1,
    DEINTERLACE,
    FAN_OUT,
    HALVE,
    SCALE,
    RUNG,
    THUMBNAIL,
    AUDIO_DECODE,
    AUDIO_ENCODE,
    AUDIO_MEASURE,
    DECODE_NV,
    DECODE_HEVC_NV,
    DECODE_AV1_NV,
    UPLOAD_NV,
    SCALE_NV,
    RUNG_NV,
    THUMBNAIL_NV,
    WARM_NV,
    PICTURES_NV,
    BENCH_NV,
    PICTURE,
];

/// The elements that templates of a role name: `software`, `nvidia`, `picture`.
pub fn factories(role: &str) -> BTreeSet<&'static str> {
    ALL.iter().filter(|t| t.role() == role).flat_map(Template::needs).map(|need| need.factory).collect()
}

/// The ladder that is used when none is configured.
pub const DEFAULT_LADDER: &str = include_str!("../../pipelines/ladders/default.toml");

/// The element that takes pictures, where there is no decoder.
pub const PICTURES: &str = "pictures";
/// The element that takes access units.
pub const SOURCE: &str = "source";
/// The element behind the decoder: all raw pictures pass its sink pad, each once.
pub const GATE: Name = Name("gate", 0);
/// The tee behind it.
const DECODED: Name = Name("decoded", 0);
/// The appsinks are `rung0`, `rung1`, ... in the order of the plan.
pub const SINK: &str = "rung";

/// Pictures for thumbnails come to this element's sink pad; those that are not due are dropped there.
pub const DUE: &str = "due";
/// The appsink of thumbnails.
pub const THUMBNAILS: &str = "thumbnail";

/// The element that takes frames of audio.
pub const SOUND: &str = "sound";
/// Decoded audio passes its sink pad, in the source's rate and channels.
pub const HEARD: &str = "heard";
/// The element that mixes more than two channels.
pub const MIX: &str = "mix";
/// What is encoded passes its sink pad.
pub const LEVEL: &str = "level";
/// The appsink of re-encoded audio.
pub const FRAMES: &str = "frames";

/// Rate of re-encoded audio, samples per second; `audio-encode.gst` has it too.
pub const AUDIO_RATE: u32 = 48_000;

/// Compressed audio in front of its decoder: over a second at 320 kbit/s, or 10 s of most audio.
const AUDIO_QUEUE_BYTES: u64 = 64_000;

/// Compressed bytes in front of the decoder: one second at 16 Mbit/s, twice the highest rate that is passed through by default.
const QUEUE_BYTES: u64 = 2_000_000;
/// Raw pictures in front of each scaler: enough to let threads overlap, 12 MB of 1080p at the most.
const QUEUE_DEPTH: u64 = 4;
/// Seconds between key frames that nobody asked for. Above the longest segment (5 s, rules.md 3), so that only cuts make key frames.
const KEY_INTERVAL_SECS: u64 = 10;
/// As many as the largest plan; also keeps the rung's index in a byte of the link.
const MAX_RUNGS: usize = 16;
/// Longest side of a rung, luma samples: level 6.2 of H.264 ends at 8192 x 4320.
const MAX_SIDE: u32 = 8192;
/// Shapes that differ by less than this are rounding of sizes to even numbers (one step of two samples in 64), in thousandths.
const SHAPE_TOLERANCE: u64 = 32;

/// Why a plan cannot be made into a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// A template of this program is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The GPU has no decoder for it.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// No such preset here.
    #[error("{0:?} is no preset: ultrafast, superfast, veryfast, faster, fast, medium, slow")]
    Preset(String),
    /// Smaller than what the encoder takes.
    #[error("{width}x{height} is smaller than {smallest}, the encoder's smallest picture")]
    Small {
        /// Luma samples.
        width: u32,
        /// Luma samples.
        height: u32,
        /// What it takes.
        smallest: Size,
    },
    /// A number is outside its range.
    #[error("{what} is {value}, outside {min} to {max}")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// A side that is not even: 4:2:0 pictures have none such.
    #[error("{width}x{height} has an odd side")]
    Odd {
        /// Luma samples.
        width: u32,
        /// Luma samples.
        height: u32,
    },
}

fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<u64, RecipeError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(RecipeError::Range { what, value, min, max }) }
}

/// Whether the source's displayed shape is another than that of a picture of this size, whose samples are square.
fn differs(source: &VideoFormat, sar: (u32, u32), (width, height): (u32, u32)) -> bool {
    let theirs = u64::from(source.width) * u64::from(sar.0) * u64::from(height);
    let ours = u64::from(source.height) * u64::from(sar.1) * u64::from(width);
    theirs.abs_diff(ours).saturating_mul(1000) > ours.max(theirs).saturating_mul(SHAPE_TOLERANCE)
}

/// A place in the pipeline where pictures of one size and rate can be taken.
#[derive(Debug, Clone, Copy)]
struct Node {
    name: Name,
    width: u32,
    height: u32,
    halved: bool,
    /// The source's own picture, whose shape may differ from the rungs'.
    original: bool,
}

/// Who decodes, scales and encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoders<'a> {
    /// The CPU.
    Software(&'a Software),
    /// A GPU of NVIDIA's.
    Nvidia(&'a Nvidia),
}

/// The text of the pipeline of one stream. Its names are [`SOURCE`], [`GATE`] and [`SINK`] with the rung's number.
///
/// Sizes cascade: each rung is scaled from the smallest picture before it that is large enough. On the CPU that saves a fifth of the work of
/// decoding and scaling against scaling each from the source (measured). On the GPU it costs the same number of kernels, and keeps every step
/// within a factor of two for the usual ladders: its scaler looks at four source samples for each of its own, so larger steps alias. A rung of full
/// rate never takes from one of half rate.
///
/// Thumbnails are taken from the smallest picture that is large enough and has the source's shape: small steps alias less here too, and none has black borders.
/// With them there are [`DUE`] and [`THUMBNAILS`].
///
/// # Errors
/// [`RecipeError`] when a number of the plan is outside its range, or a source cannot be decoded there.
pub fn pipeline(
    source: &VideoFormat,
    rungs: &[Rung],
    thumbnail: Option<&Thumbnail>,
    encoders: Encoders<'_>,
) -> Result<String, RecipeError> {
    within("number of rungs", rungs.len() as u64, 1, MAX_RUNGS as u64)?;
    let sar = video::picture(source).map_or((1, 1), |p| p.sar);
    // The CPU's scaler converts to BT.709, the GPU's leaves colours coded as they are.
    let colours = match encoders {
        Encoders::Software(_) => None,
        Encoders::Nvidia(_) => Some(video::matrix(source)),
    };
    let mut text = match encoders {
        Encoders::Software(settings) => software::decode(source, settings.decoder_threads, settings.low_delay)?,
        Encoders::Nvidia(settings) => nvidia::decode(settings, source)?,
    };
    text += " ! ";
    text += &FAN_OUT.fill(&[("gate", Value::Name(GATE)), ("to", Value::Name(DECODED))])?;

    let mut nodes = vec![Node { name: DECODED, width: source.width, height: source.height, halved: false, original: true }];
    for (index, rung) in rungs.iter().enumerate() {
        let mut from = best(&nodes, rung);
        if rung.halved && !from.halved {
            let half = Node { name: Name("half", index), halved: true, ..from };
            text += " ";
            text += &HALVE.fill(&[("from", Value::Name(from.name)), ("to", Value::Name(half.name))])?;
            nodes.push(half);
            from = half;
        }
        let scaled =
            Node { name: Name("size", index), width: rung.width, height: rung.height, halved: rung.halved, original: false };
        let template = match encoders {
            Encoders::Software(_) => &SCALE,
            Encoders::Nvidia(_) => &SCALE_NV,
        };
        text += " ";
        text += &scale(
            template,
            &from,
            &scaled,
            from.original && differs(source, sar, (rung.width, rung.height)),
            colours.map(nvidia::colorimetry),
        )?;
        text += " ";
        text += &match encoders {
            Encoders::Software(settings) => software::encode(scaled.name, index, rung, settings)?,
            Encoders::Nvidia(settings) => nvidia::encode(scaled.name, index, rung, settings)?,
        };
        nodes.push(scaled);
    }
    if let Some(thumbnail) = thumbnail {
        let in_shape = |n: &&Node| n.original || !differs(source, sar, (n.width, n.height));
        let large = |n: &&Node| n.width >= thumbnail.width && n.height >= thumbnail.height;
        let area = |n: &&Node| u64::from(n.width) * u64::from(n.height);
        let from = nodes.iter().filter(in_shape).filter(large).min_by_key(area).unwrap_or(&nodes[0]);
        let template = match encoders {
            Encoders::Software(_) => &THUMBNAIL,
            Encoders::Nvidia(_) => &THUMBNAIL_NV,
        };
        text += " ";
        text += &thumbnails(template, from.name, thumbnail, colours.map(nvidia::jpeg_colorimetry))?;
    }
    Ok(text)
}

fn thumbnails(
    template: &Template,
    from: Name,
    thumbnail: &Thumbnail,
    colours: Option<&'static str>,
) -> Result<String, RecipeError> {
    let &Thumbnail { width, height, quality, every } = thumbnail;
    if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
        return Err(RecipeError::Odd { width, height });
    }
    // The program drops what is not due: faster than this, and it would be a rung.
    let least = MediaTime::from_secs(1).0.unsigned_abs();
    within("ticks from one thumbnail to the next", every.0.max(0).unsigned_abs(), least, u64::MAX)?;
    let mut values = vec![
        ("from", Value::Name(from)),
        ("width", Value::Number(within("thumbnail's width", width.into(), 2, MAX_SIDE.into())?)),
        ("height", Value::Number(within("thumbnail's height", height.into(), 2, MAX_SIDE.into())?)),
        ("quality", Value::Number(within("thumbnail's quality", quality.into(), 1, 90)?)),
    ];
    values.extend(colours.map(|colours| ("colorimetry", Value::Word(colours))));
    Ok(template.fill(&values)?)
}

/// What of a rung every encoder is told, within what encoders take.
struct Numbers {
    kbps: u64,
    vbv_ms: u64,
    fps_num: u64,
    fps_den: u64,
    key_interval: u64,
}

impl Numbers {
    fn of(rung: &Rung) -> Result<Self, RecipeError> {
        // GstX264Enc's limit is 2048000 kbit/s. 500 Mbit/s is the most that level 6.2 allows for High (table A-1, with its factor).
        let kbps = within("kbps", rung.kbps.into(), 1, 500_000)?;
        let max_kbps = within("max_kbps", rung.max_kbps.into(), kbps, 1_000_000)?;
        let fps_num = within("frame rate numerator", rung.fps.num.into(), 1, 1_000_000)?;
        let fps_den = within("frame rate denominator", rung.fps.den.into(), 1, 1_000_000)?;
        let key_interval = (fps_num * KEY_INTERVAL_SECS).div_ceil(fps_den);
        Ok(Self { kbps, vbv_ms: vbv_ms(kbps, max_kbps), fps_num, fps_den, key_interval })
    }
}

/// The built-in test picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Luma samples, even, 128 to 4096.
    pub width: u32,
    /// Luma samples, even, 72 to 4096.
    pub height: u32,
    /// Frames per second, 1 to 120.
    pub fps: u32,
    /// Frames from one key frame to the next, 1 to 7200 (a minute at the highest rate).
    pub key_interval: u32,
    /// Video rate, kilobits per second, 50 to 50000.
    pub kbps: u32,
}

/// AAC-LC stereo as OBS sends it by default is 160 kbit/s; 128 is the platform's own (design.md, Defaults).
const PICTURE_AUDIO_BPS: u64 = 128_000;

/// The text of the pipeline that encodes the test picture. It takes pictures by `pictures` and sound by `sound`.
///
/// # Errors
/// [`RecipeError`] when a number is outside its range.
pub fn picture(picture: &Picture) -> Result<String, RecipeError> {
    within("width", picture.width.into(), 128, 4096)?;
    within("height", picture.height.into(), 72, 4096)?;
    within("fps", picture.fps.into(), 1, 120)?;
    if !picture.width.is_multiple_of(2) || !picture.height.is_multiple_of(2) {
        return Err(RecipeError::Odd { width: picture.width, height: picture.height });
    }
    Ok(PICTURE.fill(&[
        ("kbps", Value::Number(within("kbps", picture.kbps.into(), 50, 50_000)?)),
        ("audio_bps", Value::Number(PICTURE_AUDIO_BPS)),
        ("key_interval", Value::Number(within("key interval", picture.key_interval.into(), 1, 7200)?)),
        // With zerolatency these are slices of one picture, so they cost no delay.
        ("threads", Value::Number(2)),
    ])?)
}

/// The smallest picture that has the rung's frames and is not smaller than the rung.
fn best(nodes: &[Node], rung: &Rung) -> Node {
    let enough = |n: &&Node| {
        let large = n.width >= rung.width && n.height >= rung.height;
        n.halved <= rung.halved && (large || n.original)
    };
    // Of equal ones: with the right frames already, and converted to the rungs' format already.
    let area = |n: &&Node| (u64::from(n.width) * u64::from(n.height), n.halved != rung.halved, n.original);
    nodes.iter().filter(enough).min_by_key(area).copied().unwrap_or(nodes[0])
}

fn scale(
    template: &Template,
    from: &Node,
    to: &Node,
    borders: bool,
    colours: Option<&'static str>,
) -> Result<String, RecipeError> {
    if !to.width.is_multiple_of(2) || !to.height.is_multiple_of(2) {
        return Err(RecipeError::Odd { width: to.width, height: to.height });
    }
    let mut values = vec![
        ("from", Value::Name(from.name)),
        ("to", Value::Name(to.name)),
        ("depth", Value::Number(QUEUE_DEPTH)),
        ("width", Value::Number(within("width", to.width.into(), 2, MAX_SIDE.into())?)),
        ("height", Value::Number(within("height", to.height.into(), 2, MAX_SIDE.into())?)),
        ("borders", Value::Flag(borders)),
    ];
    values.extend(colours.map(|colours| ("colorimetry", Value::Word(colours))));
    Ok(template.fill(&values)?)
}

/// The VBV size at which no segment of two seconds exceeds `max_kbps`: with a VBV that fills at the average rate, a segment has at the most what
/// flows in during it and what the buffer held at its beginning. 1000 ms for a peak of one and a half times the average.
fn vbv_ms(kbps: u64, max_kbps: u64) -> u64 {
    // rules.md 3: the segment target. Longer segments have lower peaks. x264enc takes up to 10000; under 300 quality falls apart.
    const SEGMENT_MS: u64 = 2000;
    (SEGMENT_MS * (max_kbps - kbps) / kbps).clamp(300, 2 * SEGMENT_MS)
}

/// The text of the pipeline of one stream's audio. Its names are [`SOUND`], [`HEARD`], and where it is encoded [`MIX`], [`LEVEL`] and [`FRAMES`].
///
/// # Errors
/// [`RecipeError`] when a number of the plan is outside its range.
pub fn audio(plan: &AudioPlan) -> Result<String, RecipeError> {
    let decode = AUDIO_DECODE.fill(&[("queue_bytes", Value::Number(AUDIO_QUEUE_BYTES))])?;
    let rest = match &plan.encode {
        Some(encode) => {
            within("stretch, ppm", u64::from(encode.stretch_ppm.unsigned_abs()), 0, u64::from(drift::MAX_PPM.unsigned_abs()))?;
            let rate = within("audio bits per second", encode.bits_per_second.into(), 32_000, 320_000)?;
            AUDIO_ENCODE.fill(&[("bits_per_second", Value::Number(rate))])?
        }
        None => AUDIO_MEASURE.fill(&[])?,
    };
    Ok(format!("{decode} ! {rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::ladder::{self, Ladder, Source};
    use crate::logic::model::FrameRate;
    use std::collections::BTreeSet;

    fn format(width: u32, height: u32) -> VideoFormat {
        VideoFormat { width, height, fps: FrameRate::whole(60), codec: String::new(), avcc: bytes::Bytes::new() }
    }

    fn rung(width: u32, height: u32, halved: bool) -> Rung {
        let fps = if halved { FrameRate::whole(30) } else { FrameRate::whole(60) };
        Rung { name: format!("{height}p").parse().unwrap(), width, height, fps, halved, kbps: 700, max_kbps: 1050 }
    }

    const SOFTWARE: Software = Software { preset: Preset::Veryfast, threads: 1, decoder_threads: 2, low_delay: false };

    /// `(from, to)` of every scaler and halver.
    fn edges(text: &str) -> Vec<(String, String)> {
        let mut from = String::new();
        let mut out = Vec::new();
        for word in text.split_whitespace() {
            if let Some(name) = word.strip_suffix('.') {
                from = name.into();
            } else if let Some(to) = word.strip_prefix("name=").filter(|to| to.starts_with("size") || to.starts_with("half")) {
                out.push((from.clone(), to.to_owned()));
            }
        }
        out
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        text.split(' ').map(|e| e.split_once('>').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
    }

    #[test]
    fn each_size_is_made_from_the_one_above() {
        let rungs = [rung(1280, 720, false), rung(854, 480, false), rung(640, 360, false)];
        let text = pipeline(&format(1920, 1080), &rungs, None, Encoders::Software(&SOFTWARE)).unwrap();
        assert_eq!(edges(&text), pairs("decoded0>size0 size0>size1 size1>size2"));
    }

    #[test]
    fn a_full_rate_rung_never_takes_from_a_halved_one() {
        let rungs = [rung(1920, 1080, false), rung(1280, 720, true), rung(854, 480, false), rung(640, 360, true)];
        let text = pipeline(&format(1920, 1080), &rungs, None, Encoders::Software(&SOFTWARE)).unwrap();
        assert_eq!(edges(&text), pairs("decoded0>size0 size0>half1 half1>size1 size0>size2 size2>half3 half3>size3"));
        let rungs = [rung(1280, 720, true), rung(854, 480, true)];
        let text = pipeline(&format(1920, 1080), &rungs, None, Encoders::Software(&SOFTWARE)).unwrap();
        assert_eq!(edges(&text), pairs("decoded0>half0 half0>size0 size0>size1"));
    }

    #[test]
    fn a_source_of_another_shape_gets_borders_once() {
        let rungs = [rung(1280, 720, false), rung(640, 360, false)];
        let text = pipeline(&format(1440, 1080), &rungs, None, Encoders::Software(&SOFTWARE)).unwrap();
        assert_eq!(text.matches("add-borders=true").count(), 1);
        let text = pipeline(&format(1920, 1080), &rungs, None, Encoders::Software(&SOFTWARE)).unwrap();
        assert_eq!(text.matches("add-borders=true").count(), 0);
        // the shape is judged with the sample aspect ratio: 1440x1080 at 4:3 is 16:9
        assert!(!differs(&format(1440, 1080), (4, 3), (1280, 720)));
        assert!(!differs(&format(1920, 1080), (1, 1), (854, 480)));
    }

    #[test]
    fn thumbnails_are_taken_from_the_smallest_picture_of_the_sources_shape() {
        let thumbnail = |width, height| Thumbnail { width, height, quality: 75, every: MediaTime::from_secs(4) };
        let rungs = [rung(1280, 720, false), rung(640, 360, true)];
        let made = |source: &VideoFormat, t: Thumbnail| pipeline(source, &rungs, Some(&t), Encoders::Software(&SOFTWARE));
        let from = |source: &VideoFormat, t: Thumbnail| {
            let text = made(source, t).unwrap();
            let before = text.split(&format!(". ! queue name={DUE} ")).next().unwrap();
            assert!(before.len() < text.len() && text.ends_with("max-buffers=2"), "{text}");
            before.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(from(&format(1920, 1080), thumbnail(320, 180)), "size1");
        assert_eq!(from(&format(1920, 1080), thumbnail(1136, 640)), "size0");
        // The rungs of such a source have borders.
        assert_eq!(from(&format(1440, 1080), thumbnail(240, 180)), "decoded0");
        for bad in [
            thumbnail(321, 180),
            Thumbnail { quality: 0, ..thumbnail(320, 180) },
            Thumbnail { every: MediaTime::from_millis(999), ..thumbnail(320, 180) },
        ] {
            assert!(made(&format(1920, 1080), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_vbv_is_what_the_peak_leaves_room_for() {
        assert_eq!(vbv_ms(2800, 4200), 1000);
        assert_eq!(vbv_ms(1000, 1000), 300);
        assert_eq!(vbv_ms(1, 1_000_000), 4000);
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let plan = |r: Rung, s: Software| pipeline(&format(1920, 1080), &[r], None, Encoders::Software(&s));
        assert!(matches!(plan(rung(641, 360, false), SOFTWARE), Err(RecipeError::Odd { .. })));
        assert!(plan(rung(0, 360, false), SOFTWARE).is_err());
        assert!(plan(Rung { kbps: 0, ..rung(640, 360, false) }, SOFTWARE).is_err());
        assert!(plan(Rung { fps: FrameRate { num: 30, den: 0 }, ..rung(640, 360, false) }, SOFTWARE).is_err());
        assert!(plan(rung(640, 360, false), Software { threads: 0, ..SOFTWARE }).is_err());
        assert!(pipeline(&format(1920, 1080), &[], None, Encoders::Software(&SOFTWARE)).is_err());
        assert!("veryfast ! filesink".parse::<Preset>().is_err());
        assert_eq!("fast".parse::<Preset>().unwrap(), Preset::Fast);
    }

    #[test]
    fn audio_is_encoded_or_only_measured() {
        use crate::logic::sound::AudioEncode;
        let plan = |bits: Option<u32>| AudioPlan {
            source: crate::cmaf::aac::silent_format(),
            encode: bits.map(|bits_per_second| AudioEncode { bits_per_second, target: None, stretch_ppm: 0 }),
        };
        let text = audio(&plan(Some(128_000))).unwrap();
        assert!(text.contains("avdec_aac") && text.contains("avenc_aac bitrate=128000 ! appsink name=frames"), "{text}");
        assert!(text.contains(&format!("rate={AUDIO_RATE},channels=2 ")), "{text}");
        let text = audio(&plan(None)).unwrap();
        assert!(text.contains("avdec_aac") && !text.contains("avenc_aac"), "{text}");
        assert!(matches!(audio(&plan(Some(1))), Err(RecipeError::Range { .. })));
    }

    #[test]
    fn every_template_keeps_to_the_grammar_and_its_header_is_complete() {
        for template in ALL {
            let elements = template.elements().unwrap();
            let named: BTreeSet<_> = elements.iter().map(|e| e.factory.clone()).collect();
            let needed: BTreeSet<_> = template.needs().iter().map(|n| n.factory.to_owned()).collect();
            assert_eq!(named, needed, "{}", template.file);
            assert!(!template.role().is_empty(), "{}", template.file);
            let fields: BTreeSet<_> = template.fields().into_iter().collect();
            let used: BTreeSet<_> = template.text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
            assert_eq!(fields, used, "{}", template.file);
        }
    }

    #[test]
    fn the_folder_holds_no_file_that_is_not_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines");
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.ends_with(".gst"))
            .collect();
        assert_eq!(files, ALL.iter().map(|t| t.file.to_owned()).collect());
    }

    #[test]
    fn the_default_ladder_parses_and_plans() {
        let ladder: Ladder = toml::from_str(DEFAULT_LADDER).unwrap();
        let source = Source { width: 1920, height: 1080, fps: FrameRate::whole(60), bitrate: None };
        let rungs = ladder::plan(&source, &ladder, false, Size::ANY);
        assert_eq!(
            rungs.iter().map(|r| (r.kbps, r.halved)).collect::<Vec<_>>(),
            [(5000, false), (2800, true), (1200, true), (700, true)]
        );
        pipeline(&format(1920, 1080), &rungs, None, Encoders::Software(&SOFTWARE)).unwrap();
    }
}
