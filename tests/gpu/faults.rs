//! Stories of faults on the GPU path: a whole worker under the driver double, RTMP publishers, viewers. Each tells what the viewer sees, what the streamer
//! is told, what the log, the status and the metrics say, and that another stream is not touched.

mod devices;
mod driver;
mod midstream;
pub mod stage;
mod start;

/// NV_ENC_ERR_GENERIC.
const GENERIC: i32 = 20;
/// NV_ENC_ERR_OUT_OF_MEMORY: also what the driver says when there are too many sessions.
const OUT_OF_MEMORY: i32 = 10;
/// CUDA_ERROR_UNKNOWN; the same number is NVML_ERROR_UNKNOWN.
const UNKNOWN: i32 = 999;
