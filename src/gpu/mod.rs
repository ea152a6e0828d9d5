//! The GPUs as the supervisor sees them: through a process of its own, `weir gpu-watch`, that opens NVIDIA's libraries and may hang or die (rules.md 26).
//!
//! What it says is plain data in [`crate::logic::gpu`]. The code of that process is part of the program and not of this library
//! (`src/gpu/driver/`, a module of `main.rs`), so that nothing here can call a driver.

mod child;
mod survey;
mod watcher;

pub use survey::survey;
pub use watcher::{Seen, Watcher};

use std::path::PathBuf;
use std::time::Duration;

/// How the process is started and for how long it is waited for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program whose verb `gpu-watch` is run: this one.
    pub program: PathBuf,
    /// Time from one reading to the next.
    pub interval: Duration,
    /// A reading that takes longer is a hang.
    pub reading_deadline: Duration,
    /// So is a probe that takes longer.
    pub probe_deadline: Duration,
}

impl Options {
    /// As configured, by the program that runs.
    ///
    /// # Errors
    /// When the system does not tell which one that is.
    pub fn new(settings: &crate::config::Gpu) -> std::io::Result<Self> {
        let ms = |n: u32| Duration::from_millis(n.into());
        Ok(Self {
            program: std::env::current_exe()?,
            interval: ms(settings.interval_ms),
            reading_deadline: ms(settings.reading_deadline_ms),
            probe_deadline: ms(settings.probe_deadline_ms),
        })
    }
}

/// Why the process said nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start {} gpu-watch: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is silent: a call into the driver hangs.
    #[error("the driver hangs: no answer within {} s{}", deadline.as_secs_f32(), step.as_ref().map(|s| format!(" at {s}")).unwrap_or_default())]
    Silent {
        /// For so long.
        deadline: Duration,
        /// What it was about to do.
        step: Option<String>,
    },
    /// It ended.
    #[error("the watcher process ended ({status}){}", step.as_ref().map(|s| format!(" at {s}")).unwrap_or_default())]
    Ended {
        /// How.
        status: String,
        /// What it was about to do.
        step: Option<String>,
    },
    /// It said something else.
    #[error("the watcher process says what cannot be read: {0}")]
    Garbage(String),
}
