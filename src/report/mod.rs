//! What the worker tells: the HTTP server ([`http`]) and its metrics ([`metrics`]).

pub mod capacity;
pub mod gpu;
pub mod http;
pub mod metrics;
pub mod page;
mod srt;
