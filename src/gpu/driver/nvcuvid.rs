//! NVDEC: what the decoders of a device can do.

use weir::logic::gpu::{DecoderCaps, Fault, FaultKind, Library};

use super::library;

/// The name under which GStreamer opens it.
const NAME: &str = "libnvcuvid.so.1";

const CAPS: &str = "cuvidGetDecoderCaps";

/// `CUVIDDECODECAPS` of NVIDIA's `cuviddec.h`, interface 11.1; it has not changed since 11.0.
#[repr(C)]
#[derive(Debug, Default)]
struct Caps {
    codec: u32,
    chroma: u32,
    bit_depth_minus_8: u32,
    reserved1: [u32; 3],
    is_supported: u8,
    engines: u8,
    output_formats: u16,
    max_width: u32,
    max_height: u32,
    max_macroblocks: u32,
    min_width: u16,
    min_height: u16,
    is_histogram_supported: u8,
    counter_bit_depth: u8,
    max_histogram_bins: u16,
    reserved3: [u32; 10],
}

const _: () = assert!(size_of::<Caps>() == 88);

/// `cudaVideoCodec_H264`, `cudaVideoChromaFormat_420`.
const H264: u32 = 4;
const CHROMA_420: u32 = 1;

/// The library, opened.
#[derive(Debug, Clone, Copy)]
pub struct Nvcuvid(&'static libloading::Library);

/// Opens it.
pub fn library() -> (Library, Option<Nvcuvid>) {
    let (state, handle) = library::open(NAME, &[CAPS, "cuvidCreateDecoder", "cuvidDecodePicture"]);
    (state, handle.map(Nvcuvid))
}

impl Nvcuvid {
    /// Of H.264, 4:2:0, 8 bit, on the device whose context is current.
    pub fn caps(self) -> Result<DecoderCaps, Fault> {
        type Function = unsafe extern "C" fn(*mut Caps) -> u32;
        let mut caps = Caps { codec: H264, chroma: CHROMA_420, ..Caps::default() };
        let failed = |answer: String| Fault { call: CAPS.into(), answer, kind: FaultKind::Other };
        // SAFETY: the header's signature; the structure's size is checked above.
        let code = unsafe {
            let function = self.0.get::<Function>(CAPS.as_bytes()).map_err(|e| failed(e.to_string()))?;
            function(&mut caps)
        };
        if code != 0 {
            return Err(failed(format!("CUDA error {code}")));
        }
        Ok(DecoderCaps {
            h264: caps.is_supported != 0,
            engines: u32::from(caps.engines).max(1),
            width: (caps.min_width.into(), caps.max_width),
            height: (caps.min_height.into(), caps.max_height),
            macroblocks: caps.max_macroblocks,
        })
    }
}
