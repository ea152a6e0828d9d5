/* NVENC: what its files share. */
#ifndef NVENC_H
#define NVENC_H

#include "double.h"
#include <ffnvcodec/nvEncodeAPI.h>
#include <pthread.h>
#include <x264.h>

/* Pictures that may be on their way through a session, and their buffers. */
enum { MAX_PENDING = 128 };

enum resource_kind { BITSTREAM = 1, INPUT_BUFFER, REGISTERED };
enum bitstream_state { IDLE, PENDING, READY, LOCKED };

/* A handle of a session: an output buffer, an input buffer of its own, or registered device memory. */
struct resource {
    enum resource_kind kind;
    struct resource *next;
    /* bitstream */
    enum bitstream_state state;
    uint8_t *data;
    size_t size, room;
    uint64_t ready_us, timestamp, duration;
    uint32_t frame_index;
    NV_ENC_PIC_TYPE type;
    int qp;
    /* input */
    uint64_t pointer;
    uint8_t *host;
    int width, height, pitch, maps;
    NV_ENC_BUFFER_FORMAT format;
};

/* What the caller said of a picture, given back with its bits. */
struct submitted {
    bool used, parameter_sets;
    int64_t number;
    uint64_t timestamp, duration;
    uint32_t frame_index;
};

struct encoder {
    uint32_t magic;
    CUcontext context;
    int session;     /* of the shared state */
    uint64_t memory; /* on the device */
    bool initialised, ended, first, force_idr;
    x264_t *x264;
    x264_param_t parameters;
    NV_ENC_INITIALIZE_PARAMS init;
    NV_ENC_CONFIG config;
    struct resource *resources;
    struct resource *pending[MAX_PENDING]; /* output buffers in the order in which they are filled */
    int pending_count;
    struct submitted submitted[MAX_PENDING];
    int64_t next_number;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    char error[128];
};

#define ENTER(symbol)                       \
    do {                                    \
        int fault_ = dd_enter(symbol);      \
        if (fault_)                         \
            return (NVENCSTATUS)fault_;     \
    } while (0)

/* The session behind a handle, where its device is there; else the caller answers what `status` says. */
struct encoder *dd_encoder(void *handle, NVENCSTATUS *status);
#define SESSION(e, handle)                              \
    NVENCSTATUS status_ = NV_ENC_SUCCESS;               \
    struct encoder *e = dd_encoder(handle, &status_);   \
    if (!e)                                             \
    return status_

NVENCSTATUS dd_fail(struct encoder *e, NVENCSTATUS status, const char *why);

/* ---- nvenc_version.c ---- */

enum structure { OPEN_SESSION, CAPS, PRESET_CONFIG, CONFIG, INITIALIZE, RECONFIGURE, INPUT, BITSTREAM_BUFFER, PICTURE, LOCK_BITSTREAM, LOCK_INPUT, MAP_INPUT, REGISTER, SEQUENCE, STRUCTURES };
bool dd_version_ok(uint32_t word, enum structure structure);
#define NEED_VERSION(word, structure)              \
    if (!dd_version_ok(word, structure))           \
    return NV_ENC_ERR_INVALID_VERSION
/* Whether the driver knows an API version, as `apiVersion` of a session has it. */
bool dd_api_ok(uint32_t word);
uint32_t dd_max_api(void);

/* ---- nvenc_caps.c ---- */

int dd_cap(NV_ENC_CAPS cap);
bool dd_same_guid(GUID a, GUID b);
void dd_count_preset(GUID preset);
void dd_install_caps(NV_ENCODE_API_FUNCTION_LIST *list);

/* ---- nvenc_buffers.c ---- */

struct resource *dd_resource(struct encoder *e, const void *handle, enum resource_kind kind);
void dd_resource_end(struct encoder *e, struct resource *r);
void dd_install_buffers(NV_ENCODE_API_FUNCTION_LIST *list);

/* ---- nvenc_picture.c ---- */

/* With the session's lock held. */
NVENCSTATUS dd_x264_open(struct encoder *e);
void dd_rate(x264_param_t *parameters, const NV_ENC_CONFIG *config);
void dd_flush(struct encoder *e);
void dd_install_pictures(NV_ENCODE_API_FUNCTION_LIST *list);

#endif
