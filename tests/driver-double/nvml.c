/* libnvidia-ml: what a worker's monitoring reads. Sessions, memory and processes are those of all processes that use the double; loads come from the
 * pictures that the sessions encode, or from settings. */
#include "double.h"
#include <stdio.h>
#include <string.h>

enum {
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_GPU_IS_LOST = 15,
    NVML_UNKNOWN = 999,
};
enum { MAX_SESSIONS_TOLD = 1024, MAX_PROCESSES_TOLD = 256 };
/* H.264 at P1 on an A10G, from the application note scaled to its clock: 651 pictures of 8160 macroblocks a second. */
#define MACROBLOCKS_PER_SECOND 5312000
/* Microseconds over which the driver says it measured. */
#define SAMPLING_PERIOD 167000

typedef struct handle {
    int index;
} *device_t;

static struct handle handles[MAX_DEVICES];

#define NVML_ENTER(symbol)             \
    do {                               \
        int fault_ = dd_enter(symbol); \
        if (fault_)                    \
            return fault_;             \
    } while (0)

#define NVML_ENTER_DEVICE(symbol)         \
    do {                                  \
        NVML_ENTER(symbol);               \
        if (!d)                           \
            return NVML_INVALID_ARGUMENT; \
        if (dd_lost_now(d->index))        \
            return NVML_GPU_IS_LOST;      \
    } while (0)

/* ---- library and driver ---- */

EXPORT int nvmlInit_v2(void)
{
    NVML_ENTER("nvmlInit_v2");
    for (int i = 0; i < MAX_DEVICES; i++)
        handles[i].index = i;
    return dd_devices() < 1 ? NVML_DRIVER_NOT_LOADED : 0;
}

EXPORT int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return nvmlInit_v2();
}

EXPORT int nvmlShutdown(void)
{
    NVML_ENTER("nvmlShutdown");
    return 0;
}

EXPORT const char *nvmlErrorString(int error)
{
    switch (error) {
    case 0:
        return "Success";
    case NVML_UNINITIALIZED:
        return "Uninitialized";
    case NVML_INVALID_ARGUMENT:
        return "Invalid Argument";
    case NVML_NOT_SUPPORTED:
        return "Not Supported";
    case NVML_INSUFFICIENT_SIZE:
        return "Insufficient Size";
    case NVML_DRIVER_NOT_LOADED:
        return "Driver Not Loaded";
    case NVML_GPU_IS_LOST:
        return "GPU is lost";
    default:
        return "Unknown Error";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned room)
{
    NVML_ENTER("nvmlSystemGetDriverVersion");
    snprintf(text, room, "550.163.01");
    return 0;
}

EXPORT int nvmlSystemGetNVMLVersion(char *text, unsigned room)
{
    NVML_ENTER("nvmlSystemGetNVMLVersion");
    snprintf(text, room, "12.550.163.01");
    return 0;
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    NVML_ENTER("nvmlSystemGetCudaDriverVersion_v2");
    *version = (int)dd_setting("cuda_version", 12040);
    return 0;
}

EXPORT int nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* ---- devices ---- */

EXPORT int nvmlDeviceGetCount_v2(unsigned *count)
{
    NVML_ENTER("nvmlDeviceGetCount_v2");
    *count = (unsigned)dd_devices();
    return 0;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *d)
{
    NVML_ENTER("nvmlDeviceGetHandleByIndex_v2");
    if (index >= (unsigned)dd_devices())
        return NVML_INVALID_ARGUMENT;
    if (dd_lost_now((int)index))
        return NVML_GPU_IS_LOST;
    *d = &handles[index];
    return 0;
}

EXPORT int nvmlDeviceGetName(device_t d, char *text, unsigned room)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetName");
    snprintf(text, room, "NVIDIA A10G");
    return 0;
}

EXPORT int nvmlDeviceGetUUID(device_t d, char *text, unsigned room)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetUUID");
    snprintf(text, room, "GPU-a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1%02x", d->index);
    return 0;
}

EXPORT int nvmlDeviceGetIndex(device_t d, unsigned *index)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetIndex");
    *index = (unsigned)d->index;
    return 0;
}

EXPORT int nvmlDeviceGetMinorNumber(device_t d, unsigned *number)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetMinorNumber");
    *number = (unsigned)d->index;
    return 0;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(device_t d, int *major, int *minor)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetCudaComputeCapability");
    *major = 8;
    *minor = 6;
    return 0;
}

struct pci_info {
    char legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char id[32];
};

EXPORT int nvmlDeviceGetPciInfo_v3(device_t d, struct pci_info *info)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetPciInfo_v3");
    memset(info, 0, sizeof *info);
    info->device = 0x1eu + (unsigned)d->index;
    info->pci_device_id = 0x223710de;
    snprintf(info->legacy, sizeof info->legacy, "0000:00:%02X.0", info->device);
    snprintf(info->id, sizeof info->id, "00000000:00:%02X.0", info->device);
    return 0;
}

/* ---- memory ---- */

struct memory {
    unsigned long long total, free, used;
};
struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

EXPORT int nvmlDeviceGetMemoryInfo(device_t d, struct memory *out)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetMemoryInfo");
    uint64_t left, total;
    dd_vram_info(d->index, &left, &total);
    *out = (struct memory){ total, left, total - left };
    return 0;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(device_t d, struct memory_v2 *out)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetMemoryInfo_v2");
    uint64_t left, total;
    dd_vram_info(d->index, &left, &total);
    *out = (struct memory_v2){ out->version, total, 0, left, total - left };
    return 0;
}

struct process_info {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(device_t d, unsigned *count, struct process_info *out)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetComputeRunningProcesses");
    static __thread struct dd_process_info all[MAX_PROCESSES_TOLD];
    int living = dd_processes(all, MAX_PROCESSES_TOLD);
    unsigned found = 0, room = *count;
    for (int i = 0; i < living; i++) {
        if (!all[i].vram[d->index] && !all[i].gauges[CONTEXTS])
            continue;
        if (out && found < room)
            out[found] = (struct process_info){ (unsigned)all[i].pid, all[i].vram[d->index], ~0u, ~0u };
        found++;
    }
    *count = found;
    return found > room ? NVML_INSUFFICIENT_SIZE : 0;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(device_t d, unsigned *count, struct process_info *out)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(d, count, out);
}

/* ---- load ---- */

/* Percent of what the encoder could do, by the sessions' pictures; and these pictures. */
static unsigned load(int device, unsigned *sessions, unsigned *fps)
{
    static __thread struct dd_session_info all[MAX_SESSIONS_TOLD];
    int count = dd_sessions(device, all, MAX_SESSIONS_TOLD);
    uint64_t macroblocks = 0;
    *fps = 0;
    for (int i = 0; i < count && i < MAX_SESSIONS_TOLD; i++) {
        macroblocks += (uint64_t)((all[i].width + 15) / 16) * ((all[i].height + 15) / 16) * all[i].fps;
        *fps += all[i].fps;
    }
    *sessions = (unsigned)count;
    uint64_t percent = macroblocks * 100 / (uint64_t)dd_setting("nvml.capacity_mb_per_s", MACROBLOCKS_PER_SECOND);
    return percent > 100 ? 100 : (unsigned)percent;
}

struct utilization {
    unsigned gpu, memory;
};

EXPORT int nvmlDeviceGetUtilizationRates(device_t d, struct utilization *out)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetUtilizationRates");
    out->gpu = (unsigned)dd_device_setting("nvml.gpu", d->index, 0);
    out->memory = (unsigned)dd_device_setting("nvml.memory", d->index, 0);
    return 0;
}

EXPORT int nvmlDeviceGetEncoderUtilization(device_t d, unsigned *percent, unsigned *period)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetEncoderUtilization");
    unsigned sessions, fps, derived = load(d->index, &sessions, &fps);
    *percent = (unsigned)dd_device_setting("nvml.encoder", d->index, derived);
    *period = SAMPLING_PERIOD;
    return 0;
}

EXPORT int nvmlDeviceGetDecoderUtilization(device_t d, unsigned *percent, unsigned *period)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetDecoderUtilization");
    *percent = (unsigned)dd_device_setting("nvml.decoder", d->index, 0);
    *period = SAMPLING_PERIOD;
    return 0;
}

/* On bare metal it is always 100. */
EXPORT int nvmlDeviceGetEncoderCapacity(device_t d, int type, unsigned *percent)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetEncoderCapacity");
    (void)type;
    *percent = 100;
    return 0;
}

EXPORT int nvmlDeviceGetEncoderStats(device_t d, unsigned *sessions, unsigned *fps, unsigned *latency)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetEncoderStats");
    unsigned sum;
    load(d->index, sessions, &sum);
    *fps = *sessions ? sum / *sessions : 0;
    *latency = sum ? 1000000 / sum : 0;
    return 0;
}

struct encoder_session {
    unsigned id, pid, vgpu;
    int codec;
    unsigned width, height, fps, latency;
};

EXPORT int nvmlDeviceGetEncoderSessions(device_t d, unsigned *count, struct encoder_session *out)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetEncoderSessions");
    static __thread struct dd_session_info all[MAX_SESSIONS_TOLD];
    unsigned found = (unsigned)dd_sessions(d->index, all, MAX_SESSIONS_TOLD), room = *count;
    *count = found;
    if (room == 0)
        return 0;
    if (room < found || !out)
        return NVML_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < found; i++)
        out[i] = (struct encoder_session){ all[i].id, (unsigned)all[i].pid, 0, 0, all[i].width, all[i].height, all[i].fps, 0 };
    return 0;
}

/* ---- clocks, heat ---- */

enum { CLOCK_GRAPHICS, CLOCK_SM, CLOCK_MEMORY, CLOCK_VIDEO };

/* The most that an A10G has. */
static unsigned clock_of(int type)
{
    return type == CLOCK_MEMORY ? 6251 : type == CLOCK_VIDEO ? 1500 : 1710;
}

EXPORT int nvmlDeviceGetMaxClockInfo(device_t d, int type, unsigned *mhz)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetMaxClockInfo");
    *mhz = type == CLOCK_VIDEO ? (unsigned)dd_setting("nvml.clock_video_max_mhz", 1500) : clock_of(type);
    return 0;
}

EXPORT int nvmlDeviceGetClockInfo(device_t d, int type, unsigned *mhz)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetClockInfo");
    *mhz = type == CLOCK_VIDEO ? (unsigned)dd_setting("nvml.clock_video_mhz", 1500) : clock_of(type);
    return 0;
}

EXPORT int nvmlDeviceGetTemperature(device_t d, int sensor, unsigned *celsius)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetTemperature");
    (void)sensor;
    *celsius = (unsigned)dd_device_setting("nvml.temperature", d->index, 45);
    return 0;
}

EXPORT int nvmlDeviceGetPowerUsage(device_t d, unsigned *milliwatts)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetPowerUsage");
    *milliwatts = (unsigned)dd_setting("nvml.power_mw", 60000);
    return 0;
}

EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(device_t d, unsigned long long *reasons)
{
    NVML_ENTER_DEVICE("nvmlDeviceGetCurrentClocksThrottleReasons");
    *reasons = 0;
    return 0;
}
