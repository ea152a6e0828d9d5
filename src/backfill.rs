//! Finishes what an earlier run of a worker left in the spool. Its streams went on elsewhere or ended, so nobody waits for these objects but a
//! recording: they go one at a time, oldest first, beside the live ones. A recording that was written without them is written again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::logic::model::Keys;
use crate::logic::state::{Phase, State};
use crate::recording::{Name, write_in_time};
use crate::spool::Spool;
use crate::store::Store;

/// The wait behind a failure: first, and longest. The live streams ask for the store much more often.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Uploads everything that is in the spool now; ends when it is durable.
pub async fn backfill(spool: Arc<Spool>, store: Arc<Store>, clock: Clock) {
    let keys = spool.objects();
    if keys.is_empty() {
        return;
    }
    tracing::info!(objects = keys.len(), bytes = spool.bytes(), "an earlier run left objects in the spool: they follow now");
    let recordings: BTreeSet<Name> = keys.iter().filter_map(Name::of).collect();
    let mut wait = WAIT.0;
    for key in keys {
        loop {
            let body = match spool.read(&key).await {
                Ok(Some(body)) => body,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "object stays in the spool");
                    break;
                }
            };
            match store.put_new(&key, body).await {
                Err(error) if error.retry() => {
                    tracing::debug!(%error, "again in {wait:?}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT.1);
                    continue;
                }
                Err(error) => tracing::warn!(%error, "object is given up"),
                Ok(()) => wait = WAIT.0,
            }
            if let Err(error) = spool.remove(&key).await {
                tracing::warn!(%error, "object stays in the spool");
            }
            break;
        }
    }
    tracing::info!("what an earlier run left in the spool is in the store");
    for name in recordings {
        // A session that goes on is recorded at its end.
        if goes_on(&store, &name).await {
            continue;
        }
        match write_in_time(Arc::clone(&store), name.clone(), clock).await {
            Ok(rows) => {
                tracing::info!(stream = %name.stream, session = %name.session, segments = rows, "recording written again");
            }
            Err(error) => tracing::warn!(stream = %name.stream, session = %name.session, "recording not written: {error}"),
        }
    }
}

/// Where nobody can tell, the recording is written: that harms nothing.
async fn goes_on(store: &Arc<Store>, name: &Name) -> bool {
    let Ok(Some(object)) = store.read(&Keys::state(&name.region, &name.stream)).await else { return false };
    State::read(&object.body).is_ok_and(|s| s.phase == Phase::Live && s.session == name.session)
}
