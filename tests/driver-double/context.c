/* CUDA contexts and which devices this process may see. In the core library, because NVENC and NVDEC ask for the current context too. */
#include "double.h"
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#define CONTEXT_MAGIC 0xC0DEC0DEu
#define MIB (UINT64_C(1) << 20)
/* The real stack has no documented limit; GStreamer leaks seven entries per thread that registers the plugin. */
enum { STACK = 256 };

static __thread CUcontext stack[STACK];
static __thread int depth;

CUcontext dd_current(void)
{
    return depth ? stack[depth - 1] : NULL;
}

bool dd_context_valid(CUcontext context)
{
    return context && context->magic == CONTEXT_MAGIC;
}

int dd_current_device(void)
{
    CUcontext context = dd_current();
    if (dd_context_valid(context))
        return context->device;
    int first = dd_physical(0);
    return first < 0 ? 0 : first;
}

CUresult dd_context_new(CUcontext *context, int ordinal)
{
    int device = dd_physical(ordinal);
    if (device < 0)
        return (CUresult)INVALID_DEVICE;
    struct CUctx_st *fresh = calloc(1, sizeof *fresh);
    long mib = dd_setting("context_vram_mib", 0);
    if (mib > 0 && !dd_alloc(fresh, device, (size_t)mib * MIB)) {
        free(fresh);
        return (CUresult)OUT_OF_MEMORY;
    }
    *fresh = (struct CUctx_st){ .magic = CONTEXT_MAGIC, .device = device, .ordinal = ordinal };
    dd_gauge_add(CONTEXTS, 1);
    *context = fresh;
    return (CUresult)OK;
}

void dd_context_end(CUcontext context)
{
    if (dd_current() == context)
        depth--;
    dd_free_all_of(context);
    context->magic = 0;
    /* Not freed: another thread may still have it on its stack, and must find that it is no context any more. 16 bytes each. */
    dd_gauge_add(CONTEXTS, -1);
}

CUresult dd_context_push(CUcontext context)
{
    if (!dd_context_valid(context) || depth == STACK)
        return (CUresult)INVALID_CONTEXT;
    stack[depth++] = context;
    return (CUresult)OK;
}

CUresult dd_context_pop(CUcontext *context)
{
    if (!depth)
        return (CUresult)INVALID_CONTEXT;
    depth--;
    if (context)
        *context = stack[depth];
    return (CUresult)OK;
}

void dd_context_set(CUcontext context)
{
    if (!context) {
        if (depth)
            depth--;
        return;
    }
    if (!depth)
        depth = 1;
    stack[depth - 1] = context;
}

/* ---- CUDA_VISIBLE_DEVICES ---- */

void dd_uuid(int device, uint8_t uuid[16])
{
    memset(uuid, 0xA1, 16);
    uuid[15] = (uint8_t)device;
}

/* A word of the list: an index, or the begin of a "GPU-..." name. -1: no such device. */
static int device_of(const char *word)
{
    int count = dd_devices();
    if (!strncmp(word, "GPU-", 4)) {
        for (int device = 0; device < count; device++) {
            char name[48];
            snprintf(name, sizeof name, "GPU-a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1%02x", device);
            if (!strncmp(name, word, strlen(word)))
                return device;
        }
        return -1;
    }
    char *end;
    long index = strtol(word, &end, 10);
    return end == word || *end || index < 0 || index >= count ? -1 : (int)index;
}

/* As the driver does: the list ends at its first invalid word. */
static int visible(int devices[MAX_DEVICES])
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    int count = 0;
    if (!list) {
        for (; count < dd_devices(); count++)
            devices[count] = count;
        return count;
    }
    char copy[256], *rest = copy, *word;
    snprintf(copy, sizeof copy, "%s", list);
    while (count < MAX_DEVICES && (word = strsep(&rest, ","))) {
        int device = device_of(word);
        if (device < 0)
            break;
        devices[count++] = device;
    }
    return count;
}

int dd_visible_devices(void)
{
    int devices[MAX_DEVICES];
    return visible(devices);
}

int dd_physical(int ordinal)
{
    int devices[MAX_DEVICES], count = visible(devices);
    return ordinal < 0 || ordinal >= count ? -1 : devices[ordinal];
}
