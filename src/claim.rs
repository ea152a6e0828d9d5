//! Taking a stream: one writer at a time, agreed on in the store alone (rules.md 18 and 20).
//!
//! `state.json` is the only election. Who writes the next epoch into it owns the stream; there is no lease to wait for, because a publisher
//! connected here for a reason. Then every manifest is sealed: written again as it is, under the new epoch, so that the earlier writer's ETags
//! are stale and it can add nothing more. `docs/publish.md` says what a crash between any two of these writes leaves behind.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use crate::logic::model::{Keys, ObjectKey, Region, SessionId, StreamId};
use crate::logic::pathway::PathwayId;
use crate::logic::playlist::Continuation;
use crate::logic::render::remarked;
use crate::logic::state::{self, Announced, Phase, State, StateError};
use crate::logic::stream::{Past, WriterName};
use crate::logic::takeover::{self, Unreadable};
use crate::logic::time::UnixMillis;
use crate::manifests::Manifests;
use crate::store::{Error, Store, SwapError, Tag, Writer};

/// Others that take the stream, or write a manifest of it, in the middle of it: more than this in a row is a fight that nobody should join.
const TRIES: usize = 8;

/// A stream that this worker may write.
#[derive(Debug)]
pub struct Claimed {
    /// The session: a new one, or the one that goes on.
    pub session: SessionId,
    /// This writer.
    pub writer: WriterName,
    /// What earlier ones left.
    pub past: Past,
    /// The manifests' versions.
    pub manifests: Manifests,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// Region of the keys.
    pub region: Region,
    /// The stream.
    pub stream: StreamId,
    /// The worker's name, for people.
    pub worker: String,
    /// Used if a new session begins.
    pub session: SessionId,
    /// Other regions, whose checkpoints come here as copies (rules.md 20).
    pub elsewhere: Vec<Region>,
    /// Pathways that have media playlists of their own (rules.md 15).
    pub pathways: Vec<PathwayId>,
}

/// Why the stream was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The store.
    #[error("the store does not say who writes the stream: {0}")]
    Store(#[from] Error),
    /// `state.json`.
    #[error(transparent)]
    State(#[from] StateError),
    /// Others take it at the same time.
    #[error("other workers take the stream at the same time")]
    Contended,
    /// The session ended meanwhile, or somebody went on with it: only a reaper asks.
    #[error("somebody went on with the session")]
    Alive,
}

/// Takes the stream for a publisher.
///
/// # Errors
/// [`ClaimError`].
pub async fn claim(store: &Arc<Store>, who: &Claimant, now: UnixMillis) -> Result<Claimed, ClaimError> {
    let abroad = newest_abroad(store, who).await?;
    take(store, who, abroad, now, &|_| true).await
}

/// The newest checkpoint of the stream in another region, as far as its copy has come. One that cannot be read is not there: its region may be gone.
async fn newest_abroad(store: &Arc<Store>, who: &Claimant) -> Result<Option<State>, ClaimError> {
    let mut newest: Option<State> = None;
    for region in &who.elsewhere {
        let Some(object) = store.read(&Keys::state(region, &who.stream)).await? else { continue };
        match State::read(&object.body) {
            Ok(state) if newest.as_ref().is_none_or(|n| state.updated > n.updated) => newest = Some(state),
            Ok(_) => {}
            Err(error) => tracing::warn!(stream = %who.stream, %region, "checkpoint of another region: {error}"),
        }
    }
    Ok(newest)
}

/// Takes a session that nobody wrote since `before`, to end it.
///
/// # Errors
/// [`ClaimError::Alive`] when it needs no end.
pub async fn claim_abandoned(
    store: &Arc<Store>,
    who: &Claimant,
    before: UnixMillis,
    now: UnixMillis,
) -> Result<Claimed, ClaimError> {
    take(store, who, None, now, &|s: &State| s.phase == Phase::Live && s.updated < before).await
}

async fn take(
    store: &Arc<Store>,
    who: &Claimant,
    abroad: Option<State>,
    now: UnixMillis,
    may: &(dyn Fn(&State) -> bool + Sync),
) -> Result<Claimed, ClaimError> {
    let key = Keys::state(&who.region, &who.stream);
    let nonce: Arc<str> = format!("{:08x}", getrandom::u32().unwrap_or_default()).into();
    for _ in 0..TRIES {
        let found = store.read(&key).await?;
        let old = found.as_ref().map(|o| State::read(&o.body)).transpose()?;
        if let Some(old) = &old
            && !may(old)
        {
            return Err(ClaimError::Alive);
        }
        let epoch = old.as_ref().map_or(0, |s| s.epoch).saturating_add(1);
        let writer = Writer { epoch, nonce: Arc::clone(&nonce) };
        let state = taken(who, old.as_ref(), abroad.as_ref(), &writer, now);
        let text = state.write().map_err(StateError::from)?;
        let tag = found.as_ref().map(|o| &o.found.tag);
        let tag = match store.swap(&key, Bytes::from(text), tag, &writer).await {
            Ok(tag) => tag,
            // The answer to this very write was lost.
            Err(SwapError::Other(Some(there))) if there.writer.as_ref() == Some(&writer) => there.tag,
            Err(SwapError::Other(_)) => continue,
            Err(SwapError::Failed(e)) => return Err(e.into()),
        };
        return go_on(store, who, state, writer, (key, tag)).await;
    }
    Err(ClaimError::Contended)
}

/// `state.json` of the new writer: all that the old one said, under a new epoch; or what another region's said last, if that is newer.
fn taken(who: &Claimant, old: Option<&State>, abroad: Option<&State>, writer: &Writer, now: UnixMillis) -> State {
    // A session that announced nothing has no viewers: a new one begins, as behind one that ended (rules.md 20).
    let goes_on = |s: &&State| s.phase == Phase::Live && s.announced.is_some();
    let came = abroad.filter(|a| old.is_none_or(|o| a.updated > o.updated)).map(|a| a.moved(now));
    // The other region's session goes on here under a name of its own: its objects lie elsewhere.
    let (session, announced) = match (&came, old.filter(goes_on)) {
        (Some(moved), _) => (&who.session, moved.announced.clone()),
        (None, Some(old)) => (&old.session, old.announced.clone()),
        (None, None) => (&who.session, None),
    };
    let last = |number: fn(&State) -> u64| old.map_or(0, number).max(came.as_ref().map_or(0, number));
    State {
        v: state::VERSION,
        mark: format!("{session} {} {} 0", writer.epoch, writer.nonce),
        phase: Phase::Live,
        session: session.clone(),
        epoch: writer.epoch,
        worker: who.worker.clone(),
        updated: now,
        number: last(|s| s.number),
        discontinuity_sequence: last(|s| s.discontinuity_sequence),
        announced,
    }
}

async fn go_on(
    store: &Arc<Store>,
    who: &Claimant,
    state: State,
    writer: Writer,
    (key, tag): (ObjectKey, Tag),
) -> Result<Claimed, ClaimError> {
    let mut tags = HashMap::from([(key, tag)]);
    // A new session: players of the old one are told by a step of the discontinuity sequence that nothing of it goes on.
    let step = u64::from(state.number > 0);
    let fresh = Continuation {
        number: state.number,
        discontinuity_sequence: state.discontinuity_sequence.saturating_add(step),
        ..Continuation::default()
    };
    let mut past = Past { announced: None, from: fresh };
    if let Some(announced) = state.announced {
        let keys = Keys::new(&who.region, &who.stream, &state.session, writer.epoch, Default::default());
        match seal(store, &keys, &who.pathways, &announced, &writer, &state.mark, &mut tags).await? {
            Ok(Some(from)) => past = Past { announced: Some(announced), from },
            // Nothing of it is listed here yet: it came from another region, or its first writer died before.
            Ok(None) => past.announced = Some(announced),
            Err(unreadable) => {
                tracing::warn!(stream = %who.stream, "the earlier writer's playlists cannot be gone on with: {unreadable}");
            }
        }
    }
    let session = if past.announced.is_some() { state.session } else { who.session.clone() };
    let name = WriterName { epoch: writer.epoch, nonce: Arc::clone(&writer.nonce), worker: who.worker.clone() };
    Ok(Claimed { session, writer: name, past, manifests: Manifests::new(Arc::clone(store), writer, tags) })
}

/// Writes every manifest again under the new epoch, then levels the tracks.
async fn seal(
    store: &Arc<Store>,
    keys: &Keys,
    pathways: &[PathwayId],
    announced: &Announced,
    writer: &Writer,
    mark: &str,
    tags: &mut HashMap<ObjectKey, Tag>,
) -> Result<Result<Option<Continuation>, Unreadable>, ClaimError> {
    let playlists: Vec<ObjectKey> = announced.tracks.iter().map(|t| keys.playlist(&t.name)).collect();
    let of_pathway = |id| announced.tracks.iter().map(move |t| keys.playlist_of(&t.name, Some(id)));
    let others = pathways.iter().flat_map(of_pathway).chain([keys.index(), keys.mpd()]);
    let all: Vec<ObjectKey> = playlists.iter().cloned().chain(others).collect();
    let sealed = try_join_all(all.iter().map(|key| seal_one(store, key, writer, mark))).await?;
    let mut texts: HashMap<&ObjectKey, String> = HashMap::new();
    for (key, (text, tag)) in all.iter().zip(sealed).filter_map(|(k, s)| Some((k, s?))) {
        texts.insert(key, text);
        tags.insert(key.clone(), tag);
    }
    // What an earlier session left on the same addresses is not this one's.
    let own = keys.session_part();
    let text = |text: Option<String>| text.filter(|t| t.contains(&own));
    let read: Vec<(ObjectKey, Option<String>)> = playlists.iter().map(|key| (key.clone(), text(texts.remove(key)))).collect();
    let tail = match takeover::read(announced, &read) {
        Ok(tail) => tail,
        Err(e) => return Ok(Err(e)),
    };
    let unlisted: Vec<ObjectKey> = tail.unlisted().cloned().collect();
    let mut there = BTreeSet::new();
    for (key, found) in unlisted.iter().zip(join_all(unlisted.iter().map(|key| store.exists(key))).await) {
        if found? {
            there.insert(key.clone());
        }
    }
    Ok(Ok(tail.level(&there)))
}

/// `None` when there is no such manifest yet.
async fn seal_one(
    store: &Arc<Store>,
    key: &ObjectKey,
    writer: &Writer,
    mark: &str,
) -> Result<Option<(String, Tag)>, ClaimError> {
    for _ in 0..TRIES {
        let Some(object) = store.read(key).await? else { return Ok(None) };
        let text = remarked(&String::from_utf8_lossy(&object.body), mark);
        match store.swap(key, Bytes::from(text.clone()), Some(&object.found.tag), writer).await {
            Ok(tag) => return Ok(Some((text, tag))),
            Err(SwapError::Other(Some(there))) if there.writer.as_ref() == Some(writer) => return Ok(Some((text, there.tag))),
            // The earlier writer was faster: what it added is sealed with the next try.
            Err(SwapError::Other(_)) => {}
            Err(SwapError::Failed(e)) => return Err(e.into()),
        }
    }
    Err(ClaimError::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(session: &str) -> Claimant {
        let name = |s: &str| s.parse().unwrap();
        Claimant {
            region: name("eu"),
            stream: "demo".parse().unwrap(),
            worker: "w".into(),
            session: session.parse().unwrap(),
            elsewhere: Vec::new(),
            pathways: Vec::new(),
        }
    }

    #[tokio::test]
    async fn epochs_count_the_writers_and_the_last_one_has_the_stream() {
        let store = Arc::new(Store::Memory(crate::store::Memory::default()));
        let mut a = claim(&store, &who("a"), UnixMillis(0)).await.unwrap();
        let mut b = claim(&store, &who("b"), UnixMillis(0)).await.unwrap();
        assert_eq!((a.writer.epoch, b.writer.epoch), (1, 2));
        assert_eq!(b.session, who("b").session, "nothing was announced: a new session");
        let key = ObjectKey::parse("live/eu/demo/index.m3u8").unwrap();
        b.manifests.write(&key, "#EXTM3U\n# weir b\n".into()).await.unwrap();
        let fenced = a.manifests.write(&key, "#EXTM3U\n# weir a\n".into()).await.unwrap_err();
        assert!(matches!(fenced, crate::manifests::WriteError::Fenced { by: 2 }), "{fenced:?}");
    }

    #[tokio::test]
    async fn a_stream_of_another_region_goes_on_here_and_may_go_back() {
        let store = Arc::new(Store::Memory(crate::store::Memory::default()));
        let fixture = State::read(include_bytes!("../tests/fixtures/state-v1.json")).unwrap();
        let at = |s: i64| fixture.updated.plus(crate::logic::time::MediaTime::from_secs(s));
        let us: Region = "us".parse().unwrap();
        let there = State { updated: at(0), ..fixture.clone() };
        store.put(&Keys::state(&us, &who("a").stream), Bytes::from(there.write().unwrap())).await.unwrap();
        assert!(claim(&store, &who("home"), at(1)).await.unwrap().past.announced.is_none(), "it does not look there");
        let mut here = Claimant { elsewhere: vec![us.clone()], ..who("here") };
        here.stream = "demo".parse().unwrap();
        // Its own checkpoint is newer: nothing came from there.
        assert_eq!(claim(&store, &here, at(2)).await.unwrap().past.from.number, 0);
        let later = State { updated: at(3), ..fixture };
        store.put(&Keys::state(&us, &here.stream), Bytes::from(later.write().unwrap())).await.unwrap();
        for name in ["first", "second"] {
            // The first dies before it writes anything: the second finds the same.
            let who = Claimant { session: name.parse().unwrap(), ..here.clone() };
            let claimed = claim(&store, &who, at(4)).await.unwrap();
            assert_eq!(claimed.session.as_str(), "first");
            let announced = claimed.past.announced.unwrap();
            assert_eq!(announced.tracks, later.announced.as_ref().unwrap().tracks);
            assert_eq!(claimed.past.from.number, 1041);
            assert!(claimed.past.from.rows.is_empty());
        }
    }

    #[tokio::test]
    async fn a_session_that_somebody_writes_is_not_ended() {
        let store = Arc::new(Store::Memory(crate::store::Memory::default()));
        claim(&store, &who("a"), UnixMillis(1000)).await.unwrap();
        let early = claim_abandoned(&store, &who("b"), UnixMillis(1000), UnixMillis(2000)).await;
        assert!(matches!(early, Err(ClaimError::Alive)));
        assert!(claim_abandoned(&store, &who("b"), UnixMillis(1001), UnixMillis(2000)).await.is_ok());
    }
}
