#include "pipeline/refine.h"
#include "base/machine.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "bayes/factored.h"
#include "bayes/ivon.h"
#include "output/adapter_write.h"
#include "output/posterior_file.h"
#include "pipeline/guard.h"
#include "pipeline/origin.h"
#include "pipeline/posterior_session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct refining {
    const la_refine_options *options;
    la_posterior old;
    la_session session;
    la_template *prompt;
    la_row_set rows, held;
    float *theta; /* [width] of the old adapter */
    la_refined refined;
    la_structure structure; /* the new posterior */
    double divergence;      /* of it from the old one */
} refining;

static void close_refining(refining *r) {
    la_row_set_free(&r->rows);
    la_row_set_free(&r->held);
    la_refined_free(&r->refined);
    free(r->theta);
    la_structures_free(&r->structure, 1);
    la_session_close(&r->session);
    la_template_free(r->prompt);
    la_posterior_free(&r->old);
}

/* ---- the old posterior and its model ---- */

static la_posterior_session session_of(const refining *r) {
    const la_refine_options *options = r->options;
    return (la_posterior_session){.run = options->run,
                                  .posterior = &r->old,
                                  .path = options->posterior,
                                  .base = options->base,
                                  .adapter = options->adapter};
}

static la_status check_model(const refining *r, la_error *err) {
    const la_model *model = &r->session.workers[0].model;
    for (int64_t b = 0; b < model->n_blocks; b++)
        if (model->blocks[b].group == LA_GROUP_MAGNITUDES)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: DoRA is not trained: its norms would have to follow every step",
                           r->session.adapter);
    return LA_OK;
}

static la_status open_old(refining *r, la_error *err) {
    const la_refine_options *options = r->options;
    LA_TRY(la_posterior_load(options->posterior, &r->old, err));
    const la_structure_kind *kind = la_structure_of(r->old.curvature);
    if (!kind->diagonal)
        return la_fail(err, LA_UNSUPPORTED, "%s: a posterior of structure %s cannot be the prior",
                       options->posterior, la_structure_name(kind));
    la_posterior_session ask = session_of(r);
    ask.one_cotangent = true;
    LA_TRY(la_posterior_session_open(&ask, &r->session, err));
    LA_TRY(check_model(r, err));
    const char *text = r->old.provenance.template_text;
    if (text)
        LA_TRY(la_template_parse("the posterior's template", text, strlen(text), &r->prompt, err));
    LA_TRY(la_row_set_read(&r->session, &options->run, options->data, r->prompt, "training",
                           &r->rows, err));
    if (options->val)
        LA_TRY(la_row_set_read(&r->session, &options->run, options->val, r->prompt, "held-out",
                               &r->held, err));
    return LA_OK;
}

/* ---- the new adapter ---- */

/* What la_adapter_write_check or la_adapter_write does; after: the trained numbers. */
static la_status with_change(refining *r, const float *after,
                             la_status (*act)(const la_adapter_change *, const char *, la_error *),
                             la_error *err) {
    la_blocks blocks;
    const la_model *model = &r->session.workers[0].model;
    LA_TRY(la_model_blocks(model, r->old.params, &blocks, err));
    la_adapter_change change = {model, &blocks, r->theta, after};
    la_status status = act(&change, r->options->out_adapter, err);
    la_blocks_close(&blocks);
    return status;
}

/* Before the training: whether it can be written at all. */
static la_status check_adapter(refining *r, la_error *err) {
    r->theta = la_alloc((size_t)la_posterior_width(&r->old), sizeof *r->theta, err);
    LA_TRY(err->status);
    LA_TRY(la_origin_theta(&r->session, r->theta, err));
    return with_change(r, r->theta, la_adapter_write_check, err);
}

/* ---- the new posterior ---- */

static la_status describe(refining *r, la_error *err) {
    la_posterior *p = &r->structure.posterior;
    const la_provenance *from = &r->old.provenance;
    const char *name = r->options->run.adapter_name;
    la_origin origin = {.adapter_name = name ? name : from->adapter_name,
                        .template_text = from->template_text,
                        .tokenizer_digest = r->rows.n_text
                                                ? la_tokenizer_digest(r->session.tokenizer)
                                                : from->tokenizer_digest,
                        .base_quant = from->base_quant};
    p->noise_asked = r->old.noise_asked;
    p->keep_answers = r->old.keep_answers;
    p->forward = r->old.forward;
    LA_TRY(la_origin_of_model(&r->session, &origin, p, err));
    LA_TRY(la_origin_of_rows(&r->rows, p, err));
    return la_origin_count_classes(&r->rows, p->n_classes, p, err);
}

/* Curvature of the new rows at the new mean, by the exact Fisher information as in any fit, and
 * that of the old posterior: the diagonal of H, beside which the prior keeps its precision. The
 * divergence of N(m, 1 / P) from the old N(m0, 1 / P0) and the expected log likelihood of the
 * linearised network follow. */
static la_status fill_block(refining *r, const la_posterior *fresh, int64_t b, int64_t at,
                            double *fitted, la_error *err) {
    la_posterior *p = &r->structure.posterior;
    la_posterior_block *block = &p->blocks[b];
    la_factored_block *own = block->structure;
    double lambda = r->old.blocks[b].prior_precision, scale = la_curvature_scale(p);
    bool turned = block->out > block->in; /* kept smaller side first */
    int64_t n = block->out * block->in;
    double *before = la_alloc((size_t)n, sizeof *before, err);
    double *now = la_alloc((size_t)n, sizeof *now, err);
    own->spectrum = la_pool_take(&p->pool, (size_t)n, sizeof *own->spectrum, err);
    if (err->status == LA_OK)
        (void)la_structure_of(r->old.curvature)->diagonal(&r->old, b, before, err);
    if (err->status == LA_OK)
        (void)la_structure_of(fresh->curvature)->diagonal(fresh, b, now, err);
    block->prior_precision = lambda;
    own->rows = turned ? block->in : block->out;
    own->cols = turned ? block->out : block->in;
    for (int64_t i = 0; err->status == LA_OK && i < n; i++) {
        int64_t to = turned ? i % block->in * block->out + i / block->in : i;
        double h = scale * now[i], was = before[i] + lambda, all = h + was;
        double off = (double)r->refined.mean[at + i] - (double)r->theta[at + i];
        own->spectrum[to] = (float)((before[i] + h) / scale);
        r->divergence += la_gaussian_divergence(all, was, off);
        *fitted -= 0.5 * h / all;
    }
    free(before);
    free(now);
    return err->status;
}

static la_status fill(refining *r, const la_posterior *fresh, la_error *err) {
    la_posterior *p = &r->structure.posterior;
    la_blocks blocks;
    int64_t at = 0;
    p->curvature = r->structure.kind->curvature;
    p->kron = r->old.kron;
    p->params = r->old.params;
    p->prior = r->old.prior;
    p->prior_precision = r->old.prior_precision;
    p->noise_variance = r->old.noise_variance;
    p->temperature = 1;
    p->n_rows = fresh->n_rows;
    p->n_tokens = fresh->n_tokens;
    p->n_classes = fresh->n_classes;
    p->likelihood = fresh->likelihood;
    LA_TRY(la_model_blocks(&r->session.workers[0].model, p->params, &blocks, err));
    la_status status = la_structure_list(r->structure.kind, &blocks, p, err);
    la_blocks_close(&blocks);
    LA_TRY(status);
    double scale = la_curvature_scale(p);
    p->log_likelihood = scale * fresh->log_likelihood;
    if (p->noise_variance > 0)
        p->log_likelihood -= 0.5 * (double)p->n_rows * log(2 * M_PI * p->noise_variance);
    double fitted = p->log_likelihood;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        LA_TRY(fill_block(r, fresh, b, at, &fitted, err));
        at += p->blocks[b].out * p->blocks[b].in;
    }
    p->log_marginal_likelihood = fitted - r->divergence;
    return LA_OK;
}

static la_status measure_curvature(refining *r, la_error *err) {
    la_structure fresh = {.kind = &la_structure_diag, .params = r->old.params};
    la_row_job rows = la_row_job_all(&r->rows, &r->options->run.log);
    la_status status = la_structures_fit(&r->session, &fresh, 1, &rows, NULL, err);
    if (status == LA_OK)
        status = fill(r, &fresh.posterior, err);
    la_structures_free(&fresh, 1);
    return status;
}

/* The model of the folder that was just written, as everybody else will read it. */
static la_status open_new(refining *r, la_error *err) {
    la_session_close(&r->session);
    r->session = (la_session){0};
    la_posterior_session ask = session_of(r);
    ask.adapter = r->options->out_adapter;
    ask.other_adapter = ask.fits = true;
    ask.kind = &la_structure_diag;
    ask.n_scales = r->held.n ? LA_SELECTION_SCALES : 0;
    return la_posterior_session_open(&ask, &r->session, err);
}

static la_status write_posterior(refining *r, la_error *err) {
    const la_log *log = &r->options->run.log;
    LA_TRY(open_new(r, err));
    r->structure.kind = &la_structure_variational;
    r->structure.params = r->old.params;
    LA_TRY(measure_curvature(r, err));
    LA_TRY(describe(r, err));
    la_guard how = la_guard_like(&r->old, &r->session, log);
    if (r->held.n)
        LA_TRY(la_guard_val(&r->session, &r->structure, &r->held, &how, err));
    else
        la_warn(log, "the confidence is unguarded: without --val nothing held out chooses");
    if (r->old.adue.weight || r->old.ood.means)
        la_warn(log,
                "error head and distances (fit --adue, --ood) are dropped: they are of the old "
                "adapter's states");
    return la_posterior_save(&r->structure.posterior, r->options->out, err);
}

/* ---- all of it ---- */

static la_status check_outputs(const la_refine_options *options, la_error *err) {
    if (!strcmp(options->out, options->out_adapter))
        return la_fail(err, LA_USAGE,
                       "--out and --out-adapter: both are %s; expected a file and a folder",
                       options->out);
    LA_TRY(la_output_check(options->out, err));
    LA_TRY(la_output_apart(options->out, "--posterior", options->posterior, err));
    LA_TRY(la_output_apart(options->out, "--data", options->data, err));
    return la_output_apart(options->out, "--val", options->val, err);
}

static la_status run(refining *r, la_refine_summary *summary, la_error *err) {
    double start = la_seconds();
    LA_TRY(check_outputs(r->options, err));
    LA_TRY(open_old(r, err));
    LA_TRY(check_adapter(r, err));
    LA_TRY(la_refine_train(&r->session, &r->old, &r->rows, &r->held, &r->options->settings,
                           &r->refined, err));
    LA_TRY(with_change(r, r->refined.mean, la_adapter_write, err));
    LA_TRY(write_posterior(r, err));
    la_refined *refined = &r->refined;
    *summary = (la_refine_summary){.n_rows = r->rows.n,
                                   .n_held_out = r->held.n,
                                   .n_parameters = refined->width,
                                   .steps = refined->steps,
                                   .epochs = refined->epochs,
                                   .epoch = refined->epoch,
                                   .rate = refined->rate,
                                   .nll_before = refined->nll_before,
                                   .nll_after = refined->nll_after,
                                   .kl = r->divergence,
                                   .temper = refined->temper,
                                   .elbo = refined->elbo,
                                   .seconds = la_seconds() - start,
                                   .threads = r->session.team.threads};
    refined->elbo = NULL;
    return LA_OK;
}

la_status la_refine(const la_refine_options *options, la_refine_summary *summary, la_error *err) {
    refining r = {.options = options};
    *summary = (la_refine_summary){0};
    la_stop before = la_stop_set(options->run.stop);
    la_status status = run(&r, summary, err);
    la_stop_set(before);
    close_refining(&r);
    return status;
}

void la_refine_summary_free(la_refine_summary *summary) {
    free(summary->elbo);
    *summary = (la_refine_summary){0};
}
