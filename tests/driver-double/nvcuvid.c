/* libnvcuvid: decoding of H.264 (8 bit) and HEVC (8 and 10 bit), 4:2:0, by libavcodec, without state as `nvh264dec` and `nvh265dec` of GStreamer 1.24 and
 * later use it.
 *
 * libavcodec gives pictures in display order and late; a hardware decoder must have each ready in decode order. The buffer that libavcodec asks for
 * in get_buffer2 while a packet is sent is the picture, complete when the call returns (one thread): it is copied, and libavcodec's own output is
 * thrown away. The parser of this library (cuvidCreateVideoParser) is not there: GStreamer has its own. */
#define _GNU_SOURCE
#include "nvcuvid.h"
#include <libavcodec/avcodec.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DECODER_MAGIC 0x44564E44u
enum { MAX_SURFACES = 64, PITCH = 512 };

struct decoder {
    uint32_t magic;
    int device;
    CUVIDDECODECREATEINFO info;
    size_t sample;                      /* bytes of one: 2 above 8 bits */
    size_t pitch, height;               /* of the decoded pictures */
    size_t output_pitch, output_height; /* of the mapped ones */
    uint64_t surfaces[MAX_SURFACES], outputs[MAX_SURFACES];
    uint64_t ready_us[MAX_SURFACES];
    bool mapped[MAX_SURFACES];
    AVCodecContext *av;
    AVFrame *picture, *unused;
    AVPacket *packet;
    uint8_t sets[PARAMETER_SETS_ROOM];
    size_t sets_size;
    uint8_t *data;
    size_t room;
    pthread_mutex_t lock;
};

/* ---- libavcodec ---- */

static int get_buffer(AVCodecContext *context, AVFrame *frame, int flags)
{
    struct decoder *d = context->opaque;
    int result = avcodec_default_get_buffer2(context, frame, flags);
    if (result >= 0) {
        av_frame_unref(d->picture);
        result = av_frame_ref(d->picture, frame);
    }
    return result;
}

static bool open_av(struct decoder *d)
{
    av_log_set_level(AV_LOG_QUIET);
    const AVCodec *codec = avcodec_find_decoder(d->info.CodecType == cudaVideoCodec_HEVC ? AV_CODEC_ID_HEVC : AV_CODEC_ID_H264);
    d->av = avcodec_alloc_context3(codec);
    d->picture = av_frame_alloc();
    d->unused = av_frame_alloc();
    d->packet = av_packet_alloc();
    d->av->opaque = d;
    d->av->get_buffer2 = get_buffer;
    d->av->thread_count = 1;
    d->av->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
    return avcodec_open2(d->av, codec, NULL) == 0;
}

static void close_av(struct decoder *d)
{
    avcodec_free_context(&d->av);
    av_frame_free(&d->picture);
    av_frame_free(&d->unused);
    av_packet_free(&d->packet);
}

/* Samples of libavcodec to those of NV12, or of P016: their bits stand at the top of 16. */
static void copy_samples(struct decoder *d, uint8_t *to, size_t step, const uint8_t *from, size_t count)
{
    if (d->sample == 1) {
        for (size_t x = 0; x < count; x++)
            to[step * x] = from[x];
        return;
    }
    int shift = 8 - (int)d->info.bitDepthMinus8;
    for (size_t x = 0; x < count; x++)
        ((uint16_t *)(void *)to)[step * x] = (uint16_t)(((const uint16_t *)(const void *)from)[x] << shift);
}

/* I420 of libavcodec to NV12 or P016 in device memory. */
static void store(struct decoder *d, int index)
{
    const AVFrame *f = d->picture;
    uint8_t *luma = dd_host(d->surfaces[index], d->pitch * d->height * 3 / 2);
    if (!luma || !f->data[0])
        return;
    size_t width = (size_t)f->width < d->info.ulWidth ? (size_t)f->width : d->info.ulWidth;
    size_t height = (size_t)f->height < d->info.ulHeight ? (size_t)f->height : d->info.ulHeight;
    for (size_t y = 0; y < height; y++)
        copy_samples(d, luma + y * d->pitch, 1, f->data[0] + (ptrdiff_t)y * f->linesize[0], width);
    uint8_t *chroma = luma + d->pitch * d->height;
    for (size_t y = 0; y < height / 2; y++) {
        copy_samples(d, chroma + y * d->pitch, 2, f->data[1] + (ptrdiff_t)y * f->linesize[1], width / 2);
        copy_samples(d, chroma + y * d->pitch + d->sample, 2, f->data[2] + (ptrdiff_t)y * f->linesize[2], width / 2);
    }
}

/* ---- decoders ---- */

/* Of what an A10G decodes. */
static bool is_known(cudaVideoCodec codec, cudaVideoChromaFormat chroma, unsigned more_bits)
{
    if (chroma != cudaVideoChromaFormat_420)
        return false;
    return codec == cudaVideoCodec_H264 ? !more_bits : codec == cudaVideoCodec_HEVC && (!more_bits || more_bits == 2);
}

static unsigned long largest(cudaVideoCodec codec, const char *setting)
{
    return (unsigned long)dd_setting(setting, codec == cudaVideoCodec_HEVC ? 8192 : 4096);
}

EXPORT CUresult CUDAAPI cuvidGetDecoderCaps(CUVIDDECODECAPS *caps)
{
    CUDA_ENTER("cuvidGetDecoderCaps");
    NEED_CONTEXT();
    bool supported = is_known(caps->eCodecType, caps->eChromaFormat, caps->nBitDepthMinus8), hevc = caps->eCodecType == cudaVideoCodec_HEVC;
    caps->bIsSupported = supported;
    if (!supported)
        return (CUresult)OK;
    caps->nNumNVDECs = 2; /* GA102 */
    caps->nOutputFormatMask = 1 << (caps->nBitDepthMinus8 ? cudaVideoSurfaceFormat_P016 : cudaVideoSurfaceFormat_NV12);
    caps->nMaxWidth = (unsigned)largest(caps->eCodecType, "nvdec.max_width");
    caps->nMaxHeight = (unsigned)largest(caps->eCodecType, "nvdec.max_height");
    caps->nMaxMBCount = hevc ? 262144 : 65536;
    caps->nMinWidth = hevc ? 144 : 48;
    caps->nMinHeight = hevc ? 144 : 16;
    return (CUresult)OK;
}

static void release(struct decoder *d)
{
    for (int i = 0; i < MAX_SURFACES; i++) {
        if (d->surfaces[i])
            dd_free(d->surfaces[i]);
        if (d->outputs[i])
            dd_free(d->outputs[i]);
    }
    close_av(d);
    free(d->data);
    d->magic = 0;
    free(d);
}

static bool reserve(uint64_t *list, unsigned long count, size_t size)
{
    CUcontext context = dd_current();
    for (unsigned long i = 0; i < count; i++)
        if (!(list[i] = dd_alloc(context, context->device, size)))
            return false;
    return true;
}

EXPORT CUresult CUDAAPI cuvidCreateDecoder(CUvideodecoder *out, CUVIDDECODECREATEINFO *info)
{
    CUDA_ENTER("cuvidCreateDecoder");
    NEED_CONTEXT();
    if (!is_known(info->CodecType, info->ChromaFormat, (unsigned)info->bitDepthMinus8) ||
        info->OutputFormat != (info->bitDepthMinus8 ? cudaVideoSurfaceFormat_P016 : cudaVideoSurfaceFormat_NV12))
        return (CUresult)NOT_SUPPORTED;
    if (info->ulNumDecodeSurfaces < 1 || info->ulNumDecodeSurfaces > MAX_SURFACES || info->ulNumOutputSurfaces > MAX_SURFACES ||
        info->ulWidth > largest(info->CodecType, "nvdec.max_width") || info->ulHeight > largest(info->CodecType, "nvdec.max_height"))
        return (CUresult)INVALID_VALUE;
    struct decoder *d = calloc(1, sizeof *d);
    d->magic = DECODER_MAGIC;
    d->device = dd_current_device();
    d->info = *info;
    if (!d->info.ulNumOutputSurfaces)
        d->info.ulNumOutputSurfaces = 1;
    d->sample = info->bitDepthMinus8 ? 2 : 1;
    d->pitch = (info->ulWidth * d->sample + PITCH - 1) / PITCH * PITCH;
    d->height = (info->ulHeight + 15) / 16 * 16;
    d->output_pitch = (info->ulTargetWidth * d->sample + PITCH - 1) / PITCH * PITCH;
    d->output_height = info->ulTargetHeight;
    pthread_mutex_init(&d->lock, NULL);
    CUresult result = (CUresult)OK;
    if (!reserve(d->surfaces, info->ulNumDecodeSurfaces, d->pitch * d->height * 3 / 2) ||
        !reserve(d->outputs, d->info.ulNumOutputSurfaces, d->output_pitch * (d->output_height + 2) * 3 / 2))
        result = (CUresult)OUT_OF_MEMORY;
    else if (!open_av(d))
        result = (CUresult)UNKNOWN;
    if (result) {
        release(d);
        return result;
    }
    dd_gauge_add(DECODE_SESSIONS, 1);
    dd_log("nvdec: decoder for %lux%lu, %lu surfaces", info->ulWidth, info->ulHeight, info->ulNumDecodeSurfaces);
    *out = d;
    return (CUresult)OK;
}

EXPORT CUresult CUDAAPI cuvidDestroyDecoder(CUvideodecoder handle)
{
    CUDA_ENTER_CLEANUP("cuvidDestroyDecoder");
    struct decoder *d = handle;
    if (!d || d->magic != DECODER_MAGIC)
        return (CUresult)INVALID_HANDLE;
    release(d);
    dd_gauge_add(DECODE_SESSIONS, -1);
    return (CUresult)OK;
}

/* The slices behind their parameter sets, where these changed; with the lock held. False: there are none. */
static bool assemble(struct decoder *d, const CUVIDPICPARAMS *p)
{
    uint8_t sets[PARAMETER_SETS_ROOM];
    size_t size = d->info.CodecType == cudaVideoCodec_HEVC ? dd_hevc_sets(p, sets) : dd_h264_sets(p, sets);
    if (!size)
        return false;
    if (size == d->sets_size && !memcmp(sets, d->sets, size))
        size = 0;
    else {
        memcpy(d->sets, sets, size);
        d->sets_size = size;
    }
    size_t whole = size + p->nBitstreamDataLen;
    if (whole + AV_INPUT_BUFFER_PADDING_SIZE > d->room) {
        d->room = 2 * (whole + AV_INPUT_BUFFER_PADDING_SIZE);
        d->data = realloc(d->data, d->room);
    }
    memcpy(d->data, sets, size);
    memcpy(d->data + size, p->pBitstreamData, p->nBitstreamDataLen);
    memset(d->data + whole, 0, AV_INPUT_BUFFER_PADDING_SIZE);
    d->packet->data = d->data;
    d->packet->size = (int)whole;
    return true;
}

EXPORT CUresult CUDAAPI cuvidDecodePicture(CUvideodecoder handle, CUVIDPICPARAMS *p)
{
    CUDA_ENTER("cuvidDecodePicture");
    NEED_CONTEXT();
    struct decoder *d = handle;
    if (!d || d->magic != DECODER_MAGIC)
        return (CUresult)INVALID_HANDLE;
    if (p->CurrPicIdx < 0 || (unsigned long)p->CurrPicIdx >= d->info.ulNumDecodeSurfaces)
        return (CUresult)INVALID_VALUE;
    pthread_mutex_lock(&d->lock);
    if (!assemble(d, p)) {
        pthread_mutex_unlock(&d->lock);
        return (CUresult)NOT_SUPPORTED;
    }
    if (!p->second_field)
        av_frame_unref(d->picture);
    int sent = avcodec_send_packet(d->av, d->packet);
    while (avcodec_receive_frame(d->av, d->unused) >= 0)
        av_frame_unref(d->unused);
    if (d->picture->data[0])
        store(d, p->CurrPicIdx);
    else
        dd_log("nvdec: no picture (libavcodec said %d)", sent);
    d->ready_us[p->CurrPicIdx] = dd_engine(DECODER, d->device, dd_device_setting("nvdec.us_per_frame", d->device, 0));
    pthread_mutex_unlock(&d->lock);
    dd_total_add(DECODED_PICTURES, 1);
    return (CUresult)OK;
}

/* ---- pictures for the caller: cropped and, where asked, scaled to the nearest pixel ---- */

static void show(struct decoder *d, const uint8_t *from, uint8_t *to)
{
    size_t left = (size_t)d->info.display_area.left, top = (size_t)d->info.display_area.top;
    size_t target_width = d->info.ulTargetWidth, target_height = d->info.ulTargetHeight;
    long shown_width = d->info.display_area.right - d->info.display_area.left, shown_height = d->info.display_area.bottom - d->info.display_area.top;
    size_t width = shown_width > 0 ? (size_t)shown_width : target_width, height = shown_height > 0 ? (size_t)shown_height : target_height;
    const uint8_t *from_chroma = from + d->pitch * d->height;
    uint8_t *to_chroma = to + d->output_pitch * d->output_height;
    for (size_t y = 0; y < target_height; y++) {
        const uint8_t *line = from + (top + y * height / target_height) * d->pitch + left * d->sample;
        for (size_t x = 0; x < target_width; x++)
            memcpy(to + y * d->output_pitch + x * d->sample, line + x * width / target_width * d->sample, d->sample);
    }
    for (size_t y = 0; y < (target_height + 1) / 2; y++) {
        const uint8_t *line = from_chroma + (top / 2 + y * height / target_height) * d->pitch + (left & ~(size_t)1) * d->sample;
        for (size_t x = 0; x < (target_width + 1) / 2; x++) {
            size_t pair = 2 * d->sample;
            memcpy(to_chroma + y * d->output_pitch + x * pair, line + x * width / target_width * pair, pair);
        }
    }
}

static CUresult map(CUvideodecoder handle, int index, unsigned long long *pointer, unsigned *pitch)
{
    CUDA_ENTER("cuvidMapVideoFrame");
    struct decoder *d = handle;
    if (!d || d->magic != DECODER_MAGIC)
        return (CUresult)INVALID_HANDLE;
    if (index < 0 || (unsigned long)index >= d->info.ulNumDecodeSurfaces)
        return (CUresult)INVALID_VALUE;
    unsigned long slot = 0;
    pthread_mutex_lock(&d->lock);
    while (slot < d->info.ulNumOutputSurfaces && d->mapped[slot])
        slot++;
    if (slot < d->info.ulNumOutputSurfaces)
        d->mapped[slot] = true;
    uint64_t ready = d->ready_us[index];
    pthread_mutex_unlock(&d->lock);
    if (slot == d->info.ulNumOutputSurfaces) {
        dd_log("nvdec: all %lu output surfaces are mapped", slot);
        return (CUresult)INVALID_VALUE;
    }
    uint64_t now = dd_now_us();
    if (ready > now)
        dd_sleep_us(ready - now);
    const uint8_t *from = dd_host(d->surfaces[index], d->pitch * d->height * 3 / 2);
    uint8_t *to = dd_host(d->outputs[slot], d->output_pitch * (d->output_height + 2) * 3 / 2);
    if (!from || !to)
        return (CUresult)INVALID_HANDLE;
    show(d, from, to);
    *pointer = d->outputs[slot];
    *pitch = (unsigned)d->output_pitch;
    return (CUresult)OK;
}

static CUresult unmap(CUvideodecoder handle, unsigned long long pointer)
{
    CUDA_ENTER_CLEANUP("cuvidUnmapVideoFrame");
    struct decoder *d = handle;
    if (!d || d->magic != DECODER_MAGIC)
        return (CUresult)INVALID_HANDLE;
    bool found = false;
    pthread_mutex_lock(&d->lock);
    for (int i = 0; i < MAX_SURFACES && !found; i++)
        if (d->outputs[i] == pointer && d->mapped[i]) {
            d->mapped[i] = false;
            found = true;
        }
    pthread_mutex_unlock(&d->lock);
    return (CUresult)(found ? OK : INVALID_VALUE);
}

EXPORT CUresult CUDAAPI cuvidMapVideoFrame64(CUvideodecoder d, int index, unsigned long long *pointer, unsigned *pitch, CUVIDPROCPARAMS *parameters)
{
    (void)parameters;
    return map(d, index, pointer, pitch);
}

EXPORT CUresult CUDAAPI cuvidUnmapVideoFrame64(CUvideodecoder d, unsigned long long pointer)
{
    return unmap(d, pointer);
}

/* The header gives these names to the ones above; GStreamer looks for them as they stand here. */
#undef cuvidMapVideoFrame
#undef cuvidUnmapVideoFrame
EXPORT CUresult CUDAAPI cuvidMapVideoFrame(CUvideodecoder d, int index, unsigned long long *pointer, unsigned *pitch, CUVIDPROCPARAMS *parameters)
{
    (void)parameters;
    return map(d, index, pointer, pitch);
}

EXPORT CUresult CUDAAPI cuvidUnmapVideoFrame(CUvideodecoder d, unsigned long long pointer)
{
    return unmap(d, pointer);
}

EXPORT CUresult CUDAAPI cuvidGetDecodeStatus(CUvideodecoder d, int index, CUVIDGETDECODESTATUS *status)
{
    (void)d;
    (void)index;
    status->decodeStatus = cuvidDecodeStatus_Success;
    return (CUresult)OK;
}

/* ---- locks ---- */

EXPORT CUresult CUDAAPI cuvidCtxLockCreate(CUvideoctxlock *lock, CUcontext context)
{
    CUDA_ENTER("cuvidCtxLockCreate");
    (void)context;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_t *fresh = malloc(sizeof *fresh);
    pthread_mutex_init(fresh, &attributes);
    *lock = (CUvideoctxlock)fresh;
    return (CUresult)OK;
}

EXPORT CUresult CUDAAPI cuvidCtxLockDestroy(CUvideoctxlock lock)
{
    free(lock);
    return (CUresult)OK;
}

EXPORT CUresult CUDAAPI cuvidCtxLock(CUvideoctxlock lock, unsigned flags)
{
    (void)flags;
    pthread_mutex_lock((pthread_mutex_t *)lock);
    return (CUresult)OK;
}

EXPORT CUresult CUDAAPI cuvidCtxUnlock(CUvideoctxlock lock, unsigned flags)
{
    (void)flags;
    pthread_mutex_unlock((pthread_mutex_t *)lock);
    return (CUresult)OK;
}

/* ---- there, and never usable ---- */

#define ABSENT(name)          \
    EXPORT int name(void)     \
    {                         \
        dd_enter(#name);      \
        return NOT_SUPPORTED; \
    }
ABSENT(cuvidReconfigureDecoder)
ABSENT(cuvidCreateVideoParser)
ABSENT(cuvidParseVideoData)
ABSENT(cuvidDestroyVideoParser)
ABSENT(cuvidCreateVideoSource)
ABSENT(cuvidCreateVideoSourceW)
ABSENT(cuvidDestroyVideoSource)
ABSENT(cuvidGetSourceAudioFormat)
ABSENT(cuvidGetSourceVideoFormat)
ABSENT(cuvidGetVideoSourceState)
ABSENT(cuvidSetVideoSourceState)
