/* A number whose mean is the model's one output, y ~ N(f, noise). */
#include "likelihood/selection.h"
#include "likelihood/signs.h"

#include <stddef.h>

static int64_t contrasts(int64_t n_outputs) {
    return n_outputs;
}

static void contrast_basis(int64_t n_outputs, double *basis) {
    for (int64_t i = 0; i < n_outputs * n_outputs; i++)
        basis[i] = i % (n_outputs + 1) == 0;
}

static void fisher_factor(int64_t n_outputs, const float *outputs, double *factor) {
    (void)outputs;
    contrast_basis(n_outputs, factor);
}

static double log_likelihood(int64_t n_outputs, const float *outputs, la_label label) {
    (void)n_outputs;
    double miss = (double)*outputs - label.number;
    return -0.5 * miss * miss;
}

static void gradient(int64_t n_outputs, const float *outputs, la_label label, float *out) {
    (void)n_outputs;
    *out = (float)(label.number - (double)*outputs);
}

static const char *lacks(const la_candidate *candidate) {
    return candidate->noise_variance > 0 ? NULL : "noise_variance";
}

/* ---- predictions ---- */

static const la_predictive_kind closed_form = {.name = "mc",
                                               .label = "laplace-gaussian",
                                               .reads_covariance = true,
                                               .tempering = LA_TEMPERED_NOT};
static const la_predictive_kind map = {.name = "map", .label = "map", .tempering = LA_TEMPERED_NOT};
static const la_predictive_kind weights = {
    .name = "weights", .label = "laplace-weights", .networks = true, .tempering = LA_TEMPERED_NOT};
static const la_predictive_kind *const predictives[] = {&closed_form, &map, &weights, NULL};

static int64_t workspace_of(int64_t n_outputs) {
    return n_outputs;
}

static void conclude(int64_t n_outputs, la_prediction *out) {
    (void)n_outputs;
    *out->probs = *out->map_probs = NAN;
    out->confidence = out->entropy = out->mutual_information = NAN;
    out->prediction = 0;
}

/* A Gaussian about the mean, whose variance is the model's, J cov J^T, and the noise's. */
static void predict(const la_predictive_kind *kind, int64_t n_outputs, const la_answer_row *row,
                    double *workspace, la_prediction *out) {
    (void)workspace;
    double moved = row->means ? *row->means : 0, model = 0;
    if (row->means)
        model = row->means[2] - moved * moved;
    else if (kind->reads_covariance)
        model = *row->cov;
    /* rounding; a NaN stays one */
    model = model < 0 ? 0 : model;
    out->mean = (double)*row->outputs + moved;
    out->map_mean = *out->logits = (double)*row->outputs;
    out->model_variance = *out->logit_cov = model;
    out->map_variance = row->map_variance;
    out->noise_variance = kind == &map ? row->map_variance : row->noise_variance;
    *out->variance = model + out->noise_variance;
    conclude(n_outputs, out);
}

/* There is no temperature. */
static void restore(int64_t n_outputs, const float *outputs, double temperature,
                    const double *basis, const double *cov, la_prediction *out) {
    (void)basis, (void)cov;
    (void)n_outputs, (void)outputs, (void)temperature, (void)out;
}

/* Distances from the MAP network. */
static void add_network(int64_t n_outputs, const float *outputs, const float *map_outputs,
                        double temperature, double *workspace, double *sums) {
    double moved = (double)*outputs - (double)*map_outputs;
    (void)n_outputs, (void)temperature, (void)workspace;
    sums[0] += moved;
    sums[2] += moved * moved;
}

const la_likelihood la_gaussian_likelihood = {
    .name = "a regression",
    .task = "regression",
    .problem = "regression",
    .outputs = "one output",
    .title = "has one output (a regression)",
    .nameless = "the model has one output (a regression), whose labels are numbers without names",
    .tuned = "noise variance",
    .n_least = 1,
    .n_most = 1,
    .label_kind = LA_LABEL_NUMBER,
    .has_noise = true,
    .contrasts = contrasts,
    .contrast_basis = contrast_basis,
    .fisher_factor = fisher_factor,
    .log_likelihood = log_likelihood,
    .gradient = gradient,
    .select = la_select_number,
    .lacks = lacks,
    .report = la_signs_of_numbers,
    .predictives = predictives,
    .refusal =
        "is of a regression, whose --predictive is mc (a Gaussian in closed form), weights or "
        "map; the others are of probabilities of classes",
    .workspace = workspace_of,
    .predict = predict,
    .restore = restore,
    .conclude = conclude,
    .add_network = add_network};
