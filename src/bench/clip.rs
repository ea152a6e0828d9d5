//! The generated source: the test picture as H.264, a few seconds of it, again and again.

use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use weir::cmaf::h264;
use weir::ingest::Packet;
use weir::link::environment;
use weir::logic::ladder::Size;
use weir::logic::model::{FrameRate, VideoFormat};
use weir::slate;

use super::FPS;

/// Seconds from one key frame to the next: what OBS is told to send.
const GOP: u32 = 2;

/// 1080p30 as streamers send it.
const KBPS: u32 = 6000;

/// Its pictures in decode order, which is that of presentation: the encoder of the test picture has no B-frames.
pub struct Clip {
    pub format: VideoFormat,
    pub units: Vec<(Bytes, bool)>,
}

impl Clip {
    /// Takes `seconds`, for it is made in real time.
    pub fn make(program: &Path, size: Size, seconds: u32) -> Result<Self, String> {
        let mut command = Command::new(program);
        command
            .args(["--picture", "--size", &size.to_string(), "--fps", &FPS.to_string(), "--gop", &GOP.to_string()])
            .args(["--kbps", &KBPS.to_string(), "--seconds", &seconds.to_string()])
            .args(["--parent", &std::process::id().to_string()])
            .env_clear()
            .envs(environment::allowed())
            .stdin(Stdio::null());
        let made = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", program.display()))?;
        if !made.status.success() {
            return Err(format!("the source could not be made: {}", made.status));
        }
        let (mut format, mut units) = (None, Vec::new());
        for packet in slate::packets(&made.stdout.into()).map_err(|e| format!("the source that was made: {e}"))? {
            match packet {
                Packet::VideoConfig(_, record) => {
                    let fps = Some(FrameRate::whole(FPS));
                    format = Some(h264::read_record(&record, fps).map_err(|e| format!("the source that was made: {e}"))?);
                }
                Packet::Video { key, data, .. } => units.push((data, key)),
                _ => {}
            }
        }
        match format {
            Some(format) if units.first().is_some_and(|u| u.1) => Ok(Self { format, units }),
            _ => Err("the source that was made has no pictures".into()),
        }
    }
}
