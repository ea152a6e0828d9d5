/* libcuda: memory, copies, streams, events. Streams are synchronous: everything is done when its call returns. */
#include "double.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Pitch that cuMemAllocPitch gives: the texture alignment. */
#define PITCH ((size_t)512)

struct CUstream_st {
    int unused;
};
struct CUevent_st {
    int unused;
};

static CUresult allocate(CUdeviceptr *pointer, size_t size)
{
    CUcontext context = dd_current();
    *pointer = dd_alloc(context, context->device, size);
    return (CUresult)(*pointer ? OK : OUT_OF_MEMORY);
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size)
{
    CUDA_ENTER("cuMemAlloc_v2");
    NEED_CONTEXT();
    return size ? allocate(pointer, size) : (CUresult)INVALID_VALUE;
}

EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned element)
{
    CUDA_ENTER("cuMemAllocPitch_v2");
    NEED_CONTEXT();
    if (!width || !height || (element != 4 && element != 8 && element != 16))
        return (CUresult)INVALID_VALUE;
    *pitch = (width + PITCH - 1) & ~(PITCH - 1);
    return allocate(pointer, *pitch * height);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer)
{
    CUDA_ENTER_CLEANUP("cuMemFree_v2");
    NEED_CONTEXT();
    return (CUresult)(dd_free(pointer) ? OK : INVALID_VALUE);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t size, CUstream stream)
{
    (void)stream;
    return cuMemAlloc_v2(pointer, size);
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream)
{
    (void)stream;
    return cuMemFree_v2(pointer);
}

EXPORT CUresult cuMemAllocHost_v2(void **pointer, size_t size)
{
    CUDA_ENTER("cuMemAllocHost_v2");
    NEED_CONTEXT();
    *pointer = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
    if (!*pointer)
        return (CUresult)OUT_OF_MEMORY;
    dd_gauge_add(HOST_BUFFERS, 1);
    return (CUresult)OK;
}

EXPORT CUresult cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
    (void)flags;
    return cuMemAllocHost_v2(pointer, size);
}

EXPORT CUresult cuMemFreeHost(void *pointer)
{
    CUDA_ENTER_CLEANUP("cuMemFreeHost");
    free(pointer);
    dd_gauge_add(HOST_BUFFERS, -1);
    return (CUresult)OK;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    CUDA_ENTER("cuMemGetInfo_v2");
    NEED_CONTEXT();
    uint64_t left, total;
    dd_vram_info(dd_current_device(), &left, &total);
    *free_bytes = left;
    *total_bytes = total;
    return (CUresult)OK;
}

/* ---- one-dimensional copies ---- */

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr pointer, unsigned char value, size_t size)
{
    CUDA_ENTER("cuMemsetD8_v2");
    NEED_CONTEXT();
    void *host = dd_host(pointer, size);
    if (!host)
        return (CUresult)INVALID_VALUE;
    memset(host, value, size);
    return (CUresult)OK;
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr pointer, unsigned char value, size_t size, CUstream stream)
{
    (void)stream;
    return cuMemsetD8_v2(pointer, value, size);
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size)
{
    CUDA_ENTER("cuMemcpyHtoD_v2");
    NEED_CONTEXT();
    void *host = dd_host(to, size);
    if (!host)
        return (CUresult)INVALID_VALUE;
    dd_count("copy.host_to_device");
    memcpy(host, from, size);
    return (CUresult)OK;
}

EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size)
{
    CUDA_ENTER("cuMemcpyDtoH_v2");
    NEED_CONTEXT();
    void *host = dd_host(from, size);
    if (!host)
        return (CUresult)INVALID_VALUE;
    dd_count("copy.device_to_host");
    dd_count_by("bytes.device_to_host", (long)size);
    memcpy(to, host, size);
    return (CUresult)OK;
}

EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size)
{
    CUDA_ENTER("cuMemcpyDtoD_v2");
    NEED_CONTEXT();
    void *target = dd_host(to, size), *source = dd_host(from, size);
    if (!target || !source)
        return (CUresult)INVALID_VALUE;
    dd_count("copy.device_to_device");
    memmove(target, source, size);
    return (CUresult)OK;
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream)
{
    (void)stream;
    return cuMemcpyHtoD_v2(to, from, size);
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream)
{
    (void)stream;
    return cuMemcpyDtoH_v2(to, from, size);
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream)
{
    (void)stream;
    return cuMemcpyDtoD_v2(to, from, size);
}

/* ---- two-dimensional copies ---- */

enum { HOST = 1, DEVICE = 2, UNIFIED = 4 };

struct side {
    char *at;
    bool device;
};

/* One side of a copy; `at` is NULL where it is not what the caller says it is. */
static struct side side(int type, const void *host, CUdeviceptr device, size_t offset, size_t length)
{
    if (type == HOST && dd_is_device((uint64_t)host)) {
        dd_log("copy: a device pointer was given as a host pointer");
        return (struct side){ NULL, false };
    }
    if (type == HOST)
        return (struct side){ (char *)host + offset, false };
    if (type == DEVICE || (type == UNIFIED && dd_is_device(device)))
        return (struct side){ dd_host(device + offset, length), true };
    if (type == UNIFIED)
        return (struct side){ (char *)(uintptr_t)device + offset, false };
    return (struct side){ NULL, false };
}

static CUresult copy(const CUDA_MEMCPY2D *c)
{
    size_t width = c->WidthInBytes, height = c->Height;
    if (!width || !height)
        return (CUresult)OK;
    size_t from_pitch = c->srcPitch ? c->srcPitch : width, to_pitch = c->dstPitch ? c->dstPitch : width;
    if (from_pitch < width || to_pitch < width)
        return (CUresult)INVALID_VALUE;
    struct side from = side((int)c->srcMemoryType, c->srcHost, c->srcDevice, c->srcY * from_pitch + c->srcXInBytes, (height - 1) * from_pitch + width);
    struct side to = side((int)c->dstMemoryType, c->dstHost, c->dstDevice, c->dstY * to_pitch + c->dstXInBytes, (height - 1) * to_pitch + width);
    if (!from.at || !to.at)
        return (CUresult)INVALID_VALUE;
    static const char *const names[2][2] = { { "copy.host_to_host", "copy.host_to_device" }, { "copy.device_to_host", "copy.device_to_device" } };
    dd_count(names[from.device][to.device]);
    if (from.device && !to.device)
        dd_count_by("bytes.device_to_host", (long)(width * height));
    for (size_t y = 0; y < height; y++)
        memcpy(to.at + y * to_pitch, from.at + y * from_pitch, width);
    return (CUresult)OK;
}

EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *c)
{
    CUDA_ENTER("cuMemcpy2D_v2");
    NEED_CONTEXT();
    return copy(c);
}

EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream stream)
{
    CUDA_ENTER("cuMemcpy2DAsync_v2");
    NEED_CONTEXT();
    (void)stream;
    return copy(c);
}

/* ---- streams ---- */

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    CUDA_ENTER("cuStreamCreate");
    NEED_CONTEXT();
    (void)flags;
    *stream = calloc(1, sizeof **stream);
    dd_gauge_add(STREAMS, 1);
    return (CUresult)OK;
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority)
{
    (void)priority;
    return cuStreamCreate(stream, flags);
}

EXPORT CUresult cuStreamDestroy_v2(CUstream stream)
{
    CUDA_ENTER_CLEANUP("cuStreamDestroy");
    free(stream);
    dd_gauge_add(STREAMS, -1);
    return (CUresult)OK;
}

EXPORT CUresult cuStreamDestroy(CUstream stream)
{
    return cuStreamDestroy_v2(stream);
}

EXPORT CUresult cuStreamSynchronize(CUstream stream)
{
    CUDA_ENTER("cuStreamSynchronize");
    (void)stream;
    return (CUresult)OK;
}

EXPORT CUresult cuStreamQuery(CUstream stream)
{
    CUDA_ENTER("cuStreamQuery");
    (void)stream;
    return (CUresult)OK;
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
    CUDA_ENTER("cuStreamWaitEvent");
    (void)stream;
    (void)event;
    (void)flags;
    return (CUresult)OK;
}

EXPORT CUresult cuStreamAddCallback(CUstream stream, void (*callback)(CUstream, CUresult, void *), void *user, unsigned flags)
{
    CUDA_ENTER("cuStreamAddCallback");
    (void)flags;
    callback(stream, (CUresult)OK, user);
    return (CUresult)OK;
}

/* ---- events ---- */

EXPORT CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    CUDA_ENTER("cuEventCreate");
    NEED_CONTEXT();
    (void)flags;
    *event = calloc(1, sizeof **event);
    return (CUresult)OK;
}

EXPORT CUresult cuEventDestroy_v2(CUevent event)
{
    CUDA_ENTER_CLEANUP("cuEventDestroy_v2");
    free(event);
    return (CUresult)OK;
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream)
{
    CUDA_ENTER("cuEventRecord");
    (void)event;
    (void)stream;
    return (CUresult)OK;
}

EXPORT CUresult cuEventSynchronize(CUevent event)
{
    CUDA_ENTER("cuEventSynchronize");
    (void)event;
    return (CUresult)OK;
}

EXPORT CUresult cuEventQuery(CUevent event)
{
    CUDA_ENTER("cuEventQuery");
    (void)event;
    return (CUresult)OK;
}
