// What stands before a CUDA kernel's source when the host's compiler builds it: CUDA's own words, and the launch of its functions.
#include <math.h>
#include <utility>

#define __device__
#define __global__ static
#define __constant__ static const
#define __restrict__

#define VECTOR(T, name)                                                  \
    struct name##2 { T x, y; };                                          \
    struct name##3 { T x, y, z; };                                       \
    struct name##4 { T x, y, z, w; };                                    \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }    \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTOR(float, float)
VECTOR(unsigned short, ushort)
VECTOR(unsigned char, uchar)
VECTOR(int, int)
VECTOR(unsigned, uint)
#undef VECTOR

static inline float min(float a, float b) { return a < b ? a : b; }
static inline float max(float a, float b) { return a > b ? a : b; }
static inline int __float2int_rz(float v) { return (int)v; }
static inline float __int2float_rz(int v) { return (float)v; }

// Textures: struct texture of kernel.h.
typedef unsigned long long cudaTextureObject_t;
struct nvdouble_texture { const unsigned char *at; int width, height, pitch, bytes, channels, linear; };

static inline float nvdouble_texel(const nvdouble_texture *t, int x, int y, int channel)
{
    x = x < 0 ? 0 : x >= t->width ? t->width - 1 : x;
    y = y < 0 ? 0 : y >= t->height ? t->height - 1 : y;
    const unsigned char *p = t->at + (long)y * t->pitch + ((long)x * t->channels + channel) * t->bytes;
    return t->bytes == 1 ? *p / 255.0f : *(const unsigned short *)p / 65535.0f;
}

// CUDA's linear filter: weights of 8 fractional bits (CUDA C++ Programming Guide, "Linear Filtering").
static inline float nvdouble_sample(cudaTextureObject_t object, float x, float y, int channel)
{
    const nvdouble_texture *t = (const nvdouble_texture *)object;
    if (!t->linear)
        return nvdouble_texel(t, (int)floorf(x * t->width), (int)floorf(y * t->height), channel);
    float fx = x * t->width - 0.5f, fy = y * t->height - 0.5f;
    int ix = (int)floorf(fx), iy = (int)floorf(fy);
    float a = rintf((fx - ix) * 256) / 256, b = rintf((fy - iy) * 256) / 256;
    return (1 - a) * (1 - b) * nvdouble_texel(t, ix, iy, channel) + a * (1 - b) * nvdouble_texel(t, ix + 1, iy, channel) +
           (1 - a) * b * nvdouble_texel(t, ix, iy + 1, channel) + a * b * nvdouble_texel(t, ix + 1, iy + 1, channel);
}

template <class T> struct nvdouble_fetch;
template <> struct nvdouble_fetch<float> {
    static float at(cudaTextureObject_t t, float x, float y) { return nvdouble_sample(t, x, y, 0); }
};
template <> struct nvdouble_fetch<float2> {
    static float2 at(cudaTextureObject_t t, float x, float y) { return {nvdouble_sample(t, x, y, 0), nvdouble_sample(t, x, y, 1)}; }
};
template <> struct nvdouble_fetch<float4> {
    static float4 at(cudaTextureObject_t t, float x, float y)
    {
        return {nvdouble_sample(t, x, y, 0), nvdouble_sample(t, x, y, 1), nvdouble_sample(t, x, y, 2), nvdouble_sample(t, x, y, 3)};
    }
};
template <class T> static inline T tex2D(cudaTextureObject_t t, float x, float y) { return nvdouble_fetch<T>::at(t, x, y); }

// Launching: every pointer among the arguments is a device address; the double reads and writes it `delta` bytes further.
struct nvdouble_index { unsigned x, y, z; };
static thread_local nvdouble_index blockIdx, blockDim, threadIdx, gridDim;

template <class T> static T nvdouble_host(T value, long long) { return value; }
template <class T> static T *nvdouble_host(T *value, long long delta) { return value ? (T *)((char *)value + delta) : value; }

template <class... A, size_t... I>
static void nvdouble_threads(void (*kernel)(A...), const unsigned *grid, void **arguments, long long delta, std::index_sequence<I...>)
{
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {grid[3], grid[4], grid[5]};
    for (unsigned block_y = 0; block_y < grid[1]; block_y++)
        for (unsigned thread_y = 0; thread_y < grid[4]; thread_y++)
            for (unsigned block_x = 0; block_x < grid[0]; block_x++)
                for (unsigned thread_x = 0; thread_x < grid[3]; thread_x++) {
                    blockIdx = {block_x, block_y, 0};
                    threadIdx = {thread_x, thread_y, 0};
                    kernel(nvdouble_host(*(A *)arguments[I], delta)...);
                }
}

template <class... A> static void nvdouble_launch(void (*kernel)(A...), const unsigned *grid, void **arguments, long long delta)
{
    nvdouble_threads(kernel, grid, arguments, delta, std::index_sequence_for<A...>());
}
