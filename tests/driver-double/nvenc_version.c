/* Versions of NVENC's structures. Every structure begins with a word: API version, the structure's own version at bit 16, 7 at bit 28.
 *
 * One source serves API 8 to 12: what the double reads and writes lies at the same place in the headers of 11.1 and 12.1, which the assertions below
 * hold for whichever header this was built with (both were tried). */
#include "nvenc.h"

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), "another layout: " #type "." #field)
AT(NV_ENC_CONFIG, gopLength, 20);
AT(NV_ENC_CONFIG, rcParams, 40);
AT(NV_ENC_CONFIG, encodeCodecConfig, 168);
AT(NV_ENC_CONFIG_H264, idrPeriod, 8);
AT(NV_ENC_CONFIG_H264, entropyCodingMode, 44);
AT(NV_ENC_CONFIG_H264, h264VUIParameters, 72);
AT(NV_ENC_CONFIG_H264, chromaFormatIDC, 192);
AT(NV_ENC_CONFIG_H264_VUI_PARAMETERS, videoSignalTypePresentFlag, 8);
AT(NV_ENC_CONFIG_H264_VUI_PARAMETERS, videoFullRangeFlag, 16);
AT(NV_ENC_CONFIG_H264_VUI_PARAMETERS, colourMatrix, 32);
AT(NV_ENC_RC_PARAMS, constQP, 8);
AT(NV_ENC_RC_PARAMS, averageBitRate, 20);
AT(NV_ENC_RC_PARAMS, vbvBufferSize, 28);
AT(NV_ENC_RC_PARAMS, minQP, 40);
AT(NV_ENC_RC_PARAMS, maxQP, 52);
AT(NV_ENC_INITIALIZE_PARAMS, frameRateNum, 52);
AT(NV_ENC_INITIALIZE_PARAMS, enablePTD, 64);
AT(NV_ENC_INITIALIZE_PARAMS, encodeConfig, 88);
AT(NV_ENC_INITIALIZE_PARAMS, maxEncodeWidth, 96);
AT(NV_ENC_RECONFIGURE_PARAMS, reInitEncodeParams, 8);
AT(NV_ENC_PRESET_CONFIG, presetCfg, 8);
AT(NV_ENC_PIC_PARAMS, encodePicFlags, 16);
AT(NV_ENC_PIC_PARAMS, inputTimeStamp, 24);
AT(NV_ENC_PIC_PARAMS, inputBuffer, 40);
AT(NV_ENC_PIC_PARAMS, outputBitstream, 48);
AT(NV_ENC_LOCK_BITSTREAM, outputBitstream, 8);
AT(NV_ENC_LOCK_BITSTREAM, bitstreamSizeInBytes, 36);
AT(NV_ENC_LOCK_BITSTREAM, outputTimeStamp, 40);
AT(NV_ENC_LOCK_BITSTREAM, bitstreamBufferPtr, 56);
AT(NV_ENC_LOCK_BITSTREAM, frameAvgQP, 72);
AT(NV_ENC_REGISTER_RESOURCE, pitch, 16);
AT(NV_ENC_REGISTER_RESOURCE, resourceToRegister, 24);
AT(NV_ENC_REGISTER_RESOURCE, bufferFormat, 40);
AT(NV_ENC_MAP_INPUT_RESOURCE, mappedResource, 24);
AT(NV_ENCODE_API_FUNCTION_LIST, nvEncSetIOCudaStreams, 312);
AT(NV_ENCODE_API_FUNCTION_LIST, nvEncGetEncodePresetConfigEx, 320);
/* What is cleared as a whole has one size. */
_Static_assert(sizeof(NV_ENC_CONFIG) == 3584, "another size: NV_ENC_CONFIG");
_Static_assert(sizeof(NV_ENC_PRESET_CONFIG) == 5128, "another size: NV_ENC_PRESET_CONFIG");

/* What a 550 driver says: 12.2. */
#define API_550 (12u << 4 | 2u)

/* The structure's version in the headers up to 11.1, and the least and the most in those of 12.0 to 12.2. */
static const struct {
    const char *name;
    unsigned old, least, most;
} versions[STRUCTURES] = {
    [OPEN_SESSION] = { "NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS", 1, 1, 1 },
    [CAPS] = { "NV_ENC_CAPS_PARAM", 1, 1, 1 },
    [PRESET_CONFIG] = { "NV_ENC_PRESET_CONFIG", 4, 4, 5 },
    [CONFIG] = { "NV_ENC_CONFIG", 7, 8, 9 },
    [INITIALIZE] = { "NV_ENC_INITIALIZE_PARAMS", 5, 5, 7 },
    [RECONFIGURE] = { "NV_ENC_RECONFIGURE_PARAMS", 1, 1, 2 },
    [INPUT] = { "NV_ENC_CREATE_INPUT_BUFFER", 1, 1, 2 },
    [BITSTREAM_BUFFER] = { "NV_ENC_CREATE_BITSTREAM_BUFFER", 1, 1, 1 },
    [PICTURE] = { "NV_ENC_PIC_PARAMS", 4, 4, 7 },
    [LOCK_BITSTREAM] = { "NV_ENC_LOCK_BITSTREAM", 1, 1, 2 },
    [LOCK_INPUT] = { "NV_ENC_LOCK_INPUT_BUFFER", 1, 1, 1 },
    [MAP_INPUT] = { "NV_ENC_MAP_INPUT_RESOURCE", 4, 4, 4 },
    [REGISTER] = { "NV_ENC_REGISTER_RESOURCE", 3, 3, 5 },
    [SEQUENCE] = { "NV_ENC_SEQUENCE_PARAM_PAYLOAD", 1, 1, 1 },
};

uint32_t dd_max_api(void)
{
    return (uint32_t)dd_setting("nvenc.max_api", API_550);
}

bool dd_api_ok(uint32_t word)
{
    uint32_t major = word & 0xff, minor = word >> 24 & 0xf;
    return major >= 8 && (major << 4 | minor) <= dd_max_api();
}

bool dd_version_ok(uint32_t word, enum structure s)
{
    unsigned version = word >> 16 & 0xff, major = word & 0xff;
    bool old = major <= 11;
    bool fits = old ? version == versions[s].old : version >= versions[s].least && version <= versions[s].most;
    bool ok = fits && (word >> 28 & 7) == 7 && dd_api_ok(word & 0x0f0000ffu);
    if (!ok)
        dd_log("nvenc: %s has version %08x", versions[s].name, word);
    return ok;
}
