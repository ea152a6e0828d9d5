//! Tests of whole processes and of golden files. One binary, so that the crate is linked once.

mod boundaries;
#[cfg(feature = "gst")]
mod bucket;
#[cfg(feature = "gst")]
mod capacity;
#[cfg(feature = "gst")]
mod codec;
mod credentials;
mod docs;
#[cfg(feature = "gst")]
mod drain;
#[cfg(feature = "gst")]
mod e2e;
mod golden;
#[cfg(feature = "gst")]
mod gpu;
#[cfg(feature = "gst")]
mod harness;
#[cfg(feature = "gst")]
mod heartbeats;
#[cfg(feature = "gst")]
mod hostile;
#[cfg(feature = "gst")]
mod http;
#[cfg(feature = "gst")]
mod keys;
mod mpegts;
#[cfg(feature = "gst")]
mod outage;
#[cfg(feature = "gst")]
mod pathways;
#[cfg(feature = "gst")]
mod push;
mod raw_rtmp;
mod rtmp;
#[cfg(feature = "gst")]
mod rtmps;
#[cfg(feature = "gst")]
mod s3;
#[cfg(feature = "gst")]
mod shedding;
#[cfg(all(feature = "gst", feature = "srt"))]
mod srt;
#[cfg(feature = "gst")]
mod storm;
#[cfg(feature = "gst")]
mod takeover;
mod tls_client;
