//! `state.json`: who writes a stream, and what another worker must know to go on with it (rules.md 16, 18 and 20). Pure.
//!
//! The playlists themselves are the record of what is listed; this holds what they do not say: the epoch, the rung set as it was announced, the
//! formats behind the init segments, and where the DASH Periods begin.

use serde::{Deserialize, Serialize};

use super::model::{SessionId, TrackName};
use super::playlist::{Era, Init, Track};
use super::services::Services;
use super::time::{MediaTime, UnixMillis};

/// Version of the form. A worker reads its own and all lower ones; fields that it does not know are left alone, so that only a change of meaning
/// needs a new number.
pub const VERSION: u32 = 1;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Somebody writes it, or may go on with it.
    Live,
    /// Its playlists are ended.
    Ended,
}

/// The contents of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`] of who wrote it.
    pub v: u32,
    /// Who wrote it, and which write of his it is: equal bytes would give an equal ETag (rules.md 18).
    pub mark: String,
    /// How far it is.
    pub phase: Phase,
    /// The session.
    pub session: SessionId,
    /// The writer's term; counts all writers of the stream, over all its sessions.
    pub epoch: u32,
    /// The writing worker's name, for people.
    pub worker: String,
    /// Wall clock of this write. A session that nobody wrote for `end_after` is ended by any worker.
    pub updated: UnixMillis,
    /// Media sequence number of the next segment.
    pub number: u64,
    /// Discontinuities before it.
    pub discontinuity_sequence: u64,
    /// The session as its playlists announced it; `None` before the first.
    pub announced: Option<Announced>,
}

/// What the first playlists of a session fixed (rules.md 1 and 3), and what has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Wall clock of media time 0.
    pub anchor: UnixMillis,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// Length of the live window.
    pub window: MediaTime,
    /// Media time at which the last listed segment ends.
    pub end: MediaTime,
    /// The rung set, best first, audio last.
    pub tracks: Vec<Track>,
    /// The track that is the publisher's own video, if the session has one.
    pub source: Option<TrackName>,
    /// Eras of the listed rows, and where each begins.
    pub eras: Vec<Era>,
    /// The init segments of the listed rows.
    pub inits: Vec<Init>,
    /// Closed captions that were announced (rules.md 10). Not told by writers that knew none.
    #[serde(default, skip_serializing_if = "Services::is_empty")]
    pub captions: Services,
}

/// How old a copy of a checkpoint may be when another region goes on with it, seconds: the fleet's RPO. What was listed meanwhile is not known there.
const OLDEST_COPY: i64 = 1800;

/// Segments and discontinuities more than fit into [`OLDEST_COPY`].
const SPARE: u64 = 100;

/// A `state.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is of a later version of Weir.
    #[error(
        "state.json is of version {0}, this worker reads {VERSION}: it needs an update before it can go on with the stream"
    )]
    Later(u32),
    /// It is no such JSON.
    #[error("state.json: {0}")]
    Broken(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl State {
    /// Reads one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read(bytes: &[u8]) -> Result<Self, StateError> {
        // The version alone first: a later form may differ in everything else.
        let Version { v } = serde_json::from_slice(bytes)?;
        if v > VERSION {
            return Err(StateError::Later(v));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The same session, gone on with in another region (rules.md 20): both sequences jump over all that may have been listed since this copy was made, and
    /// nothing that was listed there lies here. To a player that comes over, a step forward is a reload that it missed; a step back would break it.
    #[must_use]
    pub fn moved(&self, now: UnixMillis) -> Self {
        // Longer ago, nobody watches it any more: a new session begins behind its numbers.
        let recent = now.since(self.updated) <= MediaTime::from_secs(OLDEST_COPY);
        let announced = self.announced.as_ref().filter(|_| self.phase == Phase::Live && recent);
        let target = announced.map_or(1, |a| u64::from(a.target_duration.max(1)));
        let jump = OLDEST_COPY.unsigned_abs() / target + SPARE;
        Self {
            number: self.number.saturating_add(jump),
            discontinuity_sequence: self.discontinuity_sequence.saturating_add(jump),
            announced: announced.map(|a| Announced { eras: Vec::new(), inits: Vec::new(), ..a.clone() }),
            ..self.clone()
        }
    }

    /// Writes it down.
    ///
    /// # Errors
    /// [`serde_json::Error`], which this form does not give.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_wrote_is_read() {
        let state = State::read(include_bytes!("../../tests/fixtures/state-v1.json")).unwrap();
        assert_eq!((state.epoch, state.number, state.discontinuity_sequence), (3, 41, 2));
        let announced = state.announced.as_ref().unwrap();
        assert_eq!(announced.tracks.len(), 2);
        assert_eq!(announced.inits[0].format, announced.tracks[0].format);
        assert!(announced.captions.is_empty());
        assert_eq!(State::read(state.write().unwrap().as_bytes()).unwrap(), state);
    }

    #[test]
    fn closed_captions_are_told_to_the_next_writer() {
        let mut state = State::read(include_bytes!("../../tests/fixtures/state-v1.json")).unwrap();
        assert!(!state.write().unwrap().contains("captions"));
        state.announced.as_mut().unwrap().captions = ["CC1", "SERVICE2"].map(|s| s.parse().unwrap()).into();
        let text = state.write().unwrap();
        assert!(text.contains("\"captions\":[\"CC1\",\"SERVICE2\"]"), "{text}");
        assert_eq!(State::read(text.as_bytes()).unwrap(), state);
        assert_eq!(state.moved(state.updated).announced.unwrap().captions.len(), 2, "in another region too");
    }

    #[test]
    fn dates_that_moved_are_told_to_the_next_writer() {
        let mut state = State::read(include_bytes!("../../tests/fixtures/state-v1.json")).unwrap();
        let moved = Era { number: 7, start: MediaTime(180_000), shift: MediaTime(-45_900) };
        state.announced.as_mut().unwrap().eras.push(moved);
        let text = state.write().unwrap();
        assert!(text.contains("[7,180000,-45900]"), "{text}");
        assert_eq!(State::read(text.as_bytes()).unwrap(), state);
    }

    #[test]
    fn another_region_goes_on_behind_all_that_may_have_been_listed() {
        let state = State::read(include_bytes!("../../tests/fixtures/state-v1.json")).unwrap();
        let at = |s: i64| state.updated.plus(MediaTime::from_secs(s));
        let moved = state.moved(at(60));
        assert_eq!((moved.number, moved.discontinuity_sequence), (41 + 1000, 2 + 1000));
        let (there, here) = (state.announced.as_ref().unwrap(), moved.announced.as_ref().unwrap());
        assert_eq!((&there.tracks, there.anchor, there.end), (&here.tracks, here.anchor, here.end));
        assert!(here.eras.is_empty() && here.inits.is_empty(), "nothing of it lies here");
        assert!(state.moved(at(3600)).announced.is_none(), "nobody watches it any more");
        assert!(State { phase: Phase::Ended, ..state.clone() }.moved(at(60)).announced.is_none());
    }

    #[test]
    fn a_later_version_is_refused_by_its_number_and_unknown_fields_are_left_alone() {
        let text = include_str!("../../tests/fixtures/state-v1.json");
        let later = text.replacen("\"v\":1", "\"v\":2", 1).replacen("\"phase\"", "\"stage\"", 1);
        assert!(matches!(State::read(later.as_bytes()), Err(StateError::Later(2))));
        let more = text.replacen("\"v\":1", "\"v\":1,\"colour\":\"red\"", 1);
        assert!(State::read(more.as_bytes()).is_ok());
        assert!(matches!(State::read(b"{}"), Err(StateError::Broken(_))));
    }
}
