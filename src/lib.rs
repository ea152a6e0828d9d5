//! Weir: streamers push with OBS, Weir makes an ABR ladder, packages it once as CMAF for HLS and DASH, and publishes it.
//!
//! The map: [`ingest`] turns bytes from publishers into packets; [`logic`] makes every decision, purely; [`cmaf`] writes init and media
//! segments, purely; [`link`] speaks with the codec processes (`weir-codec`, the only program that names GStreamer); [`push`]
//! publishes the built-in test picture.
//! `ARCHITECTURE.md` tells why.

#![forbid(unsafe_code)]

pub mod backfill;
pub mod blame;
pub mod bucket;
pub mod capacity;
pub mod claim;
pub mod clock;
pub mod cmaf;
pub mod codecs;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gpu;
pub mod host;
pub mod ingest;
pub mod janitor;
pub mod link;
pub mod logic;
pub mod manifests;
pub mod outbound;
pub mod push;
pub mod reaper;
pub mod recording;
pub mod replication;
pub mod report;
pub mod secret;
pub mod session;
pub mod slate;
pub mod spool;
pub mod store;
pub mod worker;
