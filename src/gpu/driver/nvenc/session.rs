//! One encode session: capabilities, and the self-test.

use std::mem::zeroed;
use std::os::raw::c_void;
use std::ptr;

use weir::logic::gpu::{EncoderCaps, Fault, FaultKind, SelfTest};

use super::super::cuda::Picture;
use super::bindings::*;
use super::versions::{self, NV_ENC_CODEC_H264_GUID as H264};
use super::{check, missing};

/// Pictures of the self-test: one key frame and enough others to see that the encoder goes on.
const FRAMES: u32 = 8;

/// Its picture: over the smallest that NVENC takes on Turing and later (145 x 49), and one that a ladder could have.
pub const WIDTH: u32 = 256;
/// Likewise.
pub const HEIGHT: u32 = 144;

/// `NV_ENC_CAPS` has so many values in this header.
const CAPS: u32 = NV_ENC_CAPS_EXPOSED_COUNT;

/// Most presets that are read: the header knows 16.
const MAX_PRESETS: u32 = 64;

/// A session, ended when it is dropped.
#[derive(Debug)]
pub struct Session {
    functions: NV_ENCODE_API_FUNCTION_LIST,
    encoder: *mut c_void,
}

/// Calls a function of the driver's list; one that is absent is an old driver.
macro_rules! call {
    ($session:expr, $function:ident $(, $argument:expr)*) => {{
        let name = stringify!($function);
        match $session.functions.$function {
            // SAFETY: the header's signature (bindgen), with structures whose versions and sizes are the header's (versions.rs).
            Some(function) => check(name, unsafe { function($session.encoder $(, $argument)*) }),
            None => Err(missing(name, "the driver does not have it")),
        }
    }};
}

impl Session {
    /// # Safety
    /// `context` must be a CUDA context that outlives the session.
    pub(super) unsafe fn open(functions: NV_ENCODE_API_FUNCTION_LIST, context: *mut c_void) -> Result<Self, Fault> {
        const CALL: &str = "nvEncOpenEncodeSessionEx";
        let open = functions.nvEncOpenEncodeSessionEx.ok_or_else(|| missing(CALL, "the driver does not have it"))?;
        // SAFETY: numbers and pointers, for which zero is a value.
        let mut parameters: NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS = unsafe { zeroed() };
        parameters.version = versions::NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER;
        parameters.deviceType = NV_ENC_DEVICE_TYPE_CUDA;
        parameters.device = context;
        parameters.apiVersion = versions::API;
        let mut encoder = ptr::null_mut();
        // SAFETY: the header's signature, and the caller's promise.
        let status = unsafe { open(&mut parameters, &mut encoder) };
        // The header: "If the creation of encoder session fails, the client must call NvEncDestroyEncoder".
        let session = Self { functions, encoder };
        check(CALL, status)?;
        Ok(session)
    }

    /// What it says of H.264.
    pub fn caps(&self) -> Result<EncoderCaps, Fault> {
        let raw = (0..CAPS).map(|cap| self.cap(cap)).collect::<Result<Vec<i32>, Fault>>()?;
        let value = |cap: u32| raw.get(cap as usize).and_then(|v| u32::try_from(*v).ok()).unwrap_or(0);
        let offered = self.presets()?;
        let is_offered = |preset: &GUID| offered.iter().any(|o| versions::same(o, preset));
        Ok(EncoderCaps {
            // Older than 11.0 drivers do not know the question and answer 0.
            engines: value(NV_ENC_CAPS_NUM_ENCODER_ENGINES).max(1),
            width: (value(NV_ENC_CAPS_WIDTH_MIN), value(NV_ENC_CAPS_WIDTH_MAX)),
            height: (value(NV_ENC_CAPS_HEIGHT_MIN), value(NV_ENC_CAPS_HEIGHT_MAX)),
            b_frames: value(NV_ENC_CAPS_NUM_MAX_BFRAMES),
            macroblocks: value(NV_ENC_CAPS_MB_NUM_MAX),
            presets: (1..).zip(&versions::PRESETS).filter(|(_, p)| is_offered(p)).map(|(n, _)| n).collect(),
            legacy_presets: is_offered(&versions::NV_ENC_PRESET_DEFAULT_GUID),
            raw,
        })
    }

    fn cap(&self, cap: u32) -> Result<i32, Fault> {
        // SAFETY: numbers.
        let mut question: NV_ENC_CAPS_PARAM = unsafe { zeroed() };
        question.version = versions::NV_ENC_CAPS_PARAM_VER;
        question.capsToQuery = cap;
        let mut answer = 0;
        call!(self, nvEncGetEncodeCaps, H264, &mut question, &mut answer)?;
        Ok(answer)
    }

    fn presets(&self) -> Result<Vec<GUID>, Fault> {
        let (mut count, mut got) = (0, 0);
        call!(self, nvEncGetEncodePresetCount, H264, &mut count)?;
        let room = count.min(MAX_PRESETS);
        let mut presets = vec![GUID { Data1: 0, Data2: 0, Data3: 0, Data4: [0; 8] }; room as usize];
        call!(self, nvEncGetEncodePresetGUIDs, H264, presets.as_mut_ptr(), room, &mut got)?;
        presets.truncate(got.min(room) as usize);
        Ok(presets)
    }

    /// Encodes a grey picture several times, from device memory as streams do, and looks at what comes out.
    pub fn self_test(&self, picture: &Picture<'_>) -> Result<SelfTest, Fault> {
        self.initialise()?;
        let mapped = self.map(picture)?;
        let output = self.output_buffer()?;
        let mut total = 0;
        for frame in 0..FRAMES {
            // SAFETY: numbers, pointers and unions of them.
            let mut parameters: NV_ENC_PIC_PARAMS = unsafe { zeroed() };
            parameters.version = versions::NV_ENC_PIC_PARAMS_VER;
            parameters.inputWidth = WIDTH;
            parameters.inputHeight = HEIGHT;
            parameters.inputPitch = u32::try_from(picture.pitch).unwrap_or(WIDTH);
            parameters.inputBuffer = mapped;
            parameters.outputBitstream = output;
            parameters.bufferFmt = NV_ENC_BUFFER_FORMAT_NV12;
            parameters.pictureStruct = NV_ENC_PIC_STRUCT_FRAME;
            parameters.inputTimeStamp = frame.into();
            if frame == 0 {
                parameters.encodePicFlags = NV_ENC_PIC_FLAG_FORCEIDR | NV_ENC_PIC_FLAG_OUTPUT_SPSPPS;
            }
            call!(self, nvEncEncodePicture, &mut parameters)?;
            total += self.look_at(output, frame == 0)?;
        }
        call!(self, nvEncUnmapInputResource, mapped)?;
        Ok(SelfTest { frames: FRAMES, bytes: total })
    }

    fn initialise(&self) -> Result<(), Fault> {
        // SAFETY: numbers, pointers and unions of them, all three.
        let (mut preset, mut parameters): (NV_ENC_PRESET_CONFIG, NV_ENC_INITIALIZE_PARAMS) = unsafe { (zeroed(), zeroed()) };
        preset.version = versions::NV_ENC_PRESET_CONFIG_VER;
        preset.presetCfg.version = versions::NV_ENC_CONFIG_VER;
        let (fastest, tuning) = (versions::NV_ENC_PRESET_P1_GUID, NV_ENC_TUNING_INFO_HIGH_QUALITY);
        call!(self, nvEncGetEncodePresetConfigEx, H264, fastest, tuning, &mut preset)?;
        // No B-frames: every picture that goes in comes out at once.
        preset.presetCfg.frameIntervalP = 1;
        preset.presetCfg.gopLength = NVENC_INFINITE_GOPLENGTH;
        parameters.version = versions::NV_ENC_INITIALIZE_PARAMS_VER;
        parameters.encodeGUID = H264;
        parameters.presetGUID = fastest;
        parameters.tuningInfo = tuning;
        (parameters.encodeWidth, parameters.encodeHeight) = (WIDTH, HEIGHT);
        (parameters.darWidth, parameters.darHeight) = (WIDTH, HEIGHT);
        (parameters.maxEncodeWidth, parameters.maxEncodeHeight) = (WIDTH, HEIGHT);
        (parameters.frameRateNum, parameters.frameRateDen) = (30, 1);
        parameters.enablePTD = 1;
        parameters.encodeConfig = &mut preset.presetCfg;
        call!(self, nvEncInitializeEncoder, &mut parameters)
    }

    fn map(&self, picture: &Picture<'_>) -> Result<NV_ENC_INPUT_PTR, Fault> {
        // SAFETY: numbers and pointers, both.
        let (mut resource, mut map): (NV_ENC_REGISTER_RESOURCE, NV_ENC_MAP_INPUT_RESOURCE) = unsafe { (zeroed(), zeroed()) };
        resource.version = versions::NV_ENC_REGISTER_RESOURCE_VER;
        resource.resourceType = NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR;
        (resource.width, resource.height) = (WIDTH, HEIGHT);
        resource.pitch = u32::try_from(picture.pitch).unwrap_or(WIDTH);
        // An address in the device's memory, which nothing reads through on this side.
        resource.resourceToRegister = ptr::without_provenance_mut(usize::try_from(picture.address).unwrap_or(0));
        resource.bufferFormat = NV_ENC_BUFFER_FORMAT_NV12;
        resource.bufferUsage = NV_ENC_INPUT_IMAGE;
        call!(self, nvEncRegisterResource, &mut resource)?;
        map.version = versions::NV_ENC_MAP_INPUT_RESOURCE_VER;
        map.registeredResource = resource.registeredResource;
        call!(self, nvEncMapInputResource, &mut map)?;
        Ok(map.mappedResource)
    }

    fn output_buffer(&self) -> Result<NV_ENC_OUTPUT_PTR, Fault> {
        // SAFETY: numbers and pointers.
        let mut buffer: NV_ENC_CREATE_BITSTREAM_BUFFER = unsafe { zeroed() };
        buffer.version = versions::NV_ENC_CREATE_BITSTREAM_BUFFER_VER;
        call!(self, nvEncCreateBitstreamBuffer, &mut buffer)?;
        Ok(buffer.bitstreamBuffer)
    }

    /// Bytes of one picture. The first must be a key frame with its parameter sets.
    fn look_at(&self, output: NV_ENC_OUTPUT_PTR, first: bool) -> Result<u64, Fault> {
        // SAFETY: numbers and pointers.
        let mut lock: NV_ENC_LOCK_BITSTREAM = unsafe { zeroed() };
        lock.version = versions::NV_ENC_LOCK_BITSTREAM_VER;
        lock.outputBitstream = output;
        call!(self, nvEncLockBitstream, &mut lock)?;
        let bytes: &[u8] = if lock.bitstreamBufferPtr.is_null() {
            &[]
        } else {
            // SAFETY: the driver gives so many bytes that stay until UnlockBitstream, which is called after their last use.
            unsafe { std::slice::from_raw_parts(lock.bitstreamBufferPtr.cast(), lock.bitstreamSizeInBytes as usize) }
        };
        let (length, kinds) = (bytes.len() as u64, nal_kinds(bytes));
        call!(self, nvEncUnlockBitstream, output)?;
        let bad = |answer: String| Fault { call: "nvEncLockBitstream".into(), answer, kind: FaultKind::BadOutput };
        match () {
            () if kinds.is_empty() => Err(bad(format!("{length} bytes without a NAL unit"))),
            // ITU-T H.264, table 7-1: 7 and 8 are parameter sets, 5 is a slice of an IDR picture, 1 of another.
            () if first && ![7, 8, 5].iter().all(|k| kinds.contains(k)) => {
                Err(bad(format!("the first picture has NAL units {kinds:?}: it is no key frame with its parameter sets")))
            }
            () if !first && !kinds.contains(&1) && !kinds.contains(&5) => {
                Err(bad(format!("no picture in NAL units {kinds:?}")))
            }
            () => Ok(length),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.encoder.is_null() {
            // What was made in the session goes with it. A device that is lost answers with an error, and there is nothing left to do.
            let _ = call!(self, nvEncDestroyEncoder);
        }
    }
}

/// Types of the NAL units in a byte stream (ITU-T H.264, annex B).
fn nal_kinds(bytes: &[u8]) -> Vec<u8> {
    bytes.windows(4).filter(|w| w[..3] == [0, 0, 1]).map(|w| w[3] & 0x1f).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_seen_behind_start_codes_of_both_lengths() {
        assert_eq!(nal_kinds(&[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 9]), [7, 8, 5]);
        assert!(nal_kinds(&[]).is_empty() && nal_kinds(&[0, 0, 1]).is_empty());
    }
}
