#include "likelihood/answer.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct la_answering {
    const la_likelihood *likelihood;
    const la_recipe *recipes;
    int64_t n, n_outputs, m, max_rows; /* n recipes, m contrasts */
    la_draw_options draws;
    la_team team;
    la_slices doubles, floats; /* memory of scratch */
    int64_t *scale;            /* [n] which of the rows' scales a recipe's is */
    double *basis;             /* [C, m] */
    double *weight;            /* [n, m, m] of the contrasts, of recipes with weights; or NULL */
    /* where a device draws; NULL: nowhere */
    double *centre, *spread; /* [max_rows, C], [max_rows, C, m] */
    double *means;           /* [n, max_rows, 2C+1] */
    bool *drawn;             /* [n] whether it did */
    const la_output_rows *rows;
};

/* A thread's memory. */
typedef struct scratch {
    float *outputs;        /* [C] with weights and bias, over the temperature */
    double *cov, *product; /* [m, m] with weights, over its square; [m, m], where there are any */
    double *workspace;     /* the likelihood's */
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

void la_recipes_base_rows(const la_recipe *recipes, int64_t n, int64_t n_classes,
                          const double *rows, const double *held, double *base) {
    double part = 0, sum = 0, sum_held = (double)n_classes;
    for (int64_t r = 0; held && r < n; r++)
        part += recipes[r].weight * recipes[r].determined;
    for (int64_t c = 0; c < n_classes; c++) {
        sum += rows[c];
        sum_held += held ? held[c] : 0;
    }
    for (int64_t c = 0; c < n_classes; c++) {
        base[c] = rows[c];
        if (!(part > 0) || !(rows[c] > 0))
            continue;
        double share = rows[c] / sum;
        double of_held = (held[c] + (double)n_classes * share) / sum_held;
        base[c] *= pow(of_held / share, part);
    }
}

static la_status find_scale(la_answering *a, int64_t r, la_error *err) {
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

/* True where a row is read as it is. */
static bool is_plain(const la_recipe *recipe) {
    return recipe->temperature == 1 && !recipe->class_weight && !recipe->bias;
}

/* to[m, m] = a b^T */
static void times_transposed(int64_t m, const double *a, const double *b, double *to) {
    for (int64_t k = 0; k < m; k++)
        for (int64_t l = 0; l < m; l++) {
            double sum = 0;
            for (int64_t j = 0; j < m; j++)
                sum += a[k * m + j] * b[l * m + j];
            to[k * m + l] = sum;
        }
}

/* A row under a recipe: its weights and bias change the outputs, which the temperature divides, and
 * their covariance. */
static la_answer_row row_of(const la_answering *a, int64_t r, int64_t i, scratch *s) {
    const la_output_rows *rows = a->rows;
    const la_recipe *recipe = &a->recipes[r];
    int64_t c = rows->n_outputs, square = a->m * a->m;
    la_answer_row row = {.outputs = rows->outputs + i * c,
                         .basis = a->basis,
                         .cov = recipe->kind->reads_covariance
                                    ? rows->cov + (a->scale[r] * rows->n + i) * square
                                    : NULL,
                         .means = rows->networks ? rows->networks + i * (2 * c + 1) : NULL,
                         .samples = recipe_draws(recipe, &a->draws) ? a->draws.samples : 0,
                         .seed = a->draws.seed,
                         .stream = rows->streams ? rows->streams[i] : 0,
                         .noise_variance = rows->noise_variance,
                         .map_variance = rows->map_variance};
    if (is_plain(recipe))
        return row;
    double mean = 0;
    for (int64_t k = 0; recipe->class_weight && k < c; k++)
        mean += (double)row.outputs[k] / (double)c;
    for (int64_t k = 0; k < c; k++) {
        double output = (double)row.outputs[k];
        output = recipe->class_weight ? recipe->class_weight[k] * (output - mean) : output;
        output += recipe->bias ? recipe->bias[k] : 0;
        s->outputs[k] = (float)(output / recipe->temperature);
    }
    row.outputs = s->outputs;
    if (row.cov && recipe->class_weight) {
        times_transposed(a->m, a->weight + r * square, row.cov, s->product);
        times_transposed(a->m, s->product, a->weight + r * square, s->cov);
        row.cov = s->cov;
    }
    for (int64_t k = 0; row.cov && k < square; k++)
        s->cov[k] = row.cov[k] / (recipe->temperature * recipe->temperature);
    row.cov = row.cov ? s->cov : NULL;
    return row;
}

static void answer_by(const la_answering *a, int64_t r, int64_t i, scratch *s, la_prediction *out) {
    const la_output_rows *rows = a->rows;
    int64_t c = rows->n_outputs;
    la_answer_row row = row_of(a, r, i, s);
    if (a->means && a->drawn[r])
        row.means = a->means + (r * a->max_rows + i) * (2 * c + 1);
    a->likelihood->predict(a->recipes[r].kind, c, &row, s->workspace, out);
    if (is_plain(&a->recipes[r]))
        return;
    bool weighs = a->recipes[r].class_weight && a->recipes[r].kind->reads_covariance;
    const double *cov = weighs ? rows->cov + (a->scale[r] * rows->n + i) * a->m * a->m : NULL;
    a->likelihood->restore(c, rows->outputs + i * c, a->recipes[r].temperature, a->basis, cov, out);
    a->likelihood->conclude(c, out);
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

static void answer_row(const la_answering *a, int64_t i, scratch *s, la_prediction *out) {
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
static void answer_wanted(const la_answering *a, int64_t i, scratch *s, la_prediction *out) {
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

static la_status open_scratches(la_answering *a, la_error *err) {
    int64_t c = a->n_outputs;
    int64_t square = a->m * a->m, covs = a->weight ? 2 * square : square;
    int64_t doubles = 2 * prediction_doubles(c) + covs + a->likelihood->workspace(c);
    LA_TRY(la_slices_open(a->team, (size_t)doubles * sizeof(double), &a->doubles, err));
    return la_slices_open(a->team, (size_t)c * sizeof(float), &a->floats, err);
}

static scratch own_scratch(const la_answering *a) {
    int64_t c = a->n_outputs;
    double *part = la_slices_own(&a->doubles), *own = part + prediction_doubles(c);
    double *cov = own + prediction_doubles(c), *behind = cov + a->m * a->m;
    return (scratch){.outputs = la_slices_own(&a->floats),
                     .cov = cov,
                     .product = behind,
                     .workspace = a->weight ? behind + a->m * a->m : behind,
                     .part = la_prediction_at(c, part),
                     .own = la_prediction_at(c, own)};
}

/* Has the device draw for every recipe that needs it. */
static void draw(la_answering *a) {
    const la_output_rows *rows = a->rows;
    const la_draw_options *draws = &a->draws;
    int64_t c = a->n_outputs;
    for (int64_t r = 0; r < a->n; r++) {
        a->drawn[r] = false;
        if (!recipe_draws(&a->recipes[r], draws))
            continue;
#pragma omp parallel for schedule(static) num_threads(a->team.threads)
        for (int64_t i = 0; i < rows->n; i++) {
            scratch s = own_scratch(a);
            la_answer_row row = row_of(a, r, i, &s);
            la_draw_gaussian(c, row.outputs, row.basis, row.cov, s.workspace, a->centre + i * c,
                             a->spread + i * c * a->m);
        }
        a->drawn[r] =
            draws->on_device(draws->user, rows->n, c, a->centre, a->spread, draws->samples,
                             draws->seed, rows->streams, a->means + r * a->max_rows * (2 * c + 1));
    }
}

/* Weights of the classes as they are of the contrasts: B^T diag(weight) B in the basis B. */
static la_status weigh_contrasts(la_answering *a, la_error *err) {
    int64_t c = a->n_outputs, m = a->m, square = m * m;
    bool any = false;
    for (int64_t r = 0; r < a->n; r++)
        any |= a->recipes[r].class_weight != NULL;
    if (!any)
        return LA_OK;
    a->weight = la_alloc((size_t)(a->n * square), sizeof *a->weight, err);
    for (int64_t r = 0; r < a->n && a->weight; r++) {
        double *to = a->weight + r * square;
        for (int64_t e = 0; a->recipes[r].class_weight && e < c * square; e++) {
            const double *row = a->basis + e / square * m;
            int64_t at = e % square;
            to[at] += a->recipes[r].class_weight[e / square] * row[at / m] * row[at % m];
        }
    }
    return err->status;
}

static la_status allocate(la_answering *a, la_error *err) {
    size_t c = (size_t)a->n_outputs, rows = (size_t)a->max_rows, n = (size_t)a->n;
    a->scale = la_alloc(n, sizeof *a->scale, err);
    a->basis = la_alloc(c * (size_t)a->m, sizeof *a->basis, err);
    if (a->draws.on_device && a->likelihood->is_softmax) {
        a->centre = la_alloc(rows * c, sizeof *a->centre, err);
        a->spread = la_alloc(rows * c * (size_t)a->m, sizeof *a->spread, err);
        a->means = la_alloc(n * rows * (2 * c + 1), sizeof *a->means, err);
        a->drawn = la_alloc(n, sizeof *a->drawn, err);
    }
    LA_TRY(err->status);
    a->likelihood->contrast_basis(a->n_outputs, a->basis);
    LA_TRY(weigh_contrasts(a, err));
    return open_scratches(a, err);
}

la_status la_answering_open(const la_likelihood *likelihood, const la_recipe *recipes, int64_t n,
                            int64_t n_outputs, int64_t max_rows, const la_draw_options *draws,
                            la_team team, la_answering **out, la_error *err) {
    *out = NULL;
    la_answering *a = la_alloc(1, sizeof *a, err);
    if (!a)
        return err->status;
    *a = (la_answering){.likelihood = likelihood,
                        .recipes = recipes,
                        .n = n,
                        .n_outputs = n_outputs,
                        .m = likelihood->contrasts(n_outputs),
                        .max_rows = max_rows,
                        .draws = *draws,
                        .team = team};
    la_status status = allocate(a, err);
    if (status == LA_OK)
        *out = a;
    else
        la_answering_close(a);
    return status;
}

void la_answering_close(la_answering *a) {
    if (!a)
        return;
    free(a->doubles.memory);
    free(a->floats.memory);
    free(a->scale);
    free(a->basis);
    free(a->weight);
    free(a->centre);
    free(a->spread);
    free(a->means);
    free(a->drawn);
    free(a);
}

la_status la_answering_rows(la_answering *a, const la_output_rows *rows, la_prediction *out,
                            la_error *err) {
    a->rows = rows;
    for (int64_t r = 0; r < a->n; r++)
        LA_TRY(find_scale(a, r, err));
    if (a->means)
        draw(a);
#pragma omp parallel for schedule(static) num_threads(a->team.threads)
    for (int64_t i = 0; i < rows->n; i++) {
        scratch s = own_scratch(a);
        answer_wanted(a, i, &s, &out[i]);
    }
    return LA_OK;
}

la_status la_answer_rows(const la_likelihood *likelihood, const la_recipe *recipes, int64_t n,
                         const la_output_rows *rows, const la_draw_options *draws, la_team team,
                         la_prediction *out, la_error *err) {
    la_answering *a;
    LA_TRY(
        la_answering_open(likelihood, recipes, n, rows->n_outputs, rows->n, draws, team, &a, err));
    la_status status = la_answering_rows(a, rows, out, err);
    la_answering_close(a);
    return status;
}
