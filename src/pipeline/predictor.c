#include "pipeline/predictor.h"
#include "likelihood/selection.h"
#include "base/machine.h"
#include "base/stop.h"
#include "output/posterior_file.h"
#include "pipeline/arguments.h"
#include "pipeline/passes.h"
#include "pipeline/posterior_session.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

/* True when any recipe reads the covariance. */
static bool needs_cov(const la_predictor *p) {
    return p->n_scales > 0;
}

/* True when that is the full one: a backward pass a contrast. */
static bool needs_backward(const la_predictor *p) {
    return needs_cov(p) && !p->posterior.distilled.mean;
}

bool la_predictor_is_forward(const la_predictor *p) {
    return !needs_backward(p) && !p->recipes[0].kind->networks;
}

bool la_predictor_draws(const la_predictor *p) {
    return la_recipes_draw(p->recipes, p->n_recipes, &p->draws);
}

/* True when predictions are those of sampled networks. */
static bool samples_networks(const la_predictor *p) {
    return p->recipes[0].kind->networks;
}

static la_status open_session(la_predictor *p, const la_predict_options *options, la_error *err) {
    la_posterior_session ask = {.run = options->run,
                                .posterior = &p->posterior,
                                .path = options->posterior,
                                .base = options->base,
                                .adapter = options->adapter,
                                .forward_only = !needs_backward(p),
                                .n_scales = p->n_scales};
    return la_posterior_session_open(&ask, &p->session, err);
}

static bool draw_on_device(void *user, int64_t n, int64_t n_outputs, const double *centre,
                           const double *spread, int64_t samples, uint64_t seed,
                           const uint64_t *streams, double *means) {
    la_backend *be = user;
    return be->ops->monte_carlo(be, n, n_outputs, centre, spread, samples, seed, streams, means);
}

/* Executes the recipes on the batches of a worker, which draws where its device does. */
static la_status open_answering(la_predictor *p, int w, la_error *err) {
    la_backend *be = &p->session.workers[w].backend;
    la_draw_options draws = p->draws;
    draws.on_device = be->ops->draws ? draw_on_device : NULL;
    draws.user = be;
    return la_answering_open(p->posterior.likelihood, p->recipes, p->n_recipes, p->n_classes,
                             p->session.batch_rows, &draws, p->session.team, &p->parts[w].answering,
                             err);
}

static la_status allocate(la_predictor *p, la_error *err) {
    size_t rows = (size_t)p->session.batch_rows, c = (size_t)p->n_classes;
    size_t m = (size_t)p->n_contrasts, scales = (size_t)p->n_scales;
    const la_ood *ood = &p->posterior.ood;
    size_t working = c > (size_t)ood->rank ? c : (size_t)ood->rank;
    size_t distilled = (size_t)p->posterior.distilled.n_features;
    working = working > distilled ? working : distilled;
    for (int w = 0; w < p->session.n_workers; w++) {
        la_predictor_part *part = &p->parts[w];
        part->logits = la_alloc(rows * c, sizeof *part->logits, err);
        part->cotangents = la_alloc(rows * c * m, sizeof *part->cotangents, err);
        part->cov = la_alloc(scales * rows * m * m, sizeof *part->cov, err);
        if (p->posterior.adue.weight || ood->means || p->posterior.distilled.mean)
            part->states = la_alloc(rows * (size_t)la_run_state_width(&p->session.workers[0].model),
                                    sizeof *part->states, err);
        if (samples_networks(p))
            part->networks = la_alloc(rows * (2 * c + 1), sizeof *part->networks, err);
        LA_TRY(open_answering(p, w, err));
    }
    p->basis = la_alloc(c * m, sizeof *p->basis, err);
    LA_TRY(la_slices_open(p->session.team, working * sizeof(double), &p->workspace, err));
    p->projected = la_alloc((size_t)(ood->n_groups * ood->rank), sizeof *p->projected, err);
    LA_TRY(err->status);
    la_ood_project(ood, p->projected);
    p->posterior.likelihood->contrast_basis(p->n_classes, p->basis);
    if (!samples_networks(p))
        return LA_OK;
    return la_sampler_open(&p->session, &p->posterior, p->draws.samples, p->draws.seed,
                           LA_SAMPLER_BUDGET, &p->sampler, err);
}

/* ---- the recipes ---- */

static void add_recipe(la_predictor *p, la_recipe recipe) {
    int at = 0;
    if (recipe.kind->closed && p->draws.samples == 0)
        recipe.kind = recipe.kind->closed;
    p->recipes[p->n_recipes++] = recipe;
    while (at < p->n_scales && p->scales[at] != recipe.prior_scale)
        at++;
    if (recipe.kind->reads_covariance && at == p->n_scales)
        p->scales[p->n_scales++] = recipe.prior_scale;
}

/* The settings that the guard stored; their scales are factors of those in the precisions. */
static la_status add_average(la_predictor *p, const char *path, la_error *err) {
    const la_choice *choice = &p->posterior.choice;
    double stored = choice->candidates[la_choice_laplace(choice)].prior_scale;
    la_recipe recipes[LA_SETTINGS_MOST];
    if (!choice->n_settings)
        return la_fail(err, LA_USAGE,
                       "%s: holds no settings to average; fit with --val or --heldout for them",
                       path);
    int64_t n = la_choice_recipes(p->posterior.likelihood, choice, LA_METHOD_AVERAGE, recipes);
    for (int64_t r = 0; r < n; r++) {
        recipes[r].prior_scale /= stored;
        add_recipe(p, recipes[r]);
    }
    p->label = LA_AVERAGE_NAME;
    return LA_OK;
}

/* One predictive, with the temperature that goes with it. */
static la_status add_predictive(la_predictor *p, const char *name, const char *path,
                                la_error *err) {
    const la_likelihood *likelihood = p->posterior.likelihood;
    const la_choice *choice = &p->posterior.choice;
    la_recipe recipe = {.kind = la_predictive_find(likelihood->predictives, name),
                        .prior_scale = 1,
                        .temperature = 1,
                        .weight = 1};
    if (!recipe.kind)
        return la_fail(err, LA_UNSUPPORTED, "%s: %s", path, likelihood->refusal);
    if (recipe.kind->networks && p->draws.samples == 0)
        return la_fail(err, LA_USAGE,
                       "--samples 0: networks have no closed form, expected 1 or "
                       "more with --predictive weights");
    if (recipe.kind->tempering == LA_TEMPERED_LAPLACE)
        recipe.temperature = p->posterior.temperature;
    if (recipe.kind->tempering == LA_TEMPERED_SCALING) {
        recipe.temperature = choice->candidates[LA_METHOD_TEMPERATURE].temperature;
        if (!choice->guarded)
            return la_fail(err, LA_USAGE,
                           "%s: holds no temperature; fit with --val or --heldout for one", path);
    }
    add_recipe(p, recipe);
    p->label = p->recipes[0].kind->label;
    return LA_OK;
}

/* Recipes of the predictive asked for, or of what the posterior stores. */
static la_status resolve_recipes(la_predictor *p, const la_predict_options *options,
                                 la_error *err) {
    const la_choice *choice = &p->posterior.choice;
    const char *name = options->predictive, *path = options->posterior;
    if (!name)
        name = choice->guarded ? la_method_predictive(choice->method) : "mc";
    p->draws =
        (la_draw_options){.samples = options->samples, .seed = options->seed, .spread = true};
    return strcmp(name, LA_AVERAGE_NAME) || !p->posterior.likelihood->averages
               ? add_predictive(p, name, path, err)
               : add_average(p, path, err);
}

la_status la_predictor_check_shares(const la_predictor *p, const char *path, la_error *err) {
    const la_likelihood *likelihood = p->posterior.likelihood;
    if (!likelihood->reshare)
        return la_fail(err, LA_UNSUPPORTED,
                       "--class-shares: %s is of %s; only classes of which a row has one have "
                       "shares: leave it out",
                       path, likelihood->name);
    if (!p->shares.training)
        return la_fail(err, LA_USAGE,
                       "--class-shares: %s does not hold the class shares of its calibration rows "
                       "(an older laplora wrote it); fit again",
                       path);
    return LA_OK;
}

static la_status open_shares(la_predictor *p, const la_predict_options *options, la_error *err) {
    const la_posterior *posterior = &p->posterior;
    int64_t n = posterior->n_classes;
    const double *rows = posterior->class_rows;
    if (posterior->likelihood->reshare) {
        double *base = rows ? la_alloc((size_t)n, sizeof *base, err) : NULL;
        LA_TRY(err->status);
        if (base)
            la_recipes_base_rows(p->recipes, p->n_recipes, n, rows, posterior->class_held, base);
        la_status status =
            la_class_shares_open(n, base, posterior->class_means, posterior->class_answers,
                                 options->posterior, &p->shares, err);
        free(base);
        LA_TRY(status);
    }
    if (!options->class_shares)
        return LA_OK;
    LA_TRY(la_predictor_check_shares(p, options->posterior, err));
    return la_class_shares_set(&p->shares, "--class-shares", options->class_shares,
                               options->n_class_shares, err);
}

/* A file may hold distilled variances of none of the scales that its settings name. */
static la_status find_distilled(la_predictor *p, const char *path, la_error *err) {
    const la_distilled *d = &p->posterior.distilled;
    for (int g = 0; g < p->n_scales && d->mean; g++) {
        p->distilled_scale[g] = la_distilled_find(d, p->scales[g]);
        if (p->distilled_scale[g] < 0)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: no variances were distilled under %.17g times the prior, which a "
                           "setting has",
                           path, p->scales[g]);
    }
    return LA_OK;
}

static la_status open_parts(la_predictor *p, const la_predict_options *options, bool full,
                            la_error *err) {
    LA_TRY(la_posterior_load(options->posterior, &p->posterior, err));
    if (full)
        p->posterior.distilled = (la_distilled){0}; /* its memory is the posterior's */
    p->kind = la_structure_of(p->posterior.curvature);
    LA_TRY(resolve_recipes(p, options, err));
    LA_TRY(open_shares(p, options, err));
    LA_TRY(open_session(p, options, err));
    LA_TRY(find_distilled(p, options->posterior, err));
    p->n_classes = p->session.workers[0].model.n_classes;
    p->n_contrasts = p->posterior.likelihood->contrasts(p->n_classes);
    if (p->posterior.provenance.template_text)
        LA_TRY(la_template_parse("the posterior's template", p->posterior.provenance.template_text,
                                 strlen(p->posterior.provenance.template_text), &p->prompt, err));
    return allocate(p, err);
}

static la_status open_predictor(const la_predict_options *options, bool full,
                                la_predictor **predictor, la_error *err) {
    la_error ignored;
    err = err ? err : &ignored;
    *err = (la_error){0};
    if (!predictor)
        return la_fail(err, LA_USAGE, "la_predictor_open: predictor is NULL, and is needed");
    *predictor = NULL;
    LA_TRY(la_arguments_check_predict(options, err));
    la_predictor *p = la_alloc(1, sizeof *p, err);
    if (!p)
        return err->status;
    la_stop before = la_stop_set(options->run.stop);
    la_status status = open_parts(p, options, full, err);
    la_stop_set(before);
    if (status != LA_OK) {
        la_predictor_close(p);
        return status;
    }
    *predictor = p;
    return LA_OK;
}

la_status la_predictor_open(const la_predict_options *options, la_predictor **predictor,
                            la_error *err) {
    return open_predictor(options, false, predictor, err);
}

la_status la_predictor_open_full(const la_predict_options *options, la_predictor **predictor,
                                 la_error *err) {
    return open_predictor(options, true, predictor, err);
}

void la_predictor_close(la_predictor *p) {
    if (!p)
        return;
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        la_predictor_part *part = &p->parts[w];
        if (part->covariance)
            p->kind->covariance->close(part->covariance);
        la_blocks_close(&part->blocks);
        la_answering_close(part->answering);
        free(part->logits);
        free(part->cotangents);
        free(part->cov);
        free(part->states);
        free(part->networks);
    }
    la_sampler_close(p->sampler);
    la_session_close(&p->session);
    la_posterior_free(&p->posterior);
    la_class_shares_free(&p->shares);
    la_template_free(p->prompt);
    free(p->basis);
    free(p->projected);
    free(p->workspace.memory);
    free(p);
}

int64_t la_predictor_classes(const la_predictor *predictor) {
    return predictor ? predictor->n_classes : 0;
}

int la_predictor_regresses(const la_predictor *predictor) {
    return predictor && predictor->posterior.noise_variance > 0;
}

int64_t la_predictor_recipes(const la_predictor *predictor) {
    return predictor ? predictor->n_recipes : 0;
}

la_recipe_summary la_predictor_recipe(const la_predictor *predictor, int64_t i) {
    const la_recipe *recipe = &predictor->recipes[i];
    return (la_recipe_summary){.predictive = recipe->kind->name,
                               .prior_scale = recipe->prior_scale,
                               .temperature = recipe->temperature,
                               .weight = recipe->weight,
                               .bias = recipe->bias,
                               .class_weight = recipe->class_weight};
}

la_shares_summary la_predictor_shares(const la_predictor *predictor) {
    const la_class_shares *s = predictor ? &predictor->shares : NULL;
    if (!s || !s->training)
        return (la_shares_summary){.n_classes = s ? s->n_classes : 0};
    return (la_shares_summary){.n_classes = s->n_classes,
                               .training = s->training,
                               .shares = s->is_set ? s->shares : NULL,
                               .errors = s->is_estimate ? s->errors : NULL,
                               .n_rows = s->n_rows};
}

static la_status estimate_shares(la_predictor *p, const la_prediction *predictions, int64_t n,
                                 la_share_rows *rows, la_error *err) {
    for (int64_t i = 0; i < n; i++) {
        if (!predictions[i].probs)
            return la_fail(err, LA_USAGE, "row %lld: probs is NULL, and is needed", (long long)i);
        for (int64_t c = 0; c < p->n_classes; c++)
            if (!(predictions[i].probs[c] >= 0 && predictions[i].probs[c] <= 1.001))
                return la_fail(err, LA_USAGE, "row %lld: probs[%lld] is %g, no probability",
                               (long long)i, (long long)c, predictions[i].probs[c]);
        LA_TRY(la_share_rows_add(rows, predictions[i].probs, err));
    }
    return la_class_shares_estimate(&p->shares, rows, err);
}

la_status la_predictor_estimate_shares(la_predictor *p, const la_prediction *predictions, int64_t n,
                                       la_error *err) {
    la_error ignored;
    err = err ? err : &ignored;
    *err = (la_error){0};
    if (!p || !predictions)
        return la_fail(err, LA_USAGE, "la_predictor_estimate_shares: %s is NULL, and is needed",
                       p ? "predictions" : "predictor");
    if (n < 1)
        return la_fail(err, LA_USAGE, "n %lld: expected at least 1", (long long)n);
    LA_TRY(la_predictor_check_shares(p, "the posterior", err));
    if (p->shares.is_set)
        return la_fail(err, LA_USAGE,
                       "the predictor answers for class shares already; open another one");
    la_share_rows rows = la_share_rows_of(p->n_classes);
    la_stop before = la_stop_set(p->session.stop);
    la_status status = estimate_shares(p, predictions, n, &rows, err);
    la_stop_set(before);
    la_share_rows_free(&rows);
    return status;
}

/* One piece of memory: the predictions, then their arrays. */
la_status la_prediction_list_new(const la_predictor *predictor, int64_t n,
                                 la_prediction **predictions, la_error *err) {
    la_error ignored;
    err = err ? err : &ignored;
    *err = (la_error){0};
    if (predictions)
        *predictions = NULL;
    if (!predictor || !predictions)
        return la_fail(err, LA_USAGE, "la_prediction_list_new: %s is NULL, and is needed",
                       predictor ? "predictions" : "predictor");
    if (n < 0)
        return la_fail(err, LA_USAGE, "n %lld: expected at least 0", (long long)n);
    int64_t classes = predictor->n_classes;
    size_t doubles = (size_t)(4 * classes + classes * classes) * sizeof(double);
    la_prediction *list = *predictions = la_alloc((size_t)n, sizeof *list + doubles, err);
    for (int64_t i = 0; list && i < n; i++)
        list[i] =
            la_prediction_at(classes, (double *)(void *)((char *)(list + n) + (size_t)i * doubles));
    return err->status;
}

void la_prediction_list_free(la_prediction *predictions) {
    free(predictions);
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
        p->kind->covariance->close(part->covariance); /* its memory is needed for the larger run */
        part->covariance = NULL;
    }
    LA_TRY(la_session_reserve(&p->session, worker, tokens, &changed, err));
    if (!needs_backward(p) || (part->covariance && !changed))
        return LA_OK;
    la_cov_shape shape = {
        .batch = {p->session.batch_rows, worker->run.max_tokens, p->session.n_rhs},
        .n_scales = p->n_scales,
        .scales = p->scales};
    if (!part->blocks.be)
        LA_TRY(la_model_blocks(&worker->model, p->posterior.params, &part->blocks, err));
    return p->kind->covariance->open(&part->blocks, &p->posterior, &shape, &part->covariance, err);
}

static la_status covariance(la_predictor *p, int w, const la_batch *batch, la_error *err) {
    la_predictor_part *part = &p->parts[w];
    la_contrast_cotangents(batch->n_rows, p->n_classes, p->n_contrasts, p->basis, part->cotangents);
    p->kind->covariance->batch(part->covariance, batch->n_rows);
    la_block_visitor visitor = p->kind->covariance->visitor(part->covariance);
    LA_TRY(la_run_backward(&p->session.workers[w].run, part->cotangents, &visitor, err));
    return p->kind->covariance->read(part->covariance, part->cov, err);
}

/* From what the forward pass has left. */
static void distilled_covariance(la_predictor *p, int w, const la_batch *batch) {
    const la_distilled *d = &p->posterior.distilled;
    const la_predictor_part *part = &p->parts[w];
    int64_t n = batch->n_rows, size = p->n_contrasts * p->n_contrasts;
#pragma omp parallel for schedule(static) num_threads(p->session.team.threads)
    for (int64_t i = 0; i < n; i++) {
        double *features = la_slices_own(&p->workspace);
        la_distilled_features(d, part->logits + i * p->n_classes, part->states + i * d->width,
                              features);
        for (int64_t g = 0; g < p->n_scales; g++)
            la_distilled_cov(d, p->distilled_scale[g], features, part->cov + (g * n + i) * size);
    }
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
        LA_TRY(la_sampler_run(p->sampler, w, batch, p->parts[w].logits, p->recipes[0].temperature,
                              p->parts[w].networks, err));
        worker->seconds_forward += la_seconds() - start;
        return LA_OK;
    }
    if (needs_backward(p))
        LA_TRY(covariance(p, w, batch, err));
    else if (needs_cov(p))
        distilled_covariance(p, w, batch);
    worker->seconds_backward += la_seconds() - start;
    return LA_OK;
}

/* Variance of the noise without a posterior: what the guard chose for the MAP model. */
static double map_variance(const la_posterior *p) {
    return p->choice.guarded ? p->choice.candidates[LA_METHOD_MAP].noise_variance
                             : p->noise_variance;
}

la_status la_predictor_answer(la_predictor *p, int w, const la_batch *batch, const uint64_t *hashes,
                              la_prediction *out, la_error *err) {
    int64_t n = batch->n_rows;
    const la_predictor_part *part = &p->parts[w];
    const la_adue *head = &p->posterior.adue;
    const la_ood *ood = &p->posterior.ood;
    la_output_rows rows = {.n = n,
                           .n_outputs = p->n_classes,
                           .n_scales = p->n_scales,
                           .outputs = part->logits,
                           .scales = p->scales,
                           .cov = part->cov,
                           .streams = hashes,
                           .networks = part->networks,
                           .noise_variance = p->posterior.noise_variance,
                           .map_variance = map_variance(&p->posterior)};
    LA_TRY(la_answering_rows(part->answering, &rows, out, err));
#pragma omp parallel for schedule(static) num_threads(p->session.team.threads)
    for (int64_t i = 0; i < n; i++) {
        double *workspace = la_slices_own(&p->workspace);
        if (p->shares.is_set)
            p->posterior.likelihood->reshare(&p->shares, &out[i]);
        out[i].adue =
            head->weight ? la_adue_score(head, part->states + i * head->width, workspace) : NAN;
        out[i].ood = NAN;
        if (ood->means)
            out[i].ood = la_ood_share(
                ood, la_ood_distance(ood, p->projected, part->states + i * ood->width, workspace));
    }
    return LA_OK;
}
