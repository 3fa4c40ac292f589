/* Reads the headers of PGM (P5) and PPM (P6) files and maps their pixels. */
#define _GNU_SOURCE
#include "pictures.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_picture(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot != entry->d_name && (!strcmp(dot, ".pgm") || !strcmp(dot, ".ppm"));
}

/* The next number of the header; comments run to the end of their line. */
static bool header_number(const char **at, const char *end, uint32_t *value)
{
    while (*at < end && (isspace((unsigned char)**at) || **at == '#')) {
        if (**at == '#')
            while (*at < end && **at != '\n')
                ++*at;
        else
            ++*at;
    }
    uint64_t number = 0;
    const char *start = *at;
    for (; *at < end && isdigit((unsigned char)**at) && number < 1000000; ++*at)
        number = number * 10 + (uint64_t)(**at - '0');
    *value = (uint32_t)number;
    return *at > start;
}

static bool parse(struct mapped_picture *item)
{
    const char *at = item->memory;
    const char *end = at + item->size;
    uint32_t width, height, top;
    if (item->size < 8 || at[0] != 'P' || (at[1] != '5' && at[1] != '6'))
        return false;
    uint32_t channels = at[1] == '6' ? 3 : 1;
    at += 2;
    if (!header_number(&at, end, &width) || !header_number(&at, end, &height) ||
        !header_number(&at, end, &top) || top != 255 || !width || !height)
        return false;
    at++; /* the one white space after the header */
    if (at > end || (uint64_t)(end - at) < (uint64_t)width * height * channels)
        return false;
    item->picture = (struct picture){(const uint8_t *)at, width, height, channels};
    return true;
}

static bool map_picture(struct mapped_picture *item, const char *path)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    item->memory = MAP_FAILED;
    if (!fstat(fd, &about) && about.st_size > 0) {
        item->size = (size_t)about.st_size;
        item->memory = mmap(NULL, item->size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    }
    close(fd);
    if (item->memory == MAP_FAILED)
        return false;
    if (parse(item))
        return true;
    munmap(item->memory, item->size);
    return false;
}

void pictures_open(struct pictures *pictures, const char *directory, const char *serial)
{
    char folder[PATH_MAX];
    char path[2 * PATH_MAX];
    struct dirent **names;
    *pictures = (struct pictures){NULL, 0};
    snprintf(folder, sizeof folder, "%s/%s", directory, serial);
    int found = *directory ? scandir(folder, &names, is_picture, alphasort) : -1;
    if (found < 0)
        return;
    pictures->items = calloc((size_t)found + 1, sizeof *pictures->items);
    for (int i = 0; i < found; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (pictures->items && map_picture(&pictures->items[pictures->count], path))
            pictures->count++;
        free(names[i]);
    }
    free(names);
}

void pictures_close(struct pictures *pictures)
{
    for (size_t i = 0; i < pictures->count; i++)
        munmap(pictures->items[i].memory, pictures->items[i].size);
    free(pictures->items);
    *pictures = (struct pictures){NULL, 0};
}

struct picture pictures_show(const struct pictures *pictures, uint64_t number)
{
    if (!pictures->count)
        return (struct picture){NULL, 0, 0, 1};
    return pictures->items[(number + pictures->count - 1) % pictures->count].picture;
}
