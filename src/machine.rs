//! What this machine has and what streams cost on it, gathered once at start.

use std::sync::Arc;

use weir::capacity::{Capacity, Rules};
use weir::config::{Admission, Config};
use weir::host::Host;
use weir::logic::bench;
use weir::logic::capacity::{Budget, Device, Encoder, Machine, Prices, Work};
use weir::logic::gpu::Survey;
use weir::logic::ladder::{Ladder, Size};
use weir::logic::recipe;
use weir::worker::EncoderReport;

use crate::{Fatal, exit};

/// What there is, and what streams cost here.
pub fn capacity(
    config: &Config,
    ladder: Option<&Ladder>,
    encoder: &EncoderReport,
    survey: Option<&Survey>,
) -> Result<Arc<Capacity>, Fatal> {
    let host = Host::new();
    let set = |n: u32| (n > 0).then_some(u64::from(n));
    let settings = &config.capacity;
    let device = |survey: &Survey, uuid: &String| {
        let device = survey.probe.devices.iter().find(|d| d.uuid == *uuid)?;
        let load = survey.reading.of(uuid);
        let memory_mib = load.and_then(|l| l.memory_total).map(|bytes| bytes >> 20);
        Some(Device { uuid: uuid.clone(), machine: bench::Machine::new(device, load), memory_mib })
    };
    let machine = Machine {
        cpu_milli: set(settings.cpu_milli).or_else(|| host.cpu_milli()),
        memory_mib: set(settings.memory_mib).or_else(|| host.memory_mib()),
        network_kbps: set(settings.network_mbit).map(|mbit| mbit.saturating_mul(1000)),
        spool_mib: (!config.spool.dir.as_os_str().is_empty()).then_some(config.spool.limit_mib.into()),
        devices: survey.iter().flat_map(|s| encoder.devices.iter().filter_map(|uuid| device(s, uuid))).collect(),
        limits: settings.limited(Budget::unlimited()),
    };
    let (by, smallest) = match encoder.name {
        "nvidia" => (Encoder::Nvidia(config.nvidia.class.fixed().unwrap_or_default()), recipe::NVIDIA_SMALLEST),
        "none" => (Encoder::None, Size::ANY),
        _ => (Encoder::Software, Size::ANY),
    };
    let preset = config.software.preset.parse();
    let preset = preset.map_err(|e| Fatal::new(exit::CONFIGURATION, anyhow::Error::new(e)))?;
    let work = Work {
        ladder: ladder.cloned().filter(|_| encoder.name != "none"),
        smallest,
        passthrough_short_side: config.passthrough_short_side,
        passthrough_kbps: config.passthrough_kbps,
    };
    let rules = Rules {
        work,
        prices: Prices::assumed(by, preset),
        assumed: settings.assumed(),
        enforced: settings.admission == Admission::On,
        shed: settings.shed,
    };
    Ok(Capacity::new(machine, rules))
}
