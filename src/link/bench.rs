//! What `weir bench gpu` asks of `weir-codec --bench`: lines of JSON, one answer for each job, in order.

use serde::{Deserialize, Serialize};

/// Encoders that work as fast as they can on pictures that lie in the GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// 1 (fastest) to 7.
    pub preset: u8,
    /// Encoders at the same time, 1 to 64.
    pub sessions: u16,
    /// Luma samples, even.
    pub width: u32,
    /// Luma samples, even.
    pub height: u32,
    /// For how long pictures are counted, from when each encoder has given one.
    pub millis: u32,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was measured.
    Done {
        /// Of all encoders together.
        pictures: u64,
        /// In which they came, microseconds.
        micros: u64,
    },
    /// It was not, for this reason.
    Failed(String),
}
