/* GenTL: data streams and the announcing, queueing and revoking of buffers. */
#define _GNU_SOURCE
#include "info.h"
#include "registers.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

struct stream *stream_of(DS_HANDLE handle)
{
    if (modules.initialised)
        for (unsigned i = 0; i < rig_file()->count; i++)
            if (handle == &modules.devices[i].stream && modules.devices[i].stream.open)
                return &modules.devices[i].stream;
    return NULL;
}

/* Call with the stream's lock held: a slot may be freed any time else. */
struct buffer *buffer_of(struct stream *stream, BUFFER_HANDLE handle)
{
    for (size_t i = 0; i < MAX_BUFFERS; i++)
        if (handle == &stream->buffers[i] && stream->buffers[i].place != FREE_SLOT)
            return &stream->buffers[i];
    return NULL;
}

static GC_ERROR announce(struct stream *stream, void *memory, size_t size, bool own, void *user,
                         BUFFER_HANDLE *handle)
{
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = stream_oldest(stream, FREE_SLOT);
    if (buffer) {
        *buffer = (struct buffer){
            .place = IDLE, .memory = memory, .size = size, .own_memory = own, .user = user};
        *handle = buffer;
    }
    pthread_mutex_unlock(&stream->lock);
    return buffer ? GC_ERR_SUCCESS : fail(GC_ERR_RESOURCE_EXHAUSTED, "256 buffers are announced");
}

GC_API DSAnnounceBuffer(DS_HANDLE handle, void *memory, size_t size, void *user,
                        BUFFER_HANDLE *buffer)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (!memory || !size || !buffer)
        return fail(GC_ERR_INVALID_PARAMETER, "no memory, no size or no place for the handle");
    return announce(stream, memory, size, false, user, buffer);
}

GC_API DSAllocAndAnnounceBuffer(DS_HANDLE handle, size_t size, void *user, BUFFER_HANDLE *buffer)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (!size || !buffer)
        return fail(GC_ERR_INVALID_PARAMETER, "no size or no place for the handle");
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, size))
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the buffer");
    GC_ERROR error = announce(stream, memory, size, true, user, buffer);
    if (error)
        free(memory);
    return error;
}

GC_API DSRevokeBuffer(DS_HANDLE handle, BUFFER_HANDLE buffer_handle, void **memory, void **user)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    GC_ERROR error = GC_ERR_SUCCESS;
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = buffer_of(stream, buffer_handle);
    if (!buffer) {
        error = fail(GC_ERR_INVALID_HANDLE, "not an announced buffer");
    } else if (buffer->place != IDLE && buffer->place != WITH_HOST) {
        error = fail(GC_ERR_BUSY, "the buffer is queued; flush the queues first");
    } else {
        if (memory)
            *memory = buffer->own_memory ? NULL : buffer->memory;
        if (user)
            *user = buffer->user;
        if (buffer->own_memory)
            free(buffer->memory);
        memset(buffer, 0, sizeof *buffer);
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

GC_API DSQueueBuffer(DS_HANDLE handle, BUFFER_HANDLE buffer_handle)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    GC_ERROR error = GC_ERR_SUCCESS;
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = buffer_of(stream, buffer_handle);
    if (!buffer)
        error = fail(GC_ERR_INVALID_HANDLE, "not an announced buffer");
    else if (buffer->place != IDLE && buffer->place != WITH_HOST)
        error = fail(GC_ERR_RESOURCE_IN_USE, "the buffer is queued already");
    else
        stream_move(stream, buffer, INPUT);
    pthread_mutex_unlock(&stream->lock);
    return error;
}

GC_API DSFlushQueue(DS_HANDLE handle, int32_t operation)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (operation < ACQ_QUEUE_INPUT_TO_OUTPUT || operation > ACQ_QUEUE_ALL_DISCARD)
        return fail(GC_ERR_INVALID_PARAMETER, "no such operation on the queues");
    pthread_mutex_lock(&stream->lock);
    stream_await_filled(stream);
    if (operation == ACQ_QUEUE_INPUT_TO_OUTPUT) {
        for (struct buffer *buffer; (buffer = stream_oldest(stream, INPUT)) != NULL;) {
            stream_move(stream, buffer, OUTPUT);
            buffer->new_data = false; /* it holds no frame */
        }
        pthread_cond_broadcast(&stream->changed);
    }
    if (operation == ACQ_QUEUE_OUTPUT_DISCARD || operation == ACQ_QUEUE_ALL_DISCARD)
        stream_move_all(stream, OUTPUT, IDLE);
    if (operation == ACQ_QUEUE_ALL_DISCARD)
        stream_move_all(stream, INPUT, IDLE);
    if (operation == ACQ_QUEUE_ALL_TO_INPUT)
        stream_move_all(stream, OUTPUT, INPUT);
    if (operation == ACQ_QUEUE_ALL_TO_INPUT || operation == ACQ_QUEUE_UNQUEUED_TO_INPUT) {
        stream_move_all(stream, IDLE, INPUT);
        stream_move_all(stream, WITH_HOST, INPUT);
    }
    pthread_mutex_unlock(&stream->lock);
    return GC_ERR_SUCCESS;
}

GC_API DSStartAcquisition(DS_HANDLE handle, int32_t flags, uint64_t frames)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (flags != ACQ_START_FLAGS_DEFAULT)
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such way to start");
    GC_ERROR error = GC_ERR_SUCCESS;
    pthread_mutex_lock(&stream->lock);
    if (stream->grabbing) {
        error = fail(GC_ERR_RESOURCE_IN_USE, "the stream takes frames already");
    } else if (stream_count(stream, FREE_SLOT) > MAX_BUFFERS - MIN_BUFFERS) {
        error = fail(GC_ERR_INVALID_BUFFER, "no buffer is announced");
    } else {
        stream->grabbing = true;
        stream->frames_left = frames;
        stream->delivered = stream->lost = stream->started = 0;
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

GC_API DSStopAcquisition(DS_HANDLE handle, int32_t flags)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (flags != ACQ_STOP_FLAGS_DEFAULT && flags != ACQ_STOP_FLAGS_KILL)
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such way to stop");
    pthread_mutex_lock(&stream->lock);
    bool grabbing = stream->grabbing;
    stream->grabbing = false;
    stream_await_filled(stream);
    pthread_mutex_unlock(&stream->lock);
    if (!grabbing)
        return fail(GC_ERR_RESOURCE_IN_USE, "the stream doesn't take frames");
    return GC_ERR_SUCCESS;
}

GC_API DSClose(DS_HANDLE handle)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    stream_close(stream);
    return GC_ERR_SUCCESS;
}

GC_API DSGetParentDev(DS_HANDLE handle, DEV_HANDLE *device)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (!device)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    *device = stream->device;
    return GC_ERR_SUCCESS;
}

GC_API DSGetBufferID(DS_HANDLE handle, uint32_t index, BUFFER_HANDLE *found)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (!found)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    GC_ERROR error = GC_ERR_INVALID_INDEX;
    pthread_mutex_lock(&stream->lock);
    for (size_t i = 0; i < MAX_BUFFERS && error; i++) {
        if (stream->buffers[i].place == FREE_SLOT || index--)
            continue;
        *found = &stream->buffers[i];
        error = GC_ERR_SUCCESS;
    }
    pthread_mutex_unlock(&stream->lock);
    return error ? fail(error, "fewer buffers are announced") : GC_ERR_SUCCESS;
}

static size_t payload_of(struct device *device)
{
    pthread_mutex_lock(&device->lock);
    struct settings now = registers_settings(device);
    pthread_mutex_unlock(&device->lock);
    return registers_payload(&now);
}

GC_API DSGetInfo(DS_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *out, size_t *size)
{
    struct stream *stream = stream_of(handle);
    struct answer to = {type, out, size};
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    size_t payload = payload_of(stream->device);
    pthread_mutex_lock(&stream->lock);
    unsigned announced = MAX_BUFFERS - stream_count(stream, FREE_SLOT);
    unsigned queued = stream_count(stream, INPUT);
    unsigned awaiting = stream_count(stream, OUTPUT);
    uint64_t delivered = stream->delivered, lost = stream->lost, started = stream->started;
    bool grabbing = stream->grabbing;
    pthread_mutex_unlock(&stream->lock);
    switch (command) {
    case STREAM_INFO_ID:
        return answer_text(to, "stream0");
    case STREAM_INFO_NUM_DELIVERED:
        return answer_u64(to, delivered);
    case STREAM_INFO_NUM_UNDERRUN:
        return answer_u64(to, lost);
    case STREAM_INFO_NUM_ANNOUNCED:
        return answer_size(to, announced);
    case STREAM_INFO_NUM_QUEUED:
        return answer_size(to, queued);
    case STREAM_INFO_NUM_AWAIT_DELIVERY:
        return answer_size(to, awaiting);
    case STREAM_INFO_NUM_STARTED:
        return answer_u64(to, started);
    case STREAM_INFO_PAYLOAD_SIZE:
        return answer_size(to, payload);
    case STREAM_INFO_IS_GRABBING:
        return answer_bool(to, grabbing);
    case STREAM_INFO_DEFINES_PAYLOADSIZE:
        return answer_bool(to, 1);
    case STREAM_INFO_TLTYPE:
        return answer_text(to, stream->device->state->tl_type);
    case STREAM_INFO_NUM_CHUNKS_MAX:
        return answer_size(to, CHUNK_KINDS + 1);
    case STREAM_INFO_BUF_ANNOUNCE_MIN:
        return answer_size(to, MIN_BUFFERS);
    case STREAM_INFO_BUF_ALIGNMENT:
        return answer_size(to, 1);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the stream");
    }
}
