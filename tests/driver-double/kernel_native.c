/* The converter kernel of GStreamer 1.26.2 (GstCudaConverterMain) from NV12 to NV12, in C: scaling, borders, turning and colour matrix. The sums are
 * those of the kernel behind kernel_prelude.cc, in the same order and precision, so the bytes are the same; what depends on a column or a row alone is
 * taken out of the loop. A version of the kernel that is another one is not recognised, and compiled. */
#include "kernel.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* As in the kernel's source, which is searched for this text. */
struct color_matrix {
    float x[3], y[3], z[3], offset[3], least[3], most[3];
};

struct constants {
    struct color_matrix matrix;
    int width, height, left, top, right, bottom, view_width, view_height;
    float border[4];
    int fill_border;
    int direction; /* GstVideoOrientationMethod */
    float alpha;
    int do_blend, do_convert;
};

/* All that the code below relies on. */
static const char *const fragments[] = {
    "#define SAMPLER SampleNV12 ",
    "#define OUTPUT OutputNV12 ",
    "struct ConstBuffer { ColorMatrix matrix; int width; int height; int left; int top; int right; int bottom; int view_width; int view_height; "
    "float border_x; float border_y; float border_z; float border_w; int fill_border; int video_direction; float alpha; int do_blend; int do_convert; };",
    "GstCudaConverterMain (cudaTextureObject_t tex0, cudaTextureObject_t tex1, cudaTextureObject_t tex2, cudaTextureObject_t tex3, "
    "unsigned char * dst0, unsigned char * dst1, unsigned char * dst2, unsigned char * dst3, int stride0, int stride1, "
    "ConstBuffer const_buf, int off_x, int off_y)",
    "float x = (__int2float_rz (x_pos - const_buf.left) + 0.5) / const_buf.view_width;",
    "float y = (__int2float_rz (y_pos - const_buf.top) + 0.5) / const_buf.view_height;",
    "float2 rotated = do_rotate (x, y, const_buf.video_direction);",
    "return (unsigned char) __float2int_rz (val * 255.0);",
};

/* White space made one blank each. */
static char *squeezed(const char *text)
{
    char *out = malloc(strlen(text) + 1), *o = out;
    for (bool blank = true; *text; text++) {
        bool space = strchr(" \t\n\r", *text) != NULL;
        if (!space)
            *o++ = *text;
        else if (!blank)
            *o++ = ' ';
        blank = space;
    }
    *o = 0;
    return out;
}

bool dd_native_knows(const char *source)
{
    char *text = squeezed(source);
    bool known = true;
    for (size_t i = 0; i < sizeof fragments / sizeof *fragments; i++)
        known = known && strstr(text, fragments[i]);
    free(text);
    return known;
}

/* ---- sampling ---- */

static float unit[256]; /* p / 255 */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_unit(void)
{
    for (int i = 0; i < 256; i++)
        unit[i] = (float)i / 255.0f;
}

/* Where a coordinate falls along one side of a texture: two neighbours and the weight of the second. */
struct tap {
    int first, second;
    float weight;
};

static int clamped(int value, int size)
{
    return value < 0 ? 0 : value >= size ? size - 1 : value;
}

static struct tap tap(float coordinate, int size, int linear)
{
    if (!linear) {
        int at = clamped((int)floorf(coordinate * (float)size), size);
        return (struct tap){ at, at, 0 };
    }
    float f = coordinate * (float)size - 0.5f;
    int at = (int)floorf(f);
    float weight = rintf((f - (float)at) * 256) / 256;
    return (struct tap){ clamped(at, size), clamped(at + 1, size), weight };
}

static inline float sample(const struct texture *t, const unsigned char *row, const unsigned char *next, struct tap x, float b, int channel)
{
    const int i = x.first * t->channels + channel, j = x.second * t->channels + channel;
    if (!t->linear)
        return unit[row[i]];
    const float a = x.weight;
    return (1 - a) * (1 - b) * unit[row[i]] + a * (1 - b) * unit[row[j]] + (1 - a) * b * unit[next[i]] + a * b * unit[next[j]];
}

static inline unsigned char to_byte(float value)
{
    return (unsigned char)(int)(float)(value * 255.0);
}

/* ---- the kernel ---- */

struct job {
    const struct texture *luma, *chroma;
    unsigned char *to_luma, *to_chroma;
    int luma_stride, chroma_stride;
    int x_begin, x_end, y_begin, y_end;
    const struct constants *c;
};

static float dot(const float *k, const float *v)
{
    return k[0] * v[0] + k[1] * v[1] + k[2] * v[2];
}

/* max and min of the prelude, so that NaN goes the same way. */
static float clamp(float v, float least, float most)
{
    float low = v < most ? v : most;
    return least > low ? least : low;
}

static void convert(const struct color_matrix *m, float v[3])
{
    float x = dot(m->x, v) + m->offset[0], y = dot(m->y, v) + m->offset[1], z = dot(m->z, v) + m->offset[2];
    /* The kernel's clamp3 takes the minima and maxima of y and z so. */
    v[0] = clamp(x, m->least[0], m->most[0]);
    v[1] = clamp(y, m->least[1], m->most[2]);
    v[2] = clamp(z, m->least[1], m->most[2]);
}

static float column(const struct constants *c, int x)
{
    return (float)(((float)(x - c->left) + 0.5) / c->view_width);
}

static float line(const struct constants *c, int y)
{
    return (float)(((float)(y - c->top) + 0.5) / c->view_height);
}

static float less_than_one(float v)
{
    return (float)(1.0 - v);
}

/* The kernel's do_rotate. */
static void turn(int direction, float *x, float *y)
{
    float a = *x, b = *y;
    switch (direction) {
    case 1:
        *x = b;
        *y = less_than_one(a);
        break;
    case 2:
        *x = less_than_one(a);
        *y = less_than_one(b);
        break;
    case 3:
        *x = less_than_one(b);
        *y = a;
        break;
    case 4:
        *x = less_than_one(a);
        break;
    case 5:
        *y = less_than_one(b);
        break;
    case 6:
        *x = b;
        *y = a;
        break;
    case 7:
        *x = less_than_one(b);
        *y = less_than_one(a);
        break;
    default:
        break;
    }
}

static float fetch(const struct texture *t, float x, float y, int channel)
{
    struct tap h = tap(x, t->width, t->linear), v = tap(y, t->height, t->linear);
    return sample(t, t->at + (long)v.first * t->pitch, t->at + (long)v.second * t->pitch, h, v.weight, channel);
}

static bool inside(const struct constants *c, int x, int y)
{
    return x >= c->left && x < c->right && y >= c->top && y < c->bottom;
}

static void put(const struct job *j, int x, int y, const float v[3])
{
    j->to_luma[x + y * j->luma_stride] = to_byte(v[0]);
    if (x % 2 == 0 && y % 2 == 0) {
        unsigned char *uv = j->to_chroma + x + (y / 2) * j->chroma_stride;
        uv[0] = to_byte(v[1]);
        uv[1] = to_byte(v[2]);
    }
}

/* Pixel by pixel, as the kernel does. */
static void any_way(const struct job *j)
{
    const struct constants *c = j->c;
    for (int y = j->y_begin; y < j->y_end; y++)
        for (int x = j->x_begin; x < j->x_end; x++) {
            float v[3] = { c->border[0], c->border[1], c->border[2] };
            if (inside(c, x, y)) {
                float u = column(c, x), w = line(c, y);
                if (u < 0.0f || u > 1.0f || w < 0.0f || w > 1.0f)
                    continue;
                turn(c->direction, &u, &w);
                v[0] = fetch(j->luma, u, w, 0);
                v[1] = fetch(j->chroma, u, w, 0);
                v[2] = fetch(j->chroma, u, w, 1);
                if (c->do_convert)
                    convert(&c->matrix, v);
            } else if (!c->fill_border)
                continue;
            put(j, x, y, v);
        }
}

/* One row of one plane; `step` 2 for chroma. */
static void row(const struct job *j, const struct texture *t, unsigned char *to, const struct tap *columns, struct tap v, int step)
{
    const struct constants *c = j->c;
    const unsigned char *first = t->at + (long)v.first * t->pitch, *second = t->at + (long)v.second * t->pitch;
    int begin = j->x_begin > c->left ? j->x_begin : c->left, end = j->x_end < c->right ? j->x_end : c->right;
    if (step == 1)
        for (int x = begin; x < end; x++)
            to[x] = to_byte(sample(t, first, second, columns[x], v.weight, 0));
    else
        for (int x = begin + (begin & 1); x < end; x += 2) {
            to[x] = to_byte(sample(t, first, second, columns[x], v.weight, 0));
            to[x + 1] = to_byte(sample(t, first, second, columns[x], v.weight, 1));
        }
}

static void border(const struct job *j, int x, int y)
{
    if (j->c->fill_border)
        put(j, x, y, j->c->border);
}

/* Upright and without a matrix: columns and rows do not depend on each other. */
static void upright(const struct job *j)
{
    const struct constants *c = j->c;
    struct tap *luma = malloc(sizeof *luma * 2 * (size_t)j->x_end), *chroma = luma + j->x_end;
    for (int x = j->x_begin; x < j->x_end; x++) {
        float u = column(c, x);
        luma[x] = tap(u, j->luma->width, j->luma->linear);
        chroma[x] = tap(u, j->chroma->width, j->chroma->linear);
    }
    for (int y = j->y_begin; y < j->y_end; y++) {
        if (y >= c->top && y < c->bottom) {
            float v = line(c, y);
            row(j, j->luma, j->to_luma + (long)y * j->luma_stride, luma, tap(v, j->luma->height, j->luma->linear), 1);
            if (y % 2 == 0)
                row(j, j->chroma, j->to_chroma + (long)(y / 2) * j->chroma_stride, chroma, tap(v, j->chroma->height, j->chroma->linear), 2);
        }
        for (int x = j->x_begin; x < j->x_end; x++) {
            if (inside(c, x, y)) {
                x = c->right - 1;
                continue;
            }
            border(j, x, y);
        }
    }
    free(luma);
}

static int least(int a, unsigned b)
{
    return b < (unsigned)a ? (int)b : a;
}

bool dd_native_run(const struct grid *g, void **a, CUresult *result)
{
    const struct constants *c = a[10];
    if (c->do_blend)
        return false;
    pthread_once(&once, fill_unit);
    *result = (CUresult)OK;
    if (c->view_width <= 0 || c->view_height <= 0 || c->width <= 0 || c->height <= 0)
        return true;
    struct job j = {
        .luma = *(struct texture **)a[0],
        .chroma = *(struct texture **)a[1],
        .luma_stride = *(int *)a[8],
        .chroma_stride = *(int *)a[9],
        .x_begin = *(int *)a[11],
        .y_begin = *(int *)a[12],
        .c = c,
    };
    j.x_end = least(c->width, (unsigned)j.x_begin + g->grid_x * g->block_x);
    j.y_end = least(c->height, (unsigned)j.y_begin + g->grid_y * g->block_y);
    if (j.x_begin < 0 || j.y_begin < 0 || j.x_end <= j.x_begin || j.y_end <= j.y_begin)
        return true;
    j.to_luma = dd_host(*(uint64_t *)a[4], (size_t)j.luma_stride * (size_t)(c->height - 1) + (size_t)c->width);
    j.to_chroma = dd_host(*(uint64_t *)a[5], (size_t)j.chroma_stride * (size_t)((c->height + 1) / 2 - 1) + (size_t)c->width);
    /* P010's kernel is the same text: it sees textures of 16 bits, which only the compiled one reads. */
    if (j.luma && j.luma->bytes != 1)
        return false;
    if (!j.luma || !j.chroma || !j.to_luma || !j.to_chroma || j.chroma->bytes != 1 || j.chroma->channels != 2) {
        *result = (CUresult)LAUNCH_FAILED;
        return true;
    }
    bool is_upright = c->direction < 1 || c->direction > 7;
    if (is_upright && !c->do_convert)
        upright(&j);
    else
        any_way(&j);
    return true;
}
