//! TLS in front of RTMP (`rtmps://`): the certificate, its replacement while streams run, and handshakes with their deadline.
//!
//! TLS 1.2 and 1.3, because encoders whose librtmp is built with mbedTLS 2 know no later one than 1.2. No ALPN: RTMP has no name for it, and encoders offer
//! none. No resumption: a stream is one connection of hours, and there is nothing to keep.

mod pair;
mod stats;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::pair::{Error, Pair};
pub use self::stats::{Outcome, Stats};
use super::proxy;
use crate::clock;

/// How often the files are looked at: soon enough for who replaces a certificate by hand, and two `stat` calls.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// From here on the log says once a day that the certificate runs out. ACME clients renew 30 days before, so that at 14 something is broken.
const WARN_DAYS: i64 = 14;

/// From one such line to the next.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// First byte of a TLS record that holds a ClientHello (RFC 8446, 5.1).
pub const HANDSHAKE_RECORD: u8 = 22;

/// First byte of RTMP in the clear (RTMP 1.0, 5.2.2).
const RTMP_VERSION: u8 = 3;

/// Where the certificate lies. Both are PEM: a chain that begins with the server's own certificate, and its key (PKCS#8, PKCS#1 or SEC1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Why a connection got no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Closed before the first byte: a health probe. Not a handshake that failed.
    #[error("closed without a byte")]
    Probed,
    /// Not in time.
    #[error("no TLS handshake in time")]
    Deadline,
    /// The streamer's address begins with rtmp:// and has this port.
    #[error("RTMP without TLS on the RTMPS listener: the server address must begin with rtmps://")]
    PlainRtmp,
    /// A load balancer's header where none is taken.
    #[error(transparent)]
    Proxy(proxy::Error),
    /// Something else.
    #[error("not TLS: the first byte is {first:#04x}")]
    NotTls {
        /// The byte.
        first: u8,
    },
    /// Closed in the middle.
    #[error("closed during the TLS handshake")]
    Left,
    /// What rustls says: no version or cipher in common, an alert of the client's (it does not trust the certificate), a broken message.
    #[error("TLS handshake failed: {0}")]
    Handshake(std::io::Error),
}

impl Failure {
    /// How it is counted, if it is.
    fn outcome(&self) -> Option<Outcome> {
        Some(match self {
            Failure::Probed | Failure::Proxy(_) => return None,
            Failure::Deadline => Outcome::Deadline,
            Failure::PlainRtmp | Failure::NotTls { .. } => Outcome::NotTls,
            Failure::Left => Outcome::Left,
            Failure::Handshake(_) => Outcome::Failed,
        })
    }
}

/// What a look at the files came to.
#[derive(Debug)]
pub enum Look {
    /// Nothing new.
    Same,
    /// A new pair is in use from the next handshake on; connections that stand keep theirs.
    Replaced,
    /// There is something new, and it is no good. The old pair stays.
    Kept(Error),
}

/// One file as `stat` shows it; a replaced symbolic link (as Kubernetes does it) shows too.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The RTMPS listener's side of TLS.
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    files: Files,
    seen: Mutex<[Stamp; 2]>,
    stats: Stats,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The pair in use.
#[derive(Debug)]
struct Current(RwLock<Arc<Pair>>);

impl Current {
    fn pair(&self) -> Arc<Pair> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().certified())
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

impl Tls {
    /// Reads the pair. One that has expired is taken, with a warning: RTMP in the clear goes on, and some encoders do not look.
    ///
    /// # Errors
    /// The files cannot be read, or do not belong together.
    pub fn open(files: Files) -> Result<Self, Error> {
        let seen = Mutex::new([stamp(&files.certificate), stamp(&files.key)]);
        let pair = Pair::load(&files)?;
        if let Err(error) = pair.check(clock::wall()) {
            tracing::warn!("rtmps: {error}");
        }
        let current = Arc::new(Current(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(pair::provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has suites for both")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current, files, seen, stats: Stats::default() })
    }

    /// The pair that the next handshake will use.
    pub fn pair(&self) -> Arc<Pair> {
        self.current.pair()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Shakes hands. The first byte is looked at before rustls sees it, so that who knocks at the wrong door is told by name in the log.
    ///
    /// # Errors
    /// Why there is no TLS. An alert has been sent where TLS has one for it.
    pub async fn accept(&self, socket: TcpStream, until: Instant) -> Result<TlsStream<TcpStream>, Failure> {
        let outcome = match timeout_at(until, self.shake_hands(socket)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Deadline),
        };
        match &outcome {
            Ok(_) => self.stats.count(Outcome::Done),
            Err(failure) => failure.outcome().into_iter().for_each(|outcome| self.stats.count(outcome)),
        }
        outcome
    }

    async fn shake_hands(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let mut first = [0; proxy::SIGNATURE.len()];
        // A reset before the first byte is a probe's way of leaving.
        let n = socket.peek(&mut first).await.unwrap_or(0);
        match (first[0], proxy::begins(&first[..n])) {
            _ if n == 0 => return Err(Failure::Probed),
            (_, Some(error)) => return Err(Failure::Proxy(error)),
            (HANDSHAKE_RECORD, _) => {}
            (RTMP_VERSION, _) => return Err(Failure::PlainRtmp),
            (first, _) => return Err(Failure::NotTls { first }),
        }
        self.acceptor.accept(socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => Failure::Left,
            _ => Failure::Handshake(error),
        })
    }

    /// Looks whether the files are others than before, and takes them if they are good; `anyway` also where `stat` shows no difference.
    pub fn look(&self, anyway: bool) -> Look {
        let now = [stamp(&self.files.certificate), stamp(&self.files.key)];
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut *seen, now) == now && !anyway {
                return Look::Same;
            }
        }
        // Between the two files of a pair the old one stays; the second file's stamp brings us here again.
        let fresh = Pair::load(&self.files).and_then(|pair| pair.check(clock::wall()).map(|()| pair));
        match fresh {
            Ok(pair) if pair.is_same_as(&self.pair()) => Look::Same,
            Ok(pair) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                self.stats.count_reload(true);
                Look::Replaced
            }
            Err(error) => {
                self.stats.count_reload(false);
                Look::Kept(error)
            }
        }
    }

    /// Looks every five seconds and at each SIGHUP, and warns of an end that comes near. Never returns.
    ///
    /// # Errors
    /// The signal cannot be watched.
    pub async fn follow(self: Arc<Self>) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut warned: Option<Instant> = None;
        loop {
            let anyway = tokio::select! {
                _ = every.tick() => false,
                Some(()) = hangup.recv() => true,
            };
            let tls = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || tls.look(anyway)).await {
                Ok(Look::Replaced) => {
                    warned = None;
                    tracing::info!("rtmps: new certificate: {}", self.pair());
                }
                Ok(Look::Kept(error)) => tracing::warn!("rtmps: the new certificate is not taken, the old one stays: {error}"),
                Ok(Look::Same) if anyway => tracing::info!("rtmps: the certificate is the same"),
                Ok(Look::Same) => {}
                Err(error) => tracing::error!(%error, "rtmps: looking at the certificate failed"),
            }
            let days = self.pair().days_left(clock::wall());
            if days < WARN_DAYS && warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                warned = Some(Instant::now());
                tracing::warn!(days_left = days, "rtmps: the certificate runs out: {}", self.pair());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pair::tests::{DAY, make};
    use super::*;

    #[test]
    fn a_new_pair_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let write = |(certificate, key): (&str, &str)| {
            std::fs::write(&files.certificate, certificate).unwrap();
            std::fs::write(&files.key, key).unwrap();
        };
        let (old, new) = (make("old.example", -1, 30), make("new.example", -1, 90));
        write((&old.0, &old.1));
        let tls = Tls::open(files.clone()).unwrap();
        assert!(matches!(tls.look(false), Look::Same));
        assert!(matches!(tls.look(true), Look::Same));
        // Half of a pair, a file that is gone, one that has expired: each is said once, and the old one stays.
        std::fs::write(&files.certificate, &new.0).unwrap();
        assert!(matches!(tls.look(false), Look::Kept(Error::Mismatch)));
        assert!(matches!(tls.look(false), Look::Same));
        std::fs::remove_file(&files.key).unwrap();
        assert!(matches!(tls.look(false), Look::Kept(Error::Read { .. })));
        let expired = make("late.example", -60, -1);
        write((&expired.0, &expired.1));
        assert!(matches!(tls.look(false), Look::Kept(Error::Expired { .. })));
        assert_eq!(tls.pair().names(), ["old.example"]);
        write((&new.0, &new.1));
        assert!(matches!(tls.look(false), Look::Replaced));
        assert_eq!(tls.pair().names(), ["new.example"]);
        assert_eq!((tls.stats().reloads(true), tls.stats().reloads(false)), (1, 3));
        assert_eq!(tls.pair().days_left(clock::wall()), 89);
        assert_eq!(DAY, 86_400_000);
    }
}
