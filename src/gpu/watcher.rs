//! The supervisor's side of the watcher process: the last reading and its age, whatever becomes of the process.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::child::Running;
use super::{Error, Options, survey};
use crate::logic::backoff::Backoff;
use crate::logic::gpu::{Change, Line, Reading, Survey};

/// Starts the process, starts it again when it hangs or dies, keeps what it said. Ends with its last handle.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Mutex<Kept>>,
    /// Dropped, it tells the thread.
    _stop: Sender<()>,
}

#[derive(Debug)]
struct Kept {
    survey: Survey,
    reading: Option<(Reading, Instant)>,
    trouble: Option<String>,
    restarts: u64,
    pid: Option<u32>,
}

/// What is known now.
#[derive(Debug, Clone)]
pub struct Seen {
    /// From the start, or from when a lost device came back.
    pub survey: Survey,
    /// The last reading; that of the survey until there is one.
    pub reading: Reading,
    /// How old it is.
    pub age: Duration,
    /// Why there is no newer one, when the process hangs or is dead.
    pub trouble: Option<String>,
    /// Processes that hung or died.
    pub restarts: u64,
    /// The process, while one runs.
    pub pid: Option<u32>,
}

impl Watcher {
    /// Starts the thread. `survey` is what is known until the first reading.
    ///
    /// # Errors
    /// When the system has no thread for us.
    pub fn start(options: Options, survey: Survey) -> std::io::Result<Self> {
        let started = Instant::now();
        let reading = Some((survey.reading.clone(), started));
        let shared = Arc::new(Mutex::new(Kept { survey, reading, trouble: None, restarts: 0, pid: None }));
        let (stop, stopped) = channel();
        let kept = Arc::clone(&shared);
        // One thread for all processes, as long as there is a handle: with its end the system kills the process.
        std::thread::Builder::new().name("gpu-watcher".into()).spawn(move || run(&options, &kept, &stopped))?;
        Ok(Self { shared, _stop: stop })
    }

    /// What is known now. Never waits for the driver.
    pub fn seen(&self) -> Seen {
        let kept = lock(&self.shared);
        let (reading, age) = match &kept.reading {
            Some((reading, at)) => (reading.clone(), at.elapsed()),
            None => (Reading::default(), Duration::ZERO),
        };
        Seen {
            survey: kept.survey.clone(),
            reading,
            age,
            trouble: kept.trouble.clone(),
            restarts: kept.restarts,
            pid: kept.pid,
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_stopped(stopped: &Receiver<()>, wait: Duration) -> bool {
    !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
}

fn run(options: &Options, kept: &Mutex<Kept>, stopped: &Receiver<()>) {
    let (mut backoff, started) = (Backoff::default(), Instant::now());
    loop {
        let Err(error) = attend(options, kept, stopped) else { return };
        let pause = backoff.died(started.elapsed());
        tracing::warn!(%error, "GPU watcher: started again in {} s; the last reading stands", pause.as_secs());
        {
            let mut kept = lock(kept);
            kept.trouble = Some(error.to_string());
            kept.restarts = kept.restarts.saturating_add(1);
            kept.pid = None;
        }
        if is_stopped(stopped, pause) {
            return;
        }
    }
}

/// One process, until it hangs or dies. `Ok` when nobody wants to know any more.
fn attend(options: &Options, kept: &Mutex<Kept>, stopped: &Receiver<()>) -> Result<(), Error> {
    let mut running = Running::start(options, false, None)?;
    lock(kept).pid = Some(running.pid());
    // The first reading starts NVML, which starts every device that nothing else keeps awake.
    let mut deadline = options.probe_deadline;
    let error = loop {
        match running.line(deadline) {
            Ok(Line::Reading(reading)) => keep(options, kept, reading),
            Ok(other) => break Error::Garbage(format!("{other:?}")),
            Err(error) => break error,
        }
        deadline = options.interval + options.reading_deadline;
        if is_stopped(stopped, Duration::ZERO) {
            running.end(options.reading_deadline);
            return Ok(());
        }
    };
    // A process that a driver holds fast cannot be killed, and a second one would be held fast as well: so there is never more than one.
    while running.end(options.reading_deadline).is_none() {
        lock(kept).trouble = Some(format!("{error}; process {} cannot be ended", running.pid()));
        if is_stopped(stopped, Duration::ZERO) {
            return Ok(());
        }
    }
    Err(error)
}

fn keep(options: &Options, kept: &Mutex<Kept>, mut reading: Reading) {
    let changes = {
        let mut kept = lock(kept);
        if let Some((before, _)) = &kept.reading {
            reading.recall(before);
        }
        reading.recall(&kept.survey.reading);
        let changes = kept.reading.as_ref().map(|(before, _)| reading.changes(before)).unwrap_or_default();
        kept.reading = Some((reading, Instant::now()));
        kept.trouble = None;
        changes
    };
    let mut back = false;
    for change in changes {
        match change {
            Change::MonitorGone(fault) => tracing::warn!("NVML does not answer any more ({fault}); the GPUs may be well"),
            Change::MonitorBack => tracing::info!("NVML answers again"),
            Change::Lost { device, fault } => tracing::error!("{device} is lost: {fault}"),
            Change::Back { device } => {
                tracing::info!("{device} answers again");
                back = true;
            }
        }
    }
    if back {
        // It may have come back as another one, or without its encoder.
        match survey(options) {
            Ok(survey) => lock(kept).survey = survey,
            Err(error) => tracing::warn!(%error, "the GPUs could not be looked at again"),
        }
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
