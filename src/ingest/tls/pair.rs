//! A certificate chain and its key: read, held against each other, and what is said of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use super::Files;
use crate::logic::time::UnixMillis;

/// Longest file. A chain of four certificates with RSA keys has 8 KiB.
const MAX_FILE: u64 = 256 << 10;

/// Why a pair was refused; always the operator's to mend. Holds nothing of the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file over 256 KiB.
    #[error("{}: {bytes} bytes are too many, at most {MAX_FILE}", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// No PEM section of this kind, or a broken one.
    #[error("no {what} in PEM: {reason}")]
    Pem {
        /// Certificate or private key.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The first certificate of the chain is none.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// A key of a kind that TLS does not use.
    #[error("the key cannot be used: {0}")]
    Key(rustls::Error),
    /// They do not belong together.
    #[error("the key is not the certificate's")]
    Mismatch,
    /// Its time is over.
    #[error("the certificate has expired on {on}")]
    Expired {
        /// Since when.
        on: UnixMillis,
    },
    /// Its time has not come.
    #[error("the certificate is not valid before {from}")]
    NotYet {
        /// When it comes.
        from: UnixMillis,
    },
    /// Clients compare the name that they asked for with these alone (RFC 9525, 6.3).
    #[error("the certificate names no host (it has no subjectAltName)")]
    NoNames,
}

/// A chain with its key.
#[derive(Debug, Clone)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    from: UnixMillis,
    until: UnixMillis,
}

/// The one TLS provider of the program.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_FILE {
        return Err(Error::TooLong { path: path.to_owned(), bytes });
    }
    std::fs::read(path).map_err(failed)
}

impl Pair {
    /// Reads both files.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together. Whether it is their time is [`Pair::check`]'s question.
    pub fn load(files: &Files) -> Result<Self, Error> {
        Self::from_pem(&read(&files.certificate)?, &read(&files.key)?)
    }

    fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        let pem = |what| move |e: rustls::pki_types::pem::Error| Error::Pem { what, reason: e.to_string() };
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().map_err(pem("certificate"))?;
        let leaf = chain.first().ok_or(Error::Pem { what: "certificate", reason: "no such section".into() })?;
        let (names, from, until) = facts(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("private key"))?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch,
            other => Error::Key(other),
        })?;
        Ok(Self { certified: Arc::new(certified), names, from, until })
    }

    /// Whether clients can accept it now.
    ///
    /// # Errors
    /// It is not its time, or it has no names.
    pub fn check(&self, now: UnixMillis) -> Result<(), Error> {
        if self.names.is_empty() {
            Err(Error::NoNames)
        } else if now >= self.until {
            Err(Error::Expired { on: self.until })
        } else if now < self.from {
            Err(Error::NotYet { from: self.from })
        } else {
            Ok(())
        }
    }

    /// The hosts that it is for: DNS names and addresses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it expires.
    pub fn until(&self) -> UnixMillis {
        self.until
    }

    /// Whole days until then; below zero behind it.
    pub fn days_left(&self, now: UnixMillis) -> i64 {
        self.until.0.saturating_sub(now.0).div_euclid(24 * 3600 * 1000)
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    pub(super) fn is_same_as(&self, other: &Pair) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "for {}, valid until {}", self.names.join(", "), self.until)
    }
}

/// Names, first and last moment of a certificate.
fn facts(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, UnixMillis, UnixMillis), Error> {
    let broken = |e: &dyn std::fmt::Display| Error::Certificate(e.to_string());
    let (_, x509) = x509_parser::parse_x509_certificate(certificate).map_err(|e| broken(&e))?;
    let alternative = x509.subject_alternative_name().map_err(|e| broken(&e))?;
    let names = alternative.iter().flat_map(|a| &a.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    });
    let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1000));
    let validity = x509.validity();
    Ok((names.collect(), millis(validity.not_before.timestamp()), millis(validity.not_after.timestamp())))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    v4().or_else(|| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::clock::wall;

    pub const DAY: i64 = 24 * 3600 * 1000;

    /// A self-signed certificate for this name, from and until so many days from now, and its key.
    pub fn make(name: &str, from: i64, until: i64) -> (String, String) {
        let names: Vec<String> = [name].into_iter().filter(|n| !n.is_empty()).map(str::to_owned).collect();
        let mut wanted = rcgen::CertificateParams::new(names).unwrap();
        let day = |days: i64| {
            let distance = Duration::from_secs(days.unsigned_abs() * 24 * 3600);
            let now = SystemTime::now();
            if days < 0 { now - distance } else { now + distance }
        };
        (wanted.not_before, wanted.not_after) = (day(from).into(), day(until).into());
        let key = rcgen::KeyPair::generate().unwrap();
        (wanted.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn pair((certificate, key): &(String, String)) -> Result<Pair, Error> {
        Pair::from_pem(certificate.as_bytes(), key.as_bytes())
    }

    #[test]
    fn a_pair_says_its_names_and_its_time() {
        let named = pair(&make("live.example", -1, 30)).unwrap();
        assert_eq!(named.names(), ["live.example"]);
        let now = wall();
        named.check(now).unwrap();
        assert_eq!(named.days_left(now), 29);
        let late = UnixMillis(now.0 + 31 * DAY);
        assert!(matches!(named.check(late), Err(Error::Expired { on }) if on == named.until()));
        assert_eq!(named.days_left(late), -2);
        assert!(matches!(named.check(UnixMillis(now.0 - 2 * DAY)), Err(Error::NotYet { .. })));
        assert!(named.to_string().starts_with("for live.example, valid until 2"), "{named}");
        assert_eq!(pair(&make("192.0.2.7", -1, 30)).unwrap().names(), ["192.0.2.7"]);
        assert!(matches!(pair(&make("", -1, 30)).unwrap().check(now), Err(Error::NoNames)));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_key_stays_unsaid() {
        let (one, other) = (make("a.example", -1, 30), make("b.example", -1, 30));
        assert!(matches!(pair(&(one.0.clone(), other.1.clone())), Err(Error::Mismatch)));
        let error = pair(&(one.1.clone(), one.0.clone())).unwrap_err();
        assert!(matches!(error, Error::Pem { what: "certificate", .. }), "{error}");
        let error = pair(&(one.0.clone(), String::new())).unwrap_err();
        assert!(matches!(error, Error::Pem { what: "private key", .. }), "{error}");
        let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned();
        assert!(matches!(pair(&(broken, one.1.clone())), Err(Error::Certificate(_))));
        let line = one.1.lines().nth(1).unwrap();
        assert!(!format!("{:?}", pair(&one).unwrap()).contains(line));
    }
}
