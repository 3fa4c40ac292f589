/* Filling a buffer: the picture, then its chunks. */
#ifndef INSPECTD_FRAME_H
#define INSPECTD_FRAME_H

#include "registers.h"

/* One exposure and what is to be wrong with it. */
struct shot {
    struct settings settings;
    struct picture picture;
    uint64_t number; /* of the part, from 1; it chooses the picture */
    uint64_t frame_id;
    uint64_t timestamp; /* device's time, ns */
    uint32_t trigger_count;
    uint32_t encoder;
    bool incomplete, wrong_size, bad_chunks;
};

/* Writes the shot into the buffer's memory and describes it in `buffer->frame`. */
void frame_fill(struct buffer *buffer, const struct shot *shot);

#endif
