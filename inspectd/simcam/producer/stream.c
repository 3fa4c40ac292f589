/* Buffers move between places: INPUT -> FILLING -> OUTPUT -> WITH_HOST -> INPUT. */
#define _GNU_SOURCE
#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void stream_init(struct stream *stream, struct device *device)
{
    pthread_condattr_t monotonic;
    memset(stream, 0, sizeof *stream);
    stream->device = device;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&stream->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    stream->port = (struct port){
        .name = "StreamPort",
        .module = "TLDataStream",
        .rows = stream_features,
        .row_count = stream_feature_count,
        .device = device,
        .read = stream_read,
        .write = stream_write,
    };
}

void stream_destroy(struct stream *stream)
{
    free(stream->port.xml);
    stream->port.xml = NULL;
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->lock);
}

void stream_close(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->grabbing = false;
    stream_await_filled(stream);
    stream_move_all(stream, OUTPUT, IDLE);
    for (size_t i = 0; i < MAX_BUFFERS; i++) {
        struct buffer *buffer = &stream->buffers[i];
        if (buffer->place != FREE_SLOT && buffer->own_memory)
            free(buffer->memory);
        memset(buffer, 0, sizeof *buffer);
    }
    stream->open = stream->port.open = false;
    stream->mode = OLDEST_FIRST;
    stream->event.registered = false;
    stream->event.killed = true; /* whoever waits leaves */
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
}

struct buffer *stream_oldest(struct stream *stream, enum buffer_place place)
{
    struct buffer *oldest = NULL;
    for (size_t i = 0; i < MAX_BUFFERS; i++) {
        struct buffer *buffer = &stream->buffers[i];
        if (buffer->place == place && (!oldest || buffer->order < oldest->order))
            oldest = buffer;
    }
    return oldest;
}

unsigned stream_count(const struct stream *stream, enum buffer_place place)
{
    unsigned count = 0;
    for (size_t i = 0; i < MAX_BUFFERS; i++)
        count += stream->buffers[i].place == place;
    return count;
}

/* A frame in the output queue is given up before the host saw it. */
static void count_sacrifice(struct stream *stream, const struct buffer *buffer)
{
    if (buffer->place != OUTPUT || !buffer->new_data)
        return;
    stream->lost++;
    atomic_fetch_add(&stream->device->state->dropped, 1);
}

void stream_move(struct stream *stream, struct buffer *buffer, enum buffer_place place)
{
    if (place != WITH_HOST)
        count_sacrifice(stream, buffer);
    buffer->place = place;
    buffer->order = ++stream->order;
    buffer->new_data = place == OUTPUT || (place == WITH_HOST && buffer->new_data);
}

void stream_move_all(struct stream *stream, enum buffer_place from, enum buffer_place to)
{
    for (struct buffer *buffer; (buffer = stream_oldest(stream, from)) != NULL;)
        stream_move(stream, buffer, to);
}

void stream_await_filled(struct stream *stream)
{
    while (stream_count(stream, FILLING))
        pthread_cond_wait(&stream->changed, &stream->lock);
}

static struct buffer *buffer_to_fill(struct stream *stream)
{
    if (!stream->open || !stream->grabbing || !stream->frames_left)
        return NULL;
    struct buffer *buffer = stream_oldest(stream, INPUT);
    if (!buffer && stream->mode != OLDEST_FIRST)
        buffer = stream_oldest(stream, OUTPUT);
    if (!buffer)
        stream->lost++;
    return buffer;
}

struct buffer *stream_take(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    struct buffer *buffer = buffer_to_fill(stream);
    if (buffer) {
        stream_move(stream, buffer, FILLING);
        stream->started++;
    } else {
        atomic_fetch_add(&stream->device->state->dropped, 1);
    }
    pthread_mutex_unlock(&stream->lock);
    return buffer;
}

void stream_give(struct stream *stream, struct buffer *buffer)
{
    pthread_mutex_lock(&stream->lock);
    if (stream->mode == NEWEST_ONLY)
        stream_move_all(stream, OUTPUT, INPUT);
    stream_move(stream, buffer, OUTPUT);
    if (stream->frames_left != GENTL_INFINITE)
        stream->frames_left--;
    stream->event.fired++;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
}

static uint64_t current(struct stream *stream, unsigned reg)
{
    switch (reg) {
    case STREAM_MODE:
        return (uint64_t)stream->mode;
    case STREAM_ANNOUNCED:
        return MAX_BUFFERS - stream_count(stream, FREE_SLOT);
    case STREAM_ANNOUNCE_MIN:
        return MIN_BUFFERS;
    case STREAM_INPUT:
        return stream_count(stream, INPUT);
    case STREAM_OUTPUT:
        return stream_count(stream, OUTPUT);
    case STREAM_DELIVERED:
        return stream->delivered;
    case STREAM_LOST:
        return stream->lost;
    case STREAM_STARTED:
        return stream->started;
    default:
        return stream->grabbing;
    }
}

GC_ERROR stream_read(struct port *port, uint64_t address, void *out, size_t size)
{
    struct stream *stream = &port->device->stream;
    if (address % 8 || address / 8 > STREAM_GRABBING || size > 8)
        return fail(GC_ERR_INVALID_ADDRESS, "no register there");
    pthread_mutex_lock(&stream->lock);
    uint64_t value = current(stream, (unsigned)(address / 8));
    pthread_mutex_unlock(&stream->lock);
    memcpy(out, &value, size);
    return GC_ERR_SUCCESS;
}

GC_ERROR stream_write(struct port *port, uint64_t address, const void *in, size_t size)
{
    struct stream *stream = &port->device->stream;
    int64_t value = 0;
    if (address != 8 * STREAM_MODE || size > 8)
        return fail(GC_ERR_ACCESS_DENIED, "the feature can't be written");
    memcpy(&value, in, size);
    if (value < OLDEST_FIRST || value > NEWEST_ONLY)
        return fail(GC_ERR_INVALID_VALUE, "no such buffer handling mode");
    pthread_mutex_lock(&stream->lock);
    bool grabbing = stream->grabbing;
    if (!grabbing)
        stream->mode = value;
    pthread_mutex_unlock(&stream->lock);
    return grabbing ? fail(GC_ERR_ACCESS_DENIED, "not while the stream takes frames")
                    : GC_ERR_SUCCESS;
}
