/* The registers of the camera: what a host writes and reads through the remote port. */
#ifndef INSPECTD_REGISTERS_H
#define INSPECTD_REGISTERS_H

#include "module.h"

/* What the sensor needs of the registers, taken at one moment. */
struct settings {
    struct region region;
    uint32_t pixel_format;
    double frame_rate;       /* Hz */
    uint64_t exposure;       /* ns */
    uint64_t trigger_delay;  /* ns */
    double exposure_us;
    bool triggered;
    int64_t source;
    uint32_t divider;
    uint32_t chunks; /* bit per enum chunk; 0 where the chunk mode is off */
};

GC_ERROR registers_read(struct port *port, uint64_t address, void *out, size_t size);
GC_ERROR registers_write(struct port *port, uint64_t address, const void *in, size_t size);

/* Loads the power-up user set if the camera lost its power since. */
void registers_power_up(struct device *device);
/* Call with `device.lock` held. */
struct settings registers_settings(const struct device *device);
/* Bytes of a buffer. */
size_t registers_payload(const struct settings *settings);
/* Counter0: triggers of the source after the divider, with `edges` on it so far. */
uint32_t registers_trigger_count(const struct device *device, const struct settings *settings,
                                 uint32_t edges);

#endif
