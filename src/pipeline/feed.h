/* From a data file to packed batches: rows are read, tokenised, labelled and packed in input order.
 */
#ifndef LA_PIPELINE_FEED_H
#define LA_PIPELINE_FEED_H

#include "base/list.h"
#include "input/tags.h"
#include "model/batch.h"
#include "text/tokenizer.h"

typedef struct la_feed_options {
    int64_t batch_tokens,
        batch_rows;     /* the most in a batch; a longer row makes a batch of its own */
    int64_t max_length; /* text is truncated to this many tokens */
    bool truncate_left;
    bool need_label;         /* a row without one is an error */
    bool ignore_labels;      /* labels of rows are not read */
    const char *label_field; /* for messages; NULL: "label" */
    const la_list *keep;     /* names of fields that items carry; NULL: none */
    bool *kept;              /* [keep->n] set where a row has the field; NULL: not wanted */
    bool skip_bad;           /* rows that cannot be used become items with an error */
    bool row_at_a_time;      /* a batch ends with its row */
    bool answer_all; /* so do empty lines, and rows the tokenizer makes nothing of, in any case */
} la_feed_options;

/* A row of the input; slot is its index in the batch, -1 when it could not be used. Where tokens
 * are classified, every token that is has an item of its own, one behind the other; a row without
 * any has one with slot -1 and no error. */
typedef struct la_feed_item {
    int64_t index, line, slot;
    la_label label;
    int64_t token;    /* index of the token that is classified; 0 where rows are */
    int64_t word;     /* whose token it is; -1: of none */
    bool first, last; /* of its row's items */
    bool calibration; /* whoever has the posterior says: it was fitted on the row */
    char *id;         /* JSON text, or NULL; owned by the feed */
    char *fields;     /* JSON text of those kept, or NULL; owned by the feed */
    char *error;      /* with slot -1; owned by the feed */
    uint64_t hash;    /* of the row's token ids */
    uint64_t stream;  /* of its random draws: of hash, and token where tokens are classified */
} la_feed_item;

/* A token that is classified. */
typedef struct la_feed_unit {
    int64_t token, word;
    la_label label;
} la_feed_unit;

/* Rows that are run together. */
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
    const la_row_fields *fields;
    la_feed_options options;
    la_label_rule rule;
    la_encoding encoding;
    /* where tokens are classified: those of the pending row */
    la_tags tags;
    la_word *words;
    la_feed_unit *units;
    int64_t n_units, next_unit;
    size_t words_capacity, units_capacity;
    /* the row that did not fit the last batch */
    bool pending;
    la_feed_item pending_item;
    const int32_t *pending_ids, *pending_types;
    int64_t pending_n;
    /* totals */
    int64_t n_rows, n_tokens, n_truncated, n_bad, n_text;
    int64_t n_lost; /* words without a token: cut off, or never there */
} la_feed;

/* reader, tokenizer, model, labels and fields (the reader's) are borrowed. Free with
 * la_feed_close. */
void la_feed_open(la_row_reader *reader, la_tokenizer *tokenizer, const la_model *model,
                  const la_labels *labels, const la_row_fields *fields,
                  const la_feed_options *options, la_feed *feed);
void la_feed_close(la_feed *feed);
/* Puts "FILE:LINE: " of a row of the batch in front of the error, and returns its status. */
la_status la_feed_locate(const la_feed *feed, const la_feed_batch *batch, int64_t slot,
                         la_error *err);
/* Frees what an item owns. */
void la_feed_item_free(la_feed_item *item);
/* A batch of the feed's sizes, empty. Free with la_feed_batch_close (safe on a zeroed one). */
la_status la_feed_batch_open(const la_feed *feed, la_feed_batch *batch, la_error *err);
void la_feed_batch_close(la_feed_batch *batch);
/* Stream of the random draws of a row, or of one of its tokens where those are classified. */
uint64_t la_feed_stream(const la_model *model, const int32_t *ids, int64_t n, int64_t token);
/* Logs that words have no token that could be classified. */
void la_feed_log_lost(int64_t n_lost, int64_t max_length, const la_log *log);
/* Fills the batch anew; n_items 0 at the end of the input. */
la_status la_feed_next(la_feed *feed, la_feed_batch *batch, la_error *err);

#endif
