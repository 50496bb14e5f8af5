#include "pipeline/feed.h"
#include "base/digest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void la_feed_open(la_row_reader *reader, la_tokenizer *tokenizer, const la_model *model,
                  const la_labels *labels, const la_feed_options *options, la_feed *feed) {
    *feed = (la_feed){.reader = reader,
                      .tokenizer = tokenizer,
                      .model = model,
                      .labels = labels,
                      .options = *options};
}

la_status la_feed_batch_open(const la_feed *feed, la_feed_batch *batch, la_error *err) {
    *batch = (la_feed_batch){0};
    return la_batch_open(feed->options.batch_rows, feed->options.batch_tokens, &batch->batch, err);
}

static void clear_item(la_feed_item *item) {
    free(item->id);
    free(item->error);
    *item = (la_feed_item){0};
}

static void clear_batch(la_feed_batch *batch) {
    for (int64_t i = 0; i < batch->n_items; i++)
        clear_item(&batch->items[i]);
    batch->n_items = 0;
    la_batch_clear(&batch->batch);
}

void la_feed_batch_close(la_feed_batch *batch) {
    clear_batch(batch);
    free(batch->items);
    la_batch_free(&batch->batch);
    *batch = (la_feed_batch){0};
}

void la_feed_close(la_feed *feed) {
    if (feed->held)
        clear_item(&feed->held_item);
    la_encoding_free(&feed->encoding);
    *feed = (la_feed){0};
}

/* "FILE:LINE: " in front of what went wrong with a row. */
static la_status at_line(const la_feed *feed, int64_t line, la_error *err) {
    la_error inner = *err;
    *err = (la_error){0};
    return la_fail(err, inner.status, "%s:%lld: %.900s", la_row_reader_name(feed->reader),
                   (long long)line, inner.message);
}

la_status la_feed_locate(const la_feed *feed, const la_feed_batch *batch, int64_t slot,
                         la_error *err) {
    for (int64_t i = 0; i < batch->n_items; i++)
        if (batch->items[i].slot == slot && slot >= 0)
            return at_line(feed, batch->items[i].line, err);
    return err->status;
}

static la_status take_tokens(la_feed *feed, const la_row *row, la_error *err) {
    if (row->ids) {
        feed->held_ids = row->ids;
        feed->held_types = NULL;
        feed->held_n = row->n_ids;
        return LA_OK;
    }
    if (!feed->tokenizer)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s:%lld: the row has text, but the base has no tokenizer.json; give "
                       "\"input_ids\"",
                       la_row_reader_name(feed->reader), (long long)row->line);
    la_encode_options options = {.max_length = feed->options.max_length,
                                 .truncate_left = feed->options.truncate_left};
    la_status status = la_tokenizer_encode(feed->tokenizer, row->text, row->text_length, row->pair,
                                           row->pair_length, &options, &feed->encoding, err);
    if (status != LA_OK)
        return at_line(feed, row->line, err);
    feed->held_ids = feed->encoding.ids;
    feed->held_types = feed->encoding.types;
    feed->held_n = feed->encoding.n;
    feed->n_text++;
    feed->n_truncated += feed->encoding.truncated;
    return LA_OK;
}

static la_status read_row(la_feed *feed, bool *more, la_error *err) {
    la_row row;
    la_feed_item *item = &feed->held_item;
    la_status status = la_row_reader_next(feed->reader, &row, more, err);
    bool regression = feed->model->task == LA_TASK_REGRESS;
    *item = (la_feed_item){
        .index = row.index, .line = row.line, .label = -1, .target = NAN, .slot = -1};
    if (status == LA_OK && !*more)
        return LA_OK;
    if (status == LA_OK && row.id && !json_is_null(row.id)) {
        item->id = json_dumps(row.id, JSON_ENCODE_ANY | JSON_COMPACT);
        if (!item->id)
            status = la_fail(err, LA_RESOURCE, "out of memory for a row's id");
    }
    if (status == LA_OK && regression && !feed->options.ignore_labels)
        status = la_row_target(feed->reader, &row, &item->target, err);
    if (status == LA_OK && !regression && !feed->options.ignore_labels)
        status = la_row_label(feed->reader, &row, feed->labels, feed->model->n_classes,
                              &item->label, err);
    if (status == LA_OK && feed->options.need_label && item->label < 0 && isnan(item->target))
        status = la_fail(err, LA_BAD_INPUT, "%s:%lld: the row has no label (field \"%s\")",
                         la_row_reader_name(feed->reader), (long long)row.line,
                         feed->options.label_field ? feed->options.label_field : "label");
    if (status == LA_OK)
        status = take_tokens(feed, &row, err);
    if (status == LA_OK && la_row_check(feed->model, feed->held_ids, feed->held_n, err) != LA_OK)
        status = at_line(feed, row.line, err);
    if (status == LA_OK) {
        item->hash = la_hash64(feed->held_ids, (size_t)feed->held_n * sizeof *feed->held_ids);
    } else if (status == LA_BAD_INPUT && *more && feed->options.skip_bad) {
        item->error = la_alloc(strlen(err->message) + 1, 1, err);
        if (!item->error)
            return err->status;
        strcpy(item->error, err->message);
        *err = (la_error){0};
        feed->n_bad++;
    } else {
        clear_item(item);
        return status;
    }
    feed->held = true;
    return LA_OK;
}

static la_status place_row(la_feed *feed, la_feed_batch *to, bool *placed, la_error *err) {
    la_feed_item *item = &feed->held_item;
    *placed = true;
    if (!item->error) {
        if (feed->held_n > to->batch.token_capacity && !to->batch.n_rows) {
            /* a row that is longer than a batch gets room of its own, once */
            la_batch_free(&to->batch);
            LA_TRY(la_batch_open(feed->options.batch_rows, feed->held_n, &to->batch, err));
        }
        /* stragglers do not widen the limit for the rows behind them */
        bool within =
            !to->batch.n_rows || to->batch.n_tokens + feed->held_n <= feed->options.batch_tokens;
        if (!within || !la_batch_fits(&to->batch, feed->held_n)) {
            *placed = false;
            return LA_OK;
        }
        item->slot = to->batch.n_rows;
        la_batch_add(&to->batch, feed->model, feed->held_ids, feed->held_types, feed->held_n);
        feed->n_rows++;
        feed->n_tokens += feed->held_n;
    }
    LA_TRY(
        la_grow(&to->items, &to->items_capacity, (size_t)to->n_items + 1, sizeof *to->items, err));
    to->items[to->n_items++] = *item;
    feed->held = false;
    *item = (la_feed_item){0};
    return LA_OK;
}

la_status la_feed_next(la_feed *feed, la_feed_batch *to, la_error *err) {
    clear_batch(to);
    while (to->n_items < feed->options.batch_rows) {
        bool more = true, placed;
        if (!feed->held)
            LA_TRY(read_row(feed, &more, err));
        if (!more)
            break;
        LA_TRY(place_row(feed, to, &placed, err));
        if (!placed)
            break;
    }
    return LA_OK;
}
