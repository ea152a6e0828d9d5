//! What a session made and the store does not have yet: kept in memory or in the spool, uploaded, let go; and the writes of its manifests.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::{Context, Shell};
use crate::logic::model::ObjectKey;
use crate::logic::publish::Outcome;
use crate::logic::stream::{Now, Picture, Put, UPLOAD_DEADLINE};
use crate::manifests::{Manifests, WriteError};
use crate::recording::{self, RecordingError};
use crate::spool::{self, Spool};
use crate::store::{Store, checksum};

/// Bytes of segments that wait for the store in memory, where there is no spool: a live window (30 s) of 17 Mbit/s.
const KEPT_IN_MEMORY: u64 = 64 << 20;

/// Objects in memory, or on disk.
pub(super) struct Held {
    pub(super) objects: Vec<(ObjectKey, Option<Bytes>)>,
    pub(super) in_memory: u64,
    pub(super) on_disk: bool,
}

/// An object that is on disk stays in memory as well while so little is there: most are durable before anybody asks the disk for them.
const BESIDE_SPOOL: u64 = 8 << 20;

/// Objects of recordings only that are given up at once for one that finds no room.
const SHED_AT_ONCE: usize = 8;

pub(super) struct Uploaded {
    pub(super) id: u64,
    pub(super) outcome: Outcome,
    pub(super) reason: String,
}

pub(super) enum Written {
    Done(Result<(), String>),
    Fenced(WriteError),
}

pub(super) struct Spooled {
    pub(super) id: u64,
    pub(super) keys: Vec<ObjectKey>,
    pub(super) outcome: Result<(), spool::Error>,
}

async fn spool_all(spool: Arc<Spool>, id: u64, objects: Vec<(ObjectKey, Bytes)>) -> Spooled {
    let keys = objects.iter().map(|(key, _)| key.clone()).collect();
    for (key, body) in objects {
        if let Err(e) = spool.write(&key, body).await {
            return Spooled { id, keys, outcome: Err(e) };
        }
    }
    Spooled { id, keys, outcome: Ok(()) }
}

async fn unspool(spool: Arc<Spool>, keys: Vec<ObjectKey>) {
    for key in keys {
        if let Err(error) = spool.remove(&key).await {
            tracing::warn!(%error, "object stays in the spool");
        }
    }
}

pub(super) async fn upload(
    store: Arc<Store>,
    spool: Option<Arc<Spool>>,
    id: u64,
    objects: Vec<(ObjectKey, Option<Bytes>)>,
) -> Uploaded {
    for (key, body) in objects {
        let body = match (body, &spool) {
            (Some(body), _) => body,
            (None, Some(spool)) => match spool.read(&key).await {
                Ok(Some(body)) => body,
                // An init segment that another put has brought to the store meanwhile.
                Ok(None) => continue,
                Err(e) => return Uploaded { id, outcome: Outcome::Lost, reason: e.to_string() },
            },
            (None, None) => continue,
        };
        if let Err(e) = store.put_new(&key, body).await {
            let outcome = if e.retry() { Outcome::Failed } else { Outcome::Lost };
            return Uploaded { id, outcome, reason: e.to_string() };
        }
    }
    Uploaded { id, outcome: Outcome::Stored, reason: String::new() }
}

pub(super) async fn write_manifests(manifests: Arc<Mutex<Manifests>>, files: Vec<(ObjectKey, String)>) -> Written {
    match manifests.lock().await.write_all(files).await {
        Ok(()) => Written::Done(Ok(())),
        Err(fenced @ WriteError::Fenced { .. }) => Written::Fenced(fenced),
        Err(e) => Written::Done(Err(e.to_string())),
    }
}

/// Its own name first: who sees the latest one finds it there too.
pub(super) async fn put_thumbnail(store: Arc<Store>, picture: Picture) -> Result<(), String> {
    let Picture { own, latest, jpeg } = picture;
    let stored = async {
        if let Some(key) = own {
            store.put_new(&key, jpeg.clone()).await?;
        }
        store.put(&latest, jpeg).await
    };
    match tokio::time::timeout(UPLOAD_DEADLINE, stored).await {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err(format!("not stored within {} s", UPLOAD_DEADLINE.as_secs())),
    }
}

impl Shell {
    /// One that is lost is counted; the store's own trouble is told by those who need it.
    pub(super) fn thumbnail_stored(&mut self, outcome: Result<(), String>) {
        if let Err(reason) = &outcome {
            tracing::debug!(stream = %self.id, "thumbnail lost: {reason}");
        }
        self.stream.thumbnail_stored(outcome.is_ok());
    }

    pub(super) fn keep(&mut self, put: Put) -> Option<impl Future<Output = Spooled> + use<>> {
        let now = self.now();
        let bytes: u64 = put.objects.iter().map(|(_, body)| body.len() as u64).sum();
        let id = put.id;
        for (key, body) in &put.objects {
            // What was made, for who compares it with what came to the store.
            tracing::debug!(target: "weir::produced", stream = %self.id, %key, bytes = body.len(), crc32 = checksum(body), "made");
        }
        self.held_bytes += bytes;
        let objects = put.objects.iter().map(|(key, body)| (key.clone(), Some(body.clone()))).collect();
        self.held.insert(id, Held { objects, in_memory: bytes, on_disk: false });
        match &self.context.spool {
            Some(spool) => Some(spool_all(Arc::clone(spool), id, put.objects)),
            None => {
                self.kept_in_memory(id, now);
                None
            }
        }
    }

    fn kept_in_memory(&mut self, id: u64, now: Now) {
        if self.held_bytes > KEPT_IN_MEMORY {
            self.forget(id);
            self.stream.kept(id, Err("the store is behind and there is no room to wait for it".into()), now);
        } else {
            self.stream.kept(id, Ok(()), now);
        }
    }

    /// The spool has the objects, or has no room.
    pub(super) fn spooled(&mut self, Spooled { id, keys, outcome }: Spooled) {
        let now = self.now();
        if let (false, Some(spool)) = (self.held.contains_key(&id), &self.context.spool) {
            // Given up while it was written.
            tokio::spawn(unspool(Arc::clone(spool), keys));
            return;
        }
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.spool_full) {
                    tracing::info!(stream = %self.id, "the spool has room again");
                }
                if let Some(held) = self.held.get_mut(&id) {
                    held.on_disk = true;
                    if self.held_bytes > BESIDE_SPOOL {
                        held.objects.iter_mut().for_each(|(_, body)| *body = None);
                        self.held_bytes -= std::mem::take(&mut held.in_memory);
                    }
                }
                self.stream.kept(id, Ok(()), now);
            }
            Err(e) => {
                for _ in 0..SHED_AT_ONCE {
                    let Some(given_up) = self.stream.shed() else { break };
                    self.forget(given_up);
                }
                if !std::mem::replace(&mut self.spool_full, true) {
                    tracing::warn!(stream = %self.id, "{e}");
                }
                self.kept_in_memory(id, now);
                if self.context.refuse_when_full && self.publisher.is_some() {
                    self.refuse(&format!("nothing more can be kept: {e}"));
                }
            }
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        let Some(held) = self.held.remove(&id) else { return };
        self.held_bytes -= held.in_memory;
        if let (Some(spool), true) = (&self.context.spool, held.on_disk) {
            let keys = held.objects.into_iter().map(|(key, _)| key).collect();
            tokio::spawn(unspool(Arc::clone(spool), keys));
        }
    }

    pub(super) fn uploaded(&mut self, uploaded: Uploaded) {
        let now = self.now();
        if let (Outcome::Stored, Some(replication), Some(held)) =
            (uploaded.outcome, &self.context.replication, self.held.get(&uploaded.id))
        {
            held.objects.iter().for_each(|(key, _)| replication.stored(&self.id, key));
        }
        if uploaded.outcome != Outcome::Failed {
            self.forget(uploaded.id);
        }
        self.stream.stored(uploaded.id, uploaded.outcome, &uploaded.reason, now);
    }

    /// The recording's playlists, by what is durable now.
    pub(super) fn record(&self) -> impl Future<Output = Result<usize, RecordingError>> + use<> {
        let Context { store, clock, .. } = &self.context;
        recording::write_in_time(Arc::clone(store), self.recording.clone(), *clock)
    }

    pub(super) fn recorded(&mut self, outcome: Result<usize, RecordingError>) {
        if let Ok(rows @ 1..) = outcome {
            tracing::info!(stream = %self.id, session = %self.recording.session, segments = rows, "recording written");
        }
        let now = self.now();
        self.stream.recorded(outcome.map(drop).map_err(|e| e.to_string()), now);
    }

    pub(super) fn written(&mut self, written: Written) {
        let now = self.now();
        match written {
            Written::Done(outcome) => self.stream.manifests_written(outcome, now),
            Written::Fenced(reason) => {
                tracing::warn!(stream = %self.id, "{reason}: the publisher is disconnected");
                self.publisher = None;
                self.codec = None;
                self.stream.fenced(now);
            }
        }
    }
}
