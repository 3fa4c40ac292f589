/* GenTL: what is in a buffer. */
#define _GNU_SOURCE
#include "info.h"
#include "stream.h"

#include <string.h>

/* What doesn't depend on a frame; GC_ERR_NOT_AVAILABLE for every other command. */
static GC_ERROR buffer_info(const struct buffer *buffer, int32_t command, struct answer to)
{
    switch (command) {
    case BUFFER_INFO_BASE:
        return answer_pointer(to, buffer->memory);
    case BUFFER_INFO_SIZE:
        return answer_size(to, buffer->size);
    case BUFFER_INFO_USER_PTR:
        return answer_pointer(to, buffer->user);
    case BUFFER_INFO_NEW_DATA:
        return answer_bool(to, buffer->new_data);
    case BUFFER_INFO_IS_QUEUED:
        return answer_bool(to, buffer->place == INPUT || buffer->place == OUTPUT);
    case BUFFER_INFO_IS_ACQUIRING:
        return answer_bool(to, buffer->place == FILLING);
    case BUFFER_INFO_IS_COMPOSITE:
        return answer_bool(to, 0);
    default:
        return GC_ERR_NOT_AVAILABLE;
    }
}

static GC_ERROR frame_info(const struct frame_info *frame, int32_t command, struct answer to)
{
    switch (command) {
    case BUFFER_INFO_TIMESTAMP:
    case BUFFER_INFO_TIMESTAMP_NS:
        return answer_u64(to, frame->timestamp);
    case BUFFER_INFO_IS_INCOMPLETE:
        return answer_bool(to, frame->incomplete);
    case BUFFER_INFO_SIZE_FILLED:
    case BUFFER_INFO_DATA_SIZE:
        return answer_size(to, frame->size_filled);
    case BUFFER_INFO_WIDTH:
        return answer_size(to, frame->width);
    case BUFFER_INFO_HEIGHT:
    case BUFFER_INFO_DELIVERED_IMAGEHEIGHT:
        return answer_size(to, frame->height);
    case BUFFER_INFO_XOFFSET:
        return answer_size(to, frame->offset_x);
    case BUFFER_INFO_YOFFSET:
        return answer_size(to, frame->offset_y);
    case BUFFER_INFO_XPADDING:
    case BUFFER_INFO_YPADDING:
    case BUFFER_INFO_IMAGEOFFSET:
        return answer_size(to, 0);
    case BUFFER_INFO_FRAMEID:
        return answer_u64(to, frame->frame_id);
    case BUFFER_INFO_IMAGEPRESENT:
        return answer_bool(to, 1);
    case BUFFER_INFO_PAYLOADTYPE:
        return answer_size(to, frame->chunks ? PAYLOAD_TYPE_CHUNK_DATA : PAYLOAD_TYPE_IMAGE);
    case BUFFER_INFO_PIXELFORMAT:
        return answer_u64(to, frame->pixel_format);
    case BUFFER_INFO_PIXELFORMAT_NAMESPACE:
        return answer_u64(to, PIXELFORMAT_NAMESPACE_PFNC_32BIT);
    case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE:
        return answer_size(to, frame->chunks ? frame->size_filled : 0);
    case BUFFER_INFO_CHUNKLAYOUTID:
        return answer_u64(to, frame->chunk_count);
    case BUFFER_INFO_PIXEL_ENDIANNESS:
        return answer_i32(to, PIXELENDIANNESS_LITTLE);
    case BUFFER_INFO_DATA_LARGER_THAN_BUFFER:
        return answer_bool(to, frame->larger_than_buffer);
    case BUFFER_INFO_CONTAINS_CHUNKDATA:
        return answer_bool(to, frame->chunks);
    default:
        return fail(GC_ERR_NOT_IMPLEMENTED, "no such information about the buffer");
    }
}

static GC_ERROR info_of(struct stream *stream, BUFFER_HANDLE handle, int32_t command,
                        struct answer to)
{
    const struct buffer *buffer = buffer_of(stream, handle);
    if (!buffer)
        return fail(GC_ERR_INVALID_HANDLE, "not an announced buffer");
    if (command == BUFFER_INFO_TLTYPE)
        return answer_text(to, stream->device->state->tl_type);
    GC_ERROR error = buffer_info(buffer, command, to);
    if (error != GC_ERR_NOT_AVAILABLE)
        return error;
    if (!buffer->new_data)
        return fail(GC_ERR_NO_DATA, "the buffer holds no frame");
    return frame_info(&buffer->frame, command, to);
}

GC_API DSGetBufferInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, int32_t command,
                       INFO_DATATYPE *type, void *out, size_t *size)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    pthread_mutex_lock(&stream->lock);
    GC_ERROR error = info_of(stream, buffer, command, (struct answer){type, out, size});
    pthread_mutex_unlock(&stream->lock);
    return error;
}

static GC_ERROR chunks_of(struct stream *stream, BUFFER_HANDLE handle, SINGLE_CHUNK_DATA *chunks,
                          size_t *count)
{
    const struct buffer *buffer = buffer_of(stream, handle);
    if (!buffer)
        return fail(GC_ERR_INVALID_HANDLE, "not an announced buffer");
    if (!buffer->new_data || !buffer->frame.chunks)
        return fail(GC_ERR_NO_DATA, "the buffer holds no chunks");
    size_t room = *count;
    *count = buffer->frame.chunk_count;
    if (!chunks)
        return GC_ERR_SUCCESS;
    if (room < *count)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "there are more chunks");
    memcpy(chunks, buffer->frame.chunk, *count * sizeof *chunks);
    return GC_ERR_SUCCESS;
}

GC_API DSGetBufferChunkData(DS_HANDLE handle, BUFFER_HANDLE buffer, SINGLE_CHUNK_DATA *chunks,
                            size_t *count)
{
    struct stream *stream = stream_of(handle);
    if (!stream)
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (!count)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    pthread_mutex_lock(&stream->lock);
    GC_ERROR error = chunks_of(stream, buffer, chunks, count);
    pthread_mutex_unlock(&stream->lock);
    return error;
}

/* No payload of this producer has parts. */
GC_API DSGetNumBufferParts(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t *count)
{
    (void)buffer;
    if (!stream_of(handle))
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    if (!count)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the count");
    *count = 0;
    return GC_ERR_SUCCESS;
}

GC_API DSGetBufferPartInfo(DS_HANDLE handle, BUFFER_HANDLE buffer, uint32_t part, int32_t command,
                           INFO_DATATYPE *type, void *out, size_t *size)
{
    (void)buffer, (void)part, (void)command, (void)type, (void)out, (void)size;
    if (!stream_of(handle))
        return fail(GC_ERR_INVALID_HANDLE, "not an open data stream");
    return fail(GC_ERR_INVALID_INDEX, "the payload has no parts");
}

/* ---- what a newer GenTL has and this producer does not ---- */

static GC_ERROR not_here(void)
{
    return fail(GC_ERR_NOT_IMPLEMENTED, "buffers are contiguous and have no flows");
}

GC_API DSAnnounceCompositeBuffer(DS_HANDLE stream, size_t count, void **segments, size_t *sizes,
                                 void *user, BUFFER_HANDLE *buffer)
{
    (void)stream, (void)count, (void)segments, (void)sizes, (void)user, (void)buffer;
    return not_here();
}

GC_API DSGetNumFlows(DS_HANDLE stream, uint32_t *count)
{
    (void)stream, (void)count;
    return not_here();
}

GC_API DSGetFlowInfo(DS_HANDLE stream, uint32_t flow, int32_t command, INFO_DATATYPE *type,
                     void *out, size_t *size)
{
    (void)stream, (void)flow, (void)command, (void)type, (void)out, (void)size;
    return not_here();
}

GC_API DSGetNumBufferSegments(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t *count)
{
    (void)stream, (void)buffer, (void)count;
    return not_here();
}

GC_API DSGetBufferSegmentInfo(DS_HANDLE stream, BUFFER_HANDLE buffer, uint32_t segment,
                              int32_t command, INFO_DATATYPE *type, void *out, size_t *size)
{
    (void)stream, (void)buffer, (void)segment, (void)command, (void)type, (void)out, (void)size;
    return not_here();
}
