/* Answered rows that wait until all have been seen, as many as fit a number of bytes. */
#ifndef LA_PIPELINE_KEPT_ROWS_H
#define LA_PIPELINE_KEPT_ROWS_H

#include "pipeline/feed.h"

typedef struct la_kept_rows {
    int64_t n_classes;
    bool logits, cov;       /* predictions keep theirs */
    size_t most, used;      /* bytes */
    bool full;              /* there were more: none is kept */
    la_pool pool;           /* of the predictions' arrays */
    la_feed_item *items;    /* [n_items], slots are of predictions */
    la_prediction *answers; /* [n_answers] */
    int64_t n_items, n_answers;
    size_t items_capacity, answers_capacity;
} la_kept_rows;

/* Takes the items of an answered batch, which keeps none, with copies of their predictions:
 * answers[slot]. Nothing happens to the batch where that would be too much. */
la_status la_kept_rows_take(la_kept_rows *rows, la_feed_batch *batch, const la_prediction *answers,
                            la_error *err);
/* Safe on a zeroed one. */
void la_kept_rows_free(la_kept_rows *rows);

#endif
