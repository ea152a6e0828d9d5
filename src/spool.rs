//! Objects on disk until they are durable in the store (rules.md 22): what a worker made outlives the worker.
//!
//! `DIR/WORKER/objects/KEY`, written beside its name and renamed, so that a file is whole or not there. Nothing is synced unless `sync` is set: a file
//! survives the end of the process, however it comes, because the page cache does; a power cut may take the last seconds. `DIR/WORKER/lock` is
//! held while the worker lives. A worker that starts takes over the folders in `DIR` whose locks nobody holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::blame::Blame;
use crate::logic::model::ObjectKey;

/// Version of the layout; a later one is not touched.
const VERSION: u32 = 1;

/// Why the spool cannot be used, or cannot take an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another worker has it.
    #[error("spool {} is in use by process {holder}", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process id that its lock file names.
        holder: String,
    },
    /// Of a later version of Weir.
    #[error("spool {} is of version {version}, this worker knows {VERSION}", folder.display())]
    Version {
        /// The folder.
        folder: PathBuf,
        /// What its file `version` says.
        version: String,
    },
    /// No room by the own limit.
    #[error("spool is full: {used} bytes of {limit} are in use")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// No room on its disk.
    #[error("spool is full: no space is left on the disk of {}", folder.display())]
    DiskFull {
        /// The worker's folder.
        folder: PathBuf,
    },
    /// Anything else.
    #[error("spool {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Locked { .. } | Self::Version { .. } | Self::Full { .. } | Self::DiskFull { .. } => Blame::Operator,
            Self::File { .. } => Blame::Worker,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    since: SystemTime,
}

/// One worker's folder.
#[derive(Debug)]
pub struct Spool {
    parent: PathBuf,
    folder: PathBuf,
    limit: u64,
    sync: bool,
    /// Held for the life of the spool.
    _lock: fs::File,
    index: Mutex<BTreeMap<ObjectKey, Kept>>,
    used: AtomicU64,
    counter: AtomicU64,
}

impl Spool {
    /// Opens `dir/worker`, makes it if it is not there, and reads what an earlier run left.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Version`], [`Error::File`].
    pub fn open(dir: &Path, worker: &str, limit: u64, sync: bool) -> Result<Self, Error> {
        let folder = dir.join(worker);
        let objects = folder.join("objects");
        fs::create_dir_all(&objects).map_err(failed("make", &objects))?;
        let lock = lock(&folder)?;
        check_version(&folder)?;
        let spool = Self {
            parent: dir.to_owned(),
            folder,
            limit,
            sync,
            _lock: lock,
            index: Mutex::default(),
            used: AtomicU64::new(0),
            counter: AtomicU64::new(0),
        };
        spool.read_index(&objects)?;
        Ok(spool)
    }

    fn read_index(&self, objects: &Path) -> Result<(), Error> {
        for (path, meta) in files(objects).map_err(failed("list", objects))? {
            let key = path.strip_prefix(objects).ok().and_then(Path::to_str).and_then(ObjectKey::parse);
            match key.filter(|k| !k.as_str().ends_with(".unfinished")) {
                Some(key) => self.count(key, meta.len(), meta.modified().unwrap_or_else(|_| SystemTime::now())),
                // The worker died while it wrote it.
                None => fs::remove_file(&path).map_err(failed("remove", &path))?,
            }
        }
        Ok(())
    }

    fn count(&self, key: ObjectKey, bytes: u64, since: SystemTime) {
        let old = self.index.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Kept { bytes, since });
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.used.fetch_sub(old.map_or(0, |o| o.bytes), Ordering::Relaxed);
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.folder.join("objects").join(key.as_str())
    }

    /// Keeps an object.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::DiskFull`], [`Error::File`].
    pub async fn write(self: &Arc<Self>, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let (used, limit, bytes) = (self.bytes(), self.limit, body.len() as u64);
        if used.saturating_add(bytes) > limit {
            return Err(Error::Full { used, limit });
        }
        let (spool, key) = (Arc::clone(self), key.clone());
        let path = self.path(&key);
        blocking("write", &path.clone(), move || {
            spool.write_file(&path, &body)?;
            spool.count(key, bytes, SystemTime::now());
            Ok(())
        })
        .await
        .map_err(|e| match e {
            Error::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Error::DiskFull { folder: self.folder.clone() }
            }
            other => other,
        })
    }

    fn write_file(&self, path: &Path, body: &[u8]) -> io::Result<()> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{number}.unfinished"));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let written = fs::File::create(&unfinished).and_then(|mut file| {
            file.write_all(body)?;
            if self.sync { file.sync_data() } else { Ok(()) }
        });
        let moved = written.and_then(|()| fs::rename(&unfinished, path));
        if moved.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        moved
    }

    /// Reads an object back; `None` when it is not there (any more).
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn read(self: &Arc<Self>, key: &ObjectKey) -> Result<Option<Bytes>, Error> {
        let path = self.path(key);
        blocking("read", &path.clone(), move || match fs::read(&path) {
            Ok(body) => Ok(Some(body.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        })
        .await
    }

    /// Lets an object go: it is durable, or nobody wants it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn remove(self: &Arc<Self>, key: &ObjectKey) -> Result<(), Error> {
        let (spool, path) = (Arc::clone(self), self.path(key));
        let old = self.index.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.used.fetch_sub(old.map_or(0, |o| o.bytes), Ordering::Relaxed);
        blocking("remove", &path.clone(), move || {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let root = spool.folder.join("objects");
            let mut folder = path.parent();
            // A folder that another object is just being written into is not empty, or is made again by its writer.
            while let Some(f) = folder.filter(|f| *f != root && fs::remove_dir(f).is_ok()) {
                folder = f.parent();
            }
            Ok(())
        })
        .await
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// No new stream should count on it: four fifths of what it may hold, or of what its disk lets it hold, are in use. The rest is for those that are
    /// live.
    pub fn is_nearly_full(&self) -> bool {
        let used = self.bytes();
        // A disk that does not say is taken for one with room.
        let room = statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let most = self.limit.min(used.saturating_add(room));
        used >= most - most / 5
    }

    /// Bytes that it may hold.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How long the oldest object has waited.
    pub fn oldest(&self) -> Option<Duration> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.values().map(|k| k.since).min().map(|since| since.elapsed().unwrap_or_default())
    }

    /// All objects, oldest first; an init segment before the segments of its folder that are of the same age.
    pub fn objects(&self) -> Vec<ObjectKey> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = index.iter().map(|(key, k)| (k.since, !key.as_str().ends_with(".mp4"), key.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Takes over what dead workers left in the same `dir`. A living one's folder is locked. Gives how many objects came.
    ///
    /// # Errors
    /// [`Error::File`]; what was moved by then is the own.
    pub fn adopt_orphans(&self) -> Result<usize, Error> {
        let mut adopted = 0;
        for entry in fs::read_dir(&self.parent).map_err(failed("list", &self.parent))? {
            let folder = entry.map_err(failed("list", &self.parent))?.path();
            if folder == self.folder || !folder.join("objects").is_dir() {
                continue;
            }
            let Ok(_lock) = lock(&folder) else { continue };
            if check_version(&folder).is_err() {
                continue;
            }
            let objects = folder.join("objects");
            for (path, meta) in files(&objects).map_err(failed("list", &objects))? {
                let key = path.strip_prefix(&objects).ok().and_then(Path::to_str).and_then(ObjectKey::parse);
                let Some(key) = key.filter(|k| !k.as_str().ends_with(".unfinished")) else { continue };
                let own = self.path(&key);
                if let Some(parent) = own.parent() {
                    fs::create_dir_all(parent).map_err(failed("make", parent))?;
                }
                fs::rename(&path, &own).map_err(failed("adopt", &path))?;
                self.count(key, meta.len(), meta.modified().unwrap_or_else(|_| SystemTime::now()));
                adopted += 1;
            }
            fs::remove_dir_all(&folder).map_err(failed("remove", &folder))?;
        }
        Ok(adopted)
    }
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::File { operation, path: path.to_owned(), source }
}

/// Takes the folder's lock and writes the process id into it, for who finds it locked.
fn lock(folder: &Path) -> Result<fs::File, Error> {
    let path = folder.join("lock");
    let open = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = open.map_err(failed("lock", &path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        return Err(Error::Locked { folder: folder.to_owned(), holder: holder.trim().to_owned() });
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed("lock", &path))?;
    Ok(file)
}

fn check_version(folder: &Path) -> Result<(), Error> {
    let path = folder.join("version");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().parse::<u32>().is_ok_and(|v| v <= VERSION) => Ok(()),
        Ok(text) => Err(Error::Version { folder: folder.to_owned(), version: text.trim().to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::write(&path, format!("{VERSION}\n")).map_err(failed("write", &path))
        }
        Err(e) => Err(failed("read", &path)(e)),
    }
}

fn files(below: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let (mut folders, mut files) = (vec![below.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let (path, meta) = (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(fs::DirEntry::metadata));
            match (path, meta) {
                (Ok(path), Ok(Ok(meta))) if meta.is_dir() => folders.push(path),
                (Ok(path), Ok(Ok(meta))) => files.push((path, meta)),
                _ => {}
            }
        }
    }
    Ok(files)
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    done.map_err(failed(operation, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::parse(text).unwrap()
    }

    const A: &str = "seg/rw/0/r/s/1/1/src/0.m4s";
    const INIT: &str = "seg/rw/0/r/s/1/1/src/init-00000000.mp4";

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_restart_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(dir.path(), "w", 1000, true).unwrap());
        spool.write(&key(INIT), Bytes::from_static(b"init")).await.unwrap();
        spool.write(&key(A), Bytes::from_static(b"segment")).await.unwrap();
        spool.write(&key(A), Bytes::from_static(b"segment")).await.unwrap();
        assert_eq!(spool.bytes(), 11);
        // What a worker that is killed leaves behind.
        fs::write(dir.path().join("w/objects/seg/rw/0/r/s/1/1/src/2.7.unfinished"), b"half").unwrap();
        drop(spool);
        let spool = Arc::new(Spool::open(dir.path(), "w", 1000, false).unwrap());
        assert_eq!(spool.objects(), [key(INIT), key(A)]);
        assert_eq!(spool.read(&key(A)).await.unwrap().unwrap(), "segment");
        assert!(spool.oldest().is_some());
        for k in spool.objects() {
            spool.remove(&k).await.unwrap();
        }
        assert_eq!((spool.bytes(), spool.oldest(), spool.read(&key(A)).await.unwrap()), (0, None, None));
        assert_eq!(fs::read_dir(dir.path().join("w/objects")).unwrap().count(), 0, "no folder stays");
    }

    #[tokio::test]
    async fn a_full_spool_says_so_and_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(dir.path(), "w", 10, false).unwrap());
        spool.write(&key(A), Bytes::from_static(b"segment")).await.unwrap();
        let full = spool.write(&key(INIT), Bytes::from_static(b"init")).await.unwrap_err();
        assert!(matches!(full, Error::Full { used: 7, limit: 10 }), "{full}");
        assert_eq!(spool.read(&key(A)).await.unwrap().unwrap(), "segment");
    }

    #[tokio::test]
    async fn the_folder_of_a_living_worker_is_locked_and_that_of_a_dead_one_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let a = Arc::new(Spool::open(dir.path(), "a", 1000, false).unwrap());
        a.write(&key(A), Bytes::from_static(b"segment")).await.unwrap();
        let e = Spool::open(dir.path(), "a", 1000, false).unwrap_err();
        assert!(matches!(&e, Error::Locked { holder, .. } if *holder == std::process::id().to_string()), "{e}");
        let b = Arc::new(Spool::open(dir.path(), "b", 1000, false).unwrap());
        assert_eq!(b.adopt_orphans().unwrap(), 0);
        drop(a);
        assert_eq!(b.adopt_orphans().unwrap(), 1);
        assert_eq!(b.read(&key(A)).await.unwrap().unwrap(), "segment");
        assert_eq!(b.bytes(), 7);
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn a_later_version_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("w/objects")).unwrap();
        fs::write(dir.path().join("w/version"), "2\n").unwrap();
        assert!(matches!(Spool::open(dir.path(), "w", 1, false), Err(Error::Version { .. })));
        fs::write(dir.path().join("w/version"), "1\n").unwrap();
        assert!(Spool::open(dir.path(), "w", 1, false).is_ok(), "what version 1 wrote is read");
    }
}
