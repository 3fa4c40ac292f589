/* GenTL: ports, which read and write registers, and the descriptions of their features. */
#define _GNU_SOURCE
#include "info.h"
#include "module.h"
#include "xml.h"

#include <stdio.h>
#include <string.h>

/* A device or a stream handle stands for its own port. */
struct port *port_of(PORT_HANDLE handle)
{
    if (!modules.initialised)
        return NULL;
    struct port *port = NULL;
    if (handle == &modules.system || handle == &modules.interface)
        port = handle;
    for (unsigned i = 0; i < rig_file()->count; i++) {
        struct device *device = &modules.devices[i];
        if (handle == device)
            port = &device->local;
        if (handle == &device->remote)
            port = &device->remote;
        if (handle == &device->stream)
            port = &device->stream.port;
    }
    return port && port->open ? port : NULL;
}

static const char *model_of(const struct port *port)
{
    return port->device ? port->device->state->model : "simcam";
}

/* Writes the description when it is first asked for. */
static bool described(struct port *port)
{
    if (!port->rows)
        return false;
    if (!port->xml) {
        port->xml = xml_write(port->remote ? "SimCam" : "simcam", port->name, port->rows,
                              port->row_count);
        port->xml_size = port->xml ? strlen(port->xml) : 0;
    }
    return port->xml != NULL;
}

static GC_ERROR read_description(struct port *port, uint64_t address, void *out, size_t size)
{
    if (!described(port))
        return fail(GC_ERR_INVALID_ADDRESS, "the port has no description");
    uint64_t offset = address - ADDRESS_XML;
    if (offset > port->xml_size || size > port->xml_size - offset)
        return fail(GC_ERR_INVALID_ADDRESS, "beyond the description");
    memcpy(out, port->xml + offset, size);
    return GC_ERR_SUCCESS;
}

GC_API GCReadPort(PORT_HANDLE handle, uint64_t address, void *out, size_t *size)
{
    struct port *port = port_of(handle);
    if (!port)
        return fail(GC_ERR_INVALID_HANDLE, "not an open port");
    if (!out || !size)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the data");
    if (port->remote) {
        GC_ERROR error = device_reach(port->device);
        if (error)
            return error;
    }
    if (address >= ADDRESS_XML)
        return read_description(port, address, out, *size);
    if (!port->read)
        return fail(GC_ERR_NOT_IMPLEMENTED, "the port has no registers");
    return port->read(port, address, out, *size);
}

GC_API GCWritePort(PORT_HANDLE handle, uint64_t address, const void *in, size_t *size)
{
    struct port *port = port_of(handle);
    if (!port)
        return fail(GC_ERR_INVALID_HANDLE, "not an open port");
    if (!in || !size)
        return fail(GC_ERR_INVALID_PARAMETER, "no data");
    if (port->remote) {
        GC_ERROR error = device_reach(port->device);
        if (error)
            return error;
    }
    if (!port->write)
        return fail(GC_ERR_NOT_IMPLEMENTED, "the port has no registers");
    return port->write(port, address, in, *size);
}

GC_API GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count)
{
    if (!entries || !count)
        return fail(GC_ERR_INVALID_PARAMETER, "no entries");
    for (size_t i = 0; i < *count; i++) {
        GC_ERROR error =
            GCReadPort(port, entries[i].address, entries[i].buffer, &entries[i].size);
        if (error) {
            *count = i;
            return error;
        }
    }
    return GC_ERR_SUCCESS;
}

GC_API GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count)
{
    if (!entries || !count)
        return fail(GC_ERR_INVALID_PARAMETER, "no entries");
    for (size_t i = 0; i < *count; i++) {
        GC_ERROR error =
            GCWritePort(port, entries[i].address, entries[i].buffer, &entries[i].size);
        if (error) {
            *count = i;
            return error;
        }
    }
    return GC_ERR_SUCCESS;
}

GC_API GCGetPortInfo(PORT_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *out,
                     size_t *size)
{
    struct port *port = port_of(handle);
    struct answer to = {type, out, size};
    if (!port)
        return fail(GC_ERR_INVALID_HANDLE, "not an open port");
    switch (command) {
    case PORT_INFO_ID:
        return answer_text(to, port->device ? port->device->id : TL_ID);
    case PORT_INFO_VENDOR:
        return answer_text(to, VENDOR);
    case PORT_INFO_MODEL:
        return answer_text(to, model_of(port));
    case PORT_INFO_TLTYPE:
        return answer_text(to, port->device ? port->device->state->tl_type : TL_TYPE);
    case PORT_INFO_MODULE:
        return answer_text(to, port->module);
    case PORT_INFO_LITTLE_ENDIAN:
    case PORT_INFO_ACCESS_READ:
        return answer_bool(to, 1);
    case PORT_INFO_ACCESS_WRITE:
        return answer_bool(to, port->write != NULL);
    case PORT_INFO_BIG_ENDIAN:
    case PORT_INFO_ACCESS_NA:
    case PORT_INFO_ACCESS_NI:
        return answer_bool(to, 0);
    case PORT_INFO_VERSION:
        return answer_text(to, PRODUCER_VERSION);
    case PORT_INFO_PORTNAME:
        return answer_text(to, port->name);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the port");
    }
}

static void file_name(const struct port *port, char *out, size_t size)
{
    snprintf(out, size, "inspectd_%s.xml", port->name);
}

GC_API GCGetNumPortURLs(PORT_HANDLE handle, uint32_t *count)
{
    struct port *port = port_of(handle);
    if (!port)
        return fail(GC_ERR_INVALID_HANDLE, "not an open port");
    if (!count)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    if (!described(port))
        return fail(GC_ERR_NOT_AVAILABLE, "the port has no description");
    *count = 1;
    return GC_ERR_SUCCESS;
}

GC_API GCGetPortURLInfo(PORT_HANDLE handle, uint32_t index, int32_t command, INFO_DATATYPE *type,
                        void *out, size_t *size)
{
    struct port *port = port_of(handle);
    struct answer to = {type, out, size};
    char name[64], url[160];
    if (!port)
        return fail(GC_ERR_INVALID_HANDLE, "not an open port");
    if (index || !described(port))
        return fail(GC_ERR_INVALID_INDEX, "no such description");
    file_name(port, name, sizeof name);
    snprintf(url, sizeof url, "Local:%s;%llx;%zx", name, (unsigned long long)ADDRESS_XML,
             port->xml_size);
    switch (command) {
    case URL_INFO_URL:
        return answer_text(to, url);
    case URL_INFO_SCHEMA_VER_MAJOR:
    case URL_INFO_SCHEMA_VER_MINOR:
    case URL_INFO_FILE_VER_MAJOR:
        return answer_i32(to, 1);
    case URL_INFO_FILE_VER_MINOR:
    case URL_INFO_FILE_VER_SUBMINOR:
        return answer_i32(to, 0);
    case URL_INFO_FILE_REGISTER_ADDRESS:
        return answer_u64(to, ADDRESS_XML);
    case URL_INFO_FILE_SIZE:
        return answer_u64(to, port->xml_size);
    case URL_INFO_SCHEME:
        return answer_i32(to, URL_SCHEME_LOCAL);
    case URL_INFO_FILENAME:
        return answer_text(to, name);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the description");
    }
}

GC_API GCGetPortURL(PORT_HANDLE handle, char *out, size_t *size)
{
    return GCGetPortURLInfo(handle, 0, URL_INFO_URL, NULL, out, size);
}
