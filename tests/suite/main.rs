//! Tests of whole processes. One binary, so that the crate is linked once.

#[cfg(feature = "gst")]
mod codec;
#[cfg(feature = "gst")]
mod push;
