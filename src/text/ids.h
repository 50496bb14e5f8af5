/* A growing list of token ids. */
#ifndef LA_TEXT_IDS_H
#define LA_TEXT_IDS_H

#include "base/memory.h"

#include <stdint.h>

typedef struct la_ids {
    int32_t *data;
    size_t n, capacity;
} la_ids;

static inline la_status la_ids_push(la_ids *ids, int32_t id, la_error *err) {
    if (ids->n == ids->capacity)
        LA_TRY(la_grow(&ids->data, &ids->capacity, ids->n + 1, sizeof *ids->data, err));
    ids->data[ids->n++] = id;
    return LA_OK;
}

la_status la_ids_append(la_ids *ids, const int32_t *data, size_t n, la_error *err);

#endif
