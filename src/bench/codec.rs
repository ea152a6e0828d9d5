//! A codec process as the worker starts it, spoken to by plain threads.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use weir::link::bench::{Answer, Job};
use weir::link::process::{Options, PARENT_VARIABLE};
use weir::link::wire::{self, Encoder, FromCodec, ToCodec};

/// Codec processes are given as long by a worker (`codec.start_deadline`), and nothing that follows may take longer.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often it is looked whether a process is gone.
const LOOK: Duration = Duration::from_millis(20);

/// How processes are started: as the worker does it.
#[derive(Debug, Clone)]
pub struct Setting {
    pub options: Options,
    /// CUDA's name of the device.
    pub device: String,
    /// Over what the worker's processes see.
    pub environment: Vec<(OsString, OsString)>,
    pub encoder: Encoder,
}

impl Setting {
    /// The thread that runs it must live as long as the process should: its end kills the process.
    pub fn command(&self) -> Command {
        let mut command = self.options.command(Some(&self.device));
        // The survey has written the registry.
        command.env("GST_REGISTRY_UPDATE", "no").envs(self.environment.iter().cloned());
        command
    }

    /// Under another program, which is its parent then.
    pub fn command_under(&self, wrapper: &OsString, arguments: &[OsString]) -> Command {
        let inner = self.command();
        let seen = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut command = Command::new(wrapper);
        command.args(arguments).arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(seen.filter(|(name, _)| *name != PARENT_VARIABLE));
        command
    }
}

/// A running process. Dropping it kills it, as the worker does.
pub struct Codec {
    child: Child,
    socket: UnixStream,
    input: BytesMut,
    started: Instant,
}

impl Codec {
    pub fn start(mut command: Command) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start a codec process: {e}");
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
        ours.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
        let started = Instant::now();
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn().map_err(failed)?;
        Ok(Self { child, socket: ours, input: BytesMut::new(), started })
    }

    /// Waits until it is ready; the time since its start.
    pub fn greet(&mut self) -> Result<Duration, String> {
        self.send(&ToCodec::Hello { version: wire::VERSION }, &[])?;
        match self.receive()?.0 {
            FromCodec::Hello { .. } => Ok(self.started.elapsed()),
            FromCodec::Unable { reason } => Err(reason),
            other => Err(format!("a codec process began with {other:?}")),
        }
    }

    pub fn send(&mut self, message: &ToCodec, payload: &[u8]) -> Result<(), String> {
        let mut frame = BytesMut::new();
        wire::encode(message, payload, &mut frame).map_err(|e| e.to_string())?;
        self.socket.write_all(&frame).map_err(|e| format!("a codec process does not read: {e}"))
    }

    pub fn receive(&mut self) -> Result<(FromCodec, Bytes), String> {
        loop {
            if let Some(found) = wire::decode(&mut self.input).map_err(|e| e.to_string())? {
                return Ok(found);
            }
            let mut chunk = [0; 65536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err("a codec process is gone".into()),
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                // With a time limit a signal ends the call (signal(7)).
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("a codec process says nothing: {e}")),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Another handle of its link, for a thread.
    pub fn link(&self) -> Result<UnixStream, String> {
        self.socket.try_clone().map_err(|e| e.to_string())
    }

    /// Closes the link and waits for the process's own end.
    pub fn finish(mut self) -> Result<(), String> {
        let _ = self.socket.shutdown(Shutdown::Both);
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(LOOK),
                Ok(Some(_)) => return Ok(()),
                Err(e) => return Err(e.to_string()),
            }
        }
        Err(format!("a codec process does not end within {} s", DEADLINE.as_secs()))
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        // It is gone, or a child that nobody has waited for: neither can fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that measures encoders.
pub struct Measuring {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Measuring {
    pub fn start(setting: &Setting) -> Result<Self, String> {
        let mut command = setting.command();
        command.arg("--bench").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", setting.options.program.display()))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(jobs), Some(answers)) => Ok(Self { child, jobs, answers: BufReader::new(answers) }),
            _ => Err("a process without pipes".into()),
        }
    }

    /// Pictures per second. The process has its own deadlines.
    pub fn run(&mut self, job: Job) -> Result<f64, String> {
        let line = serde_json::to_string(&job).map_err(|e| e.to_string())?;
        writeln!(self.jobs, "{line}").map_err(|e| format!("the measuring process is gone: {e}"))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(|e| e.to_string())?;
        match serde_json::from_str(&answer) {
            Ok(Answer::Done { pictures, micros }) => Ok(pictures as f64 * 1e6 / micros.max(1) as f64),
            Ok(Answer::Failed(reason)) => Err(reason),
            Err(_) => Err("the measuring process ended; its log says why".into()),
        }
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // As above.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
