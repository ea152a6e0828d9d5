//! The driver double's own tests: GStreamer's NVIDIA elements, unmodified, do real work under it and fail when told.

mod faults;
mod media;
mod shared;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::double::Double;
use crate::harness::tools;

/// Caps of pictures that stay on the device.
const DEVICE: &str = "video/x-raw(memory:CUDAMemory)";

/// A pipeline of `gst-launch-1.0`, elements and links separated by blanks.
fn pipeline(double: &Double, text: &str) -> Command {
    let mut command = double.command("gst-launch-1.0");
    // Without its own handler of faults, which would go round in circles for ever.
    command.args(["-q", "--no-fault"]).args(text.split_whitespace());
    command
}

/// Seconds after which a pipeline that should end is ended: many times what the longest takes on a busy machine.
const LONGEST: &str = "60";

/// Runs it to its end.
fn run(double: &Double, text: &str) -> Output {
    let mut command = double.command("timeout");
    command.args(["-k", "1", LONGEST, "gst-launch-1.0", "-q", "--no-fault"]).args(text.split_whitespace());
    let done = tools::run(&mut command);
    assert_ne!(done.status.code(), Some(124), "{text}: still running after {LONGEST} s");
    done
}

/// Runs it to its end, which must be a good one.
fn run_well(double: &Double, text: &str) {
    let done = run(double, text);
    let said = complaint(&done);
    assert!(done.status.success() && said.is_empty(), "{text}: {} {said}", done.status);
}

fn complaint(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// A pipeline that goes on until it is killed. Dropping it kills it.
struct Running(Child);

impl Running {
    fn start(double: &Double, text: &str) -> Self {
        let mut command = pipeline(double, text);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|e| tools::missing("gst-launch-1.0", &e)))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// By SIGKILL, and waits for it.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// So many pictures of a test pattern in system memory.
fn pattern(pictures: u32, width: u32, height: u32, pattern: &str) -> String {
    format!(
        "videotestsrc num-buffers={pictures} pattern={pattern} ! video/x-raw,format=NV12,width={width},height={height},framerate=30/1"
    )
}

/// One that goes on at its own pace.
fn live(width: u32, height: u32) -> String {
    format!("videotestsrc is-live=true ! video/x-raw,format=NV12,width={width},height={height},framerate=30/1")
}

/// Of a stream's pictures in decode order, whether each is a key frame.
fn key_frames(file: &Path) -> Vec<usize> {
    pictures(file).iter().enumerate().filter(|(_, key)| **key).map(|(n, _)| n).collect()
}

fn pictures(file: &Path) -> Vec<bool> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=flags", "-of", "csv=p=0", tools::text(file)]);
    let done = tools::run(&mut command);
    assert!(done.status.success(), "{}", complaint(&done));
    String::from_utf8_lossy(&done.stdout).lines().filter(|l| !l.is_empty()).map(|l| l.starts_with('K')).collect()
}
