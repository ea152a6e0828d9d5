//! Thumbnails as the codec process gives them: the right picture at the right time, in the source's shape and colours, and the rungs as without them.
//! The GPU's tests run these too, by the other release of GStreamer.

use std::time::Duration;
use weir::cmaf::video::displayed;
use weir::link::wire::Plan;
use weir::logic::ladder::Source;
use weir::logic::thumbnail::{Settings, Thumbnail};

use super::clip::{Clip, ffmpeg};
use super::process::{self, Codec, plan};

const SETTINGS: Settings =
    Settings { every: Duration::from_secs(4), short_side: 90, quality: 90, keep: Duration::from_secs(300) };

/// Likewise, with the thumbnail that a session would order.
pub fn ordered(clip: &Clip, plan: Plan) -> Plan {
    let (width, height) = displayed(&clip.format);
    let source = Source { width, height, fps: clip.format.fps, bitrate: None };
    Plan { thumbnail: Thumbnail::of(&source, &SETTINGS), ..plan }
}

/// Red, green and blue of each picture element, row by row; ffmpeg must have nothing to say, and find the size that was ordered.
pub fn decoded(jpeg: &[u8], ordered: &Thumbnail) -> Vec<[u8; 3]> {
    assert_eq!(ordered.check(jpeg), Ok(()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thumbnail.jpg");
    std::fs::write(&path, jpeg).unwrap();
    let raw = ffmpeg("error", &["-f", "rawvideo", "-pix_fmt", "rgb24", "-"], Some(&path));
    assert_eq!(raw.len(), (ordered.width * ordered.height * 3) as usize);
    raw.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
}

/// The picture has this colour, to its edges. What conversions and encoders round off was seen to be 5 of 255 on the CPU, and 9 on the GPU's path; where a
/// conversion is left out it is 17 (of the range) or 20 (of the matrix). Each element is far nearer to it than a black border would be; the scaler's outermost
/// columns were seen 15 off.
pub fn is_all(picture: &[[u8; 3]], colour: [u8; 3]) {
    let off = |p: [u8; 3]| p.iter().zip(colour).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0);
    let sum = |channel: usize| picture.iter().map(|p| u64::from(p[channel])).sum::<u64>();
    let mean = [0, 1, 2].map(|channel| (sum(channel) / picture.len() as u64) as u8);
    assert!(off(mean) <= 12, "{mean:?} is not {colour:?}");
    let worst = picture.iter().copied().max_by_key(|p| off(*p)).unwrap();
    assert!(off(worst) <= 64, "{worst:?} in a picture that is {colour:?}");
}

fn run(clip: &Clip, rungs: &[(u32, u32, bool)]) -> (Thumbnail, process::Output) {
    let plan = ordered(clip, plan(clip, rungs));
    let mut codec = Codec::start();
    codec.greet();
    let out = codec.run(&plan, clip, &clip.times()[..1]);
    assert_eq!(out.failed, None);
    let (status, log) = codec.finish();
    assert!(status.success() && log.is_empty(), "{status} {log}");
    (plan.thumbnail.unwrap(), out)
}

/// Four seconds of each colour, to the picture.
const COLOURS: &str = "drawbox=color=red:t=fill:enable='lt(n,100)',drawbox=color=lime:t=fill:enable='between(n,100,199)',\
                       drawbox=color=blue:t=fill:enable='gte(n,200)'";

#[test]
fn the_first_picture_and_then_one_in_four_seconds_of_media() {
    let clip = Clip::make(320, 180, 25, 9, &["-vf", COLOURS]);
    let (thumbnail, out) = run(&clip, &[(240, 136, false)]);
    assert_eq!((thumbnail.width, thumbnail.height), (160, 90));
    let times = clip.times();
    assert_eq!(out.rungs[0].times(), times, "every picture of the rung, at the source's times");
    assert_eq!(out.rungs[0].decoded(), times.len());
    let seen: Vec<i64> = out.thumbnails.iter().map(|t| t.0).collect();
    assert_eq!(seen, [times[0], times[100], times[200]]);
    for ((_, jpeg), colour) in out.thumbnails.iter().zip([[255, 0, 0], [0, 255, 0], [0, 0, 255]]) {
        is_all(&decoded(jpeg, &thumbnail), colour);
    }
}

/// The rungs of such sources have black borders; thumbnails do not.
#[test]
fn every_shape_is_kept_without_borders() {
    let red = "drawbox=color=red:t=fill";
    let wide = format!("{red},setsar=4/3");
    for (width, height, filter, size) in
        [(180, 320, red, (90, 160)), (240, 180, red, (120, 90)), (240, 180, &*wide, (160, 90)), (80, 64, red, (80, 64))]
    {
        let clip = Clip::make(width, height, 30, 1, &["-vf", filter]);
        let (thumbnail, out) = run(&clip, &[(64, 64, false)]);
        assert_eq!((thumbnail.width, thumbnail.height), size, "{width}x{height} {filter}");
        assert_eq!(out.thumbnails.len(), 1);
        is_all(&decoded(&out.thumbnails[0].1, &thumbnail), [255, 0, 0]);
    }
}
