//! Tests of whole processes and of golden files. One binary, so that the crate is linked once.

#[cfg(feature = "gst")]
mod codec;
mod golden;
#[cfg(feature = "gst")]
mod push;
mod raw_rtmp;
mod rtmp;
