/* Training-free Bayesianisation of a low-rank adapter (Shi, Wang, Han, Zhang, Wang, arXiv
 * 2412.05723). With the singular values B = U diag(d) V^T of every site,
 *
 *   B A = B' A',  B' = U diag(d),  A' = V^T A,  A'_ij ~ N((V^T A)_ij, (sigma / d_i)^2)
 *
 * so that B' A' gets the noise sigma U N, N standard normal, whatever the scale of B. There is one
 * sigma: the largest for which the mean NLL of some anchor rows, under the mean of softmax over a
 * few networks, is at most a share above that of the network without noise.
 *
 * The authors' code divides the change of the mean NLL by the number of anchor rows once more, and
 * takes the end of the last bracket that breaks the bound. Here the mean itself is held against the
 * bound, and the end that keeps it is taken. There the anchor rows' labels are the network's own
 * answers, and a fall of the NLL counts like a rise: see own_answers. */
#ifndef LA_BASELINES_TFB_H
#define LA_BASELINES_TFB_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct la_tfb_options {
    double least, most; /* range of sigma */
    double share;       /* by which the NLL may rise */
    int64_t steps;      /* bisections of [least, most] */
    int64_t networks;
    uint64_t seed;
    bool own_answers; /* answers of the network without noise stand for the rows' labels */
} la_tfb_options;

/* 1e-3, 0.2; 0.003; 10; 10; 0, false */
extern const la_tfb_options la_tfb_defaults;

typedef struct la_tfb_choice {
    double sigma;        /* 0: not even the least is within the bound */
    double refused;      /* the smallest sigma seen that breaks the bound; 0: none does */
    double map_nll, nll; /* mean over the anchor rows without noise, and with sigma */
} la_tfb_choice;

/* The mean NLL under a sigma. */
typedef la_status (*la_tfb_measure)(void *user, double sigma, double *nll, la_error *err);

/* Largest sigma of the bracket that keeps the bound, up to the bisection's resolution. LA_USAGE
 * for options that make no sense. */
la_status la_tfb_search(const la_tfb_options *options, la_tfb_measure measure, void *user,
                        la_tfb_choice *choice, la_error *err);

/* b[out, r] and a[r, in] of a site in place to B' and A' (where out < r the last rows and
 * columns are 0); d[r]: the singular values, 0 for directions that B does not have to the
 * precision of f32. */
la_status la_tfb_factor(int64_t out, int64_t rank, int64_t in, float *b, float *a, double *d,
                        la_error *err);

/* noisy[r, in] = a + E: the draw of a site in a network. Directions with d 0 get none. */
void la_tfb_noise(int64_t rank, int64_t in, const float *a, const double *d, double sigma,
                  uint64_t seed, int64_t network, int64_t site, float *noisy);

#endif
