//! How many there are of something now: connections, publishers. Each kind of listener has some.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One more of something, until it is dropped: a task that is cancelled or panics is still counted out.
#[derive(Debug)]
pub(super) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    /// One more from here on.
    pub(super) fn raise(of: &'a AtomicU64) -> Self {
        of.fetch_add(1, Relaxed);
        Self(of)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
