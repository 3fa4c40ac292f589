/* One line at a time: find the source pixels, then convert them. */
#include "pixels.h"

#include "camera_features.h"

#include <string.h>

size_t pixels_size(uint32_t format, uint32_t width, uint32_t height)
{
    size_t pixels = (size_t)width * height;
    if (format == MONO12P)
        return pixels * 3 / 2;
    return format == RGB8 ? pixels * 3 : pixels;
}

/* Luma of ITU-R BT.601 in 8 bit fixed point. */
static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((77u * rgb[0] + 150u * rgb[1] + 29u * rgb[2] + 128u) >> 8);
}

static void to_grey(uint8_t *out, const uint8_t *rgb, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++)
        out[x] = luma(rgb + 3 * x);
}

/* Twelve bits v * 16 + v / 16, least significant first, without gaps. */
static void pack12(uint8_t *out, const uint8_t *grey, uint32_t width)
{
    for (uint32_t x = 0; x + 1 < width; x += 2, out += 3) {
        uint32_t a = grey[x] * 16u + (grey[x] >> 4);
        uint32_t b = grey[x + 1] * 16u + (grey[x + 1] >> 4);
        out[0] = (uint8_t)a;
        out[1] = (uint8_t)(a >> 8 | b << 4);
        out[2] = (uint8_t)(b >> 4);
    }
}

static void write_grey(uint8_t *out, uint32_t format, const uint8_t *grey, uint32_t width)
{
    if (format == MONO12P) {
        pack12(out, grey, width);
    } else if (format == RGB8) {
        for (uint32_t x = 0; x < width; x++)
            memset(out + 3 * x, grey[x], 3);
    } else {
        memcpy(out, grey, width);
    }
}

/* `y` is the line on the sensor: even lines are R G R G, odd ones G B G B. */
static void write_rgb(uint8_t *out, uint32_t format, const uint8_t *rgb, uint32_t width, uint32_t y)
{
    uint8_t grey[MAX_WIDTH];
    if (format == RGB8) {
        memcpy(out, rgb, (size_t)width * 3);
    } else if (format == BAYER_RG8) {
        uint32_t odd = y & 1;
        for (uint32_t x = 0; x + 1 < width; x += 2) {
            out[x] = rgb[3 * x + odd];
            out[x + 1] = rgb[3 * x + 4 + odd];
        }
    } else if (format == MONO12P) {
        to_grey(grey, rgb, width);
        pack12(out, grey, width);
    } else {
        to_grey(out, rgb, width);
    }
}

/* A line of the picture, (W) or (W, 3); `spare` holds it where it has to be put together. */
static const uint8_t *source_line(const struct picture *picture, uint32_t x, uint32_t y,
                                  uint32_t width, uint8_t *spare)
{
    size_t channels = picture->channels;
    if (y < picture->height && x + width <= picture->width)
        return picture->data + ((size_t)y * picture->width + x) * channels;
    memset(spare, 0, width * channels);
    if (y < picture->height && x < picture->width)
        memcpy(spare, picture->data + ((size_t)y * picture->width + x) * channels,
               (picture->width - x) * channels);
    return spare;
}

static void stamp(uint8_t *line, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        line[i] = (uint8_t)(value >> 8 * i);
}

static void write_generated(uint8_t *out, uint32_t format, const struct region *region,
                            uint32_t rows, uint64_t number, uint64_t frame_id)
{
    uint8_t ramp[256 + MAX_WIDTH];
    uint8_t first[MAX_WIDTH];
    size_t stride = pixels_size(format, region->width, 1);
    for (uint32_t x = 0; x < 256 + region->width; x++)
        ramp[x] = (uint8_t)x;
    for (uint32_t row = 0; row < rows; row++) {
        const uint8_t *line = ramp + ((region->x + region->y + row + 4 * number) & 255);
        if (row == 0) {
            memcpy(first, line, region->width);
            stamp(first, number);
            stamp(first + 8, frame_id);
            line = first;
        }
        write_grey(out + row * stride, format, line, region->width);
    }
}

void pixels_write(uint8_t *out, uint32_t format, const struct picture *picture,
                  const struct region *region, uint32_t rows, uint64_t number, uint64_t frame_id)
{
    if (!picture->data) {
        write_generated(out, format, region, rows, number, frame_id);
        return;
    }
    uint8_t spare[3 * MAX_WIDTH];
    size_t stride = pixels_size(format, region->width, 1);
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t y = region->y + row;
        const uint8_t *line = source_line(picture, region->x, y, region->width, spare);
        if (picture->channels == 3)
            write_rgb(out + row * stride, format, line, region->width, y);
        else
            write_grey(out + row * stride, format, line, region->width);
    }
}
