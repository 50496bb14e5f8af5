/* A number whose mean is the model's one output, y ~ N(f, noise). */
#include "likelihood/likelihood.h"

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

const la_likelihood la_gaussian_likelihood = {.name = "a regression",
                                              .task = "regression",
                                              .problem = "regression",
                                              .outputs = "one output",
                                              .n_least = 1,
                                              .n_most = 1,
                                              .label_kind = LA_LABEL_NUMBER,
                                              .has_noise = true,
                                              .contrasts = contrasts,
                                              .contrast_basis = contrast_basis,
                                              .fisher_factor = fisher_factor,
                                              .log_likelihood = log_likelihood};
