/* The mapped rig, its clock and its futexes. */
#ifndef INSPECTD_RIG_H
#define INSPECTD_RIG_H

#include "rig_layout.h"

#include <stdbool.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define FOREVER UINT64_MAX

/* Maps the rig that INSPECTD_SIMCAM names, or makes a private one with a single device.
 * Returns an error text, or NULL. */
const char *rig_open(void);
void rig_close(void);

struct rig_file *rig_file(void);
/* The rig's directory, "" for the private one. */
const char *rig_directory(void);

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t rig_now(void);
/* Nanoseconds since the device was powered up. */
uint64_t rig_device_time(const struct rig_device *state, uint64_t now);

/* Sleeps until `wake` differs from `seen` or `deadline` (CLOCK_MONOTONIC ns, or FOREVER). */
void rig_wait(struct rig_device *state, uint32_t seen, uint64_t deadline);
void rig_wake(struct rig_device *state);

/* True where a fault of this kind is pending; it is then used up. */
bool rig_take_fault(struct rig_device *state, enum rig_fault fault);

/* The lock of one device: true when this process got it. `*fd` is to be closed to let go. */
bool rig_lock(unsigned index, int *fd);
void rig_unlock(unsigned index, int *fd);
/* True where any process, this one included, holds the lock. */
bool rig_locked(unsigned index);

#endif
