//! The keys file: which key stands for which stream.
//!
//! The file holds SHA-256 digests only, so that a leaked file gives no key away. There is no salt and no slow hash: keys are made by
//! `weir key` with 128 random bits, which nobody finds by trying, and a publish must not cost the worker a tenth of a second.
//!
//! ```toml
//! [[key]]
//! stream = "anna"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! passphrase = "correct horse battery"   # of SRT; the only secret in clear
//! latency_ms = 400                       # of SRT
//! ladder = "sport"
//! max_kbps = 8000
//! priority = "high"                      # low, normal or high: who goes first when it gets tight
//! ```
//!
//! A passphrase of SRT is a key of a cipher and no password: it has to be known, not only recognised, so it stands in clear, and the file must then be
//! unreadable for others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::error::{Error, Text};
use super::name::{from_hex, hex};
use super::reload::{Looked, Reloaded};
use super::{Answer, Asked, Granted, KeyStore};
use crate::logic::capacity::Priority;
use crate::logic::model::StreamId;
use crate::secret::Secret;

const WHAT: &str = "keys file";

/// SHA-256 of a stream key.
type Digest = [u8; 32];

/// Digests of keys and the streams that they stand for; no key can be read out of it.
#[derive(Clone, Default)]
pub struct Hashed(BTreeMap<Digest, Granted>);

impl std::fmt::Debug for Hashed {
    /// Digests stay out of logs: they are what a guess could be checked against.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    stream: StreamId,
    sha256: Secret,
    passphrase: Option<Secret>,
    latency_ms: Option<u64>,
    ladder: Option<String>,
    max_kbps: Option<u32>,
    priority: Option<Priority>,
}

/// What a key may be granted beside its stream, wherever it stands. Not flattened into entries that know all their fields: serde would tell an unknown one as a
/// missing one, and at the entry's first line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Terms {
    pub(super) latency_ms: Option<u64>,
    pub(super) ladder: Option<String>,
    pub(super) max_kbps: Option<u32>,
    pub(super) priority: Option<Priority>,
}

/// SRT's latency, ms: below one frame it does nothing, and its field in the handshake has 16 bits.
const LATENCY_MS: std::ops::RangeInclusive<u64> = 20..=60_000;

/// Below, kbit/s, there is no picture; above there is no encoder.
const KBPS: std::ops::RangeInclusive<u32> = 64..=1_000_000;

/// Longest name of a ladder, characters; a file's stem.
const LADDER_NAME: usize = 64;

impl Terms {
    /// What is wrong with them.
    pub(super) fn fault(&self) -> Option<String> {
        let outside = |name: &str, value: u64, low: u64, high: u64| format!("{name} is {value}, must be {low} to {high}");
        if let Some(ms) = self.latency_ms.filter(|ms| !LATENCY_MS.contains(ms)) {
            return Some(outside("latency_ms", ms, *LATENCY_MS.start(), *LATENCY_MS.end()));
        }
        if let Some(kbps) = self.max_kbps.filter(|kbps| !KBPS.contains(kbps)) {
            return Some(outside("max_kbps", kbps.into(), (*KBPS.start()).into(), (*KBPS.end()).into()));
        }
        let long = self.ladder.as_ref().is_some_and(|l| l.is_empty() || l.chars().count() > LADDER_NAME);
        long.then(|| format!("ladder must be a name of 1 to {LADDER_NAME} characters"))
    }

    /// A stream by these terms.
    pub(super) fn grant(&self, stream: StreamId, passphrase: Option<Secret>) -> Granted {
        let latency = self.latency_ms.map(Duration::from_millis);
        let priority = self.priority.unwrap_or_default();
        Granted { stream, passphrase, latency, ladder: self.ladder.clone(), max_kbps: self.max_kbps, priority }
    }
}

/// SRT takes passphrases of 10 to 79 bytes (libsrt, `SRTO_PASSPHRASE`); only printable ASCII is the same wherever somebody types it.
pub(super) fn is_passphrase(text: &Secret) -> bool {
    (10..=79).contains(&text.expose().len()) && text.expose().bytes().all(|b| (0x20..0x7f).contains(&b))
}

impl Hashed {
    /// Reads a keys file. A stream may have several keys (to change them without a break); an empty file lets nobody in.
    ///
    /// # Errors
    /// [`Error`], naming the file and the line or entry.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&Text::read(WHAT, path)?)
    }

    fn parse(text: &Text) -> Result<Self, Error> {
        let file: File = text.parse()?;
        let mut keys = BTreeMap::<Digest, Granted>::new();
        for (i, Entry { stream, sha256, passphrase, latency_ms, ladder, max_kbps, priority }) in
            file.key.into_iter().enumerate()
        {
            let terms = Terms { latency_ms, ladder, max_kbps, priority };
            let of = format!("stream {stream}");
            let Some(digest) = from_hex(sha256.expose()) else {
                let have = sha256.expose().chars().count();
                return Err(text.fault(i, of, format!("sha256 must be 64 hexadecimal digits, here are {have} characters")));
            };
            if let Some(fault) = terms.fault() {
                return Err(text.fault(i, of, fault));
            }
            if let Some(passphrase) = &passphrase {
                text.must_be_private()?;
                if !is_passphrase(passphrase) {
                    return Err(text.fault(i, of, "passphrase must be 10 to 79 printable ASCII characters"));
                }
            }
            if let Some(other) = keys.insert(digest, terms.grant(stream, passphrase)) {
                return Err(text.fault(i, of, format!("the same sha256 as an entry for stream {}", other.stream)));
            }
        }
        Ok(Hashed(keys))
    }

    /// What `key` is granted, or `None` for a stranger.
    ///
    /// The time of a search in the map depends on the digest's first bytes, not on the key's: who measures it learns at best digests, and
    /// from a digest of 128 random bits there is no way back to the key.
    pub fn granted(&self, key: &Secret) -> Option<Granted> {
        self.0.get(&digest(key)).cloned()
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The keys file in force.
#[derive(Debug)]
pub(super) struct FileKeys(Reloaded<Hashed>);

impl FileKeys {
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        Reloaded::open(path, Hashed::read).map(Self)
    }

    pub(super) fn look(&self, at_once: bool) -> Looked {
        self.0.look(at_once)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn count(&self) -> usize {
        self.current().count()
    }

    fn current(&self) -> Arc<Hashed> {
        self.0.current()
    }
}

impl KeyStore for FileKeys {
    fn known(&self, asked: &Asked) -> Answer {
        self.current().granted(&asked.key).map_or(Answer::NotMine, Answer::Granted)
    }

    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        Box::pin(std::future::ready(self.known(asked)))
    }
}

/// The digest of `key` as 64 lower-case hexadecimal digits, as the keys file wants it.
pub fn sha256_hex(key: &Secret) -> String {
    hex(&digest(key))
}

/// An entry for the keys file.
pub fn entry(stream: &StreamId, key: &Secret) -> String {
    format!("[[key]]\nstream = \"{stream}\"\nsha256 = \"{}\"\n", sha256_hex(key))
}

fn digest(key: &Secret) -> Digest {
    Sha256::digest(key.expose().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blame::Blame;

    fn text(text: &str, mode: u32) -> Text {
        Text { what: WHAT, path: "keys.toml".into(), text: text.into(), mode }
    }

    fn parse(toml: &str) -> Result<Hashed, Error> {
        Hashed::parse(&text(toml, 0o644))
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn stream(name: &str) -> StreamId {
        name.parse().unwrap()
    }

    fn granted(keys: &Hashed, key: &str) -> Option<StreamId> {
        keys.granted(&secret(key)).map(|g| g.stream)
    }

    #[test]
    fn the_digest_is_sha256_of_the_key() {
        assert_eq!(sha256_hex(&secret("test")), "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    }

    #[test]
    fn a_printed_entry_lets_its_key_in_and_no_other() {
        let text = entry(&stream("anna"), &secret("k1"))
            + &entry(&stream("anna"), &secret("k2"))
            + &entry(&stream("ben"), &secret("k3"));
        let keys = parse(&text).unwrap();
        assert_eq!(granted(&keys, "k1"), Some(stream("anna")));
        assert_eq!(granted(&keys, "k2"), Some(stream("anna")), "a stream may have several keys");
        assert_eq!(granted(&keys, "k3"), Some(stream("ben")));
        for stranger in ["", "anna", "k4", &sha256_hex(&secret("k1"))] {
            assert_eq!(granted(&keys, stranger), None, "{stranger:?}");
        }
        assert_eq!(keys.count(), 3);
        assert_eq!(keys.granted(&secret("k1")), Some(Granted::new(stream("anna"))), "and nothing special");
    }

    #[test]
    fn upper_case_digests_are_the_same() {
        let text = format!("[[key]]\nstream = 'a'\nsha256 = '{}'", sha256_hex(&secret("k")).to_uppercase());
        assert_eq!(granted(&parse(&text).unwrap(), "k"), Some(stream("a")));
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        assert_eq!(granted(&parse("").unwrap(), ""), None);
    }

    #[test]
    fn an_entry_may_say_more_than_its_stream() {
        let more = "passphrase = 'hunter2hunter2'\nlatency_ms = 400\nladder = 'sport'\nmax_kbps = 8000\npriority = 'high'\n";
        let toml = entry(&stream("anna"), &secret("k")) + more;
        let keys = Hashed::parse(&text(&toml, 0o640)).unwrap();
        let want = Granted {
            stream: stream("anna"),
            passphrase: Some(secret("hunter2hunter2")),
            latency: Some(Duration::from_millis(400)),
            ladder: Some("sport".into()),
            max_kbps: Some(8000),
            priority: Priority::High,
        };
        assert_eq!(keys.granted(&secret("k")), Some(want));
        for mode in [0o644, 0o641, 0o642, 0o604] {
            let said = Hashed::parse(&text(&toml, mode)).unwrap_err().to_string();
            assert!(said.contains(&format!("others may read it (mode {mode:o}): chmod o-rwx")), "{said}");
        }
    }

    #[test]
    fn errors_name_file_and_place_and_no_secret() {
        let hex = sha256_hex(&secret("k"));
        let whole = entry(&stream("a"), &secret("k"));
        let cases = [
            ("[[key]]\nstream = 'a'\nsha256 = 'hunter2'".into(), "entry 1 (stream a): sha256 must be 64"),
            (format!("[[key]]\nstream = 'a'\nsha256 = '{}'", "ä".repeat(64)), "here are 64 characters"),
            (format!("[[key]]\nstream = 'a'\nsha256 = 'g{}'", &hex[1..]), "entry 1 (stream a)"),
            (
                format!("[[key]]\nstream='a'\nsha256='{hex}'\n[[key]]\nstream='b'\nsha256='{hex}'"),
                "entry 2 (stream b): the same sha256 as an entry for stream a",
            ),
            ("[[key]]\nstream = 'a'\nkey = 'hunter2'".into(), "unknown field `key`"),
            ("[[key]]\nstream = 'a b'\nsha256 = ''".into(), "line 2: stream id \"a b\""),
            ("[[keys]]".into(), "unknown field `keys`"),
            ("[[key]]\nstream = 'a'".into(), "missing field `sha256`"),
            ("stream = hunter2".into(), "line 1"),
            (format!("{whole}passphrase = 'hunter2'"), "entry 1 (stream a): passphrase must be 10 to 79"),
            (format!("{whole}passphrase = 'hunter2hunter\u{e4}'"), "passphrase must be 10 to 79"),
            (format!("{whole}latency_ms = 5"), "latency_ms is 5, must be 20 to 60000"),
            (format!("{whole}max_kbps = 1"), "max_kbps is 1, must be 64 to 1000000"),
            (format!("{whole}ladder = ''"), "ladder must be a name"),
        ];
        for (toml, want) in cases {
            let error = Hashed::parse(&text(&toml, 0o600)).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with("keys file keys.toml") && said.contains(want), "{said}");
            assert!(!said.contains("hunter") && !said.contains(&hex), "{said}");
            assert_eq!(error.blame(), Blame::Operator);
        }
    }

    #[test]
    fn a_file_is_read_from_disk_and_a_missing_or_endless_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let said = Hashed::read(&path).unwrap_err().to_string();
        assert!(said.contains("keys.toml"), "{said}");
        std::fs::write(&path, entry(&stream("anna"), &secret("k"))).unwrap();
        let keys = Hashed::read(&path).unwrap();
        assert_eq!(granted(&keys, "k"), Some(stream("anna")));
        assert_eq!(format!("{keys:?}"), "1 keys");
        let said = Hashed::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(said.contains("are too many"), "{said}");
    }
}
