/* Mapping, clock, futexes and device locks. */
#define _GNU_SOURCE
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct rig_file *file;
static char directory[PATH_MAX];
static char problem[PATH_MAX + 256];
static bool private_locked; /* the private rig's only device */

static const char *private_rig(void)
{
    file = calloc(1, sizeof *file);
    if (!file)
        return "out of memory";
    file->magic = RIG_MAGIC;
    file->version = RIG_VERSION;
    file->size = sizeof *file;
    file->count = 1;
    struct rig_device *device = &file->devices[0];
    strcpy(device->serial, "SIM00001");
    strcpy(device->model, "SimCam");
    strcpy(device->tl_type, "Custom");
    device->width = 640;
    device->height = 480;
    device->powered = device->power_ups = device->linked = 1;
    device->temperature = 40000;
    device->powered_at = rig_now();
    directory[0] = '\0';
    return NULL;
}

static const char *map_rig(int fd)
{
    struct stat about;
    if (fstat(fd, &about) || (size_t)about.st_size < sizeof *file)
        return "is too short";
    void *memory = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return "can't be mapped";
    file = memory;
    if (file->magic == RIG_MAGIC && file->version == RIG_VERSION && file->size == sizeof *file &&
        file->count <= RIG_MAX_DEVICES)
        return NULL;
    munmap(file, sizeof *file);
    file = NULL;
    return "was made by another version";
}

static int open_rig_file(void)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/rig.bin", directory);
    return open(path, O_RDWR | O_CLOEXEC);
}

const char *rig_open(void)
{
    const char *named = getenv("INSPECTD_SIMCAM");
    if (!named || !*named)
        return private_rig();
    snprintf(directory, sizeof directory, "%s", named);
    int fd = open_rig_file();
    const char *what = fd < 0 ? strerror(errno) : map_rig(fd);
    if (fd >= 0)
        close(fd);
    if (!what)
        return NULL;
    snprintf(problem, sizeof problem,
             "%s/rig.bin (INSPECTD_SIMCAM) %s; make it with inspectd.simcam.rig.Rig", directory,
             what);
    return problem;
}

void rig_close(void)
{
    if (!file)
        return;
    if (*directory)
        munmap(file, sizeof *file);
    else
        free(file);
    file = NULL;
    private_locked = false;
}

struct rig_file *rig_file(void)
{
    return file;
}

const char *rig_directory(void)
{
    return directory;
}

uint64_t rig_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t rig_device_time(const struct rig_device *state, uint64_t now)
{
    uint64_t start = atomic_load(&state->powered_at);
    return now > start ? now - start : 0;
}

void rig_wait(struct rig_device *state, uint32_t seen, uint64_t deadline)
{
    struct timespec until = {(time_t)(deadline / NS_PER_S), (long)(deadline % NS_PER_S)};
    syscall(SYS_futex, &state->wake, FUTEX_WAIT_BITSET, seen, deadline == FOREVER ? NULL : &until,
            NULL, FUTEX_BITSET_MATCH_ANY);
}

void rig_wake(struct rig_device *state)
{
    atomic_fetch_add(&state->wake, 1);
    syscall(SYS_futex, &state->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool rig_take_fault(struct rig_device *state, enum rig_fault fault)
{
    if ((int32_t)(atomic_load(&state->asked[fault]) - atomic_load(&state->done[fault])) <= 0)
        return false;
    atomic_fetch_add(&state->done[fault], 1);
    return true;
}

/* One byte of rig.bin per device; the lock belongs to the open file and dies with the process. */
static struct flock range_of(unsigned index)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = index, .l_len = 1};
}

bool rig_lock(unsigned index, int *fd)
{
    struct rig_device *state = &file->devices[index];
    *fd = -1;
    if (*directory) {
        struct flock range = range_of(index);
        *fd = open_rig_file();
        if (*fd < 0)
            return false;
        if (fcntl(*fd, F_OFD_SETLK, &range)) {
            close(*fd);
            *fd = -1;
            return false;
        }
    } else if (private_locked) {
        return false;
    }
    private_locked = !*directory;
    atomic_store(&state->owner, (uint32_t)getpid());
    return true;
}

void rig_unlock(unsigned index, int *fd)
{
    atomic_store(&file->devices[index].owner, 0);
    private_locked = false;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

bool rig_locked(unsigned index)
{
    if (!*directory)
        return private_locked;
    struct flock range = range_of(index);
    int fd = open_rig_file();
    if (fd < 0)
        return true;
    bool locked = fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
    close(fd);
    return locked;
}
