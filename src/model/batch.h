/* Rows packed one behind the other, without padding. */
#ifndef LA_MODEL_BATCH_H
#define LA_MODEL_BATCH_H

#include "base/memory.h"
#include "model/model.h"

#include <stdbool.h>

typedef struct la_batch {
    int64_t n_rows, n_tokens, max_length;
    int64_t row_capacity, token_capacity;
    int32_t *ids, *types, *positions; /* [n_tokens]; positions: places within the row */
    int32_t *embed_at;                /* [n_tokens] row of the table of position embeddings */
    int32_t *cu;                      /* [n_rows + 1] first token of each row */
    int32_t *pooled;                  /* [n_rows] the token the head reads, in the pack */
    int32_t *pooled_at;               /* [n_rows] its place in its row */
    int32_t *ones; /* [n_rows + 1] 0, 1, 2, ...: cu of matrices with one row a row */
} la_batch;

/* Arrays for that many rows and tokens, in an arena; those on the host are to be started. */
void la_batch_layout(int64_t max_rows, int64_t max_tokens, la_arena *arena, la_batch *batch);
void la_batch_start(la_batch *batch);
/* The same in memory of its own. Free with la_batch_free. */
la_status la_batch_open(int64_t max_rows, int64_t max_tokens, la_batch *batch, la_error *err);
void la_batch_free(la_batch *batch);
void la_batch_clear(la_batch *batch);
/* True when a row of n tokens still fits. */
bool la_batch_fits(const la_batch *batch, int64_t n);
/* LA_BAD_INPUT for an empty row, an id outside the vocabulary, or a row longer than the model's
 * positions. */
la_status la_row_check(const la_model *model, const int32_t *ids, int64_t n, la_error *err);
/* Appends a row that fits and that la_row_check accepts. types may be NULL (all 0). token: the
 * one that the head reads, 0 <= token < n, where the model leaves it to the row. */
void la_batch_add(la_batch *batch, const la_model *model, const int32_t *ids, const int32_t *types,
                  int64_t n, int64_t token);

#endif
