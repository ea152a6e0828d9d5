//! Where objects live. Knows objects and their class; knows nothing of media time, segments or playlists.

mod folder;
mod memory;
pub(crate) mod s3;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

pub use folder::Folder;
pub use memory::Memory;
pub use s3::{Absent, Fetched, S3};

use crate::blame::Blame;
use crate::logic::model::ObjectKey;

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
            Self::Unusable { .. } => Blame::Operator,
        }
    }
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
    pub async fn open(location: &Location, endpoint: Option<&str>) -> Result<Self, Error> {
        match location {
            Location::S3 { bucket, prefix } => S3::open(bucket, prefix, endpoint).await.map(|s| Self::S3(Box::new(s))),
            Location::Folder(dir) => Folder::open(dir.clone()).await.map(Self::Folder),
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
    if key.as_str().starts_with("seg/") { "public, max-age=31536000, immutable" } else { "public, max-age=1" }
}

#[cfg(test)]
mod tests {
    use super::*;

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
