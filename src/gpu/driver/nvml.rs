//! NVML: how busy the devices are, and whether they are still there.

use std::ffi::OsStr;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::UtilizationInfo;
use nvml_wrapper::{Device, Nvml};
use weir::logic::gpu::{Busy, Library, Load, Reading};

use super::library;

/// The name that run-time packages have.
const NAME: &str = "libnvidia-ml.so.1";

/// Devices that are read: a machine has at most 16 today.
const MAX_DEVICES: u32 = 64;

/// Is it there?
pub fn library() -> Library {
    library::open(NAME, &["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"]).0
}

/// NVML, started when it is there and started again when it was gone.
#[derive(Debug, Default)]
pub struct Monitor {
    nvml: Option<Nvml>,
}

impl Monitor {
    /// The driver's version.
    pub fn driver(&mut self) -> Option<String> {
        self.started().ok()?.sys_driver_version().ok()
    }

    fn started(&mut self) -> Result<&Nvml, NvmlError> {
        if self.nvml.is_none() {
            self.nvml = Some(Nvml::builder().lib_path(OsStr::new(NAME)).init()?);
        }
        self.nvml.as_ref().ok_or(NvmlError::Uninitialized)
    }

    /// All devices now.
    pub fn read(&mut self) -> Reading {
        let read = self.started().and_then(|nvml| {
            let count = nvml.device_count()?.min(MAX_DEVICES);
            Ok((0..count).map(|index| load(nvml, index)).collect())
        });
        match read {
            Ok(devices) => Reading { monitor_fault: None, devices },
            Err(e) => {
                // It is started anew with the next reading: after an update of the driver an old handle answers nothing any more.
                self.nvml = None;
                Reading { monitor_fault: Some(e.to_string()), devices: Vec::new() }
            }
        }
    }
}

fn load(nvml: &Nvml, index: u32) -> Load {
    let mut load = Load { index, ..Load::default() };
    let filled = nvml.device_by_index(index).and_then(|device| fill(&mut load, &device));
    if let Err(e) = filled {
        load.lost = matches!(e, NvmlError::GpuLost | NvmlError::ResetRequired);
        load.fault = Some(e.to_string());
    }
    load
}

/// What this device cannot tell is left out; any other failure ends it.
fn optional<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound | NvmlError::NoPermission,
        ) => Ok(None),
        Err(e) => Err(e),
    }
}

fn fill(load: &mut Load, device: &Device<'_>) -> Result<(), NvmlError> {
    load.uuid = device.uuid()?;
    load.name = device.name()?;
    let busy = |u: UtilizationInfo| Busy { percent: u.utilization.min(100), period_us: u.sampling_period };
    load.encoder = optional(device.encoder_utilization())?.map(busy);
    load.decoder = optional(device.decoder_utilization())?.map(busy);
    if let Some(rates) = optional(device.utilization_rates())? {
        load.gpu_percent = Some(rates.gpu);
        load.memory_percent = Some(rates.memory);
    }
    if let Some(memory) = optional(device.memory_info())? {
        load.memory_used = Some(memory.used);
        load.memory_total = Some(memory.total);
    }
    if let Some(stats) = optional(device.encoder_stats())? {
        load.sessions = Some(stats.session_count);
        load.encoded_fps = Some(stats.average_fps);
        load.encode_latency_us = Some(stats.average_latency);
    }
    load.video_clock_mhz = optional(device.clock_info(Clock::Video))?;
    load.video_clock_max_mhz = optional(device.max_clock_info(Clock::Video))?;
    load.temperature = optional(device.temperature(TemperatureSensor::Gpu))?;
    Ok(())
}
