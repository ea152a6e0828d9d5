//! RTMP ingest (Adobe RTMP 1.0, with Enhanced RTMP's headers): a listener, a task per connection, limits for both.
//!
//! The protocol itself is `rtmp-runtime`'s; here are the sockets, the deadlines and the bounds. Who may publish and what becomes of the
//! packets is the worker's business, asked by [`Request`]. Back-pressure is TCP's: a worker that does not take packets
//! stops the reading.

mod connect;
mod error;
mod front;
mod limits;
mod metadata;
mod session;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::connect::Codecs;
pub use self::error::{APP, Deadline, Error};
pub use self::front::Front;
pub use self::limits::{Limits, OutOfRange};
use self::session::End;
pub use self::stats::{Cause, Stats};
#[cfg(any(test, fuzzing))]
pub(crate) use self::{metadata::parse as parse_script, session::tag_body};
use super::gate::Gate;
use super::{Protocol, Request};

/// Pause after `accept` failed for want of descriptors or memory: long enough not to spin, short enough that nobody's connection times out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all RTMP connections of a worker share, whichever listener they came by.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    codecs: Codecs,
    requests: mpsc::Sender<Request>,
    shutdown: CancellationToken,
    stats: Arc<Stats>,
    gate: Arc<Gate>,
}

impl Server {
    /// Publishers are asked about by `requests`; from the moment that `shutdown` is cancelled no new ones are.
    ///
    /// # Errors
    /// A limit outside its range.
    pub fn new(limits: Limits, requests: mpsc::Sender<Request>, shutdown: CancellationToken) -> Result<Self, OutOfRange> {
        limits.check()?;
        let gate = Gate::new(limits.connections, limits.connections_per_address);
        Ok(Self { limits, codecs: Codecs::default(), requests, shutdown, stats: Arc::default(), gate })
    }

    /// Announces these codecs to encoders that ask (Enhanced RTMP), in place of H.264 and AAC.
    #[must_use]
    pub fn announcing(self, codecs: Codecs) -> Self {
        Self { codecs, ..self }
    }

    /// The counters.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Takes connections until shutdown, then waits until the last publisher has left or the worker has dropped his packets' receiver.
    /// Dropping the future cuts all connections. Several listeners may be served at once; the limits are for all of them together.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, front: Front) {
        let mut connections = JoinSet::new();
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    log_panic(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    failing = false;
                    // Replies are small and waited for; a socket that cannot be told so works all the same.
                    let _ = socket.set_nodelay(true);
                    let (server, front) = (Arc::clone(&self), front.clone());
                    connections.spawn(async move { server.arrival(socket, peer, &front).await });
                }
                Err(error) => {
                    self.stats.count_accept_failure();
                    // Out of descriptors as a rule. Connections that end free some; one line per episode is enough.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "rtmp: cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    }

    /// Serves one connection over any byte stream (TCP, TLS, a pipe in a test) to its end, and writes its line to the log. `peer` is the
    /// address that counts against the limits, `protocol` what the stream is called where publishers are judged and counted.
    pub async fn connection<S>(&self, io: S, peer: SocketAddr, protocol: Protocol)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _connected = self.stats.connected();
        let outcome = match self.gate.enter(peer.ip()) {
            Ok(_place) => session::run(self, io, peer, protocol).await,
            Err(full) => Err(full.into()),
        };
        self.ended(peer, outcome);
    }

    /// Counts a connection's end and writes its line.
    fn ended(&self, peer: SocketAddr, outcome: Result<End, Error>) {
        match outcome {
            Ok(end) => {
                self.stats.count_end(if end == End::Unpublished { Cause::Finished } else { Cause::Left });
                match end {
                    End::Unpublished => tracing::info!(%peer, "rtmp: publisher finished"),
                    End::Left => tracing::info!(%peer, "rtmp: left before publishing"),
                    // A load balancer's probe comes every few seconds.
                    End::Probed => tracing::debug!(%peer, "rtmp: closed without a byte"),
                }
            }
            Err(error) => {
                self.stats.count_end(error.cause());
                tracing::warn!(%peer, blame = error.blame().as_str(), cause = error.cause().as_str(), %error, "rtmp: connection ended");
            }
        }
    }
}

/// A panic in a connection is a bug of ours and must not end the others.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "rtmp: connection task failed");
    }
}
