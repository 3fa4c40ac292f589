/* What lies in `rig.bin`: the state of the virtual cameras, shared by every process of a rig.
 *
 * It is mapped shared by the Python side (`inspectd/simcam/layout.py` mirrors it, a test compares
 * the two) and by each process that loads the producer. It outlives all of them.
 *
 * Who writes what: each field has one kind of writer, or is only ever added to atomically. A fault
 * that is to happen n times is a pair of counters: the rig adds to `asked`, the camera to `done`.
 */
#ifndef INSPECTD_RIG_LAYOUT_H
#define INSPECTD_RIG_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>

#define RIG_MAGIC UINT64_C(0x4d41435350534e49) /* "INSPSCAM" */
#define RIG_VERSION 1
#define RIG_MAX_DEVICES 8
#define RIG_REGISTERS 64

enum rig_fault {
    FAULT_DROP,       /* the frame id advances, no buffer comes */
    FAULT_INCOMPLETE, /* the buffer comes half filled and says so */
    FAULT_WRONG_SIZE, /* the picture has half its lines */
    FAULT_NO_FRAME,   /* the trigger is counted, there is no frame and no frame id */
    FAULT_LATE,       /* the frame comes `late_ms` later */
    FAULT_BAD_CHUNK,  /* the chunks' identifiers are garbage */
    FAULT_KINDS
};

struct rig_device {
    /* Set when the rig is made; user_id also by the camera (DeviceUserID). */
    char serial[64];
    char user_id[64];
    char model[64];
    char tl_type[16];
    uint32_t width;  /* sensor, pixels */
    uint32_t height; /* sensor, pixels */

    /* The futex: everybody who changes something adds 1 and wakes. */
    _Atomic uint32_t wake;

    /* Written by the rig. */
    _Atomic uint32_t powered;       /* 0 or 1 */
    _Atomic uint32_t power_ups;     /* times it was plugged in */
    _Atomic uint32_t linked;        /* 0 or 1 */
    _Atomic uint32_t frozen;        /* 0 or 1 */
    _Atomic uint32_t slow_ms;       /* milliseconds more for each frame */
    _Atomic uint32_t late_ms;       /* milliseconds more for a late frame */
    _Atomic uint32_t pictures;      /* times the folder of pictures was changed */
    _Atomic uint32_t line_edges;    /* rising edges on Line0 ever: parts that passed */
    _Atomic uint32_t encoder_ticks; /* rising edges on Encoder0 ever */
    _Atomic int32_t temperature;    /* thousandths of a degree Celsius */
    _Atomic uint32_t asked[FAULT_KINDS];

    /* Written by the camera. */
    _Atomic uint32_t done[FAULT_KINDS];
    _Atomic uint32_t other_parts;   /* parts announced by software or by the encoder */
    _Atomic uint32_t triggers;      /* triggers accepted ever */
    _Atomic uint32_t delivered;     /* buffers handed to the host ever */
    _Atomic uint32_t dropped;       /* frames the host never saw, ever */
    _Atomic uint32_t frame_id;      /* of the last frame of this acquisition, 0 before */
    _Atomic uint32_t owner;         /* process id of who has it open; the file lock decides */
    _Atomic uint32_t registers_of;  /* the power-up that `registers` belong to */
    _Atomic uint32_t saved;         /* 1 once UserSet1 was saved */
    _Atomic uint32_t power_up_set;  /* the user set loaded at power-up: 0 Default, 1 UserSet1 */

    /* Bases of the counters: set by the rig at power-up, by the camera at CounterReset. */
    _Atomic uint32_t line_base;
    _Atomic uint32_t encoder_base;
    _Atomic uint32_t software_base;
    _Atomic uint32_t software_triggers; /* TriggerSoftware executed, ever */

    _Atomic uint64_t powered_at; /* CLOCK_MONOTONIC in nanoseconds: the device's clock starts here */
    uint64_t registers[RIG_REGISTERS];
    uint64_t user_set[RIG_REGISTERS];
};

struct rig_file {
    uint64_t magic;
    uint32_t version;
    uint32_t size; /* bytes of the whole file */
    uint32_t count;
    uint32_t reserved;
    struct rig_device devices[RIG_MAX_DEVICES];
};

#endif
