/* The features of the camera and of its data stream. Names, units and meanings follow the SFNC. */
#include "camera_features.h"

#include <stdlib.h>
#include <string.h>

#define INFO "DeviceControl"
#define FORMAT "ImageFormatControl"
#define ACQUIRE "AcquisitionControl"
#define ANALOG "AnalogControl"
#define LINES "DigitalIOControl"
#define COUNTERS "CounterAndTimerControl"
#define SETS "UserSetControl"
#define CHUNKS "ChunkDataControl"
#define LAYER "TransportLayerControl"
#define STREAM "StreamInformation"

#define HUGE_COUNT 9007199254740991.0 /* 2^53 - 1: exact in a double */

/* clang-format off */
const struct feature device_features[] = {
    {.name = "DeviceVendorName", .kind = STRING, .reg = TEXT_VENDOR, .flags = READ_ONLY, .category = INFO, .tip = "Name of the manufacturer"},
    {.name = "DeviceModelName", .kind = STRING, .reg = TEXT_MODEL, .flags = READ_ONLY, .category = INFO, .tip = "Model of the camera"},
    {.name = "DeviceSerialNumber", .kind = STRING, .reg = TEXT_SERIAL, .flags = READ_ONLY, .category = INFO, .tip = "Serial number"},
    {.name = "DeviceUserID", .kind = STRING, .reg = TEXT_USER_ID, .category = INFO, .tip = "Name given by the user; kept without power"},
    {.name = "DeviceVersion", .kind = STRING, .reg = TEXT_VERSION, .flags = READ_ONLY, .category = INFO, .tip = "Version of the camera"},
    {.name = "DeviceTemperature", .kind = FLOATING, .reg = REG_TEMPERATURE, .flags = READ_ONLY, .visibility = EXPERT, .category = INFO, .tip = "Temperature of the sensor board", .min = -50, .max = 150, .unit = "C"},
    {.name = "TimestampLatch", .kind = COMMAND, .reg = REG_TIMESTAMP_LATCH, .visibility = EXPERT, .category = INFO, .tip = "Keeps the device's time for TimestampLatchValue"},
    {.name = "TimestampLatchValue", .kind = INTEGER, .reg = REG_TIMESTAMP_VALUE, .flags = READ_ONLY, .visibility = EXPERT, .category = INFO, .tip = "Device's time at the last TimestampLatch, since power-up", .max = HUGE_COUNT, .unit = "ns"},

    {.name = "SensorWidth", .kind = INTEGER, .reg = REG_SENSOR_WIDTH, .flags = READ_ONLY, .visibility = EXPERT, .category = FORMAT, .tip = "Width of the sensor in pixels", .max = 65536},
    {.name = "SensorHeight", .kind = INTEGER, .reg = REG_SENSOR_HEIGHT, .flags = READ_ONLY, .visibility = EXPERT, .category = FORMAT, .tip = "Height of the sensor in pixels", .max = 65536},
    {.name = "WidthMax", .kind = INTEGER, .reg = REG_WIDTH_MAX, .flags = READ_ONLY, .visibility = EXPERT, .category = FORMAT, .tip = "Largest Width at this OffsetX", .max = 65536},
    {.name = "HeightMax", .kind = INTEGER, .reg = REG_HEIGHT_MAX, .flags = READ_ONLY, .visibility = EXPERT, .category = FORMAT, .tip = "Largest Height at this OffsetY", .max = 65536},
    {.name = "OffsetXMax", .kind = INTEGER, .reg = REG_OFFSET_X_MAX, .flags = READ_ONLY, .visibility = INVISIBLE, .category = FORMAT, .tip = "Largest OffsetX at this Width", .max = 65536},
    {.name = "OffsetYMax", .kind = INTEGER, .reg = REG_OFFSET_Y_MAX, .flags = READ_ONLY, .visibility = INVISIBLE, .category = FORMAT, .tip = "Largest OffsetY at this Height", .max = 65536},
    {.name = "Width", .kind = INTEGER, .reg = REG_WIDTH, .flags = LOCKED | SAVED, .category = FORMAT, .tip = "Width of the picture in pixels", .min = 16, .inc = 4, .max_from = "WidthMax"},
    {.name = "Height", .kind = INTEGER, .reg = REG_HEIGHT, .flags = LOCKED | SAVED, .category = FORMAT, .tip = "Height of the picture in pixels", .min = 2, .inc = 2, .max_from = "HeightMax"},
    {.name = "OffsetX", .kind = INTEGER, .reg = REG_OFFSET_X, .flags = LOCKED | SAVED, .category = FORMAT, .tip = "Left edge of the picture on the sensor", .inc = 4, .max_from = "OffsetXMax"},
    {.name = "OffsetY", .kind = INTEGER, .reg = REG_OFFSET_Y, .flags = LOCKED | SAVED, .category = FORMAT, .tip = "Upper edge of the picture on the sensor", .inc = 2, .max_from = "OffsetYMax"},
    {.name = "PixelFormat", .kind = ENUMERATION, .reg = REG_PIXEL_FORMAT, .flags = LOCKED | SAVED, .category = FORMAT, .tip = "Format of the pixels", .power_up = MONO8, .entries = "Mono8=17301505 Mono12p=17563719 BayerRG8=17301513 RGB8=35127316"},

    {.name = "AcquisitionMode", .kind = ENUMERATION, .reg = REG_ACQUISITION_MODE, .flags = LOCKED | SAVED, .category = ACQUIRE, .tip = "Acquires until it is stopped", .entries = "Continuous=0"},
    {.name = "AcquisitionStart", .kind = COMMAND, .reg = REG_ACQUISITION_START, .category = ACQUIRE, .tip = "Starts the acquisition"},
    {.name = "AcquisitionStop", .kind = COMMAND, .reg = REG_ACQUISITION_STOP, .category = ACQUIRE, .tip = "Stops the acquisition"},
    {.name = "AcquisitionFrameRate", .kind = FLOATING, .reg = REG_FRAME_RATE, .flags = SAVED, .category = ACQUIRE, .tip = "Frames per second without a trigger; not faster than 1 / ExposureTime", .power_up = 20, .min = 0.1, .max = 1000, .unit = "Hz"},
    {.name = "ExposureTime", .kind = FLOATING, .reg = REG_EXPOSURE_TIME, .flags = SAVED, .category = ACQUIRE, .tip = "The picture comes this much after its trigger; its brightness does not change", .power_up = 1000, .min = 10, .max = 1000000, .unit = "us"},
    {.name = "TriggerSelector", .kind = ENUMERATION, .reg = REG_TRIGGER_SELECTOR, .category = ACQUIRE, .tip = "Selects the trigger to configure", .entries = "FrameStart=0", .selected = "TriggerMode TriggerSource TriggerActivation TriggerDelay TriggerDivider TriggerSoftware"},
    {.name = "TriggerMode", .kind = ENUMERATION, .reg = REG_TRIGGER_MODE, .flags = SAVED, .category = ACQUIRE, .tip = "Whether a frame waits for a trigger", .entries = "Off=0 On=1"},
    {.name = "TriggerSource", .kind = ENUMERATION, .reg = REG_TRIGGER_SOURCE, .flags = SAVED, .category = ACQUIRE, .tip = "Where the trigger comes from", .entries = "Software=0 Line0=1 Encoder0=2"},
    {.name = "TriggerActivation", .kind = ENUMERATION, .reg = REG_TRIGGER_ACTIVATION, .flags = SAVED, .category = ACQUIRE, .tip = "The edge that triggers; a simulated edge is a short pulse and has both", .entries = "RisingEdge=0 FallingEdge=1"},
    {.name = "TriggerDelay", .kind = FLOATING, .reg = REG_TRIGGER_DELAY, .flags = SAVED, .visibility = EXPERT, .category = ACQUIRE, .tip = "From the trigger to the exposure", .max = 1000000, .unit = "us"},
    {.name = "TriggerDivider", .kind = INTEGER, .reg = REG_TRIGGER_DIVIDER, .flags = SAVED, .visibility = EXPERT, .category = ACQUIRE, .tip = "Every n-th edge takes a picture", .power_up = 1, .min = 1, .max = 65535, .inc = 1},
    {.name = "TriggerSoftware", .kind = COMMAND, .reg = REG_TRIGGER_SOFTWARE, .category = ACQUIRE, .tip = "One trigger; ignored unless the source is Software"},

    {.name = "Gain", .kind = FLOATING, .reg = REG_GAIN, .flags = SAVED, .category = ANALOG, .tip = "Read back only: the pictures don't change", .max = 24, .unit = "dB"},

    {.name = "LineSelector", .kind = ENUMERATION, .reg = REG_LINE_SELECTOR, .category = LINES, .tip = "Selects the line to configure", .visibility = EXPERT, .entries = "Line0=0", .selected = "LineDebouncerTime"},
    {.name = "LineDebouncerTime", .kind = FLOATING, .reg = REG_LINE_DEBOUNCER, .flags = SAVED, .visibility = EXPERT, .category = LINES, .tip = "Read back only: simulated edges don't bounce", .max = 100000, .unit = "us"},
    {.name = "LineStatusAll", .kind = INTEGER, .reg = REG_LINE_STATUS_ALL, .flags = READ_ONLY, .visibility = EXPERT, .category = LINES, .tip = "Bit 0: Line0; low between pulses", .max = 255},

    {.name = "CounterSelector", .kind = ENUMERATION, .reg = REG_COUNTER_SELECTOR, .visibility = EXPERT, .category = COUNTERS, .tip = "Selects a counter", .entries = "Counter0=0 Counter1=1 Counter2=2", .selected = "CounterEventSource CounterValue CounterReset"},
    {.name = "CounterEventSource", .kind = ENUMERATION, .reg = REG_COUNTER_SOURCE, .flags = READ_ONLY, .visibility = EXPERT, .category = COUNTERS, .tip = "What it counts: triggers of the TriggerSource after the divider, frames of this acquisition, encoder ticks", .entries = "FrameTrigger=0 FrameStart=1 Encoder0=2"},
    {.name = "CounterValue", .kind = INTEGER, .reg = REG_COUNTER_VALUE, .flags = READ_ONLY, .visibility = EXPERT, .category = COUNTERS, .tip = "Count since power-up or CounterReset", .max = HUGE_COUNT},
    {.name = "CounterReset", .kind = COMMAND, .reg = REG_COUNTER_RESET, .visibility = EXPERT, .category = COUNTERS, .tip = "Sets it to zero; Counter1 starts over with each acquisition"},
    {.name = "EncoderValue", .kind = INTEGER, .reg = REG_ENCODER_VALUE, .flags = READ_ONLY, .visibility = EXPERT, .category = COUNTERS, .tip = "Ticks of Encoder0 since power-up or CounterReset", .max = HUGE_COUNT},

    {.name = "UserSetSelector", .kind = ENUMERATION, .reg = REG_USER_SET_SELECTOR, .category = SETS, .tip = "Selects a user set", .entries = "Default=0 UserSet1=1", .selected = "UserSetLoad UserSetSave"},
    {.name = "UserSetLoad", .kind = COMMAND, .reg = REG_USER_SET_LOAD, .flags = LOCKED, .category = SETS, .tip = "Loads the selected user set"},
    {.name = "UserSetSave", .kind = COMMAND, .reg = REG_USER_SET_SAVE, .flags = LOCKED, .category = SETS, .tip = "Saves to the selected user set; not to Default"},
    {.name = "UserSetDefault", .kind = ENUMERATION, .reg = REG_USER_SET_DEFAULT, .category = SETS, .tip = "The user set loaded at power-up", .entries = "Default=0 UserSet1=1"},

    {.name = "ChunkModeActive", .kind = BOOLEAN, .reg = REG_CHUNK_MODE, .flags = LOCKED | SAVED, .visibility = EXPERT, .category = CHUNKS, .tip = "Chunks follow the picture"},
    {.name = "ChunkSelector", .kind = ENUMERATION, .reg = REG_CHUNK_SELECTOR, .visibility = EXPERT, .category = CHUNKS, .tip = "Selects a chunk", .entries = "FrameID=0 Timestamp=1 ExposureTime=2 LineStatusAll=3 CounterValue=4 EncoderValue=5", .selected = "ChunkEnable"},
    {.name = "ChunkEnable", .kind = BOOLEAN, .reg = REG_CHUNK_ENABLE, .flags = LOCKED | SAVED, .visibility = EXPERT, .category = CHUNKS, .tip = "Whether the selected chunk is sent"},
    {.name = "ChunkFrameID", .kind = CHUNK_INTEGER, .reg = CHUNK_ID(CHUNK_FRAME_ID), .visibility = EXPERT, .category = CHUNKS, .tip = "Identifier of the frame"},
    {.name = "ChunkTimestamp", .kind = CHUNK_INTEGER, .reg = CHUNK_ID(CHUNK_TIMESTAMP), .visibility = EXPERT, .category = CHUNKS, .tip = "Device's time at the start of the exposure", .unit = "ns"},
    {.name = "ChunkExposureTime", .kind = CHUNK_FLOAT, .reg = CHUNK_ID(CHUNK_EXPOSURE_TIME), .visibility = EXPERT, .category = CHUNKS, .tip = "Exposure time of the frame", .unit = "us"},
    {.name = "ChunkLineStatusAll", .kind = CHUNK_INTEGER, .reg = CHUNK_ID(CHUNK_LINE_STATUS_ALL), .visibility = EXPERT, .category = CHUNKS, .tip = "Bit 0: Line0 was high, as it is when it triggered"},
    {.name = "ChunkCounterValue", .kind = CHUNK_INTEGER, .reg = CHUNK_ID(CHUNK_COUNTER_VALUE), .visibility = EXPERT, .category = CHUNKS, .tip = "Counter0 (triggers) at this frame"},
    {.name = "ChunkEncoderValue", .kind = CHUNK_INTEGER, .reg = CHUNK_ID(CHUNK_ENCODER_VALUE), .visibility = EXPERT, .category = CHUNKS, .tip = "Ticks of Encoder0 at this frame"},

    {.name = "PayloadSize", .kind = INTEGER, .reg = REG_PAYLOAD_SIZE, .flags = READ_ONLY, .visibility = EXPERT, .category = LAYER, .tip = "Bytes of a buffer", .max = HUGE_COUNT, .unit = "B"},
    {.name = "TLParamsLocked", .kind = INTEGER, .reg = REG_PARAMS_LOCKED, .visibility = INVISIBLE, .category = LAYER, .tip = "1 while the host acquires", .max = 1, .inc = 1},
};

const struct feature stream_features[] = {
    {.name = "StreamBufferHandlingMode", .kind = ENUMERATION, .reg = STREAM_MODE, .category = STREAM, .tip = "Which buffer the host gets next and which is sacrificed", .entries = "OldestFirst=0 OldestFirstOverwrite=1 NewestOnly=2"},
    {.name = "StreamAnnouncedBufferCount", .kind = INTEGER, .reg = STREAM_ANNOUNCED, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Buffers announced", .max = HUGE_COUNT},
    {.name = "StreamAnnounceBufferMinimum", .kind = INTEGER, .reg = STREAM_ANNOUNCE_MIN, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Buffers that must be announced", .max = HUGE_COUNT},
    {.name = "StreamInputBufferCount", .kind = INTEGER, .reg = STREAM_INPUT, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Buffers waiting to be filled", .max = HUGE_COUNT},
    {.name = "StreamOutputBufferCount", .kind = INTEGER, .reg = STREAM_OUTPUT, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Filled buffers waiting for the host", .max = HUGE_COUNT},
    {.name = "StreamDeliveredFrameCount", .kind = INTEGER, .reg = STREAM_DELIVERED, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Frames handed to the host since the acquisition started", .max = HUGE_COUNT},
    {.name = "StreamLostFrameCount", .kind = INTEGER, .reg = STREAM_LOST, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Frames lost for want of a buffer, or overwritten", .max = HUGE_COUNT},
    {.name = "StreamStartedFrameCount", .kind = INTEGER, .reg = STREAM_STARTED, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Frames whose buffer was begun", .max = HUGE_COUNT},
    {.name = "StreamIsGrabbing", .kind = BOOLEAN, .reg = STREAM_GRABBING, .flags = READ_ONLY, .visibility = EXPERT, .category = STREAM, .tip = "Whether the stream takes frames"},
};
/* clang-format on */

const size_t device_feature_count = sizeof device_features / sizeof *device_features;
const size_t stream_feature_count = sizeof stream_features / sizeof *stream_features;

_Static_assert(DEVICE_REGISTERS <= RIG_REGISTERS, "rig.bin has too few registers");

uint64_t bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

const struct feature *feature_of(const struct feature *rows, size_t count, unsigned reg)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].kind != STRING && rows[i].kind < CHUNK_INTEGER && rows[i].reg == reg)
            return &rows[i];
    return NULL;
}

bool feature_has_entry(const struct feature *row, int64_t value)
{
    for (const char *at = row->entries; (at = strchr(at, '=')) != NULL; at++)
        if (strtoll(at + 1, NULL, 10) == value)
            return true;
    return false;
}

uint64_t feature_power_up(const struct feature *row)
{
    if (row->kind == FLOATING)
        return bits_of_double(row->power_up);
    return (uint64_t)(int64_t)row->power_up;
}
