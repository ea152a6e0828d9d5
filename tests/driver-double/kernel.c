/* Kernels from source, in two ways.
 *
 * Native: GStreamer 1.26's converter from NV12 to NV12 is recognised and run by kernel_native.c.
 * Compiled: anything else is built by the host's C++ compiler behind kernel_prelude.cc, loaded, and called once for every thread of the grid. So
 * GStreamer's own code runs, and mistakes of format, border or colour matrix show. It takes about a second for a new kernel and is kept in
 * NVDOUBLE_CACHE by hash. A process in a sandbox cannot start a compiler: there only kernels run that are native or in the cache already.
 *
 * The setting kernel.mode: 0 both, 1 native only, 2 compiled only. */
#define _GNU_SOURCE
#include "kernel.h"
#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODE_BOTH, MODE_NATIVE, MODE_COMPILED, MAX_FUNCTIONS = 8, MAX_NAME = 64 };

typedef void launcher(const unsigned *grid, void **arguments, long long delta);

struct function {
    struct module *module;
    char name[MAX_NAME];
    bool native;
};

struct module {
    char *source;
    void *object; /* of the compiled one, when it was needed */
    pthread_mutex_t lock;
    struct function functions[MAX_FUNCTIONS];
    int count;
};

/* kernel_prelude.cc, put in by kernel_prelude.S */
extern const char dd_prelude[] __attribute__((visibility("hidden")));

/* ---- compiling ---- */

static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return h;
}

static bool write_source(const struct module *m, const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    fputs(dd_prelude, file);
    fputs(m->source, file);
    for (int i = 0; i < m->count; i++)
        fprintf(file,
                "\nextern \"C\" __attribute__((visibility(\"default\"))) void nvdouble_run_%s(const unsigned *grid, void **arguments, long long delta)"
                "\n{ nvdouble_launch(%s, grid, arguments, delta); }\n",
                m->functions[i].name, m->functions[i].name);
    return !fclose(file);
}

/* -ffp-contract=off: the native way must come to the same bits. */
#define COMPILE "c++ -w -std=c++17 -O2 -ffp-contract=off -fno-strict-aliasing -fvisibility=hidden -shared -fPIC -o '%s' '%s' 2>'%s.log' && mv '%s' '%s'"

static bool build(const struct module *m, const char *folder, const char *object)
{
    char source[700], fresh[704], command[4000];
    snprintf(source, sizeof source, "%s/kernel-%d-%p.cc", folder, getpid(), (const void *)m);
    snprintf(fresh, sizeof fresh, "%s.so", source);
    if (!write_source(m, source))
        return false;
    snprintf(command, sizeof command, COMPILE, fresh, source, source, fresh, object);
    int result = system(command);
    dd_log("kernel: %s: the compiler said %d", object, result);
    if (!result) {
        char log[720];
        snprintf(log, sizeof log, "%s.log", source);
        unlink(source);
        unlink(log);
    }
    return !result;
}

/* With the module's lock held. */
static bool compile(struct module *m)
{
    if (m->object)
        return true;
    const char *folder = getenv("NVDOUBLE_CACHE");
    if (!folder || !*folder)
        folder = getenv("NVDOUBLE_DIR");
    char object[640];
    snprintf(object, sizeof object, "%s/kernel-%016llx.so", folder, (unsigned long long)hash(hash(UINT64_C(1469598103934665603), dd_prelude), m->source));
    struct stat there;
    if (stat(object, &there) && !build(m, folder, object))
        return false;
    m->object = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    if (!m->object)
        dd_log("kernel: %s", dlerror());
    return m->object != NULL;
}

/* ---- modules ---- */

/* Every __global__ function of the source. */
static void find_functions(struct module *m)
{
    static const char word[] = "__global__ void";
    const char *at = m->source;
    while (m->count < MAX_FUNCTIONS && (at = strstr(at, word))) {
        at += strlen(word);
        at += strspn(at, " \t\n");
        size_t length = 0;
        while (isalnum((unsigned char)at[length]) || at[length] == '_')
            length++;
        if (!length || length >= MAX_NAME)
            continue;
        struct function *f = &m->functions[m->count++];
        f->module = m;
        snprintf(f->name, sizeof f->name, "%.*s", (int)length, at);
    }
}

struct module *dd_module_load(const char *image)
{
    if (strncmp(image, KERNEL_MARK, strlen(KERNEL_MARK))) {
        dd_log("kernel: an image that did not come from our NVRTC");
        return NULL;
    }
    struct module *m = calloc(1, sizeof *m);
    m->source = strdup(image);
    pthread_mutex_init(&m->lock, NULL);
    find_functions(m);
    long mode = dd_setting("kernel.mode", MODE_BOTH);
    bool native = mode != MODE_COMPILED && m->count == 1 && dd_native_knows(m->source);
    if (native)
        m->functions[0].native = true;
    else if (mode == MODE_NATIVE || !compile(m)) {
        dd_module_unload(m);
        return NULL;
    }
    dd_log("kernel: loaded, %s", native ? "native" : "compiled");
    return m;
}

void dd_module_unload(struct module *m)
{
    if (m->object)
        dlclose(m->object);
    free(m->source);
    free(m);
}

struct function *dd_module_function(struct module *m, const char *name)
{
    for (int i = 0; i < m->count; i++)
        if (!strcmp(m->functions[i].name, name))
            return &m->functions[i];
    return NULL;
}

CUresult dd_function_run(struct function *f, const struct grid *grid, void **arguments)
{
    CUresult result;
    if (f->native && dd_native_run(grid, arguments, &result)) {
        dd_count("kernel.native");
        return result;
    }
    pthread_mutex_lock(&f->module->lock);
    bool there = compile(f->module);
    pthread_mutex_unlock(&f->module->lock);
    if (!there)
        return (CUresult)LAUNCH_FAILED;
    char name[MAX_NAME + 16];
    snprintf(name, sizeof name, "nvdouble_run_%s", f->name);
    launcher *run = (launcher *)dlsym(f->module->object, name);
    if (!run)
        return (CUresult)NOT_FOUND;
    unsigned numbers[6] = { grid->grid_x, grid->grid_y, grid->grid_z, grid->block_x, grid->block_y, grid->block_z };
    run(numbers, arguments, dd_delta());
    dd_count("kernel.compiled");
    return (CUresult)OK;
}
