/* NVENC: pictures in, bits out. x264 `ultrafast` with one thread and no lookahead, so that a picture without B frames comes out at once. Output buffers
 * are filled first in, first out; while B frames wait the answer is NEED_MORE_INPUT, and LockBitstream waits. */
#define _GNU_SOURCE
#include "nvenc.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long LockBitstream sleeps before it looks again whether the device is there. */
#define WAIT_STEP_US 20000

/* ---- setting up ---- */

void dd_rate(x264_param_t *p, const NV_ENC_CONFIG *c)
{
    const NV_ENC_RC_PARAMS *r = &c->rcParams;
    if (r->rateControlMode == NV_ENC_PARAMS_RC_CONSTQP) {
        p->rc.i_rc_method = X264_RC_CQP;
        p->rc.i_qp_constant = (int)r->constQP.qpInterP;
        return;
    }
    int average = r->averageBitRate ? (int)(r->averageBitRate / 1000) : 2000;
    p->rc.i_rc_method = X264_RC_ABR;
    p->rc.i_bitrate = average;
    /* x264 takes a new bitrate in flight only when the two are equal. */
    p->rc.i_vbv_max_bitrate = average;
    int second = r->rateControlMode == NV_ENC_PARAMS_RC_CBR ? average : 2 * average;
    p->rc.i_vbv_buffer_size = r->vbvBufferSize ? (int)(r->vbvBufferSize / 1000) : second;
    if (r->enableMinQP)
        p->rc.i_qp_min = (int)r->minQP.qpInterP;
    if (r->enableMaxQP)
        p->rc.i_qp_max = (int)r->maxQP.qpInterP;
}

static void colours(x264_param_t *p, const NV_ENC_CONFIG_H264_VUI_PARAMETERS *vui)
{
    if (!vui->videoSignalTypePresentFlag)
        return;
    p->vui.b_fullrange = (int)vui->videoFullRangeFlag;
    if (!vui->colourDescriptionPresentFlag)
        return;
    p->vui.i_colorprim = (int)vui->colourPrimaries;
    p->vui.i_transfer = (int)vui->transferCharacteristics;
    p->vui.i_colmatrix = (int)vui->colourMatrix;
}

static void gop(x264_param_t *p, const NV_ENC_CONFIG *c)
{
    uint32_t length = c->gopLength;
    p->i_keyint_max = length > 1u << 30 ? X264_KEYINT_MAX_INFINITE : length && c->frameIntervalP ? (int)length : 1;
    p->i_keyint_min = 1;
    p->i_scenecut_threshold = 0;
    p->i_bframe = c->frameIntervalP > 1 ? c->frameIntervalP - 1 : 0;
    p->i_bframe_adaptive = X264_B_ADAPT_NONE;
    p->i_bframe_pyramid = X264_B_PYRAMID_NONE;
    p->b_open_gop = 0;
}

NVENCSTATUS dd_x264_open(struct encoder *e)
{
    const NV_ENC_INITIALIZE_PARAMS *i = &e->init;
    const NV_ENC_CONFIG *c = &e->config;
    const NV_ENC_CONFIG_H264 *h = &c->encodeCodecConfig.h264Config;
    x264_param_t *p = &e->parameters;
    bool baseline = dd_same_guid(c->profileGUID, NV_ENC_H264_PROFILE_BASELINE_GUID), main = dd_same_guid(c->profileGUID, NV_ENC_H264_PROFILE_MAIN_GUID);
    x264_param_default_preset(p, "ultrafast", NULL);
    p->i_threads = 1;
    p->i_sync_lookahead = 0;
    p->rc.i_lookahead = 0;
    p->rc.b_mb_tree = 0;
    p->i_log_level = X264_LOG_NONE;
    p->i_width = (int)i->encodeWidth;
    p->i_height = (int)i->encodeHeight;
    p->i_csp = X264_CSP_NV12;
    p->b_vfr_input = 0;
    p->i_fps_num = i->frameRateNum ? i->frameRateNum : 30;
    p->i_fps_den = i->frameRateNum && i->frameRateDen ? i->frameRateDen : 1;
    p->b_repeat_headers = 1;
    p->b_annexb = 1;
    p->b_aud = (int)h->outputAUD;
    gop(p, c);
    p->b_cabac = !baseline && h->entropyCodingMode != NV_ENC_H264_ENTROPY_CODING_MODE_CAVLC;
    p->analyse.b_transform_8x8 = !baseline && !main;
    if (baseline)
        p->i_bframe = 0;
    colours(p, &h->h264VUIParameters);
    dd_rate(p, c);
    x264_param_apply_profile(p, baseline ? "baseline" : main ? "main" : "high");
    e->x264 = x264_encoder_open(p);
    e->first = true;
    e->ended = false;
    dd_log("nvenc: %dx%d, %u/%u, GOP %d, %d B frames, %d kbit/s", p->i_width, p->i_height, p->i_fps_num, p->i_fps_den, p->i_keyint_max, p->i_bframe, p->rc.i_bitrate);
    return e->x264 ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

/* ---- output ---- */

static void append(struct resource *b, const x264_nal_t *unit)
{
    size_t length = (size_t)unit->i_payload;
    if (b->size + length > b->room) {
        b->room = 2 * (b->size + length);
        b->data = realloc(b->data, b->room);
    }
    memcpy(b->data + b->size, unit->p_payload, length);
    b->size += length;
}

/* Every 16th byte behind the first slice header's begin is turned over: still framed, no longer the picture. */
static void spoil(struct resource *b)
{
    for (size_t i = b->size / 2; i < b->size; i += 16)
        b->data[i] ^= 0x5a;
}

static NV_ENC_PIC_TYPE type_of(int x264_type)
{
    switch (x264_type) {
    case X264_TYPE_IDR:
        return NV_ENC_PIC_TYPE_IDR;
    case X264_TYPE_I:
        return NV_ENC_PIC_TYPE_I;
    case X264_TYPE_P:
        return NV_ENC_PIC_TYPE_P;
    default:
        return NV_ENC_PIC_TYPE_B;
    }
}

static struct submitted *find_submitted(struct encoder *e, int64_t number)
{
    for (int i = 0; i < MAX_PENDING; i++)
        if (e->submitted[i].used && e->submitted[i].number == number)
            return &e->submitted[i];
    return NULL;
}

/* Fills the oldest output buffer. With the lock held. */
static void emit(struct encoder *e, const x264_nal_t *units, int count, const x264_picture_t *picture)
{
    struct submitted *s = find_submitted(e, picture->i_pts);
    if (!e->pending_count || !s) {
        dd_log("nvenc: bits without a buffer");
        return;
    }
    struct resource *b = e->pending[0];
    memmove(e->pending, e->pending + 1, (size_t)--e->pending_count * sizeof *e->pending);
    const NV_ENC_CONFIG_H264 *h = &e->config.encodeCodecConfig.h264Config;
    bool sets = s->parameter_sets || (!h->disableSPSPPS && (e->first || h->repeatSPSPPS));
    b->size = 0;
    for (int i = 0; i < count; i++) {
        int type = units[i].i_type;
        if (type == NAL_SEI || type == NAL_FILLER || ((type == NAL_SPS || type == NAL_PPS) && !sets))
            continue;
        append(b, &units[i]);
    }
    if (dd_every("nvenc.corrupt"))
        spoil(b);
    if (dd_every("nvenc.empty"))
        b->size = 0;
    b->timestamp = s->timestamp;
    b->duration = s->duration;
    b->frame_index = s->frame_index;
    s->used = false;
    b->type = type_of(picture->i_type);
    b->qp = picture->i_qpplus1 - 1;
    int device = e->context->device;
    b->ready_us = dd_engine(ENCODER, device, dd_device_setting("nvenc.us_per_frame", device, 0));
    b->state = READY;
    e->first = false;
    pthread_cond_broadcast(&e->filled);
    dd_session_picture(e->session);
}

void dd_flush(struct encoder *e)
{
    while (e->x264 && x264_encoder_delayed_frames(e->x264) > 0) {
        x264_nal_t *units;
        x264_picture_t picture;
        int count, size = x264_encoder_encode(e->x264, &units, &count, NULL, &picture);
        if (size < 0)
            break;
        if (size > 0)
            emit(e, units, count, &picture);
    }
}

/* ---- input ---- */

/* The input's planes; false when its memory is not there. */
static bool planes(const struct resource *in, x264_picture_t *picture)
{
    size_t rows = (size_t)in->height + (size_t)(in->height + 1) / 2;
    uint8_t *luma = in->kind == REGISTERED ? dd_host(in->pointer, (rows - 1) * (size_t)in->pitch + (size_t)in->width) : in->host;
    if (!luma)
        return false;
    x264_picture_init(picture);
    picture->img.i_csp = X264_CSP_NV12;
    picture->img.i_plane = 2;
    picture->img.plane[0] = luma;
    picture->img.plane[1] = luma + (size_t)in->pitch * (size_t)in->height;
    picture->img.i_stride[0] = picture->img.i_stride[1] = in->pitch;
    return true;
}

/* With the lock held. */
static NVENCSTATUS submit(struct encoder *e, const NV_ENC_PIC_PARAMS *p, x264_picture_t *picture, struct resource *output)
{
    int slot = 0;
    while (slot < MAX_PENDING && e->submitted[slot].used)
        slot++;
    if (slot == MAX_PENDING || e->pending_count == MAX_PENDING)
        return NV_ENC_ERR_ENCODER_BUSY;
    picture->i_pts = e->next_number++;
    picture->i_type = X264_TYPE_AUTO;
    bool idr = (p->encodePicFlags & NV_ENC_PIC_FLAG_FORCEIDR) || e->force_idr;
    if (idr)
        picture->i_type = X264_TYPE_IDR;
    else if (p->encodePicFlags & NV_ENC_PIC_FLAG_FORCEINTRA)
        picture->i_type = X264_TYPE_I;
    e->force_idr = false;
    e->submitted[slot] = (struct submitted){
        .used = true,
        .parameter_sets = p->encodePicFlags & NV_ENC_PIC_FLAG_OUTPUT_SPSPPS,
        .number = picture->i_pts,
        .timestamp = p->inputTimeStamp,
        .duration = p->inputDuration,
        .frame_index = p->frameIdx,
    };
    output->state = PENDING;
    e->pending[e->pending_count++] = output;
    x264_nal_t *units;
    x264_picture_t done;
    int count, size = x264_encoder_encode(e->x264, &units, &count, picture, &done);
    if (size < 0)
        return NV_ENC_ERR_GENERIC;
    if (size == 0)
        return NV_ENC_ERR_NEED_MORE_INPUT;
    emit(e, units, count, &done);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS end(struct encoder *e)
{
    pthread_mutex_lock(&e->lock);
    dd_flush(e);
    e->ended = true;
    pthread_cond_broadcast(&e->filled);
    pthread_mutex_unlock(&e->lock);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI encode(void *handle, NV_ENC_PIC_PARAMS *p)
{
    ENTER("nvEncEncodePicture");
    SESSION(e, handle);
    NEED_VERSION(p->version, PICTURE);
    if (!e->initialised)
        return NV_ENC_ERR_ENCODER_NOT_INITIALIZED;
    if (p->encodePicFlags & NV_ENC_PIC_FLAG_EOS)
        return end(e);
    struct resource *in = dd_resource(e, p->inputBuffer, REGISTERED), *output = dd_resource(e, p->outputBitstream, BITSTREAM);
    if (in && !in->maps)
        return dd_fail(e, NV_ENC_ERR_RESOURCE_NOT_MAPPED, "the input is not mapped");
    if (!in)
        in = dd_resource(e, p->inputBuffer, INPUT_BUFFER);
    if (!in || !output)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "no such buffer");
    if (output->state == PENDING || output->state == LOCKED)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "the output buffer is in use");
    if (in->width < e->parameters.i_width || in->height < e->parameters.i_height)
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "the input is smaller than the picture");
    if (in->format != NV_ENC_BUFFER_FORMAT_NV12)
        return dd_fail(e, NV_ENC_ERR_UNSUPPORTED_PARAM, "only NV12");
    x264_picture_t picture;
    if (!planes(in, &picture))
        return dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "the input's memory was freed");
    pthread_mutex_lock(&e->lock);
    NVENCSTATUS status = submit(e, p, &picture, output);
    pthread_mutex_unlock(&e->lock);
    return status;
}

/* Waits until the buffer is filled and the engine is through with it. With the lock held; it is let go meanwhile. */
static NVENCSTATUS await(struct encoder *e, struct resource *b, bool wait)
{
    for (;;) {
        uint64_t now = dd_now_us();
        if (b->state == READY && b->ready_us <= now)
            return NV_ENC_SUCCESS;
        if (!wait)
            return NV_ENC_ERR_LOCK_BUSY;
        if (dd_lost(e->context->device) || (b->state == PENDING && e->ended))
            return NV_ENC_ERR_GENERIC;
        uint64_t left = b->state == READY ? b->ready_us - now : WAIT_STEP_US;
        if (left > WAIT_STEP_US)
            left = WAIT_STEP_US;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        uint64_t nanoseconds = (uint64_t)until.tv_nsec + left * 1000;
        until.tv_sec += (time_t)(nanoseconds / 1000000000);
        until.tv_nsec = (long)(nanoseconds % 1000000000);
        pthread_cond_timedwait(&e->filled, &e->lock, &until);
    }
}

static NVENCSTATUS NVENCAPI lock_bitstream(void *handle, NV_ENC_LOCK_BITSTREAM *p)
{
    ENTER("nvEncLockBitstream");
    SESSION(e, handle);
    NEED_VERSION(p->version, LOCK_BITSTREAM);
    struct resource *b = dd_resource(e, p->outputBitstream, BITSTREAM);
    if (!b)
        return NV_ENC_ERR_INVALID_PARAM;
    pthread_mutex_lock(&e->lock);
    NVENCSTATUS status = b->state == IDLE || b->state == LOCKED ? dd_fail(e, NV_ENC_ERR_INVALID_PARAM, "nothing was encoded into this buffer") : await(e, b, !p->doNotWait);
    if (!status) {
        b->state = LOCKED;
        p->bitstreamBufferPtr = b->data;
        p->bitstreamSizeInBytes = (uint32_t)b->size;
        p->outputTimeStamp = b->timestamp;
        p->outputDuration = b->duration;
        p->frameIdx = b->frame_index;
        p->pictureType = b->type;
        p->pictureStruct = NV_ENC_PIC_STRUCT_FRAME;
        p->frameAvgQP = (uint32_t)b->qp;
        p->hwEncodeStatus = 2; /* complete */
        p->numSlices = 1;
    }
    pthread_mutex_unlock(&e->lock);
    return status;
}

static NVENCSTATUS NVENCAPI unlock_bitstream(void *handle, NV_ENC_OUTPUT_PTR output)
{
    ENTER("nvEncUnlockBitstream");
    struct encoder *e = handle;
    if (!e)
        return NV_ENC_ERR_INVALID_PTR;
    struct resource *b = dd_resource(e, output, BITSTREAM);
    if (!b || b->state != LOCKED)
        return NV_ENC_ERR_INVALID_PARAM;
    b->state = IDLE;
    return NV_ENC_SUCCESS;
}

void dd_install_pictures(NV_ENCODE_API_FUNCTION_LIST *list)
{
    list->nvEncEncodePicture = encode;
    list->nvEncLockBitstream = lock_bitstream;
    list->nvEncUnlockBitstream = unlock_bitstream;
}
