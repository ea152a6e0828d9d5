//! All tests that need more than one module: one binary, because each further one costs a link of the whole crate.

mod raw_rtmp;
mod rtmp;
