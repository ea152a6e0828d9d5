//! Which rungs a source gets. Pure: source facts and a ladder in, a plan or a refusal out.
//!
//! Knows nothing of encoders; the codec process turns a [`Rung`] into a pipeline.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{FrameRate, TrackName};

/// One rung of a ladder file (`pipelines/ladders/*.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Track name, `720p`.
    pub name: TrackName,
    /// The picture's short side in luma samples, 64 to 4320.
    pub short_side: u32,
    /// Average video rate, kilobits per second.
    pub kbps: u32,
    /// Frames per second at the most: a 50 or 60 fps source is halved for a rung that says 30. Default 30.
    #[serde(default = "thirty")]
    pub max_fps: u32,
}

fn thirty() -> u32 {
    30
}

/// A ladder file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// From the best to the lowest.
    pub rungs: Vec<Step>,
    /// Average rate of a re-encoded top rung, kilobits per second (used when the source cannot be passed through).
    pub top_kbps: u32,
    /// The top rung's short side at the most.
    pub top_short_side: u32,
}

/// What the plan needs to know of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Width of the displayed picture.
    pub width: u32,
    /// Height likewise.
    pub height: u32,
    /// Nominal frame rate.
    pub fps: FrameRate,
    /// The source's own rate if known, bits per second: no rung is planned above it.
    pub bitrate: Option<u64>,
}

/// One video rendition to encode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Track name.
    pub name: TrackName,
    /// Even.
    pub width: u32,
    /// Even.
    pub height: u32,
    /// Nominal rate after halving.
    pub fps: FrameRate,
    /// Every second frame is dropped, except that the frame at a cut always stays (rules.md 13).
    pub halved: bool,
    /// Average, kilobits per second.
    pub kbps: u32,
    /// VBV rate, kilobits per second: what BANDWIDTH is made of.
    pub max_kbps: u32,
}

/// A picture's size, luma samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Luma samples.
    pub width: u32,
    /// Luma samples.
    pub height: u32,
}

impl Size {
    /// For encoders that take every size that a ladder makes: an even one.
    pub const ANY: Self = Self { width: 2, height: 2 };

    /// Whether a picture has at least this size.
    pub const fn fits(self, width: u32, height: u32) -> bool {
        width >= self.width && height >= self.height
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Peak over average of an encoded rung. 1.5 with a 1 s buffer is what the HLS authoring specification allows for
/// (peak within 200 % of average, 1.30) with room to spare.
fn max_kbps(kbps: u32) -> u32 {
    kbps.saturating_mul(3) / 2
}

/// Smallest picture that x264 and NVENC's documentation both accept for H.264 (NVENC: 145 x 49 at least on Ampere).
const MIN_SHORT_SIDE: u32 = 64;

fn even(n: u64) -> u32 {
    u32::try_from((n / 2) * 2).unwrap_or(u32::MAX - 1).max(2)
}

/// The size whose short side is `short` luma samples in the source's shape; both sides even, rounded to nearest even.
pub fn scaled(source: &Source, short: u32) -> (u32, u32) {
    let (w, h) = (u64::from(source.width.max(1)), u64::from(source.height.max(1)));
    let (small, large) = (w.min(h), w.max(h));
    // nearest even number to large * short / small
    let long = even((large * u64::from(short) + small) / small);
    let short = even(u64::from(short));
    if w >= h { (long, short) } else { (short, long) }
}

/// How the source's rate is halved for a rung: frames per second above 1.5 x the rung's limit (45 for 30) are.
fn rate(fps: FrameRate, max_fps: u32) -> (FrameRate, bool) {
    if fps.milli() > u64::from(max_fps) * 1500 { (fps.halved(), true) } else { (fps, false) }
}

/// The rungs to encode below (or, without passthrough, including) the source's size.
///
/// Never upscales. A rung is kept if it has fewer pixels than the source; if none is left, one rung of half the size is made;
/// aspect is kept for portrait, square and odd sizes. With `passthrough` the source rung is not among the result; without it the first rung is
/// the re-encoded top at the source's size (at most [`Ladder::top_short_side`]). Rungs below the encoder's `smallest` picture are left out (rules.md
/// 28): of a tiny source there may be none.
pub fn plan(source: &Source, ladder: &Ladder, passthrough: bool, smallest: Size) -> Vec<Rung> {
    let pixels = u64::from(source.width) * u64::from(source.height);
    let ceiling = source.bitrate.map(|b| u32::try_from(b / 1000).unwrap_or(u32::MAX)).filter(|&k| k > 0);
    let rung = |name: TrackName, (width, height): (u32, u32), kbps: u32, max_fps: u32| {
        let (fps, halved) = rate(source.fps, max_fps);
        let kbps = ceiling.map_or(kbps, |c| kbps.min(c.max(100)));
        Rung { name, width, height, fps, halved, kbps, max_kbps: max_kbps(kbps) }
    };
    let mut rungs = Vec::new();
    if !passthrough {
        let short = source.width.min(source.height).min(ladder.top_short_side);
        if let Ok(name) = "top".parse() {
            rungs.push(rung(name, scaled(source, short), ladder.top_kbps, u32::MAX));
        }
    }
    let before = rungs.len();
    for step in &ladder.rungs {
        let size = scaled(source, step.short_side);
        if u64::from(size.0) * u64::from(size.1) < pixels && step.short_side < source.width.min(source.height) {
            rungs.push(rung(step.name.clone(), size, step.kbps, step.max_fps));
        }
    }
    if rungs.len() == before
        && let Ok(name) = "half".parse()
    {
        let short = (source.width.min(source.height) / 2).max(2);
        let lowest = ladder.rungs.last();
        if short >= MIN_SHORT_SIDE || passthrough {
            let short = short.max(MIN_SHORT_SIDE.min(source.width.min(source.height)));
            rungs.push(rung(name, scaled(source, short), lowest.map_or(400, |l| l.kbps), lowest.map_or(30, |l| l.max_fps)));
        }
    }
    rungs.retain(|r| smallest.fits(r.width, r.height));
    rungs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ladder() -> Ladder {
        let step = |name: &str, short_side, kbps| Step { name: name.parse().unwrap(), short_side, kbps, max_fps: 30 };
        Ladder {
            rungs: vec![step("720p", 720, 2800), step("480p", 480, 1200), step("360p", 360, 700)],
            top_kbps: 5000,
            top_short_side: 1080,
        }
    }

    fn source(width: u32, height: u32) -> Source {
        Source { width, height, fps: FrameRate::whole(30), bitrate: None }
    }

    fn sizes(rungs: &[Rung]) -> Vec<(u32, u32)> {
        rungs.iter().map(|r| (r.width, r.height)).collect()
    }

    #[test]
    fn a_1080p_source_gets_three_rungs_below_it() {
        assert_eq!(sizes(&plan(&source(1920, 1080), &ladder(), true, Size::ANY)), [(1280, 720), (854, 480), (640, 360)]);
    }

    #[test]
    fn rungs_never_upscale() {
        assert_eq!(sizes(&plan(&source(960, 540), &ladder(), true, Size::ANY)), [(854, 480), (640, 360)]);
        assert_eq!(sizes(&plan(&source(1280, 720), &ladder(), true, Size::ANY)), [(854, 480), (640, 360)]);
    }

    #[test]
    fn portrait_keeps_its_short_side_and_aspect() {
        assert_eq!(sizes(&plan(&source(1080, 1920), &ladder(), true, Size::ANY)), [(720, 1280), (480, 854), (360, 640)]);
    }

    #[test]
    fn a_source_below_every_rung_gets_one_of_half_the_size() {
        assert_eq!(sizes(&plan(&source(426, 240), &ladder(), true, Size::ANY)), [(214, 120)]);
    }

    #[test]
    fn rungs_below_the_encoders_smallest_picture_are_left_out() {
        let smallest = Size { width: 160, height: 64 };
        let of = |w, h, passthrough| sizes(&plan(&source(w, h), &ladder(), passthrough, smallest));
        assert_eq!(of(426, 240, true), [(214, 120)]);
        assert_eq!(of(240, 426, true), []);
        assert_eq!(of(256, 144, true), []);
        assert_eq!(of(256, 144, false), [(256, 144)]);
        assert_eq!(of(128, 72, false), []);
    }

    #[test]
    fn without_passthrough_the_top_rung_has_the_sources_size_up_to_1080p() {
        assert_eq!(sizes(&plan(&source(1920, 1080), &ladder(), false, Size::ANY))[0], (1920, 1080));
        assert_eq!(sizes(&plan(&source(3840, 2160), &ladder(), false, Size::ANY))[0], (1920, 1080));
        assert_eq!(sizes(&plan(&source(1279, 719), &ladder(), false, Size::ANY))[0], (1280, 718));
    }

    #[test]
    fn sixty_frames_are_halved_where_the_rung_says_thirty() {
        let s = Source { fps: FrameRate { num: 60_000, den: 1001 }, ..source(1920, 1080) };
        let rung = &plan(&s, &ladder(), true, Size::ANY)[0];
        assert!(rung.halved);
        assert_eq!(rung.fps, FrameRate { num: 30_000, den: 1001 });
        assert!(!plan(&source(1920, 1080), &ladder(), true, Size::ANY)[0].halved);
        let fifty = Source { fps: FrameRate::whole(50), ..source(1920, 1080) };
        assert_eq!(plan(&fifty, &ladder(), true, Size::ANY)[0].fps, FrameRate::whole(25));
    }

    proptest! {
        #[test]
        fn every_rung_is_even_smaller_and_close_to_the_sources_aspect(w in 128u32..4096, h in 128u32..4096) {
            let s = source(w, h);
            for r in plan(&s, &ladder(), true, Size::ANY) {
                prop_assert!(r.width % 2 == 0 && r.height % 2 == 0);
                prop_assert!(u64::from(r.width) * u64::from(r.height) <= u64::from(w) * u64::from(h));
                // one even step of the long side at the most
                let exact = f64::from(w) / f64::from(h);
                let off = (f64::from(r.width) - exact * f64::from(r.height)).abs() / exact.max(1.0);
                prop_assert!(off <= 2.5, "{r:?} off by {off}");
            }
        }
    }
}
