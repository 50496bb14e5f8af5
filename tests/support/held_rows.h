/* Held-out rows for tests of choices: logits, and covariances of every scale of the prior. */
#ifndef LA_TESTS_SUPPORT_HELD_ROWS_H
#define LA_TESTS_SUPPORT_HELD_ROWS_H

#include "likelihood/selection.h"

enum { C_MOST = 5, M_MOST = C_MOST - 1 };

/* Row i's covariance under the prior scaled by k is root root^T / (k + floor[i]). */
typedef struct held {
    la_held_out rows;
    float *logits;
    int64_t *labels;
    uint64_t *streams;
    double *scales, *cov, *roots, *floor;
} held;

/* Fills cov anew. */
void held_fill(held *h);
/* Logits of deviation `logits`; variances of about spread^2, those of the rows apart by factors of
 * exp(varying x normal). Labels are 0. The middle one of n_scales is 1. */
held held_make(int64_t n, int64_t c, int64_t n_scales, uint64_t seed, double logits, double spread,
               double varying);
void held_drop(held *h);
/* softmax((f + Q root z / sqrt(scale + floor)) / T) of row i; z NULL: of the logits alone */
void held_softmax(const held *h, int64_t i, double scale, double temperature, const double *z,
                  double *p);
void softmax_of(int64_t c, const double *f, double *p);
/* Labels from the Laplace predictive at that scale (0: from the softmax) of f / T. */
void held_draw_labels(held *h, uint64_t seed, double scale, double temperature);

#endif
