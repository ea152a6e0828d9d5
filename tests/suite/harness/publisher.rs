//! ffmpeg as a streamer: a clip in real time over RTMP.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use super::worker::Worker;
use super::{tools, until};

/// A push under way. Dropped, it is killed.
pub struct Publisher {
    child: Child,
    said: Option<JoinHandle<String>>,
    /// When ffmpeg was started.
    pub started: Instant,
}

impl Publisher {
    /// Pushes the file as it is.
    pub fn start(clip: &Path, worker: &Worker, key: &str) -> Self {
        Self::of(&[clip], &["-c", "copy"], worker, key)
    }

    /// Pushes what ffmpeg makes of these files by these options.
    pub fn of(files: &[&Path], options: &[&str], worker: &Worker, key: &str) -> Self {
        let inputs: Vec<&str> = files.iter().flat_map(|file| ["-re", "-i", tools::text(file)]).collect();
        Self::run(&inputs, options, worker, key)
    }

    /// Pushes what ffmpeg reads and makes by these arguments.
    pub fn run(inputs: &[&str], options: &[&str], worker: &Worker, key: &str) -> Self {
        Self::run_to(inputs, options, &worker.publish_url(key))
    }

    /// The same to any address.
    pub fn run_to(inputs: &[&str], options: &[&str], url: &str) -> Self {
        let started = Instant::now();
        let mut child = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-v", "warning"])
            .args(inputs)
            .args(options)
            .args(["-f", "flv", "-flvflags", "no_duration_filesize"])
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| tools::missing("ffmpeg", &e));
        let mut stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, said: Some(said), started }
    }

    /// Unpublishes as a streamer who stops.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Waits until ffmpeg has ended: its status and what it said.
    pub fn outcome(&mut self) -> (ExitStatus, String) {
        let status = until("the publisher's end", || self.child.try_wait().unwrap());
        (status, self.said.take().map(|s| s.join().unwrap()).unwrap_or_default())
    }

    /// Waits until all is sent; the connection must have held.
    pub fn finish(mut self) {
        let (status, said) = self.outcome();
        assert!(status.success() && said.is_empty(), "ffmpeg: {status} {said}");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
