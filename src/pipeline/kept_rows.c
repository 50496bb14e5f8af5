#include "pipeline/kept_rows.h"

#include <stdlib.h>
#include <string.h>

static size_t text_bytes(const char *text) {
    return text ? strlen(text) + 1 : 0;
}

/* Doubles of a prediction that are written. */
static size_t doubles_of(const la_kept_rows *rows) {
    size_t c = (size_t)rows->n_classes;
    return (3 + (size_t)rows->logits) * c + (rows->cov ? c * c : 0);
}

static size_t bytes_of(const la_kept_rows *rows, const la_feed_batch *batch) {
    size_t bytes = 0;
    for (int64_t i = 0; i < batch->n_items; i++) {
        const la_feed_item *item = &batch->items[i];
        bytes += sizeof *item + text_bytes(item->id) + text_bytes(item->fields) +
                 text_bytes(item->error);
        if (item->slot >= 0)
            bytes += sizeof(la_prediction) + doubles_of(rows) * sizeof(double);
    }
    return bytes;
}

static double *copy(double **memory, const double *from, size_t n) {
    double *to = *memory;
    memcpy(to, from, n * sizeof *to);
    *memory += n;
    return to;
}

static la_status keep_answer(la_kept_rows *rows, const la_prediction *answer, la_error *err) {
    size_t c = (size_t)rows->n_classes;
    double *memory = la_pool_take(&rows->pool, doubles_of(rows), sizeof *memory, err);
    if (!memory)
        return err->status;
    la_prediction *kept = &rows->answers[rows->n_answers++];
    *kept = *answer;
    kept->probs = copy(&memory, answer->probs, c);
    kept->map_probs = copy(&memory, answer->map_probs, c);
    kept->variance = copy(&memory, answer->variance, c);
    kept->logits = rows->logits ? copy(&memory, answer->logits, c) : NULL;
    kept->logit_cov = rows->cov ? copy(&memory, answer->logit_cov, c * c) : NULL;
    return LA_OK;
}

la_status la_kept_rows_take(la_kept_rows *rows, la_feed_batch *batch, const la_prediction *answers,
                            la_error *err) {
    rows->used += bytes_of(rows, batch);
    if (rows->full || rows->used > rows->most) {
        la_kept_rows_free(rows);
        rows->full = true;
        return LA_OK;
    }
    LA_TRY(la_grow(&rows->items, &rows->items_capacity, (size_t)(rows->n_items + batch->n_items),
                   sizeof *rows->items, err));
    LA_TRY(la_grow(&rows->answers, &rows->answers_capacity,
                   (size_t)(rows->n_answers + batch->n_items), sizeof *rows->answers, err));
    for (int64_t i = 0; i < batch->n_items; i++)
        if (batch->items[i].slot >= 0) {
            LA_TRY(keep_answer(rows, &answers[batch->items[i].slot], err));
            batch->items[i].slot = rows->n_answers - 1;
        }
    memcpy(rows->items + rows->n_items, batch->items,
           (size_t)batch->n_items * sizeof *batch->items);
    rows->n_items += batch->n_items;
    batch->n_items = 0; /* their texts are the kept ones' */
    return LA_OK;
}

void la_kept_rows_free(la_kept_rows *rows) {
    for (int64_t i = 0; i < rows->n_items; i++)
        la_feed_item_free(&rows->items[i]);
    free(rows->items);
    free(rows->answers);
    la_pool_free(&rows->pool);
    rows->items = NULL;
    rows->answers = NULL;
    rows->n_items = rows->n_answers = 0;
    rows->items_capacity = rows->answers_capacity = 0;
}
