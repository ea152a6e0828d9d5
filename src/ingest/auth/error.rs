//! Why a file of keys or the way to the control plane was refused.

use std::path::PathBuf;

use crate::blame::Blame;
use crate::secret::Secret;

/// Longest file of keys, 16 MiB: about 100,000 entries, above one region's streams by two orders.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// Shortest secret that signs messages, bytes: 128 bits, if they are random.
pub const MIN_SECRET: usize = 16;

/// Reads a file with nothing but a secret, which nobody else may read. `what` says which file: `webhook secret`.
///
/// # Errors
/// [`Error`]: unreadable, open to others, or shorter than [`MIN_SECRET`].
pub fn read_secret(what: &'static str, path: &std::path::Path) -> Result<Secret, Error> {
    let text = Text::read(what, path)?;
    text.must_be_private()?;
    match text.text.trim() {
        short if short.len() < MIN_SECRET => Err(Error::Short { what, path: text.path.clone(), bytes: short.len() }),
        secret => Ok(Secret::new(secret)),
    }
}

/// Never holds a key, a passphrase or a digest. `what` says which file: `keys file`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{what} {}: {source}", path.display())]
    Read {
        /// Which.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Over 16 MiB.
    #[error("{what} {}: {bytes} bytes are too many, at most {MAX_FILE}", path.display())]
    TooLong {
        /// Which.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// It holds secrets in clear, and everybody on the machine may read it.
    #[error("{what} {}: holds secrets in clear and others may read it (mode {mode:03o}): chmod o-rwx", path.display())]
    OpenToOthers {
        /// Which.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not TOML, or an unknown or missing field.
    #[error("{what} {}, line {line}: {message}", path.display())]
    Syntax {
        /// Which.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says, without the line's text: it might hold a key.
        message: String,
    },
    /// A secret that is too short to be one.
    #[error("{what} {}: a secret of {bytes} bytes is too short, at least {MIN_SECRET}", path.display())]
    Short {
        /// Which.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its length, without white space around it.
        bytes: usize,
    },
    /// An entry that is not as it must be.
    #[error("{what} {}, entry {entry} ({of}): {fault}", path.display())]
    Entry {
        /// Which.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Number of the entry, from 1.
        entry: usize,
        /// Its stream or id: `stream anna`.
        of: String,
        /// What is wrong.
        fault: String,
    },
    /// The control plane cannot be asked like this.
    #[error("webhook: {0}")]
    Webhook(String),
}

impl Error {
    /// Always the operator: the files and addresses are his.
    pub const fn blame(&self) -> Blame {
        Blame::Operator
    }
}

/// A text read whole, with its permissions.
#[derive(Debug)]
pub(super) struct Text {
    pub what: &'static str,
    pub path: PathBuf,
    pub text: String,
    pub mode: u32,
}

impl Text {
    /// Reads a file of at most [`MAX_FILE`].
    pub(super) fn read(what: &'static str, path: &std::path::Path) -> Result<Self, Error> {
        use std::io::Read as _;
        use std::os::unix::fs::MetadataExt as _;
        let path = path.to_owned();
        let open = || -> std::io::Result<(u32, u64, String)> {
            let file = std::fs::File::open(&path)?;
            let about = file.metadata()?;
            let mut text = String::new();
            // One byte more tells a file that has grown since.
            let read = file.take(MAX_FILE + 1).read_to_string(&mut text)?;
            Ok((about.mode() & 0o777, about.len().max(u64::try_from(read).unwrap_or(u64::MAX)), text))
        };
        match open() {
            Err(source) => Err(Error::Read { what, path, source }),
            Ok((_, bytes, _)) if bytes > MAX_FILE => Err(Error::TooLong { what, path, bytes }),
            Ok((mode, _, text)) => Ok(Self { what, path, text, mode }),
        }
    }

    /// The file as TOML.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(&self.text).map_err(|e| {
            let before = e.span().and_then(|s| self.text.get(..s.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Error::Syntax { what: self.what, path: self.path.clone(), line, message: e.message().to_owned() }
        })
    }

    /// A fault of an entry, counted from 0.
    pub(super) fn fault(&self, entry: usize, of: impl std::fmt::Display, fault: impl Into<String>) -> Error {
        let path = self.path.clone();
        Error::Entry { what: self.what, path, entry: entry + 1, of: of.to_string(), fault: fault.into() }
    }

    /// Refuses secrets in clear that others may read (group may: that is how orchestrators hand files to a service).
    pub(super) fn must_be_private(&self) -> Result<(), Error> {
        if self.mode & 0o007 == 0 {
            return Ok(());
        }
        Err(Error::OpenToOthers { what: self.what, path: self.path.clone(), mode: self.mode })
    }
}
