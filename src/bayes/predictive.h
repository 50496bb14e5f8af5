/* From a Gaussian over logits to class probabilities. */
#ifndef LA_BAYES_PREDICTIVE_H
#define LA_BAYES_PREDICTIVE_H

#include "base/error.h"

#include <math.h>
#include <stdbool.h>

/* An answer whose arrays are memory[4 C + C^2]. */
static inline la_prediction la_prediction_at(int64_t n_classes, double *memory) {
    return (la_prediction){.probs = memory,
                           .map_probs = memory + n_classes,
                           .logits = memory + 2 * n_classes,
                           .variance = memory + 3 * n_classes,
                           .logit_cov = memory + 4 * n_classes};
}

/* What the probit approximation of f / temperature multiplies f by, f's differences having this
 * variance. */
static inline double la_probit_shrink(double temperature, double variance) {
    return 1 / sqrt(temperature * temperature + M_PI / 8 * variance);
}

/* Doubles of workspace that la_predict_row needs. */
int64_t la_predict_workspace(int64_t n_classes);

/* The Gaussian that Monte Carlo draws from: centre[C], the logits less their mean, and spread[C,
 * C-1] with spread spread^T the covariance of the logits. workspace: (C-1)^2 doubles. */
void la_predict_gaussian(int64_t n_classes, const float *logits, const double *basis,
                         const double *cov, double *workspace, double *centre, double *spread);

/* Whether a predictive reads the covariance: MAP, temperature scaling and sampled networks do
 * without. */
static inline bool la_predict_needs_cov(la_predictive kind) {
    return kind == LA_PREDICT_MC || kind == LA_PREDICT_PROBIT || kind == LA_PREDICT_BRIDGE ||
           kind == LA_PREDICT_SCALAR;
}

/* Whether a row's Gaussian is drawn from: for the answer, or, where that has a closed form, for mutual
 * information and variances alone. */
static inline bool la_predict_draws(la_predictive kind) {
    return kind == LA_PREDICT_MC || kind == LA_PREDICT_PROBIT || kind == LA_PREDICT_SCALAR;
}

/* Mean over pairs of classes of Var(f_c - f_d), from the trace of the centred covariance. */
static inline double la_pair_variance(int64_t n_classes, double trace) {
    return 2 * (trace > 0 ? trace : 0) / (double)(n_classes - 1);
}

/* After la_predict_row of logits / T and cov / T^2: puts back what the row says of the model without
 * the temperature (logits, map_probs, logit_cov). */
void la_predict_restore(int64_t n_classes, const float *logits, double temperature,
                        la_prediction *out);

/* Adds a sampled network's word on a row to sums[2C+1]: softmax(f / T), its entropy, and (softmax(f /
 * T) - softmax(map / T))^2; of a regression f - map, 0 and (f - map)^2. Over the number of networks the sums are `drawn` of la_predict_row.
 * logits[C] are f, map[C] the MAP network's; workspace: 2 C doubles. */
void la_predict_network(int64_t n_classes, const float *logits, const float *map,
                        double temperature, double *workspace, double *sums);

/* Fills *out (its arrays are given by the caller) from raw logits [C] and the covariance of the
 * contrasts cov[C-1, C-1] (NULL with LA_PREDICT_MAP). samples, seed and stream are of the Monte
 * Carlo draw: the same three and the same Gaussian give the same bytes. drawn[2C+1]: the means
 * that a device has drawn already (ops.h, monte_carlo) or that sampled networks gave, or NULL.
 * Mutual information and variances are those of the Gaussian's draws under the closed forms PROBIT and
 * SCALAR too: NaN where these have no samples. BRIDGE has its own. */
void la_predict_row(la_predictive kind, int64_t n_classes, const float *logits, const double *basis,
                    const double *cov, int64_t samples, uint64_t seed, uint64_t stream,
                    const double *drawn, double *workspace, la_prediction *out);

/* The weighted mean of answers to one row by several settings, weights that sum to 1: start, add one by
 * one, finish. Every part is the row's answer as it is told (after la_predict_restore). Variances are by
 * the law of total variance; mutual information is what the settings differ by, H[mean p] - mean H[p] over
 * them, and their own mean: both NaN where a part has none. logit_cov is that of the mixture of the settings'
 * Gaussians, which share their mean. */
void la_predict_mix_start(int64_t n_classes, la_prediction *out);
void la_predict_mix_add(int64_t n_classes, double weight, const la_prediction *part,
                        la_prediction *out);
void la_predict_mix_finish(int64_t n_classes, la_prediction *out);

/* The answer of a regression: a Gaussian about the mean, whose variance is the model's, J cov J^T, and
 * the noise's. kind: MC (nothing is drawn), WEIGHTS or MAP, which has no variance of the model's. cov:
 * of the output; drawn: as of la_predict_row; map_variance: the noise's under MAP. */
void la_predict_regression(la_predictive kind, float output, const double *cov, const double *drawn,
                           double noise_variance, double map_variance, la_prediction *out);

#endif
