//! A store in memory, for tests of what is written and in which order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use super::Error;
use crate::logic::model::ObjectKey;

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<ObjectKey, Bytes>>,
}

impl Memory {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<ObjectKey, Bytes>) -> T) -> T {
        // A test that panicked while it held the lock has failed already.
        f(&mut self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(super) fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        self.with(|o| o.insert(key.clone(), body));
        Ok(())
    }

    pub(super) fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.with(|o| o.remove(key));
        Ok(())
    }

    pub(super) fn list(&self, prefix: &str) -> Vec<ObjectKey> {
        self.with(|o| o.keys().filter(|k| k.as_str().starts_with(prefix)).cloned().collect())
    }
}
