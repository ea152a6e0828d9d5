//! Devices and contexts, by cudarc.
//!
//! cudarc panics where the library or a function of it is missing, and opens the first of its own list of names: with `libcuda.so`, which only
//! development packages have, before `libcuda.so.1`, which GStreamer opens. So `library` is asked first, and nothing else here is called unless it
//! answered [`Library::Loaded`].

use std::ffi::{CStr, c_uint, c_void};
use std::ptr;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use weir::logic::gpu::{Fault, FaultKind, Library, Version};

use super::library;

/// The name under which GStreamer opens it.
const NAME: &str = "libcuda.so.1";

/// Every function that is called here, by cudarc or by us.
const FUNCTIONS: [&str; 15] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuCtxCreate_v2",
    "cuCtxDestroy_v2",
    "cuCtxSynchronize",
    "cuMemAllocPitch_v2",
    "cuMemFree_v2",
    "cuMemsetD8_v2",
];

/// Whether CUDA can be called without a panic.
pub fn library() -> Library {
    let (state, handle) = library::open(NAME, &FUNCTIONS);
    if handle.is_none() {
        return state;
    }
    // SAFETY: opens libraries by name, as `library::open` just did.
    if !unsafe { sys::is_culib_present() } {
        return Library::Missing { reason: "cudarc does not find it".into() };
    }
    // SAFETY: the line above said that there is one, without which this would panic.
    match library::lacks(unsafe { sys::culib() }, &FUNCTIONS) {
        Some(reason) => Library::Broken { reason: format!("of another file with a name of its: {reason}") },
        None => state,
    }
}

/// A failed call. The code is read as a number: a driver may be newer than the list of codes that cudarc was made with.
fn fault(call: &str, error: DriverError) -> Fault {
    let code = error.0 as u32;
    let mut name = ptr::null();
    // SAFETY: the function exists (`library`), and gives a static text or leaves the null.
    let known = unsafe { sys::cuGetErrorName(error.0, &mut name) } as u32 == 0 && !name.is_null();
    let answer = if known {
        // SAFETY: a static, terminated text of the driver, by its documentation.
        format!("{} ({code})", unsafe { CStr::from_ptr(name) }.to_string_lossy())
    } else {
        format!("CUDA error {code}")
    };
    Fault { call: call.into(), answer, kind: kind(code) }
}

/// What a CUDA code means for who has no kernel running (cuda.h, `cudaError_enum`).
fn kind(code: u32) -> FaultKind {
    match code {
        2 => FaultKind::NoMemory,
        // INSUFFICIENT_DRIVER, SYSTEM_DRIVER_MISMATCH, COMPAT_NOT_SUPPORTED_ON_DEVICE
        35 | 803 | 804 => FaultKind::OldDriver,
        100 => FaultKind::NoDevice,
        // ECC_UNCORRECTABLE, LAUNCH_FAILED: a context answers so for ever after its device went away.
        214 | 719 => FaultKind::Lost,
        _ => FaultKind::Other,
    }
}

fn check(call: &str, code: sys::CUresult) -> Result<(), Fault> {
    code.result().map_err(|e| fault(call, e))
}

/// CUDA, started.
#[derive(Debug, Clone, Copy)]
pub struct Cuda(());

/// What a device tells without a context.
#[derive(Debug)]
pub struct Facts {
    pub uuid: String,
    pub name: String,
    pub compute: Version,
    pub memory: u64,
}

impl Cuda {
    /// The CUDA version of the driver. May be asked before [`Cuda::start`].
    pub fn version() -> Option<Version> {
        let mut version = 0;
        // SAFETY: writes one int.
        check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version) }).ok()?;
        let version = u32::try_from(version).ok()?;
        // cuDriverGetVersion: 1000 x major + 10 x minor.
        Some(Version { major: version / 1000, minor: version % 1000 / 10 })
    }

    /// `cuInit`.
    pub fn start() -> Result<Self, Fault> {
        result::init().map_err(|e| fault("cuInit", e))?;
        Ok(Self(()))
    }

    /// Devices that this process may see.
    pub fn count(self) -> Result<u32, Fault> {
        let count = result::device::get_count().map_err(|e| fault("cuDeviceGetCount", e))?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    /// A device's handle.
    pub fn device(self, index: u32) -> Result<sys::CUdevice, Fault> {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        result::device::get(index).map_err(|e| fault("cuDeviceGet", e))
    }

    /// What it tells.
    pub fn facts(self, device: sys::CUdevice) -> Result<Facts, Fault> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        let uuid = result::device::get_uuid(device).map_err(|e| fault("cuDeviceGetUuid", e))?;
        let name = result::device::get_name(device).map_err(|e| fault("cuDeviceGetName", e))?;
        // SAFETY: the handle came from cuDeviceGet.
        let memory = unsafe { result::device::total_mem(device) }.map_err(|e| fault("cuDeviceTotalMem_v2", e))?;
        let attribute = |which| {
            // SAFETY: likewise.
            let value = unsafe { result::device::get_attribute(device, which) };
            value.map(|v| u32::try_from(v).unwrap_or(0)).map_err(|e| fault("cuDeviceGetAttribute", e))
        };
        let compute = Version { major: attribute(MAJOR)?, minor: attribute(MINOR)? };
        Ok(Facts { uuid: text_of(uuid.bytes.map(|b| b as u8)), name, compute, memory: memory as u64 })
    }
}

/// As NVML and `CUDA_VISIBLE_DEVICES` write it.
fn text_of(uuid: [u8; 16]) -> String {
    let hex: String = uuid.iter().map(|b| format!("{b:02x}")).collect();
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(a, b)| hex.get(a..b).unwrap_or_default());
    format!("GPU-{}", parts.join("-"))
}

/// A context, current on this thread until it is dropped.
#[derive(Debug)]
pub struct Context(sys::CUcontext);

impl Context {
    /// As GStreamer makes it: not the primary one.
    pub fn create(device: sys::CUdevice) -> Result<Self, Fault> {
        let mut context = ptr::null_mut();
        // SAFETY: writes one pointer; the handle came from cuDeviceGet.
        check("cuCtxCreate_v2", unsafe { sys::cuCtxCreate_v2(&mut context, 0, device) })?;
        Ok(Self(context))
    }

    /// For NVENC.
    pub fn raw(&self) -> *mut c_void {
        self.0.cast()
    }

    /// A picture in NV12 in the device's memory, mid-grey.
    pub fn grey(&self, width: u32, height: u32) -> Result<Picture<'_>, Fault> {
        let (mut address, mut pitch) = (0, 0);
        let rows = height as usize * 3 / 2;
        let access: c_uint = 16;
        // SAFETY: writes an address and a number.
        check("cuMemAllocPitch_v2", unsafe {
            sys::cuMemAllocPitch_v2(&mut address, &mut pitch, width as usize, rows, access)
        })?;
        let picture = Picture { address, pitch, _context: self };
        // SAFETY: the range is what was just given.
        check("cuMemsetD8_v2", unsafe { sys::cuMemsetD8_v2(address, 128, pitch.saturating_mul(rows)) })?;
        // SAFETY: waits for the context that is current.
        check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() })?;
        Ok(picture)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was created here and is destroyed once. A device that is lost answers with an error, and there is nothing left to do.
        let _ = unsafe { sys::cuCtxDestroy_v2(self.0) };
    }
}

/// Device memory.
#[derive(Debug)]
pub struct Picture<'a> {
    pub address: u64,
    pub pitch: usize,
    _context: &'a Context,
}

impl Drop for Picture<'_> {
    fn drop(&mut self) {
        // SAFETY: likewise.
        let _ = unsafe { sys::cuMemFree_v2(self.address) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_nvml_writes_it() {
        let bytes: Vec<u8> = (0..16).map(|n| n * 16 + n).collect();
        assert_eq!(text_of(bytes.try_into().unwrap()), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    /// Whatever this machine has: asking is no panic, and without the library nothing is called.
    #[test]
    fn asking_for_the_library_never_panics() {
        if library().is_loaded() {
            let _ = Cuda::start();
        }
    }
}
