/* A host program's rows: packed into a batch for every worker in turn, as a file's are. */
#include "base/stop.h"
#include "pipeline/arguments.h"
#include "pipeline/predictor.h"

#include <stdlib.h>

/* A worker's batch. Its rows follow each other in the caller's list. */
typedef struct waiting {
    la_batch batch;
    uint64_t *hashes;
    int64_t from;
} waiting;

typedef struct packed_rows {
    la_predictor *predictor;
    la_prediction *out;
    waiting parts[LA_DEVICES_MAX];
    int filling; /* the worker whose batch is being filled */
    la_encoding encoding;
} packed_rows;

static la_status open_part(packed_rows *h, int w, la_error *err) {
    const la_session *session = &h->predictor->session;
    waiting *part = &h->parts[w];
    part->hashes = la_alloc((size_t)session->batch_rows, sizeof *part->hashes, err);
    if (!part->hashes)
        return err->status;
    return la_batch_open(session->batch_rows, session->batch_tokens, &part->batch, err);
}

static void close_rows(packed_rows *h) {
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        la_batch_free(&h->parts[w].batch);
        free(h->parts[w].hashes);
    }
    la_encoding_free(&h->encoding);
}

static la_status run_part(void *user, int w, la_error *err) {
    packed_rows *h = user;
    waiting *part = &h->parts[w];
    la_run *run = &h->predictor->session.workers[w].run;
    run->bad_row = -1;
    if (!part->batch.n_rows || la_predictor_batch(h->predictor, w, &part->batch, err) == LA_OK)
        return LA_OK;
    int64_t bad = run->bad_row;
    return err->status != LA_RESOURCE && bad >= 0 && bad < part->batch.n_rows
               ? la_error_prefix(err, "row %lld: ", (long long)(part->from + bad))
               : err->status;
}

/* Answers what waits. */
static la_status flush(packed_rows *h, la_error *err) {
    LA_TRY(la_check_interrupt(err));
    LA_TRY(la_workers_run(h->filling + 1, run_part, h, err));
    for (int w = 0; w <= h->filling; w++) {
        waiting *part = &h->parts[w];
        if (part->batch.n_rows)
            LA_TRY(la_predictor_answer(h->predictor, w, &part->batch, part->hashes,
                                       h->out + part->from, err));
        la_batch_clear(&part->batch);
    }
    h->filling = 0;
    return LA_OK;
}

/* Finds a place for a row of n tokens: in the batch at hand or in the next worker's, or else in an
 * empty one, when all that wait are answered. */
static la_status reserve(packed_rows *h, int64_t n, la_error *err) {
    const la_session *session = &h->predictor->session;
    if (la_batch_fits(&h->parts[h->filling].batch, n))
        return LA_OK;
    if (h->parts[h->filling].batch.n_rows) {
        if (h->filling + 1 < session->n_workers)
            h->filling++;
        else
            LA_TRY(flush(h, err));
    }
    waiting *part = &h->parts[h->filling];
    if (!part->hashes)
        LA_TRY(open_part(h, h->filling, err));
    if (n <= part->batch.token_capacity)
        return LA_OK;
    la_batch_free(&part->batch);
    return la_batch_open(session->batch_rows, n, &part->batch, err);
}

static la_status tokenise(packed_rows *h, const la_input *in, la_error *err) {
    la_session *session = &h->predictor->session;
    la_encode_options options = {.max_length = session->max_length,
                                 .truncate_left = la_session_cuts_left(session)};
    if (!session->tokenizer)
        return la_fail(err, LA_UNSUPPORTED,
                       "neither the base nor the adapter has a tokenizer.json; give token ids");
    return la_tokenizer_encode(session->tokenizer, in->text, in->text_length, in->pair,
                               in->pair_length, &options, &h->encoding, err);
}

static la_status add_input(packed_rows *h, const la_input *in, int64_t at, la_error *err) {
    const la_model *model = &h->predictor->session.workers[0].model;
    const int32_t *ids = in->ids, *types = NULL;
    int64_t n = in->n_ids;
    if (model->task == LA_TASK_TAG && !(ids && in->place >= 0 && in->place < n))
        return la_fail(
            err, LA_USAGE,
            "the adapter classifies tokens: a row needs token ids and a place among them");
    if (!ids) {
        LA_TRY(tokenise(h, in, err));
        ids = h->encoding.ids;
        types = h->encoding.types;
        n = h->encoding.n;
    }
    LA_TRY(la_row_check(model, ids, n, err));
    LA_TRY(reserve(h, n, err));
    waiting *part = &h->parts[h->filling];
    if (!part->batch.n_rows)
        part->from = at;
    part->hashes[part->batch.n_rows] = la_feed_stream(model, ids, n, in->place);
    la_batch_add(&part->batch, model, ids, types, n, in->place);
    return LA_OK;
}

la_status la_predictor_run(la_predictor *p, const la_input *in, int64_t n, la_prediction *out,
                           la_error *err) {
    la_error ignored;
    packed_rows h = {.predictor = p, .out = out};
    err = err ? err : &ignored;
    *err = (la_error){0};
    if (!p)
        return la_fail(err, LA_USAGE, "la_predictor_run: predictor is NULL, and is needed");
    LA_TRY(la_arguments_check_rows(in, n, out, err));
    la_stop before = la_stop_set(p->session.stop);
    la_status status = n ? open_part(&h, 0, err) : LA_OK;
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        status = add_input(&h, &in[i], i, err);
        if (status == LA_USAGE || status == LA_BAD_INPUT)
            (void)la_error_prefix(err, "row %lld: ", (long long)i);
    }
    if (status == LA_OK && n)
        status = flush(&h, err);
    la_stop_set(before);
    close_rows(&h);
    return status;
}
