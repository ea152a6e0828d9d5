//! One look at everything that encoding on a GPU needs, in the order in which it is needed.

use weir::logic::gpu::{Device, Fault, Libraries, Probe, Version};

use super::cuda::{self, Context, Cuda};
use super::nvcuvid::{self, Nvcuvid};
use super::nvenc::{self, Nvenc};
use super::nvml::{self, Monitor};
use super::nvrtc;

/// Devices that are looked at: a machine has at most 16 today.
const MAX_DEVICES: u32 = 64;

/// Says each step before it is taken: behind the last one the driver hangs.
pub fn take(monitor: &mut Monitor, step: &mut dyn FnMut(&str)) -> Probe {
    step("opening the driver's libraries");
    let cuda = cuda::library();
    let (encode, encoders) = nvenc::library();
    let (decode, decoders) = nvcuvid::library();
    let (compiler, compiler_name, compiler_version) = nvrtc::library();
    let libraries = Libraries { cuda, encode, decode, monitor: nvml::library(), compiler, compiler_name, compiler_version };
    step("nvmlInit");
    let driver = if libraries.monitor.is_loaded() { monitor.driver() } else { None };
    step("NvEncodeAPIGetMaxSupportedVersion");
    let encode_api = encoders.and_then(|e| e.newest().ok());
    let mut probe = Probe { libraries, driver, cuda: None, encode_api, cuda_fault: None, devices: Vec::new() };
    if !probe.libraries.cuda.is_loaded() {
        return probe;
    }
    step("cuDriverGetVersion");
    probe.cuda = Cuda::version();
    step("cuInit");
    match devices(encoders.filter(|_| encode_api >= Some(nvenc::WANTED)), decoders, step) {
        Ok(devices) => probe.devices = devices,
        Err(fault) => probe.cuda_fault = Some(fault),
    }
    probe
}

fn devices(encoders: Option<Nvenc>, decoders: Option<Nvcuvid>, step: &mut dyn FnMut(&str)) -> Result<Vec<Device>, Fault> {
    let cuda = Cuda::start()?;
    let count = cuda.count()?.min(MAX_DEVICES);
    Ok((0..count).map(|index| device(cuda, index, encoders, decoders, step)).collect())
}

/// A failure on one device is that device's.
fn device(cuda: Cuda, index: u32, encoders: Option<Nvenc>, decoders: Option<Nvcuvid>, step: &mut dyn FnMut(&str)) -> Device {
    let nothing = Version { major: 0, minor: 0 };
    let mut device = Device {
        index,
        uuid: String::new(),
        name: String::new(),
        compute: nothing,
        memory: 0,
        encoder: None,
        decoder: None,
        self_test: None,
        fault: None,
    };
    device.fault = look(&mut device, cuda, encoders, decoders, step).err();
    device
}

fn look(
    device: &mut Device,
    cuda: Cuda,
    encoders: Option<Nvenc>,
    decoders: Option<Nvcuvid>,
    step: &mut dyn FnMut(&str),
) -> Result<(), Fault> {
    let index = device.index;
    let handle = cuda.device(index)?;
    let facts = cuda.facts(handle)?;
    (device.uuid, device.name) = (facts.uuid, facts.name);
    (device.compute, device.memory) = (facts.compute, facts.memory);
    step(&format!("cuCtxCreate on GPU {index}"));
    let context = Context::create(handle)?;
    if let Some(decoders) = decoders {
        step(&format!("cuvidGetDecoderCaps on GPU {index}"));
        device.decoder = Some(decoders.caps()?);
    }
    if let Some(encoders) = encoders {
        step(&format!("nvEncOpenEncodeSessionEx on GPU {index}"));
        // SAFETY: the session is dropped before the context: it is declared after it.
        let session = unsafe { encoders.open(context.raw()) }?;
        device.encoder = Some(session.caps()?);
        step(&format!("encoding a few pictures on GPU {index}"));
        let picture = context.grey(nvenc::WIDTH, nvenc::HEIGHT)?;
        let tested = session.self_test(&picture);
        // The session holds the picture until its end.
        drop(session);
        drop(picture);
        device.self_test = Some(tested?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir::logic::gpu::{FaultKind, Library};

    /// Whatever this machine has: a probe ends with an answer, and says its steps.
    #[test]
    fn a_probe_has_an_answer_on_every_machine() {
        let mut steps = Vec::new();
        let probe = take(&mut Monitor::default(), &mut |step| steps.push(step.to_owned()));
        assert_eq!(steps.first().map(String::as_str), Some("opening the driver's libraries"));
        if let Library::Missing { reason } = &probe.libraries.cuda {
            assert!(reason.contains("libcuda.so.1"), "{reason}");
            assert!(probe.devices.is_empty() && probe.cuda.is_none(), "{probe:?}");
        }
        assert!(probe.cuda_fault.is_none_or(|f| f.kind != FaultKind::BadOutput));
    }
}
