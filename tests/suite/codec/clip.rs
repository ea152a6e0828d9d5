//! Clips made by ffmpeg at test time, as a publisher would send them: FLV tags with times in whole milliseconds.

use std::process::{Command, Stdio};

use bytes::Bytes;
use weir::cmaf::video;
use weir::logic::model::{Coding, FrameRate, VideoFormat};

use crate::harness::{
    self,
    enhanced::{self, Enhanced},
};

/// One access unit; times in 1/90000 s on the millisecond grid of FLV.
#[derive(Debug, Clone)]
pub struct Unit {
    pub pts: i64,
    pub dts: i64,
    pub idr: bool,
    pub data: Bytes,
}

/// A whole clip.
#[derive(Debug, Clone)]
pub struct Clip {
    pub format: VideoFormat,
    pub units: Vec<Unit>,
}

/// Runs ffmpeg and returns what it wrote to standard output; it must have nothing to say at `level`.
pub fn ffmpeg(level: &str, arguments: &[&str], input: Option<&std::path::Path>) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", level, "-y"]);
    if let Some(path) = input {
        command.arg("-i").arg(path);
    }
    let out = command.args(arguments).stdin(Stdio::null()).output().expect("ffmpeg is installed");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.trim().is_empty(), "ffmpeg {arguments:?}: {said}");
    out.stdout
}

impl Clip {
    /// `seconds` of a moving picture by x264 with B-frames; `extra` goes to ffmpeg before the output.
    pub fn make(width: u32, height: u32, fps: u32, seconds: u32, extra: &[&str]) -> Self {
        let source = format!("testsrc2=size={width}x{height}:rate={fps}:duration={seconds}");
        let mut arguments = vec!["-f", "lavfi", "-i", &source, "-c:v", "libx264", "-preset", "superfast"];
        arguments.extend(["-bf", "2", "-g", "1000", "-b:v", "1M", "-threads", "1"]);
        if !extra.contains(&"-pix_fmt") {
            arguments.extend(["-pix_fmt", "yuv420p"]);
        }
        arguments.extend(extra);
        arguments.extend(["-f", "flv", "-flvflags", "no_duration_filesize", "-"]);
        // Some formats are "deprecated", and asked for because they are out there.
        let flv = ffmpeg("error", &arguments, None);
        let fps = FrameRate::whole(fps);
        let mut clip = Self {
            format: VideoFormat { width, height, fps, codec: "avc1.64001f".into(), avcc: Bytes::new() },
            units: Vec::new(),
        };
        let mut rest = &flv[13..];
        while rest.len() > 15 {
            let size = usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
            let dts = i64::from(u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]));
            let (body, tail) = rest[11..].split_at(size);
            rest = &tail[4..];
            if body[0] & 0x0f != 7 || body.len() < 5 {
                continue;
            }
            let composition = i64::from(i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8);
            let data = Bytes::copy_from_slice(&body[5..]);
            match body[1] {
                0 => clip.format.avcc = data,
                1 => clip.units.push(Unit { pts: (dts + composition) * 90, dts: dts * 90, idr: body[0] >> 4 == 1, data }),
                _ => {}
            }
        }
        assert!(!clip.format.avcc.is_empty() && !clip.units.is_empty());
        clip
    }

    /// The same by x265 or libaom; `extra` goes to ffmpeg before the output.
    pub fn coded(coding: Coding, width: u32, height: u32, fps: u32, seconds: u32, extra: &'static str) -> Self {
        let clip = harness::clip::Clip { width, height, fps, seconds, gop: 1000, more: extra, ..harness::clip::SMALL };
        let made = Enhanced::of(&clip, coding);
        let format = video::read_record(coding, &made.record.into(), Some(FrameRate::whole(fps))).unwrap();
        let unit = |u: enhanced::Unit| Unit { pts: u.pts * 90, dts: u.dts * 90, idr: u.key, data: u.data.into() };
        Self { format, units: made.units.into_iter().map(unit).collect() }
    }

    /// Presentation times in order.
    pub fn times(&self) -> Vec<i64> {
        let mut times: Vec<_> = self.units.iter().map(|u| u.pts).collect();
        times.sort_unstable();
        times
    }

    /// Moves every time by `ticks`.
    pub fn shifted(mut self, ticks: i64) -> Self {
        for unit in &mut self.units {
            unit.pts += ticks;
            unit.dts += ticks;
        }
        self
    }
}
