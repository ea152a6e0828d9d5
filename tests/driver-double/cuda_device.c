/* libcuda: start, devices, contexts, names of errors. */
#define _GNU_SOURCE
#include "double.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* What a 550 driver says: CUDA 12.4. */
#define CUDA_VERSION_550 12040
enum { COMPUTE_MAJOR = 8, COMPUTE_MINOR = 6 /* Ampere, GA102 */ };

static bool initialised;
static CUcontext primary[MAX_DEVICES];

EXPORT CUresult cuInit(unsigned flags)
{
    (void)flags;
    int fault = dd_enter("cuInit");
    if (fault)
        return (CUresult)fault;
    if (dd_visible_devices() < 1)
        return (CUresult)NO_DEVICE;
    dd_begin_devices();
    initialised = true;
    return (CUresult)OK;
}

EXPORT CUresult cuDriverGetVersion(int *version)
{
    CUDA_ENTER("cuDriverGetVersion");
    *version = (int)dd_setting("cuda_version", CUDA_VERSION_550);
    return (CUresult)OK;
}

/* ---- errors ---- */

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    { OK, "CUDA_SUCCESS", "no error" },
    { INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
    { OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
    { NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
    { 46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable" },
    { NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" },
    { INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
    { INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
    { 214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered" },
    { INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed" },
    { INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
    { NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
    { LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
    { NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
    { UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

static CUresult look_up(CUresult error, bool name, const char **out)
{
    *out = NULL;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == (int)error)
            *out = name ? errors[i].name : errors[i].text;
    return (CUresult)(*out ? OK : INVALID_VALUE);
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **out)
{
    return look_up(error, true, out);
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **out)
{
    return look_up(error, false, out);
}

/* ---- devices ---- */

EXPORT CUresult cuDeviceGetCount(int *count)
{
    CUDA_ENTER("cuDeviceGetCount");
    if (!initialised)
        return (CUresult)NOT_INITIALIZED;
    *count = dd_visible_devices();
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    CUDA_ENTER("cuDeviceGet");
    if (!initialised)
        return (CUresult)NOT_INITIALIZED;
    if (dd_physical(ordinal) < 0)
        return (CUresult)INVALID_DEVICE;
    *device = ordinal;
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceGetName(char *name, int room, CUdevice device)
{
    CUDA_ENTER("cuDeviceGetName");
    (void)device;
    snprintf(name, (size_t)room, "NVIDIA A10G");
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    CUDA_ENTER("cuDeviceGetAttribute");
    if (dd_physical(device) < 0)
        return (CUresult)INVALID_DEVICE;
    switch ((int)attribute) {
    case 1: /* MAX_THREADS_PER_BLOCK */
        *value = 1024;
        break;
    case 10: /* WARP_SIZE */
        *value = 32;
        break;
    case 14: /* TEXTURE_ALIGNMENT */
        *value = 512;
        break;
    case 16: /* MULTIPROCESSOR_COUNT of an A10G */
        *value = 80;
        break;
    case 34: /* PCI_DEVICE_ID */
        *value = 0x1e + dd_physical(device);
        break;
    case 75:
        *value = COMPUTE_MAJOR;
        break;
    case 76:
        *value = COMPUTE_MINOR;
        break;
    default: /* among them virtual memory management (102) and memory pools (115): not there */
        *value = 0;
    }
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    CUDA_ENTER("cuDeviceComputeCapability");
    (void)device;
    *major = COMPUTE_MAJOR;
    *minor = COMPUTE_MINOR;
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *size, CUdevice device)
{
    CUDA_ENTER("cuDeviceTotalMem_v2");
    int physical = dd_physical(device);
    if (physical < 0)
        return (CUresult)INVALID_DEVICE;
    uint64_t free_bytes, total;
    dd_vram_info(physical, &free_bytes, &total);
    *size = total;
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    CUDA_ENTER("cuDeviceGetUuid_v2");
    int physical = dd_physical(device);
    if (physical < 0)
        return (CUresult)INVALID_DEVICE;
    dd_uuid(physical, (uint8_t *)uuid);
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    return cuDeviceGetUuid_v2(uuid, device);
}

EXPORT CUresult cuDeviceGetPCIBusId(char *text, int room, CUdevice device)
{
    CUDA_ENTER("cuDeviceGetPCIBusId");
    int physical = dd_physical(device);
    if (physical < 0)
        return (CUresult)INVALID_DEVICE;
    snprintf(text, (size_t)room, "0000:00:%02X.0", 0x1e + physical);
    return (CUresult)OK;
}

EXPORT CUresult cuDeviceCanAccessPeer(int *yes, CUdevice a, CUdevice b)
{
    CUDA_ENTER("cuDeviceCanAccessPeer");
    *yes = a != b && dd_setting("peer", 0);
    return (CUresult)OK;
}

/* ---- contexts ---- */

EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    CUDA_ENTER("cuCtxCreate_v2");
    (void)flags;
    if (!initialised)
        return (CUresult)NOT_INITIALIZED;
    /* The current context's device was asked above; this one may be another. */
    int physical = dd_physical(device);
    if (physical >= 0 && dd_lost(physical))
        return (CUresult)LAUNCH_FAILED;
    CUresult result = dd_context_new(context, device);
    return result ? result : dd_context_push(*context);
}

EXPORT CUresult cuCtxDestroy_v2(CUcontext context)
{
    CUDA_ENTER_CLEANUP("cuCtxDestroy_v2");
    if (!dd_context_valid(context))
        return (CUresult)INVALID_CONTEXT;
    dd_context_end(context);
    return (CUresult)OK;
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    int fault = dd_enter("cuCtxPushCurrent_v2");
    if (fault)
        return (CUresult)fault;
    if (!dd_context_valid(context))
        return (CUresult)INVALID_CONTEXT;
    return dd_lost(context->device) ? (CUresult)LAUNCH_FAILED : dd_context_push(context);
}

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    CUDA_ENTER_CLEANUP("cuCtxPopCurrent_v2");
    return dd_context_pop(context);
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context)
{
    CUDA_ENTER("cuCtxSetCurrent");
    if (context && !dd_context_valid(context))
        return (CUresult)INVALID_CONTEXT;
    dd_context_set(context);
    return (CUresult)OK;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *context)
{
    CUDA_ENTER("cuCtxGetCurrent");
    *context = dd_current();
    return (CUresult)OK;
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device)
{
    CUDA_ENTER("cuCtxGetDevice");
    NEED_CONTEXT();
    *device = dd_current()->ordinal;
    return (CUresult)OK;
}

EXPORT CUresult cuCtxSynchronize(void)
{
    CUDA_ENTER("cuCtxSynchronize");
    NEED_CONTEXT();
    return (CUresult)OK;
}

EXPORT CUresult cuCtxEnablePeerAccess(CUcontext context, unsigned flags)
{
    CUDA_ENTER("cuCtxEnablePeerAccess");
    (void)context;
    (void)flags;
    return (CUresult)OK;
}

EXPORT CUresult cuCtxDisablePeerAccess(CUcontext context)
{
    CUDA_ENTER("cuCtxDisablePeerAccess");
    (void)context;
    return (CUresult)OK;
}

/* ---- primary contexts: one per device, counted ---- */

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    CUDA_ENTER("cuDevicePrimaryCtxRetain");
    if (!initialised)
        return (CUresult)NOT_INITIALIZED;
    int physical = dd_physical(device);
    if (physical < 0)
        return (CUresult)INVALID_DEVICE;
    if (dd_lost(physical))
        return (CUresult)LAUNCH_FAILED;
    if (!dd_context_valid(primary[physical])) {
        CUresult result = dd_context_new(&primary[physical], device);
        if (result)
            return result;
    }
    primary[physical]->references++;
    *context = primary[physical];
    return (CUresult)OK;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    CUDA_ENTER_CLEANUP("cuDevicePrimaryCtxRelease_v2");
    int physical = dd_physical(device);
    if (physical < 0 || !dd_context_valid(primary[physical]))
        return (CUresult)INVALID_CONTEXT;
    if (--primary[physical]->references == 0) {
        dd_context_end(primary[physical]);
        primary[physical] = NULL;
    }
    return (CUresult)OK;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    return cuDevicePrimaryCtxRelease_v2(device);
}

EXPORT CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags)
{
    CUDA_ENTER("cuDevicePrimaryCtxSetFlags");
    (void)device;
    (void)flags;
    return (CUresult)OK;
}

EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags)
{
    return cuDevicePrimaryCtxSetFlags(device, flags);
}

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    CUDA_ENTER("cuDevicePrimaryCtxGetState");
    int physical = dd_physical(device);
    if (physical < 0)
        return (CUresult)INVALID_DEVICE;
    *flags = 0;
    *active = dd_context_valid(primary[physical]);
    return (CUresult)OK;
}

/* ---- symbols by name ---- */

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
    (void)version;
    (void)flags;
    char newer[128];
    snprintf(newer, sizeof newer, "%s_v2", symbol);
    *function = dlsym(RTLD_DEFAULT, newer);
    if (!*function)
        *function = dlsym(RTLD_DEFAULT, symbol);
    if (status)
        *status = *function ? 0 : 1;
    return (CUresult)(*function ? OK : NOT_FOUND);
}
