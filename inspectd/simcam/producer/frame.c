/* The buffer's layout is GigE Vision's: data, identifier, length, data, identifier, length, ...
 * with the picture as the first chunk; identifiers and lengths are big endian. */
#include "frame.h"

#include <string.h>

#define GARBAGE 0xDEAD0000u

static void put_big_endian(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* The trailer of a chunk whose data lie at `offset`; returns where the next one begins. */
static size_t end_chunk(struct buffer *buffer, size_t offset, size_t length, uint32_t id)
{
    uint8_t *at = (uint8_t *)buffer->memory + offset + length;
    put_big_endian(at, id);
    put_big_endian(at + 4, (uint32_t)length);
    buffer->frame.chunk[buffer->frame.chunk_count++] =
        (SINGLE_CHUNK_DATA){id, (ptrdiff_t)offset, length};
    return offset + length + CHUNK_TRAILER_SIZE;
}

static uint64_t chunk_value(const struct shot *shot, enum chunk chunk)
{
    switch (chunk) {
    case CHUNK_FRAME_ID:
        return shot->frame_id;
    case CHUNK_TIMESTAMP:
        return shot->timestamp;
    case CHUNK_EXPOSURE_TIME:
        return bits_of_double(shot->settings.exposure_us);
    case CHUNK_LINE_STATUS_ALL:
        return shot->settings.triggered && shot->settings.source == SOURCE_LINE0;
    case CHUNK_COUNTER_VALUE:
        return shot->trigger_count;
    case CHUNK_ENCODER_VALUE:
        return shot->encoder;
    default:
        return 0;
    }
}

static void write_chunks(struct buffer *buffer, const struct shot *shot)
{
    size_t at = end_chunk(buffer, 0, buffer->frame.picture_size, CHUNK_ID_IMAGE);
    for (unsigned chunk = 0; chunk < CHUNK_KINDS; chunk++) {
        if (!(shot->settings.chunks & 1u << chunk))
            continue;
        uint64_t value = chunk_value(shot, chunk);
        memcpy((uint8_t *)buffer->memory + at, &value, CHUNK_VALUE_SIZE);
        uint32_t id = shot->bad_chunks ? GARBAGE + chunk : CHUNK_ID(chunk);
        at = end_chunk(buffer, at, CHUNK_VALUE_SIZE, id);
    }
    buffer->frame.chunks = true;
    buffer->frame.size_filled = at;
}

/* Lines that the picture has in the end; half of them are even, as the formats want. */
static uint32_t lines_of(const struct shot *shot)
{
    uint32_t height = shot->settings.region.height;
    if (!shot->wrong_size)
        return height;
    return height >= 4 ? height / 2 & ~1u : height;
}

void frame_fill(struct buffer *buffer, const struct shot *shot)
{
    const struct settings *now = &shot->settings;
    uint32_t height = lines_of(shot);
    size_t line = pixels_size(now->pixel_format, now->region.width, 1);
    uint32_t rows = shot->incomplete ? height / 2 : height;
    bool too_small = buffer->size < registers_payload(now);
    if (too_small && rows > buffer->size / line)
        rows = (uint32_t)(buffer->size / line);
    buffer->frame = (struct frame_info){
        .frame_id = shot->frame_id,
        .timestamp = shot->timestamp,
        .width = now->region.width,
        .height = height,
        .offset_x = now->region.x,
        .offset_y = now->region.y,
        .pixel_format = now->pixel_format,
        .picture_size = line * height,
        .size_filled = line * rows,
        .incomplete = shot->incomplete || too_small,
        .larger_than_buffer = too_small,
    };
    pixels_write(buffer->memory, now->pixel_format, &shot->picture, &now->region, rows,
                 shot->number, shot->frame_id);
    if (now->chunks && !buffer->frame.incomplete)
        write_chunks(buffer, shot);
}
