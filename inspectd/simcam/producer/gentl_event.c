/* GenTL: the one event, a new buffer. Its queue is the stream's output queue. */
#define _GNU_SOURCE
#include "info.h"
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static struct stream *stream_of_event(EVENT_HANDLE handle)
{
    if (modules.initialised)
        for (unsigned i = 0; i < rig_file()->count; i++)
            if (handle == &modules.devices[i].stream.event)
                return &modules.devices[i].stream;
    return NULL;
}

GC_API GCRegisterEvent(EVENTSRC_HANDLE source, int32_t event_type, EVENT_HANDLE *handle)
{
    struct stream *stream = stream_of(source);
    if (!stream && !port_of(source))
        return fail(GC_ERR_INVALID_HANDLE, "not an open module");
    if (!stream || event_type != EVENT_NEW_BUFFER)
        return fail(GC_ERR_NOT_IMPLEMENTED, "the only event is a data stream's new buffer");
    if (!handle)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the handle");
    pthread_mutex_lock(&stream->lock);
    bool busy = stream->event.registered;
    if (!busy)
        stream->event = (struct event){.registered = true};
    pthread_mutex_unlock(&stream->lock);
    if (busy)
        return fail(GC_ERR_RESOURCE_IN_USE, "the event is registered already");
    *handle = &stream->event;
    return GC_ERR_SUCCESS;
}

/* Whoever waits for the event leaves with GC_ERR_ABORT. */
static void end_event(struct stream *stream, bool unregister)
{
    pthread_mutex_lock(&stream->lock);
    stream->event.killed = true;
    if (unregister)
        stream->event.registered = false;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
}

GC_API GCUnregisterEvent(EVENTSRC_HANDLE source, int32_t event_type)
{
    struct stream *stream = stream_of(source);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (event_type != EVENT_NEW_BUFFER)
        return fail(GC_ERR_NOT_IMPLEMENTED, "the only event is a new buffer");
    end_event(stream, true);
    return GC_ERR_SUCCESS;
}

static struct timespec deadline_after(uint64_t timeout_ms)
{
    uint64_t at = rig_now() + timeout_ms * NS_PER_MS;
    return (struct timespec){(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)};
}

/* Waits, with the lock held, for a filled buffer; `*found` is NULL unless it succeeds. */
static GC_ERROR await_buffer(struct stream *stream, uint64_t timeout_ms, struct buffer **found)
{
    bool endless = timeout_ms > UINT64_C(1000) * 3600 * 24 * 365;
    struct timespec deadline = deadline_after(endless ? 0 : timeout_ms);
    int error = 0;
    while (!(*found = stream_oldest(stream, OUTPUT))) {
        if (stream->event.killed)
            return GC_ERR_ABORT;
        if (error == ETIMEDOUT)
            return GC_ERR_TIMEOUT;
        error = endless ? pthread_cond_wait(&stream->changed, &stream->lock)
                        : pthread_cond_timedwait(&stream->changed, &stream->lock, &deadline);
    }
    return GC_ERR_SUCCESS;
}

static GC_ERROR next_event(struct stream *stream, uint64_t timeout_ms, EVENT_NEW_BUFFER_DATA *data)
{
    struct buffer *buffer = NULL;
    pthread_mutex_lock(&stream->lock);
    GC_ERROR error = stream->event.registered ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE;
    if (!error && !stream->event.killed)
        error = await_buffer(stream, timeout_ms, &buffer);
    if (stream->event.killed) {
        error = GC_ERR_ABORT;
        stream->event.killed = !stream->event.registered; /* one abort for each EventKill */
    } else if (buffer) {
        stream_move(stream, buffer, WITH_HOST);
        if (buffer->new_data) {
            stream->delivered++;
            atomic_fetch_add(&stream->device->state->delivered, 1);
        }
        *data = (EVENT_NEW_BUFFER_DATA){buffer, buffer->user};
    }
    pthread_mutex_unlock(&stream->lock);
    return error;
}

GC_API EventGetData(EVENT_HANDLE handle, void *out, size_t *size, uint64_t timeout_ms)
{
    struct stream *stream = stream_of_event(handle);
    EVENT_NEW_BUFFER_DATA data;
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an event");
    if (!out || !size)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the data");
    if (*size < sizeof data)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "the event's data are two pointers");
    GC_ERROR error = next_event(stream, timeout_ms, &data);
    if (error)
        return fail(error, error == GC_ERR_TIMEOUT ? "no frame came" : "the wait was ended");
    memcpy(out, &data, sizeof data);
    *size = sizeof data;
    return GC_ERR_SUCCESS;
}

GC_API EventGetDataInfo(EVENT_HANDLE handle, const void *in, size_t in_size, int32_t command,
                        INFO_DATATYPE *type, void *out, size_t *size)
{
    struct answer to = {type, out, size};
    const EVENT_NEW_BUFFER_DATA *data = in;
    if (!stream_of_event(handle))
        return fail(GC_ERR_INVALID_HANDLE, "not an event");
    if (!in || in_size < sizeof *data)
        return fail(GC_ERR_INVALID_PARAMETER, "no event data");
    if (command == EVENT_DATA_ID)
        return answer_pointer(to, data->buffer);
    if (command == EVENT_DATA_VALUE)
        return answer_pointer(to, data->user_pointer);
    return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the event's data");
}

GC_API EventGetInfo(EVENT_HANDLE handle, int32_t command, INFO_DATATYPE *type, void *out,
                    size_t *size)
{
    struct stream *stream = stream_of_event(handle);
    struct answer to = {type, out, size};
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an event");
    pthread_mutex_lock(&stream->lock);
    size_t queued = stream_count(stream, OUTPUT);
    uint64_t fired = stream->event.fired;
    pthread_mutex_unlock(&stream->lock);
    switch (command) {
    case EVENT_EVENT_TYPE:
        return answer_i32(to, EVENT_NEW_BUFFER);
    case EVENT_NUM_IN_QUEUE:
        return answer_size(to, queued);
    case EVENT_NUM_FIRED:
        return answer_u64(to, fired);
    case EVENT_SIZE_MAX:
    case EVENT_INFO_DATA_SIZE_MAX:
        return answer_size(to, sizeof(EVENT_NEW_BUFFER_DATA));
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the event");
    }
}

GC_API EventFlush(EVENT_HANDLE handle)
{
    struct stream *stream = stream_of_event(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an event");
    pthread_mutex_lock(&stream->lock);
    stream_move_all(stream, OUTPUT, IDLE);
    pthread_mutex_unlock(&stream->lock);
    return GC_ERR_SUCCESS;
}

GC_API EventKill(EVENT_HANDLE handle)
{
    struct stream *stream = stream_of_event(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an event");
    end_event(stream, false);
    return GC_ERR_SUCCESS;
}
