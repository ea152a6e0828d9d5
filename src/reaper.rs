//! Ends sessions that nobody goes on with (rules.md 18): their worker died and their publisher did not come back. Any worker of the region does
//! it; the epoch in `state.json` decides which.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::logic::model::{Keys, Region, StreamId};
use crate::logic::state::{Phase, State};
use crate::logic::stream::HEARTBEAT;
use crate::logic::time::{MediaTime, UnixMillis};
use crate::store::{Error, Store};

/// Between two looks. An abandoned session's end comes late by this at the most; each look is one LIST and a GET for each stream of the region
/// that has not ended.
pub const EVERY: Duration = Duration::from_secs(60);

/// What is known of the streams of a region without reading them again.
#[derive(Debug, Default)]
pub struct Reaper {
    /// Ended, as of the epoch read last. A stream that goes on is claimed by a worker, which this one need not see: a session that begins
    /// anew and is abandoned later is found because its entry is dropped every [`FORGET`]th look.
    ended: BTreeSet<StreamId>,
    looks: u32,
}

/// A session counts as abandoned after this at the earliest, whatever `end_after` says: three signs of life were missed.
const LEAST: Duration = HEARTBEAT.saturating_mul(3);

/// An ended stream is read again after so many looks: once an hour.
const FORGET: u32 = 60;

impl Reaper {
    /// Streams whose session is live and that nobody has written since `end_after` before `now`, with the time before which they were
    /// written.
    ///
    /// # Errors
    /// What LIST and GET give.
    pub async fn abandoned(
        &mut self,
        store: &Arc<Store>,
        region: &Region,
        end_after: Duration,
        now: UnixMillis,
    ) -> Result<(Vec<StreamId>, UnixMillis), Error> {
        self.looks += 1;
        if self.looks.is_multiple_of(FORGET) {
            self.ended.clear();
        }
        let prefix = Keys::checkpoints(region);
        let millis = i64::try_from(end_after.max(LEAST).as_millis()).unwrap_or(i64::MAX);
        let before = now.plus(MediaTime::ZERO - MediaTime::from_millis(millis));
        let mut found = Vec::new();
        for key in store.list(&prefix).await? {
            let name = key.as_str().strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("/state.json"));
            let Some(stream) = name.and_then(|n| n.parse::<StreamId>().ok()) else { continue };
            if self.ended.contains(&stream) {
                continue;
            }
            let Some(object) = store.read(&key).await? else { continue };
            match State::read(&object.body) {
                Ok(state) if state.phase == Phase::Ended => {
                    self.ended.insert(stream);
                }
                Ok(state) if state.updated < before => found.push(stream),
                Ok(_) => {}
                Err(error) => tracing::warn!(%stream, "{error}"),
            }
        }
        Ok((found, before))
    }
}
