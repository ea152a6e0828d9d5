//! The supervisor and its codec processes: messages ([`wire`]) and the processes themselves.

pub mod wire;
