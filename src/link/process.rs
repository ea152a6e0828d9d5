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
}

/// Deadline for the first message of a process: loading GStreamer's plugins cold takes about a second on a busy machine.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

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
                let _ = request.reply.send(start(&request.options));
            }
        })?;
        Ok(Self { requests, options })
    }

    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn spawn(&self) -> Result<Process, Error> {
        let (reply, answer) = oneshot::channel();
        let gone =
            || Error::Start { program: self.options.program.clone(), source: io::Error::other("spawner thread is gone") };
        self.requests.send(Request { options: self.options.clone(), reply }).map_err(|_| gone())?;
        let started = answer.await.map_err(|_| gone())??;
        Process::attend(started, self.options.memory_limit).await
    }
}

fn start(options: &Options) -> Result<Started, Error> {
    let failed = |source| Error::Start { program: options.program.clone(), source };
    let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let mut command = Command::new(&options.program);
    command.env_clear().envs(environment::allowed());
    if let Some(registry) = &options.registry {
        // Written once at the worker's start: processes that start together must not all scan all plugins (rules.md 25).
        command.env("GST_REGISTRY", registry).env("GST_REGISTRY_UPDATE", "no");
    }
    command
        // Ctrl-C in a terminal goes to the whole process group: the supervisor ends its streams first, and for that needs the encoders.
        .process_group(0)
        .env("WEIR_CODEC_PARENT", std::process::id().to_string())
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
    _end: EndOnDrop,
}

#[derive(Debug)]
struct EndOnDrop(Arc<Mutex<Option<Child>>>);

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
    async fn attend(started: Started, memory_limit: u64) -> Result<Self, Error> {
        let Started { mut child, socket } = started;
        let pid = child.id();
        let stderr = child.stderr.take();
        let end = EndOnDrop(Arc::new(Mutex::new(Some(child))));
        let failed = |reason: String| Error::Hello { pid, reason };
        let socket = UnixStream::from_std(socket).map_err(|e| failed(e.to_string()))?;
        if let Some(stderr) = stderr.and_then(|s| tokio::process::ChildStderr::from_std(s).ok()) {
            tokio::spawn(pass_on_log(stderr, pid));
        }
        let (read, write) = socket.into_split();
        let (frames, inbox) = mpsc::channel(QUEUE);
        let (outbox, mut events) = mpsc::channel(EVENTS);
        tokio::spawn(write_frames(write, inbox));
        tokio::spawn(read_events(read, outbox, pid, memory_limit));
        let hello = ToCodec::Hello { version: VERSION };
        frames.try_send(frame(&hello, &[]).map_err(|e| failed(e.to_string()))?).map_err(|e| failed(e.to_string()))?;
        let first = tokio::time::timeout(HELLO_DEADLINE, events.recv()).await;
        match first {
            Ok(Some(Event::Message(FromCodec::Hello { version: VERSION, gstreamer }, _))) => {
                Ok(Self { pid, gstreamer, frames, events, _end: end })
            }
            Ok(Some(Event::Message(other, _))) => Err(failed(format!("unexpected first message {other:?}"))),
            Ok(Some(Event::Gone(reason))) => Err(failed(reason)),
            Ok(None) => Err(failed("gone".into())),
            Err(_) => Err(failed("no hello within 10 s".into())),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The GStreamer that it runs on.
    pub fn gstreamer(&self) -> &str {
        &self.gstreamer
    }

    /// It still reads what is sent.
    pub fn is_alive(&self) -> bool {
        !self.frames.is_closed() && self.events.is_empty() && !self.events.is_closed()
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

    /// What it says next. Cancel-safe.
    pub async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Gone("link closed".into()))
    }
}

fn frame(message: &ToCodec, payload: &[u8]) -> Result<BytesMut, wire::WireError> {
    let mut out = BytesMut::new();
    wire::encode(message, payload, &mut out)?;
    Ok(out)
}

async fn write_frames(mut write: OwnedWriteHalf, mut inbox: mpsc::Receiver<BytesMut>) {
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
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

async fn pass_on_log(stderr: tokio::process::ChildStderr, pid: u32) {
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
