//! Codec processes as the supervisor sees them: started from one long-lived thread, spoken to over a socket pair, not trusted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};

use super::environment;
use super::wire::{self, FromCodec, ToCodec, VERSION};

/// Why there is no codec process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot encode on its device.
    #[error("codec process {pid} cannot encode: {reason}")]
    Unable {
        /// Its process id.
        pid: u32,
        /// What it said.
        reason: String,
    },
    /// None of the GPUs works.
    #[error("no GPU can be used")]
    NoDevice,
    /// It was gone before it got its stream.
    #[error("the codec process ended as soon as it was there")]
    Left,
    /// It did not answer, or with the wrong version.
    #[error("codec process {pid}: {reason}")]
    Hello {
        /// Its process id.
        pid: u32,
        /// What happened.
        reason: String,
    },
}

/// How codec processes are started and what they may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program, `weir-codec`.
    pub program: PathBuf,
    /// Where GStreamer's registry lies; written once at start.
    pub registry: Option<PathBuf>,
    /// Resident bytes over which a process is ended.
    pub memory_limit: u64,
    /// Deadline for its first message. Loading GStreamer's plugins cold takes about a second on a busy machine, opening a GPU several.
    pub start_deadline: Duration,
    /// Made ready for a GPU of NVIDIA's.
    pub gpu: bool,
    /// Files and folders that a GPU's driver needs besides its usual ones.
    pub device_paths: Vec<PathBuf>,
}

/// By what a codec process knows whom it must not outlive.
pub const PARENT_VARIABLE: &str = "WEIR_CODEC_PARENT";

impl Options {
    /// The command that starts one, its standard streams aside. It sees this `device` only, by CUDA's name for it; `None`: whatever this process sees.
    /// The process dies with the thread that runs the command.
    pub fn command(&self, device: Option<&str>) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(environment::allowed());
        if let Some(registry) = &self.registry {
            // Written once at the worker's start: processes that start together must not all scan all plugins (rules.md 25).
            command.env("GST_REGISTRY", registry).env("GST_REGISTRY_UPDATE", "no");
        }
        if self.gpu {
            command.args(["--encoder", "nvidia"]);
            for path in &self.device_paths {
                command.arg("--device-path").arg(path);
            }
            if let Some(device) = device {
                command.env("CUDA_VISIBLE_DEVICES", device);
            }
        }
        command.env(PARENT_VARIABLE, std::process::id().to_string());
        command
    }
}

/// Frames that wait for a process to read them: 15 s of 60 fps video with audio at 48 kHz. More means that it does not keep up.
const QUEUE: usize = 1600;

/// Events that wait for the session.
const EVENTS: usize = 256;

/// How often resident memory is read.
const MEMORY_WATCH: Duration = Duration::from_secs(1);

/// Longest line of its log that is passed on.
const MAX_LINE: usize = 500;

struct Request {
    options: Options,
    device: Option<Arc<str>>,
    reply: oneshot::Sender<Result<Started, Error>>,
}

struct Started {
    child: Child,
    socket: StdUnixStream,
}

/// Starts processes from one thread that lives as long as the worker: a process asks to be killed with its parent, and for the kernel that is the
/// *thread* that started it (`PR_SET_PDEATHSIG`).
#[derive(Debug, Clone)]
pub struct Spawner {
    requests: std_mpsc::Sender<Request>,
    options: Options,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread for us.
    pub fn new(options: Options) -> io::Result<Self> {
        let (requests, inbox) = std_mpsc::channel::<Request>();
        std::thread::Builder::new().name("codec-spawner".into()).spawn(move || {
            while let Ok(request) = inbox.recv() {
                let _ = request.reply.send(start(&request.options, request.device.as_deref()));
            }
        })?;
        Ok(Self { requests, options })
    }

    /// Starts a process and waits until it is ready. It sees this `device` only, by CUDA's name for it; `None`: whatever this process sees.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn spawn(&self, device: Option<Arc<str>>) -> Result<Process, Error> {
        let (reply, answer) = oneshot::channel();
        let gone =
            || Error::Start { program: self.options.program.clone(), source: io::Error::other("spawner thread is gone") };
        self.requests.send(Request { options: self.options.clone(), device, reply }).map_err(|_| gone())?;
        let started = answer.await.map_err(|_| gone())??;
        Process::attend(started, &self.options).await
    }
}

fn start(options: &Options, device: Option<&str>) -> Result<Started, Error> {
    let failed = |source| Error::Start { program: options.program.clone(), source };
    let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let mut command = options.command(device);
    command
        // Ctrl-C in a terminal goes to the whole process group: the supervisor ends its streams first, and for that needs the encoders.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(failed)?;
    Ok(Started { child, socket: ours })
}

/// What a process said, or that it is gone.
#[derive(Debug)]
pub enum Event {
    /// A message and its payload.
    Message(FromCodec, Bytes),
    /// It is gone; nothing follows.
    Gone(String),
}

/// A running codec process. Dropping it ends the process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    gstreamer: String,
    frames: mpsc::Sender<BytesMut>,
    events: mpsc::Receiver<Event>,
    end: EndOnDrop,
}

/// A child that is ended and reaped when this is dropped.
#[derive(Debug)]
pub(crate) struct EndOnDrop(Mutex<Option<Child>>);

impl EndOnDrop {
    pub(crate) fn new(child: Child) -> Self {
        Self(Mutex::new(Some(child)))
    }

    pub(crate) fn kill(&self) {
        if let Some(child) = &mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            // It is a child of ours that nobody waited for: this cannot fail.
            let _ = child.kill();
        }
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let child = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // The kill is certain and the wait is short: the zombie must not stay. Neither may fail for a child of ours that nobody waited for.
            let _ = child.kill();
            let mut reap = move || {
                let _ = child.wait();
            };
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    runtime.spawn_blocking(reap);
                }
                Err(_) => reap(),
            }
        }
    }
}

impl Process {
    async fn attend(started: Started, options: &Options) -> Result<Self, Error> {
        let Started { mut child, socket } = started;
        let pid = child.id();
        let stderr = child.stderr.take();
        let end = EndOnDrop::new(child);
        let failed = |reason: String| Error::Hello { pid, reason };
        let socket = UnixStream::from_std(socket).map_err(|e| failed(e.to_string()))?;
        if let Some(stderr) = stderr.and_then(|s| tokio::process::ChildStderr::from_std(s).ok()) {
            tokio::spawn(pass_on_log(stderr, pid));
        }
        let (read, write) = socket.into_split();
        let (frames, inbox) = mpsc::channel(QUEUE);
        let (outbox, mut events) = mpsc::channel(EVENTS);
        tokio::spawn(write_frames(write, inbox));
        tokio::spawn(read_events(read, outbox, pid, options.memory_limit));
        let hello = ToCodec::Hello { version: VERSION };
        frames.try_send(frame(&hello, &[]).map_err(|e| failed(e.to_string()))?).map_err(|e| failed(e.to_string()))?;
        let first = tokio::time::timeout(options.start_deadline, events.recv()).await;
        match first {
            Ok(Some(Event::Message(FromCodec::Hello { version: VERSION, gstreamer }, _))) => {
                Ok(Self { pid, gstreamer, frames, events, end })
            }
            Ok(Some(Event::Message(FromCodec::Unable { reason }, _))) => Err(Error::Unable { pid, reason }),
            Ok(Some(Event::Message(other, _))) => Err(failed(format!("unexpected first message {other:?}"))),
            Ok(Some(Event::Gone(reason))) => Err(failed(reason)),
            Ok(None) => Err(failed("gone".into())),
            Err(_) => Err(failed(format!("no hello within {} s", options.start_deadline.as_secs()))),
        }
    }

    /// Parts what is sent to it from what it says.
    pub fn split(self) -> (Link, Events) {
        let Self { pid, gstreamer, frames, events, end } = self;
        (Link { pid, gstreamer, frames, end }, Events(events))
    }
}

/// What a process says.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// Cancel-safe.
    pub async fn next(&mut self) -> Event {
        self.0.recv().await.unwrap_or_else(|| Event::Gone("link closed".into()))
    }
}

/// The way to a process. Dropping it ends the process.
#[derive(Debug)]
pub struct Link {
    pid: u32,
    gstreamer: String,
    frames: mpsc::Sender<BytesMut>,
    end: EndOnDrop,
}

impl Link {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The GStreamer that it runs on.
    pub fn gstreamer(&self) -> &str {
        &self.gstreamer
    }

    /// It still reads what is sent.
    pub fn is_open(&self) -> bool {
        !self.frames.is_closed()
    }

    /// Ends it now, whatever it does.
    pub fn kill(&self) {
        self.end.kill();
    }

    /// Queues a message; never waits.
    ///
    /// # Errors
    /// A text for the log when the process does not keep up, or is gone.
    pub fn send(&self, message: &ToCodec, payload: &[u8]) -> Result<(), String> {
        let frame = frame(message, payload).map_err(|e| e.to_string())?;
        self.frames.try_send(frame).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => format!("does not keep up: {QUEUE} messages wait for it"),
            mpsc::error::TrySendError::Closed(_) => "does not read any more".into(),
        })
    }
}

fn frame(message: &ToCodec, payload: &[u8]) -> Result<BytesMut, wire::WireError> {
    let mut out = BytesMut::new();
    wire::encode(message, payload, &mut out)?;
    Ok(out)
}

/// Writes frames until the other side is gone.
pub(crate) async fn write_frames(mut write: OwnedWriteHalf, mut inbox: mpsc::Receiver<BytesMut>) {
    while let Some(frame) = inbox.recv().await {
        if write.write_all(&frame).await.is_err() {
            // The reader sees the end of the link and tells the session.
            return;
        }
    }
}

async fn read_events(mut read: tokio::net::unix::OwnedReadHalf, outbox: mpsc::Sender<Event>, pid: u32, memory_limit: u64) {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut waiting = VecDeque::new();
    let mut watch = tokio::time::interval(MEMORY_WATCH);
    let reason = loop {
        while let Some(event) = waiting.pop_front() {
            if outbox.send(event).await.is_err() {
                return;
            }
        }
        tokio::select! {
            got = read.read_buf(&mut buffer) => match got {
                Ok(0) => break "process ended".to_owned(),
                Ok(_) => loop {
                    match wire::decode::<FromCodec>(&mut buffer) {
                        Ok(Some((message, payload))) => waiting.push_back(Event::Message(message, payload)),
                        Ok(None) => break,
                        Err(e) => {
                            waiting.push_back(Event::Gone(format!("broke the protocol: {e}")));
                            break;
                        }
                    }
                },
                // It died with messages of ours unread (unix(7)).
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break "process ended".to_owned(),
                Err(e) => break e.to_string(),
            },
            _ = watch.tick() => {
                if let Some(bytes) = resident_bytes(pid).filter(|b| *b > memory_limit) {
                    break format!("uses {} MiB of memory, {} are allowed", bytes >> 20, memory_limit >> 20);
                }
            }
        }
        if matches!(waiting.back(), Some(Event::Gone(_))) {
            while let Some(event) = waiting.pop_front() {
                let _ = outbox.send(event).await;
            }
            return;
        }
    };
    let _ = outbox.send(Event::Gone(reason)).await;
}

/// Resident set size by `/proc/PID/statm` (proc(5): second field, pages of 4096 bytes on every platform that Weir is built for).
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Its lines, into our log.
pub(crate) async fn pass_on_log(stderr: tokio::process::ChildStderr, pid: u32) {
    // A line without end must not fill our memory: read at most so much of it.
    let mut lines = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(MAX_LINE as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text: String = String::from_utf8_lossy(&line).trim_end().chars().filter(|c| !c.is_control()).collect();
                if !text.is_empty() {
                    tracing::info!(pid, "{text}");
                }
            }
        }
    }
}
