/* GenTL: finding, opening and closing devices. */
#define _GNU_SOURCE
#include "info.h"
#include "module.h"
#include "registers.h"
#include "sensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_ID "stream0"

void device_init(struct device *device, unsigned index)
{
    memset(device, 0, sizeof *device);
    device->index = index;
    device->state = &rig_file()->devices[index];
    device->lock_fd = -1;
    snprintf(device->id, sizeof device->id, DEVICE_ID_PREFIX "%.63s", device->state->serial);
    pthread_mutex_init(&device->lock, NULL);
    device->local = (struct port){.name = "DevicePort", .module = "TLDevice", .device = device};
    device->remote = (struct port){
        .name = "Device",
        .module = "Device",
        .rows = device_features,
        .row_count = device_feature_count,
        .device = device,
        .remote = true,
        .read = registers_read,
        .write = registers_write,
    };
    stream_init(&device->stream, device);
}

void device_destroy(struct device *device)
{
    free(device->remote.xml);
    stream_destroy(&device->stream);
    pthread_mutex_destroy(&device->lock);
}

void device_close(struct device *device)
{
    sensor_stop(device);
    stream_close(&device->stream);
    device->open = device->local.open = device->remote.open = false;
    rig_unlock(device->index, &device->lock_fd);
}

static bool present(const struct device *device)
{
    return atomic_load(&device->state->powered) && atomic_load(&device->state->linked);
}

GC_ERROR device_reach(struct device *device)
{
    for (;;) {
        uint32_t seen = atomic_load(&device->state->wake);
        if (!present(device) || atomic_load(&device->state->power_ups) != device->power_up)
            return fail(GC_ERR_IO, "the camera doesn't answer");
        if (!atomic_load(&device->state->frozen))
            return GC_ERR_SUCCESS;
        rig_wait(device->state, seen, FOREVER);
    }
}

struct device *device_of(DEV_HANDLE handle)
{
    if (modules.initialised)
        for (unsigned i = 0; i < rig_file()->count; i++)
            if (handle == &modules.devices[i] && modules.devices[i].open)
                return &modules.devices[i];
    return NULL;
}

/* ---- the interface's list ---- */

static bool no_interface(IF_HANDLE handle)
{
    return !modules.initialised || handle != &modules.interface || !modules.interface.open;
}

GC_API IFUpdateDeviceList(IF_HANDLE interface, bool8_t *changed, uint64_t timeout_ms)
{
    (void)timeout_ms;
    if (no_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    unsigned found[RIG_MAX_DEVICES];
    uint32_t count = 0;
    for (unsigned i = 0; i < rig_file()->count; i++)
        if (present(&modules.devices[i]))
            found[count++] = i;
    bool differs = count != modules.listed_count ||
                   memcmp(found, modules.listed, count * sizeof *found) != 0;
    memcpy(modules.listed, found, count * sizeof *found);
    modules.listed_count = count;
    if (changed)
        *changed = differs;
    return GC_ERR_SUCCESS;
}

GC_API IFGetNumDevices(IF_HANDLE interface, uint32_t *count)
{
    if (no_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    if (!count)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = modules.listed_count;
    return GC_ERR_SUCCESS;
}

GC_API IFGetDeviceID(IF_HANDLE interface, uint32_t index, char *out, size_t *size)
{
    if (no_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    if (index >= modules.listed_count)
        return fail(GC_ERR_INVALID_INDEX, "fewer devices are listed");
    return answer_id(out, size, modules.devices[modules.listed[index]].id);
}

/* By its id, or by its serial number as a convenience. */
static struct device *listed(const char *id)
{
    for (uint32_t i = 0; id && i < modules.listed_count; i++) {
        struct device *device = &modules.devices[modules.listed[i]];
        if (!strcmp(id, device->id) || !strcmp(id, device->state->serial))
            return device;
    }
    return NULL;
}

static int32_t access_status(const struct device *device)
{
    if (!present(device))
        return DEVICE_ACCESS_STATUS_NOACCESS;
    if (device->open)
        return DEVICE_ACCESS_STATUS_OPEN_READWRITE;
    return rig_locked(device->index) ? DEVICE_ACCESS_STATUS_BUSY : DEVICE_ACCESS_STATUS_READWRITE;
}

static GC_ERROR device_info(const struct device *device, int32_t command, struct answer to)
{
    const struct rig_device *state = device->state;
    char text[64 + sizeof state->model + sizeof state->serial];
    switch (command) {
    case DEVICE_INFO_ID:
        return answer_text(to, device->id);
    case DEVICE_INFO_VENDOR:
        return answer_text(to, VENDOR);
    case DEVICE_INFO_MODEL:
        return answer_text(to, state->model);
    case DEVICE_INFO_TLTYPE:
        return answer_text(to, state->tl_type);
    case DEVICE_INFO_DISPLAYNAME:
        snprintf(text, sizeof text, VENDOR " %s (%s)", state->model, state->serial);
        return answer_text(to, text);
    case DEVICE_INFO_ACCESS_STATUS:
        return answer_i32(to, access_status(device));
    case DEVICE_INFO_USER_DEFINED_NAME:
        return answer_text(to, state->user_id);
    case DEVICE_INFO_SERIAL_NUMBER:
        return answer_text(to, state->serial);
    case DEVICE_INFO_VERSION:
        return answer_text(to, PRODUCER_VERSION);
    case DEVICE_INFO_TIMESTAMP_FREQUENCY:
        return answer_u64(to, NS_PER_S);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the device");
    }
}

GC_API IFGetDeviceInfo(IF_HANDLE interface, const char *id, int32_t command, INFO_DATATYPE *type,
                       void *out, size_t *size)
{
    if (no_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    const struct device *device = listed(id);
    if (!device)
        return fail(GC_ERR_INVALID_ID, "no such device in the list; update the list");
    return device_info(device, command, (struct answer){type, out, size});
}

/* Every way to open it is exclusive. */
GC_API IFOpenDevice(IF_HANDLE interface, const char *id, int32_t access, DEV_HANDLE *handle)
{
    if (no_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    struct device *device = listed(id);
    if (!device)
        return fail(GC_ERR_INVALID_ID, "no such device in the list; update the list");
    if (!handle || access < DEVICE_ACCESS_READONLY || access > DEVICE_ACCESS_EXCLUSIVE)
        return fail(GC_ERR_INVALID_PARAMETER, "no handle or an unknown access");
    if (device->open)
        return fail(GC_ERR_RESOURCE_IN_USE, "this process has the device open");
    if (!present(device))
        return fail(GC_ERR_IO, "the camera doesn't answer");
    if (!rig_lock(device->index, &device->lock_fd))
        return fail(GC_ERR_ACCESS_DENIED, "another process has the device open");
    device->power_up = atomic_load(&device->state->power_ups);
    registers_power_up(device);
    device->open = device->local.open = device->remote.open = true;
    *handle = device;
    return GC_ERR_SUCCESS;
}

/* ---- the device ---- */

GC_API DevGetPort(DEV_HANDLE handle, PORT_HANDLE *port)
{
    struct device *device = device_of(handle);
    if (!device)
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    if (!port)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *port = &device->remote;
    return GC_ERR_SUCCESS;
}

GC_API DevGetNumDataStreams(DEV_HANDLE handle, uint32_t *count)
{
    if (!device_of(handle))
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    if (!count)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 1;
    return GC_ERR_SUCCESS;
}

GC_API DevGetDataStreamID(DEV_HANDLE handle, uint32_t index, char *out, size_t *size)
{
    if (!device_of(handle))
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    if (index)
        return fail(GC_ERR_INVALID_INDEX, "there is one data stream");
    return answer_id(out, size, STREAM_ID);
}

GC_API DevOpenDataStream(DEV_HANDLE handle, const char *id, DS_HANDLE *opened)
{
    struct device *device = device_of(handle);
    if (!device)
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    if (!id || strcmp(id, STREAM_ID))
        return fail(GC_ERR_INVALID_ID, "no such data stream");
    if (!opened)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    struct stream *stream = &device->stream;
    pthread_mutex_lock(&stream->lock);
    bool busy = stream->open;
    stream->open = stream->port.open = true;
    pthread_mutex_unlock(&stream->lock);
    if (busy)
        return fail(GC_ERR_RESOURCE_IN_USE, "the data stream is open already");
    *opened = stream;
    return GC_ERR_SUCCESS;
}

GC_API DevGetInfo(DEV_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *out, size_t *size)
{
    const struct device *device = device_of(handle);
    if (!device)
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    return device_info(device, command, (struct answer){type, out, size});
}

GC_API DevGetParentIF(DEV_HANDLE handle, IF_HANDLE *interface)
{
    if (!device_of(handle))
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    if (!interface)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *interface = &modules.interface;
    return GC_ERR_SUCCESS;
}

GC_API DevClose(DEV_HANDLE handle)
{
    struct device *device = device_of(handle);
    if (!device)
        return fail(GC_ERR_INVALID_HANDLE, "not an open device");
    device_close(device);
    return GC_ERR_SUCCESS;
}
