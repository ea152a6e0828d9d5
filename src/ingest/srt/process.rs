//! The SRT process as the supervisor sees it: started from one long-lived thread with the UDP socket, spoken to over a socket pair, not trusted.

use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use super::PARENT_VARIABLE;
use super::error::StartError;
use super::options::SrtListener;
use super::wire::{self, FromSrt, ToSrt, VERSION};
use crate::link::environment;
use crate::link::process::{EndOnDrop, pass_on_log, resident_bytes, write_frames};

/// Deadline for its first message: it loads two libraries and makes a socket.
const START: Duration = Duration::from_secs(10);

/// It says each second that it lives. Five seconds without a word are a hang, and as long as libsrt's callers wait for it.
const SILENCE: Duration = Duration::from_secs(5);

/// How often resident memory is read.
const MEMORY_WATCH: Duration = Duration::from_secs(1);

/// Messages that wait for it to read: credits of 256 callers that all move, four each. More means that it does not read.
const QUEUE: usize = 1024;

/// One read: a frame of media and a bit.
const READ: usize = 128 << 10;

struct Order {
    udp: OwnedFd,
    reply: oneshot::Sender<io::Result<(Child, StdUnixStream)>>,
}

/// Starts processes from one thread that lives as long as the listener: a process asks to be killed with the *thread* that started it.
#[derive(Debug)]
pub(super) struct Spawner {
    program: PathBuf,
    orders: std_mpsc::Sender<Order>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl Spawner {
    pub(super) fn new(program: PathBuf) -> io::Result<Self> {
        let (orders, inbox) = std_mpsc::channel::<Order>();
        let started = program.clone();
        std::thread::Builder::new().name("srt-spawner".into()).spawn(move || {
            while let Ok(order) = inbox.recv() {
                // Nobody waits any more: the child is ended by its link, which closes.
                let _ = order.reply.send(start(&started, order.udp));
            }
        })?;
        Ok(Self { program, orders })
    }

    /// A process that listens on the socket.
    pub(super) async fn start(&self, udp: &UdpSocket, settings: &SrtListener) -> Result<Process, StartError> {
        let failed = |source| StartError::Start { program: self.program.clone(), source };
        let (reply, answer) = oneshot::channel();
        let udp = udp.try_clone().map_err(failed)?.into();
        let gone = || failed(io::Error::other("spawner thread is gone"));
        self.orders.send(Order { udp, reply }).map_err(|_| gone())?;
        let (child, socket) = answer.await.map_err(|_| gone())?.map_err(failed)?;
        let attended = Process::attend(child, socket, settings).await;
        attended.map_err(|reason| StartError::Hello { program: self.program.clone(), reason })
    }
}

fn start(program: &PathBuf, udp: OwnedFd) -> io::Result<(Child, StdUnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = Command::new(program)
        .env_clear()
        .envs(environment::allowed())
        .env(PARENT_VARIABLE, std::process::id().to_string())
        // Ctrl-C in a terminal goes to the whole process group, and streams are ended in order.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(udp))
        .stderr(Stdio::piped())
        .spawn()?;
    Ok((child, ours))
}

/// The way to the process. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Link(mpsc::Sender<BytesMut>);

impl Link {
    /// Waits for room. `false` when the process is gone.
    pub(super) async fn send(&self, message: &ToSrt) -> bool {
        match frame(message, &[]) {
            Some(frame) => self.0.send(frame).await.is_ok(),
            None => false,
        }
    }

    /// Never waits. `false` when the process is gone, or does not read.
    pub(super) fn try_send(&self, message: &ToSrt, payload: &[u8]) -> bool {
        frame(message, payload).is_some_and(|frame| self.0.try_send(frame).is_ok())
    }
}

fn frame(message: &ToSrt, payload: &[u8]) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    wire::encode(message, payload, &mut out).ok().map(|()| out)
}

/// A running process. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    libsrt: u32,
    link: Link,
    read: OwnedReadHalf,
    buffer: BytesMut,
    memory: u64,
    end: EndOnDrop,
}

impl Process {
    async fn attend(mut child: Child, socket: StdUnixStream, settings: &SrtListener) -> Result<Self, String> {
        let pid = child.id();
        let stderr = child.stderr.take();
        let end = EndOnDrop::new(child);
        let socket = UnixStream::from_std(socket).map_err(|e| e.to_string())?;
        if let Some(stderr) = stderr.and_then(|s| tokio::process::ChildStderr::from_std(s).ok()) {
            tokio::spawn(pass_on_log(stderr, pid));
        }
        let (read, write) = socket.into_split();
        let (frames, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(write_frames(write, inbox));
        let link = Link(frames);
        let hello = ToSrt::Hello { version: VERSION, listener: settings.listener() };
        let mut process =
            Self { pid, libsrt: 0, link, read, buffer: BytesMut::with_capacity(READ), memory: settings.memory(), end };
        if !process.link.try_send(&hello, &[]) {
            return Err("gone".into());
        }
        match tokio::time::timeout(START, process.next()).await {
            Ok(Ok((FromSrt::Hello { version: VERSION, libsrt }, _))) => {
                process.libsrt = libsrt;
                Ok(process)
            }
            Ok(Ok((FromSrt::Unable { reason }, _))) => Err(reason),
            Ok(Ok((other, _))) => Err(format!("unexpected first message {other:?}")),
            // The loader's complaint about a missing library stands in the log.
            Ok(Err(reason)) => Err(format!("{reason} (is libsrt1.5-gnutls installed?)")),
            Err(_) => Err(format!("no hello within {} s", START.as_secs())),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// `1.5.1`.
    pub(super) fn libsrt(&self) -> String {
        format!("{}.{}.{}", self.libsrt >> 16 & 0xff, self.libsrt >> 8 & 0xff, self.libsrt & 0xff)
    }

    /// The way to it.
    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    /// Ends it now, whatever it does.
    pub(super) fn kill(&self) {
        self.end.kill();
    }

    /// Its next message. Safe to cancel.
    ///
    /// # Errors
    /// Why there will be none: it ended, hangs, broke the protocol, or uses too much memory.
    pub(super) async fn next(&mut self) -> Result<(FromSrt, Bytes), String> {
        loop {
            match wire::decode(&mut self.buffer) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(e) => return Err(format!("broke the protocol: {e}")),
            }
            self.buffer.reserve(READ);
            match tokio::time::timeout(SILENCE, self.read.read_buf(&mut self.buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => return Err("process ended".into()),
                // It died with messages of ours unread (unix(7)).
                Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset => return Err("process ended".into()),
                Ok(Err(e)) => return Err(e.to_string()),
                Err(_) => return Err(format!("silent for {} s", SILENCE.as_secs())),
            }
        }
    }

    /// Waits until it uses too much memory.
    pub(super) async fn overgrown(pid: u32, limit: u64) -> String {
        let mut watch = tokio::time::interval(MEMORY_WATCH);
        loop {
            watch.tick().await;
            if let Some(bytes) = resident_bytes(pid).filter(|b| *b > limit) {
                return format!("uses {} MiB of memory, {} are allowed", bytes >> 20, limit >> 20);
            }
        }
    }

    /// Resident bytes over which it is ended.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }
}
