#include "pipeline/predictor.h"
#include "bayes/predictive.h"
#include "bayes/selection.h"
#include "base/threads.h"
#include "output/posterior_file.h"
#include "pipeline/arguments.h"
#include "pipeline/form.h"

#include <errno.h>
#include <math.h>
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

/* Base and adapter do not fit each other, which *err tells. Where one of them is not the one that the
 * posterior was fitted with, that is why. */
static la_status check_strangers(const la_session_options *session, la_error *err) {
    const la_posterior *posterior = session->posterior;
    char base[LA_DIGEST_TEXT], adapter[LA_DIGEST_TEXT];
    la_error reason = *err, found = {0};
    if (reason.status != LA_BAD_INPUT && reason.status != LA_UNSUPPORTED &&
        reason.status != LA_USAGE)
        return reason.status;
    la_model_digests(&(la_model_options){.base = session->base,
                                         .adapter = session->adapter,
                                         .adapter_name = session->run.adapter_name,
                                         .quant = posterior->provenance.base_quant},
                     base, adapter);
    if (*base)
        check_digest("base", session->base, base, posterior->provenance.base_digest, &found);
    if (*adapter && found.status == LA_OK)
        check_digest("adapter", session->adapter, adapter, posterior->provenance.adapter_digest,
                     &found);
    if (found.status == LA_OK)
        return reason.status;
    *err = (la_error){0};
    return la_fail(err, LA_MISMATCH, "%s (%s)", found.message, reason.message);
}

/* Whether the base will be packed as it was when the posterior was fitted. */
static la_status check_quant(const la_predict_options *options, const la_posterior *posterior,
                             const char *base, la_error *err) {
    const char *asked = options->run.base_quant,
               *had = la_base_quant_names[posterior->provenance.base_quant];
    la_base_quant quant;
    LA_TRY(la_base_quant_parse(asked, &quant, err));
    if (asked && quant != posterior->provenance.base_quant)
        return la_fail(err, LA_MISMATCH,
                       "%s: was fitted with --base-quant %s, not %s; leave the option out, or fit "
                       "again",
                       options->posterior, had, asked);
    if (!posterior->provenance.base_quant)
        return LA_OK;
    la_config config;
    LA_TRY(la_config_read(base, &config, err));
    la_base_quant stored = config.quantised;
    la_config_free(&config);
    if (stored)
        return la_fail(
            err, LA_MISMATCH,
            "%s: is quantised already (%s), and the posterior was fitted on a plain base "
            "with --base-quant %s; give that one, or fit again",
            base, la_base_quant_names[stored], had);
    return LA_OK;
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
    if (next != p->posterior.n_blocks || model->n_classes != p->posterior.n_classes ||
        model->likelihood != p->posterior.likelihood)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: n_blocks and n_classes are %lld and %lld, the model's %lld and %lld; "
                       "it is damaged",
                       path, (long long)p->posterior.n_blocks, (long long)p->posterior.n_classes,
                       (long long)next, (long long)model->n_classes);
    if (p->posterior.adue.weight && p->posterior.adue.width != la_run_state_width(model))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: the error head reads states of width %lld, the model's are of %lld; it "
                       "is damaged",
                       path, (long long)p->posterior.adue.width,
                       (long long)la_run_state_width(model));
    return LA_OK;
}

/* The folders a posterior remembers may have moved. */
static la_status check_folder(const char *option, const char *given, const char *stored,
                              la_error *err) {
    if (given || !access(stored, R_OK))
        return LA_OK;
    return la_fail(err, la_errno_status(errno),
                   "%s: where the posterior was fitted there is nothing to read now (%s); give "
                   "--%s DIR",
                   stored, la_errno_text(errno), option);
}

/* Whether any answer reads the covariance. */
static bool needs_cov(const la_predictor *p) {
    return p->n_scales > 0;
}

/* Whether any is drawn on the host or on devices. */
static bool draws(const la_predictor *p) {
    bool any = false;
    for (int s = 0; s < p->n_settings && !p->regression; s++)
        any |= la_predict_draws(p->settings[s].kind) && p->samples > 0;
    return any;
}

bool la_predictor_draws(const la_predictor *p) {
    return p->predictive == LA_PREDICT_WEIGHTS || draws(p);
}

static la_status open_session(la_predictor *p, const la_predict_options *options, la_error *err) {
    const la_posterior *posterior = &p->posterior;
    la_session_options session = {
        .run = options->run,
        .base = options->base ? options->base : posterior->provenance.base_path,
        .adapter = options->adapter ? options->adapter : posterior->provenance.adapter_path,
        .params = posterior->params,
        .choice_ids = posterior->provenance.choice_ids,
        .n_choices = posterior->provenance.choice_ids ? posterior->n_classes : 0,
        .labels = &posterior->provenance.labels,
        .max_length = posterior->provenance.max_length,
        .forward_only = !needs_cov(p),
        .n_scales = p->n_scales,
        .kind = p->kind,
        .kron = posterior->kron,
        .posterior = posterior,
    };
    LA_TRY(check_folder("base", options->base, posterior->provenance.base_path, err));
    LA_TRY(check_folder("adapter", options->adapter, posterior->provenance.adapter_path, err));
    LA_TRY(check_quant(options, posterior, session.base, err));
    session.run.base_quant = la_base_quant_names[posterior->provenance.base_quant];
    if (!session.run.adapter_name)
        session.run.adapter_name = posterior->provenance.adapter_name;
    if (la_session_open(&session, &p->session, err) != LA_OK)
        return check_strangers(&session, err);
    const la_model *model = &p->session.workers[0].model;
    LA_TRY(check_digest("base", session.base, model->base_digest, posterior->provenance.base_digest,
                        err));
    LA_TRY(check_digest("adapter", session.adapter, model->adapter_digest,
                        posterior->provenance.adapter_digest, err));
    if (p->session.tokenizer && *posterior->provenance.tokenizer_digest)
        LA_TRY(check_digest("tokenizer",
                            p->session.tokenizer_of_adapter ? session.adapter : session.base,
                            la_tokenizer_digest(p->session.tokenizer),
                            posterior->provenance.tokenizer_digest, err));
    return check_blocks(p, options->posterior, err);
}

static la_status allocate(la_predictor *p, la_error *err) {
    size_t rows = (size_t)p->session.batch_rows, c = (size_t)p->n_classes;
    size_t m = (size_t)p->n_contrasts, scales = (size_t)p->n_scales;
    for (int w = 0; w < p->session.n_workers; w++) {
        la_predictor_part *part = &p->parts[w];
        part->logits = la_alloc(rows * c, sizeof *part->logits, err);
        part->cotangents = la_alloc(rows * c * m, sizeof *part->cotangents, err);
        part->cov = la_alloc(scales * rows * m * m, sizeof *part->cov, err);
        part->tempered = la_alloc(rows * c, sizeof *part->tempered, err);
        part->tempered_cov = la_alloc(rows * m * m, sizeof *part->tempered_cov, err);
        if (p->posterior.adue.weight)
            part->states =
                la_alloc(rows * (size_t)p->posterior.adue.width, sizeof *part->states, err);
        if (p->predictive == LA_PREDICT_WEIGHTS)
            part->drawn = la_alloc(rows * (2 * c + 1), sizeof *part->drawn, err);
        if (!draws(p) || !p->session.workers[w].backend.ops->draws)
            continue;
        part->centre = la_alloc(rows * c, sizeof *part->centre, err);
        part->spread = la_alloc(rows * c * m, sizeof *part->spread, err);
        part->drawn = la_alloc(rows * (2 * c + 1), sizeof *part->drawn, err);
    }
    if (p->n_settings > 1)
        LA_TRY(la_predictions_new(p->n_classes, p->session.batch_rows, &p->single,
                                  &p->single_memory, err));
    p->basis = la_alloc(c * m, sizeof *p->basis, err);
    la_slices_open(p->session.team, (size_t)la_predict_workspace(p->n_classes) * sizeof(double),
                   &p->workspace, err);
    LA_TRY(err->status);
    p->posterior.likelihood->contrast_basis(p->n_classes, p->basis);
    if (p->predictive != LA_PREDICT_WEIGHTS)
        return LA_OK;
    return la_sampler_open(&p->session, &p->posterior, p->samples, p->seed, LA_SAMPLER_BUDGET,
                           &p->sampler, err);
}

/* The predictive of a regression is a Gaussian: nothing is drawn for it. */
static la_status resolve_regression(la_predictor *p, const la_predict_options *options,
                                    la_error *err) {
    const la_choice *choice = &p->posterior.choice;
    if (p->predictive == LA_PREDICT_STORED)
        p->predictive =
            choice->guarded && choice->method == LA_METHOD_MAP ? LA_PREDICT_MAP : LA_PREDICT_MC;
    p->map_variance = choice->guarded ? choice->candidates[LA_METHOD_MAP].noise_variance
                                      : p->posterior.noise_variance;
    if (p->predictive == LA_PREDICT_MC || p->predictive == LA_PREDICT_MAP ||
        p->predictive == LA_PREDICT_WEIGHTS)
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: is of a regression, whose --predictive is mc (a Gaussian in closed form), "
                   "weights or map; the others are of probabilities of classes",
                   options->posterior);
}

/* A setting more; scale: factor of the stored precisions. */
static void add_setting(la_predictor *p, la_predictive kind, double scale, double temperature,
                        double weight) {
    int at = 0;
    if (kind == LA_PREDICT_MC && p->samples == 0 && !p->regression)
        kind = LA_PREDICT_PROBIT;
    if (la_predict_needs_cov(kind)) {
        while (at < p->n_scales && p->scales[at] != scale)
            at++;
        if (at == p->n_scales)
            p->scales[p->n_scales++] = scale;
    }
    p->settings[p->n_settings++] = (la_predictor_setting){
        .kind = kind, .scale = at, .temperature = temperature, .weight = weight};
}

static void add_average(la_predictor *p) {
    const la_choice *choice = &p->posterior.choice;
    double stored = choice->candidates[la_choice_laplace(choice)].prior_scale;
    for (int64_t s = 0; s < choice->n_settings; s++) {
        const la_setting *one = &choice->settings[s];
        add_setting(p, la_method_predictive(one->method), one->prior_scale / stored,
                    one->temperature, one->weight);
    }
}

/* The one setting of a predictive, with the temperature that goes with it. */
static void add_predictive(la_predictor *p) {
    double temperature = p->posterior.temperature;
    if (p->predictive == LA_PREDICT_MAP)
        temperature = 1;
    if (p->predictive == LA_PREDICT_TEMPERATURE)
        temperature = p->posterior.choice.candidates[LA_METHOD_TEMPERATURE].temperature;
    add_setting(p, p->predictive, 1, temperature, 1);
    p->predictive = p->settings[0].kind;
}

/* What the posterior says where the caller leaves it to it. */
static la_status resolve_predictive(la_predictor *p, const la_predict_options *options,
                                    la_error *err) {
    const la_choice *choice = &p->posterior.choice;
    p->regression = p->posterior.likelihood->has_noise;
    if (p->regression)
        LA_TRY(resolve_regression(p, options, err));
    if (p->predictive == LA_PREDICT_STORED)
        p->predictive = choice->guarded ? la_method_predictive(choice->method) : LA_PREDICT_MC;
    if (p->predictive == LA_PREDICT_WEIGHTS && p->samples == 0)
        return la_fail(err, LA_USAGE,
                       "--samples 0: networks have no closed form, expected 1 or "
                       "more with --predictive weights");
    if (p->predictive == LA_PREDICT_TEMPERATURE && !choice->guarded)
        return la_fail(err, LA_USAGE,
                       "%s: holds no temperature; fit with --val or --heldout for one",
                       options->posterior);
    if (p->predictive == LA_PREDICT_AVERAGE && !choice->n_settings)
        return la_fail(err, LA_USAGE,
                       "%s: holds no settings to average; fit with --val or --heldout for them",
                       options->posterior);
    if (p->predictive == LA_PREDICT_AVERAGE)
        add_average(p);
    else
        add_predictive(p);
    return LA_OK;
}

static la_status open_parts(la_predictor *p, const la_predict_options *options, la_error *err) {
    p->predictive = options->predictive;
    p->samples = options->samples;
    p->seed = options->seed;
    LA_TRY(la_posterior_load(options->posterior, &p->posterior, err));
    p->kind = la_curvature_of(p->posterior.curvature);
    LA_TRY(resolve_predictive(p, options, err));
    LA_TRY(open_session(p, options, err));
    p->n_classes = p->session.workers[0].model.n_classes;
    p->n_contrasts = p->posterior.likelihood->contrasts(p->n_classes);
    if (p->posterior.provenance.template_text)
        LA_TRY(la_template_parse("the posterior's template", p->posterior.provenance.template_text,
                                 strlen(p->posterior.provenance.template_text), &p->prompt, err));
    return allocate(p, err);
}

la_status la_predictor_open(const la_predict_options *options, la_predictor **predictor,
                            la_error *err) {
    la_error unheard;
    err = err ? err : &unheard;
    *err = (la_error){0};
    if (!predictor)
        return la_fail(err, LA_USAGE, "la_predictor_open: predictor is NULL, and is needed");
    *predictor = NULL;
    LA_TRY(la_arguments_check_predict(options, err));
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
            p->kind->covariance->close(part->covariance);
        free(part->logits);
        free(part->cotangents);
        free(part->cov);
        free(part->tempered);
        free(part->tempered_cov);
        free(part->states);
        free(part->centre);
        free(part->spread);
        free(part->drawn);
    }
    la_sampler_close(p->sampler);
    la_session_close(&p->session);
    la_posterior_free(&p->posterior);
    la_template_free(p->prompt);
    free(p->single);
    free(p->single_memory);
    free(p->basis);
    free(p->workspace.memory);
    free(p);
}

int64_t la_predictor_classes(const la_predictor *predictor) {
    return predictor ? predictor->n_classes : 0;
}

int la_predictor_regresses(const la_predictor *predictor) {
    return predictor && predictor->regression;
}

const char *la_predictor_label(const la_predictor *predictor, int64_t label) {
    if (!predictor)
        return NULL;
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
        p->kind->covariance->close(part->covariance); /* its room is needed for the larger run */
        part->covariance = NULL;
    }
    LA_TRY(la_session_reserve(&p->session, worker, tokens, &changed, err));
    if (!needs_cov(p) || (part->covariance && !changed))
        return LA_OK;
    la_cov_shape shape = {.max_rows = p->session.batch_rows,
                          .max_tokens = worker->run.max_tokens,
                          .n_rhs = p->session.n_rhs,
                          .n_scales = p->n_scales,
                          .scales = p->scales};
    return p->kind->covariance->open(&worker->model, &p->posterior, &shape, &part->covariance, err);
}

static la_status covariance(la_predictor *p, int w, const la_batch *batch, la_error *err) {
    la_predictor_part *part = &p->parts[w];
    la_contrast_cotangents(batch->n_rows, p->n_classes, p->n_contrasts, p->basis, part->cotangents);
    p->kind->covariance->batch(part->covariance, batch->n_rows);
    la_block_visitor visitor = p->kind->covariance->visitor(part->covariance);
    LA_TRY(la_run_backward(&p->session.workers[w].run, part->cotangents, &visitor, err));
    return p->kind->covariance->read(part->covariance, part->cov, err);
}

la_status la_predictor_batch(la_predictor *p, int w, const la_batch *batch, la_error *err) {
    la_worker *worker = &p->session.workers[w];
    LA_TRY(reserve(p, w, batch->n_tokens, err));
    double start = la_seconds();
    LA_TRY(la_run_forward(&worker->run, batch, p->parts[w].logits, err));
    /* now: sampled networks leave states of their own */
    if (p->parts[w].states)
        LA_TRY(la_run_states(&worker->run, p->parts[w].states, err));
    worker->seconds_forward += la_seconds() - start;
    start = la_seconds();
    if (p->sampler) {
        LA_TRY(la_sampler_run(p->sampler, w, batch, p->parts[w].logits, p->settings[0].temperature,
                              p->parts[w].drawn, err));
        worker->seconds_forward += la_seconds() - start;
        return LA_OK;
    }
    if (needs_cov(p))
        LA_TRY(covariance(p, w, batch, err));
    worker->seconds_backward += la_seconds() - start;
    return LA_OK;
}

/* Lets the device draw for the whole batch; false when the host has to. */
static bool draw_on_device(la_predictor *p, int w, int64_t n, const float *logits,
                           const double *cov, const uint64_t *hashes) {
    la_backend *be = &p->session.workers[w].backend;
    int64_t c = p->n_classes, m = p->n_contrasts;
    la_predictor_part *part = &p->parts[w];
#pragma omp parallel for schedule(static) num_threads(p->session.team.threads)
    for (int64_t i = 0; i < n; i++)
        la_predict_gaussian(c, logits + i * c, p->basis, cov + i * m * m,
                            la_slices_own(&p->workspace), part->centre + i * c,
                            part->spread + i * c * m);
    return be->ops->monte_carlo(be, n, c, part->centre, part->spread, p->samples, p->seed, hashes,
                                part->drawn);
}

/* Logits and covariance of the batch under a setting, divided by its temperature. */
static void temper(const la_predictor *p, int w, int64_t n, const la_predictor_setting *s,
                   const float **logits, const double **cov) {
    const la_predictor_part *part = &p->parts[w];
    int64_t c = p->n_classes, m = p->n_contrasts;
    bool reads_cov = la_predict_needs_cov(s->kind);
    *logits = part->logits;
    *cov = part->cov + s->scale * n * m * m;
    if (s->temperature == 1)
        return;
    for (int64_t i = 0; i < n * c; i++)
        part->tempered[i] = (float)((double)part->logits[i] / s->temperature);
    for (int64_t i = 0; i < n * m * m && reads_cov; i++)
        part->tempered_cov[i] = (*cov)[i] / (s->temperature * s->temperature);
    *logits = part->tempered;
    *cov = part->tempered_cov;
}

/* The batch's answers under one setting. */
static void answer_setting(la_predictor *p, int w, int64_t n, const la_predictor_setting *s,
                           const uint64_t *hashes, la_prediction *out) {
    int64_t c = p->n_classes, m = p->n_contrasts;
    const la_predictor_part *part = &p->parts[w];
    const float *logits;
    const double *cov;
    temper(p, w, n, s, &logits, &cov);
    bool on_device = la_predict_draws(s->kind) && part->centre;
    bool is_drawn = p->sampler || (on_device && draw_on_device(p, w, n, logits, cov, hashes));
    const double *drawn = is_drawn ? part->drawn : NULL;
#pragma omp parallel for schedule(static) num_threads(p->session.team.threads)
    for (int64_t i = 0; i < n; i++) {
        double *workspace = la_slices_own(&p->workspace);
        la_predict_row(s->kind, c, logits + i * c, p->basis, cov + i * m * m, p->samples, p->seed,
                       hashes[i], drawn ? drawn + i * (2 * c + 1) : NULL, workspace, &out[i]);
        if (s->temperature != 1)
            la_predict_restore(c, part->logits + i * c, s->temperature, &out[i]);
    }
}

/* Their mean under all of several settings, in the order of the list. */
static void answer_average(la_predictor *p, int w, int64_t n, const uint64_t *hashes,
                           la_prediction *out) {
    for (int64_t i = 0; i < n; i++)
        la_predict_mix_start(p->n_classes, &out[i]);
    for (int s = 0; s < p->n_settings; s++) {
        answer_setting(p, w, n, &p->settings[s], hashes, p->single);
        for (int64_t i = 0; i < n; i++)
            la_predict_mix_add(p->n_classes, p->settings[s].weight, &p->single[i], &out[i]);
    }
    for (int64_t i = 0; i < n; i++)
        la_predict_mix_finish(p->n_classes, &out[i]);
}

void la_predictor_answer(la_predictor *p, int w, const la_batch *batch, const uint64_t *hashes,
                         la_prediction *out) {
    int64_t n = batch->n_rows;
    const la_predictor_part *part = &p->parts[w];
    const la_adue *head = &p->posterior.adue;
    if (p->regression) {
        for (int64_t i = 0; i < n; i++)
            la_predict_regression(p->predictive, part->logits[i], part->cov + i,
                                  part->drawn ? part->drawn + 3 * i : NULL,
                                  p->posterior.noise_variance, p->map_variance, &out[i]);
        return;
    }
    if (p->n_settings > 1)
        answer_average(p, w, n, hashes, out);
    else
        answer_setting(p, w, n, &p->settings[0], hashes, out);
#pragma omp parallel for schedule(static) num_threads(p->session.team.threads)
    for (int64_t i = 0; i < n; i++) {
        double *workspace = la_slices_own(&p->workspace);
        out[i].adue =
            part->states ? la_adue_score(head, part->states + i * head->width, workspace) : NAN;
    }
}

la_status la_predictions_new(int64_t n_classes, int64_t n, la_prediction **answers, double **memory,
                             la_error *err) {
    size_t c = (size_t)n_classes, each = 4 * c + c * c;
    *answers = la_alloc((size_t)n, sizeof **answers, err);
    *memory = la_alloc((size_t)n * each, sizeof **memory, err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < n; i++)
        (*answers)[i] = la_prediction_at(n_classes, *memory + (size_t)i * each);
    return LA_OK;
}
