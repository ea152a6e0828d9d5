//! Codec processes in store: a few stand ready past GStreamer's start, so that a new stream does not wait (rules.md 25).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::link::process::{Error, Process, Spawner};

/// The pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Codecs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    warm: usize,
    ready: Mutex<VecDeque<Process>>,
    /// Refills one at a time: processes that start together load the same plugins from the same disk.
    filling: tokio::sync::Mutex<()>,
}

impl Codecs {
    /// A pool that keeps `warm` processes ready, once [`Codecs::fill`] was called.
    pub fn new(spawner: Spawner, warm: usize) -> Self {
        let ready = Mutex::new(VecDeque::new());
        Self { shared: Arc::new(Shared { spawner, warm, ready, filling: tokio::sync::Mutex::new(()) }) }
    }

    fn pop(&self) -> Option<Process> {
        self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Brings the pool up to its size in the background.
    pub fn fill(&self) {
        let pool = self.clone();
        tokio::spawn(async move {
            let _one_at_a_time = pool.shared.filling.lock().await;
            loop {
                let have = pool.shared.ready.lock().unwrap_or_else(PoisonError::into_inner).len();
                if have >= pool.shared.warm {
                    return;
                }
                match pool.shared.spawner.spawn().await {
                    Ok(process) => pool.shared.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(process),
                    Err(error) => {
                        tracing::warn!(%error, "no warm codec process");
                        return;
                    }
                }
            }
        });
    }

    /// A ready process, or a new one.
    ///
    /// # Errors
    /// [`Error`] when none can be started.
    pub async fn take(&self) -> Result<Process, Error> {
        let ready = self.pop();
        self.fill();
        match ready {
            Some(process) if process.is_alive() => Ok(process),
            _ => self.shared.spawner.spawn().await,
        }
    }
}
