/* Features as data: one row gives a feature's name, register, limits and text.
 *
 * The GenApi description (`xml.c`), the power-up values and the checks of a write (`registers.c`)
 * are all read from the same rows, so that they can't disagree.
 */
#ifndef INSPECTD_CAMERA_FEATURES_H
#define INSPECTD_CAMERA_FEATURES_H

#include "rig_layout.h"

#include <stdbool.h>
#include <stddef.h>

/* Address map of every port. A number's register is 8 bytes at 8 * index, little endian. */
#define ADDRESS_STRINGS UINT64_C(0x1000)
#define STRING_SIZE 64
#define ADDRESS_XML UINT64_C(0x100000)

enum kind { INTEGER, FLOATING, ENUMERATION, BOOLEAN, COMMAND, STRING, CHUNK_INTEGER, CHUNK_FLOAT };
enum visibility { BEGINNER, EXPERT, GURU, INVISIBLE };

#define READ_ONLY 1u /* the host can't write it */
#define LOCKED 2u    /* not to be written while the camera acquires */
#define SAVED 4u     /* part of the user sets */

struct feature {
    const char *name;
    enum kind kind;
    unsigned reg; /* register index, string index, or chunk identifier */
    unsigned flags;
    enum visibility visibility;
    const char *category;
    const char *tip;
    double power_up;
    double min, max, inc;
    const char *max_from; /* the feature that gives the maximum instead */
    const char *unit;
    const char *entries;  /* "Name=value Name=value" of an enumeration */
    const char *selected; /* "Name Name": the features that this one selects */
};

/* Registers of the remote device; the first 64 fit `rig_device.registers`. */
enum device_register {
    REG_WIDTH,
    REG_HEIGHT,
    REG_OFFSET_X,
    REG_OFFSET_Y,
    REG_SENSOR_WIDTH,
    REG_SENSOR_HEIGHT,
    REG_WIDTH_MAX,
    REG_HEIGHT_MAX,
    REG_OFFSET_X_MAX,
    REG_OFFSET_Y_MAX,
    REG_PIXEL_FORMAT,
    REG_PAYLOAD_SIZE,
    REG_ACQUISITION_MODE,
    REG_ACQUISITION_START,
    REG_ACQUISITION_STOP,
    REG_FRAME_RATE,
    REG_EXPOSURE_TIME,
    REG_GAIN,
    REG_TRIGGER_SELECTOR,
    REG_TRIGGER_MODE,
    REG_TRIGGER_SOURCE,
    REG_TRIGGER_ACTIVATION,
    REG_TRIGGER_DELAY,
    REG_TRIGGER_DIVIDER,
    REG_TRIGGER_SOFTWARE,
    REG_LINE_SELECTOR,
    REG_LINE_DEBOUNCER,
    REG_LINE_STATUS_ALL,
    REG_COUNTER_SELECTOR,
    REG_COUNTER_SOURCE,
    REG_COUNTER_VALUE,
    REG_COUNTER_RESET,
    REG_ENCODER_VALUE,
    REG_USER_SET_SELECTOR,
    REG_USER_SET_LOAD,
    REG_USER_SET_SAVE,
    REG_USER_SET_DEFAULT,
    REG_CHUNK_MODE,
    REG_CHUNK_SELECTOR,
    REG_CHUNK_ENABLE,
    REG_TIMESTAMP_LATCH,
    REG_TIMESTAMP_VALUE,
    REG_TEMPERATURE,
    REG_PARAMS_LOCKED,
    DEVICE_REGISTERS
};

enum device_string { TEXT_VENDOR, TEXT_MODEL, TEXT_SERIAL, TEXT_USER_ID, TEXT_VERSION };

/* PFNC values. */
#define MONO8 0x01080001u
#define MONO12P 0x010C0047u
#define BAYER_RG8 0x01080009u
#define RGB8 0x02180014u

/* Trigger sources and activations, counters, user sets: the values of their enumerations. */
enum { SOURCE_SOFTWARE, SOURCE_LINE0, SOURCE_ENCODER0 };
enum { COUNTER_TRIGGERS, COUNTER_FRAMES, COUNTER_ENCODER };
enum { SET_DEFAULT, SET_USER1 };

/* Chunks, in the order in which they follow the picture. */
enum chunk {
    CHUNK_FRAME_ID,
    CHUNK_TIMESTAMP,
    CHUNK_EXPOSURE_TIME,
    CHUNK_LINE_STATUS_ALL,
    CHUNK_COUNTER_VALUE,
    CHUNK_ENCODER_VALUE,
    CHUNK_KINDS
};
#define CHUNK_ID_IMAGE 0x00000001u
#define CHUNK_ID(chunk) (0x10000001u + (chunk))
#define CHUNK_VALUE_SIZE 8u  /* bytes of each chunk but the picture */
#define CHUNK_TRAILER_SIZE 8u /* identifier and length, big endian, after the data */

/* Registers of the data stream. */
enum stream_register {
    STREAM_MODE,
    STREAM_ANNOUNCED,
    STREAM_ANNOUNCE_MIN,
    STREAM_INPUT,
    STREAM_OUTPUT,
    STREAM_DELIVERED,
    STREAM_LOST,
    STREAM_STARTED,
    STREAM_GRABBING
};
enum { OLDEST_FIRST = 0, OLDEST_FIRST_OVERWRITE = 1, NEWEST_ONLY = 2 };

extern const struct feature device_features[];
extern const size_t device_feature_count;
extern const struct feature stream_features[];
extern const size_t stream_feature_count;

/* The row of a register, or NULL. */
const struct feature *feature_of(const struct feature *rows, size_t count, unsigned reg);
/* True where the enumeration has an entry of this value. */
bool feature_has_entry(const struct feature *row, int64_t value);
/* The power-up value as the register holds it. */
uint64_t feature_power_up(const struct feature *row);

uint64_t bits_of_double(double value);
double double_of_bits(uint64_t bits);

#endif
