//! The supervisor and its codec processes: messages ([`wire`]) the processes themselves ([`process`]), and the streams' places in them ([`host`]). What a
//! process that parses strangers' bytes gives up ([`sandbox`]).

pub mod bench;
pub mod environment;
pub mod host;
pub mod process;
pub mod sandbox;
pub mod wire;
