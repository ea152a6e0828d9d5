//! The supervisor and its codec processes: messages ([`wire`]) and the processes themselves ([`process`]).

pub mod environment;
pub mod process;
pub mod wire;
