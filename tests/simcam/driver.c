/* A host without Python, to run the producer under a sanitizer: `driver PRODUCER RIG`.
 *
 * It streams from one thread while another one flushes, kills the event, and takes the camera's
 * power away; then it starts over. It maps the rig by itself, as the Python side does.
 */
#define _GNU_SOURCE
#include "camera_features.h"
#include "gentl.h"
#include "rig_layout.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUFFERS 6
#define ROUNDS 4

static void *library;
static struct rig_device *camera;
static DS_HANDLE stream;
static EVENT_HANDLE event;
static _Atomic int fetched;
static _Atomic uint64_t timeout_ms;

#define CALL(name, ...) ((__typeof__(&name))dlsym(library, #name))(__VA_ARGS__)
#define CHECK(wanted, name, ...)                                                        \
    do {                                                                                \
        GC_ERROR got = CALL(name, __VA_ARGS__);                                         \
        if (got != (wanted)) {                                                          \
            fprintf(stderr, "line %d: %s gave %d, not %d\n", __LINE__, #name, got, wanted); \
            exit(2);                                                                    \
        }                                                                               \
    } while (0)
#define MUST(name, ...) CHECK(GC_ERR_SUCCESS, name, __VA_ARGS__)

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void change(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    atomic_fetch_add(&camera->wake, 1);
    syscall(SYS_futex, &camera->wake, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static void map_rig(const char *directory)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/rig.bin", directory);
    int fd = open(path, O_RDWR);
    struct rig_file *file =
        mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    camera = &file->devices[0];
}

static void write_register(PORT_HANDLE port, unsigned reg, uint64_t value)
{
    size_t size = sizeof value;
    MUST(GCWritePort, port, reg * 8, &value, &size);
}

/* Fetches until the event is killed; the last wait has no end of its own. */
static void *consume(void *unused)
{
    EVENT_NEW_BUFFER_DATA data;
    for (;;) {
        size_t size = sizeof data;
        GC_ERROR error = CALL(EventGetData, event, &data, &size, atomic_load(&timeout_ms));
        if (error == GC_ERR_ABORT)
            return unused;
        if (error == GC_ERR_TIMEOUT)
            continue;
        bool8_t incomplete;
        size = sizeof incomplete;
        CALL(DSGetBufferInfo, stream, data.buffer, BUFFER_INFO_IS_INCOMPLETE, NULL, &incomplete,
             &size);
        atomic_fetch_add(&fetched, 1);
        CALL(DSQueueBuffer, stream, data.buffer);
    }
}

static void await_frames(int count)
{
    for (int before = atomic_load(&fetched), i = 0; atomic_load(&fetched) < before + count; i++) {
        if (i > 5000) {
            fprintf(stderr, "no frames came\n");
            exit(3);
        }
        usleep(1000);
    }
}

static DEV_HANDLE open_camera(IF_HANDLE interface, PORT_HANDLE *port)
{
    DEV_HANDLE device;
    char id[128];
    size_t size = sizeof id;
    bool8_t changed;
    MUST(IFUpdateDeviceList, interface, &changed, 100);
    MUST(IFGetDeviceID, interface, 0, id, &size);
    MUST(IFOpenDevice, interface, id, DEVICE_ACCESS_EXCLUSIVE, &device);
    CHECK(GC_ERR_RESOURCE_IN_USE, IFOpenDevice, interface, id, DEVICE_ACCESS_EXCLUSIVE, port);
    MUST(DevGetPort, device, port);
    return device;
}

static void describe(PORT_HANDLE port)
{
    static char text[1 << 18];
    size_t size = sizeof text;
    MUST(GCGetPortURL, port, text, &size);
    unsigned long length = strtoul(strrchr(text, ';') + 1, NULL, 16);
    size = length;
    MUST(GCReadPort, port, ADDRESS_XML, text, &size);
}

static void round_of(IF_HANDLE interface, int round)
{
    BUFFER_HANDLE buffers[BUFFERS];
    PORT_HANDLE port;
    pthread_t consumer;
    uint64_t value;
    size_t size = sizeof value;
    static const uint32_t formats[] = {MONO8, MONO12P, BAYER_RG8, RGB8};
    DEV_HANDLE device = open_camera(interface, &port);
    describe(port);
    double rate = 1000.0, exposure = 10.0;
    write_register(port, REG_PIXEL_FORMAT, formats[round % 4]);
    write_register(port, REG_CHUNK_MODE, 1);
    write_register(port, REG_CHUNK_ENABLE, 1);
    write_register(port, REG_FRAME_RATE, bits_of(rate));
    write_register(port, REG_EXPOSURE_TIME, bits_of(exposure));
    MUST(DevOpenDataStream, device, "stream0", &stream);
    write_register(stream, STREAM_MODE, (uint64_t)(round % 3));
    MUST(GCRegisterEvent, stream, EVENT_NEW_BUFFER, &event);
    CHECK(GC_ERR_NOT_IMPLEMENTED, GCRegisterEvent, stream, 0, &event);
    size_t payload;
    size = sizeof payload;
    MUST(DSGetInfo, stream, STREAM_INFO_PAYLOAD_SIZE, NULL, &payload, &size);
    for (int i = 0; i < BUFFERS; i++) {
        MUST(DSAllocAndAnnounceBuffer, stream, payload, NULL, &buffers[i]);
        MUST(DSQueueBuffer, stream, buffers[i]);
    }
    MUST(DSStartAcquisition, stream, ACQ_START_FLAGS_DEFAULT, GENTL_INFINITE);
    write_register(port, REG_ACQUISITION_START, 1);
    atomic_store(&timeout_ms, 20);
    pthread_create(&consumer, NULL, consume, NULL);
    await_frames(30);
    atomic_store(&timeout_ms, GENTL_INFINITE);
    for (int i = 0; i < 5; i++) {
        MUST(DSFlushQueue, stream, i % 2 ? ACQ_QUEUE_ALL_TO_INPUT : ACQ_QUEUE_OUTPUT_DISCARD);
        MUST(DSFlushQueue, stream, ACQ_QUEUE_UNQUEUED_TO_INPUT);
        usleep(2000);
    }
    change(&camera->asked[FAULT_INCOMPLETE], atomic_load(&camera->asked[FAULT_INCOMPLETE]) + 3);
    change(&camera->asked[FAULT_WRONG_SIZE], atomic_load(&camera->asked[FAULT_WRONG_SIZE]) + 3);
    write_register(port, REG_TRIGGER_SOURCE, SOURCE_LINE0);
    write_register(port, REG_TRIGGER_MODE, 1);
    change(&camera->line_edges, atomic_load(&camera->line_edges) + 20);
    usleep(20000);
    write_register(port, REG_TRIGGER_MODE, 0);
    await_frames(5);
    if (round % 2) {
        change(&camera->powered, 0);
        size = sizeof value;
        CHECK(GC_ERR_IO, GCReadPort, port, 0, &value, &size);
        change(&camera->power_ups, atomic_load(&camera->power_ups) + 1);
        change(&camera->powered, 1);
        CHECK(GC_ERR_IO, GCReadPort, port, 0, &value, &size);
    } else {
        write_register(port, REG_ACQUISITION_STOP, 1);
    }
    MUST(EventKill, event);
    pthread_join(consumer, NULL);
    MUST(DSStopAcquisition, stream, ACQ_STOP_FLAGS_KILL);
    MUST(DSFlushQueue, stream, ACQ_QUEUE_ALL_DISCARD);
    for (int i = 0; i < BUFFERS; i++)
        MUST(DSRevokeBuffer, stream, buffers[i], NULL, NULL);
    CHECK(GC_ERR_INVALID_HANDLE, DSQueueBuffer, stream, buffers[0]);
    MUST(GCUnregisterEvent, stream, EVENT_NEW_BUFFER);
    MUST(DSClose, stream);
    CHECK(GC_ERR_INVALID_HANDLE, DSClose, stream);
    MUST(DevClose, device);
    CHECK(GC_ERR_INVALID_HANDLE, DevClose, device);
}

int main(int argc, char **argv)
{
    TL_HANDLE system;
    IF_HANDLE interface;
    if (argc != 3)
        return 1;
    map_rig(argv[2]);
    for (int round = 0; round < ROUNDS; round++) {
        library = dlopen(argv[1], RTLD_NOW);
        if (!library) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        MUST(GCInitLib);
        CHECK(GC_ERR_RESOURCE_IN_USE, GCInitLib);
        MUST(TLOpen, &system);
        MUST(TLOpenInterface, system, "inspectd.simcam.0", &interface);
        round_of(interface, round);
        MUST(TLClose, system);
        MUST(GCCloseLib);
        CHECK(GC_ERR_NOT_INITIALIZED, GCCloseLib);
        dlclose(library);
    }
    printf("%d frames\n", atomic_load(&fetched));
    return 0;
}
