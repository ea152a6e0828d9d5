//! The RTMP ingest from outside: a server in this process, publishers from `raw_rtmp` and ffmpeg.
//!
//! Tests on a pipe run in tokio's paused time: the clock moves only when nothing else can, so that deadlines are exact and waiting for
//! them costs nothing. Tests on a socket have a guard of [`GUARD`].

mod enhanced;
mod ffmpeg;
#[cfg(feature = "gst")]
mod gstreamer;
mod hostile;
mod log;
mod proxied;
mod scarce;
mod secure;
mod verdict;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir::ingest::rtmp::{Cause, Front, Limits, Server, Stats};
use weir::ingest::{Packet, Protocol, Request, Verdict};

use crate::raw_rtmp::Publisher;

/// No test needs a tenth of it; it only turns a hang into a failure.
const GUARD: Duration = Duration::from_secs(60);

const PEER: &str = "192.0.2.7:40000";

/// A server and the worker that it asks.
struct Bench {
    server: Arc<Server>,
    stats: Arc<Stats>,
    requests: mpsc::Receiver<Request>,
    shutdown: CancellationToken,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let (tx, requests) = mpsc::channel(16);
        let shutdown = CancellationToken::new();
        let server = Arc::new(Server::new(limits, tx, shutdown.clone()).unwrap());
        Self { stats: server.stats(), server, requests, shutdown }
    }

    /// A connection over a pipe of this many bytes each way, and the task that serves it.
    fn pipe(&self, capacity: usize) -> (Publisher<DuplexStream>, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let server = Arc::clone(&self.server);
        let task = tokio::spawn(async move { server.connection(theirs, PEER.parse().unwrap(), Protocol::Rtmp).await });
        (Publisher::new(ours), task)
    }

    /// A listener on a free port.
    async fn listen(&self) -> (SocketAddr, JoinHandle<()>) {
        self.listen_behind(Front::default()).await
    }

    /// The same behind this.
    async fn listen_behind(&self, front: Front) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(Arc::clone(&self.server).serve(listener, front)))
    }

    /// Waits for a request and accepts it.
    async fn accept(&mut self) -> mpsc::Receiver<Packet> {
        let request = self.requests.recv().await.unwrap();
        let (tx, rx) = mpsc::channel(1024);
        request.verdict.send(Verdict::Accept(tx, Default::default())).unwrap();
        rx
    }

    /// A publisher over a socket who has been accepted and knows it.
    async fn publisher(&mut self, address: SocketAddr, key: &str) -> (Publisher<TcpStream>, mpsc::Receiver<Packet>) {
        let mut publisher = Publisher::new(TcpStream::connect(address).await.unwrap());
        publisher.connect("live").await;
        let packets = self.publish(&mut publisher, key).await;
        (publisher, packets)
    }

    /// The same over a pipe.
    async fn piped(&mut self, key: &str) -> (Publisher<DuplexStream>, mpsc::Receiver<Packet>, JoinHandle<()>) {
        let (mut publisher, task) = self.pipe(64 << 10);
        publisher.connect("live").await;
        let packets = self.publish(&mut publisher, key).await;
        (publisher, packets, task)
    }

    async fn publish<S>(&mut self, publisher: &mut Publisher<S>, key: &str) -> mpsc::Receiver<Packet>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let bytes = publisher.to.publish(key);
        publisher.send(&bytes).await;
        let packets = self.accept().await;
        publisher.until("NetStream.Publish.Start").await;
        packets
    }

    /// One connection has ended, and for this cause.
    fn assert_ended(&self, cause: Cause) {
        let ended: Vec<_> = Cause::ALL.into_iter().filter(|&c| self.stats.ended(c) > 0).collect();
        assert_eq!(ended, [cause]);
        assert_eq!((self.stats.open(), self.stats.publishing()), (0, 0));
    }
}

/// Runs a test in real time under the guard.
fn guarded(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, test).await.expect("hangs") });
    // A test that failed may leave a blocked thread behind; do not wait for it.
    runtime.shutdown_background();
}

/// Tells a test that it has a process of its own.
const ALONE: &str = "WEIR_TEST_ALONE";

/// Runs `test`, which changes what all threads share, in a process of its own: this binary again, with nothing but the test `name` that called.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// All packets until the channel closes.
async fn all(mut packets: mpsc::Receiver<Packet>) -> Vec<Packet> {
    let mut out = Vec::new();
    while let Some(packet) = packets.recv().await {
        out.push(packet);
    }
    out
}

/// Times and lengths of one kind's packets.
type Track = Vec<(u32, usize)>;

/// The media packets, video and audio apart.
fn tracks(packets: &[Packet]) -> (Track, Track) {
    let mut tracks = (Vec::new(), Vec::new());
    for packet in packets {
        match packet {
            Packet::Video { time, data, .. } => tracks.0.push((*time, data.len())),
            Packet::Audio { time, data } => tracks.1.push((*time, data.len())),
            _ => {}
        }
    }
    tracks
}

/// Bytes that end a connection to a listener behind this, and how it ended.
async fn ends_behind(front: Front, bytes: &[u8], closes: bool, cause: Cause) {
    let bench = Bench::new(Limits { handshake_ms: 300, ..Limits::default() });
    let (address, serving) = bench.listen_behind(front).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    if closes {
        socket.shutdown().await.unwrap();
    }
    // An alert, a reset or nothing: then it is closed.
    let _ = socket.read_to_end(&mut Vec::new()).await;
    bench.shutdown.cancel();
    serving.await.unwrap();
    bench.assert_ended(cause);
}
