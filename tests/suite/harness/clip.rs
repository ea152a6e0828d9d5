//! Test media, made by ffmpeg when first asked for and kept in Cargo's folder for tests.
//!
//! The picture carries the number of the frame in binary along its top (`tests/players/page.js` reads it) and turns white for a tenth of a second in
//! the middle of each second; a 1 kHz beep begins at the same instant. FLV, so that times are on RTMP's grid of milliseconds.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::tools;

/// Blocks of the counter.
pub const COUNTER_BITS: u32 = 12;

/// Flash and beep begin so long after each full second, in milliseconds.
pub const MARK_MILLIS: i64 = 500;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub seconds: u32,
    /// Frames from one IDR to the next.
    pub gop: u32,
    pub kbps: u32,
    pub video: bool,
    pub audio: bool,
    /// More of ffmpeg's output options, each with a value, in place of ours of the same name; separated by spaces.
    pub more: &'static str,
}

/// 640x360 at 30 frames per second with an IDR every 2 s: the smallest that has a rung below it.
pub const SMALL: Clip =
    Clip { width: 640, height: 360, fps: 30, seconds: 6, gop: 60, kbps: 600, video: true, audio: true, more: "" };

/// 20 s of 960x540 at 30 frames per second with an IDR every 2 s: the default ladder has two rungs below it.
pub const LADDER: Clip =
    Clip { width: 960, height: 540, fps: 30, seconds: 20, gop: 60, kbps: 2000, video: true, audio: true, more: "" };

static MAKING: Mutex<()> = Mutex::new(());

impl Clip {
    /// Frames of the whole clip.
    pub fn frames(&self) -> usize {
        (self.fps * self.seconds) as usize
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.made("flv", &["-f", "flv", "-flvflags", "no_duration_filesize"])
    }

    /// The same as MPEG-TS, with times that are not rounded to milliseconds.
    pub fn transport_stream(&self) -> PathBuf {
        self.made("ts", &["-f", "mpegts"])
    }

    fn made(&self, extension: &str, muxer: &[&str]) -> PathBuf {
        let arguments = self.arguments();
        let mut hash = DefaultHasher::new();
        arguments.hash(&mut hash);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clip-{:016x}.{extension}", hash.finish()));
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !path.exists() {
            let unfinished = path.with_extension(format!("{}.{extension}", std::process::id()));
            let output = muxer.iter().copied().chain([tools::text(&unfinished)]);
            tools::ffmpeg(arguments.iter().map(String::as_str).chain(output));
            std::fs::rename(&unfinished, &path).unwrap();
        }
        path
    }

    /// What ffmpeg is told to make it, without where it goes.
    pub fn arguments(&self) -> Vec<String> {
        let Self { width, height, fps, seconds, gop, kbps, video, audio, more } = self;
        let mut out: Vec<String> = Vec::new();
        let mut put = |text: &str| out.extend(text.split(' ').map(str::to_owned));
        if *video {
            put(&format!("-f lavfi -i testsrc2=size={width}x{height}:rate={fps}:duration={seconds},{}", self.marks()));
        }
        if *audio {
            let mark = format!("between(mod(t\\,1)\\,0.{MARK_MILLIS}\\,0.6)");
            put(&format!("-f lavfi -i aevalsrc=0.5*sin(2*PI*1000*t)*{mark}:s=48000:d={seconds}"));
            put("-c:a aac -b:a 128k -ac 2");
        }
        if *video {
            put(&format!("-c:v libx264 -preset veryfast -profile:v high -bf 2 -g {gop} -keyint_min {gop} -sc_threshold 0"));
            put(&format!("-b:v {kbps}k -maxrate {}k -bufsize {kbps}k -pix_fmt yuv420p", kbps * 3 / 2));
        }
        for option in more.split(' ').collect::<Vec<_>>().chunks_exact(2) {
            // ffmpeg warns of an option that is given twice.
            match out.iter().position(|o| o == option[0]) {
                Some(at) => out[at + 1] = option[1].to_owned(),
                None => out.extend(option.iter().map(|&o| o.to_owned())),
            }
        }
        out
    }

    /// The flash, then bit i of the frame's number as block i: black ground, a white box where the bit is set.
    fn marks(&self) -> String {
        let (first, last) = (self.fps / 2, self.fps / 2 + (self.fps / 10).max(1) - 1);
        let white = "color=white:t=fill:enable=";
        let flash = format!("drawbox={white}'between(mod(n\\,{})\\,{first}\\,{last})'", self.fps);
        let ground = format!("drawbox=x=0:y=0:w=iw*{COUNTER_BITS}/32:h=ih/18:color=black:t=fill");
        let bit = |i: u32| format!("drawbox=x=iw*{i}/32:y=0:w=iw/32:h=ih/18:{white}'mod(floor(n/{})\\,2)'", 1u32 << i);
        [flash, ground].into_iter().chain((0..COUNTER_BITS).map(bit)).collect::<Vec<_>>().join(",")
    }
}
