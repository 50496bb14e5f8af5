#include "pipeline/predictor.h"
#include "bayes/predictive.h"
#include "base/threads.h"
#include "output/posterior_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- opening ---- */

static la_status check_digest(const char *what, const char *path, const char *found,
                              const char *expected, la_error *err) {
    if (!strcmp(found, expected))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: the %s has digest %s, the posterior was fitted with %s; fit again or give "
                   "the right one",
                   path, what, found, expected);
}

/* The digests agreed: what does not fit now is a damaged file. */
static la_status check_blocks(const la_predictor *p, const char *path, la_error *err) {
    const la_model *model = &p->session.model;
    int64_t next = 0;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        if (!model->blocks[b].wanted)
            continue;
        const la_posterior_block *block =
            next < p->posterior.n_blocks ? &p->posterior.blocks[next] : NULL;
        if (!block || strcmp(block->name, model->blocks[b].name) ||
            block->out != model->blocks[b].out || block->in != model->blocks[b].in)
            return la_fail(err, LA_BAD_INPUT, "%s: has no block %s of [%lld, %lld]; it is damaged",
                           path, model->blocks[b].name, (long long)model->blocks[b].out,
                           (long long)model->blocks[b].in);
        next++;
    }
    if (next != p->posterior.n_blocks || model->n_classes != p->posterior.n_classes)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: n_blocks and n_classes are %lld and %lld, the model's %lld and %lld; "
                       "it is damaged",
                       path, (long long)p->posterior.n_blocks, (long long)p->posterior.n_classes,
                       (long long)next, (long long)model->n_classes);
    return LA_OK;
}

/* The folders a posterior remembers may have moved. */
static la_status check_folder(const char *option, const char *given, const char *stored,
                              la_error *err) {
    if (given || !access(stored, R_OK))
        return LA_OK;
    return la_fail(err, LA_BAD_INPUT,
                   "%s: where the posterior was fitted there is nothing to read now (%s); give "
                   "--%s DIR",
                   stored, la_errno_text(errno), option);
}

static la_status open_session(la_predictor *p, const la_predict_options *options, la_error *err) {
    const la_posterior *posterior = &p->posterior;
    la_session_options session = {
        .run = options->run,
        .base = options->base ? options->base : posterior->base_path,
        .adapter = options->adapter ? options->adapter : posterior->adapter_path,
        .params = posterior->params,
        .choice_ids = posterior->choice_ids,
        .n_choices = posterior->choice_ids ? posterior->n_classes : 0,
        .labels = &posterior->labels,
        .max_length = posterior->max_length,
        .forward_only = p->predictive == LA_PREDICT_MAP,
    };
    LA_TRY(check_folder("base", options->base, posterior->base_path, err));
    LA_TRY(check_folder("adapter", options->adapter, posterior->adapter_path, err));
    LA_TRY(la_session_open(&session, &p->session, err));
    const la_model *model = &p->session.model;
    LA_TRY(check_digest("base", session.base, model->base_digest, posterior->base_digest, err));
    LA_TRY(check_digest("adapter", session.adapter, model->adapter_digest,
                        posterior->adapter_digest, err));
    if (p->session.tokenizer && *posterior->tokenizer_digest)
        LA_TRY(check_digest("tokenizer", session.base, la_tokenizer_digest(p->session.tokenizer),
                            posterior->tokenizer_digest, err));
    return check_blocks(p, options->posterior, err);
}

static la_status allocate(la_predictor *p, la_error *err) {
    size_t rows = (size_t)p->session.batch_rows, c = (size_t)p->n_classes, m = c - 1;
    p->logits = la_alloc(rows * c, sizeof *p->logits, err);
    p->cotangents = la_alloc(rows * c * m, sizeof *p->cotangents, err);
    p->basis = la_alloc(c * m, sizeof *p->basis, err);
    p->cov = la_alloc(rows * m * m, sizeof *p->cov, err);
    p->workspace = la_alloc((size_t)p->session.threads * (size_t)la_predict_workspace(p->n_classes),
                            sizeof *p->workspace, err);
    LA_TRY(err->status);
    la_contrast_basis(p->n_classes, p->basis);
    return LA_OK;
}

static la_status open_parts(la_predictor *p, const la_predict_options *options, la_error *err) {
    p->predictive = options->predictive;
    p->samples = options->samples;
    p->seed = options->seed;
    p->kind = &la_curvature_kron;
    if (p->predictive == LA_PREDICT_MC && p->samples == 0)
        p->predictive = LA_PREDICT_PROBIT;
    if (p->samples < 0)
        return la_fail(err, LA_USAGE, "--samples %lld: expected 0 or more", (long long)p->samples);
    LA_TRY(la_posterior_load(options->posterior, &p->posterior, err));
    LA_TRY(open_session(p, options, err));
    p->n_classes = p->session.model.n_classes;
    if (p->posterior.template_text)
        LA_TRY(la_template_parse("the posterior's template", p->posterior.template_text,
                                 strlen(p->posterior.template_text), &p->prompt, err));
    return allocate(p, err);
}

la_status la_predictor_open(const la_predict_options *options, la_predictor **predictor,
                            la_error *err) {
    *err = (la_error){0};
    *predictor = NULL;
    la_predictor *p = la_alloc(1, sizeof *p, err);
    if (!p)
        return err->status;
    la_status status = open_parts(p, options, err);
    if (status != LA_OK) {
        la_predictor_close(p);
        return status;
    }
    *predictor = p;
    return LA_OK;
}

void la_predictor_close(la_predictor *p) {
    if (!p)
        return;
    if (p->covariance)
        p->kind->cov_close(p->covariance);
    la_session_close(&p->session);
    la_posterior_free(&p->posterior);
    la_template_free(p->prompt);
    free(p->logits);
    free(p->cotangents);
    free(p->basis);
    free(p->cov);
    free(p->workspace);
    free(p);
}

int64_t la_predictor_classes(const la_predictor *predictor) {
    return predictor->n_classes;
}

const char *la_predictor_label(const la_predictor *predictor, int64_t label) {
    const la_labels *labels = &predictor->session.labels;
    return labels->names && label >= 0 && label < labels->count ? labels->names[label] : NULL;
}

/* ---- a batch ---- */

/* The covariance workspaces grow with the run. */
static la_status reserve(la_predictor *p, int64_t tokens, la_error *err) {
    bool changed;
    LA_TRY(la_session_reserve(&p->session, tokens, &changed, err));
    if (!changed || p->predictive == LA_PREDICT_MAP)
        return LA_OK;
    if (p->covariance)
        p->kind->cov_close(p->covariance);
    p->covariance = NULL;
    return p->kind->cov_open(&p->session.model, &p->posterior, p->session.batch_rows,
                             p->session.run.max_tokens, p->session.n_rhs, &p->covariance, err);
}

/* Every row gets the contrasts as cotangents; softmax sees nothing else. */
static la_status covariance(la_predictor *p, const la_batch *batch, la_error *err) {
    int64_t n = batch->n_rows, c = p->n_classes, m = c - 1;
    for (int64_t k = 0; k < m; k++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < c; j++)
                p->cotangents[(k * n + i) * c + j] = (float)p->basis[j * m + k];
    p->kind->cov_batch(p->covariance, n);
    la_block_visitor visitor = p->kind->cov_visitor(p->covariance);
    LA_TRY(la_run_backward(&p->session.run, p->cotangents, &visitor, err));
    LA_TRY(p->kind->cov_read(p->covariance, p->cov, err));
    return LA_OK;
}

la_status la_predictor_batch(la_predictor *p, const la_batch *batch, const uint64_t *hashes,
                             la_prediction *out, la_error *err) {
    int64_t n = batch->n_rows, c = p->n_classes, m = c - 1;
    LA_TRY(reserve(p, batch->n_tokens, err));
    LA_TRY(la_run_forward(&p->session.run, batch, p->logits, err));
    if (p->predictive != LA_PREDICT_MAP)
        LA_TRY(covariance(p, batch, err));
    int64_t slice = la_predict_workspace(c);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double *workspace = p->workspace + slice * la_thread_number();
        la_predict_row(p->predictive, c, p->logits + i * c, p->basis, p->cov + i * m * m,
                       p->samples, p->seed, hashes[i], workspace, &out[i]);
    }
    return LA_OK;
}

/* ---- a host program's rows ---- */

typedef struct pending {
    la_batch batch;
    uint64_t *hashes;
    int64_t from; /* its first row in the caller's list */
} pending;

static la_status flush(la_predictor *p, pending *waiting, la_prediction *out, la_error *err) {
    if (waiting->batch.n_rows)
        LA_TRY(la_predictor_batch(p, &waiting->batch, waiting->hashes, out + waiting->from, err));
    waiting->from += waiting->batch.n_rows;
    la_batch_clear(&waiting->batch);
    return LA_OK;
}

static la_status add_input(la_predictor *p, const la_input *in, la_encoding *encoding,
                           pending *waiting, la_prediction *out, la_error *err) {
    const int32_t *ids = in->ids, *types = NULL;
    int64_t n = in->n_ids;
    if (!ids) {
        la_encode_options options = {.max_length = p->session.max_length,
                                     .truncate_left = p->session.model.task == LA_TASK_CHOICE};
        if (!p->session.tokenizer)
            return la_fail(err, LA_UNSUPPORTED, "the base has no tokenizer.json; give token ids");
        LA_TRY(la_tokenizer_encode(p->session.tokenizer, in->text, in->text_length, in->pair,
                                   in->pair_length, &options, encoding, err));
        ids = encoding->ids;
        types = encoding->types;
        n = encoding->n;
    }
    LA_TRY(la_row_check(&p->session.model, ids, n, err));
    if (!la_batch_fits(&waiting->batch, n)) {
        LA_TRY(flush(p, waiting, out, err));
        if (n > waiting->batch.token_capacity) {
            la_batch_free(&waiting->batch);
            LA_TRY(la_batch_open(p->session.batch_rows, n, &waiting->batch, err));
        }
    }
    waiting->hashes[waiting->batch.n_rows] = la_hash64(ids, (size_t)n * sizeof *ids);
    la_batch_add(&waiting->batch, &p->session.model, ids, types, n);
    return LA_OK;
}

la_status la_predictor_run(la_predictor *p, const la_input *in, int64_t n, la_prediction *out,
                           la_error *err) {
    pending waiting = {0};
    la_encoding encoding = {0};
    la_status status;
    *err = (la_error){0};
    waiting.hashes = la_alloc((size_t)p->session.batch_rows, sizeof *waiting.hashes, err);
    status = err->status;
    if (status == LA_OK)
        status = la_batch_open(p->session.batch_rows, p->session.batch_tokens, &waiting.batch, err);
    for (int64_t i = 0; i < n && status == LA_OK; i++)
        status = add_input(p, &in[i], &encoding, &waiting, out, err);
    if (status == LA_OK)
        status = flush(p, &waiting, out, err);
    la_encoding_free(&encoding);
    la_batch_free(&waiting.batch);
    free(waiting.hashes);
    return status;
}

la_status la_predictions_new(int64_t n_classes, int64_t n, la_prediction **answers, double **memory,
                             la_error *err) {
    size_t c = (size_t)n_classes, each = 3 * c + c * c;
    *answers = la_alloc((size_t)n, sizeof **answers, err);
    *memory = la_alloc((size_t)n * each, sizeof **memory, err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < n; i++) {
        double *at = *memory + (size_t)i * each;
        (*answers)[i] = (la_prediction){
            .probs = at, .map_probs = at + c, .logits = at + 2 * c, .logit_cov = at + 3 * c};
    }
    return LA_OK;
}
