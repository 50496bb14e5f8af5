/* From a data file to packed batches: rows are read, tokenised, labelled and packed in input order.
 */
#ifndef LA_PIPELINE_FEED_H
#define LA_PIPELINE_FEED_H

#include "input/rows.h"
#include "model/batch.h"
#include "text/tokenizer.h"

typedef struct la_feed_options {
    int64_t batch_tokens,
        batch_rows;     /* the most in a batch; a longer row makes a batch of its own */
    int64_t max_length; /* text is truncated to this many tokens */
    bool truncate_left;
    bool need_label;         /* a row without one is an error */
    bool ignore_labels;      /* what rows say of their class is not read */
    const char *label_field; /* for messages; NULL: "label" */
    bool skip_bad;           /* rows that cannot be used become items with an error */
} la_feed_options;

/* A row of the input; slot is its place in the batch, -1 when it could not be used. */
typedef struct la_feed_item {
    int64_t index, line, label, slot;
    double target; /* of a regression, whose label is -1; NaN: none */
    char *id;      /* JSON text, or NULL; owned by the feed */
    char *error;   /* with slot -1; owned by the feed */
    uint64_t hash; /* of the token ids */
} la_feed_item;

/* Rows that are run together, and what the input said of them. */
typedef struct la_feed_batch {
    la_batch batch;
    la_feed_item *items;
    int64_t n_items;
    size_t items_capacity;
} la_feed_batch;

typedef struct la_feed {
    la_row_reader *reader;
    la_tokenizer *tokenizer; /* NULL: rows must carry input_ids */
    const la_model *model;
    const la_labels *labels;
    la_feed_options options;
    la_encoding encoding;
    /* the row that did not fit the last batch */
    bool held;
    la_feed_item held_item;
    const int32_t *held_ids, *held_types;
    int64_t held_n;
    /* totals */
    int64_t n_rows, n_tokens, n_truncated, n_bad, n_text;
} la_feed;

/* reader, tokenizer, model and labels are borrowed. Free with la_feed_close. */
void la_feed_open(la_row_reader *reader, la_tokenizer *tokenizer, const la_model *model,
                  const la_labels *labels, const la_feed_options *options, la_feed *feed);
void la_feed_close(la_feed *feed);
/* Puts "FILE:LINE: " of a row of the batch in front of the error, and returns its status. */
la_status la_feed_locate(const la_feed *feed, const la_feed_batch *batch, int64_t slot,
                         la_error *err);
/* A batch of the feed's sizes, empty. Free with la_feed_batch_close (safe on a zeroed one). */
la_status la_feed_batch_open(const la_feed *feed, la_feed_batch *batch, la_error *err);
void la_feed_batch_close(la_feed_batch *batch);
/* Fills the batch anew; n_items 0 at the end of the input. */
la_status la_feed_next(la_feed *feed, la_feed_batch *batch, la_error *err);

#endif
