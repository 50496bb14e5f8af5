#include "likelihood/answer.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

typedef struct answering {
    const la_likelihood *likelihood;
    const la_recipe *recipes;
    int64_t n, m; /* recipes, contrasts */
    const la_output_rows *rows;
    const la_draw_options *draws;
    int64_t *scale; /* [n] which of the rows' scales a recipe's is */
    double *means;  /* [n, rows, 2C+1] that a device drew */
    bool *drawn;    /* [n] whether it did */
    double *basis;  /* [C, m] */
} answering;

/* A thread's memory. */
typedef struct scratch {
    float *outputs;    /* [C] over the temperature */
    double *cov;       /* [m, m] over its square */
    double *workspace; /* of the likelihood */
    la_prediction part, own;
} scratch;

static int64_t prediction_doubles(int64_t n_outputs) {
    return 4 * n_outputs + n_outputs * n_outputs;
}

la_prediction la_prediction_at(int64_t n_outputs, double *memory) {
    return (la_prediction){.probs = memory,
                           .map_probs = memory + n_outputs,
                           .logits = memory + 2 * n_outputs,
                           .variance = memory + 3 * n_outputs,
                           .logit_cov = memory + 4 * n_outputs};
}

static bool recipe_draws(const la_recipe *recipe, const la_draw_options *draws) {
    la_draws least = draws->spread ? LA_DRAWS_SPREAD : LA_DRAWS_ANSWER;
    return recipe->kind->draws >= least && draws->samples > 0;
}

bool la_recipes_draw(const la_recipe *recipes, int64_t n, const la_draw_options *draws) {
    bool any = false;
    for (int64_t r = 0; r < n; r++)
        any |= recipes[r].kind->networks || recipe_draws(&recipes[r], draws);
    return any;
}

static la_status find_scale(answering *a, int64_t r, la_error *err) {
    const la_output_rows *rows = a->rows;
    double scale = a->recipes[r].prior_scale;
    if (!a->recipes[r].kind->reads_covariance)
        return LA_OK;
    for (int64_t g = 0; g < rows->n_scales; g++)
        if (rows->scales[g] == scale) {
            a->scale[r] = g;
            return LA_OK;
        }
    return la_fail(err, LA_NUMERICAL,
                   "prior x %.9g was chosen and is none of the %lld scales that the rows were "
                   "evaluated under",
                   scale, (long long)rows->n_scales);
}

/* A row under a recipe, with outputs and covariance divided by its temperature. */
static la_answer_row row_of(const answering *a, int64_t r, int64_t i, scratch *s) {
    const la_output_rows *rows = a->rows;
    const la_recipe *recipe = &a->recipes[r];
    int64_t c = rows->n_outputs, square = a->m * a->m;
    la_answer_row row = {.outputs = rows->outputs + i * c,
                         .basis = a->basis,
                         .cov = recipe->kind->reads_covariance
                                    ? rows->cov + (a->scale[r] * rows->n + i) * square
                                    : NULL,
                         .means = rows->networks ? rows->networks + i * (2 * c + 1) : NULL,
                         .samples = recipe_draws(recipe, a->draws) ? a->draws->samples : 0,
                         .seed = a->draws->seed,
                         .stream = rows->streams ? rows->streams[i] : 0,
                         .noise_variance = rows->noise_variance,
                         .map_variance = rows->map_variance};
    if (recipe->temperature == 1)
        return row;
    for (int64_t k = 0; k < c; k++)
        s->outputs[k] = (float)((double)row.outputs[k] / recipe->temperature);
    row.outputs = s->outputs;
    for (int64_t k = 0; row.cov && k < square; k++)
        s->cov[k] = row.cov[k] / (recipe->temperature * recipe->temperature);
    row.cov = row.cov ? s->cov : NULL;
    return row;
}

static void answer_by(const answering *a, int64_t r, int64_t i, scratch *s, la_prediction *out) {
    const la_output_rows *rows = a->rows;
    int64_t c = rows->n_outputs;
    double temperature = a->recipes[r].temperature;
    la_answer_row row = row_of(a, r, i, s);
    if (a->drawn && a->drawn[r])
        row.means = a->means + (r * rows->n + i) * (2 * c + 1);
    a->likelihood->predict(a->recipes[r].kind, c, &row, s->workspace, out);
    if (temperature != 1)
        a->likelihood->restore(c, rows->outputs + i * c, temperature, out);
}

/* ---- the mean of several ---- */

/* The parts are the row's predictions as they are reported. Variances are by the law of total
 * variance; mutual information is what the recipes differ by, H[mean p] - mean H[p] over them, and
 * their own mean: both NaN where a part has none. logit_cov is that of the mixture of the recipes'
 * Gaussians, which share their mean. */
static void mix_start(int64_t c, la_prediction *out) {
    size_t bytes = (size_t)c * sizeof(double);
    memset(out->probs, 0, bytes);
    memset(out->variance, 0, bytes);
    memset(out->logit_cov, 0, bytes * (size_t)c);
    out->mutual_information = 0;
}

static void mix_add(int64_t n, double weight, const la_prediction *part, la_prediction *out) {
    for (int64_t c = 0; c < n; c++) {
        double moved = part->probs[c] - part->map_probs[c];
        out->logits[c] = part->logits[c];
        out->map_probs[c] = part->map_probs[c];
        out->probs[c] += weight * part->probs[c];
        out->variance[c] += weight * (part->variance[c] + moved * moved);
    }
    for (int64_t i = 0; i < n * n; i++)
        out->logit_cov[i] += weight * part->logit_cov[i];
    /* until the end the mean of what the parts hold for noise: their entropy less their
     * information */
    out->mutual_information += weight * (part->entropy - part->mutual_information);
}

static void mix_finish(const la_likelihood *likelihood, int64_t n, la_prediction *out) {
    likelihood->conclude(n, out);
    double gap = out->entropy - out->mutual_information;
    out->mutual_information = gap < 0 ? 0 : gap; /* rounding; a NaN stays one */
    for (int64_t c = 0; c < n; c++) {
        double moved = out->probs[c] - out->map_probs[c];
        double variance = out->variance[c] - moved * moved;
        out->variance[c] = variance < 0 ? 0 : variance;
    }
}

static void answer_row(const answering *a, int64_t i, scratch *s, la_prediction *out) {
    int64_t c = a->rows->n_outputs;
    if (a->n == 1) {
        answer_by(a, 0, i, s, out);
        return;
    }
    mix_start(c, out);
    for (int64_t r = 0; r < a->n; r++) {
        answer_by(a, r, i, s, &s->part);
        mix_add(c, a->recipes[r].weight, &s->part, out);
    }
    mix_finish(a->likelihood, c, out);
}

/* Arrays that are not wanted are the thread's own. */
static void answer_wanted(const answering *a, int64_t i, scratch *s, la_prediction *out) {
    la_prediction to = *out;
    to.probs = to.probs ? to.probs : s->own.probs;
    to.map_probs = to.map_probs ? to.map_probs : s->own.map_probs;
    to.logits = to.logits ? to.logits : s->own.logits;
    to.variance = to.variance ? to.variance : s->own.variance;
    to.logit_cov = to.logit_cov ? to.logit_cov : s->own.logit_cov;
    answer_row(a, i, s, &to);
    la_prediction given = *out;
    *out = to;
    out->probs = given.probs;
    out->map_probs = given.map_probs;
    out->logits = given.logits;
    out->variance = given.variance;
    out->logit_cov = given.logit_cov;
}

/* ---- all rows ---- */

typedef struct scratches {
    la_slices doubles, floats;
    int64_t n_outputs, m;
} scratches;

static la_status open_scratches(const answering *a, la_team team, scratches *s, la_error *err) {
    int64_t c = a->rows->n_outputs;
    int64_t doubles = 2 * prediction_doubles(c) + a->m * a->m + a->likelihood->workspace(c);
    *s = (scratches){.n_outputs = c, .m = a->m};
    LA_TRY(la_slices_open(team, (size_t)doubles * sizeof(double), &s->doubles, err));
    return la_slices_open(team, (size_t)c * sizeof(float), &s->floats, err);
}

static scratch own_scratch(const scratches *s) {
    double *part = la_slices_own(&s->doubles), *own = part + prediction_doubles(s->n_outputs);
    double *cov = own + prediction_doubles(s->n_outputs);
    return (scratch){.outputs = la_slices_own(&s->floats),
                     .cov = cov,
                     .workspace = cov + s->m * s->m,
                     .part = la_prediction_at(s->n_outputs, part),
                     .own = la_prediction_at(s->n_outputs, own)};
}

/* Has the device draw for every recipe that needs it. */
static la_status draw(answering *a, const scratches *memory, la_team team, la_error *err) {
    const la_output_rows *rows = a->rows;
    int64_t c = rows->n_outputs, each = rows->n * (2 * c + 1);
    double *centre = la_alloc((size_t)(rows->n * c), sizeof *centre, err);
    double *spread = la_alloc((size_t)(rows->n * c * a->m), sizeof *spread, err);
    a->means = la_alloc((size_t)(a->n * each), sizeof *a->means, err);
    a->drawn = la_alloc((size_t)a->n, sizeof *a->drawn, err);
    for (int64_t r = 0; r < a->n && err->status == LA_OK; r++) {
        if (!recipe_draws(&a->recipes[r], a->draws))
            continue;
#pragma omp parallel for schedule(static) num_threads(team.threads)
        for (int64_t i = 0; i < rows->n; i++) {
            scratch s = own_scratch(memory);
            la_answer_row row = row_of(a, r, i, &s);
            la_draw_gaussian(c, row.outputs, row.basis, row.cov, s.workspace, centre + i * c,
                             spread + i * c * a->m);
        }
        a->drawn[r] =
            a->draws->on_device(a->draws->user, rows->n, c, centre, spread, a->draws->samples,
                                a->draws->seed, rows->streams, a->means + r * each);
    }
    free(centre);
    free(spread);
    return err->status;
}

static la_status run(answering *a, scratches *memory, la_team team, la_prediction *out,
                     la_error *err) {
    int64_t c = a->rows->n_outputs;
    a->scale = la_alloc((size_t)a->n, sizeof *a->scale, err);
    a->basis = la_alloc((size_t)(c * a->m), sizeof *a->basis, err);
    LA_TRY(err->status);
    a->likelihood->contrast_basis(c, a->basis);
    for (int64_t r = 0; r < a->n; r++)
        LA_TRY(find_scale(a, r, err));
    LA_TRY(open_scratches(a, team, memory, err));
    if (a->draws->on_device && a->likelihood->draws_elsewhere)
        LA_TRY(draw(a, memory, team, err));
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t i = 0; i < a->rows->n; i++) {
        scratch s = own_scratch(memory);
        answer_wanted(a, i, &s, &out[i]);
    }
    return LA_OK;
}

la_status la_answer_rows(const la_likelihood *likelihood, const la_recipe *recipes, int64_t n,
                         const la_output_rows *rows, const la_draw_options *draws, la_team team,
                         la_prediction *out, la_error *err) {
    answering a = {.likelihood = likelihood,
                   .recipes = recipes,
                   .n = n,
                   .m = likelihood->contrasts(rows->n_outputs),
                   .rows = rows,
                   .draws = draws};
    scratches memory = {0};
    la_status status = run(&a, &memory, team, out, err);
    free(memory.doubles.memory);
    free(memory.floats.memory);
    free(a.scale);
    free(a.means);
    free(a.drawn);
    free(a.basis);
    return status;
}
