/* The GenTL 1.5 C interface, as far as this producer serves it.
 *
 * Written for inspectd from the published names and numbers (EMVA GenTL standard); a test compares
 * every constant with the enumerations of `genicam.gentl`. Macros rather than enums: the widths of
 * the parameters are fixed by the standard, and a test can list them.
 */
#ifndef INSPECTD_GENTL_H
#define INSPECTD_GENTL_H

#include <stddef.h>
#include <stdint.h>

#define GC_API __attribute__((visibility("default"))) GC_ERROR

typedef int32_t GC_ERROR;
typedef uint8_t bool8_t;
typedef int32_t INFO_DATATYPE;

typedef void *TL_HANDLE;
typedef void *IF_HANDLE;
typedef void *DEV_HANDLE;
typedef void *DS_HANDLE;
typedef void *BUFFER_HANDLE;
typedef void *PORT_HANDLE;
typedef void *EVENTSRC_HANDLE;
typedef void *EVENT_HANDLE;

/* GC_ERROR_LIST */
#define GC_ERR_SUCCESS 0
#define GC_ERR_ERROR -1001
#define GC_ERR_NOT_INITIALIZED -1002
#define GC_ERR_NOT_IMPLEMENTED -1003
#define GC_ERR_RESOURCE_IN_USE -1004
#define GC_ERR_ACCESS_DENIED -1005
#define GC_ERR_INVALID_HANDLE -1006
#define GC_ERR_INVALID_ID -1007
#define GC_ERR_NO_DATA -1008
#define GC_ERR_INVALID_PARAMETER -1009
#define GC_ERR_IO -1010
#define GC_ERR_TIMEOUT -1011
#define GC_ERR_ABORT -1012
#define GC_ERR_INVALID_BUFFER -1013
#define GC_ERR_NOT_AVAILABLE -1014
#define GC_ERR_INVALID_ADDRESS -1015
#define GC_ERR_BUFFER_TOO_SMALL -1016
#define GC_ERR_INVALID_INDEX -1017
#define GC_ERR_INVALID_VALUE -1019
#define GC_ERR_RESOURCE_EXHAUSTED -1020
#define GC_ERR_OUT_OF_MEMORY -1021
#define GC_ERR_BUSY -1022

/* INFO_DATATYPE_LIST */
#define INFO_DATATYPE_STRING 1
#define INFO_DATATYPE_INT32 5
#define INFO_DATATYPE_UINT32 6
#define INFO_DATATYPE_UINT64 8
#define INFO_DATATYPE_PTR 10
#define INFO_DATATYPE_BOOL8 11
#define INFO_DATATYPE_SIZET 12

/* TL_INFO_CMD_LIST */
#define TL_INFO_ID 0
#define TL_INFO_VENDOR 1
#define TL_INFO_MODEL 2
#define TL_INFO_VERSION 3
#define TL_INFO_TLTYPE 4
#define TL_INFO_NAME 5
#define TL_INFO_PATHNAME 6
#define TL_INFO_DISPLAYNAME 7
#define TL_INFO_CHAR_ENCODING 8
#define TL_INFO_GENTL_VER_MAJOR 9
#define TL_INFO_GENTL_VER_MINOR 10
#define TL_CHAR_ENCODING_UTF8 1

/* INTERFACE_INFO_CMD_LIST */
#define INTERFACE_INFO_ID 0
#define INTERFACE_INFO_DISPLAYNAME 1
#define INTERFACE_INFO_TLTYPE 2

/* DEVICE_INFO_CMD_LIST */
#define DEVICE_INFO_ID 0
#define DEVICE_INFO_VENDOR 1
#define DEVICE_INFO_MODEL 2
#define DEVICE_INFO_TLTYPE 3
#define DEVICE_INFO_DISPLAYNAME 4
#define DEVICE_INFO_ACCESS_STATUS 5
#define DEVICE_INFO_USER_DEFINED_NAME 6
#define DEVICE_INFO_SERIAL_NUMBER 7
#define DEVICE_INFO_VERSION 8
#define DEVICE_INFO_TIMESTAMP_FREQUENCY 9

/* DEVICE_ACCESS_FLAGS_LIST and DEVICE_ACCESS_STATUS_LIST */
#define DEVICE_ACCESS_READONLY 2
#define DEVICE_ACCESS_CONTROL 3
#define DEVICE_ACCESS_EXCLUSIVE 4
#define DEVICE_ACCESS_STATUS_READWRITE 1
#define DEVICE_ACCESS_STATUS_NOACCESS 3
#define DEVICE_ACCESS_STATUS_BUSY 4
#define DEVICE_ACCESS_STATUS_OPEN_READWRITE 5

/* PORT_INFO_CMD_LIST */
#define PORT_INFO_ID 0
#define PORT_INFO_VENDOR 1
#define PORT_INFO_MODEL 2
#define PORT_INFO_TLTYPE 3
#define PORT_INFO_MODULE 4
#define PORT_INFO_LITTLE_ENDIAN 5
#define PORT_INFO_BIG_ENDIAN 6
#define PORT_INFO_ACCESS_READ 7
#define PORT_INFO_ACCESS_WRITE 8
#define PORT_INFO_ACCESS_NA 9
#define PORT_INFO_ACCESS_NI 10
#define PORT_INFO_VERSION 11
#define PORT_INFO_PORTNAME 12

/* URL_INFO_CMD_LIST and URL_SCHEME_IDS */
#define URL_INFO_URL 0
#define URL_INFO_SCHEMA_VER_MAJOR 1
#define URL_INFO_SCHEMA_VER_MINOR 2
#define URL_INFO_FILE_VER_MAJOR 3
#define URL_INFO_FILE_VER_MINOR 4
#define URL_INFO_FILE_VER_SUBMINOR 5
#define URL_INFO_FILE_REGISTER_ADDRESS 7
#define URL_INFO_FILE_SIZE 8
#define URL_INFO_SCHEME 9
#define URL_INFO_FILENAME 10
#define URL_SCHEME_LOCAL 0

/* EVENT_TYPE_LIST, EVENT_INFO_CMD_LIST and EVENT_DATA_INFO_CMD_LIST */
#define EVENT_NEW_BUFFER 1
#define EVENT_EVENT_TYPE 0
#define EVENT_NUM_IN_QUEUE 1
#define EVENT_NUM_FIRED 2
#define EVENT_SIZE_MAX 3
#define EVENT_INFO_DATA_SIZE_MAX 4
#define EVENT_DATA_ID 0
#define EVENT_DATA_VALUE 1

/* ACQ_QUEUE_TYPE_LIST, ACQ_START_FLAGS_LIST and ACQ_STOP_FLAGS_LIST */
#define ACQ_QUEUE_INPUT_TO_OUTPUT 0
#define ACQ_QUEUE_OUTPUT_DISCARD 1
#define ACQ_QUEUE_ALL_TO_INPUT 2
#define ACQ_QUEUE_UNQUEUED_TO_INPUT 3
#define ACQ_QUEUE_ALL_DISCARD 4
#define ACQ_START_FLAGS_DEFAULT 0
#define ACQ_STOP_FLAGS_DEFAULT 0
#define ACQ_STOP_FLAGS_KILL 1

/* STREAM_INFO_CMD_LIST */
#define STREAM_INFO_ID 0
#define STREAM_INFO_NUM_DELIVERED 1
#define STREAM_INFO_NUM_UNDERRUN 2
#define STREAM_INFO_NUM_ANNOUNCED 3
#define STREAM_INFO_NUM_QUEUED 4
#define STREAM_INFO_NUM_AWAIT_DELIVERY 5
#define STREAM_INFO_NUM_STARTED 6
#define STREAM_INFO_PAYLOAD_SIZE 7
#define STREAM_INFO_IS_GRABBING 8
#define STREAM_INFO_DEFINES_PAYLOADSIZE 9
#define STREAM_INFO_TLTYPE 10
#define STREAM_INFO_NUM_CHUNKS_MAX 11
#define STREAM_INFO_BUF_ANNOUNCE_MIN 12
#define STREAM_INFO_BUF_ALIGNMENT 13

/* BUFFER_INFO_CMD_LIST */
#define BUFFER_INFO_BASE 0
#define BUFFER_INFO_SIZE 1
#define BUFFER_INFO_USER_PTR 2
#define BUFFER_INFO_TIMESTAMP 3
#define BUFFER_INFO_NEW_DATA 4
#define BUFFER_INFO_IS_QUEUED 5
#define BUFFER_INFO_IS_ACQUIRING 6
#define BUFFER_INFO_IS_INCOMPLETE 7
#define BUFFER_INFO_TLTYPE 8
#define BUFFER_INFO_SIZE_FILLED 9
#define BUFFER_INFO_WIDTH 10
#define BUFFER_INFO_HEIGHT 11
#define BUFFER_INFO_XOFFSET 12
#define BUFFER_INFO_YOFFSET 13
#define BUFFER_INFO_XPADDING 14
#define BUFFER_INFO_YPADDING 15
#define BUFFER_INFO_FRAMEID 16
#define BUFFER_INFO_IMAGEPRESENT 17
#define BUFFER_INFO_IMAGEOFFSET 18
#define BUFFER_INFO_PAYLOADTYPE 19
#define BUFFER_INFO_PIXELFORMAT 20
#define BUFFER_INFO_PIXELFORMAT_NAMESPACE 21
#define BUFFER_INFO_DELIVERED_IMAGEHEIGHT 22
#define BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE 23
#define BUFFER_INFO_CHUNKLAYOUTID 24
#define BUFFER_INFO_PIXEL_ENDIANNESS 26
#define BUFFER_INFO_DATA_SIZE 27
#define BUFFER_INFO_TIMESTAMP_NS 28
#define BUFFER_INFO_DATA_LARGER_THAN_BUFFER 29
#define BUFFER_INFO_CONTAINS_CHUNKDATA 30
#define BUFFER_INFO_IS_COMPOSITE 31

/* PAYLOADTYPE_INFO_IDS, PIXELFORMAT_NAMESPACE_IDS and PIXELENDIANNESS_IDS */
#define PAYLOAD_TYPE_IMAGE 1
#define PAYLOAD_TYPE_CHUNK_DATA 4
#define PIXELFORMAT_NAMESPACE_PFNC_32BIT 4
#define PIXELENDIANNESS_LITTLE 1

#define GENTL_INFINITE UINT64_MAX

typedef struct {
    uint64_t address;
    void *buffer;
    size_t size;
} PORT_REGISTER_STACK_ENTRY;

typedef struct {
    uint64_t chunk_id;
    ptrdiff_t offset; /* bytes from the buffer's start */
    size_t length;    /* bytes */
} SINGLE_CHUNK_DATA;

typedef struct {
    BUFFER_HANDLE buffer;
    void *user_pointer;
} EVENT_NEW_BUFFER_DATA;

/* Library and ports */
GC_API GCGetInfo(int32_t command, INFO_DATATYPE *type, void *out, size_t *size);
GC_API GCGetLastError(GC_ERROR *code, char *text, size_t *size);
GC_API GCInitLib(void);
GC_API GCCloseLib(void);
GC_API GCReadPort(PORT_HANDLE port, uint64_t address, void *out, size_t *size);
GC_API GCWritePort(PORT_HANDLE port, uint64_t address, const void *in, size_t *size);
GC_API GCReadPortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count);
GC_API GCWritePortStacked(PORT_HANDLE port, PORT_REGISTER_STACK_ENTRY *entries, size_t *count);
GC_API GCGetPortURL(PORT_HANDLE port, char *out, size_t *size);
GC_API GCGetNumPortURLs(PORT_HANDLE port, uint32_t *count);
GC_API GCGetPortURLInfo(PORT_HANDLE port, uint32_t index, int32_t command, INFO_DATATYPE *type,
                        void *out, size_t *size);
GC_API GCGetPortInfo(PORT_HANDLE port, int32_t command, INFO_DATATYPE *type, void *out,
                     size_t *size);

/* Events */
GC_API GCRegisterEvent(EVENTSRC_HANDLE source, int32_t event_type, EVENT_HANDLE *event);
GC_API GCUnregisterEvent(EVENTSRC_HANDLE source, int32_t event_type);
GC_API EventGetData(EVENT_HANDLE event, void *out, size_t *size, uint64_t timeout_ms);
GC_API EventGetDataInfo(EVENT_HANDLE event, const void *in, size_t in_size, int32_t command,
                        INFO_DATATYPE *type, void *out, size_t *size);
GC_API EventGetInfo(EVENT_HANDLE event, int32_t command, INFO_DATATYPE *type, void *out,
                    size_t *size);
GC_API EventFlush(EVENT_HANDLE event);
GC_API EventKill(EVENT_HANDLE event);

/* System and interface */
GC_API TLOpen(TL_HANDLE *system);
GC_API TLClose(TL_HANDLE system);
GC_API TLGetInfo(TL_HANDLE system, int32_t command, INFO_DATATYPE *type, void *out, size_t *size);
GC_API TLGetNumInterfaces(TL_HANDLE system, uint32_t *count);
GC_API TLGetInterfaceID(TL_HANDLE system, uint32_t index, char *out, size_t *size);
GC_API TLGetInterfaceInfo(TL_HANDLE system, const char *id, int32_t command, INFO_DATATYPE *type,
                          void *out, size_t *size);
GC_API TLOpenInterface(TL_HANDLE system, const char *id, IF_HANDLE *interface);
GC_API TLUpdateInterfaceList(TL_HANDLE system, bool8_t *changed, uint64_t timeout_ms);
GC_API IFClose(IF_HANDLE interface);
GC_API IFGetInfo(IF_HANDLE interface, int32_t command, INFO_DATATYPE *type, void *out,
                 size_t *size);
GC_API IFGetNumDevices(IF_HANDLE interface, uint32_t *count);
GC_API IFGetDeviceID(IF_HANDLE interface, uint32_t index, char *out, size_t *size);
GC_API IFUpdateDeviceList(IF_HANDLE interface, bool8_t *changed, uint64_t timeout_ms);
GC_API IFGetDeviceInfo(IF_HANDLE interface, const char *id, int32_t command, INFO_DATATYPE *type,
                       void *out, size_t *size);
GC_API IFOpenDevice(IF_HANDLE interface, const char *id, int32_t access, DEV_HANDLE *device);
GC_API IFGetParentTL(IF_HANDLE interface, TL_HANDLE *system);

/* Device */
GC_API DevGetPort(DEV_HANDLE device, PORT_HANDLE *port);
GC_API DevGetNumDataStreams(DEV_HANDLE device, uint32_t *count);
GC_API DevGetDataStreamID(DEV_HANDLE device, uint32_t index, char *out, size_t *size);
GC_API DevOpenDataStream(DEV_HANDLE device, const char *id, DS_HANDLE *stream);
GC_API DevGetInfo(DEV_HANDLE device, int32_t command, INFO_DATATYPE *type, void *out,
                  size_t *size);
GC_API DevGetParentIF(DEV_HANDLE device, IF_HANDLE *interface);
GC_API DevClose(DEV_HANDLE device);

/* Data stream */
GC_API DSAnnounceBuffer(DS_HANDLE stream, void *memory, size_t size, void *user,
                        BUFFER_HANDLE *buffer);
GC_API DSAllocAndAnnounceBuffer(DS_HANDLE stream, size_t size, void *user, BUFFER_HANDLE *buffer);
GC_API DSFlushQueue(DS_HANDLE stream, int32_t operation);
GC_API DSStartAcquisition(DS_HANDLE stream, int32_t flags, uint64_t frames);
GC_API DSStopAcquisition(DS_HANDLE stream, int32_t flags);
GC_API DSGetInfo(DS_HANDLE stream, int32_t command, INFO_DATATYPE *type, void *out, size_t *size);
GC_API DSGetBufferID(DS_HANDLE stream, uint32_t index, BUFFER_HANDLE *buffer);
GC_API DSClose(DS_HANDLE stream);
GC_API DSRevokeBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer, void **memory, void **user);
GC_API DSQueueBuffer(DS_HANDLE stream, BUFFER_HANDLE buffer);
GC_API DSGetBufferInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, int32_t command,
                       INFO_DATATYPE *type, void *out, size_t *size);
GC_API DSGetBufferChunkData(DS_HANDLE stream, BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA *chunks,
                            size_t *count);
GC_API DSGetNumBufferParts(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t *count);
GC_API DSGetBufferPartInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t part, int32_t command,
                           INFO_DATATYPE *type, void *out, size_t *size);
GC_API DSGetParentDev(DS_HANDLE stream, DEV_HANDLE *device);

/* Of later versions; not implemented, but some consumers complain where they are missing. */
GC_API DSAnnounceCompositeBuffer(DS_HANDLE stream, size_t count, void **segments, size_t *sizes,
                                 void *user, BUFFER_HANDLE *buffer);
GC_API DSGetNumFlows(DS_HANDLE stream, uint32_t *count);
GC_API DSGetFlowInfo(DS_HANDLE stream, uint32_t flow, int32_t command, INFO_DATATYPE *type,
                     void *out, size_t *size);
GC_API DSGetNumBufferSegments(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t *count);
GC_API DSGetBufferSegmentInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t segment,
                              int32_t command, INFO_DATATYPE *type, void *out, size_t *size);

#endif
