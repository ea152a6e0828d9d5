//! The SRT ingest: a listener in this process with a real `weir-srt`, and callers that are not ours: ffmpeg, srt-live-transmit, GStreamer, datagrams made by hand.

mod callers;
mod hostile;
mod loss;
mod process;
mod relay;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir::ingest::auth::{Asked, Denied, Granted, Known};
use weir::ingest::rtmp::Limits;
use weir::ingest::srt::{Cause, Judge, Parts, Server, SrtListener, Stats};
use weir::ingest::{Line, Packet, Request, Verdict};
use weir::logic::srt::Numbers;
use weir::secret::Secret;

use crate::harness::clip::{Clip, SMALL};
use crate::harness::{GUARD, tools, until};

/// Six seconds, as MPEG-TS of about 1,500 SRT packets.
const CLIP: Clip = Clip { kbps: 2000, ..SMALL };

/// The clip as MPEG-TS.
fn ts() -> PathBuf {
    CLIP.transport_stream()
}

/// Keys that are known.
#[derive(Debug, Default)]
struct Book(BTreeMap<String, Granted>);

impl Book {
    fn with(mut self, key: &str, passphrase: Option<&str>) -> Self {
        let granted = Granted { passphrase: passphrase.map(Secret::new), ..Granted::new(key.parse().unwrap()) };
        self.0.insert(key.into(), granted);
        self
    }
}

impl Judge for Book {
    fn judge(&self, asked: &Asked) -> Known {
        // One that a key store would have to look up first.
        if asked.key.expose() == "slow" {
            return Known::NotYet;
        }
        Known::Judged(self.0.get(asked.key.expose()).cloned().ok_or(Denied::Unknown))
    }
}

/// A listener and the worker that it asks.
struct Bench {
    address: SocketAddr,
    stats: Arc<Stats>,
    requests: mpsc::Receiver<Request>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Bench {
    async fn new(known: Book) -> Self {
        Self::with(known, SrtListener::default(), Limits::default()).await
    }

    async fn with(known: Book, settings: SrtListener, limits: Limits) -> Self {
        Self::at("127.0.0.1:0", known, settings, limits).await
    }

    async fn at(address: &str, known: Book, settings: SrtListener, limits: Limits) -> Self {
        let (tx, requests) = mpsc::channel(16);
        let shutdown = CancellationToken::new();
        let settings = SrtListener { program: env!("CARGO_BIN_EXE_weir-srt").into(), ..settings };
        let parts = Parts {
            address: address.parse().unwrap(),
            settings,
            limits,
            languages: Vec::new(),
            judge: Arc::new(known),
            requests: tx,
            shutdown: shutdown.clone(),
        };
        let (server, started) = Server::start(parts).await.unwrap();
        let (address, stats) = (server.address(), server.stats());
        Self { address, stats, requests, shutdown, serving: tokio::spawn(server.serve(started)) }
    }

    /// Waits for a request and accepts it. Who went before the answer is not there any more.
    async fn accept(&mut self) -> Publication {
        loop {
            let request = self.requests.recv().await.unwrap();
            let (tx, packets) = mpsc::channel(1024);
            let line = Arc::<Line>::default();
            if request.verdict.send(Verdict::Accept(tx, Arc::clone(&line))).is_ok() {
                return Publication { key: request.key.expose().into(), packets, line };
            }
        }
    }

    /// Nobody comes any more; all tasks end.
    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
        assert_eq!(self.stats.connected(), 0);
    }

    /// Calls that ended, by cause.
    fn ended(&self) -> Vec<(Cause, u64)> {
        Cause::ALL.into_iter().map(|c| (c, self.stats.ended(c))).filter(|(_, n)| *n > 0).collect()
    }
}

/// One accepted publisher.
struct Publication {
    key: String,
    packets: mpsc::Receiver<Packet>,
    line: Arc<Line>,
}

/// What came of it.
#[derive(Debug)]
struct Came {
    key: String,
    video: usize,
    audio: usize,
    goodbye: bool,
    numbers: Numbers,
}

impl Publication {
    /// To its end.
    async fn all(mut self) -> Came {
        let (mut video, mut audio, mut goodbye) = (0, 0, false);
        while let Some(packet) = self.packets.recv().await {
            match packet {
                Packet::Video { .. } => video += 1,
                Packet::Audio { .. } => audio += 1,
                Packet::Unpublish => goodbye = true,
                _ => {}
            }
        }
        Came { key: self.key, video, audio, goodbye, numbers: self.line.srt().unwrap_or_default() }
    }

    /// Until a picture came.
    async fn picture(&mut self) {
        while !matches!(self.packets.recv().await.expect("the publisher left"), Packet::Video { .. }) {}
    }
}

impl Came {
    /// The same, and the caller said goodbye.
    fn is_whole(&self) {
        self.has_all();
        assert!(self.goodbye, "{self:?}");
    }

    /// All of the clip but its last latency window, which a caller that closes takes with it, and the unit that waits for its successor.
    fn has_all(&self) {
        let most = CLIP.frames();
        // 500 ms at 30 frames per second, and what lies in a frame that was not finished.
        assert!((most - 20..=most).contains(&self.video), "{self:?} of {most}");
        // Of 282, 24 are in 500 ms; and ffmpeg puts 2,930 bytes into a PES packet, which at the clip's 22 kbit/s are 50 frames more.
        assert!(self.audio > 282 - 24 - 50, "{self:?}");
        assert_eq!((self.numbers.holes, self.numbers.dropped, self.numbers.undecrypted), (0, 0, 0), "{self:?}");
    }
}

/// A caller. Dropped, it is killed.
struct Caller(Child);

impl Caller {
    fn spawn(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        // A group of its own, because a shell's children outlive it.
        command.stderr(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Self(command.spawn().unwrap_or_else(|e| tools::missing(&program, &e)))
    }

    /// ffmpeg in real time, with these options of its SRT.
    fn ffmpeg(file: &Path, to: SocketAddr, options: &[&str]) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "quiet", "-re", "-i", tools::text(file), "-c", "copy", "-f", "mpegts"]).args(options);
        command.stdin(Stdio::null());
        Self::spawn(command.arg(format!("srt://{to}?pkt_size=1316")))
    }

    /// Waits for its end.
    async fn end(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || until("the caller's end", || self.0.try_wait().unwrap())).await.unwrap()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The number of one that has ended may be another's.
        if let (Ok(None), Some(group)) = (self.0.try_wait(), i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// Runs a test in real time under the guard.
fn guarded(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, test).await.expect("hangs") });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Looks again and again until there is an answer, without holding a thread.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + GUARD;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited {GUARD:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
