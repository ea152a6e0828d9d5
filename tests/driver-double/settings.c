/* Settings and faults: the file `faults` in NVDOUBLE_DIR, lines of key=value, read again when it changed. README.md has the table. */
#define _GNU_SOURCE
#include "state.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long a hanging call sleeps before it looks whether it may go on. */
#define HANG_STEP_US 5000

static const char *const known[] = {
    "lost", "devices", "cuda_version", "peer", "vram_mib", "vram_used_mib", "context_vram_mib", "kernel.mode", "nvenc.max_sessions",
    "nvenc.max_api", "nvenc.session_vram_mib", "nvenc.us_per_frame", "nvenc.corrupt", "nvenc.empty", "nvenc.legacy_presets",
    "nvdec.us_per_frame", "nvdec.max_width", "nvdec.max_height", "nvml.gpu", "nvml.memory", "nvml.encoder", "nvml.decoder",
    "nvml.temperature", "nvml.power_mw", "nvml.clock_video_mhz", "nvml.clock_video_max_mhz", "nvml.capacity_mb_per_s", "random.seed", "random.permille",
    "victim",
};
static const char *const per_device[] = { "lost.", "vram_mib.", "vram_used_mib.", "nvenc.us_per_frame.", "nvdec.us_per_frame.", "nvml.gpu.", "nvml.memory.", "nvml.encoder.", "nvml.decoder.", "nvml.temperature.", "nvenc.caps." };
static const char *const per_symbol[] = { "fail.", "delay.", "hang." };
static const char *const apis[] = { "cu", "nvrtc", "nvml", "nvEnc", "NvEnc" };

static pthread_mutex_t local_lock = PTHREAD_MUTEX_INITIALIZER;
static struct setting local[MAX_SETTINGS];
static int local_count;
static uint64_t local_generation;
static FILE *log_file;

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool is_known(const char *key)
{
    for (size_t i = 0; i < COUNT(known); i++)
        if (!strcmp(known[i], key))
            return true;
    for (size_t i = 0; i < COUNT(per_device); i++)
        if (begins(key, per_device[i])) {
            const char *number = key + strlen(per_device[i]);
            return *number && strspn(number, "0123456789") == strlen(number);
        }
    for (size_t i = 0; i < COUNT(per_symbol); i++)
        if (begins(key, per_symbol[i]))
            for (size_t a = 0; a < COUNT(apis); a++)
                if (begins(key + strlen(per_symbol[i]), apis[a]))
                    return true;
    return false;
}

/* ---- log ---- */

void dd_log(const char *format, ...)
{
    if (!log_file)
        return;
    va_list arguments;
    va_start(arguments, format);
    flockfile(log_file);
    fprintf(log_file, "[%d] ", getpid());
    vfprintf(log_file, format, arguments);
    fputc('\n', log_file);
    funlockfile(log_file);
    va_end(arguments);
}

/* Opened at load: a process in a sandbox opens nothing later. */
__attribute__((constructor)) static void open_log(void)
{
    const char *path = getenv("NVDOUBLE_LOG");
    if (path && *path && (log_file = fopen(path, "ae")))
        setvbuf(log_file, NULL, _IOLBF, 0);
}

/* ---- the file ---- */

static struct setting *find(struct setting *table, int count, const char *key)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(table[i].key, key))
            return &table[i];
    return NULL;
}

static long value_of(struct setting *table, int count, const char *key, long otherwise)
{
    struct setting *s = find(table, count, key);
    return s ? s->value : otherwise;
}

/* The settings of a text into `table`; how many. What is wrong with it goes to `complaint`. */
static int parse(char *text, struct setting *table, char *complaint, size_t room)
{
    int count = 0;
    *complaint = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        line += strspn(line, " \t\r");
        char *equals = strchr(line, '='), *end;
        if (!*line || *line == '#')
            continue;
        if (!equals) {
            snprintf(complaint, room, "a line without '=': %.60s", line);
            continue;
        }
        *equals = 0;
        long value = strtol(equals + 1, &end, 0);
        if (end == equals + 1 || end[strspn(end, " \t\r")])
            snprintf(complaint, room, "%.60s: not a whole number: %.60s", line, equals + 1);
        else if (!is_known(line) || strlen(line) >= KEY_LENGTH)
            snprintf(complaint, room, "no such setting: %.80s", line);
        else if (count == MAX_SETTINGS)
            snprintf(complaint, room, "more than %d settings", MAX_SETTINGS);
        else {
            snprintf(table[count].key, KEY_LENGTH, "%s", line);
            table[count].seen = 0;
            table[count++].value = value;
        }
    }
    return count;
}

static bool is_lost(struct setting *table, int count, int device)
{
    char key[KEY_LENGTH];
    snprintf(key, sizeof key, "lost.%d", device);
    return value_of(table, count, "lost", 0) || value_of(table, count, key, 0);
}

/* Puts the settings into the shared state; counts of rules that stay go on. With the lock held. */
static void adopt(struct setting *fresh, int count)
{
    struct state *s = dd_state();
    for (int d = 0; d < MAX_DEVICES; d++)
        if (is_lost(fresh, count, d) && !is_lost(s->settings, s->settings_count, d))
            s->lost_epoch[d]++;
    for (int i = 0; i < count; i++) {
        struct setting *old = find(s->settings, s->settings_count, fresh[i].key);
        if (old && old->value == fresh[i].value)
            fresh[i].seen = old->seen;
    }
    memcpy(s->settings, fresh, sizeof *fresh * (size_t)count);
    s->settings_count = count;
    s->generation++;
}

static bool same(const struct stamp *a, const struct stamp *b)
{
    return a->inode == b->inode && a->size == b->size && a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

const char *dd_load_faults(void)
{
    static char complaint[256];
    static struct stamp refused; /* by a sandbox: not tried again */
    struct state *s = dd_state();
    char path[600], *text = NULL;
    snprintf(path, sizeof path, "%s/faults", dd_folder());
    struct stat file;
    struct stamp stamp = { 0 };
    if (!stat(path, &file))
        stamp = (struct stamp){ (int64_t)file.st_ino, file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec };
    if (same(&stamp, &s->stamp) || (stamp.inode && same(&stamp, &refused)))
        return *s->complaint ? s->complaint : NULL;
    dd_lock();
    if (!same(&stamp, &s->stamp)) {
        struct setting *fresh = calloc(MAX_SETTINGS, sizeof *fresh);
        text = calloc(1, (size_t)stamp.size + 1);
        ssize_t length = 0;
        if (stamp.inode) {
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            length = fd < 0 ? -1 : read(fd, text, (size_t)stamp.size);
            if (fd >= 0)
                close(fd);
        }
        if (length < 0)
            refused = stamp;
        else {
            int count = parse(text, fresh, s->complaint, sizeof s->complaint);
            adopt(fresh, count);
            s->stamp = stamp;
        }
        free(text);
        free(fresh);
    }
    snprintf(complaint, sizeof complaint, "%s", s->complaint);
    dd_unlock();
    if (*complaint)
        dd_log("faults: %s", complaint);
    return *complaint ? complaint : NULL;
}

/* ---- reading settings ---- */

/* With local_lock held. */
static void refresh(void)
{
    struct state *s = dd_state();
    if (local_generation == s->generation)
        return;
    dd_lock();
    local_count = s->settings_count;
    memcpy(local, s->settings, sizeof *local * (size_t)local_count);
    local_generation = s->generation;
    dd_unlock();
}

long dd_setting(const char *key, long otherwise)
{
    pthread_mutex_lock(&local_lock);
    refresh();
    long value = value_of(local, local_count, key, otherwise);
    pthread_mutex_unlock(&local_lock);
    return value;
}

static bool any_setting(void)
{
    pthread_mutex_lock(&local_lock);
    refresh();
    bool any = local_count > 0;
    pthread_mutex_unlock(&local_lock);
    return any;
}

long dd_device_setting(const char *key, int device, long otherwise)
{
    char own[KEY_LENGTH];
    snprintf(own, sizeof own, "%s.%d", key, device);
    return dd_setting(own, dd_setting(key, otherwise));
}

bool dd_every(const char *key)
{
    if (dd_setting(key, 0) <= 0)
        return false;
    bool hit = false;
    dd_lock();
    struct state *s = dd_state();
    struct setting *found = find(s->settings, s->settings_count, key);
    if (found && found->value > 0)
        hit = ++found->seen % found->value == 0;
    dd_unlock();
    return hit;
}

/* ---- calls ---- */

static uint64_t hash(const char *text, uint64_t from)
{
    uint64_t h = from ^ UINT64_C(1469598103934665603);
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return h;
}

static struct symbol *symbol_of(const char *name)
{
    struct state *s = dd_state();
    uint64_t start = hash(name, 0);
    for (uint64_t i = 0; i < MAX_SYMBOLS; i++) {
        struct symbol *entry = &s->symbols[(start + i) & (MAX_SYMBOLS - 1)];
        if (!entry->ready) {
            dd_lock();
            if (!entry->ready) {
                snprintf(entry->name, sizeof entry->name, "%s", name);
                entry->ready = 1;
            }
            dd_unlock();
        }
        if (!strcmp(entry->name, name))
            return entry;
    }
    fprintf(stderr, "driver double: more than %d symbols\n", MAX_SYMBOLS);
    abort();
}

void dd_count_by(const char *name, long n)
{
    symbol_of(name)->calls += n;
}

void dd_count(const char *name)
{
    dd_count_by(name, 1);
}

/* fail.SYMBOL=CODE, with .after and .count: counted from when the rule was made, over all processes. */
static long ruled(const char *symbol)
{
    char rule[KEY_LENGTH + 16], after[KEY_LENGTH + 16], times[KEY_LENGTH + 16];
    snprintf(rule, sizeof rule, "fail.%s", symbol);
    if (!dd_setting(rule, 0))
        return 0;
    snprintf(after, sizeof after, "fail.%s.after", symbol);
    snprintf(times, sizeof times, "fail.%s.count", symbol);
    long code = 0;
    dd_lock();
    struct state *s = dd_state();
    struct setting *found = find(s->settings, s->settings_count, rule);
    if (found) {
        long number = ++found->seen, begin = value_of(s->settings, s->settings_count, after, 0);
        long count = value_of(s->settings, s->settings_count, times, -1);
        if (number > begin && (count < 0 || number <= begin + count))
            code = found->value;
    }
    dd_unlock();
    return code;
}

/* Calls that clean up are left alone: a failing one would be a leak that nobody can mend. */
static bool cleans_up(const char *symbol)
{
    static const char *const words[] = { "Destroy", "Free", "Unload", "Unmap", "Unlock", "Unregister", "Pop", "Release", "GetError", "Shutdown", "ErrorString" };
    for (size_t i = 0; i < COUNT(words); i++)
        if (strstr(symbol, words[i]))
            return true;
    return false;
}

/* The code that a library gives when something went wrong that has no name. */
static long general_failure(const char *symbol)
{
    if (begins(symbol, "nvEnc") || begins(symbol, "NvEnc"))
        return 20; /* NV_ENC_ERR_GENERIC */
    if (begins(symbol, "nvrtc"))
        return 11; /* NVRTC_ERROR_INTERNAL_ERROR */
    return UNKNOWN; /* the same number in NVML */
}

/* By seed, symbol and number of the call alone: the same calls meet the same faults. */
static long random_fault(const char *symbol, long number)
{
    long permille = dd_setting("random.permille", 0);
    if (permille <= 0 || cleans_up(symbol))
        return 0;
    uint64_t h = hash(symbol, (uint64_t)dd_setting("random.seed", 1) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)number);
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    return (long)(h % 1000) < permille ? general_failure(symbol) : 0;
}

int dd_enter(const char *symbol)
{
    dd_load_faults();
    long number = ++symbol_of(symbol)->calls;
    dd_log("%s", symbol);
    if (!any_setting())
        return 0;
    long victim = dd_setting("victim", 0);
    if (victim && victim != getpid())
        return 0;
    char key[KEY_LENGTH + 16];
    snprintf(key, sizeof key, "hang.%s", symbol);
    while (dd_setting(key, 0)) {
        dd_sleep_us(HANG_STEP_US);
        dd_load_faults();
    }
    snprintf(key, sizeof key, "delay.%s", symbol);
    long us = dd_setting(key, 0);
    if (us > 0)
        dd_sleep_us((uint64_t)us);
    long code = ruled(symbol);
    if (!code)
        code = random_fault(symbol, number);
    if (code)
        dd_log("%s: injected %ld at call %ld", symbol, code, number);
    return (int)code;
}

/* ---- from inside a process: nvdouble_set of mark.c ---- */

EXPORT void dd_set(const char *key, long value);
void dd_set(const char *key, long value)
{
    struct state *s = dd_state();
    struct setting *fresh = calloc(MAX_SETTINGS, sizeof *fresh);
    dd_lock();
    int count = s->settings_count;
    memcpy(fresh, s->settings, sizeof *fresh * (size_t)count);
    struct setting *found = find(fresh, count, key);
    if (!found && is_known(key) && count < MAX_SETTINGS) {
        found = &fresh[count++];
        snprintf(found->key, KEY_LENGTH, "%s", key);
    }
    if (found)
        found->value = value;
    adopt(fresh, count);
    dd_unlock();
    free(fresh);
}
