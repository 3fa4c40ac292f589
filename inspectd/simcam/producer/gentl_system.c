/* GenTL: the library, the system and its one interface. */
#define _GNU_SOURCE
#include "info.h"
#include "module.h"
#include "registers.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct modules modules;

static _Thread_local GC_ERROR last_code;
static _Thread_local char last_text[512];

GC_ERROR fail(GC_ERROR code, const char *text)
{
    last_code = code;
    snprintf(last_text, sizeof last_text, "%s", text);
    return code;
}

GC_API GCGetLastError(GC_ERROR *code, char *text, size_t *size)
{
    if (!code)
        return GC_ERR_INVALID_PARAMETER;
    *code = last_code;
    return answer_id(text, size, last_text);
}

/* The system and the interface have features too few to need a description of their own. */
static void port_init(struct port *port, const char *name, const char *module)
{
    *port = (struct port){.name = name, .module = module};
}

GC_API GCInitLib(void)
{
    if (modules.initialised)
        return fail(GC_ERR_RESOURCE_IN_USE, "the library is initialised already");
    const char *problem = rig_open();
    if (problem) {
        fprintf(stderr, "inspectd.cti: %s\n", problem);
        return fail(GC_ERR_IO, problem);
    }
    port_init(&modules.system, "TLPort", "TLSystem");
    port_init(&modules.interface, "InterfacePort", "TLInterface");
    for (unsigned i = 0; i < rig_file()->count; i++)
        device_init(&modules.devices[i], i);
    modules.listed_count = 0;
    modules.initialised = true;
    return GC_ERR_SUCCESS;
}

static void close_devices(void)
{
    for (unsigned i = 0; i < rig_file()->count; i++)
        if (modules.devices[i].open)
            device_close(&modules.devices[i]);
}

GC_API GCCloseLib(void)
{
    if (!modules.initialised)
        return fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
    close_devices();
    for (unsigned i = 0; i < rig_file()->count; i++)
        device_destroy(&modules.devices[i]);
    rig_close();
    memset(&modules, 0, sizeof modules);
    return GC_ERR_SUCCESS;
}

static GC_ERROR system_info(int32_t command, struct answer to)
{
    Dl_info self;
    const char *path = dladdr((void *)&modules, &self) ? self.dli_fname : "inspectd.cti";
    const char *slash = strrchr(path, '/');
    switch (command) {
    case TL_INFO_ID:
        return answer_text(to, TL_ID);
    case TL_INFO_VENDOR:
        return answer_text(to, VENDOR);
    case TL_INFO_MODEL:
        return answer_text(to, "simcam");
    case TL_INFO_VERSION:
        return answer_text(to, PRODUCER_VERSION);
    case TL_INFO_TLTYPE:
        return answer_text(to, TL_TYPE);
    case TL_INFO_NAME:
        return answer_text(to, slash ? slash + 1 : path);
    case TL_INFO_PATHNAME:
        return answer_text(to, path);
    case TL_INFO_DISPLAYNAME:
        return answer_text(to, "inspectd virtual cameras");
    case TL_INFO_CHAR_ENCODING:
        return answer_i32(to, TL_CHAR_ENCODING_UTF8);
    case TL_INFO_GENTL_VER_MAJOR:
        return answer_u32(to, 1);
    case TL_INFO_GENTL_VER_MINOR:
        return answer_u32(to, 5);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the system");
    }
}

GC_API GCGetInfo(int32_t command, INFO_DATATYPE *type, void *out, size_t *size)
{
    return system_info(command, (struct answer){type, out, size});
}

/* ---- the system ---- */

static bool is_system(TL_HANDLE handle)
{
    return modules.initialised && handle == &modules.system && modules.system.open;
}

GC_API TLOpen(TL_HANDLE *system)
{
    if (!modules.initialised)
        return fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
    if (!system)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    if (modules.system.open)
        return fail(GC_ERR_RESOURCE_IN_USE, "the system is open already");
    modules.system.open = true;
    *system = &modules.system;
    return GC_ERR_SUCCESS;
}

GC_API TLClose(TL_HANDLE system)
{
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    close_devices();
    modules.interface.open = modules.system.open = false;
    return GC_ERR_SUCCESS;
}

GC_API TLGetInfo(TL_HANDLE system, int32_t command, INFO_DATATYPE *type, void *out, size_t *size)
{
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    return system_info(command, (struct answer){type, out, size});
}

GC_API TLGetNumInterfaces(TL_HANDLE system, uint32_t *count)
{
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    if (!count)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 1;
    return GC_ERR_SUCCESS;
}

GC_API TLGetInterfaceID(TL_HANDLE system, uint32_t index, char *out, size_t *size)
{
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    if (index)
        return fail(GC_ERR_INVALID_INDEX, "there is one interface");
    return answer_id(out, size, IF_ID);
}

static GC_ERROR interface_info(int32_t command, struct answer to)
{
    switch (command) {
    case INTERFACE_INFO_ID:
        return answer_text(to, IF_ID);
    case INTERFACE_INFO_DISPLAYNAME:
        return answer_text(to, "inspectd virtual cameras");
    case INTERFACE_INFO_TLTYPE:
        return answer_text(to, TL_TYPE);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the interface");
    }
}

GC_API TLGetInterfaceInfo(TL_HANDLE system, const char *id, int32_t command, INFO_DATATYPE *type,
                          void *out, size_t *size)
{
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    if (!id || strcmp(id, IF_ID))
        return fail(GC_ERR_INVALID_ID, "no such interface");
    return interface_info(command, (struct answer){type, out, size});
}

GC_API TLOpenInterface(TL_HANDLE system, const char *id, IF_HANDLE *interface)
{
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    if (!id || strcmp(id, IF_ID))
        return fail(GC_ERR_INVALID_ID, "no such interface");
    if (!interface)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    if (modules.interface.open)
        return fail(GC_ERR_RESOURCE_IN_USE, "the interface is open already");
    modules.interface.open = true;
    *interface = &modules.interface;
    return GC_ERR_SUCCESS;
}

GC_API TLUpdateInterfaceList(TL_HANDLE system, bool8_t *changed, uint64_t timeout_ms)
{
    (void)timeout_ms;
    if (!is_system(system))
        return fail(GC_ERR_INVALID_HANDLE, "not an open system");
    if (changed)
        *changed = 0;
    return GC_ERR_SUCCESS;
}

/* ---- the interface; its devices are in gentl_device.c ---- */

static bool is_interface(IF_HANDLE handle)
{
    return modules.initialised && handle == &modules.interface && modules.interface.open;
}

GC_API IFClose(IF_HANDLE interface)
{
    if (!is_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    close_devices();
    modules.interface.open = false;
    return GC_ERR_SUCCESS;
}

GC_API IFGetInfo(IF_HANDLE interface, int32_t command, INFO_DATATYPE *type, void *out,
                 size_t *size)
{
    if (!is_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    return interface_info(command, (struct answer){type, out, size});
}

GC_API IFGetParentTL(IF_HANDLE interface, TL_HANDLE *system)
{
    if (!is_interface(interface))
        return fail(GC_ERR_INVALID_HANDLE, "not an open interface");
    if (!system)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *system = &modules.system;
    return GC_ERR_SUCCESS;
}
