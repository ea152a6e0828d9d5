/* NVENC: buffers of a session, and device memory registered with it. */
#include "nvenc.h"
#include <stdlib.h>
#include <string.h>

static struct resource *add(struct encoder *e, enum resource_kind kind)
{
    struct resource *r = calloc(1, sizeof *r);
    r->kind = kind;
    pthread_mutex_lock(&e->lock);
    r->next = e->resources;
    e->resources = r;
    pthread_mutex_unlock(&e->lock);
    return r;
}

struct resource *dd_resource(struct encoder *e, const void *handle, enum resource_kind kind)
{
    struct resource *found = NULL;
    pthread_mutex_lock(&e->lock);
    for (struct resource *r = e->resources; r; r = r->next)
        if (r == handle && r->kind == kind)
            found = r;
    pthread_mutex_unlock(&e->lock);
    return found;
}

void dd_resource_end(struct encoder *e, struct resource *gone)
{
    pthread_mutex_lock(&e->lock);
    for (struct resource **link = &e->resources; *link; link = &(*link)->next)
        if (*link == gone) {
            *link = gone->next;
            break;
        }
    int kept = 0;
    for (int i = 0; i < e->pending_count; i++)
        if (e->pending[i] != gone)
            e->pending[kept++] = e->pending[i];
    e->pending_count = kept;
    pthread_mutex_unlock(&e->lock);
    free(gone->host);
    free(gone->data);
    free(gone);
}

/* For what cleans up: it works on a lost device too. */
#define SESSION_FOR_CLEANUP(e, handle) \
    struct encoder *e = handle;        \
    if (!e)                            \
    return NV_ENC_ERR_INVALID_PTR

/* ---- buffers of the session's own ---- */

static NVENCSTATUS NVENCAPI create_input(void *handle, NV_ENC_CREATE_INPUT_BUFFER *p)
{
    ENTER("nvEncCreateInputBuffer");
    SESSION(e, handle);
    NEED_VERSION(p->version, INPUT);
    if (p->width > 8192 || p->height > 8192)
        return NV_ENC_ERR_INVALID_PARAM;
    struct resource *r = add(e, INPUT_BUFFER);
    r->width = (int)p->width;
    r->height = (int)p->height;
    r->format = p->bufferFmt;
    r->pitch = (r->width + 511) & ~511;
    r->host = calloc((size_t)r->pitch, ((size_t)r->height + 2) * 2);
    p->inputBuffer = r;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI destroy_input(void *handle, NV_ENC_INPUT_PTR input)
{
    ENTER("nvEncDestroyInputBuffer");
    SESSION_FOR_CLEANUP(e, handle);
    struct resource *r = dd_resource(e, input, INPUT_BUFFER);
    if (!r)
        return NV_ENC_ERR_INVALID_PARAM;
    dd_resource_end(e, r);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI lock_input(void *handle, NV_ENC_LOCK_INPUT_BUFFER *p)
{
    ENTER("nvEncLockInputBuffer");
    SESSION(e, handle);
    NEED_VERSION(p->version, LOCK_INPUT);
    struct resource *r = dd_resource(e, p->inputBuffer, INPUT_BUFFER);
    if (!r)
        return NV_ENC_ERR_INVALID_PARAM;
    p->bufferDataPtr = r->host;
    p->pitch = (uint32_t)r->pitch;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI unlock_input(void *handle, NV_ENC_INPUT_PTR input)
{
    ENTER("nvEncUnlockInputBuffer");
    SESSION_FOR_CLEANUP(e, handle);
    return dd_resource(e, input, INPUT_BUFFER) ? NV_ENC_SUCCESS : NV_ENC_ERR_INVALID_PARAM;
}

static NVENCSTATUS NVENCAPI create_bitstream(void *handle, NV_ENC_CREATE_BITSTREAM_BUFFER *p)
{
    ENTER("nvEncCreateBitstreamBuffer");
    SESSION(e, handle);
    NEED_VERSION(p->version, BITSTREAM_BUFFER);
    p->bitstreamBuffer = add(e, BITSTREAM);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI destroy_bitstream(void *handle, NV_ENC_OUTPUT_PTR output)
{
    ENTER("nvEncDestroyBitstreamBuffer");
    SESSION_FOR_CLEANUP(e, handle);
    struct resource *r = dd_resource(e, output, BITSTREAM);
    if (!r)
        return NV_ENC_ERR_INVALID_PARAM;
    dd_resource_end(e, r);
    return NV_ENC_SUCCESS;
}

/* ---- device memory ---- */

static NVENCSTATUS NVENCAPI register_resource(void *handle, NV_ENC_REGISTER_RESOURCE *p)
{
    ENTER("nvEncRegisterResource");
    SESSION(e, handle);
    NEED_VERSION(p->version, REGISTER);
    if (p->resourceType != NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR || p->bufferFormat != NV_ENC_BUFFER_FORMAT_NV12)
        return NV_ENC_ERR_UNSUPPORTED_PARAM;
    uint64_t pointer = (uint64_t)p->resourceToRegister;
    size_t rows = (size_t)p->height + (p->height + 1) / 2;
    if (!p->height || !dd_host(pointer, (rows - 1) * p->pitch + p->width))
        return dd_fail(e, NV_ENC_ERR_RESOURCE_REGISTER_FAILED, "not device memory of that size");
    struct resource *r = add(e, REGISTERED);
    r->pointer = pointer;
    r->width = (int)p->width;
    r->height = (int)p->height;
    r->pitch = (int)p->pitch;
    r->format = p->bufferFormat;
    p->registeredResource = r;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI unregister_resource(void *handle, NV_ENC_REGISTERED_PTR registered)
{
    ENTER("nvEncUnregisterResource");
    SESSION_FOR_CLEANUP(e, handle);
    struct resource *r = dd_resource(e, registered, REGISTERED);
    if (!r)
        return NV_ENC_ERR_RESOURCE_NOT_REGISTERED;
    dd_resource_end(e, r);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI map_input(void *handle, NV_ENC_MAP_INPUT_RESOURCE *p)
{
    ENTER("nvEncMapInputResource");
    SESSION(e, handle);
    NEED_VERSION(p->version, MAP_INPUT);
    struct resource *r = dd_resource(e, p->registeredResource, REGISTERED);
    if (!r)
        return NV_ENC_ERR_RESOURCE_NOT_REGISTERED;
    r->maps++;
    p->mappedResource = r;
    p->mappedBufferFmt = r->format;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS NVENCAPI unmap_input(void *handle, NV_ENC_INPUT_PTR mapped)
{
    ENTER("nvEncUnmapInputResource");
    SESSION_FOR_CLEANUP(e, handle);
    struct resource *r = dd_resource(e, mapped, REGISTERED);
    if (!r || !r->maps)
        return NV_ENC_ERR_RESOURCE_NOT_MAPPED;
    r->maps--;
    return NV_ENC_SUCCESS;
}

void dd_install_buffers(NV_ENCODE_API_FUNCTION_LIST *list)
{
    list->nvEncCreateInputBuffer = create_input;
    list->nvEncDestroyInputBuffer = destroy_input;
    list->nvEncLockInputBuffer = lock_input;
    list->nvEncUnlockInputBuffer = unlock_input;
    list->nvEncCreateBitstreamBuffer = create_bitstream;
    list->nvEncDestroyBitstreamBuffer = destroy_bitstream;
    list->nvEncRegisterResource = register_resource;
    list->nvEncUnregisterResource = unregister_resource;
    list->nvEncMapInputResource = map_input;
    list->nvEncUnmapInputResource = unmap_input;
}
