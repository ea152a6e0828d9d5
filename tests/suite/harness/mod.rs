//! What tests of whole processes share: a worker, publishers, clips, and readers of what comes out that know nothing of Weir's own code.
//!
//! Nothing here waits for a time to pass: it waits for something to happen, and [`GUARD`] turns a hang into a failure.

pub mod accident;
pub mod boxes;
pub mod captions;
pub mod clip;
pub mod decode;
pub mod enhanced;
pub mod fault_proxy;
pub mod flv;
pub mod manifest;
pub mod outage;
pub mod players;
pub mod publisher;
pub mod recording;
pub mod runs;
pub mod s3_server;
pub mod steering;
pub mod tools;
pub mod track;
pub mod watch;
pub mod worker;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Several times what the slowest test waits for on a busy machine of two cores.
pub const GUARD: Duration = Duration::from_secs(120);

static MACHINE: RwLock<()> = RwLock::new(());

/// For a test that encodes in real time: no other test of this module's users runs meanwhile.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// For a test whose streams are so small that others may run beside it.
pub fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Looks again and again until there is an answer.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + GUARD;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {GUARD:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
