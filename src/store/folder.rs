//! A local folder as store: file = key below one root. Written beside its name and renamed, so that a reader sees it whole or not at all.
//!
//! Nothing is synced to disk: after a power cut the last seconds may be missing. It is the store of a laptop and of tests; S3 is the
//! product's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::{Error, Found, Object, SwapError, Tag, Writer, checksum};
use crate::logic::model::ObjectKey;

/// See the module.
#[derive(Debug)]
pub struct Folder {
    root: Arc<Path>,
    /// Makes the names of unfinished files unique within this process.
    counter: AtomicU64,
    /// The last write went well.
    healthy: AtomicBool,
    /// Held over a comparison and the write behind it: one process writes here.
    swapping: tokio::sync::Mutex<()>,
}

impl Folder {
    /// Makes the folder if it is not there and tries to write to it.
    ///
    /// # Errors
    /// [`Error::Unusable`].
    pub async fn open(root: PathBuf) -> Result<Self, Error> {
        let unusable = |e: io::Error| Error::Unusable { store: format!("folder:{}", root.display()), reason: e.to_string() };
        tokio::fs::create_dir_all(&root).await.map_err(unusable)?;
        let root = tokio::fs::canonicalize(&root).await.map_err(unusable)?;
        let folder = Self {
            root: root.clone().into(),
            counter: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            swapping: tokio::sync::Mutex::default(),
        };
        let probe = root.join(folder.unfinished());
        let tried = tokio::fs::write(&probe, b"").await;
        let _ = tokio::fs::remove_file(&probe).await;
        tried.map_err(|e| Error::Unusable { store: format!("folder:{}", root.display()), reason: e.to_string() })?;
        Ok(folder)
    }

    /// Where the object lies. A key cannot lead out of the root: see [`ObjectKey::parse`].
    pub fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn unfinished(&self) -> String {
        // A leading dot and a letter that no key has at its start: it is never served.
        format!(".unfinished-{}-{}", std::process::id(), self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let path = self.path(key);
        let unfinished = self.root.join(self.unfinished());
        let error = |source| Error::File { operation: "put", key: key.to_string(), source };
        let outcome = blocking(move || {
            std::fs::write(&unfinished, &body)?;
            let moved = match std::fs::rename(&unfinished, &path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::rename(&unfinished, &path))
                }
                other => other,
            };
            if moved.is_err() {
                let _ = std::fs::remove_file(&unfinished);
            }
            moved
        })
        .await
        .map_err(error);
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        outcome
    }

    /// A file has no metadata: who wrote it is not known, and a version is the checksum of the contents.
    pub(super) async fn swap(
        &self,
        key: &ObjectKey,
        body: Bytes,
        expected: Option<&Tag>,
        _: &Writer,
    ) -> Result<Tag, SwapError> {
        let _alone = self.swapping.lock().await;
        let found = self.read(key).await?.map(|o| o.found);
        if found.as_ref().map(|f| &f.tag) != expected {
            return Err(SwapError::Other(found));
        }
        let tag = Tag(checksum(&body).into());
        self.put(key, body).await?;
        Ok(tag)
    }

    pub(super) async fn read(&self, key: &ObjectKey) -> Result<Option<Object>, Error> {
        let path = self.path(key);
        match blocking(move || std::fs::read(path)).await {
            Ok(body) => {
                let found = Found { tag: Tag(checksum(&body).into()), writer: None };
                Ok(Some(Object { body: body.into(), found }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { operation: "read", key: key.to_string(), source }),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let path = self.path(key);
        let root = Arc::clone(&self.root);
        let error = |source| Error::File { operation: "delete", key: key.to_string(), source };
        blocking(move || {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            // Folders of a finished session go with its last object; one that is in use is not empty.
            let mut folder = path.parent();
            while let Some(f) = folder.filter(|f| *f != root.as_ref() && std::fs::remove_dir(f).is_ok()) {
                folder = f.parent();
            }
            Ok(())
        })
        .await
        .map_err(error)
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>, Error> {
        let root = Arc::clone(&self.root);
        let below = prefix.trim_end_matches('/').to_owned();
        let error = |source| Error::File { operation: "list", key: prefix.to_owned(), source };
        let mut keys = blocking(move || {
            let mut found = Vec::new();
            let mut folders = vec![root.join(&below)];
            while let Some(folder) = folders.pop() {
                let entries = match std::fs::read_dir(&folder) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                };
                for entry in entries {
                    let path = entry?.path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if let Some(key) = path.strip_prefix(&root).ok().and_then(Path::to_str).and_then(ObjectKey::parse) {
                        found.push(key);
                    }
                }
            }
            Ok(found)
        })
        .await
        .map_err(error)?;
        keys.sort();
        Ok(keys)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(s: &str) -> ObjectKey {
        ObjectKey::parse(s).unwrap()
    }

    #[tokio::test]
    async fn objects_come_and_go_with_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let store = Folder::open(dir.path().join("new")).await.unwrap();
        let (a, b) = (key("seg/lw/0/local/demo/s/1/src/0.m4s"), key("seg/lw/0/local/demo/s/1/src/9.m4s"));
        store.put(&a, Bytes::from_static(b"a")).await.unwrap();
        store.put(&b, Bytes::from_static(b"b")).await.unwrap();
        store.put(&b, Bytes::from_static(b"c")).await.unwrap();
        assert_eq!(std::fs::read(store.path(&b)).unwrap(), b"c");
        assert_eq!(store.list("seg/lw/0/local/demo").await.unwrap(), [a.clone(), b.clone()]);
        store.delete(&a).await.unwrap();
        store.delete(&a).await.unwrap();
        store.delete(&b).await.unwrap();
        assert!(store.list("seg").await.unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("new")).unwrap().count(), 0, "no empty folders stay");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        let e = Folder::open(dir.path().join("file")).await.unwrap_err();
        assert!(matches!(e, Error::Unusable { .. }), "{e}");
    }
}
