/* Answers of the Get...Info functions: a type, a value, and the protocol of sizes. */
#ifndef INSPECTD_INFO_H
#define INSPECTD_INFO_H

#include "gentl.h"

/* Where an answer goes: the last three parameters of every Get...Info function. */
struct answer {
    INFO_DATATYPE *type;
    void *out; /* NULL: only the size is asked for */
    size_t *size;
};

GC_ERROR answer_text(struct answer to, const char *text);
GC_ERROR answer_bool(struct answer to, int value);
GC_ERROR answer_i32(struct answer to, int32_t value);
GC_ERROR answer_u32(struct answer to, uint32_t value);
GC_ERROR answer_u64(struct answer to, uint64_t value);
GC_ERROR answer_size(struct answer to, size_t value);
GC_ERROR answer_pointer(struct answer to, void *value);

/* A bare text without a type. */
GC_ERROR answer_id(char *out, size_t *size, const char *text);

#endif
