//! One look at the GPUs, by a process that ends with its answer.

use std::time::Duration;

use super::child::Running;
use super::{Error, Options};
use crate::logic::gpu::{Line, Survey};

/// Which devices CUDA lets a process see.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// A process that has answered, or was killed, is waited for so long.
const END: Duration = Duration::from_secs(1);

/// What the driver and the devices can do. Blocks, for twice `probe_deadline` at the most; the thread must not end before.
///
/// # Errors
/// [`Error`]; a driver that answers with errors is an answer.
pub fn survey(options: &Options) -> Result<Survey, Error> {
    let mut survey = ask(options, None)?;
    // Whoever runs the worker may have chosen the devices; that choice is not ours to change.
    if std::env::var_os(VISIBLE).is_none()
        && let Some(well) = survey.without_the_lost()
    {
        survey = ask(options, Some(&well.join(",")))?;
    }
    survey.number_by_nvml();
    Ok(survey)
}

fn ask(options: &Options, visible: Option<&str>) -> Result<Survey, Error> {
    let mut running = Running::start(options, true, visible.map(|v| (VISIBLE, v)))?;
    let said = running.line(options.probe_deadline);
    running.end(END);
    match said? {
        Line::Survey(survey) => Ok(*survey),
        other => Err(Error::Garbage(format!("{other:?}"))),
    }
}
