/* The modules of the producer: one system, one interface, a device each, one stream per device.
 *
 * They are static, and a handle is the address of one of them, so that a stale handle is told by
 * comparing addresses and is never followed.
 *
 * Locks: `device.lock` guards the registers and what belongs to the acquisition, `stream.lock` the
 * buffers. A thread that needs both takes the device's first. The state that other processes see
 * (`rig_device`) consists of atomics, but for the registers.
 */
#ifndef INSPECTD_MODULE_H
#define INSPECTD_MODULE_H

#include "camera_features.h"
#include "gentl.h"
#include "pictures.h"
#include "rig.h"

#include <pthread.h>

#define MAX_BUFFERS 256
#define TL_ID "inspectd.simcam"
#define IF_ID "inspectd.simcam.0"
#define DEVICE_ID_PREFIX "simcam:"
#define VENDOR "inspectd"
#define TL_TYPE "Custom"
#define PRODUCER_VERSION "1.0"
#define MIN_BUFFERS 1

struct device;

/* A port's own way to read and write its registers. Returns a GC_ERROR. */
struct port {
    bool open;
    const char *name;   /* of the port's node in the description */
    const char *module; /* PORT_INFO_MODULE */
    const struct feature *rows;
    size_t row_count;
    char *xml; /* written when first asked for */
    size_t xml_size;
    struct device *device; /* NULL for the system and the interface */
    bool remote;           /* the camera's own port: fails when it can't be reached */
    GC_ERROR (*read)(struct port *port, uint64_t address, void *out, size_t size);
    GC_ERROR (*write)(struct port *port, uint64_t address, const void *in, size_t size);
};

enum buffer_place { FREE_SLOT, IDLE, INPUT, FILLING, OUTPUT, WITH_HOST };

/* What came with a frame. */
struct frame_info {
    uint64_t frame_id;
    uint64_t timestamp; /* device's time, nanoseconds */
    uint32_t width, height, offset_x, offset_y;
    uint32_t pixel_format;
    size_t picture_size; /* bytes */
    size_t size_filled;  /* bytes */
    bool incomplete, larger_than_buffer, chunks;
    uint32_t chunk_count;
    SINGLE_CHUNK_DATA chunk[CHUNK_KINDS + 1];
};

struct buffer {
    enum buffer_place place;
    void *memory;
    size_t size;
    bool own_memory;
    bool new_data;
    void *user;
    uint64_t order; /* when it came to its queue */
    struct frame_info frame;
};

struct event {
    bool registered, killed;
    uint64_t fired;
    unsigned waiting; /* threads in EventGetData */
};

struct stream {
    struct port port;
    struct device *device;
    bool open;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a buffer came out, a filling ended, or the event was killed */
    struct buffer buffers[MAX_BUFFERS];
    uint64_t order;
    bool grabbing;
    uint64_t frames_left; /* of the acquisition, or GENTL_INFINITE */
    int64_t mode;
    uint64_t delivered, lost, started;
    struct event event; /* its address is the event's handle */
};

struct device {
    unsigned index;
    struct rig_device *state;
    bool open;
    int lock_fd;
    uint32_t power_up; /* the power-up at which it was opened; another one: the handle is dead */
    char id[80];
    struct port local, remote;
    struct stream stream;
    pthread_mutex_t lock;
    pthread_t sensor;
    bool sensor_started;
    _Atomic bool stop;
    bool acquiring;
    uint32_t software_pending;
    int64_t first_source; /* the trigger source when the acquisition began, -1 without */
    uint32_t first_edges; /* the edges it had seen */
    uint64_t latched; /* nanoseconds */
    struct pictures pictures;
};

struct modules {
    bool initialised;
    struct port system, interface;
    struct device devices[RIG_MAX_DEVICES];
    unsigned listed[RIG_MAX_DEVICES]; /* devices found by the last IFUpdateDeviceList */
    uint32_t listed_count;
};

extern struct modules modules;

/* Handles to modules, NULL where the handle is not an open one. */
struct device *device_of(DEV_HANDLE handle);
struct stream *stream_of(DS_HANDLE handle);
struct port *port_of(PORT_HANDLE handle);
struct buffer *buffer_of(struct stream *stream, BUFFER_HANDLE handle);

/* Keeps the error for GCGetLastError and returns the code. */
GC_ERROR fail(GC_ERROR code, const char *text);

void device_init(struct device *device, unsigned index);
void device_destroy(struct device *device);
/* Ends the acquisition and lets go of the lock. */
void device_close(struct device *device);
/* GC_ERR_IO where the camera can't be reached; waits while it is frozen. */
GC_ERROR device_reach(struct device *device);

void stream_init(struct stream *stream, struct device *device);
void stream_destroy(struct stream *stream);
void stream_close(struct stream *stream);

#endif
