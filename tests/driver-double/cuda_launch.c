/* libcuda: textures, modules, launches. */
#include "kernel.h"
#include <stdlib.h>

enum { RESOURCE_PITCH2D = 3, FORMAT_UINT8 = 1, FORMAT_UINT16 = 2, FILTER_LINEAR = 1 };
/* CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT and ..._TEXTURE_PITCH_ALIGNMENT. */
enum { TEXTURE_ALIGNMENT = 512, TEXTURE_PITCH_ALIGNMENT = 32 };

EXPORT CUresult cuTexObjectCreate(CUtexObject *object, const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *sampling, const CUDA_RESOURCE_VIEW_DESC *view)
{
    CUDA_ENTER("cuTexObjectCreate");
    NEED_CONTEXT();
    (void)view;
    if ((int)resource->resType != RESOURCE_PITCH2D)
        return (CUresult)NOT_SUPPORTED;
    int format = (int)resource->res.pitch2D.format;
    int bytes = format == FORMAT_UINT8 ? 1 : format == FORMAT_UINT16 ? 2 : 0;
    if (!bytes)
        return (CUresult)NOT_SUPPORTED;
    uint64_t pointer = resource->res.pitch2D.devPtr;
    size_t pitch = resource->res.pitch2D.pitchInBytes, width = resource->res.pitch2D.width, height = resource->res.pitch2D.height;
    unsigned channels = resource->res.pitch2D.numChannels;
    if (pointer % TEXTURE_ALIGNMENT || pitch % TEXTURE_PITCH_ALIGNMENT || !width || !height) {
        dd_log("texture: pointer or pitch are not aligned");
        return (CUresult)INVALID_VALUE;
    }
    void *at = dd_host(pointer, pitch * (height - 1) + width * channels * (size_t)bytes);
    if (!at)
        return (CUresult)INVALID_VALUE;
    struct texture *texture = malloc(sizeof *texture);
    *texture = (struct texture){ at, (int)width, (int)height, (int)pitch, bytes, (int)channels, (int)sampling->filterMode == FILTER_LINEAR };
    *object = (CUtexObject)(uintptr_t)texture;
    dd_gauge_add(TEXTURES, 1);
    return (CUresult)OK;
}

EXPORT CUresult cuTexObjectDestroy(CUtexObject object)
{
    CUDA_ENTER_CLEANUP("cuTexObjectDestroy");
    free((void *)(uintptr_t)object);
    dd_gauge_add(TEXTURES, -1);
    return (CUresult)OK;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    CUDA_ENTER("cuModuleLoadData");
    NEED_CONTEXT();
    *module = (CUmodule)dd_module_load(image);
    if (!*module)
        return (CUresult)INVALID_PTX;
    dd_gauge_add(MODULES, 1);
    return (CUresult)OK;
}

EXPORT CUresult cuModuleUnload(CUmodule module)
{
    CUDA_ENTER_CLEANUP("cuModuleUnload");
    dd_module_unload((struct module *)module);
    dd_gauge_add(MODULES, -1);
    return (CUresult)OK;
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    CUDA_ENTER("cuModuleGetFunction");
    *function = (CUfunction)dd_module_function((struct module *)module, name);
    return (CUresult)(*function ? OK : NOT_FOUND);
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void **arguments, void **extra)
{
    CUDA_ENTER("cuLaunchKernel");
    NEED_CONTEXT();
    (void)shared;
    (void)stream;
    (void)extra;
    struct grid grid = { grid_x, grid_y, grid_z, block_x, block_y, block_z };
    return dd_function_run((struct function *)function, &grid, arguments);
}
