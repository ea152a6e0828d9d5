//! From a publisher's socket to a player's decoder: real processes on loopback, in real time.

mod codec_death;
mod first;
mod kinds;
mod ladder;
mod players;
mod secrets;

/// One rung of 240 lines below the source.
const SMALL_LADDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/e2e/small.toml");
