//! A file whose contents are in force, read again when it changes.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::error::Error;

/// How often files are looked at: a key that was taken away is in use for two seconds at the most, and a look costs one `stat`.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// What a file looks like from outside: another one has another number, and one that is written over another time or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
}

impl Stamp {
    /// `None` where nothing can be seen; symbolic links are followed, because orchestrators swap them.
    fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self {
            device: about.dev(),
            inode: about.ino(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
            length: about.len(),
        })
    }
}

/// What a look at a file came to.
#[derive(Debug)]
pub(super) enum Looked {
    /// Nothing new, or not whole yet.
    Same,
    /// It was read again.
    Read,
    /// It is broken or gone; said once for each change.
    Kept(Error),
}

/// The stamps of the last look and of the last reading.
#[derive(Debug)]
struct Seen {
    last: Option<Stamp>,
    read: Option<Stamp>,
}

/// The file.
pub(super) struct Reloaded<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<T, Error>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

impl<T: fmt::Debug> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path.display(), self.current())
    }
}

impl<T> Reloaded<T> {
    pub(super) fn open(path: PathBuf, read: fn(&Path) -> Result<T, Error>) -> Result<Self, Error> {
        // Looked at before it is read: a change in between is seen at the next look.
        let stamp = Stamp::of(&path);
        let current = RwLock::new(Arc::new(read(&path)?));
        Ok(Self { path, read, current, seen: Mutex::new(Seen { last: stamp, read: stamp }) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in force.
    pub(super) fn current(&self) -> Arc<T> {
        // It is replaced whole: a poisoned lock is as good as any.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file if it has changed and has stayed the same since the last look, so that nothing is read that is only half written; `at_once` whatever
    /// it looks like.
    pub(super) fn look(&self, at_once: bool) -> Looked {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&self.path);
        let settled = std::mem::replace(&mut seen.last, stamp) == stamp;
        if !at_once && (stamp == seen.read || !settled) {
            return Looked::Same;
        }
        seen.read = stamp;
        match (self.read)(&self.path) {
            Ok(read) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                Looked::Read
            }
            Err(error) => Looked::Kept(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Result<u32, Error> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.parse().map_err(|_| Error::Webhook("no number".into()))
    }

    #[test]
    fn a_file_is_read_again_once_it_stays_the_same_and_a_broken_one_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let file = Reloaded::open(path.clone(), number).unwrap();
        let look = || match file.look(false) {
            Looked::Same => "same",
            Looked::Read => "read",
            Looked::Kept(_) => "kept",
        };
        assert_eq!((look(), *file.current()), ("same", 1));
        std::fs::write(&path, "22").unwrap();
        assert_eq!((look(), *file.current()), ("same", 1), "it may be half written");
        assert_eq!((look(), *file.current(), look()), ("read", 22, "same"));
        std::fs::write(&path, "broken").unwrap();
        assert_eq!((look(), look(), look(), *file.current()), ("same", "kept", "same", 22));
        std::fs::remove_file(&path).unwrap();
        assert_eq!((look(), look(), look(), *file.current()), ("same", "kept", "same", 22));
        // As editors and orchestrators replace files.
        std::fs::write(folder.path().join("new"), "4").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(matches!(file.look(true), Looked::Read), "told to look, it does not wait");
        assert_eq!((*file.current(), look()), (4, "same"));
    }
}
