/* nvdouble-nvml: prints what a program that opens libnvidia-ml.so.1 by name is told, for the double's own tests. The structures are written here once
 * more, as NVIDIA documents them. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

struct session {
    unsigned id, pid, vgpu;
    int codec;
    unsigned width, height, fps, latency;
};
struct process {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

enum { ROOM = 64 };

static void *library;

static void *symbol(const char *name)
{
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "no %s\n", name);
        exit(1);
    }
    return found;
}

static void check(const char *what, int result)
{
    if (result) {
        printf("error %s %d\n", what, result);
        exit(0);
    }
}

int main(void)
{
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*init)(void) = symbol("nvmlInit_v2");
    int (*count)(unsigned *) = symbol("nvmlDeviceGetCount_v2");
    int (*handle)(unsigned, void **) = symbol("nvmlDeviceGetHandleByIndex_v2");
    int (*memory)(void *, unsigned long long *) = symbol("nvmlDeviceGetMemoryInfo");
    int (*stats)(void *, unsigned *, unsigned *, unsigned *) = symbol("nvmlDeviceGetEncoderStats");
    int (*load)(void *, unsigned *, unsigned *) = symbol("nvmlDeviceGetEncoderUtilization");
    int (*sessions)(void *, unsigned *, struct session *) = symbol("nvmlDeviceGetEncoderSessions");
    int (*processes)(void *, unsigned *, struct process *) = symbol("nvmlDeviceGetComputeRunningProcesses_v3");
    int (*cuda)(int *) = symbol("nvmlSystemGetCudaDriverVersion_v2");
    int version;
    unsigned devices, open, fps, latency, percent, period;
    check("init", init());
    check("cuda", cuda(&version));
    printf("cuda %d\n", version);
    check("count", count(&devices));
    for (unsigned d = 0; d < devices; d++) {
        void *device;
        unsigned long long bytes[3];
        int result = handle(d, &device);
        if (result) {
            printf("lost %u %d\n", d, result);
            continue;
        }
        check("memory", memory(device, bytes));
        check("stats", stats(device, &open, &fps, &latency));
        check("load", load(device, &percent, &period));
        printf("device %u total %llu used %llu sessions %u fps %u load %u\n", d, bytes[0], bytes[2], open, fps, percent);
        struct session list[ROOM];
        unsigned n = ROOM;
        check("sessions", sessions(device, &n, list));
        for (unsigned i = 0; i < n; i++)
            printf("session %u pid %u size %ux%u\n", d, list[i].pid, list[i].width, list[i].height);
        struct process all[ROOM];
        n = ROOM;
        check("processes", processes(device, &n, all));
        for (unsigned i = 0; i < n; i++)
            printf("process %u pid %u used %llu\n", d, all[i].pid, all[i].memory);
    }
    return 0;
}
