/* Small pieces of statistics that several modules compute with. Functions over arrays, safe on
 * several threads. */
#ifndef LA_BASE_STATISTICS_H
#define LA_BASE_STATISTICS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Order of two doubles, for qsort and bsearch; none of them may be NaN. */
int la_double_order(const void *a, const void *b);
void la_doubles_sort(double *values, int64_t n);
/* order[n]: places of values in ascending order, equal ones in that of their places. stride: bytes
 * from one value to the next. No value may be NaN. */
la_status la_doubles_rank(const double *values, size_t stride, uint32_t n, uint32_t *order,
                          la_error *err);
/* Quantile of sorted values, n at least 1: linear between the two neighbours, as
 * numpy.percentile. */
double la_quantile(const double *sorted, int64_t n, double share);

/* Upper tail of the standard normal distribution, and of chi-squared with that many degrees of
 * freedom. */
double la_normal_tail(double z);
double la_chi_squared_tail(double x, double freedom);
/* log of the gamma function, without the sign that lgamma leaves in a variable of all threads. */
double la_log_gamma(double x);
/* Least and most marked ones that can be among `drawn` of `all`. */
void la_hypergeometric_range(int64_t all, int64_t marked, int64_t drawn, int64_t *least,
                             int64_t *most);
/* Rows of a stratum, those of them that are marked, and the number drawn without replacement. */
typedef struct la_stratum_draw {
    int64_t all, marked, drawn;
} la_stratum_draw;

/* Distribution of the number of marked ones that are drawn from several strata, a sum of
 * independent hypergeometric counts: probability [n] of low, low + 1, ... Begins zeroed; may be set
 * again and again; free with la_draw_sum_free. */
typedef struct la_draw_sum {
    double *probability;
    size_t n;
    int64_t low;
    double *work[2]; /* scratch */
    size_t capacity[3];
} la_draw_sum;

/* negligible: ends of the distribution whose probabilities are below it are dropped on the way. */
la_status la_draw_sum_set(la_draw_sum *sum, const la_stratum_draw *strata, int64_t n,
                          double negligible, la_error *err);
/* Probability of found or more, and of found or fewer. */
void la_draw_sum_tails(const la_draw_sum *sum, int64_t found, double *above, double *below);
void la_draw_sum_free(la_draw_sum *sum);

/* Holm 1979: p[n] become values that may be held against the level of all tests together. */
la_status la_holm(double *p, size_t n, la_error *err);

#endif
