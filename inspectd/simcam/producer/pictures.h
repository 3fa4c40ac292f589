/* The folder of pictures that a camera shows: binary PGM and PPM files in name order, mapped. */
#ifndef INSPECTD_PICTURES_H
#define INSPECTD_PICTURES_H

#include "pixels.h"

struct mapped_picture {
    struct picture picture;
    void *memory;
    size_t size;
};

struct pictures {
    struct mapped_picture *items;
    size_t count;
};

/* Maps `directory`/`serial`/ *.pgm, *.ppm; files that are neither P5 nor P6 of 8 bit are left out. */
void pictures_open(struct pictures *pictures, const char *directory, const char *serial);
void pictures_close(struct pictures *pictures);

/* Picture number 1, 2, ...: (number - 1) mod count; a generated one where there is none. */
struct picture pictures_show(const struct pictures *pictures, uint64_t number);

#endif
