/* Copies values out, telling the size that is needed. */
#include "info.h"

#include "module.h"

#include <string.h>

static GC_ERROR answer(struct answer to, INFO_DATATYPE type, const void *value, size_t size)
{
    if (!to.size)
        return fail(GC_ERR_INVALID_PARAMETER, "no place for the size");
    size_t room = *to.size;
    *to.size = size;
    if (to.type)
        *to.type = type;
    if (!to.out)
        return GC_ERR_SUCCESS;
    if (room < size)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "the buffer is too small for the answer");
    memcpy(to.out, value, size);
    return GC_ERR_SUCCESS;
}

GC_ERROR answer_text(struct answer to, const char *text)
{
    return answer(to, INFO_DATATYPE_STRING, text, strlen(text) + 1);
}

GC_ERROR answer_bool(struct answer to, int value)
{
    bool8_t byte = value != 0;
    return answer(to, INFO_DATATYPE_BOOL8, &byte, sizeof byte);
}

GC_ERROR answer_i32(struct answer to, int32_t value)
{
    return answer(to, INFO_DATATYPE_INT32, &value, sizeof value);
}

GC_ERROR answer_u32(struct answer to, uint32_t value)
{
    return answer(to, INFO_DATATYPE_UINT32, &value, sizeof value);
}

GC_ERROR answer_u64(struct answer to, uint64_t value)
{
    return answer(to, INFO_DATATYPE_UINT64, &value, sizeof value);
}

GC_ERROR answer_size(struct answer to, size_t value)
{
    return answer(to, INFO_DATATYPE_SIZET, &value, sizeof value);
}

GC_ERROR answer_pointer(struct answer to, void *value)
{
    return answer(to, INFO_DATATYPE_PTR, &value, sizeof value);
}

GC_ERROR answer_id(char *out, size_t *size, const char *text)
{
    return answer_text((struct answer){NULL, out, size}, text);
}
