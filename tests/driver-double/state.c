/* What all processes that load the double share: a mapped file. A process holds a lock on one byte of it for as long as it lives, so that the
 * kernel tells the others of its death whatever ended it, and a zombie does not count as alive. */
#define _GNU_SOURCE
#include "state.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x4e56444f55424c45)
/* Bytes far behind the file's end: locks need no bytes to exist. */
#define LOCK_BASE (INT64_C(1) << 40)

const char *const dd_gauge_names[GAUGES] = { "contexts", "encode_sessions", "decode_sessions", "textures", "modules", "streams", "host_buffers" };
const char *const dd_total_names[TOTALS] = { "encoded_pictures", "decoded_pictures", "processes_started" };

static struct state *state;
static struct process *self;
static int descriptor = -1;
static char folder[512];
static uint32_t epochs[MAX_DEVICES];
static bool has_devices;

static void die(const char *what)
{
    fprintf(stderr, "driver double: %s (%s): %s\n", what, folder, strerror(errno));
    abort();
}

const char *dd_folder(void)
{
    return folder;
}

void dd_lock(void)
{
    int result = pthread_mutex_lock(&state->lock);
    if (result == EOWNERDEAD)
        pthread_mutex_consistent(&state->lock);
    else if (result)
        die("the lock of the shared state");
}

void dd_unlock(void)
{
    pthread_mutex_unlock(&state->lock);
}

/* ---- opening ---- */

static void create(struct state *fresh)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&fresh->lock, &attributes);
    fresh->size = sizeof *fresh;
    fresh->magic = MAGIC;
}

static struct flock byte_lock(int index)
{
    return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_BASE + index, .l_len = 1 };
}

static void join(void)
{
    dd_lock();
    dd_reap();
    int index = 0;
    while (index < MAX_PROCESSES && state->processes[index].pid)
        index++;
    if (index == MAX_PROCESSES)
        die("too many processes");
    struct flock lock = byte_lock(index);
    if (fcntl(descriptor, F_OFD_SETLK, &lock))
        die("no lock for this process");
    self = &state->processes[index];
    memset(self, 0, sizeof *self);
    snprintf(self->name, sizeof self->name, "%s", program_invocation_short_name);
    self->pid = getpid();
    state->totals[PROCESSES_STARTED]++;
    dd_unlock();
}

struct state *dd_state_open(const char *where, bool as_process)
{
    if (state)
        return state;
    snprintf(folder, sizeof folder, "%s", where);
    char path[600];
    snprintf(path, sizeof path, "%s/state", folder);
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        die("cannot open the file `state`");
    /* For the making of it only. */
    if (flock(descriptor, LOCK_EX))
        die("cannot lock the file `state`");
    struct stat file;
    if (fstat(descriptor, &file))
        die("cannot look at the file `state`");
    bool fresh = file.st_size == 0;
    if (fresh && ftruncate(descriptor, sizeof(struct state)))
        die("cannot size the file `state`");
    if (!fresh && file.st_size != sizeof(struct state))
        die("the file `state` is of another version of the double");
    struct state *mapped = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED)
        die("cannot map the file `state`");
    if (fresh)
        create(mapped);
    flock(descriptor, LOCK_UN);
    if (mapped->magic != MAGIC || mapped->size != sizeof *mapped)
        die("the file `state` is not the double's");
    state = mapped;
    if (as_process)
        join();
    return state;
}

#ifndef NVDOUBLE_TOOL
/* A child without an exec shares the descriptor and so the lock; it gets a place of its own only if it uses the double, which none here does. */
__attribute__((constructor)) static void start(void)
{
    const char *where = getenv("NVDOUBLE_DIR");
    if (!where || !*where) {
        fputs("driver double: NVDOUBLE_DIR is not set: whoever loads the double must say where its state lies\n", stderr);
        abort();
    }
    dd_state_open(where, true);
    dd_load_faults();
}
#endif

struct state *dd_state(void)
{
    return state;
}

/* ---- processes ---- */

static bool alive(int index)
{
    if (&state->processes[index] == self)
        return true;
    struct flock lock = byte_lock(index);
    if (fcntl(descriptor, F_OFD_GETLK, &lock))
        return true;
    return lock.l_type != F_UNLCK;
}

void dd_reap(void)
{
    for (int i = 0; i < MAX_PROCESSES; i++) {
        if (!state->processes[i].pid || alive(i))
            continue;
        for (int s = 0; s < MAX_SESSIONS; s++)
            if (state->sessions[s].process == i + 1)
                state->sessions[s].process = 0;
        memset(&state->processes[i], 0, sizeof state->processes[i]);
    }
}

int dd_processes(struct dd_process_info *out, int room)
{
    int count = 0;
    dd_lock();
    dd_reap();
    for (int i = 0; i < MAX_PROCESSES && count < room; i++) {
        struct process *p = &state->processes[i];
        if (!p->pid)
            continue;
        struct dd_process_info *o = &out[count++];
        o->pid = p->pid;
        memcpy(o->name, p->name, sizeof o->name);
        for (int d = 0; d < MAX_DEVICES; d++)
            o->vram[d] = p->vram[d];
        for (int g = 0; g < GAUGES; g++)
            o->gauges[g] = p->gauges[g];
    }
    dd_unlock();
    return count;
}

void dd_gauge_add(enum gauge gauge, long change)
{
    self->gauges[gauge] += change;
}

void dd_total_add(enum total total, long change)
{
    state->totals[total] += change;
}

/* ---- devices ---- */

int dd_devices(void)
{
    long count = dd_setting("devices", 1);
    return count < 0 ? 0 : count > MAX_DEVICES ? MAX_DEVICES : (int)count;
}

bool dd_lost_now(int device)
{
    return dd_setting("lost", 0) || dd_device_setting("lost", device, 0);
}

void dd_begin_devices(void)
{
    if (has_devices)
        return;
    has_devices = true;
    for (int i = 0; i < MAX_DEVICES; i++)
        epochs[i] = state->lost_epoch[i];
}

bool dd_lost(int device)
{
    return dd_lost_now(device) || (has_devices && epochs[device] != state->lost_epoch[device]);
}

/* ---- device memory ---- */

#define MIB (UINT64_C(1) << 20)
/* What an A10G has for its users with error correction on. */
#define A10G_MIB 23028

static uint64_t setting_mib(const char *key, int device, long otherwise)
{
    return (uint64_t)dd_device_setting(key, device, otherwise) * MIB;
}

/* What all processes have taken. With the lock held. */
static uint64_t taken_by_all(int device)
{
    uint64_t sum = 0;
    for (int i = 0; i < MAX_PROCESSES; i++)
        if (state->processes[i].pid)
            sum += state->processes[i].vram[device];
    return sum;
}

bool dd_vram_take(int device, uint64_t size)
{
    /* Settings are read before the lock is taken: reading them may take it. */
    uint64_t total = setting_mib("vram_mib", device, A10G_MIB), others = setting_mib("vram_used_mib", device, 0);
    dd_lock();
    if (taken_by_all(device) + others + size > total)
        dd_reap();
    bool fits = taken_by_all(device) + others + size <= total;
    if (fits)
        self->vram[device] += size;
    dd_unlock();
    if (!fits)
        dd_log("device %d: no memory for %llu bytes", device, (unsigned long long)size);
    return fits;
}

void dd_vram_give(int device, uint64_t size)
{
    self->vram[device] -= size;
}

void dd_vram_info(int device, uint64_t *free_bytes, uint64_t *total_bytes)
{
    uint64_t total = setting_mib("vram_mib", device, A10G_MIB), taken = setting_mib("vram_used_mib", device, 0);
    dd_lock();
    dd_reap();
    taken += taken_by_all(device);
    dd_unlock();
    *total_bytes = total;
    *free_bytes = taken > total ? 0 : total - taken;
}

/* ---- encode sessions ---- */

int dd_session_open(int device)
{
    long allowed = dd_setting("nvenc.max_sessions", 0);
    dd_lock();
    dd_reap();
    int open = 0, found = -1;
    for (int i = 0; i < MAX_SESSIONS; i++) {
        if (state->sessions[i].process)
            open++;
        else if (found < 0)
            found = i;
    }
    if (allowed > 0 && open >= allowed)
        found = -1;
    if (found >= 0) {
        struct session *s = &state->sessions[found];
        memset(s, 0, sizeof *s);
        s->device = device;
        s->id = ++state->next_session;
        s->process = (int32_t)(self - state->processes) + 1;
    }
    dd_unlock();
    if (found < 0)
        dd_log("nvenc: %d sessions are open, %ld allowed", open, allowed);
    else
        dd_gauge_add(ENCODE_SESSIONS, 1);
    return found;
}

void dd_session_size(int session, int width, int height)
{
    state->sessions[session].width = width;
    state->sessions[session].height = height;
}

void dd_session_picture(int session)
{
    struct session *s = &state->sessions[session];
    uint64_t now = dd_now_us();
    if (now - s->window_us >= 1000000) {
        s->fps = now - s->window_us < 2000000 ? s->window_pictures : 0;
        s->window_us = now;
        s->window_pictures = 0;
    }
    s->window_pictures++;
    dd_total_add(ENCODED_PICTURES, 1);
}

void dd_session_close(int session)
{
    state->sessions[session].process = 0;
    dd_gauge_add(ENCODE_SESSIONS, -1);
}

int dd_sessions(int device, struct dd_session_info *out, int room)
{
    int count = 0;
    dd_lock();
    dd_reap();
    uint64_t now = dd_now_us();
    for (int i = 0; i < MAX_SESSIONS; i++) {
        struct session *s = &state->sessions[i];
        if (!s->process || (device >= 0 && s->device != device))
            continue;
        if (count < room) {
            /* A session that stands still has no rate, whatever its last second was; a young one has what it made until now. */
            uint64_t age = now - s->window_us;
            unsigned fps = age >= 2000000 ? 0 : s->fps ? s->fps : s->window_pictures;
            out[count] = (struct dd_session_info){ .pid = state->processes[s->process - 1].pid,
                                                   .device = s->device,
                                                   .id = s->id,
                                                   .width = (unsigned)s->width,
                                                   .height = (unsigned)s->height,
                                                   .fps = fps };
        }
        count++;
    }
    dd_unlock();
    return count;
}

/* ---- engines ---- */

uint64_t dd_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void dd_sleep_us(uint64_t us)
{
    struct timespec t = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 };
    while (nanosleep(&t, &t) && errno == EINTR) {
    }
}

uint64_t dd_engine(enum engine engine, int device, long us)
{
    uint64_t now = dd_now_us();
    if (us <= 0)
        return now;
    dd_lock();
    uint64_t *free_at = &state->engine_free_us[engine][device];
    if (*free_at < now)
        *free_at = now;
    *free_at += (uint64_t)us;
    uint64_t done = *free_at;
    dd_unlock();
    return done;
}
