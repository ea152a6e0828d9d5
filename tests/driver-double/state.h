/* The file `state` in NVDOUBLE_DIR, mapped by every process that loads the double. */
#ifndef STATE_H
#define STATE_H

#include "double.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
    MAX_PROCESSES = 256, /* living at once */
    MAX_SESSIONS = 1024, /* open at once */
    MAX_SYMBOLS = 1024,  /* that were ever called; a power of two */
    MAX_SETTINGS = 128,
    KEY_LENGTH = 80,
};

struct process {
    _Atomic int32_t pid; /* 0: free */
    char name[32];
    _Atomic long gauges[GAUGES];
    _Atomic uint64_t vram[MAX_DEVICES];
};

struct session {
    _Atomic int32_t process; /* index + 1; 0: free */
    int32_t device;
    uint32_t id;
    int32_t width, height;
    uint64_t window_us; /* begin of the second that is being counted */
    uint32_t window_pictures;
    uint32_t fps; /* of the last whole second */
};

struct symbol {
    _Atomic uint32_t ready;
    char name[KEY_LENGTH];
    _Atomic long calls;
};

struct setting {
    char key[KEY_LENGTH];
    long value;
    long seen; /* calls, or uses, since it was made */
};

/* Which version of the file `faults` was read. */
struct stamp {
    int64_t inode, size, seconds, nanoseconds;
};

struct state {
    uint64_t magic;
    uint64_t size;
    pthread_mutex_t lock; /* robust: a process may die with it */
    _Atomic uint64_t generation;
    struct stamp stamp;
    int32_t settings_count;
    struct setting settings[MAX_SETTINGS];
    char complaint[256]; /* what was wrong with the file, "" for nothing */
    _Atomic uint32_t lost_epoch[MAX_DEVICES];
    uint64_t engine_free_us[ENGINES][MAX_DEVICES];
    _Atomic long totals[TOTALS];
    uint32_t next_session;
    struct process processes[MAX_PROCESSES];
    struct session sessions[MAX_SESSIONS];
    struct symbol symbols[MAX_SYMBOLS];
};

/* Maps the state; ends the process with a message when that cannot be done. */
struct state *dd_state(void);
EXPORT struct state *dd_state_open(const char *folder, bool as_process);
EXPORT void dd_lock(void);
EXPORT void dd_unlock(void);
/* Gives back what dead processes held. With the lock held. */
EXPORT void dd_reap(void);
/* Reads the file `faults` if it is another one than was read before; what is wrong with it, or NULL. */
EXPORT const char *dd_load_faults(void);
EXPORT const char *dd_folder(void);

extern EXPORT const char *const dd_gauge_names[GAUGES];
extern EXPORT const char *const dd_total_names[TOTALS];

#endif
