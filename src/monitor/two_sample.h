/* Tests whether two samples come from one distribution: p-values that hold for any distribution,
 * ties included. */
#ifndef LA_MONITOR_TWO_SAMPLE_H
#define LA_MONITOR_TWO_SAMPLE_H

#include "base/error.h"
#include "base/statistics.h"

#include <stdint.h>

typedef struct la_test_value {
    double statistic, p_value;
} la_test_value;

/* Two-sided Kolmogorov-Smirnov test. a: [n_a], b: [n_b], sorted, n_a, n_b > 0. Where n_a n_b is at
 * most LA_KS_EXACT, p is that of all divisions of the pooled values into n_a and n_b, ties as they
 * are (Schroer and Trenkler, Computational Statistics and Data Analysis 20, 1995); beyond, that of
 * Kolmogorov's limit, which is too large rather than too small, and larger still with ties. */
#define LA_KS_EXACT 3e7
la_status la_ks_test(const double *a, int64_t n_a, const double *b, int64_t n_b, la_test_value *out,
                     la_error *err);

/* Whether n values come from a distribution given in advance, from which theirs is `far` at
 * most, on either side: the bound of Dvoretzky, Kiefer and Wolfowitz with Massart's constant
 * (Annals of Probability 18, 1990), which holds for every n and with ties. */
void la_distance_test(double far, int64_t n, la_test_value *out);

/* Homogeneity of counts a and b, [n] each, of the same classes: Pearson's chi-squared. Classes
 * that are expected fewer than five times in one of the samples, by the counts of both, are pooled;
 * where fewer than three are left, the most frequent one is held against the rest, exactly. */
la_status la_shares_test(const int64_t *a, const int64_t *b, int64_t n, la_test_value *out,
                         la_error *err);

/* Hits among the rows of two samples in one stratum. */
typedef struct la_stratum {
    int64_t hits[2], n[2];
} la_stratum;

/* Whether hits are as frequent in both samples within each of n strata: Fisher's exact test for one
 * of them, the exact form of Cochran, Mantel and Haenszel's for several (the sum of independent
 * hypergeometric numbers); p is twice the smaller tail. Above LA_STRATA_EXACT possible sums, by the
 * normal distribution with a correction for continuity. The statistic is the difference, second
 * sample less first, of the rates of hits at equal strata. */
enum { LA_STRATA_EXACT = 4000 };
la_status la_strata_test(const la_stratum *strata, int64_t n, la_test_value *out, la_error *err);

/* Whether n rows that are right with the probabilities given are right n_right times: the exact
 * Poisson-binomial distribution while that takes at most LA_RATES_EXACT steps, beyond by the normal
 * one with a correction for skewness (Volkova, Theory of Probability and its Applications 40,
 * 1996). The statistic is the share of right rows less the mean probability. */
#define LA_RATES_EXACT 1e8
la_status la_rates_test(const double *probabilities, int64_t n, int64_t n_right, la_test_value *out,
                        la_error *err);

#endif
