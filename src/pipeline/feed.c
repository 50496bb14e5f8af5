#include "pipeline/feed.h"
#include "base/digest.h"
#include "input/json.h"
#include "input/json_text.h"

#include <stdlib.h>
#include <string.h>

void la_feed_open(la_row_reader *reader, la_tokenizer *tokenizer, const la_model *model,
                  const la_labels *labels, const la_row_fields *fields,
                  const la_feed_options *options, la_feed *feed) {
    *feed = (la_feed){.reader = reader,
                      .tokenizer = tokenizer,
                      .model = model,
                      .fields = fields,
                      .options = *options,
                      .rule = {.kind = model->likelihood->label_kind,
                               .names = labels,
                               .n_classes = model->n_classes}};
}

la_status la_feed_batch_open(const la_feed *feed, la_feed_batch *batch, la_error *err) {
    *batch = (la_feed_batch){0};
    return la_batch_open(feed->options.batch_rows, feed->options.batch_tokens, &batch->batch, err);
}

void la_feed_item_free(la_feed_item *item) {
    free(item->id);
    free(item->fields);
    free(item->error);
    la_label_free(&item->label);
    *item = (la_feed_item){0};
}

static void clear_batch(la_feed_batch *batch) {
    for (int64_t i = 0; i < batch->n_items; i++)
        la_feed_item_free(&batch->items[i]);
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
    if (feed->pending)
        la_feed_item_free(&feed->pending_item);
    la_encoding_free(&feed->encoding);
    la_tags_free(&feed->tags);
    free(feed->words);
    free(feed->units);
    *feed = (la_feed){0};
}

/* "FILE:LINE: " in front of what went wrong with a row. */
static la_status at_line(const la_feed *feed, int64_t line, la_error *err) {
    return la_error_prefix(err, "%s:%lld: ", la_row_reader_name(feed->reader), (long long)line);
}

la_status la_feed_locate(const la_feed *feed, const la_feed_batch *batch, int64_t slot,
                         la_error *err) {
    for (int64_t i = 0; i < batch->n_items; i++)
        if (batch->items[i].slot == slot && slot >= 0)
            return at_line(feed, batch->items[i].line, err);
    return err->status;
}

uint64_t la_feed_stream(const la_model *model, const int32_t *ids, int64_t n, int64_t token) {
    uint64_t keys[2] = {la_hash64(ids, (size_t)n * sizeof *ids), (uint64_t)token};
    return model->pool_token == LA_POOL_PLACE ? la_hash64(keys, sizeof keys) : keys[0];
}

void la_feed_log_lost(int64_t n_lost, int64_t max_length, const la_log *log) {
    if (n_lost)
        la_warn(log,
                "%lld words have no token left (rows are cut to %lld tokens, or the tokenizer "
                "makes nothing of the word) and are left out",
                (long long)n_lost, (long long)max_length);
}

static bool tags(const la_feed *feed) {
    return feed->model->task == LA_TASK_TAG;
}

/* ---- a row's tokens ---- */

static la_status encode_words(la_feed *feed, const la_encode_options *options, la_error *err) {
    size_t n = (size_t)feed->tags.n;
    LA_TRY(la_grow(&feed->words, &feed->words_capacity, n, sizeof *feed->words, err));
    for (size_t i = 0; i < n; i++) {
        const json_t *word = json_array_get(feed->tags.words, i);
        feed->words[i] = (la_word){json_string_value(word), json_string_length(word), -1};
    }
    return la_tokenizer_encode_words(feed->tokenizer, feed->words, feed->tags.n, options,
                                     &feed->encoding, err);
}

static la_status take_tokens(la_feed *feed, const la_row *row, la_error *err) {
    if (row->ids) {
        feed->pending_ids = row->ids;
        feed->pending_types = NULL;
        feed->pending_n = row->n_ids;
        return LA_OK;
    }
    if (!feed->tokenizer)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s:%lld: the row has text, but the base has no tokenizer.json; give "
                       "\"input_ids\"",
                       la_row_reader_name(feed->reader), (long long)row->line);
    la_encode_options options = {.max_length = feed->options.max_length,
                                 .truncate_left = feed->options.truncate_left};
    la_status status =
        tags(feed) ? encode_words(feed, &options, err)
                   : la_tokenizer_encode(feed->tokenizer, row->text, row->text_length, row->pair,
                                         row->pair_length, &options, &feed->encoding, err);
    if (status != LA_OK)
        return at_line(feed, row->line, err);
    feed->pending_ids = feed->encoding.ids;
    feed->pending_types = feed->encoding.types;
    feed->pending_n = feed->encoding.n;
    feed->n_text++;
    feed->n_truncated += feed->encoding.truncated;
    return LA_OK;
}

/* The tokens of the pending row that are classified: every word's first, or where the row has ids
 * the tagged ones, or all when it has no tags. Where labels are needed, those that have one. */
static la_status take_units(la_feed *feed, la_error *err) {
    const la_tags *from = &feed->tags;
    LA_TRY(la_grow(&feed->units, &feed->units_capacity, (size_t)from->n, sizeof *feed->units, err));
    feed->n_units = feed->next_unit = 0;
    for (int64_t i = 0; i < from->n; i++) {
        bool wanted = !la_label_is_none(from->labels[i]) ||
                      (!feed->options.need_label && (from->words || !from->tagged));
        int64_t token = from->words ? feed->words[i].place : i;
        feed->n_lost += wanted && token < 0;
        if (wanted && token >= 0)
            feed->units[feed->n_units++] =
                (la_feed_unit){token, from->words ? i : -1, from->labels[i]};
    }
    return LA_OK;
}

/* The pending item becomes that of the row's next unit. */
static void next_item(la_feed *feed) {
    la_feed_item *item = &feed->pending_item;
    int64_t at = feed->next_unit++;
    item->first = at == 0;
    item->last = feed->next_unit >= feed->n_units;
    item->token = item->word = -1;
    if (at >= feed->n_units)
        return;
    item->token = feed->units[at].token;
    item->word = feed->units[at].word;
    item->label = feed->units[at].label;
    item->stream = la_feed_stream(feed->model, feed->pending_ids, feed->pending_n, item->token);
}

/* ---- rows ---- */

static la_status read_labels(la_feed *feed, const la_row *row, la_error *err) {
    const la_feed_options *options = &feed->options;
    if (feed->rule.reading == LA_READING_UNDECIDED && !options->ignore_labels &&
        (tags(feed) || la_row_may_have_label(row, &feed->rule)))
        LA_TRY(la_label_reading_find(la_row_reader_path(feed->reader), feed->fields, &feed->rule,
                                     err));
    if (tags(feed)) {
        LA_TRY(la_tags_read(feed->reader, row, feed->fields, &feed->rule, !options->ignore_labels,
                            &feed->tags, err));
        if (options->need_label && !feed->tags.tagged)
            return la_fail(err, LA_BAD_INPUT, "%s:%lld: the row has no tags (field \"%s\")",
                           la_row_reader_name(feed->reader), (long long)row->line,
                           options->label_field ? options->label_field
                                                : "tags\", \"ner_tags\" or \"labels");
        return LA_OK;
    }
    la_label *label = &feed->pending_item.label;
    if (!options->ignore_labels)
        LA_TRY(la_row_label(feed->reader, row, &feed->rule, label, err));
    if (options->need_label && la_label_is_none(*label))
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: the row has no label (field \"%s\")%s",
                       la_row_reader_name(feed->reader), (long long)row->line,
                       options->label_field ? options->label_field : "label",
                       json_object_get(row->object, "labels")
                           ? "; \"labels\" are for adapters that classify tokens, this one "
                             "classifies rows"
                           : "");
    return LA_OK;
}

/* Text of a value in the file, so that no digit of it is lost; written anew where that is no JSON
 * (NaN), or where there is no text. value may be NULL. */
static char *value_text(const char *text, size_t length, const json_t *value) {
    json_error_t where;
    json_t *parsed =
        text ? la_json_loadb(text, length,
                             JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &where)
             : NULL;
    bool plain = parsed || (text && json_error_code(&where) == json_error_numeric_overflow);
    json_decref(parsed);
    return plain   ? strndup(text, length)
           : value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT)
                   : strdup("null");
}

/* {"NAME":VALUE,...} of the fields to be kept; the caller frees it. */
static la_status kept_fields(const la_row *row, const la_feed_options *options, char **fields,
                             la_error *err) {
    const la_list *keep = options->keep;
    size_t length;
    FILE *stream = open_memstream(fields, &length);
    bool bad = !stream;
    for (size_t i = 0; i < keep->n && !bad; i++) {
        const char *text = NULL, *name = keep->items[i];
        size_t text_length = 0;
        const json_t *value = json_object_get(row->object, name);
        if (value && row->object_text)
            la_json_member(row->object_text, row->object_length, name, &text, &text_length);
        if (value && options->kept)
            options->kept[i] = true;
        json_t *string = json_string(name);
        char *key = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
        char *shown = value_text(text, text_length, value);
        bad = !key || !shown || fprintf(stream, "%s%s:%s", i ? "," : "{", key, shown) < 0;
        json_decref(string);
        free(key);
        free(shown);
    }
    if (stream && (fputs("}", stream) < 0 || fclose(stream)))
        bad = true;
    return bad ? la_fail(err, LA_RESOURCE, "out of memory for a row's fields") : LA_OK;
}

static la_status read_row(la_feed *feed, bool *more, la_error *err) {
    la_row row;
    la_feed_item *item = &feed->pending_item;
    la_status status = la_row_reader_next(feed->reader, &row, more, err);
    *item = (la_feed_item){.index = row.index,
                           .line = row.line,
                           .label = la_label_none(feed->rule.kind),
                           .slot = -1,
                           .word = -1,
                           .first = true,
                           .last = true};
    if (status == LA_OK && !*more)
        return LA_OK;
    if (status == LA_OK && row.id && !json_is_null(row.id)) {
        item->id = value_text(row.id_text, row.id_length, row.id);
        if (!item->id)
            status = la_fail(err, LA_RESOURCE, "out of memory for a row's id");
    }
    if (status == LA_OK && feed->options.keep)
        status = kept_fields(&row, &feed->options, &item->fields, err);
    if (status == LA_OK)
        status = read_labels(feed, &row, err);
    if (status == LA_OK)
        status = take_tokens(feed, &row, err);
    /* whoever waits for an answer to each line gets one */
    bool must_answer =
        feed->options.answer_all && (row.blank || (status == LA_OK && !feed->pending_n));
    if (status == LA_OK &&
        la_row_check(feed->model, feed->pending_ids, feed->pending_n, err) != LA_OK)
        status = at_line(feed, row.line, err);
    if (status == LA_OK && tags(feed))
        status = take_units(feed, err);
    if (status == LA_OK) {
        item->hash = item->stream =
            la_hash64(feed->pending_ids, (size_t)feed->pending_n * sizeof *feed->pending_ids);
        if (tags(feed))
            next_item(feed);
        feed->n_rows++;
    } else if (status == LA_BAD_INPUT && *more && (feed->options.skip_bad || must_answer)) {
        item->error = la_alloc(strlen(err->message) + 1, 1, err);
        if (!item->error)
            return err->status;
        strcpy(item->error, err->message);
        *err = (la_error){0};
        feed->n_bad++;
    } else {
        la_feed_item_free(item);
        return status;
    }
    feed->pending = true;
    return LA_OK;
}

static la_status copy_text(char **text, la_error *err) {
    const char *from = *text;
    if (!from)
        return LA_OK;
    *text = la_alloc(strlen(from) + 1, 1, err);
    if (*text)
        strcpy(*text, from);
    return err->status;
}

/* After an item of the pending row went into a batch: the next one, which has copies of its texts.
 */
static la_status hold_next(la_feed *feed, la_error *err) {
    la_feed_item *item = &feed->pending_item;
    feed->pending = !item->last;
    if (item->last) {
        *item = (la_feed_item){0};
        return LA_OK;
    }
    la_status status = copy_text(&item->id, err);
    if (status != LA_OK)
        item->fields = NULL;
    else
        status = copy_text(&item->fields, err);
    LA_TRY(status);
    next_item(feed);
    return LA_OK;
}

static la_status add_row(la_feed *feed, la_feed_batch *to, bool *added, la_error *err) {
    la_feed_item *item = &feed->pending_item;
    *added = true;
    item->slot = -1;
    if (!item->error && item->token >= 0) {
        if (feed->pending_n > to->batch.token_capacity && !to->batch.n_rows) {
            /* a row that is longer than a batch gets a batch of its own size, once */
            la_batch_free(&to->batch);
            LA_TRY(la_batch_open(feed->options.batch_rows, feed->pending_n, &to->batch, err));
        }
        /* stragglers do not widen the limit for the rows behind them */
        bool within =
            !to->batch.n_rows || to->batch.n_tokens + feed->pending_n <= feed->options.batch_tokens;
        if (!within || !la_batch_fits(&to->batch, feed->pending_n)) {
            *added = false;
            return LA_OK;
        }
        item->slot = to->batch.n_rows;
        la_batch_add(&to->batch, feed->model, feed->pending_ids, feed->pending_types,
                     feed->pending_n, item->token);
        feed->n_tokens += feed->pending_n;
    }
    LA_TRY(
        la_grow(&to->items, &to->items_capacity, (size_t)to->n_items + 1, sizeof *to->items, err));
    to->items[to->n_items++] = *item;
    return hold_next(feed, err);
}

la_status la_feed_next(la_feed *feed, la_feed_batch *to, la_error *err) {
    clear_batch(to);
    while (to->n_items < feed->options.batch_rows) {
        bool more = true, added;
        if (!feed->pending)
            LA_TRY(read_row(feed, &more, err));
        if (!more)
            break;
        LA_TRY(add_row(feed, to, &added, err));
        if (!added || (feed->options.row_at_a_time && !feed->pending))
            break;
    }
    return LA_OK;
}
