//! What is known of the machine's NVIDIA devices, as plain data: what they can do ([`Probe`], looked at once) and how busy they are ([`Reading`],
//! about once a second). The watcher process fills them, its lines of JSON carry them, decisions read them.

use serde::{Deserialize, Serialize};

/// A library as the loader found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Library {
    /// It is there, with every function that is called.
    Loaded,
    /// The loader does not find it, or cannot load it.
    Missing {
        /// What the loader says.
        reason: String,
    },
    /// It is there and lacks functions, or answers none of them.
    Broken {
        /// What it lacks.
        reason: String,
    },
}

impl Library {
    /// It can be used.
    pub fn is_loaded(&self) -> bool {
        matches!(self, Self::Loaded)
    }
}

/// The libraries of the driver, by the names under which GStreamer opens them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    /// `libcuda.so.1`.
    pub cuda: Library,
    /// `libnvidia-encode.so.1`.
    pub encode: Library,
    /// `libnvcuvid.so.1`.
    pub decode: Library,
    /// `libnvidia-ml.so.1`.
    pub monitor: Library,
    /// The run-time compiler of GStreamer's scaler.
    pub compiler: Library,
    /// The name under which GStreamer opens that one: `GST_CUDA_NVRTC_LIBNAME`, else `libnvrtc.so`.
    pub compiler_name: String,
    /// Its version, where it tells.
    pub compiler_version: Option<Version>,
}

/// A version of two numbers; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// In front of the dot.
    pub major: u32,
    /// Behind it.
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What kind of failure a driver's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The device fell off the bus, or does not answer any more.
    Lost,
    /// No encode session is free, or no memory for one: NVENC has one code for both.
    NoSession,
    /// No memory on the device.
    NoMemory,
    /// The driver does not know this version of the interface.
    OldDriver,
    /// There is a driver and no device for this process.
    NoDevice,
    /// What was encoded is not a stream that begins with a key frame.
    BadOutput,
    /// Anything else.
    Other,
}

/// A call into the driver that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The function.
    pub call: String,
    /// Its answer, by name where there is one: `CUDA_ERROR_NO_DEVICE (100)`.
    pub answer: String,
    /// What it means.
    pub kind: FaultKind,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.call, self.answer)
    }
}

/// What this machine's driver and devices can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Which libraries are there.
    pub libraries: Libraries,
    /// The driver's version, `550.163.01`; by NVML.
    pub driver: Option<String>,
    /// The CUDA version that the driver supports.
    pub cuda: Option<Version>,
    /// The newest interface of NVENC that the driver supports.
    pub encode_api: Option<Version>,
    /// Why CUDA does not start, if it does not.
    pub cuda_fault: Option<Fault>,
    /// The devices in PCI order, as `CUDA_VISIBLE_DEVICES` lets them be seen.
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// NVML's number where NVML knows it, else CUDA's: from 0, in PCI order.
    pub index: u32,
    /// `GPU-6b8f...`: the same in CUDA, in NVML and in `CUDA_VISIBLE_DEVICES`.
    pub uuid: String,
    /// `NVIDIA A10G`.
    pub name: String,
    /// CUDA's compute capability.
    pub compute: Version,
    /// Its memory, bytes.
    pub memory: u64,
    /// What its encoders can do; `None` when they could not be asked.
    pub encoder: Option<EncoderCaps>,
    /// What its decoders can do.
    pub decoder: Option<DecoderCaps>,
    /// Pictures that were encoded on it.
    pub self_test: Option<SelfTest>,
    /// The first failure; without one the device can be used.
    pub fault: Option<Fault>,
}

/// What NVENC says of H.264.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderCaps {
    /// Encoding engines (`NV_ENC_CAPS_NUM_ENCODER_ENGINES`).
    pub engines: u32,
    /// Smallest and largest picture, pixels.
    pub width: (u32, u32),
    /// Likewise.
    pub height: (u32, u32),
    /// Most B-frames between two others.
    pub b_frames: u32,
    /// Macroblocks of one picture.
    pub macroblocks: u32,
    /// Presets P1 to P7 are offered, by their numbers.
    pub presets: Vec<u8>,
    /// The presets that were removed with driver 590 are still offered.
    pub legacy_presets: bool,
    /// All capabilities by their `NV_ENC_CAPS` numbers.
    pub raw: Vec<i32>,
}

/// What NVDEC says of H.264, 4:2:0, 8 bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecoderCaps {
    /// H.264 can be decoded.
    pub h264: bool,
    /// Decoding engines (`nNumNVDECs`).
    pub engines: u32,
    /// Smallest and largest picture, pixels.
    pub width: (u32, u32),
    /// Likewise.
    pub height: (u32, u32),
    /// Macroblocks of one picture.
    pub macroblocks: u32,
}

/// What came out of a few pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Pictures.
    pub frames: u32,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// How busy the devices are, from NVML.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reading {
    /// Why NVML does not answer, if it does not. The devices may be well.
    pub monitor_fault: Option<String>,
    /// Of every device that NVML sees, in PCI order.
    pub devices: Vec<Load>,
}

/// One device's load. What a device cannot tell is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// NVML's number.
    pub index: u32,
    /// The same as [`Device::uuid`]. Empty when a lost device does not tell it.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// It fell off the bus, or does not answer any more.
    pub lost: bool,
    /// Other failures of NVML on this device, the first one.
    pub fault: Option<String>,
    /// Encoders over all engines.
    pub encoder: Option<Busy>,
    /// Decoders likewise.
    pub decoder: Option<Busy>,
    /// Time in which any kernel ran, percent.
    pub gpu_percent: Option<u32>,
    /// Time in which memory was read or written, percent.
    pub memory_percent: Option<u32>,
    /// Memory in use by everybody, bytes.
    pub memory_used: Option<u64>,
    /// All of it, bytes.
    pub memory_total: Option<u64>,
    /// Encode sessions of all processes.
    pub sessions: Option<u32>,
    /// Pictures per second of all sessions together, as the driver averages them.
    pub encoded_fps: Option<u32>,
    /// Time that a picture takes in an encoder, microseconds.
    pub encode_latency_us: Option<u32>,
    /// Clock of the encoders and decoders now, MHz.
    pub video_clock_mhz: Option<u32>,
    /// And at the most: what an encoder can do is in proportion to it.
    pub video_clock_max_mhz: Option<u32>,
    /// Celsius.
    pub temperature: Option<u32>,
}

/// A share of time, and over which time the driver took it: not a momentary value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// 0 to 100.
    pub percent: u32,
    /// Microseconds.
    pub period_us: u32,
}

impl Survey {
    /// UUIDs of the devices that are well by NVML while another one is lost and CUDA does not start because of it. Without the lost one it may.
    pub fn without_the_lost(&self) -> Option<Vec<String>> {
        self.probe.cuda_fault.as_ref().filter(|f| f.kind == FaultKind::Lost)?;
        let (lost, well): (Vec<&Load>, Vec<&Load>) = self.reading.devices.iter().partition(|d| d.lost);
        let well: Vec<String> = well.into_iter().filter(|d| !d.uuid.is_empty()).map(|d| d.uuid.clone()).collect();
        (!lost.is_empty() && !well.is_empty()).then_some(well)
    }

    /// CUDA counts what it is let see, NVML everything: people mean NVML's numbers.
    pub fn number_by_nvml(&mut self) {
        for device in &mut self.probe.devices {
            if let Some(load) = self.reading.of(&device.uuid) {
                device.index = load.index;
            }
        }
    }
}

impl Reading {
    /// A lost device tells neither its UUID nor its name: what it said before.
    pub fn recall(&mut self, before: &Self) {
        for load in self.devices.iter_mut().filter(|d| d.uuid.is_empty()) {
            if let Some(known) = before.devices.iter().find(|b| b.index == load.index) {
                (load.uuid, load.name) = (known.uuid.clone(), known.name.clone());
            }
        }
    }

    /// The load of a device of the probe.
    pub fn of(&self, uuid: &str) -> Option<&Load> {
        self.devices.iter().find(|d| d.uuid == uuid)
    }

    /// A device of the probe is lost: NVML says so. A device that NVML does not list while it answers has left the bus as well.
    pub fn is_lost(&self, uuid: &str) -> bool {
        match self.of(uuid) {
            Some(load) => load.lost,
            None => self.monitor_fault.is_none() && !self.devices.is_empty(),
        }
    }
}

/// What an operator is told when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// NVML does not answer any more.
    MonitorGone(String),
    /// It answers again.
    MonitorBack,
    /// A device is lost.
    Lost {
        /// Its number and name.
        device: String,
        /// What NVML says.
        fault: String,
    },
    /// It answers again.
    Back {
        /// Its number and name.
        device: String,
    },
}

impl Reading {
    /// What is different from the reading before it. A device of which nothing is known now (NVML is gone) has not changed.
    pub fn changes(&self, before: &Self) -> Vec<Change> {
        let mut changes = match (&before.monitor_fault, &self.monitor_fault) {
            (None, Some(fault)) => vec![Change::MonitorGone(fault.clone())],
            (Some(_), None) => vec![Change::MonitorBack],
            _ => Vec::new(),
        };
        for load in &self.devices {
            let was_lost = before.devices.iter().any(|b| b.index == load.index && b.lost);
            let device = format!("GPU {} ({})", load.index, load.name);
            match (was_lost, load.lost) {
                (false, true) => changes.push(Change::Lost { device, fault: load.fault.clone().unwrap_or_default() }),
                (true, false) => changes.push(Change::Back { device }),
                _ => {}
            }
        }
        changes
    }
}

/// Probe and first reading together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// What the devices can do.
    pub probe: Probe,
    /// How busy they are.
    pub reading: Reading,
}

/// One line of the watcher process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// What it is about to do: after a hang the last one says where.
    Step(String),
    /// Answer to `--once`.
    Survey(Box<Survey>),
    /// One of many.
    Reading(Reading),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_nvml_no_longer_lists_is_lost_but_not_when_nvml_is_gone() {
        let other = Load { uuid: "GPU-1".into(), ..Load::default() };
        let reading = Reading { monitor_fault: None, devices: vec![other.clone()] };
        assert!(reading.is_lost("GPU-0") && !reading.is_lost("GPU-1"));
        let gone = Reading { monitor_fault: Some("no NVML".into()), devices: Vec::new() };
        assert!(!gone.is_lost("GPU-0"));
        let told = Reading { devices: vec![Load { lost: true, ..other }], ..reading };
        assert!(told.is_lost("GPU-1"));
    }

    #[test]
    fn a_lost_device_keeps_its_name() {
        let named = Load { index: 1, uuid: "GPU-1".into(), name: "A".into(), ..Load::default() };
        let before = Reading { monitor_fault: None, devices: vec![named] };
        let mut now = Reading { monitor_fault: None, devices: vec![Load { index: 1, lost: true, ..Load::default() }] };
        now.recall(&before);
        assert_eq!((now.devices[0].uuid.as_str(), now.devices[0].name.as_str()), ("GPU-1", "A"));
        assert!(now.is_lost("GPU-1"));
    }

    #[test]
    fn nvml_gone_and_a_lost_device_are_told_apart_and_once_each() {
        let well = Reading { devices: vec![Load { name: "A".into(), ..Load::default() }], monitor_fault: None };
        let lost = Load { lost: true, fault: Some("lost".into()), ..well.devices[0].clone() };
        let lost = Reading { devices: vec![lost], monitor_fault: None };
        let gone = Reading { devices: Vec::new(), monitor_fault: Some("no NVML".into()) };
        let device = || "GPU 0 (A)".to_owned();
        assert_eq!(lost.changes(&well), [Change::Lost { device: device(), fault: "lost".into() }]);
        assert_eq!(well.changes(&lost), [Change::Back { device: device() }]);
        assert_eq!(gone.changes(&well), [Change::MonitorGone("no NVML".into())]);
        assert_eq!(well.changes(&gone), [Change::MonitorBack]);
        assert!(well.changes(&well).is_empty() && lost.changes(&lost).is_empty() && gone.changes(&gone).is_empty());
    }

    #[test]
    fn lines_survive_json() {
        let fault = Fault { call: "cuInit".into(), answer: "CUDA_ERROR_NO_DEVICE (100)".into(), kind: FaultKind::NoDevice };
        assert_eq!(fault.to_string(), "cuInit: CUDA_ERROR_NO_DEVICE (100)");
        let missing = Library::Missing { reason: "no such file".into() };
        let libraries = Libraries {
            cuda: Library::Loaded,
            encode: missing.clone(),
            decode: missing,
            monitor: Library::Broken { reason: "lacks nvmlInit_v2".into() },
            compiler: Library::Loaded,
            compiler_name: "libnvrtc.so.12".into(),
            compiler_version: Some(Version { major: 12, minor: 4 }),
        };
        let probe =
            Probe { libraries, driver: None, cuda: None, encode_api: None, cuda_fault: Some(fault), devices: Vec::new() };
        let line = Line::Survey(Box::new(Survey { probe, reading: Reading::default() }));
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
