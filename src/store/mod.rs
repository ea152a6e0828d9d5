//! Where objects live. Knows objects and their class; knows nothing of media time, segments or playlists.

mod folder;
mod memory;
pub(crate) mod s3;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

pub use folder::Folder;
pub use memory::Memory;
pub use s3::{Absent, Endpoint, Fetched, S3};

use crate::blame::Blame;
use crate::logic::model::ObjectKey;
use crate::logic::replication::Status;
use crate::logic::thumbnail;

/// What an operation on the store came to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{operation} {key}: {source}")]
    File {
        /// `put`, `delete`, `list`.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The cause.
        source: std::io::Error,
    },
    /// An operation on a bucket failed.
    #[error("{operation} {key}: {reason}")]
    Bucket {
        /// `put`, `delete`, `list`.
        operation: &'static str,
        /// The key or prefix.
        key: String,
        /// The SDK's words.
        reason: String,
    },
    /// An immutable object's key holds something else already.
    #[error("{key} is taken by another object")]
    Taken {
        /// The key.
        key: String,
    },
    /// The store cannot be used at all.
    #[error("store {store}: {reason}")]
    Unusable {
        /// As configured.
        store: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::File { .. } | Self::Bucket { .. } => Blame::Destination,
            Self::Taken { .. } => Blame::Worker,
            Self::Unusable { .. } => Blame::Operator,
        }
    }

    /// Whether the same operation may go well later. A refusal of credentials may: they are renewed while the worker runs, and until then the
    /// spool keeps what was made.
    pub fn retry(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Bucket { .. })
    }
}

/// A version of an object, as the store tells it (RFC 9110, 8.8.3); equal tags, equal object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(Arc<str>);

/// Who wrote a mutable object: stands in its metadata, so that a writer whose answer was lost knows its own work (rules.md 18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its term: counts the writers of a stream. A higher one has taken the stream over from all lower ones.
    pub epoch: u32,
    /// Random, one for each writer: two that took the same epoch differ.
    pub nonce: Arc<str>,
}

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub tag: Tag,
    /// Who wrote it, where that is known.
    pub writer: Option<Writer>,
}

/// An object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Contents.
    pub body: Bytes,
    /// Which version of it, by whom.
    pub found: Found,
}

/// A conditional write that was not done.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// Something else lies there; `None`: nothing at all.
    #[error("another version lies there")]
    Other(Option<Found>),
    /// The store failed; whether the write was done is not known.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// How often each operation came to what; for metrics.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Tally {
    fn count(&self, operation: &'static str, result: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((operation, result)).or_default() += 1;
    }

    /// `(operation, result, count)`.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(&(o, r), &n)| (o, r, n)).collect()
    }
}

/// CRC-32 (ISO-HDLC, as `x-amz-checksum-crc32`) of an object, in hexadecimal.
pub fn checksum(body: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(body))
}

/// A store. An enum, so that its methods can be async without boxing and every caller sees which kinds there are.
#[derive(Debug)]
pub enum Store {
    /// A local folder, served by the worker itself.
    Folder(Folder),
    /// A bucket.
    S3(Box<S3>),
    /// In memory, for tests.
    Memory(Memory),
}

impl Store {
    /// Opens what `location` names.
    ///
    /// # Errors
    /// [`Error::Unusable`] when it is not there or cannot be written.
    pub async fn open(location: &Location, endpoint: Option<&Endpoint>) -> Result<Self, Error> {
        match location {
            Location::S3 { bucket, prefix } => S3::open(bucket, prefix, endpoint).await.map(|s| Self::S3(Box::new(s))),
            Location::Folder(dir) => Folder::open(dir.clone()).await.map(Self::Folder),
        }
    }

    /// What its operations came to, where that is counted.
    pub fn tally(&self) -> Option<&Tally> {
        match self {
            Self::S3(s) => Some(s.tally()),
            Self::Folder(_) | Self::Memory(_) => None,
        }
    }

    /// Tries whether two writers of one object are kept apart.
    ///
    /// # Errors
    /// [`Error::Unusable`] naming the condition that the store ignores.
    pub async fn probe_conditions(&self) -> Result<(), Error> {
        match self {
            Self::S3(s) => s.probe_conditions().await,
            Self::Folder(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// `folder` or `memory`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::S3(_) => "s3",
            Self::Memory(_) => "memory",
        }
    }

    /// The last write went well.
    pub fn is_healthy(&self) -> bool {
        match self {
            Self::Folder(f) => f.is_healthy(),
            Self::S3(s) => s.is_healthy(),
            Self::Memory(_) => true,
        }
    }

    /// Stores an object under its key, whole or not at all; an older one is replaced.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        match self {
            Self::Folder(f) => f.put(key, body).await,
            Self::S3(s) => s.put(key, body).await,
            Self::Memory(m) => m.put(key, body),
        }
    }

    /// Stores an immutable object: the same one again is no error, whatever became of the answer to the first try.
    ///
    /// # Errors
    /// [`Error::Taken`] when the key holds another object, and what [`Store::put`] gives.
    pub async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        match self {
            // One process writes there, and each name once.
            Self::Folder(f) => f.put(key, body).await,
            Self::S3(s) => s.put_new(key, body).await,
            Self::Memory(m) => m.put(key, body),
        }
    }

    /// Replaces a mutable object, if it still is the version `expected` (`None`: nothing). Gives the new version.
    ///
    /// # Errors
    /// [`SwapError::Other`] with what lies there instead.
    pub async fn swap(&self, key: &ObjectKey, body: Bytes, expected: Option<&Tag>, writer: &Writer) -> Result<Tag, SwapError> {
        match self {
            Self::Folder(f) => f.swap(key, body, expected, writer).await,
            Self::S3(s) => s.swap(key, body, expected, writer).await,
            Self::Memory(m) => m.swap(key, body, expected, writer),
        }
    }

    /// Reads an object whole; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Bucket`].
    pub async fn read(&self, key: &ObjectKey) -> Result<Option<Object>, Error> {
        match self {
            Self::Folder(f) => f.read(key).await,
            Self::S3(s) => s.read(key).await,
            Self::Memory(m) => Ok(m.read(key)),
        }
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn exists(&self, key: &ObjectKey) -> Result<bool, Error> {
        match self {
            Self::S3(s) => Ok(s.head(key).await?.is_some()),
            Self::Folder(_) | Self::Memory(_) => Ok(self.read(key).await?.is_some()),
        }
    }

    /// How far the copy of an object in another region is. A store that copies nothing answers [`Status::Untracked`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn replication(&self, key: &ObjectKey) -> Result<Status, Error> {
        match self {
            Self::S3(s) => s.replication(key).await,
            Self::Folder(_) | Self::Memory(_) => Ok(Status::Untracked),
        }
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        match self {
            Self::Folder(f) => f.delete(key).await,
            Self::S3(s) => s.delete(key).await,
            Self::Memory(m) => m.delete(key),
        }
    }

    /// Keys below a prefix, in order.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>, Error> {
        match self {
            Self::Folder(f) => f.list(prefix).await,
            Self::S3(s) => s.list(prefix).await,
            Self::Memory(m) => Ok(m.list(prefix)),
        }
    }
}

/// What the worker's `--store` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `folder:DIR`.
    Folder(std::path::PathBuf),
    /// `s3://BUCKET[/PREFIX]`.
    S3 {
        /// Bucket name.
        bucket: String,
        /// Stands before every key; may be empty.
        prefix: String,
    },
}

/// Text that names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no store: write folder:DIR or s3://BUCKET[/PREFIX]")]
pub struct BadLocation(String);

impl FromStr for Location {
    type Err = BadLocation;
    fn from_str(s: &str) -> Result<Self, BadLocation> {
        match s.split_once(':') {
            Some(("folder", dir)) if !dir.is_empty() => Ok(Self::Folder(dir.into())),
            Some(("s3", rest)) => match rest.strip_prefix("//").map(|r| r.split_once('/').unwrap_or((r, ""))) {
                Some((bucket, prefix)) if !bucket.is_empty() => {
                    Ok(Self::S3 { bucket: bucket.into(), prefix: prefix.trim_matches('/').into() })
                }
                _ => Err(BadLocation(s.to_owned())),
            },
            _ => Err(BadLocation(s.to_owned())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(dir) => write!(f, "folder:{}", dir.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The MIME type of an object by the end of its key (RFC 8216, 4; ISO/IEC 23009-1, C; RFC 9043 has no say in `.m4s`, browsers expect `video/iso.segment` or mp4).
pub fn content_type(key: &ObjectKey) -> &'static str {
    match key.as_str().rsplit_once('.').map(|(_, end)| end) {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("mpd") => "application/dash+xml",
        Some("m4s") => "video/iso.segment",
        Some("mp4") => "video/mp4",
        Some("jpg") => "image/jpeg",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// Cache-Control by class (rules.md 16): what is mutable is fresh for a second, what is immutable for a year.
pub fn cache_control(key: &ObjectKey) -> &'static str {
    let immutable = key.as_str().starts_with("seg/") || thumbnail::date_of(key).is_some();
    if immutable { "public, max-age=31536000, immutable" } else { "public, max-age=1" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_once_is_fresh_for_a_year_and_the_rest_for_a_second() {
        let control = |key: &str| cache_control(&ObjectKey::parse(key).unwrap());
        for key in ["seg/rw/0/local/demo/s/1/src/0.m4s", "thumb/local/demo/1764140000123.jpg"] {
            assert_eq!(control(key), "public, max-age=31536000, immutable", "{key}");
        }
        for key in ["live/local/demo/index.m3u8", "thumb/local/demo/latest.jpg", "thumb/local/1764140000123.jpg/latest.jpg"] {
            assert_eq!(control(key), "public, max-age=1", "{key}");
        }
    }

    #[test]
    fn locations_are_read_and_written_alike() {
        for text in ["folder:/tmp/x", "s3://bucket", "s3://bucket/some/prefix"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        for bad in ["", "folder:", "s3://", "s3:bucket", "gs://x", "/tmp/x"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
