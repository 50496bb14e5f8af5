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
/* Quantile of sorted values, n at least 1: linear between the two neighbours, as
 * numpy.percentile. */
double la_quantile(const double *sorted, int64_t n, double share);

/* log of the gamma function, without the sign that lgamma leaves in a variable of all threads. */
double la_log_gamma(double x);
/* Least and most marked ones that can be among `drawn` of `all`. */
void la_hypergeometric_range(int64_t all, int64_t marked, int64_t drawn, int64_t *least,
                             int64_t *most);
/* p[k - least]: probability of k marked ones among `drawn` of `all`, k from least to most. */
void la_hypergeometric(int64_t all, int64_t marked, int64_t drawn, int64_t least, int64_t most,
                       double *p);

/* Holm 1979: p[n] become values that may be held against the level of all tests together. */
la_status la_holm(double *p, size_t n, la_error *err);

#endif
