//! Programs that are not ours. One that is missing fails the test by the name of its Debian package.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn package(program: &str) -> &str {
    match program {
        "ffmpeg" | "ffprobe" => "ffmpeg",
        "node" => "nodejs",
        "readelf" => "binutils",
        "srt-live-transmit" => "srt-tools",
        "gst-launch-1.0" => "gstreamer1.0-tools",
        other => other,
    }
}

/// The error of a program that could not be started, as a test's failure.
pub fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("{program} is needed by this test (Debian package {}): {error}", package(program))
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| missing(&program, &e))
}

/// Runs ffmpeg, which must have nothing to say, and gives what it wrote to standard output.
pub fn ffmpeg<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-y"]).args(arguments);
    let done = run(&mut command);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.trim().is_empty(), "{command:?}: {} {said}", done.status);
    done.stdout
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}
