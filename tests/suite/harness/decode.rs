//! What ffmpeg decodes, by index of picture and sample. Its times are not used: it shifts fragmented MP4 with negative composition offsets by the
//! reorder delay. Times come from the boxes.

use std::path::PathBuf;

use super::clip::{Clip, MARK_MILLIS};
use super::tools;
use super::track::Track;

fn file(track: &Track) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{}.mp4", track.name));
    std::fs::write(&path, &track.file).unwrap();
    (folder, path)
}

/// The mean brightness of each picture's lower half, which has no counter. ffmpeg must have nothing to say, and every sample must give a picture.
pub fn brightness(track: &Track) -> Vec<u8> {
    let (_folder, path) = file(track);
    let filter = "crop=iw:ih/2:0:ih/2,scale=16:16";
    let raw = tools::ffmpeg([
        "-i",
        tools::text(&path),
        "-vf",
        filter,
        "-pix_fmt",
        "gray",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-",
    ]);
    let pictures: Vec<u8> = raw.chunks_exact(256).map(|p| (p.iter().map(|&b| u32::from(b)).sum::<u32>() / 256) as u8).collect();
    assert_eq!(pictures.len(), track.times().len(), "{}: pictures decoded of samples", track.name);
    pictures
}

/// One channel as samples of 16 bits.
pub fn sound(track: &Track) -> Vec<i16> {
    let (_folder, path) = file(track);
    let raw = tools::ffmpeg(["-i", tools::text(&path), "-ac", "1", "-f", "s16le", "-"]);
    let samples: Vec<i16> = raw.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    assert_eq!(samples.len(), track.times().len() * 1024, "{}: every AAC frame gives 1024 samples", track.name);
    samples
}

/// Microseconds of media time at which the picture turns white.
pub fn flashes(track: &Track) -> Vec<i64> {
    let (light, times) = (brightness(track), track.times());
    let begins = |n: &usize| light[*n] > 200 && light[n - 1] <= 200;
    (1..light.len()).filter(begins).map(|n| times[n] * 100 / 9).collect()
}

/// Microseconds of media time at which a beep begins, behind at least 0.3 s of silence.
pub fn beeps(track: &Track) -> Vec<i64> {
    let (sound, rate) = (sound(track), i64::from(track.init.timescale));
    let mut loud = -rate;
    let mut out = Vec::new();
    for (n, sample) in (0..).zip(&sound) {
        // Half of the beep's amplitude: what the encoder smears in front of it is far below.
        if sample.unsigned_abs() > 8000 {
            if n - loud > rate * 3 / 10 {
                out.push((track.starts()[0] + n) * 1_000_000 / rate);
            }
            loud = n;
        }
    }
    out
}

/// The largest distance between a flash and its beep, microseconds; both must be there in each second.
pub fn audio_offset(clip: &Clip, video: &Track, audio: &Track) -> i64 {
    let (flashes, beeps) = (flashes(video), beeps(audio));
    assert_eq!((flashes.len(), beeps.len()), (clip.seconds as usize, clip.seconds as usize), "{flashes:?} {beeps:?}");
    let offsets: Vec<i64> = beeps.iter().zip(&flashes).map(|(b, f)| b - f).collect();
    assert!((flashes[0] / 1000 - MARK_MILLIS).abs() <= 1000 / i64::from(clip.fps), "the first flash is at {} us", flashes[0]);
    println!("{}: beep against flash {offsets:?} us", video.name);
    offsets.iter().map(|o| o.abs()).max().unwrap()
}
