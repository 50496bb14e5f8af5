/* Class corrections: a bias for each class that held-out rows want added to the outputs, softmax(a
 * f + b) (bias-corrected temperature scaling: Alexandari, Kundaje, Shrikumar, arXiv 1901.06852),
 * under a Gaussian prior b ~ N(0, s^2 I) that shrinks it; and with it a weight for each class
 * (vector scaling: Guo and others, arXiv 1706.04599), softmax(a (1 + v) f + b) of the outputs f
 * less their mean, under v ~ N(0, t^2 I), whose sum is 0. No s and t are right for all models: all
 * that are tried have their evidence by Laplace's method (MacKay 1992, Bayesian interpolation), by
 * which an average weighs them. */
#ifndef LA_LIKELIHOOD_CORRECTION_H
#define LA_LIKELIHOOD_CORRECTION_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    LA_CORRECTION_SCALES = 5,
    LA_CORRECTION_SPREADS = 3,
    LA_CORRECTION_CLASSES_MOST = 256, /* of a model with more classes none is fitted */
    LA_CORRECTION_WEIGHTS_MOST = 64,  /* likewise with weights; with 2 they are no more than a bias
                                         and a temperature */
};

/* weight (f - mean f) + bias in place of the outputs f */
typedef struct la_correction {
    double scale;       /* s, in units of log odds */
    double spread;      /* t; 0: there are no weights */
    double temperature; /* 1 / a, fitted with the rest */
    double determined; /* share of the bias, 0 to 1, that the rows say and not the prior: with H the
                          information about b / s, tr(H (I + H)^-1) / (C - 1) (MacKay 1992) */
    double bias[LA_CORRECTION_CLASSES_MOST];   /* [C] b / a, in units of the outputs; sums to 0 */
    double weight[LA_CORRECTION_WEIGHTS_MOST]; /* [C] 1 + v; their mean is 1 */
} la_correction;

/* NULL: it has none. */
static inline const double *la_correction_weight(const la_correction *correction) {
    return correction->spread > 0 ? correction->weight : NULL;
}

static inline bool la_correction_weighs(int64_t n_classes) {
    return n_classes > 2 && n_classes <= LA_CORRECTION_WEIGHTS_MOST;
}

typedef struct la_correction_fit {
    la_correction correction;
    double log_likelihood; /* of the rows, summed; -INFINITY: no maximum was found */
    /* What the prior costs: with H the Fisher information about b / s, and v / t, when a is fitted
     * with them,
     *   -|b|^2 / (2 s^2) - |v|^2 / (2 t^2) - 1/2 log det(I + H) */
    double log_occam;
} la_correction_fit;

static inline double la_correction_evidence(const la_correction_fit *fit) {
    return fit->log_likelihood + fit->log_occam;
}

/* The values of s and t that are tried, ascending. */
extern const double la_correction_scales[LA_CORRECTION_SCALES];
extern const double la_correction_spreads[LA_CORRECTION_SPREADS];

/* fits[LA_CORRECTION_SCALES]: the maximum over (log a, b) of
 *   sum log softmax(a f + b)[label] - |b|^2 / (2 s^2) - (log a)^2 / 8
 * for every s, by Newton's method from a = 1 / temperature, b = 0, each from the last. The prior of
 * log a, of deviation 2, keeps it finite for rows that are separable or worse than uniform.
 * LA_BAD_INPUT for rows that la_rows_check refuses and for more classes than there may be. */
la_status la_corrections_fit(int64_t n, int64_t n_classes, const float *logits,
                             const int64_t *labels, double temperature, la_correction_fit *fits,
                             la_error *err);
/* fits[LA_CORRECTION_SPREADS]: the same with weights, for every t, with the s of a fit without them
 * and from there: over (log a, b, v) with the outputs a f + a0 v f + b of the f less their mean, a0
 * that fit's. LA_BAD_INPUT also where la_correction_weighs says no. */
la_status la_weights_fit(int64_t n, int64_t n_classes, const float *logits, const int64_t *labels,
                         const la_correction_fit *biased, la_correction_fit *fits, la_error *err);
/* probs[C]: the mean over the scales of softmax((logits + bias) / temperature), weighed by
 * evidence. workspace: C */
void la_corrections_apply(const la_correction_fit *fits, int64_t n_classes, const float *logits,
                          double *workspace, double *probs);

#endif
