//! The GPU path on machines without a GPU: GStreamer's own NVIDIA elements under a driver of ours, and NVIDIA's own libraries without a device.
//! `./dev test gpu` builds this, and runs it in a Debian 13 root file system.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/harness/mod.rs"]
mod harness;

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/raw_rtmp.rs"]
mod raw_rtmp;

mod bench;
mod captions;
mod classes;
mod codec;
mod crowd;
mod double;
mod double_selftest;
mod faults;
mod kernels;
mod ladder;
mod nvidia;
mod nvrtc;
mod probe;
mod real;
mod root;
