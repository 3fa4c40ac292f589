/* Pace, triggers and faults. The thread sleeps on the device's futex: an edge, a command or a
 * changed register wakes it at once, and the deadlines are absolute, so that the pace doesn't
 * drift. */
#define _GNU_SOURCE
#include "sensor.h"

#include "frame.h"
#include "registers.h"
#include "stream.h"

#include <signal.h>

#define US_PER_S 1000000.0

struct sensor {
    struct device *device;
    struct rig_device *state;
    struct settings now;
    int64_t source;      /* whose edges `edges` counts */
    uint32_t edges;      /* edges dealt with */
    uint32_t frame_id;   /* of the last frame */
    uint32_t pictures;   /* the folder's change that is mapped */
    uint64_t next;       /* start of the next exposure without a trigger, ns */
};

static bool powered(const struct sensor *sensor)
{
    return atomic_load(&sensor->state->powered) &&
           atomic_load(&sensor->state->power_ups) == sensor->device->power_up;
}

static bool running(const struct sensor *sensor)
{
    return !atomic_load(&sensor->device->stop) && powered(sensor);
}

/* False where the acquisition ended meanwhile. */
static bool sleep_until(struct sensor *sensor, uint64_t deadline)
{
    while (rig_now() < deadline) {
        uint32_t seen = atomic_load(&sensor->state->wake);
        if (!running(sensor))
            return false;
        rig_wait(sensor->state, seen, deadline);
    }
    return running(sensor);
}

static void lose_frames(struct sensor *sensor, uint32_t count)
{
    atomic_fetch_add(&sensor->state->dropped, count);
}

static void next_frame_id(struct sensor *sensor, uint32_t step)
{
    sensor->frame_id += step;
    atomic_store(&sensor->state->frame_id, sensor->frame_id);
}

static void refresh_pictures(struct sensor *sensor)
{
    uint32_t change = atomic_load(&sensor->state->pictures);
    if (change == sensor->pictures)
        return;
    pictures_close(&sensor->device->pictures);
    pictures_open(&sensor->device->pictures, rig_directory(), sensor->state->serial);
    sensor->pictures = change;
}

static void hand_over(struct sensor *sensor, const struct shot *shot)
{
    if (rig_take_fault(sensor->state, FAULT_DROP) || !atomic_load(&sensor->state->linked)) {
        lose_frames(sensor, 1);
        return;
    }
    struct buffer *buffer = stream_take(&sensor->device->stream);
    if (!buffer)
        return; /* counted by the stream */
    frame_fill(buffer, shot);
    stream_give(&sensor->device->stream, buffer);
}

/* One frame whose exposure starts at `start`. `number` is its part, `edges` those of the source.
 * Returns the nanoseconds that faults made it later. */
static uint64_t take_picture(struct sensor *sensor, uint64_t start, uint64_t number, uint32_t edges)
{
    struct rig_device *state = sensor->state;
    uint64_t extra = atomic_load(&state->slow_ms) * NS_PER_MS;
    if (rig_take_fault(state, FAULT_LATE))
        extra += atomic_load(&state->late_ms) * NS_PER_MS;
    next_frame_id(sensor, 1);
    struct shot shot = {
        .settings = sensor->now,
        .number = number ? number : sensor->frame_id,
        .frame_id = sensor->frame_id,
        .timestamp = rig_device_time(state, start),
        .trigger_count = registers_trigger_count(sensor->device, &sensor->now, edges),
        .encoder = atomic_load(&state->encoder_ticks) - atomic_load(&state->encoder_base),
        .incomplete = rig_take_fault(state, FAULT_INCOMPLETE),
        .wrong_size = rig_take_fault(state, FAULT_WRONG_SIZE),
        .bad_chunks = rig_take_fault(state, FAULT_BAD_CHUNK),
    };
    if (!sleep_until(sensor, start + sensor->now.exposure + extra)) {
        lose_frames(sensor, 1);
        return extra;
    }
    refresh_pictures(sensor);
    shot.picture = pictures_show(&sensor->device->pictures, shot.number);
    hand_over(sensor, &shot);
    return extra;
}

uint32_t sensor_edges(const struct device *device, int64_t source)
{
    if (source == SOURCE_LINE0)
        return atomic_load(&device->state->line_edges);
    if (source == SOURCE_ENCODER0)
        return atomic_load(&device->state->encoder_ticks);
    return atomic_load(&device->state->software_triggers);
}

static void accept_trigger(struct sensor *sensor, uint64_t number, uint32_t edges)
{
    atomic_fetch_add(&sensor->state->triggers, 1);
    if (rig_take_fault(sensor->state, FAULT_NO_FRAME))
        return;
    take_picture(sensor, rig_now() + sensor->now.trigger_delay, number, edges);
}

/* A part that no edge on Line0 announced; returns its number. */
static uint64_t other_part(struct sensor *sensor)
{
    uint32_t others = atomic_fetch_add(&sensor->state->other_parts, 1) + 1;
    return (uint64_t)atomic_load(&sensor->state->line_edges) + others;
}

static bool software_trigger(struct sensor *sensor)
{
    pthread_mutex_lock(&sensor->device->lock);
    bool pending = sensor->device->software_pending > 0;
    if (pending)
        sensor->device->software_pending--;
    pthread_mutex_unlock(&sensor->device->lock);
    if (!pending)
        return false;
    uint32_t count = atomic_fetch_add(&sensor->state->software_triggers, 1) + 1;
    accept_trigger(sensor, other_part(sensor), count);
    return true;
}

static bool edge_trigger(struct sensor *sensor)
{
    if (sensor->edges == sensor_edges(sensor->device, sensor->now.source))
        return false;
    bool line = sensor->now.source == SOURCE_LINE0;
    uint32_t base = atomic_load(line ? &sensor->state->line_base : &sensor->state->encoder_base);
    uint32_t edge = ++sensor->edges;
    if ((edge - base) % sensor->now.divider)
        return true;
    uint64_t number =
        line ? (uint64_t)edge + atomic_load(&sensor->state->other_parts) : other_part(sensor);
    accept_trigger(sensor, number, edge);
    return true;
}

/* Edges from before the source was chosen take no picture. */
static void follow_source(struct sensor *sensor)
{
    if (sensor->now.triggered && sensor->source == sensor->now.source)
        return;
    sensor->source = sensor->now.triggered ? sensor->now.source : -1;
    sensor->edges = sensor_edges(sensor->device, sensor->now.source);
}

static void triggered_step(struct sensor *sensor, uint32_t seen)
{
    sensor->next = 0;
    bool took = sensor->now.source == SOURCE_SOFTWARE ? software_trigger(sensor)
                                                      : edge_trigger(sensor);
    if (!took)
        rig_wait(sensor->state, seen, FOREVER);
}

/* A machine that can't keep up for more than a second loses frames instead of falling behind. */
static void skip_missed(struct sensor *sensor, uint64_t now, uint64_t period)
{
    if (now < sensor->next + NS_PER_S)
        return;
    uint64_t missed = (now - sensor->next) / period;
    next_frame_id(sensor, (uint32_t)missed);
    lose_frames(sensor, (uint32_t)missed);
    sensor->next += missed * period;
}

static void free_step(struct sensor *sensor, uint32_t seen)
{
    uint64_t now = rig_now();
    uint64_t period = (uint64_t)(NS_PER_S / sensor->now.frame_rate);
    if (period < sensor->now.exposure)
        period = sensor->now.exposure;
    if (!sensor->next)
        sensor->next = now;
    if (sensor->next > now + period)
        sensor->next = now + period; /* the rate was raised */
    if (sensor->next > now) {
        rig_wait(sensor->state, seen, sensor->next);
        return;
    }
    skip_missed(sensor, now, period);
    uint32_t edges = sensor_edges(sensor->device, sensor->now.source);
    sensor->next += period + take_picture(sensor, sensor->next, 0, edges);
}

static void step(struct sensor *sensor, uint32_t seen)
{
    if (atomic_load(&sensor->state->frozen)) {
        rig_wait(sensor->state, seen, FOREVER);
        return;
    }
    pthread_mutex_lock(&sensor->device->lock);
    sensor->now = registers_settings(sensor->device);
    pthread_mutex_unlock(&sensor->device->lock);
    follow_source(sensor);
    if (sensor->now.triggered)
        triggered_step(sensor, seen);
    else
        free_step(sensor, seen);
}

static void *run(void *context)
{
    struct device *device = context;
    struct sensor sensor = {
        .device = device,
        .state = device->state,
        .source = device->first_source,
        .edges = device->first_edges,
        .pictures = atomic_load(&device->state->pictures),
    };
    pictures_open(&device->pictures, rig_directory(), device->state->serial);
    for (;;) {
        uint32_t seen = atomic_load(&device->state->wake);
        if (!running(&sensor))
            break;
        step(&sensor, seen);
    }
    pictures_close(&device->pictures);
    return NULL;
}

/* Signals belong to the host's own threads. */
static int start_thread(struct device *device)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&device->sensor, NULL, run, device);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* Edges from now on count, even before the thread runs. */
static void begin(struct device *device)
{
    struct settings now = registers_settings(device);
    device->acquiring = true;
    device->software_pending = 0;
    device->first_source = now.triggered ? now.source : -1;
    device->first_edges = sensor_edges(device, now.source);
    atomic_store(&device->state->frame_id, 0);
    atomic_store(&device->stop, false);
}

GC_ERROR sensor_start(struct device *device)
{
    GC_ERROR error = GC_ERR_SUCCESS;
    pthread_mutex_lock(&device->lock);
    if (!device->acquiring) {
        begin(device);
        device->sensor_started = start_thread(device) == 0;
        device->acquiring = device->sensor_started;
        if (!device->sensor_started)
            error = fail(GC_ERR_RESOURCE_EXHAUSTED, "no thread for the sensor");
    }
    pthread_mutex_unlock(&device->lock);
    return error;
}

void sensor_stop(struct device *device)
{
    atomic_store(&device->stop, true);
    rig_wake(device->state);
    if (device->sensor_started)
        pthread_join(device->sensor, NULL);
    device->sensor_started = false;
    pthread_mutex_lock(&device->lock);
    device->acquiring = false;
    pthread_mutex_unlock(&device->lock);
}
