/* The sensor: a thread that waits for triggers or for the frame rate and takes pictures. */
#ifndef INSPECTD_SENSOR_H
#define INSPECTD_SENSOR_H

#include "module.h"

/* AcquisitionStart and AcquisitionStop; call without `device.lock`. */
GC_ERROR sensor_start(struct device *device);
void sensor_stop(struct device *device);

/* Edges seen so far on a trigger source, ever. */
uint32_t sensor_edges(const struct device *device, int64_t source);

#endif
