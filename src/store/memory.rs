//! A store in memory, for tests of what is written and in which order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use super::{Error, Found, Object, SwapError, Tag, Writer, checksum};
use crate::logic::model::ObjectKey;

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<ObjectKey, Stored>>,
}

#[derive(Debug)]
struct Stored {
    body: Bytes,
    writer: Option<Writer>,
}

impl Stored {
    fn found(&self) -> Found {
        Found { tag: Tag(checksum(&self.body).into()), writer: self.writer.clone() }
    }
}

impl Memory {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<ObjectKey, Stored>) -> T) -> T {
        // A test that panicked while it held the lock has failed already.
        f(&mut self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(super) fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        self.with(|o| o.insert(key.clone(), Stored { body, writer: None }));
        Ok(())
    }

    pub(super) fn swap(&self, key: &ObjectKey, body: Bytes, expected: Option<&Tag>, writer: &Writer) -> Result<Tag, SwapError> {
        self.with(|objects| {
            let found = objects.get(key).map(Stored::found);
            if found.as_ref().map(|f| &f.tag) != expected {
                return Err(SwapError::Other(found));
            }
            let stored = Stored { body, writer: Some(writer.clone()) };
            let tag = stored.found().tag;
            objects.insert(key.clone(), stored);
            Ok(tag)
        })
    }

    pub(super) fn read(&self, key: &ObjectKey) -> Option<Object> {
        self.with(|o| o.get(key).map(|s| Object { body: s.body.clone(), found: s.found() }))
    }

    pub(super) fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.with(|o| o.remove(key));
        Ok(())
    }

    pub(super) fn list(&self, prefix: &str) -> Vec<ObjectKey> {
        self.with(|o| o.keys().filter(|k| k.as_str().starts_with(prefix)).cloned().collect())
    }
}
