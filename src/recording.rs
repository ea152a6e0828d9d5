//! Writes the playlists of a recording from what lies in the store (rules.md 17). Any worker may, as often as it likes: the newest look at the
//! store wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use crate::clock::Clock;
use crate::cmaf::fragment;
use crate::logic::journal::{Journal, JournalError};
use crate::logic::model::{Keys, ObjectKey, Region, SessionId, StreamId};
use crate::logic::recording::{Measured, assemble, files, unnamed};
use crate::store::{Error, Store, SwapError, Tag, Writer};

/// Objects that are read at once: of an S3 client's connections, so many leave the live uploads theirs.
const AT_ONCE: usize = 8;

/// Others that write the same recording in the middle of it: more than this in a row means that they go on with it.
const TRIES: usize = 8;

/// The wait behind a failure: first, and longest.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A session's recording.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Region of the keys.
    pub region: Region,
    /// The stream.
    pub stream: StreamId,
    /// The session.
    pub session: SessionId,
}

impl Name {
    /// Of a kept segment or a journal; `None` for what belongs to no recording.
    pub fn of(key: &ObjectKey) -> Option<Self> {
        let mut parts = key.as_str().split('/');
        match parts.next()? {
            "rec" => {}
            "seg" => {
                parts.next().filter(|class| class.ends_with('k'))?;
                parts.next()?;
            }
            _ => return None,
        }
        let mut name = || parts.next();
        Some(Self { region: name()?.parse().ok()?, stream: name()?.parse().ok()?, session: name()?.parse().ok()? })
    }

    fn keys(&self) -> Keys {
        Keys::new(&self.region, &self.stream, &self.session, 0, Default::default()).of_recording()
    }
}

/// Why a recording has no playlists.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
    /// A journal of a later version: a newer worker has to do it.
    #[error("{key}: {error}")]
    Journal {
        /// Which.
        key: ObjectKey,
        /// Why.
        error: JournalError,
    },
    /// Somebody else writes it all the time.
    #[error("others write the same recording")]
    Contended,
}

impl RecordingError {
    /// Whether it may go well later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Store(e) => e.retry(),
            Self::Journal { .. } => false,
            Self::Contended => true,
        }
    }
}

/// Writes the playlists, however long the store takes. Gives the number of rows; 0 where nothing was recorded.
///
/// # Errors
/// [`RecordingError`] that no waiting mends.
pub async fn write_in_time(store: Arc<Store>, name: Name, clock: Clock) -> Result<usize, RecordingError> {
    let mut wait = WAIT.0;
    loop {
        match write(&store, &name, &clock).await {
            Err(error) if error.retry() => {
                tracing::debug!(stream = %name.stream, "recording: {error}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(WAIT.1);
            }
            outcome => return outcome,
        }
    }
}

async fn write(store: &Arc<Store>, name: &Name, clock: &Clock) -> Result<usize, RecordingError> {
    let writer = Writer { epoch: 0, nonce: format!("{:08x}", getrandom::u32().unwrap_or_default()).into() };
    for count in 0..TRIES {
        if let Some(rows) = try_write(store, name, &writer, clock, count).await? {
            return Ok(rows);
        }
    }
    Err(RecordingError::Contended)
}

/// `None`: somebody else has written in between, and may have seen more.
async fn try_write(
    store: &Arc<Store>,
    name: &Name,
    writer: &Writer,
    clock: &Clock,
    count: usize,
) -> Result<Option<usize>, RecordingError> {
    let keys = name.keys();
    // The versions first: whoever writes later has looked later.
    let mut tags: BTreeMap<ObjectKey, Tag> = BTreeMap::new();
    let (recording, journals) = (keys.recording(), keys.journals());
    let listed = store.list(&recording).await?;
    let (journal_keys, manifests): (Vec<_>, Vec<_>) = listed.into_iter().partition(|k| k.as_str().starts_with(&journals));
    for key in manifests {
        if let Some(object) = store.read(&key).await? {
            tags.insert(key, object.found.tag);
        }
    }
    let journals = read_journals(store, journal_keys).await?;
    if journals.is_empty() {
        return Ok(Some(0));
    }
    let mut there = BTreeSet::new();
    for prefix in keys.kept_segments() {
        there.extend(store.list(&prefix).await?);
    }
    let measured = measure(store, unnamed(&journals, &there)).await?;
    let Some(snapshot) = assemble(&name.session, &journals, &there, &measured) else { return Ok(Some(0)) };
    let mark = format!("{} {} {count}", name.session, writer.nonce);
    for (key, text) in files(&snapshot, &keys, clock.now().wall, &mark) {
        match store.swap(&key, Bytes::from(text), tags.get(&key), writer).await {
            Ok(_) => {}
            Err(SwapError::Other(Some(there))) if there.writer.as_ref() == Some(writer) => {}
            Err(SwapError::Other(_)) => return Ok(None),
            Err(SwapError::Failed(e)) => return Err(e.into()),
        }
    }
    Ok(Some(snapshot.rows.len()))
}

async fn read_journals(store: &Arc<Store>, keys: Vec<ObjectKey>) -> Result<Vec<Journal>, RecordingError> {
    let read = |key: ObjectKey| async move {
        let Some(object) = store.read(&key).await? else { return Ok(None) };
        match Journal::read(&object.body) {
            Ok(journal) => Ok(Some(journal)),
            Err(error @ JournalError::Later(_)) => Err(RecordingError::Journal { key, error }),
            Err(error) => {
                // Its segments are found by their names.
                tracing::warn!(%key, "{error}");
                Ok(None)
            }
        }
    };
    iter(keys).map(read).buffered(AT_ONCE).try_filter_map(|j| async move { Ok(j) }).try_collect().await
}

async fn measure(store: &Arc<Store>, keys: Vec<ObjectKey>) -> Result<BTreeMap<ObjectKey, Measured>, RecordingError> {
    let read = |key: ObjectKey| async move {
        let Some(object) = store.read(&key).await? else { return Ok(None) };
        let measured = fragment::measure(&object.body);
        if measured.is_none() {
            tracing::warn!(%key, "is no segment");
        }
        let size = object.body.len() as u64;
        Ok(measured.map(|(start, duration)| (key, Measured { start, duration, size })))
    };
    iter(keys).map(read).buffered(AT_ONCE).try_filter_map(|m| async move { Ok(m) }).try_collect().await
}
