/* For a regression, choosing the scale of the prior precisions and the noise variance by the Gaussian
 * log likelihood of held-out rows, and the guard: Laplace is used where it beats the MAP model with a
 * constant variance by more than chance.
 *
 * With H of noise s, (H / k + g lambda)^-1 = k (H + k g lambda)^-1: under k times the noise and a / k
 * times the prior, the variance of a row is k (cov_a + s), cov_a that under a times the prior alone. So
 * the best k for a scale a is a mean, mean (y - f)^2 / (cov_a + s). */
#ifndef LA_BAYES_REGRESSION_SELECTION_H
#define LA_BAYES_REGRESSION_SELECTION_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct la_held_out_numbers {
    int64_t n, n_scales;
    const float *outputs;  /* [n] */
    const double *targets; /* [n] */
    const double *scales;  /* [n_scales] */
    const double *cov;     /* [n_scales, n] */
    double noise_variance; /* that cov is of */
    bool noise_given;      /* it is meant exactly: the scale alone is chosen */
} la_held_out_numbers;

/* Sets the candidates map and laplace, each with its noise variance; the others have a NaN nll, and an
 * accuracy none has. The MAP model is chosen when its likelihood is not worse by more than the standard
 * error of the difference, or not by more than the numbers that Laplace chooses beyond it (la_select). */
la_status la_select_regression(const la_held_out_numbers *rows, la_choice *choice, la_error *err);

#endif
