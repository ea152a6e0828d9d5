//! The status page's files, compiled in: the page works wherever the program does.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::worker::Worker;

/// What the page may load: its own files and the worker's answers, media as blobs of its player.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = include_str!("../../web/index.html");
const CSS: &str = include_str!("../../web/weir.css");
const SCRIPT: &str = include_str!("../../web/weir.js");
const PLAYER: &str = include_str!("../../web/vendor/hls.min.js");
const PLAYER_LICENSE: &str = include_str!("../../web/vendor/hls.js.LICENSE");

/// `/` and what it needs.
pub fn routes() -> Router<Arc<Worker>> {
    const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", HTML)))
        .route("/weir.css", get(|| file("text/css; charset=utf-8", CSS)))
        .route("/weir.js", get(|| file(JAVASCRIPT, SCRIPT)))
        .route("/vendor/hls.min.js", get(|| file(JAVASCRIPT, PLAYER)))
        .route("/vendor/hls.js.LICENSE", get(|| file("text/plain; charset=utf-8", PLAYER_LICENSE)))
}

async fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    const NO_SNIFF: HeaderName = header::X_CONTENT_TYPE_OPTIONS;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (NO_SNIFF, "nosniff"),
    ];
    (headers, text)
}
