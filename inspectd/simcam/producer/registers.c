/* The camera's registers: limits, user sets, commands and values that are worked out when read. */
#define _GNU_SOURCE
#include "registers.h"

#include "sensor.h"

#include <stdio.h>
#include <string.h>

static int64_t integer(const struct device *device, unsigned reg)
{
    return (int64_t)device->state->registers[reg];
}

static double floating(const struct device *device, unsigned reg)
{
    return double_of_bits(device->state->registers[reg]);
}

static void set(struct device *device, unsigned reg, int64_t value)
{
    device->state->registers[reg] = (uint64_t)value;
}

/* ---- user sets ---- */

static uint64_t factory_value(const struct device *device, const struct feature *row)
{
    if (row->reg == REG_WIDTH)
        return device->state->width;
    if (row->reg == REG_HEIGHT)
        return device->state->height;
    return feature_power_up(row);
}

static void load_set(struct device *device, int64_t which)
{
    struct rig_device *state = device->state;
    bool saved = which == SET_USER1 && atomic_load(&state->saved);
    for (size_t i = 0; i < device_feature_count; i++) {
        const struct feature *row = &device_features[i];
        if (row->kind != STRING && row->flags & SAVED)
            state->registers[row->reg] =
                saved ? state->user_set[row->reg] : factory_value(device, row);
    }
}

static GC_ERROR save_set(struct device *device)
{
    if (integer(device, REG_USER_SET_SELECTOR) != SET_USER1)
        return fail(GC_ERR_ACCESS_DENIED, "the user set Default can't be saved to");
    memcpy(device->state->user_set, device->state->registers, sizeof device->state->user_set);
    atomic_store(&device->state->saved, 1);
    return GC_ERR_SUCCESS;
}

void registers_power_up(struct device *device)
{
    struct rig_device *state = device->state;
    pthread_mutex_lock(&device->lock);
    if (atomic_load(&state->registers_of) != atomic_load(&state->power_ups)) {
        memset(state->registers, 0, sizeof state->registers);
        load_set(device, atomic_load(&state->power_up_set));
        atomic_store(&state->registers_of, atomic_load(&state->power_ups));
    }
    set(device, REG_PARAMS_LOCKED, 0);
    pthread_mutex_unlock(&device->lock);
}

/* ---- what the sensor reads ---- */

struct settings registers_settings(const struct device *device)
{
    struct settings now = {
        .region = {(uint32_t)integer(device, REG_OFFSET_X), (uint32_t)integer(device, REG_OFFSET_Y),
                   (uint32_t)integer(device, REG_WIDTH), (uint32_t)integer(device, REG_HEIGHT)},
        .pixel_format = (uint32_t)integer(device, REG_PIXEL_FORMAT),
        .frame_rate = floating(device, REG_FRAME_RATE),
        .exposure_us = floating(device, REG_EXPOSURE_TIME),
        .triggered = integer(device, REG_TRIGGER_MODE) != 0,
        .source = integer(device, REG_TRIGGER_SOURCE),
        .divider = (uint32_t)integer(device, REG_TRIGGER_DIVIDER),
        .chunks = integer(device, REG_CHUNK_MODE) ? (uint32_t)integer(device, REG_CHUNK_ENABLE) : 0,
    };
    now.exposure = (uint64_t)(now.exposure_us * 1000.0);
    now.trigger_delay = (uint64_t)(floating(device, REG_TRIGGER_DELAY) * 1000.0);
    return now;
}

size_t registers_payload(const struct settings *settings)
{
    size_t size =
        pixels_size(settings->pixel_format, settings->region.width, settings->region.height);
    if (!settings->chunks)
        return size;
    size_t chunks = (size_t)__builtin_popcount(settings->chunks);
    return size + CHUNK_TRAILER_SIZE + chunks * (CHUNK_VALUE_SIZE + CHUNK_TRAILER_SIZE);
}

uint32_t registers_trigger_count(const struct device *device, const struct settings *settings,
                                 uint32_t edges)
{
    const struct rig_device *state = device->state;
    if (settings->source == SOURCE_LINE0)
        return (edges - atomic_load(&state->line_base)) / settings->divider;
    if (settings->source == SOURCE_ENCODER0)
        return (edges - atomic_load(&state->encoder_base)) / settings->divider;
    return edges - atomic_load(&state->software_base);
}

/* ---- reading ---- */

static int64_t counter_value(const struct device *device)
{
    const struct rig_device *state = device->state;
    struct settings now = registers_settings(device);
    switch (integer(device, REG_COUNTER_SELECTOR)) {
    case COUNTER_FRAMES:
        return atomic_load(&state->frame_id);
    case COUNTER_ENCODER:
        return (int64_t)(atomic_load(&state->encoder_ticks) - atomic_load(&state->encoder_base));
    default:
        return registers_trigger_count(device, &now, sensor_edges(device, now.source));
    }
}

/* The value of a register as it is read now. */
static uint64_t current(const struct device *device, unsigned reg)
{
    const struct rig_device *state = device->state;
    struct settings now = registers_settings(device);
    switch (reg) {
    case REG_SENSOR_WIDTH:
        return state->width;
    case REG_SENSOR_HEIGHT:
        return state->height;
    case REG_WIDTH_MAX:
        return state->width - now.region.x;
    case REG_HEIGHT_MAX:
        return state->height - now.region.y;
    case REG_OFFSET_X_MAX:
        return state->width - now.region.width;
    case REG_OFFSET_Y_MAX:
        return state->height - now.region.height;
    case REG_PAYLOAD_SIZE:
        return registers_payload(&now);
    case REG_COUNTER_SOURCE:
        return (uint64_t)integer(device, REG_COUNTER_SELECTOR);
    case REG_COUNTER_VALUE:
        return (uint64_t)counter_value(device);
    case REG_ENCODER_VALUE:
        return atomic_load(&state->encoder_ticks) - atomic_load(&state->encoder_base);
    case REG_CHUNK_ENABLE:
        return (uint64_t)(integer(device, REG_CHUNK_ENABLE) >>
                          integer(device, REG_CHUNK_SELECTOR)) & 1;
    case REG_USER_SET_DEFAULT:
        return atomic_load(&state->power_up_set);
    case REG_TIMESTAMP_VALUE:
        return device->latched;
    case REG_TEMPERATURE:
        return bits_of_double(atomic_load(&state->temperature) / 1000.0);
    default:
        return state->registers[reg];
    }
}

static const char *text_of(const struct device *device, unsigned index)
{
    switch (index) {
    case TEXT_VENDOR:
        return VENDOR;
    case TEXT_MODEL:
        return device->state->model;
    case TEXT_SERIAL:
        return device->state->serial;
    case TEXT_USER_ID:
        return device->state->user_id;
    case TEXT_VERSION:
        return PRODUCER_VERSION;
    default:
        return NULL;
    }
}

GC_ERROR registers_read(struct port *port, uint64_t address, void *out, size_t size)
{
    struct device *device = port->device;
    if (address >= ADDRESS_STRINGS) {
        const char *text = text_of(device, (unsigned)((address - ADDRESS_STRINGS) / STRING_SIZE));
        if (!text || address % STRING_SIZE || size > STRING_SIZE)
            return fail(GC_ERR_INVALID_ADDRESS, "no string there");
        pthread_mutex_lock(&device->lock);
        memset(out, 0, size);
        memcpy(out, text, strnlen(text, size));
        pthread_mutex_unlock(&device->lock);
        return GC_ERR_SUCCESS;
    }
    if (address % 8 || address / 8 >= DEVICE_REGISTERS || size > 8)
        return fail(GC_ERR_INVALID_ADDRESS, "no register there");
    pthread_mutex_lock(&device->lock);
    uint64_t value = current(device, (unsigned)(address / 8));
    pthread_mutex_unlock(&device->lock);
    memcpy(out, &value, size);
    return GC_ERR_SUCCESS;
}

/* ---- writing ---- */

static void reset_counter(struct device *device)
{
    struct rig_device *state = device->state;
    int64_t which = integer(device, REG_COUNTER_SELECTOR);
    if (which == COUNTER_ENCODER)
        atomic_store(&state->encoder_base, atomic_load(&state->encoder_ticks));
    if (which != COUNTER_TRIGGERS)
        return;
    atomic_store(&state->line_base, atomic_load(&state->line_edges));
    atomic_store(&state->software_base, atomic_load(&state->software_triggers));
}

static void software_trigger(struct device *device)
{
    struct settings now = registers_settings(device);
    if (!now.triggered || now.source != SOURCE_SOFTWARE || !device->acquiring)
        return;
    device->software_pending++;
    rig_wake(device->state);
}

static GC_ERROR command(struct device *device, unsigned reg)
{
    switch (reg) {
    case REG_TRIGGER_SOFTWARE:
        software_trigger(device);
        return GC_ERR_SUCCESS;
    case REG_COUNTER_RESET:
        reset_counter(device);
        return GC_ERR_SUCCESS;
    case REG_USER_SET_LOAD:
        load_set(device, integer(device, REG_USER_SET_SELECTOR));
        return GC_ERR_SUCCESS;
    case REG_USER_SET_SAVE:
        return save_set(device);
    case REG_TIMESTAMP_LATCH:
        device->latched = rig_device_time(device->state, rig_now());
        return GC_ERR_SUCCESS;
    default:
        return GC_ERR_SUCCESS;
    }
}

/* The largest value: of the row, or what the sensor leaves at the present offset or size. */
static double maximum(const struct device *device, const struct feature *row)
{
    switch (row->reg) {
    case REG_WIDTH:
        return (double)current(device, REG_WIDTH_MAX);
    case REG_HEIGHT:
        return (double)current(device, REG_HEIGHT_MAX);
    case REG_OFFSET_X:
        return (double)current(device, REG_OFFSET_X_MAX);
    case REG_OFFSET_Y:
        return (double)current(device, REG_OFFSET_Y_MAX);
    default:
        return row->max;
    }
}

static bool allowed(const struct device *device, const struct feature *row, uint64_t bits)
{
    int64_t whole = (int64_t)bits;
    if (row->kind == ENUMERATION)
        return feature_has_entry(row, whole);
    if (row->kind == BOOLEAN)
        return bits <= 1;
    double value = row->kind == FLOATING ? double_of_bits(bits) : (double)whole;
    if (!(value >= row->min && value <= maximum(device, row)))
        return false;
    return row->inc <= 1 || whole % (int64_t)row->inc == 0;
}

static GC_ERROR write_number(struct device *device, const struct feature *row, uint64_t bits)
{
    if (row->flags & READ_ONLY)
        return fail(GC_ERR_ACCESS_DENIED, "the feature can't be written");
    if (row->flags & LOCKED && device->acquiring)
        return fail(GC_ERR_ACCESS_DENIED, "not while the camera acquires; stop it first");
    if (row->kind == COMMAND)
        return command(device, row->reg);
    if (!allowed(device, row, bits))
        return fail(GC_ERR_INVALID_VALUE, "the value is out of the feature's limits");
    if (row->reg == REG_CHUNK_ENABLE) {
        int64_t bit = INT64_C(1) << integer(device, REG_CHUNK_SELECTOR);
        int64_t mask = integer(device, REG_CHUNK_ENABLE);
        set(device, REG_CHUNK_ENABLE, bits ? mask | bit : mask & ~bit);
    } else if (row->reg == REG_USER_SET_DEFAULT) {
        atomic_store(&device->state->power_up_set, (uint32_t)bits);
    } else {
        device->state->registers[row->reg] = bits;
        rig_wake(device->state);
    }
    return GC_ERR_SUCCESS;
}

static GC_ERROR write_text(struct device *device, uint64_t address, const void *in, size_t size)
{
    if (address != ADDRESS_STRINGS + TEXT_USER_ID * STRING_SIZE)
        return fail(GC_ERR_ACCESS_DENIED, "the feature can't be written");
    if (size > STRING_SIZE)
        return fail(GC_ERR_INVALID_VALUE, "the text is too long");
    pthread_mutex_lock(&device->lock);
    memset(device->state->user_id, 0, STRING_SIZE);
    memcpy(device->state->user_id, in, size);
    device->state->user_id[STRING_SIZE - 1] = '\0';
    pthread_mutex_unlock(&device->lock);
    return GC_ERR_SUCCESS;
}

GC_ERROR registers_write(struct port *port, uint64_t address, const void *in, size_t size)
{
    struct device *device = port->device;
    if (address >= ADDRESS_STRINGS)
        return write_text(device, address, in, size);
    unsigned reg = (unsigned)(address / 8);
    const struct feature *row = feature_of(device_features, device_feature_count, reg);
    if (!row || address % 8 || size > 8)
        return fail(GC_ERR_INVALID_ADDRESS, "no register there");
    /* These two wait for a thread that needs the lock. */
    if (reg == REG_ACQUISITION_START)
        return sensor_start(device);
    if (reg == REG_ACQUISITION_STOP) {
        sensor_stop(device);
        return GC_ERR_SUCCESS;
    }
    uint64_t bits = 0;
    memcpy(&bits, in, size);
    pthread_mutex_lock(&device->lock);
    GC_ERROR error = write_number(device, row, bits);
    pthread_mutex_unlock(&device->lock);
    return error;
}
