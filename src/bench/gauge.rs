//! NVML's readings of the device that is measured, by the watcher process.

use std::time::{Duration, Instant};

use weir::gpu::{Options, Watcher};
use weir::logic::gpu::{Load, Survey};

/// A reading takes milliseconds and comes every [`super::READINGS`]; a driver that hangs is told as such by the watcher.
const READING_DEADLINE: Duration = Duration::from_secs(15);

/// How often it is looked for a new one.
const LOOK: Duration = Duration::from_millis(20);

/// What NVML says of one device.
pub struct Gauge {
    watcher: Watcher,
    uuid: String,
}

/// Over some time.
#[derive(Debug, Default)]
pub struct Over {
    /// Mean, percent.
    pub encoder: Option<f64>,
    /// Mean, percent.
    pub decoder: Option<f64>,
    /// Most, bytes.
    pub memory: Option<u64>,
    /// Most.
    pub sessions: Option<u32>,
}

impl Gauge {
    pub fn start(options: Options, survey: Survey, uuid: &str) -> std::io::Result<Self> {
        Ok(Self { watcher: Watcher::start(options, survey)?, uuid: uuid.to_owned() })
    }

    /// The first reading that begins after this call.
    fn fresh(&self) -> Result<Load, String> {
        let asked = Instant::now();
        loop {
            let seen = self.watcher.seen();
            // Its age counts from its end, and a reading takes less time than the interval.
            if asked.elapsed() > seen.age + super::READINGS {
                return seen.reading.of(&self.uuid).cloned().ok_or_else(|| "NVML does not show this device".into());
            }
            if asked.elapsed() > READING_DEADLINE {
                return Err(seen.trouble.unwrap_or_else(|| "NVML says nothing".into()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Bytes in use now, by everybody.
    pub fn memory(&self) -> Result<u64, String> {
        self.fresh()?.memory_used.ok_or_else(|| "NVML does not say how much memory is in use".into())
    }

    /// Looks for so long.
    pub fn over(&self, time: Duration) -> Over {
        let end = Instant::now() + time;
        let mut loads = Vec::new();
        while Instant::now() < end {
            loads.extend(self.fresh().ok());
        }
        let mean = |of: fn(&Load) -> Option<u32>| {
            let all: Vec<f64> = loads.iter().filter_map(of).map(f64::from).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        Over {
            encoder: mean(|l| l.encoder.map(|b| b.percent)),
            decoder: mean(|l| l.decoder.map(|b| b.percent)),
            memory: loads.iter().filter_map(|l| l.memory_used).max(),
            sessions: loads.iter().filter_map(|l| l.sessions).max(),
        }
    }
}
