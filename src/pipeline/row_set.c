#include "pipeline/row_set.h"
#include "base/stop.h"
#include "bayes/row_digests.h"

#include <stdlib.h>
#include <string.h>

void la_row_set_free(la_row_set *set) {
    free(set->start);
    free(set->length);
    free(set->token);
    free(set->ids);
    free(set->types);
    la_label_list_free(&set->labels);
    free(set->lines);
    free(set->hashes);
    free(set->streams);
    free(set->name);
    *set = (la_row_set){0};
}

/* Arrays of one capacity grow alike from it. */
#define GROW(array, capacity, needed)                                                              \
    do {                                                                                           \
        grown = (capacity);                                                                        \
        LA_TRY(la_grow(&set->array, &grown, needed, sizeof *set->array, err));                     \
    } while (0)

static la_status grow(la_row_set *set, int64_t rows, int64_t tokens, la_error *err) {
    size_t need_rows = (size_t)(set->n + rows) + 1, need_tokens = (size_t)(set->n_tokens + tokens);
    size_t grown;
    if (need_rows > set->row_capacity) {
        grown = set->row_capacity;
        LA_TRY(la_label_list_grow(&set->labels, &grown, need_rows, err));
        GROW(lines, set->row_capacity, need_rows);
        GROW(hashes, set->row_capacity, need_rows);
        GROW(streams, set->row_capacity, need_rows);
        GROW(length, set->row_capacity, need_rows);
        GROW(token, set->row_capacity, need_rows);
        GROW(start, set->row_capacity, need_rows);
        set->row_capacity = grown;
    }
    if (need_tokens > set->token_capacity) {
        GROW(ids, set->token_capacity, need_tokens);
        GROW(types, set->token_capacity, need_tokens);
        set->token_capacity = grown;
    }
    return LA_OK;
}

static la_status keep(la_row_set *set, const la_feed_batch *from, la_error *err) {
    const la_batch *batch = &from->batch;
    LA_TRY(grow(set, from->n_items, batch->n_tokens, err));
    for (int64_t j = 0; j < from->n_items; j++) {
        const la_feed_item *item = &from->items[j];
        if (item->slot < 0) /* none of the row's tokens is classified */
            continue;
        int64_t at = batch->cu[item->slot], length = batch->cu[item->slot + 1] - at;
        size_t bytes = (size_t)length * sizeof *set->ids;
        if (item->first) {
            memcpy(set->ids + set->n_tokens, batch->ids + at, bytes);
            memcpy(set->types + set->n_tokens, batch->types + at, bytes);
            set->n_tokens += length;
        }
        set->start[set->n] = set->n_tokens - length;
        set->length[set->n] = length;
        set->token[set->n] = item->token;
        la_label_list_set(&set->labels, set->n, item->label);
        set->lines[set->n] = item->line;
        set->hashes[set->n] = item->hash;
        set->streams[set->n++] = item->stream;
        set->longest = length > set->longest ? length : set->longest;
    }
    return LA_OK;
}

static la_status read_all(la_row_set *set, la_feed *feed, const la_row_reader *reader,
                          const char *what, const la_log *log, la_error *err) {
    la_feed_batch batch = {0};
    la_status status = la_feed_batch_open(feed, &batch, err);
    while (status == LA_OK) {
        status = la_check_interrupt(err);
        if (status == LA_OK)
            status = la_feed_next(feed, &batch, err);
        if (status != LA_OK || !batch.n_items)
            break;
        status = keep(set, &batch, err);
        if (log->progress)
            log->progress(log->user, "read", set->n, la_row_reader_fraction(reader));
    }
    la_feed_batch_close(&batch);
    LA_TRY(status);
    set->n_truncated = feed->n_truncated;
    set->n_text = feed->n_text;
    set->n_lost = feed->n_lost;
    if (!set->n && feed->n_rows)
        return la_fail(err, LA_BAD_INPUT, "%s: has no %stokens, expected %s rows with some",
                       la_row_reader_name(reader), what ? "tagged " : "", what ? what : "");
    if (!set->n)
        return la_fail(err, LA_BAD_INPUT, "%s: has no rows, expected %s%s rows",
                       la_row_reader_name(reader), what ? "labelled " : "", what ? what : "some");
    return LA_OK;
}

la_status la_row_set_read(const la_session *session, const la_run_options *options,
                          const char *path, const la_template *prompt, const char *what,
                          la_row_set *set, la_error *err) {
    la_row_fields fields = {.text = options->text_field,
                            .pair = options->pair_field,
                            .label = what ? options->label_field : NULL,
                            .id = options->id_field,
                            .prompt = prompt,
                            .tagged = session->workers[0].model.task == LA_TASK_TAG,
                            .log = &options->log};
    la_row_reader *reader;
    la_feed feed;
    *set = (la_row_set){0};
    LA_TRY(la_row_reader_open(path, &fields, &reader, err));
    la_feed_options feeding = la_session_feed(session, what != NULL, false);
    feeding.label_field = options->label_field;
    feeding.ignore_labels = !what;
    la_feed_open(reader, session->tokenizer, &session->workers[0].model, &session->labels, &fields,
                 &feeding, &feed);
    set->labels.kind = feed.rule.kind;
    set->labels.width = feed.rule.n_classes;
    const char *name = la_row_reader_name(reader);
    set->name = la_alloc(strlen(name) + 1, 1, err);
    la_status status = err->status;
    if (status == LA_OK) {
        strcpy(set->name, name);
        status = read_all(set, &feed, reader, what, &options->log, err);
    }
    la_feed_close(&feed);
    la_row_reader_close(reader);
    return status;
}

la_status la_row_set_digests(const la_row_set *set, la_row_digest *digests, la_error *err) {
    for (int64_t i = 0; i < set->n; i++) {
        int64_t from = set->start[i];
        LA_TRY(la_row_digest_of(la_label_list_at(&set->labels, i), set->labels.width,
                                set->ids + from, set->types + from, set->length[i], set->token[i],
                                &digests[i], err));
    }
    return LA_OK;
}

/* ---- passing over the rows ---- */

typedef struct passing {
    la_session *session;
    const la_row_job *job;
    const la_row_pass *pass;
    la_batch batches[LA_DEVICES_MAX];
    int64_t first[LA_DEVICES_MAX];
} passing;

/* "FILE:LINE: " in front of what went wrong with a row of the batch. */
static la_status locate(const passing *p, int worker, la_error *err) {
    const la_row_set *set = p->job->set;
    int64_t bad = p->session->workers[worker].run.bad_row;
    if (err->status != LA_NUMERICAL || bad < 0 || bad >= p->batches[worker].n_rows)
        return err->status;
    la_error inner = *err;
    *err = (la_error){0};
    return la_fail(err, inner.status, "%s:%lld: %s", set->name,
                   (long long)set->lines[la_row_at(p->job, p->first[worker] + bad)], inner.message);
}

static la_status run_batch(void *user, int worker, la_error *err) {
    passing *p = user;
    la_batch *batch = &p->batches[worker];
    la_worker *at = &p->session->workers[worker];
    bool changed;
    LA_TRY(la_session_reserve(p->session, at, batch->n_tokens, &changed, err));
    at->run.bad_row = -1;
    if (p->pass->batch(p->pass->user, worker, batch, p->first[worker], err) != LA_OK)
        return locate(p, worker, err);
    return LA_OK;
}

int64_t la_row_job_fill(const la_session *session, const la_row_job *job, int64_t at, int64_t to,
                        la_batch *batch) {
    const la_row_set *set = job->set;
    const la_model *model = &session->workers[0].model;
    la_batch_clear(batch);
    for (; at < to; at++) {
        int64_t row = la_row_at(job, at), from = set->start[row];
        int64_t length = set->length[row];
        bool within = !batch->n_rows || batch->n_tokens + length <= session->batch_tokens;
        if (!within || !la_batch_fits(batch, length))
            break;
        la_batch_add(batch, model, set->ids + from, set->types + from, length, set->token[row]);
    }
    return at;
}

static la_status run_all(passing *p, la_error *err) {
    const la_row_pass *pass = p->pass;
    const la_log *log = p->job->log;
    int64_t at = pass->from;
    while (at < pass->to) {
        int filled = 0;
        LA_TRY(la_check_interrupt(err));
        for (; filled < p->session->n_workers && at < pass->to; filled++) {
            p->first[filled] = at;
            at = la_row_job_fill(p->session, p->job, at, pass->to, &p->batches[filled]);
        }
        LA_TRY(la_workers_run(filled, run_batch, p, err));
        if (pass->between)
            LA_TRY(pass->between(pass->user, at, err));
        if (log->progress)
            log->progress(log->user, pass->stage, at - pass->from,
                          (double)(at - pass->from) / (double)(pass->to - pass->from));
    }
    return LA_OK;
}

la_status la_row_set_run(la_session *session, const la_row_job *job, const la_row_pass *pass,
                         la_error *err) {
    passing p = {.session = session, .job = job, .pass = pass};
    int64_t longest = job->set->longest;
    int64_t tokens = longest > session->batch_tokens ? longest : session->batch_tokens;
    la_status status = LA_OK;
    for (int w = 0; w < session->n_workers && status == LA_OK; w++)
        status = la_batch_open(session->batch_rows, tokens, &p.batches[w], err);
    if (status == LA_OK)
        status = run_all(&p, err);
    for (int w = 0; w < session->n_workers; w++)
        la_batch_free(&p.batches[w]);
    return status;
}
