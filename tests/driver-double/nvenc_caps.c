/* NVENC: what the device can do, as far as documents and a dump of the same encoder generation say (an RTX 3090, GA102 as the A10G). Any value can be
 * set by nvenc.caps.N. */
#include "nvenc.h"
#include <stdio.h>
#include <string.h>

bool dd_same_guid(GUID a, GUID b)
{
    return !memcmp(&a, &b, sizeof a);
}

static int built_in(NV_ENC_CAPS cap)
{
    switch (cap) {
    case NV_ENC_CAPS_NUM_MAX_BFRAMES:
    case NV_ENC_CAPS_NUM_MAX_TEMPORAL_LAYERS:
        return 4;
    case NV_ENC_CAPS_SUPPORTED_RATECONTROL_MODES:
        return 63;
    case NV_ENC_CAPS_LEVEL_MAX:
        return 62;
    case NV_ENC_CAPS_LEVEL_MIN:
        return 10;
    case NV_ENC_CAPS_WIDTH_MAX:
    case NV_ENC_CAPS_HEIGHT_MAX:
        return 4096;
    case NV_ENC_CAPS_WIDTH_MIN:
        return 145;
    case NV_ENC_CAPS_HEIGHT_MIN:
        return 49;
    case NV_ENC_CAPS_MB_NUM_MAX:
        return 65536;
    case NV_ENC_CAPS_MB_PER_SEC_MAX:
        return 983040;
    case NV_ENC_CAPS_NUM_MAX_LTR_FRAMES:
        return 8;
    case NV_ENC_CAPS_SUPPORT_BFRAME_REF_MODE:
        return 2; /* the middle one only */
    case NV_ENC_CAPS_DYNAMIC_QUERY_ENCODER_CAPACITY:
        return 100;
    case NV_ENC_CAPS_NUM_ENCODER_ENGINES:
    case NV_ENC_CAPS_SUPPORT_QPELMV:
    case NV_ENC_CAPS_SUPPORT_BDIRECT_MODE:
    case NV_ENC_CAPS_SUPPORT_CABAC:
    case NV_ENC_CAPS_SUPPORT_ADAPTIVE_TRANSFORM:
    case NV_ENC_CAPS_SUPPORT_HIERARCHICAL_PFRAMES:
    case NV_ENC_CAPS_SUPPORT_TEMPORAL_SVC:
    case NV_ENC_CAPS_SUPPORT_DYN_RES_CHANGE:
    case NV_ENC_CAPS_SUPPORT_DYN_BITRATE_CHANGE:
    case NV_ENC_CAPS_SUPPORT_DYN_FORCE_CONSTQP:
    case NV_ENC_CAPS_SUPPORT_SUBFRAME_READBACK:
    case NV_ENC_CAPS_SUPPORT_CONSTRAINED_ENCODING:
    case NV_ENC_CAPS_SUPPORT_INTRA_REFRESH:
    case NV_ENC_CAPS_SUPPORT_CUSTOM_VBV_BUF_SIZE:
    case NV_ENC_CAPS_SUPPORT_DYNAMIC_SLICE_MODE:
    case NV_ENC_CAPS_SUPPORT_REF_PIC_INVALIDATION:
    case NV_ENC_CAPS_SUPPORT_LOOKAHEAD:
    case NV_ENC_CAPS_SUPPORT_TEMPORAL_AQ:
    case NV_ENC_CAPS_SUPPORT_WEIGHTED_PREDICTION:
    case NV_ENC_CAPS_SUPPORT_EMPHASIS_LEVEL_MAP:
    case NV_ENC_CAPS_SUPPORT_MULTIPLE_REF_FRAMES:
        return 1;
    default: /* among them async encoding, field encoding, 10 bit, 4:4:4, lossless */
        return 0;
    }
}

int dd_cap(NV_ENC_CAPS cap)
{
    char key[40];
    snprintf(key, sizeof key, "nvenc.caps.%d", (int)cap);
    return (int)dd_setting(key, built_in(cap));
}

static NVENCSTATUS NVENCAPI get_caps(void *handle, GUID codec, NV_ENC_CAPS_PARAM *p, int *value)
{
    ENTER("nvEncGetEncodeCaps");
    SESSION(e, handle);
    (void)e;
    NEED_VERSION(p->version, CAPS);
    if (!dd_same_guid(codec, NV_ENC_CODEC_H264_GUID))
        return NV_ENC_ERR_UNSUPPORTED_PARAM;
    *value = dd_cap(p->capsToQuery);
    return NV_ENC_SUCCESS;
}

/* ---- lists of names ---- */

static NVENCSTATUS give(const GUID *all, uint32_t count, GUID codec, GUID *out, uint32_t room, uint32_t *given)
{
    if (!dd_same_guid(codec, NV_ENC_CODEC_H264_GUID))
        return NV_ENC_ERR_UNSUPPORTED_PARAM;
    if (out) {
        count = room < count ? room : count;
        memcpy(out, all, count * sizeof *out);
    }
    *given = count;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI codec_count(void *handle, uint32_t *count)
{
    ENTER("nvEncGetEncodeGUIDCount");
    SESSION(e, handle);
    (void)e;
    *count = 1;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI codecs(void *handle, GUID *out, uint32_t room, uint32_t *count)
{
    ENTER("nvEncGetEncodeGUIDs");
    SESSION(e, handle);
    (void)e;
    if (!room)
        return NV_ENC_ERR_INVALID_PARAM;
    out[0] = NV_ENC_CODEC_H264_GUID;
    *count = 1;
    return NV_ENC_SUCCESS;
}

enum { PROFILES = 5 };

static NVENCSTATUS give_profiles(GUID codec, GUID *out, uint32_t room, uint32_t *count)
{
    const GUID all[PROFILES] = { NV_ENC_CODEC_PROFILE_AUTOSELECT_GUID, NV_ENC_H264_PROFILE_BASELINE_GUID, NV_ENC_H264_PROFILE_MAIN_GUID, NV_ENC_H264_PROFILE_HIGH_GUID, NV_ENC_H264_PROFILE_PROGRESSIVE_HIGH_GUID };
    return give(all, PROFILES, codec, out, room, count);
}

static NVENCSTATUS NVENCAPI profile_count(void *handle, GUID codec, uint32_t *count)
{
    ENTER("nvEncGetEncodeProfileGUIDCount");
    SESSION(e, handle);
    (void)e;
    return give_profiles(codec, NULL, 0, count);
}

static NVENCSTATUS NVENCAPI profiles(void *handle, GUID codec, GUID *out, uint32_t room, uint32_t *count)
{
    ENTER("nvEncGetEncodeProfileGUIDs");
    SESSION(e, handle);
    (void)e;
    return give_profiles(codec, out, room, count);
}

static NVENCSTATUS NVENCAPI format_count(void *handle, GUID codec, uint32_t *count)
{
    ENTER("nvEncGetInputFormatCount");
    SESSION(e, handle);
    (void)e;
    (void)codec;
    *count = 1;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI formats(void *handle, GUID codec, NV_ENC_BUFFER_FORMAT *out, uint32_t room, uint32_t *count)
{
    ENTER("nvEncGetInputFormats");
    SESSION(e, handle);
    (void)e;
    (void)codec;
    *count = room ? 1 : 0;
    if (room)
        out[0] = NV_ENC_BUFFER_FORMAT_NV12;
    return NV_ENC_SUCCESS;
}

/* ---- presets ---- */

enum { LEGACY = 9, NUMBERED = 7 };

/* The presets before P1 to P7: header 12.1 has them no more, drivers have them until 590. In the order default, HP, HQ, BD, low latency default,
 * HQ, HP, lossless default, HP. */
static const GUID legacy[LEGACY] = {
    { 0xb2dfb705, 0x4ebd, 0x4c49, { 0x9b, 0x5f, 0x24, 0xa7, 0x77, 0xd3, 0xe5, 0x87 } },
    { 0x60e4c59f, 0xe846, 0x4484, { 0xa5, 0x6d, 0xcd, 0x45, 0xbe, 0x9f, 0xdd, 0xf6 } },
    { 0x34dba71d, 0xa77b, 0x4b8f, { 0x9c, 0x3e, 0xb6, 0xd5, 0xda, 0x24, 0xc0, 0x12 } },
    { 0x82e3e450, 0xbdbb, 0x4e40, { 0x98, 0x9c, 0x82, 0xa9, 0x0d, 0xf9, 0xef, 0x32 } },
    { 0x49df21c5, 0x6dfa, 0x4feb, { 0x97, 0x87, 0x6a, 0xcc, 0x9e, 0xff, 0xb7, 0x26 } },
    { 0xc5f733b9, 0xea97, 0x4cf9, { 0xbe, 0xc2, 0xbf, 0x78, 0xa7, 0x4f, 0xd1, 0x05 } },
    { 0x67082a44, 0x4bad, 0x48fa, { 0x98, 0xea, 0x93, 0x05, 0x6d, 0x15, 0x0a, 0x58 } },
    { 0xd5bfb716, 0xc604, 0x44e7, { 0x9b, 0xb8, 0xde, 0xa5, 0x51, 0x0f, 0xc3, 0xac } },
    { 0x149998e7, 0x2364, 0x411d, { 0x82, 0xef, 0x17, 0x98, 0x88, 0x09, 0x34, 0x09 } },
};

static uint32_t all_presets(GUID out[LEGACY + NUMBERED])
{
    const GUID numbered[NUMBERED] = { NV_ENC_PRESET_P1_GUID, NV_ENC_PRESET_P2_GUID, NV_ENC_PRESET_P3_GUID, NV_ENC_PRESET_P4_GUID, NV_ENC_PRESET_P5_GUID, NV_ENC_PRESET_P6_GUID, NV_ENC_PRESET_P7_GUID };
    uint32_t count = 0;
    if (dd_setting("nvenc.legacy_presets", 1)) {
        memcpy(out, legacy, sizeof legacy);
        count = LEGACY;
    }
    memcpy(out + count, numbered, sizeof numbered);
    return count + NUMBERED;
}

/* Which presets encoders were set up with: nvenc.preset.p1 to p7, nvenc.preset.legacy. */
void dd_count_preset(GUID preset)
{
    static const char *const names[NUMBERED] = { "nvenc.preset.p1", "nvenc.preset.p2", "nvenc.preset.p3", "nvenc.preset.p4", "nvenc.preset.p5", "nvenc.preset.p6", "nvenc.preset.p7" };
    GUID all[LEGACY + NUMBERED];
    uint32_t count = all_presets(all), first = count - NUMBERED;
    for (uint32_t i = first; i < count; i++)
        if (dd_same_guid(all[i], preset)) {
            dd_count(names[i - first]);
            return;
        }
    dd_count("nvenc.preset.legacy");
}

static NVENCSTATUS NVENCAPI preset_count(void *handle, GUID codec, uint32_t *count)
{
    ENTER("nvEncGetEncodePresetCount");
    SESSION(e, handle);
    (void)e;
    GUID all[LEGACY + NUMBERED];
    return give(all, all_presets(all), codec, NULL, 0, count);
}

static NVENCSTATUS NVENCAPI presets(void *handle, GUID codec, GUID *out, uint32_t room, uint32_t *count)
{
    ENTER("nvEncGetEncodePresetGUIDs");
    SESSION(e, handle);
    (void)e;
    GUID all[LEGACY + NUMBERED];
    return give(all, all_presets(all), codec, out, room, count);
}

static NVENCSTATUS fill(GUID preset, NV_ENC_PRESET_CONFIG *p)
{
    NEED_VERSION(p->version, PRESET_CONFIG);
    NEED_VERSION(p->presetCfg.version, CONFIG);
    GUID all[LEGACY + NUMBERED];
    uint32_t count = all_presets(all), i = 0;
    while (i < count && !dd_same_guid(all[i], preset))
        i++;
    if (i == count)
        return NV_ENC_ERR_UNSUPPORTED_PARAM;
    NV_ENC_CONFIG *c = &p->presetCfg;
    uint32_t version = c->version;
    memset(c, 0, sizeof *c);
    c->version = version;
    c->profileGUID = NV_ENC_CODEC_PROFILE_AUTOSELECT_GUID;
    c->gopLength = NVENC_INFINITE_GOPLENGTH;
    c->frameIntervalP = 1;
    c->frameFieldMode = NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME;
    c->mvPrecision = NV_ENC_MV_PRECISION_QUARTER_PEL;
    c->rcParams.version = (version & 0x0f0000ffu) | 1u << 16 | 7u << 28;
    c->rcParams.rateControlMode = NV_ENC_PARAMS_RC_VBR;
    c->rcParams.constQP = (NV_ENC_QP){ 28, 31, 25 };
    c->encodeCodecConfig.h264Config.idrPeriod = c->gopLength;
    c->encodeCodecConfig.h264Config.chromaFormatIDC = 1;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI preset_config(void *handle, GUID codec, GUID preset, NV_ENC_PRESET_CONFIG *p)
{
    ENTER("nvEncGetEncodePresetConfig");
    SESSION(e, handle);
    (void)e;
    (void)codec;
    return fill(preset, p);
}

static NVENCSTATUS NVENCAPI preset_config_ex(void *handle, GUID codec, GUID preset, NV_ENC_TUNING_INFO tuning, NV_ENC_PRESET_CONFIG *p)
{
    ENTER("nvEncGetEncodePresetConfigEx");
    SESSION(e, handle);
    (void)e;
    (void)codec;
    (void)tuning;
    return fill(preset, p);
}

void dd_install_caps(NV_ENCODE_API_FUNCTION_LIST *list)
{
    list->nvEncGetEncodeGUIDCount = codec_count;
    list->nvEncGetEncodeGUIDs = codecs;
    list->nvEncGetEncodeProfileGUIDCount = profile_count;
    list->nvEncGetEncodeProfileGUIDs = profiles;
    list->nvEncGetInputFormatCount = format_count;
    list->nvEncGetInputFormats = formats;
    list->nvEncGetEncodeCaps = get_caps;
    list->nvEncGetEncodePresetCount = preset_count;
    list->nvEncGetEncodePresetGUIDs = presets;
    list->nvEncGetEncodePresetConfig = preset_config;
    list->nvEncGetEncodePresetConfigEx = preset_config_ex;
}
