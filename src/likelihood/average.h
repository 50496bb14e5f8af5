/* Averages of settings: each one's weight is its prior mass times its likelihood on held-out
 * rows, so that settings which the rows cannot distinguish all contribute; and a short list with
 * nearly the average's probabilities. */
#ifndef LA_LIKELIHOOD_AVERAGE_H
#define LA_LIKELIHOOD_AVERAGE_H

#include "base/error.h"

#include <stdint.h>

typedef struct la_average_table {
    int64_t n_settings, n; /* n: rows */
    const float *nll;      /* [n_settings, n] -log of the label's probability */
    /* [n_settings] logarithms of prior mass, which need not sum to 1; -INFINITY: not admitted */
    const double *log_prior;
} la_average_table;

/* weights[n_settings], prior times likelihood, sum to 1. At least one must be admitted. */
void la_average_weights(const la_average_table *table, double *weights);

/* nll[n] of every row under the weights that the other rows give. Leaving a row out divides every
 * weight by what that setting says of its label, so no weights are made anew:
 *   p = (sum_s w_s) / (sum_s w_s / p_s) */
void la_average_left_out(const la_average_table *table, const double *weights, double *nll);

typedef struct la_average_list {
    int64_t n;
    int64_t *setting;  /* [most] */
    double *weight;    /* [most], > 0, sum to 1 */
    double difference; /* largest of a label's probability from that under all settings */
} la_average_list;

/* The fewest settings, found one by one, whose mean is that of all on the rows: non-negative least
 * squares. It stops at a difference of LA_AVERAGE_DIFFERENCE, or at `most` settings. */
#define LA_AVERAGE_DIFFERENCE 3e-4
la_status la_average_shorten(const la_average_table *table, const double *weights, int64_t most,
                             la_average_list *list, la_error *err);

#endif
