//! Conditional writes of one writer's mutable objects: each in place of the version that this writer knows, and never over a later writer's.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::logic::model::ObjectKey;
use crate::store::{Error, Store, SwapError, Tag, Writer};

/// Tries of one write: the own version whose answer was lost, then an object that was deleted by hand, then no more surprises.
const TRIES: usize = 4;

/// The versions that a writer knows.
#[derive(Debug)]
pub struct Manifests {
    store: Arc<Store>,
    writer: Writer,
    tags: HashMap<ObjectKey, Tag>,
}

/// Why a manifest was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another writer has taken the stream over.
    #[error("the stream was taken over by epoch {by}")]
    Fenced {
        /// Its term.
        by: u32,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
    /// The object changes under every try.
    #[error("{key} is written by somebody who is no worker of ours")]
    Unsteady {
        /// The key.
        key: ObjectKey,
    },
}

impl Manifests {
    /// A writer that knows these versions, and of other keys that nothing is there.
    pub fn new(store: Arc<Store>, writer: Writer, tags: HashMap<ObjectKey, Tag>) -> Self {
        Self { store, writer, tags }
    }

    /// Writes one object.
    ///
    /// # Errors
    /// [`WriteError::Fenced`] when a writer of the same or a later epoch has been there.
    pub async fn write(&mut self, key: &ObjectKey, text: String) -> Result<(), WriteError> {
        let body = Bytes::from(text);
        for _ in 0..TRIES {
            match self.store.swap(key, body.clone(), self.tags.get(key), &self.writer).await {
                Ok(tag) => {
                    self.tags.insert(key.clone(), tag);
                    return Ok(());
                }
                Err(SwapError::Failed(e)) => return Err(e.into()),
                // Deleted by hand, or by a lifecycle rule.
                Err(SwapError::Other(None)) => {
                    self.tags.remove(key);
                }
                Err(SwapError::Other(Some(there))) => {
                    match there.writer {
                        Some(other) if other.epoch > self.writer.epoch => return Err(WriteError::Fenced { by: other.epoch }),
                        Some(other) if other.epoch == self.writer.epoch && other.nonce != self.writer.nonce => {
                            return Err(WriteError::Fenced { by: other.epoch });
                        }
                        // Ours, and the answer to it was lost; or of a writer before us, which is sealed off by now.
                        _ => {}
                    }
                    self.tags.insert(key.clone(), there.tag);
                }
            }
        }
        Err(WriteError::Unsteady { key: key.clone() })
    }

    /// Writes these, in this order, up to the first that fails.
    ///
    /// # Errors
    /// As [`Manifests::write`].
    pub async fn write_all(&mut self, files: Vec<(ObjectKey, String)>) -> Result<(), WriteError> {
        for (key, text) in files {
            self.write(&key, text).await?;
        }
        Ok(())
    }
}
