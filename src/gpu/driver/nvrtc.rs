//! NVRTC, the run-time compiler without which GStreamer has no scaler: is it there under the name that GStreamer asks for?

use std::os::raw::c_int;

use weir::logic::gpu::{Library, Version};

use super::library;

/// GStreamer reads the name from here.
const VARIABLE: &str = "GST_CUDA_NVRTC_LIBNAME";

/// And without it asks for this one, which only development packages have (gstcudanvrtc.cpp).
const NAME: &str = "libnvrtc.so";

/// What GStreamer must find in it (gstcudanvrtc.cpp).
const FUNCTIONS: [&str; 7] = [
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetPTX",
    "nvrtcGetPTXSize",
    "nvrtcGetProgramLog",
    "nvrtcGetProgramLogSize",
];

/// State, name and version.
pub fn library() -> (Library, String, Option<Version>) {
    let name = std::env::var(VARIABLE).ok().filter(|n| !n.is_empty()).unwrap_or_else(|| NAME.into());
    let (state, handle) = library::open(&name, &FUNCTIONS);
    (state, name, handle.and_then(version))
}

fn version(library: &libloading::Library) -> Option<Version> {
    type Function = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: nvrtc.h's signature; it writes two numbers. A library without it does not say its version.
    let status = unsafe { library.get::<Function>(b"nvrtcVersion").ok()?(&mut major, &mut minor) };
    let version = Version { major: u32::try_from(major).ok()?, minor: u32::try_from(minor).ok()? };
    (status == 0).then_some(version)
}
