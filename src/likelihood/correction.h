/* Class corrections: a bias for each class that held-out rows want added to the outputs, softmax(a
 * f + b) (bias-corrected temperature scaling: Alexandari, Kundaje, Shrikumar, arXiv 1901.06852),
 * under a Gaussian prior b ~ N(0, s^2 I) that shrinks it. No s is right for all models: every one
 * that is tried has its evidence by Laplace's method (MacKay 1992, Bayesian interpolation), by
 * which an average weighs them. */
#ifndef LA_LIKELIHOOD_CORRECTION_H
#define LA_LIKELIHOOD_CORRECTION_H

#include "base/error.h"

#include <stdint.h>

enum {
    LA_CORRECTION_SCALES = 5,
    LA_CORRECTION_CLASSES_MOST = 256, /* of a model with more classes none is fitted */
};

typedef struct la_correction {
    double scale;                            /* s, in units of log odds */
    double temperature;                      /* 1 / a, fitted with the bias */
    double bias[LA_CORRECTION_CLASSES_MOST]; /* [C] b / a, in units of the outputs; sums to 0 */
} la_correction;

typedef struct la_correction_fit {
    la_correction correction;
    double log_likelihood; /* of the rows, summed; -INFINITY: no maximum was found */
    /* What the prior costs: with Hb the Fisher information about b when a is fitted with it,
     *   -|b|^2 / (2 s^2) - 1/2 log det(I + s^2 Hb) */
    double log_occam;
} la_correction_fit;

static inline double la_correction_evidence(const la_correction_fit *fit) {
    return fit->log_likelihood + fit->log_occam;
}

/* The values of s that are tried, ascending. */
extern const double la_correction_scales[LA_CORRECTION_SCALES];

/* fits[LA_CORRECTION_SCALES]: the maximum over (log a, b) of
 *   sum log softmax(a f + b)[label] - |b|^2 / (2 s^2) - (log a)^2 / 8
 * for every s, by Newton's method from a = 1 / temperature, b = 0, each from the last. The prior of
 * log a, of deviation 2, keeps it finite for rows that are separable or worse than uniform.
 * LA_BAD_INPUT for rows that la_rows_check refuses and for more classes than there may be. */
la_status la_corrections_fit(int64_t n, int64_t n_classes, const float *logits,
                             const int64_t *labels, double temperature, la_correction_fit *fits,
                             la_error *err);
/* probs[C]: the mean over the scales of softmax((logits + bias) / temperature), weighed by
 * evidence. workspace: C */
void la_corrections_apply(const la_correction_fit *fits, int64_t n_classes, const float *logits,
                          double *workspace, double *probs);

#endif
