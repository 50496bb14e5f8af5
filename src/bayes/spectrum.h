/* Eigenvalues of a part of H, and the two sums over them that evidence and noise are made of. */
#ifndef LA_BAYES_SPECTRUM_H
#define LA_BAYES_SPECTRUM_H

#include <stdint.h>

/* Eigenvalue [i, j]: scale values[i, j], or row[i] col[j] scale, where row NULL stands for ones. A
 * view of the posterior. */
typedef struct la_spectrum {
    int64_t rows, cols;
    const double *row, *col;
    const float *values;
    double scale;
} la_spectrum;

static inline double la_spectrum_at(const la_spectrum *s, int64_t i, int64_t j) {
    if (s->values)
        return s->scale * (double)s->values[i * s->cols + j];
    return (s->row ? s->row[i] : 1) * s->scale * s->col[j];
}

/* Sums over the eigenvalues h of H at a prior precision lambda, with s = h / (h + lambda). */
typedef struct la_shares {
    double sum;   /* of s: the parameters that the rows determine, the trace of H (H + lambda)^-1 */
    double slope; /* of s (1 - s): minus the derivative of the sum over log lambda */
} la_shares;

/* *log_det: of I + H / lambda. Either may be NULL. */
void la_spectrum_sums(const la_spectrum *spectrum, double lambda, la_shares *shares,
                      double *log_det);

#endif
