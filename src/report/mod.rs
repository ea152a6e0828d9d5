//! What the worker tells: the HTTP server ([`http`]) and its metrics ([`metrics`]).

pub mod agones;
pub mod capacity;
pub mod gpu;
pub mod heartbeat;
pub mod http;
pub mod metrics;
pub mod page;
mod srt;

/// How those fare who are told without asking.
#[derive(Debug, Default)]
pub struct Told {
    /// The scheduler.
    pub heartbeats: heartbeat::Stats,
    /// Agones' sidecar.
    pub agones: agones::Stats,
}
