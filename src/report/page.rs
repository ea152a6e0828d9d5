//! The status page's files, compiled in.

use std::sync::Arc;

use axum::Router;

use crate::worker::Worker;

/// `/` and what it needs.
pub fn routes() -> Router<Arc<Worker>> {
    Router::new()
}
