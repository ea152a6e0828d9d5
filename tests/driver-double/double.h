/* The driver double: what its libraries share. Test use only, see README.md. */
#ifndef DOUBLE_H
#define DOUBLE_H

#include <ffnvcodec/dynlink_cuda.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* Devices that can be simulated; NVML and CUDA count them by the setting `devices`. */
enum { MAX_DEVICES = 8 };

/* CUDA driver API results that the double gives. */
enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    UNKNOWN = 999,
};

/* What is counted while it exists; given back when it is released or when its process dies. */
enum gauge { CONTEXTS, ENCODE_SESSIONS, DECODE_SESSIONS, TEXTURES, MODULES, STREAMS, HOST_BUFFERS, GAUGES };

/* What is only ever added to. */
enum total { ENCODED_PICTURES, DECODED_PICTURES, PROCESSES_STARTED, TOTALS };

/* ---- settings.c ---- */

/* A setting, or `otherwise` where none is made. */
EXPORT long dd_setting(const char *key, long otherwise);
/* `key.DEVICE`, else `key`, else `otherwise`. */
EXPORT long dd_device_setting(const char *key, int device, long otherwise);
/* Called first in every entry point: counts the call, waits where told, and answers the code of a fault, 0 for none. */
EXPORT int dd_enter(const char *symbol);
/* Counts something under a name of its own, beside the calls. */
EXPORT void dd_count(const char *name);
EXPORT void dd_count_by(const char *name, long n);
/* True for every n-th time where the setting `key` is n; the count is shared by all processes. */
EXPORT bool dd_every(const char *key);
EXPORT void dd_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- state.c: shared by all processes ---- */

EXPORT void dd_gauge_add(enum gauge gauge, long change);
EXPORT void dd_total_add(enum total total, long change);
/* Takes bytes of a device's memory from what all processes share; false when too little is left. */
EXPORT bool dd_vram_take(int device, uint64_t size);
EXPORT void dd_vram_give(int device, uint64_t size);
EXPORT void dd_vram_info(int device, uint64_t *free_bytes, uint64_t *total_bytes);
/* Whether the device is lost now. */
EXPORT bool dd_lost_now(int device);
/* Whether it is lost for this process: a process that had the device when it was lost never gets it back, as with the real driver. */
EXPORT bool dd_lost(int device);
/* Remembers that this process has the devices from now on. */
EXPORT void dd_begin_devices(void);
EXPORT int dd_devices(void);

/* An encode session as NVML tells of it; -1 when all processes together have as many as allowed. */
EXPORT int dd_session_open(int device);
EXPORT void dd_session_size(int session, int width, int height);
EXPORT void dd_session_picture(int session);
EXPORT void dd_session_close(int session);

struct dd_session_info {
    int pid, device;
    unsigned id, width, height, fps, latency_us;
};
/* The open sessions of a device (-1: of all), at most `room`; how many there are. */
EXPORT int dd_sessions(int device, struct dd_session_info *out, int room);
struct dd_process_info {
    int pid;
    char name[32];
    uint64_t vram[MAX_DEVICES];
    long gauges[GAUGES];
};
/* The living processes. */
EXPORT int dd_processes(struct dd_process_info *out, int room);

/* One engine per device and direction: when work of `us` microseconds begun now would be done, by CLOCK_MONOTONIC. */
enum engine { ENCODER, DECODER, ENGINES };
EXPORT uint64_t dd_engine(enum engine engine, int device, long us);
EXPORT uint64_t dd_now_us(void);
EXPORT void dd_sleep_us(uint64_t us);

/* ---- memory.c: the "device" memory of this process ---- */

/* 0: none left. `owner` is the context that the memory ends with. */
EXPORT uint64_t dd_alloc(const void *owner, int device, size_t size);
EXPORT bool dd_free(uint64_t pointer);
EXPORT void dd_free_all_of(const void *owner);
/* Where the double itself reads and writes it; NULL when not all of it lies in one allocation. */
EXPORT void *dd_host(uint64_t pointer, size_t size);
EXPORT bool dd_is_device(uint64_t pointer);
/* Host address less device address. */
EXPORT int64_t dd_delta(void);

/* ---- context.c ---- */

struct CUctx_st {
    uint32_t magic;
    int device; /* physical, as NVML counts */
    int ordinal; /* as CUDA counts among the visible ones */
    int references;
};
EXPORT CUcontext dd_current(void);
EXPORT bool dd_context_valid(CUcontext context);
EXPORT CUresult dd_context_new(CUcontext *context, int ordinal);
EXPORT void dd_context_end(CUcontext context);
EXPORT CUresult dd_context_push(CUcontext context);
EXPORT CUresult dd_context_pop(CUcontext *context);
EXPORT void dd_context_set(CUcontext context);
/* The device of the current context; the first one where there is none. */
EXPORT int dd_current_device(void);
/* Devices that CUDA_VISIBLE_DEVICES leaves, and which one an ordinal stands for (-1: none). */
EXPORT int dd_visible_devices(void);
EXPORT int dd_physical(int ordinal);
EXPORT void dd_uuid(int device, uint8_t uuid[16]);

/* Begins a CUDA entry point. */
#define CUDA_ENTER(symbol)                                      \
    do {                                                        \
        int fault_ = dd_enter(symbol);                          \
        if (fault_)                                             \
            return (CUresult)fault_;                            \
        if (dd_lost(dd_current_device()))                       \
            return (CUresult)LAUNCH_FAILED;                     \
    } while (0)

/* Begins one that cleans up: it works on a lost device too, so that gauges tell the caller's leaks and not ours. */
#define CUDA_ENTER_CLEANUP(symbol)         \
    do {                                   \
        int fault_ = dd_enter(symbol);     \
        if (fault_)                        \
            return (CUresult)fault_;       \
    } while (0)

#define NEED_CONTEXT()                                            \
    do {                                                          \
        if (!dd_context_valid(dd_current())) {                    \
            dd_log("%s: no current context", __func__);           \
            return (CUresult)INVALID_CONTEXT;                     \
        }                                                         \
    } while (0)

#endif
