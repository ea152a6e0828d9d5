//! NVENC: what the encoders of a device can do, and a few pictures encoded on it.
//!
//! Only for the probe: streams are encoded by GStreamer in the codec process.

mod bindings;
mod session;
mod versions;

use std::os::raw::c_void;

use weir::logic::gpu::{Fault, FaultKind, Library, Version};

use self::bindings::*;
pub use self::session::{HEIGHT, Session, WIDTH};
use super::library;

/// The name under which GStreamer opens it.
const NAME: &str = "libnvidia-encode.so.1";

const VERSION_OF: &str = "NvEncodeAPIGetMaxSupportedVersion";
const CREATE: &str = "NvEncodeAPICreateInstance";

/// The interface that these bindings are made for.
pub const WANTED: Version = Version { major: NVENCAPI_MAJOR_VERSION, minor: NVENCAPI_MINOR_VERSION };

/// The library, opened.
#[derive(Debug, Clone, Copy)]
pub struct Nvenc(&'static libloading::Library);

/// Opens it.
pub fn library() -> (Library, Option<Nvenc>) {
    let (state, handle) = library::open(NAME, &[VERSION_OF, CREATE]);
    (state, handle.map(Nvenc))
}

impl Nvenc {
    /// The newest interface that the driver knows. It is asked without a device.
    pub fn newest(self) -> Result<Version, Fault> {
        type Function = unsafe extern "C" fn(*mut u32) -> NVENCSTATUS;
        let mut packed = 0;
        // SAFETY: the header's signature; it writes one number.
        let status = unsafe {
            let function = self.0.get::<Function>(VERSION_OF.as_bytes()).map_err(|e| missing(VERSION_OF, &e.to_string()))?;
            function(&mut packed)
        };
        check(VERSION_OF, status)?;
        // Packed otherwise than NVENCAPI_VERSION: major << 4 | minor.
        Ok(Version { major: packed >> 4, minor: packed & 0xf })
    }

    /// The driver's functions.
    fn functions(self) -> Result<NV_ENCODE_API_FUNCTION_LIST, Fault> {
        type Function = unsafe extern "C" fn(*mut NV_ENCODE_API_FUNCTION_LIST) -> NVENCSTATUS;
        // SAFETY: all of it is numbers, pointers and functions that may be absent: zero is a value of each.
        let mut list: NV_ENCODE_API_FUNCTION_LIST = unsafe { std::mem::zeroed() };
        list.version = versions::NV_ENCODE_API_FUNCTION_LIST_VER;
        // SAFETY: the header's signature; it fills the list whose version says how long it is.
        let status = unsafe {
            let function = self.0.get::<Function>(CREATE.as_bytes()).map_err(|e| missing(CREATE, &e.to_string()))?;
            function(&mut list)
        };
        check(CREATE, status)?;
        Ok(list)
    }

    /// Opens a session on a context.
    ///
    /// # Safety
    /// `context` must be a CUDA context that outlives the session.
    pub unsafe fn open(self, context: *mut c_void) -> Result<Session, Fault> {
        // SAFETY: the caller's promise.
        unsafe { Session::open(self.functions()?, context) }
    }
}

fn missing(call: &str, reason: &str) -> Fault {
    Fault { call: call.into(), answer: reason.into(), kind: FaultKind::OldDriver }
}

/// By the header's `NVENCSTATUS`.
fn check(call: &str, status: NVENCSTATUS) -> Result<(), Fault> {
    let (name, kind) = match status {
        NV_ENC_SUCCESS => return Ok(()),
        NV_ENC_ERR_NO_ENCODE_DEVICE => ("NV_ENC_ERR_NO_ENCODE_DEVICE", FaultKind::NoDevice),
        NV_ENC_ERR_UNSUPPORTED_DEVICE => ("NV_ENC_ERR_UNSUPPORTED_DEVICE", FaultKind::NoDevice),
        NV_ENC_ERR_DEVICE_NOT_EXIST => ("NV_ENC_ERR_DEVICE_NOT_EXIST", FaultKind::Lost),
        NV_ENC_ERR_OUT_OF_MEMORY => ("NV_ENC_ERR_OUT_OF_MEMORY", FaultKind::NoSession),
        NV_ENC_ERR_INVALID_VERSION => ("NV_ENC_ERR_INVALID_VERSION", FaultKind::OldDriver),
        NV_ENC_ERR_INVALID_PARAM => ("NV_ENC_ERR_INVALID_PARAM", FaultKind::Other),
        NV_ENC_ERR_UNSUPPORTED_PARAM => ("NV_ENC_ERR_UNSUPPORTED_PARAM", FaultKind::Other),
        NV_ENC_ERR_ENCODER_BUSY => ("NV_ENC_ERR_ENCODER_BUSY", FaultKind::Other),
        NV_ENC_ERR_GENERIC => ("NV_ENC_ERR_GENERIC", FaultKind::Other),
        _ => ("NVENCSTATUS", FaultKind::Other),
    };
    Err(Fault { call: call.into(), answer: format!("{name} ({status})"), kind })
}
