//! What stands between a socket and RTMP: a load balancer's PROXY header, TLS, and whose place the connection takes.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Server;
use super::error::{Deadline, Error};
use super::session::{self, End};
use crate::ingest::Protocol;
use crate::ingest::proxy::{self, Header};
use crate::ingest::tls::{Failure, Tls};

/// A listener's own part; everything else is the [`Server`]'s. By default RTMP in the clear, and no load balancer.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// RTMPS with this certificate.
    pub tls: Option<Arc<Tls>>,
    /// Load balancers: whoever comes from there must say for whom, by the PROXY protocol; nobody else may.
    pub proxies: Arc<[IpNet]>,
}

impl Server {
    /// Serves one connection of a listener to its end, and writes its line to the log.
    pub(super) async fn arrival(&self, socket: TcpStream, peer: SocketAddr, front: &Front) {
        let _connected = self.stats.connected();
        let mut peer = peer;
        let outcome = self.receive(socket, &mut peer, front).await;
        self.ended(peer, outcome);
    }

    /// `peer` becomes the client's address, as soon as it is known.
    async fn receive(&self, mut socket: TcpStream, peer: &mut SocketAddr, front: &Front) -> Result<End, Error> {
        let until = Instant::now() + self.limits.handshake();
        let mut place = self.gate.arrive()?;
        if proxy::trusts(&front.proxies, peer.ip()) {
            let header = timeout_at(until, header(&mut socket)).await;
            match header.map_err(|_| Error::Deadline(Deadline::Handshake))?? {
                None => return Ok(End::Probed),
                Some(Header::Client(client)) => *peer = client,
                Some(Header::Local | Header::Unknown) => {}
            }
        }
        place.belongs_to(peer.ip())?;
        let Some(tls) = &front.tls else { return session::run(self, socket, *peer, Protocol::Rtmp).await };
        match tls.accept(socket, until).await {
            Ok(stream) => session::run(self, stream, *peer, Protocol::Rtmps).await,
            Err(Failure::Probed) => Ok(End::Probed),
            Err(Failure::Deadline) => Err(Error::Deadline(Deadline::Handshake)),
            Err(Failure::Proxy(error)) => Err(Error::Proxy(error)),
            Err(failure) => Err(Error::Tls(failure)),
        }
    }
}

/// Reads a header and not a byte more. `None`: closed without one byte, as health checks of TCP do.
async fn header(socket: &mut TcpStream) -> Result<Option<Header>, Error> {
    let mut fixed = [0; proxy::FIXED];
    let mut seen = 0;
    while seen < fixed.len() {
        match socket.read(&mut fixed[seen..]).await {
            // A reset is another way of closing.
            Ok(0) | Err(_) if seen == 0 => return Ok(None),
            Ok(0) | Err(_) => return Err(Error::Proxy(proxy::Error::CutShort)),
            Ok(n) => seen += n,
        }
        // Who speaks something else is not waited for: C0 and C1 are longer than a header, a goodbye may be shorter.
        if !proxy::SIGNATURE.starts_with(&fixed[..seen.min(proxy::SIGNATURE.len())]) {
            return Err(Error::Proxy(match proxy::begins(&fixed[..seen]) {
                Some(proxy::Error::Version1) => proxy::Error::Version1,
                _ => proxy::Error::Missing,
            }));
        }
    }
    let mut rest = vec![0; proxy::rest(&fixed)?];
    socket.read_exact(&mut rest).await.map_err(|_| proxy::Error::CutShort)?;
    Ok(Some(proxy::parse(&fixed, &rest)?))
}
