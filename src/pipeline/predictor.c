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
    const la_model *model = &p->session.workers[0].model;
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
        .kind = p->kind,
        .kron = posterior->kron,
        .posterior = posterior,
    };
    LA_TRY(check_folder("base", options->base, posterior->base_path, err));
    LA_TRY(check_folder("adapter", options->adapter, posterior->adapter_path, err));
    LA_TRY(la_session_open(&session, &p->session, err));
    const la_model *model = &p->session.workers[0].model;
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
    for (int w = 0; w < p->session.n_workers; w++) {
        la_predictor_part *part = &p->parts[w];
        part->logits = la_alloc(rows * c, sizeof *part->logits, err);
        part->cotangents = la_alloc(rows * c * m, sizeof *part->cotangents, err);
        part->cov = la_alloc(rows * m * m, sizeof *part->cov, err);
        if (!p->session.workers[w].backend.ops->monte_carlo)
            continue;
        part->centre = la_alloc(rows * c, sizeof *part->centre, err);
        part->spread = la_alloc(rows * c * m, sizeof *part->spread, err);
        part->drawn = la_alloc(rows * (c + 1), sizeof *part->drawn, err);
    }
    p->basis = la_alloc(c * m, sizeof *p->basis, err);
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
    p->n_classes = p->session.workers[0].model.n_classes;
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
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        la_predictor_part *part = &p->parts[w];
        if (part->covariance)
            p->kind->cov_close(part->covariance);
        free(part->logits);
        free(part->cotangents);
        free(part->cov);
        free(part->centre);
        free(part->spread);
        free(part->drawn);
    }
    la_session_close(&p->session);
    la_posterior_free(&p->posterior);
    la_template_free(p->prompt);
    free(p->basis);
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
static la_status reserve(la_predictor *p, int w, int64_t tokens, la_error *err) {
    bool changed;
    la_worker *worker = &p->session.workers[w];
    la_predictor_part *part = &p->parts[w];
    if (part->covariance && tokens > worker->run.max_tokens) {
        p->kind->cov_close(part->covariance); /* its room is needed for the larger run */
        part->covariance = NULL;
    }
    LA_TRY(la_session_reserve(&p->session, worker, tokens, &changed, err));
    if (!changed || p->predictive == LA_PREDICT_MAP)
        return LA_OK;
    return p->kind->cov_open(&worker->model, &p->posterior, p->session.batch_rows,
                             worker->run.max_tokens, p->session.n_rhs, &part->covariance, err);
}

/* Every row gets the contrasts as cotangents; softmax sees nothing else. */
static la_status covariance(la_predictor *p, int w, const la_batch *batch, la_error *err) {
    int64_t n = batch->n_rows, c = p->n_classes, m = c - 1;
    la_predictor_part *part = &p->parts[w];
    for (int64_t k = 0; k < m; k++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < c; j++)
                part->cotangents[(k * n + i) * c + j] = (float)p->basis[j * m + k];
    p->kind->cov_batch(part->covariance, n);
    la_block_visitor visitor = p->kind->cov_visitor(part->covariance);
    LA_TRY(la_run_backward(&p->session.workers[w].run, part->cotangents, &visitor, err));
    return p->kind->cov_read(part->covariance, part->cov, err);
}

la_status la_predictor_batch(la_predictor *p, int w, const la_batch *batch, la_error *err) {
    la_worker *worker = &p->session.workers[w];
    LA_TRY(reserve(p, w, batch->n_tokens, err));
    double start = la_seconds();
    LA_TRY(la_run_forward(&worker->run, batch, p->parts[w].logits, err));
    worker->seconds_forward += la_seconds() - start;
    start = la_seconds();
    if (p->predictive != LA_PREDICT_MAP)
        LA_TRY(covariance(p, w, batch, err));
    worker->seconds_backward += la_seconds() - start;
    return LA_OK;
}

/* Lets the device draw for the whole batch; false when the host has to. */
static bool draw_on_device(la_predictor *p, int w, int64_t n, const uint64_t *hashes) {
    la_backend *be = &p->session.workers[w].backend;
    int64_t c = p->n_classes, m = c - 1, slice = la_predict_workspace(c);
    la_predictor_part *part = &p->parts[w];
    if (p->predictive != LA_PREDICT_MC || !part->drawn)
        return false;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        la_predict_gaussian(c, part->logits + i * c, p->basis, part->cov + i * m * m,
                            p->workspace + slice * la_thread_number(), part->centre + i * c,
                            part->spread + i * c * m);
    return be->ops->monte_carlo(be, n, c, part->centre, part->spread, p->samples, p->seed, hashes,
                                part->drawn);
}

void la_predictor_answer(la_predictor *p, int w, const la_batch *batch, const uint64_t *hashes,
                         la_prediction *out) {
    int64_t n = batch->n_rows, c = p->n_classes, m = c - 1, slice = la_predict_workspace(c);
    const la_predictor_part *part = &p->parts[w];
    const double *drawn = draw_on_device(p, w, n, hashes) ? part->drawn : NULL;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double *workspace = p->workspace + slice * la_thread_number();
        la_predict_row(p->predictive, c, part->logits + i * c, p->basis, part->cov + i * m * m,
                       p->samples, p->seed, hashes[i], drawn ? drawn + i * (c + 1) : NULL,
                       workspace, &out[i]);
    }
}

/* ---- a host program's rows ---- */

typedef struct pending {
    la_batch batch;
    uint64_t *hashes;
    int64_t from; /* its first row in the caller's list */
} pending;

static la_status flush(la_predictor *p, pending *waiting, la_prediction *out, la_error *err) {
    if (waiting->batch.n_rows) {
        LA_TRY(la_predictor_batch(p, 0, &waiting->batch, err));
        la_predictor_answer(p, 0, &waiting->batch, waiting->hashes, out + waiting->from);
    }
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
                                     .truncate_left =
                                         p->session.workers[0].model.task == LA_TASK_CHOICE};
        if (!p->session.tokenizer)
            return la_fail(err, LA_UNSUPPORTED, "the base has no tokenizer.json; give token ids");
        LA_TRY(la_tokenizer_encode(p->session.tokenizer, in->text, in->text_length, in->pair,
                                   in->pair_length, &options, encoding, err));
        ids = encoding->ids;
        types = encoding->types;
        n = encoding->n;
    }
    LA_TRY(la_row_check(&p->session.workers[0].model, ids, n, err));
    if (!la_batch_fits(&waiting->batch, n)) {
        LA_TRY(flush(p, waiting, out, err));
        if (n > waiting->batch.token_capacity) {
            la_batch_free(&waiting->batch);
            LA_TRY(la_batch_open(p->session.batch_rows, n, &waiting->batch, err));
        }
    }
    waiting->hashes[waiting->batch.n_rows] = la_hash64(ids, (size_t)n * sizeof *ids);
    la_batch_add(&waiting->batch, &p->session.workers[0].model, ids, types, n);
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
