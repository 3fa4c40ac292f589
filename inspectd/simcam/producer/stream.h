/* The queues of a data stream: who owns which buffer. */
#ifndef INSPECTD_STREAM_H
#define INSPECTD_STREAM_H

#include "module.h"

/* For the sensor: a buffer to fill, or NULL where the frame is lost, which is then counted. */
struct buffer *stream_take(struct stream *stream);
/* The filled buffer goes to the output queue. */
void stream_give(struct stream *stream, struct buffer *buffer);

/* Below: call with `stream->lock` held. */

/* The buffer that came first to this place, or NULL. */
struct buffer *stream_oldest(struct stream *stream, enum buffer_place place);
unsigned stream_count(const struct stream *stream, enum buffer_place place);
void stream_move(struct stream *stream, struct buffer *buffer, enum buffer_place place);
/* Moves each buffer at `from`; frames that the host never saw are counted as dropped. */
void stream_move_all(struct stream *stream, enum buffer_place from, enum buffer_place to);
/* Waits until the sensor is not filling a buffer. */
void stream_await_filled(struct stream *stream);

/* The registers of the stream's own port. */
GC_ERROR stream_read(struct port *port, uint64_t address, void *out, size_t size);
GC_ERROR stream_write(struct port *port, uint64_t address, const void *in, size_t size);

#endif
