/* libnvidia-encode: sessions of H.264 encoding, by x264. */
#include "nvenc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENCODER_MAGIC 0x4E56454Eu
#define MIB (UINT64_C(1) << 20)
/* Device memory of a session: no number is published; the middle of what people measured (30 to 80 MB). */
#define SESSION_MIB 64

struct encoder *dd_encoder(void *handle, NVENCSTATUS *status)
{
    struct encoder *e = handle;
    if (!e)
        *status = NV_ENC_ERR_INVALID_PTR;
    else if (e->magic != ENCODER_MAGIC)
        *status = NV_ENC_ERR_INVALID_ENCODERDEVICE;
    else if (dd_lost(e->context->device))
        *status = NV_ENC_ERR_GENERIC;
    else
        return e;
    return NULL;
}

NVENCSTATUS dd_fail(struct encoder *e, NVENCSTATUS status, const char *why)
{
    snprintf(e->error, sizeof e->error, "%s", why);
    dd_log("nvenc: %d: %s", (int)status, why);
    return status;
}

static NVENCSTATUS NVENCAPI open_session(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS *p, void **out)
{
    ENTER("nvEncOpenEncodeSessionEx");
    if (!p || !out)
        return NV_ENC_ERR_INVALID_PTR;
    NEED_VERSION(p->version, OPEN_SESSION);
    if (!dd_api_ok(p->apiVersion))
        return NV_ENC_ERR_INVALID_VERSION;
    if (p->deviceType != NV_ENC_DEVICE_TYPE_CUDA)
        return NV_ENC_ERR_UNSUPPORTED_DEVICE;
    CUcontext context = p->device;
    if (!dd_context_valid(context))
        return NV_ENC_ERR_INVALID_DEVICE;
    if (dd_lost(context->device))
        return NV_ENC_ERR_DEVICE_NOT_EXIST;
    int session = dd_session_open(context->device);
    if (session < 0)
        return NV_ENC_ERR_OUT_OF_MEMORY; /* this is what the driver says at its session limit */
    long mib = dd_setting("nvenc.session_vram_mib", SESSION_MIB);
    uint64_t memory = dd_alloc(NULL, context->device, (size_t)mib * MIB);
    if (!memory) {
        dd_session_close(session);
        return NV_ENC_ERR_OUT_OF_MEMORY;
    }
    struct encoder *e = calloc(1, sizeof *e);
    e->magic = ENCODER_MAGIC;
    e->context = context;
    e->session = session;
    e->memory = memory;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->filled, NULL);
    *out = e;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI destroy(void *handle)
{
    ENTER("nvEncDestroyEncoder");
    struct encoder *e = handle;
    if (!e || e->magic != ENCODER_MAGIC)
        return NV_ENC_ERR_INVALID_PTR;
    if (e->x264)
        x264_encoder_close(e->x264);
    while (e->resources)
        dd_resource_end(e, e->resources);
    dd_free(e->memory);
    dd_session_close(e->session);
    e->magic = 0;
    free(e);
    return NV_ENC_SUCCESS;
}

/* ---- setting up ---- */

static NVENCSTATUS check(struct encoder *e, const NV_ENC_INITIALIZE_PARAMS *p)
{
    NEED_VERSION(p->version, INITIALIZE);
    if (!dd_same_guid(p->encodeGUID, NV_ENC_CODEC_H264_GUID))
        return dd_fail(e, NV_ENC_ERR_UNSUPPORTED_PARAM, "codec");
    if (!p->encodeConfig)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "no encodeConfig");
    NEED_VERSION(p->encodeConfig->version, CONFIG);
    int width = (int)p->encodeWidth, height = (int)p->encodeHeight;
    if (width < dd_cap(NV_ENC_CAPS_WIDTH_MIN) || height < dd_cap(NV_ENC_CAPS_HEIGHT_MIN) || width > dd_cap(NV_ENC_CAPS_WIDTH_MAX) || height > dd_cap(NV_ENC_CAPS_HEIGHT_MAX))
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "size");
    if ((width | height) & 1)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "odd size");
    if (p->enableEncodeAsync)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "asynchronous encoding");
    if (p->encodeConfig->frameIntervalP > dd_cap(NV_ENC_CAPS_NUM_MAX_BFRAMES) + 1)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "B frames");
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI initialize(void *handle, NV_ENC_INITIALIZE_PARAMS *p)
{
    ENTER("nvEncInitializeEncoder");
    SESSION(e, handle);
    if (e->initialised)
        return dd_fail(e, NV_ENC_ERR_INVALID_CALL, "initialised already");
    NVENCSTATUS status = check(e, p);
    if (status)
        return status;
    e->init = *p;
    e->config = *p->encodeConfig;
    status = dd_x264_open(e);
    e->initialised = status == NV_ENC_SUCCESS;
    dd_count_preset(p->presetGUID);
    dd_session_size(e->session, (int)p->encodeWidth, (int)p->encodeHeight);
    return status;
}

/* What NVENC documents as not changeable. */
static NVENCSTATUS check_change(struct encoder *e, const NV_ENC_INITIALIZE_PARAMS *p)
{
    if (p->encodeWidth > e->init.maxEncodeWidth || p->encodeHeight > e->init.maxEncodeHeight)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "larger than maxEncodeWidth or maxEncodeHeight");
    if (p->encodeConfig->gopLength != e->config.gopLength || p->encodeConfig->frameIntervalP != e->config.frameIntervalP)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "the GOP's structure cannot change");
    if (p->enablePTD != e->init.enablePTD)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "enablePTD cannot change");
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI reconfigure(void *handle, NV_ENC_RECONFIGURE_PARAMS *p)
{
    ENTER("nvEncReconfigureEncoder");
    SESSION(e, handle);
    NEED_VERSION(p->version, RECONFIGURE);
    if (!e->initialised)
        return NV_ENC_ERR_ENCODER_NOT_INITIALIZED;
    NV_ENC_INITIALIZE_PARAMS next = p->reInitEncodeParams;
    NVENCSTATUS status = check(e, &next);
    if (!status)
        status = check_change(e, &next);
    if (status)
        return status;
    next.maxEncodeWidth = e->init.maxEncodeWidth;
    next.maxEncodeHeight = e->init.maxEncodeHeight;
    pthread_mutex_lock(&e->lock);
    bool anew = p->resetEncoder || next.encodeWidth != e->init.encodeWidth || next.encodeHeight != e->init.encodeHeight ||
                next.encodeConfig->rcParams.rateControlMode != e->config.rcParams.rateControlMode;
    if (anew) {
        dd_flush(e);
        x264_encoder_close(e->x264);
    }
    e->init = next;
    e->config = *next.encodeConfig;
    if (anew)
        status = dd_x264_open(e);
    else {
        dd_rate(&e->parameters, &e->config);
        if (x264_encoder_reconfig(e->x264, &e->parameters))
            status = NV_ENC_ERR_INVALID_PARAM;
        if (p->forceIDR)
            e->force_idr = true;
        dd_log("nvenc: reconfigured to %d kbit/s", e->parameters.rc.i_bitrate);
    }
    pthread_mutex_unlock(&e->lock);
    dd_session_size(e->session, (int)next.encodeWidth, (int)next.encodeHeight);
    return status;
}

static NVENCSTATUS NVENCAPI sequence_params(void *handle, NV_ENC_SEQUENCE_PARAM_PAYLOAD *p)
{
    ENTER("nvEncGetSequenceParams");
    SESSION(e, handle);
    NEED_VERSION(p->version, SEQUENCE);
    if (!e->x264)
        return NV_ENC_ERR_ENCODER_NOT_INITIALIZED;
    NVENCSTATUS status = NV_ENC_SUCCESS;
    uint32_t size = 0;
    x264_nal_t *units;
    int count;
    pthread_mutex_lock(&e->lock);
    x264_encoder_headers(e->x264, &units, &count);
    for (int i = 0; i < count && !status; i++) {
        if (units[i].i_type != NAL_SPS && units[i].i_type != NAL_PPS)
            continue;
        uint32_t length = (uint32_t)units[i].i_payload;
        if (length > p->inBufferSize - size) {
            status = NV_ENC_ERR_NOT_ENOUGH_BUFFER;
            break;
        }
        memcpy((uint8_t *)p->spsppsBuffer + size, units[i].p_payload, length);
        size += length;
    }
    pthread_mutex_unlock(&e->lock);
    *p->outSPSPPSPayloadSize = size;
    return status;
}

static const char *NVENCAPI last_error(void *handle)
{
    struct encoder *e = handle;
    return e && e->magic == ENCODER_MAGIC ? e->error : "";
}

static NVENCSTATUS NVENCAPI set_streams(void *handle, NV_ENC_CUSTREAM_PTR in, NV_ENC_CUSTREAM_PTR out)
{
    ENTER("nvEncSetIOCudaStreams");
    SESSION(e, handle);
    (void)e;
    (void)in;
    (void)out;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI no_events(void *handle, NV_ENC_EVENT_PARAMS *p)
{
    (void)handle;
    (void)p;
    return NV_ENC_ERR_UNIMPLEMENTED;
}

/* ---- the library ---- */

EXPORT NVENCSTATUS NVENCAPI NvEncodeAPIGetMaxSupportedVersion(uint32_t *version)
{
    ENTER("NvEncodeAPIGetMaxSupportedVersion");
    *version = dd_max_api();
    return NV_ENC_SUCCESS;
}

EXPORT NVENCSTATUS NVENCAPI NvEncodeAPICreateInstance(NV_ENCODE_API_FUNCTION_LIST *list)
{
    ENTER("NvEncodeAPICreateInstance");
    if (!list)
        return NV_ENC_ERR_INVALID_PTR;
    if (!dd_api_ok(list->version & 0x0f0000ffu) || (list->version >> 16 & 0xff) != 2)
        return NV_ENC_ERR_INVALID_VERSION;
    dd_install_caps(list);
    dd_install_buffers(list);
    dd_install_pictures(list);
    list->nvEncOpenEncodeSessionEx = open_session;
    list->nvEncDestroyEncoder = destroy;
    list->nvEncInitializeEncoder = initialize;
    list->nvEncReconfigureEncoder = reconfigure;
    list->nvEncGetSequenceParams = sequence_params;
    list->nvEncGetLastErrorString = last_error;
    list->nvEncSetIOCudaStreams = set_streams;
    list->nvEncRegisterAsyncEvent = no_events;
    list->nvEncUnregisterAsyncEvent = no_events;
    return NV_ENC_SUCCESS;
}
