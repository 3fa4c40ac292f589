/* From source pictures to the bytes of a pixel format. */
#ifndef INSPECTD_PIXELS_H
#define INSPECTD_PIXELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_WIDTH 8192

/* A picture as it lies in memory: (H, W) grey or (H, W, 3) RGB, 8 bit. `data` NULL: generated. */
struct picture {
    const uint8_t *data;
    uint32_t width, height, channels;
};

/* What is asked of the sensor. */
struct region {
    uint32_t x, y, width, height;
};

/* Bytes of a picture in this format (PFNC value). */
size_t pixels_size(uint32_t format, uint32_t width, uint32_t height);

/* Writes the first `rows` lines of the region. Where the picture ends before the region, it is
 * black. A generated picture is a moving ramp, (x + y + 4 * number) mod 256, whose first 16 pixels
 * spell `number` and `frame_id`, 8 bytes each, little endian. */
void pixels_write(uint8_t *out, uint32_t format, const struct picture *picture,
                  const struct region *region, uint32_t rows, uint64_t number, uint64_t frame_id);

#endif
