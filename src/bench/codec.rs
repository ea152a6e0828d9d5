//! A codec process as the worker starts it, spoken to by plain threads.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use weir::link::bench::{Answer, Job};
use weir::link::process::{Options, PARENT_VARIABLE};
use weir::link::wire::{self, Encoder, FromCodec, ToCodec};

/// Codec processes are given as long by a worker (`codec.start_deadline`), and nothing that follows may take longer.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What a measurement may take beside its own time: the process gives its encoders 20 s to begin and as long to end, and loads its plugins first.
const ANSWER: Duration = Duration::from_secs(60);

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
    /// Lines of its standard output: a pipe has no deadlines of its own.
    answers: Receiver<std::io::Result<String>>,
}

impl Measuring {
    pub fn start(setting: &Setting) -> Result<Self, String> {
        let mut command = setting.command();
        command.arg("--bench");
        Self::of(command)
    }

    fn of(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", command.get_program().display()))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(jobs), Some(answers)) => Ok(Self { child, jobs, answers: lines(answers) }),
            _ => Err("a process without pipes".into()),
        }
    }

    /// Pictures per second.
    ///
    /// # Errors
    /// In words: no measurement, or none within the job's own time and [`ANSWER`] more. After an error this process is not to be asked again.
    pub fn run(&mut self, job: Job) -> Result<f64, String> {
        self.within(job, Duration::from_millis(job.millis.into()) + ANSWER)
    }

    fn within(&mut self, job: Job, deadline: Duration) -> Result<f64, String> {
        let line = serde_json::to_string(&job).map_err(|e| e.to_string())?;
        writeln!(self.jobs, "{line}").map_err(|e| format!("the measuring process is gone: {e}"))?;
        let answer = match self.answers.recv_timeout(deadline) {
            Ok(answer) => answer.map_err(|e| e.to_string())?,
            Err(RecvTimeoutError::Timeout) => {
                // It may hang in the driver: the next job gets a process of its own.
                let _ = self.child.kill();
                return Err(format!("the measuring process gave no answer within {} s", deadline.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("the measuring process ended; its log says why".into()),
        };
        match serde_json::from_str(&answer) {
            Ok(Answer::Done { pictures, micros }) => Ok(pictures as f64 * 1e6 / micros.max(1) as f64),
            Ok(Answer::Failed(reason)) => Err(reason),
            Err(_) => Err(format!("the measuring process answered {answer:?}")),
        }
    }
}

/// The lines of a process, each as it comes; the end of the process is the end of them.
fn lines(output: ChildStdout) -> Receiver<std::io::Result<String>> {
    // One answer for each job, and one job at a time.
    let (found, lines) = sync_channel(1);
    std::thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| found.send(line)));
    lines
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // As above.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Job = Job { preset: 1, sessions: 1, width: 320, height: 180, millis: 0 };

    fn shell(script: &str) -> Measuring {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Measuring::of(command).expect("a shell")
    }

    #[test]
    fn an_answer_is_pictures_per_second_and_a_failure_its_reason() {
        let mut measuring = shell(
            r#"read job; echo '{"done":{"pictures":50,"micros":500000}}'; read job; echo '{"failed":"no session"}'; read job"#,
        );
        assert_eq!(measuring.within(JOB, DEADLINE), Ok(100.0));
        assert_eq!(measuring.within(JOB, DEADLINE), Err("no session".into()));
    }

    #[test]
    fn a_process_that_hangs_ends_at_the_deadline_and_is_killed() {
        let mut measuring = shell("read job; exec sleep 3600");
        let said = measuring.within(JOB, Duration::from_secs(1));
        assert_eq!(said, Err("the measuring process gave no answer within 1 s".into()));
        assert!(!measuring.child.wait().expect("a child").success());
    }

    #[test]
    fn a_process_that_ends_is_told_from_one_that_hangs() {
        let said = shell("read job; exit 1").within(JOB, DEADLINE);
        assert_eq!(said, Err("the measuring process ended; its log says why".into()));
    }
}
