//! The watcher process, `weir gpu-watch`: the only code that opens NVIDIA's libraries. It is part of the program and not of the library, so that
//! nothing in there can call it; the supervisor starts its own program a second time.
//!
//! It says lines of JSON ([`Line`]) on standard output. What hangs in here hangs here: the supervisor reads with deadlines.

mod cuda;
mod library;
mod nvcuvid;
mod nvenc;
mod nvml;
mod nvrtc;
mod probe;

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use weir::logic::gpu::{Line, Survey};

use self::nvml::Monitor;

/// What the verb is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Probe, read once, and end.
    pub once: bool,
    /// Time from one reading to the next.
    pub interval: Duration,
    /// End unless this process is the parent.
    pub parent: Option<i32>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be told when the supervisor ends, or it has ended.
    #[error("the supervisor that asked for this is gone")]
    Orphan,
    /// Nobody reads.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

/// The verb.
///
/// # Errors
/// [`Error`]; failures of the driver are part of what it says.
pub fn watch(options: Options) -> Result<(), Error> {
    if let Some(parent) = options.parent {
        // The signal comes when the thread that started this process ends: the supervisor starts it from one that lives as long as itself.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| Error::Output(e.into()))?;
        if getppid().map_or(0, Pid::as_raw_pid) != parent {
            return Err(Error::Orphan);
        }
    }
    let mut monitor = Monitor::default();
    if options.once {
        let probe = probe::take(&mut monitor, &mut |step| {
            // A step that nobody hears of is no reason to stop: the answer will find out.
            let _ = say(&Line::Step(step.to_owned()));
        });
        say(&Line::Step("NVML".into()))?;
        let reading = monitor.read();
        return Ok(say(&Line::Survey(Box::new(Survey { probe, reading })))?);
    }
    let mut next = Instant::now();
    loop {
        say(&Line::Reading(monitor.read()))?;
        // From the clock, not from the end of the reading: a slow driver must not stretch the interval. What it missed is not made up for.
        next += options.interval;
        let now = Instant::now();
        next = next.max(now);
        std::thread::sleep(next - now);
    }
}

fn say(line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
