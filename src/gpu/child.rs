//! The watcher process: started without our environment, read line by line with a deadline, ended for certain.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Error, Options};
use crate::link::environment;
use crate::logic::gpu::Line;

/// Longest line: a survey of 64 devices with 60 capabilities each comes to about 100 KiB.
const MAX_LINE: u64 = 1 << 20;

/// Lines that wait for us; the process waits with the next one.
const LINES: usize = 16;

/// How often it is looked whether a killed process is gone.
const REAP_EVERY: Duration = Duration::from_millis(20);

/// A running watcher process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<Result<Line, String>>,
    step: Option<String>,
}

impl Running {
    /// Starts it. The thread that calls this must live as long as the process should: its end kills the process (`PR_SET_PDEATHSIG`).
    pub fn start(options: &Options, once: bool, variable: Option<(&str, &str)>) -> Result<Self, Error> {
        let failed = |source| Error::Start { program: options.program.clone(), source };
        let mut command = Command::new(&options.program);
        command
            .arg("gpu-watch")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .env_clear()
            .envs(environment::allowed())
            // NVML counts in this order always, CUDA by default counts the fastest first.
            .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
            .envs(variable)
            // Ctrl-C in a terminal goes to the whole process group, and it is ours to end it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if once {
            command.arg("--once");
        } else {
            command.arg("--interval-ms").arg(options.interval.as_millis().to_string());
        }
        let mut child = command.spawn().map_err(failed)?;
        let (sender, lines) = sync_channel(LINES);
        if let Some(output) = child.stdout.take() {
            let reading = std::thread::Builder::new().name("gpu-lines".into()).spawn(move || read(output, &sender));
            if let Err(e) = reading {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(e));
            }
        }
        Ok(Self { child, lines, step: None })
    }

    /// The next line that is no step, within the deadline.
    pub fn line(&mut self, deadline: Duration) -> Result<Line, Error> {
        let end = Instant::now() + deadline;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Ok(Line::Step(step))) => self.step = Some(step),
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(garbage)) => return Err(Error::Garbage(garbage)),
                Err(RecvTimeoutError::Timeout) => return Err(Error::Silent { deadline, step: self.step.clone() }),
                Err(RecvTimeoutError::Disconnected) => {
                    let step = self.step.clone();
                    return Err(Error::Ended { status: self.end(deadline).unwrap_or_else(|| "it does not end".into()), step });
                }
            }
        }
    }

    /// Kills it and waits until it is gone, but no longer than this: a process inside a driver that hangs may not even be killed. `None` then.
    pub fn end(&mut self, deadline: Duration) -> Option<String> {
        // It fails only for a process that was waited for already.
        let _ = self.child.kill();
        let end = Instant::now() + deadline;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) if Instant::now() < end => std::thread::sleep(REAP_EVERY),
                Ok(None) => return None,
                Err(e) => return Some(e.to_string()),
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // What cannot be reaped now is reaped by the system when this program ends.
        let _ = self.child.try_wait();
    }
}

/// Ends with the process, or when nobody listens.
fn read(output: ChildStdout, lines: &SyncSender<Result<Line, String>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut text = String::new();
        let line = match (&mut output).take(MAX_LINE).read_line(&mut text) {
            Ok(0) => return,
            Ok(_) => {
                serde_json::from_str(&text).map_err(|e| format!("{e} in {:?}", text.chars().take(200).collect::<String>()))
            }
            Err(e) => Err(e.to_string()),
        };
        let last = line.is_err();
        if lines.send(line).is_err() || last {
            return;
        }
    }
}
