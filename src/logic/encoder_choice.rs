//! Which encoder this worker uses, and why: from the setting, what the driver and the devices can do, and what GStreamer has.
//!
//! Every obstacle has one sentence that says what is wrong and what mends it. `nvidia` never becomes software: it is refused with the sentence.

use super::gpu::{Device, FaultKind, Library, Probe, Survey, Version};

/// The oldest interface of NVENC that can be worked with: the one of the vendored header, and of GStreamer 1.24 and later.
pub const OLDEST_API: Version = Version { major: 11, minor: 1 };

/// GStreamer's NVENC elements know presets P1 to P7 from here on.
pub const OLDEST_GSTREAMER: (u32, u32, u32) = (1, 24, 0);

/// GStreamer compiles its scaler for `compute_52` before this, which NVRTC 13 does not know any more (GStreamer's issue 4655).
const COMPILER_13: (u32, u32, u32) = (1, 26, 7);

/// Drivers from here on do not have the presets of before P1 to P7 (NVIDIA's deprecation notice of SDK 13.1).
const WITHOUT_LEGACY_PRESETS: u32 = 590;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// NVENC where it works, else software.
    Auto,
    /// NVENC or nothing.
    Nvidia,
    /// x264 or nothing.
    Software,
    /// Sources are passed through only.
    None,
}

/// What GStreamer has for one family of encoders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Elements {
    /// This version has pipelines for the family.
    pub has_pipelines: bool,
    /// What its pipelines need and is not there: `x264enc (gstreamer1.0-plugins-ugly)`.
    pub missing: Vec<String>,
    /// Properties that an element lacks: `nvh264enc lacks tune`.
    pub lacking: Vec<String>,
}

/// The codec process's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// `1.26.2`.
    pub gstreamer: String,
    /// For NVENC.
    pub nvidia: Elements,
    /// For x264.
    pub software: Elements,
}

/// The encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// NVENC.
    Nvidia,
    /// x264.
    Software,
    /// Sources are passed through only.
    None,
}

impl Encoder {
    /// As status, metrics and log name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Software => "software",
            Self::None => "none",
        }
    }
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The encoder.
    pub encoder: Encoder,
    /// A word for why, from a closed set: a label of metrics.
    pub code: &'static str,
    /// A sentence for people.
    pub reason: String,
    /// UUIDs of the devices that can be used; empty unless the encoder is NVENC.
    pub devices: Vec<String>,
}

/// Why the wanted encoder cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// As [`Choice::code`].
    pub code: &'static str,
    /// A sentence with the cure.
    pub reason: String,
}

/// What stands against NVENC. Each is a sentence with its cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// No codec process, or no GStreamer.
    #[error("{0}")]
    NoCodec(String),
    /// The probe did not end, or gave no answer.
    #[error("the GPU could not be looked at: {0}")]
    Probe(String),
    /// No driver at all.
    #[error(
        "there is no NVIDIA driver: libcuda.so.1 is not found. Install the driver on the host; in a container run it by the NVIDIA container \
         runtime (--gpus all, or runtimeClassName: nvidia)"
    )]
    NoDriver,
    /// `libcuda` cannot be used.
    #[error("libcuda.so.1 cannot be used: {0}. Reinstall the driver of one version on host and container")]
    BrokenDriver(String),
    /// The container sees CUDA and not the codecs.
    #[error(
        "the driver is there and {} not: the container lacks the capability video. Start it with \
         NVIDIA_DRIVER_CAPABILITIES=compute,utility,video{}", libraries.join(" and "), broken.as_ref().map(|b| format!(" ({b})")).unwrap_or_default()
    )]
    NoVideoCapability {
        /// `libnvidia-encode.so.1`, `libnvcuvid.so.1`.
        libraries: Vec<&'static str>,
        /// What the loader says of one that is there and cannot be used.
        broken: Option<String>,
    },
    /// The driver's NVENC is too old.
    #[error(
        "the driver{} is too old: its NVENC interface is {}, {OLDEST_API} is needed. Update the host's driver to 470.57 or later (550 is what this is made for)",
        driver.as_ref().map(|d| format!(" {d}")).unwrap_or_default(), api.map_or_else(|| "unknown".to_owned(), |a| a.to_string())
    )]
    OldDriver {
        /// `460.32.03`.
        driver: Option<String>,
        /// What it offers.
        api: Option<Version>,
    },
    /// A driver and no device.
    #[error(
        "there is a driver and no GPU for this process ({0}). In a container set NVIDIA_VISIBLE_DEVICES=all or ask for nvidia.com/gpu; look at \
         CUDA_VISIBLE_DEVICES; else run nvidia-smi on the host"
    )]
    NoDevice(String),
    /// CUDA does not start for another reason.
    #[error(
        "CUDA does not start ({0}). Run nvidia-smi and look at the kernel's log for lines that begin with NVRM; load the module nvidia_uvm"
    )]
    Cuda(String),
    /// No run-time compiler.
    #[error(
        "NVRTC is missing: GStreamer looks for {name} and has no scaler without it. Install it (Debian: libnvrtc12, non-free) and set \
         GST_CUDA_NVRTC_LIBNAME=libnvrtc.so.12 ({reason})"
    )]
    NoCompiler {
        /// Under which name it was looked for.
        name: String,
        /// What the loader says.
        reason: String,
    },
    /// A run-time compiler that this GStreamer cannot use.
    #[error(
        "NVRTC {version} does not work with GStreamer {gstreamer}, which compiles for compute_52. Use NVRTC 12 \
         (GST_CUDA_NVRTC_LIBNAME=libnvrtc.so.12) or GStreamer 1.26.7"
    )]
    NewCompiler {
        /// NVRTC's.
        version: Version,
        /// GStreamer's.
        gstreamer: String,
    },
    /// GStreamer's encoders cannot be told P1 to P7.
    #[error(
        "GStreamer {gstreamer} is too old for NVENC: its encoders only know presets {}. Use 1.26 or later (Debian 13 has it, and so has the \
         image)",
        if *removed { "that this driver does not have any more (they were removed with 590)" } else { "that drivers from 590 on do not have" }
    )]
    OldGstreamer {
        /// Its version.
        gstreamer: String,
        /// The driver is one of those.
        removed: bool,
    },
    /// Elements of before P1 to P7 on a driver without the presets of then.
    #[error(
        "{lacking}: GStreamer {gstreamer} has the encoder of before presets P1 to P7, and driver {driver} has no others. Use GStreamer 1.26, or a \
         driver before 590"
    )]
    LegacyPresets {
        /// `nvh264enc lacks tune`.
        lacking: String,
        /// GStreamer's version.
        gstreamer: String,
        /// `595.71`.
        driver: String,
    },
    /// GStreamer lacks elements although the driver is well.
    #[error(
        "GStreamer {gstreamer} lacks {missing}. Install gstreamer1.0-plugins-bad with nvcodec; if it is there, its registry is from before the \
         driver: remove gstreamer-registry.bin from state_dir"
    )]
    Elements {
        /// GStreamer's version.
        gstreamer: String,
        /// What.
        missing: String,
    },
    /// This version cannot.
    #[error("this version has no pipelines for NVENC")]
    NoPipelines,
    /// No device can be used; one sentence for each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Devices(Vec<OfDevice>),
}

/// What stands against one device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GPU {index} ({name}) {what}")]
pub struct OfDevice {
    /// CUDA's number.
    pub index: u32,
    /// Its name, or its UUID.
    pub name: String,
    /// What.
    pub what: DeviceObstacle,
}

/// Likewise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceObstacle {
    /// Off the bus.
    #[error(
        "is lost: it does not answer any more ({0}). Look for Xid in the kernel's log; reset it (nvidia-smi --gpu-reset) or restart the host"
    )]
    Lost(String),
    /// All sessions are taken, or the memory is.
    #[error(
        "has no free encode session, or no memory for one ({detail}): end other programs that encode on it (nvidia-smi encodersessions). GeForce cards allow eight on a \
         machine"
    )]
    NoSession {
        /// The call.
        detail: String,
    },
    /// No memory.
    #[error("has no free memory ({0}): end other programs that use it (nvidia-smi)")]
    NoMemory(String),
    /// It has no encoder.
    #[error("has no NVENC ({0}): use a GPU that has one (A10G, L4, T4; not A100, H100)")]
    NoEncoder(String),
    /// It cannot decode H.264.
    #[error("cannot decode H.264: use a GPU that can")]
    NoDecoder,
    /// The pictures of the self-test did not come out.
    #[error("failed the self-test ({0}). Run it again by weir probe; update the driver; if it stays, the GPU may be broken")]
    SelfTest(String),
}

impl DeviceObstacle {
    fn code(&self) -> &'static str {
        match self {
            Self::Lost(_) => "device_lost",
            Self::NoSession { .. } => "no_session",
            Self::NoMemory(_) => "no_memory",
            Self::NoEncoder(_) => "no_encoder",
            Self::NoDecoder => "no_decoder",
            Self::SelfTest(_) => "self_test_failed",
        }
    }
}

impl Obstacle {
    /// A word from a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCodec(_) => "no_codec_process",
            Self::Probe(_) => "probe_failed",
            Self::NoDriver => "no_driver",
            Self::BrokenDriver(_) => "broken_driver",
            Self::NoVideoCapability { .. } => "no_video_capability",
            Self::OldDriver { .. } => "old_driver",
            Self::NoDevice(_) => "no_device",
            Self::Cuda(_) => "cuda_failed",
            Self::NoCompiler { .. } => "no_nvrtc",
            Self::NewCompiler { .. } => "new_nvrtc",
            Self::OldGstreamer { .. } => "old_gstreamer",
            Self::LegacyPresets { .. } => "legacy_presets",
            Self::Elements { .. } => "missing_elements",
            Self::NoPipelines => "no_pipelines",
            Self::Devices(all) => all.first().map_or("no_device", |d| d.what.code()),
        }
    }
}

/// The choice. `survey` is what the watcher process found, or why it found nothing; `inventory` likewise of the codec process.
///
/// # Errors
/// [`Refused`] when `nvidia` or `software` was asked for and cannot be had.
pub fn choose(
    wanted: Wanted,
    survey: &Result<Survey, String>,
    inventory: &Result<Inventory, String>,
) -> Result<Choice, Refused> {
    match wanted {
        Wanted::None => {
            let reason = "sources are passed through only: encoder is none".into();
            Ok(Choice { encoder: Encoder::None, code: "asked_for", reason, devices: Vec::new() })
        }
        Wanted::Software => software(inventory).map_err(|(code, reason)| Refused { code, reason }),
        Wanted::Nvidia => nvidia(survey, inventory).map_err(|o| Refused { code: o.code(), reason: o.to_string() }),
        Wanted::Auto => Ok(match nvidia(survey, inventory) {
            Ok(choice) => choice,
            Err(obstacle) => instead(&obstacle, inventory),
        }),
    }
}

/// Without NVENC.
fn instead(obstacle: &Obstacle, inventory: &Result<Inventory, String>) -> Choice {
    match software(inventory) {
        Ok(choice) => Choice { code: obstacle.code(), reason: format!("x264, because {obstacle}"), ..choice },
        Err((code, reason)) => {
            let reason = match obstacle {
                Obstacle::NoCodec(_) => format!("sources are passed through only: {reason}"),
                _ => format!("sources are passed through only: no x264 ({reason}), and no NVENC: {obstacle}"),
            };
            Choice { encoder: Encoder::None, code, reason, devices: Vec::new() }
        }
    }
}

fn software(inventory: &Result<Inventory, String>) -> Result<Choice, (&'static str, String)> {
    let inventory = inventory.as_ref().map_err(|e| ("no_codec_process", e.clone()))?;
    let Elements { missing, lacking, .. } = &inventory.software;
    if !missing.is_empty() || !lacking.is_empty() {
        return Err(("missing_elements", format!("missing: {}", [&missing[..], &lacking[..]].concat().join(", "))));
    }
    Ok(Choice { encoder: Encoder::Software, code: "asked_for", reason: "x264".into(), devices: Vec::new() })
}

/// NVENC, or the first thing that stands against it in the order in which an operator mends them.
fn nvidia(survey: &Result<Survey, String>, inventory: &Result<Inventory, String>) -> Result<Choice, Obstacle> {
    let inventory = inventory.as_ref().map_err(|e| Obstacle::NoCodec(e.clone()))?;
    let survey = survey.as_ref().map_err(|e| Obstacle::Probe(e.clone()))?;
    let probe = &survey.probe;
    driver(survey)?;
    gstreamer(probe, inventory)?;
    compiler(probe, inventory)?;
    let mut against: Vec<OfDevice> = probe.devices.iter().filter_map(|d| of_device(d, survey)).collect();
    let known = against.iter().filter(|a| matches!(a.what, DeviceObstacle::Lost(_))).count();
    against.extend(lost(survey).into_iter().skip(known));
    let good: Vec<&Device> = probe.devices.iter().filter(|d| against.iter().all(|a| a.index != d.index)).collect();
    if good.is_empty() {
        return Err(Obstacle::Devices(against));
    }
    elements(probe, inventory)?;
    Ok(Choice {
        encoder: Encoder::Nvidia,
        code: "self_test_passed",
        reason: sentence(probe, &good, &against),
        devices: good.iter().map(|d| d.uuid.clone()).collect(),
    })
}

/// Devices that NVML calls lost. CUDA may not list them at all.
fn lost(survey: &Survey) -> Vec<OfDevice> {
    let lost = survey.reading.devices.iter().filter(|d| d.lost);
    lost.map(|d| OfDevice {
        index: d.index,
        name: if d.name.is_empty() { "unknown".into() } else { d.name.clone() },
        what: DeviceObstacle::Lost(d.fault.clone().unwrap_or_else(|| "NVML says so".into())),
    })
    .collect()
}

fn driver(survey: &Survey) -> Result<(), Obstacle> {
    let probe = &survey.probe;
    match &probe.libraries.cuda {
        Library::Loaded => {}
        Library::Missing { .. } => return Err(Obstacle::NoDriver),
        Library::Broken { reason } => return Err(Obstacle::BrokenDriver(reason.clone())),
    }
    // First: where no device was given to the container, the capabilities do not matter yet.
    if let Some(fault) = &probe.cuda_fault {
        return Err(match fault.kind {
            FaultKind::NoDevice => Obstacle::NoDevice(fault.to_string()),
            FaultKind::OldDriver => Obstacle::OldDriver { driver: probe.driver.clone(), api: probe.encode_api },
            FaultKind::Lost if !lost(survey).is_empty() => Obstacle::Devices(lost(survey)),
            _ => Obstacle::Cuda(fault.to_string()),
        });
    }
    let codecs = [("libnvidia-encode.so.1", &probe.libraries.encode), ("libnvcuvid.so.1", &probe.libraries.decode)];
    let libraries: Vec<&str> = codecs.iter().filter(|(_, l)| !l.is_loaded()).map(|(name, _)| *name).collect();
    if !libraries.is_empty() {
        let broken = codecs.iter().find_map(|(_, l)| match l {
            Library::Broken { reason } => Some(reason.clone()),
            _ => None,
        });
        return Err(Obstacle::NoVideoCapability { libraries, broken });
    }
    if probe.devices.is_empty() {
        return Err(Obstacle::NoDevice("cuDeviceGetCount: 0".into()));
    }
    let refused = probe.devices.iter().filter_map(|d| d.fault.as_ref()).any(|f| f.kind == FaultKind::OldDriver);
    if probe.encode_api < Some(OLDEST_API) || refused {
        return Err(Obstacle::OldDriver { driver: probe.driver.clone(), api: probe.encode_api });
    }
    Ok(())
}

/// `1.26.2` as numbers; `None` for what is no version.
fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The driver is of those without the presets of before P1 to P7; by what it offers, else by its version.
fn lacks_legacy_presets(probe: &Probe) -> bool {
    let by_version = probe.driver.as_deref().and_then(|d| d.split('.').next()?.parse::<u32>().ok());
    match probe.devices.iter().find_map(|d| d.encoder.as_ref()) {
        Some(caps) => !caps.legacy_presets,
        None => by_version.is_some_and(|v| v >= WITHOUT_LEGACY_PRESETS),
    }
}

fn gstreamer(probe: &Probe, inventory: &Inventory) -> Result<(), Obstacle> {
    match numbers(&inventory.gstreamer) {
        Some(version) if version >= OLDEST_GSTREAMER => Ok(()),
        _ => {
            let removed = lacks_legacy_presets(probe);
            Err(Obstacle::OldGstreamer { gstreamer: inventory.gstreamer.clone(), removed })
        }
    }
}

fn compiler(probe: &Probe, inventory: &Inventory) -> Result<(), Obstacle> {
    let name = probe.libraries.compiler_name.clone();
    match &probe.libraries.compiler {
        Library::Missing { reason } | Library::Broken { reason } => Err(Obstacle::NoCompiler { name, reason: reason.clone() }),
        Library::Loaded => match probe.libraries.compiler_version {
            Some(version) if version.major >= 13 && numbers(&inventory.gstreamer) < Some(COMPILER_13) => {
                Err(Obstacle::NewCompiler { version, gstreamer: inventory.gstreamer.clone() })
            }
            _ => Ok(()),
        },
    }
}

fn elements(probe: &Probe, inventory: &Inventory) -> Result<(), Obstacle> {
    let Elements { has_pipelines, missing, lacking } = &inventory.nvidia;
    let gstreamer = inventory.gstreamer.clone();
    if !has_pipelines {
        return Err(Obstacle::NoPipelines);
    }
    if missing.is_empty() && lacking.is_empty() {
        return Ok(());
    }
    if missing.is_empty() && lacks_legacy_presets(probe) {
        let driver = probe.driver.clone().unwrap_or_else(|| "of this machine".into());
        return Err(Obstacle::LegacyPresets { lacking: lacking.join(", "), gstreamer, driver });
    }
    Err(Obstacle::Elements { gstreamer, missing: [&missing[..], &lacking[..]].concat().join(", ") })
}

fn of_device(device: &Device, survey: &Survey) -> Option<OfDevice> {
    let what = if survey.reading.is_lost(&device.uuid) && !device.uuid.is_empty() {
        let said = survey.reading.of(&device.uuid).and_then(|l| l.fault.clone());
        DeviceObstacle::Lost(said.unwrap_or_else(|| "NVML does not list it".into()))
    } else if let Some(fault) = &device.fault {
        let text = fault.to_string();
        match fault.kind {
            FaultKind::Lost => DeviceObstacle::Lost(text),
            FaultKind::NoSession => DeviceObstacle::NoSession { detail: text },
            FaultKind::NoMemory => DeviceObstacle::NoMemory(text),
            FaultKind::NoDevice => DeviceObstacle::NoEncoder(text),
            _ => DeviceObstacle::SelfTest(text),
        }
    } else if device.decoder.as_ref().is_some_and(|d| !d.h264) {
        DeviceObstacle::NoDecoder
    } else if device.self_test.is_none() {
        DeviceObstacle::SelfTest("it was not run".into())
    } else {
        return None;
    };
    let name = if device.name.is_empty() { &device.uuid } else { &device.name };
    Some(OfDevice { index: device.index, name: name.clone(), what })
}

fn sentence(probe: &Probe, good: &[&Device], against: &[OfDevice]) -> String {
    let count = good.len() + against.len();
    let names: Vec<String> = good.iter().map(|d| format!("GPU {} ({})", d.index, d.name)).collect();
    let driver = probe.driver.as_ref().map(|d| format!(", driver {d}")).unwrap_or_default();
    let mut text = format!(
        "NVENC on {}{driver}: the self-test encoded {} pictures",
        names.join(", "),
        good.first().and_then(|d| d.self_test.as_ref()).map_or(0, |t| t.frames)
    );
    if !against.is_empty() {
        let others: Vec<String> = against.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; {} of {count} GPUs cannot be used: {}", against.len(), others.join("; ")));
    }
    text
}

#[cfg(test)]
#[path = "encoder_choice_tests.rs"]
mod tests;
