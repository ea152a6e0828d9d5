/* The "device" memory of this process: two mappings of one memory file. The address that is given out is PROT_NONE, so that host code which follows
 * it faults as it would with a device; the double reads and writes by the other mapping. */
#define _GNU_SOURCE
#include "double.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Address space, not memory: more than any device that can be set. */
#define SPACE (UINT64_C(64) << 30)
/* What cuMemAlloc aligns to, and the pitch of textures (CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT). */
#define ALIGNMENT UINT64_C(512)
/* Freed blocks of this size go back to the system. */
#define PUNCH (UINT64_C(1) << 20)

struct block {
    uint64_t at, size;
    int device;
    const void *owner;
    struct block *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks; /* by address */
static uint64_t base;
static char *alias;
static int file = -1;

/* With the lock held. */
static void begin(void)
{
    if (file >= 0)
        return;
    file = memfd_create("nvdouble-device-memory", MFD_CLOEXEC);
    if (file >= 0 && !ftruncate(file, (off_t)SPACE)) {
        void *given = mmap(NULL, SPACE, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
        void *ours = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
        if (given != MAP_FAILED && ours != MAP_FAILED) {
            base = (uint64_t)given;
            alias = ours;
            return;
        }
    }
    perror("driver double: no address space for device memory");
    abort();
}

uint64_t dd_alloc(const void *owner, int device, size_t wanted)
{
    uint64_t size = (wanted + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (size < wanted || size >= SPACE || !dd_vram_take(device, size))
        return 0;
    pthread_mutex_lock(&lock);
    begin();
    uint64_t at = base;
    struct block **link = &blocks;
    while (*link && at + size > (*link)->at) {
        at = (*link)->at + (*link)->size;
        link = &(*link)->next;
    }
    if (at + size > base + SPACE)
        at = 0;
    else {
        struct block *fresh = malloc(sizeof *fresh);
        *fresh = (struct block){ at, size, device, owner, *link };
        *link = fresh;
    }
    pthread_mutex_unlock(&lock);
    if (!at)
        dd_vram_give(device, size);
    return at;
}

/* With the lock held. */
static void release(struct block **link)
{
    struct block *gone = *link;
    *link = gone->next;
    dd_vram_give(gone->device, gone->size);
    if (gone->size >= PUNCH)
        fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(gone->at - base), (off_t)gone->size);
    free(gone);
}

bool dd_free(uint64_t pointer)
{
    bool found = false;
    pthread_mutex_lock(&lock);
    for (struct block **link = &blocks; *link && !found; link = &(*link)->next)
        if ((*link)->at == pointer) {
            release(link);
            found = true;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!found)
        dd_log("memory: %#llx is freed, but nothing begins there", (unsigned long long)pointer);
    return found;
}

void dd_free_all_of(const void *owner)
{
    int count = 0;
    pthread_mutex_lock(&lock);
    for (struct block **link = &blocks; *link;)
        if ((*link)->owner == owner) {
            release(link);
            count++;
        } else
            link = &(*link)->next;
    pthread_mutex_unlock(&lock);
    if (count)
        dd_log("memory: %d allocations ended with their context", count);
}

void *dd_host(uint64_t pointer, size_t size)
{
    void *found = NULL;
    pthread_mutex_lock(&lock);
    for (struct block *b = blocks; b && b->at <= pointer; b = b->next)
        if (pointer < b->at + b->size && size <= b->at + b->size - pointer) {
            found = alias + (pointer - base);
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!found)
        dd_log("memory: %zu bytes at %#llx do not lie in one allocation", size, (unsigned long long)pointer);
    return found;
}

bool dd_is_device(uint64_t pointer)
{
    return base && pointer >= base && pointer < base + SPACE;
}

int64_t dd_delta(void)
{
    pthread_mutex_lock(&lock);
    begin();
    pthread_mutex_unlock(&lock);
    return (int64_t)((uint64_t)alias - base);
}
