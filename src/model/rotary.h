/* Angles of the rotary embedding, on the device: for every position that a row can have, or for
 * every token of the batch where frequencies depend on the row's length. */
#ifndef LA_MODEL_ROTARY_H
#define LA_MODEL_ROTARY_H

#include "model/batch.h"
#include "model/model.h"

typedef struct la_rotary {
    float *angles[LA_ROPES]; /* [max_tokens][rope dim / 2][2] cosines and sines */
    int32_t *iota;           /* [max_tokens] 0, 1, 2, ...; only where angles are by token */
    float *host;             /* where they are made */
} la_rotary;

/* Each does nothing where no layer rotates. */
void la_rotary_layout(const la_model *model, int64_t max_tokens, la_arena *arena, la_arena *host,
                      la_rotary *r);
/* Uploads what is the same for every batch. */
la_status la_rotary_open(const la_model *model, int64_t max_tokens, la_rotary *r, la_error *err);
void la_rotary_upload(const la_model *model, const la_batch *batch, la_rotary *r);

#endif
