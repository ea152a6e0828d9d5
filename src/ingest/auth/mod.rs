//! Stream keys: which key stands for which stream. Knows nothing of connections; decides nothing about capacity.
//!
//! The file holds SHA-256 digests only, so that a leaked file gives no key away. There is no salt and no slow hash: keys are made by
//! `weir key` with 128 random bits, which nobody finds by trying, and a publish must not cost the worker a tenth of a second.
//!
//! ```toml
//! [[key]]
//! stream = "anna"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! ```

mod judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::blame::Blame;
use crate::logic::model::StreamId;
use crate::secret::Secret;

pub use self::judge::{Asked, Denied, Granted};

/// Longest keys file, 16 MiB: about 100,000 entries, above one region's streams by two orders.
const MAX_FILE: u64 = 16 << 20;

/// SHA-256 of a stream key.
type Digest = [u8; 32];

/// The known keys.
#[derive(Debug, Clone)]
pub enum Keys {
    /// The key is the stream id; for laptops and tests. Anybody who reaches the port may publish.
    Open,
    /// Only keys of the file.
    File(Hashed),
}

/// Digests of keys and the streams that they stand for; no key can be read out of it.
#[derive(Clone, Default)]
pub struct Hashed(BTreeMap<Digest, StreamId>);

impl std::fmt::Debug for Hashed {
    /// Digests stay out of logs: they are what a guess could be checked against.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// Why a keys file was refused. Never holds a key or a digest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("keys file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Over 16 MiB.
    #[error("keys file {}: {bytes} bytes are too many, at most {MAX_FILE}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Not TOML, or an unknown or missing field.
    #[error("keys file {}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says, without the line's text: it might hold a key.
        message: String,
    },
    /// A digest that is none.
    #[error("keys file {}, entry {entry} (stream {stream}): sha256 must be 64 hexadecimal digits, here are {have} characters", path.display())]
    BadDigest {
        /// The file.
        path: PathBuf,
        /// Number of the `[[key]]`, from 1.
        entry: usize,
        /// Its stream.
        stream: StreamId,
        /// Length of what stands there.
        have: usize,
    },
    /// The same key twice: it could stand for one stream only.
    #[error("keys file {}, entry {entry} (stream {stream}): the same sha256 as an entry for stream {other}", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// Number of the second of them, from 1.
        entry: usize,
        /// Its stream.
        stream: StreamId,
        /// Stream of the first.
        other: StreamId,
    },
}

impl Error {
    /// Always the operator: the file is his.
    pub const fn blame(&self) -> Blame {
        Blame::Operator
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
}

impl Keys {
    /// Reads a keys file. A stream may have several keys (to change them without a break); an empty file lets nobody in.
    ///
    /// # Errors
    /// [`Error`], naming the file and the line or entry.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_FILE {
            return Err(Error::TooLong { path: path.to_owned(), bytes });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    /// The same from text; `path` is for errors only.
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Error::Syntax { path: path.to_owned(), line, message: e.message().to_owned() }
        })?;
        let mut keys = BTreeMap::new();
        for (i, Entry { stream, sha256 }) in file.key.into_iter().enumerate() {
            let (path, entry) = (path.to_owned(), i + 1);
            let Some(digest) = from_hex(sha256.expose()) else {
                return Err(Error::BadDigest { path, entry, stream, have: sha256.expose().chars().count() });
            };
            if let Some(other) = keys.insert(digest, stream.clone()) {
                return Err(Error::Duplicate { path, entry, stream, other });
            }
        }
        Ok(Keys::File(Hashed(keys)))
    }

    /// The stream that `key` stands for, or `None` for a stranger.
    ///
    /// The time of a search in the map depends on the digest's first bytes, not on the key's: who measures it learns at best digests, and
    /// from a digest of 128 random bits there is no way back to the key.
    pub fn stream(&self, key: &Secret) -> Option<StreamId> {
        match self {
            Keys::Open => key.expose().parse().ok(),
            Keys::File(Hashed(keys)) => keys.get(&digest(key)).cloned(),
        }
    }

    /// Number of keys; `None` where every stream id is one.
    pub fn count(&self) -> Option<usize> {
        match self {
            Keys::Open => None,
            Keys::File(Hashed(keys)) => Some(keys.len()),
        }
    }
}

/// The digest of `key` as 64 lower-case hexadecimal digits, as the keys file wants it.
pub fn sha256_hex(key: &Secret) -> String {
    digest(key).iter().map(|b| format!("{b:02x}")).collect()
}

/// An entry for the keys file.
pub fn entry(stream: &StreamId, key: &Secret) -> String {
    format!("[[key]]\nstream = \"{stream}\"\nsha256 = \"{}\"\n", sha256_hex(key))
}

fn digest(key: &Secret) -> Digest {
    Sha256::digest(key.expose().as_bytes()).into()
}

fn from_hex(text: &str) -> Option<Digest> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let nibble = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Keys, Error> {
        Keys::parse(text, Path::new("keys.toml"))
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn stream(name: &str) -> StreamId {
        name.parse().unwrap()
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
        assert_eq!(keys.stream(&secret("k1")), Some(stream("anna")));
        assert_eq!(keys.stream(&secret("k2")), Some(stream("anna")), "a stream may have several keys");
        assert_eq!(keys.stream(&secret("k3")), Some(stream("ben")));
        for stranger in ["", "anna", "k4", &sha256_hex(&secret("k1"))] {
            assert_eq!(keys.stream(&secret(stranger)), None, "{stranger:?}");
        }
        assert_eq!(keys.count(), Some(3));
    }

    #[test]
    fn upper_case_digests_are_the_same() {
        let text = format!("[[key]]\nstream = 'a'\nsha256 = '{}'", sha256_hex(&secret("k")).to_uppercase());
        assert_eq!(parse(&text).unwrap().stream(&secret("k")), Some(stream("a")));
    }

    #[test]
    fn without_a_file_the_key_is_the_stream_id() {
        assert_eq!(Keys::Open.stream(&secret("anna")), Some(stream("anna")));
        assert_eq!(Keys::Open.stream(&secret("../anna")), None);
        assert_eq!(Keys::Open.count(), None);
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        assert_eq!(parse("").unwrap().stream(&secret("")), None);
    }

    #[test]
    fn errors_name_file_and_place_and_no_secret() {
        let hex = sha256_hex(&secret("k"));
        let cases = [
            ("[[key]]\nstream = 'a'\nsha256 = 'hunter2'".into(), "entry 1 (stream a): sha256 must be 64"),
            (format!("[[key]]\nstream = 'a'\nsha256 = '{}'", "ä".repeat(64)), "here are 64 characters"),
            (format!("[[key]]\nstream = 'a'\nsha256 = 'g{}'", &hex[1..]), "entry 1 (stream a)"),
            (
                format!("[[key]]\nstream='a'\nsha256='{hex}'\n[[key]]\nstream='b'\nsha256='{hex}'"),
                "entry 2 (stream b): the same sha256 as an entry for stream a",
            ),
            ("[[key]]\nstream = 'a'\nkey = 'hunter2'".into(), "line 3: unknown field `key`"),
            ("[[key]]\nstream = 'a b'\nsha256 = ''".into(), "line 2: stream id \"a b\""),
            ("[[keys]]".into(), "unknown field `keys`"),
            ("[[key]]\nstream = 'a'".into(), "missing field `sha256`"),
            ("stream = hunter2".into(), "line 1"),
        ];
        for (text, want) in cases {
            let error = parse(&text).unwrap_err();
            let said = error.to_string();
            assert!(said.starts_with("keys file keys.toml") && said.contains(want), "{said}");
            assert!(!said.contains("hunter2") && !said.contains(&hex), "{said}");
            assert_eq!(error.blame(), Blame::Operator);
        }
    }

    #[test]
    fn a_file_is_read_from_disk_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let said = Keys::load(&path).unwrap_err().to_string();
        assert!(said.contains("keys.toml"), "{said}");
        std::fs::write(&path, entry(&stream("anna"), &secret("k"))).unwrap();
        let keys = Keys::load(&path).unwrap();
        assert_eq!(keys.stream(&secret("k")), Some(stream("anna")));
        assert_eq!(format!("{keys:?}"), "File(1 keys)");
    }
}
