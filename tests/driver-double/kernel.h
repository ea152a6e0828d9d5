/* Kernels: what NVRTC hands on as "PTX" is CUDA source, and this runs it. */
#ifndef KERNEL_H
#define KERNEL_H

#include "double.h"

/* The first line of what our NVRTC calls PTX. */
#define KERNEL_MARK "// nvdouble: CUDA source in place of PTX\n"

/* A texture object; kernel_prelude.cc knows it too. */
struct texture {
    const unsigned char *at;
    int width, height, pitch;
    int bytes;    /* of a channel: 1 or 2 */
    int channels; /* of a texel */
    int linear;   /* filter */
};

struct grid {
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z;
};

struct module;
struct function;
EXPORT struct module *dd_module_load(const char *image);
EXPORT void dd_module_unload(struct module *module);
EXPORT struct function *dd_module_function(struct module *module, const char *name);
EXPORT CUresult dd_function_run(struct function *function, const struct grid *grid, void **arguments);

/* ---- kernel_native.c: GStreamer 1.26's converter from NV12 to NV12 in C, the same sums in the same order ---- */

/* Whether the source is that kernel, so set up. */
bool dd_native_knows(const char *source);
/* False where it was asked for what only the compiled kernel does (blending). */
bool dd_native_run(const struct grid *grid, void **arguments, CUresult *result);

#endif
