//! SRT ingest (draft-sharabayko-srt-01, live mode): MPEG-TS from callers.
//!
//! libsrt is C++ that parses what strangers send, so it runs in a process of its own (`weir-srt`, rules.md 26), which is started here, is not trusted, and is
//! replaced when it dies. The UDP socket is ours: the port stays taken meanwhile, and the process needs no right to make sockets.
//!
//! A caller is asked about twice. While its handshake waits, [`Judge`] says from memory whether its key is known and which passphrase it must have: so one
//! without the right passphrase never reaches the worker and replaces nobody. Once it is connected the worker is asked by [`Request`], as for RTMP; a refusal then
//! ends the connection, for SRT has no message that could say more.

mod caller;
mod error;
mod options;
mod process;
mod stats;
pub mod stream_id;
mod supervise;
pub mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::error::{Error, StartError};
pub use self::options::{OutOfRange, SrtListener};
use self::process::{Process, Spawner};
pub use self::stats::{Cause, Stats};
use super::auth::{Asked, Keys, Known};
use super::gate::Gate;
use super::rtmp;
use super::{Request, mpegts};
use crate::logic::language::Language;

/// By what the SRT process knows whom it must not outlive.
pub const PARENT_VARIABLE: &str = "WEIR_SRT_PARENT";

/// For the answer to a question: nobody's media are received meanwhile. The answer is looked up in memory, so it comes within a millisecond unless this machine
/// is overloaded; the smallest latency that is usual (120 ms) and what the kernel holds (a Debian 12 default of 208 KiB, 200 ms of 8 Mbit/s) survive this.
pub const ANSWER_DEADLINE: Duration = Duration::from_millis(200);

/// Come again later (SRT_REJX_OVERLOAD): too many callers, or no answer in time.
pub const BUSY: u16 = 1402;

/// The worker stops (SRT_REJX_DOWN).
const STOPPING: u16 = 1503;

/// There is no such application (SRT_REJX_NOTFOUND).
const NOT_FOUND: u16 = 1404;

/// Says from memory whether somebody may publish.
pub trait Judge: std::fmt::Debug + Send + Sync {
    /// At once. What is not known yet is being found out, and the caller may try again.
    fn judge(&self, asked: &Asked) -> Known;
}

impl Judge for Keys {
    fn judge(&self, asked: &Asked) -> Known {
        self.known(asked)
    }
}

/// The listener.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    socket: UdpSocket,
    settings: SrtListener,
    limits: rtmp::Limits,
    languages: Vec<Language>,
    judge: Arc<dyn Judge>,
    requests: mpsc::Sender<Request>,
    shutdown: CancellationToken,
    stats: Arc<Stats>,
    gate: Arc<Gate>,
    spawner: Spawner,
}

/// What a listener is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where to listen.
    pub address: SocketAddr,
    /// How.
    pub settings: SrtListener,
    /// What holds for every publisher: connections, idle time, waiting bytes.
    pub limits: rtmp::Limits,
    /// Which of several audio tracks is taken ([`mpegts::Demux::preferring`]).
    pub languages: Vec<Language>,
    /// Who may.
    pub judge: Arc<dyn Judge>,
    /// Where the worker is asked.
    pub requests: mpsc::Sender<Request>,
    /// From when on no new callers are taken.
    pub shutdown: CancellationToken,
}

impl Server {
    /// Binds the address and starts a process that listens there; callers are served by [`Server::serve`].
    ///
    /// # Errors
    /// [`StartError`]: the address is taken, or there is no program `weir-srt` that works on this machine.
    pub async fn start(parts: Parts) -> Result<(Arc<Self>, Started), StartError> {
        let Parts { address, settings, limits, languages, judge, requests, shutdown } = parts;
        let bound = |source| StartError::Bind { address, source };
        let socket = UdpSocket::bind(address).map_err(bound)?;
        let address = socket.local_addr().map_err(bound)?;
        let spawner = Spawner::new(settings.program()).map_err(|source| StartError::Thread { source })?;
        let gate = Gate::new(settings.callers, settings.callers_per_address);
        let stats = Arc::default();
        let server = Self { address, socket, settings, limits, languages, judge, requests, shutdown, stats, gate, spawner };
        let process = server.process().await?;
        Ok((Arc::new(server), Started(process)))
    }

    /// Where it listens; the port is known even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The counters.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    async fn process(&self) -> Result<Process, StartError> {
        let process = self.spawner.start(&self.socket, &self.settings).await?;
        self.stats.process(process.pid());
        Ok(process)
    }

    fn demux(&self) -> mpegts::Demux {
        let unit_bytes = usize::try_from(self.limits.message_bytes).unwrap_or(usize::MAX);
        mpegts::Demux::new(mpegts::Limits { unit_bytes, ..mpegts::Limits::default() }).preferring(&self.languages)
    }
}

/// The first process, which listens.
#[derive(Debug)]
pub struct Started(Process);
