/* Exact tails of the binomial distribution, and the bound of a rate that they give. */
#ifndef LA_BASE_BINOMIAL_H
#define LA_BASE_BINOMIAL_H

#include <stdint.h>

/* P(X <= k), X binomial of n trials at the rate p, 0 < p < 1. Terms by Loader's saddle-point
 * expansion (Fast and Accurate Computation of Binomial Probabilities, 2000), summed from the
 * largest of the shorter side down. */
double la_binomial_cdf(int64_t n, int64_t k, double p);
/* Upper bound of the rate behind k hits in n trials, exceeded with probability alpha at most: the
 * rate at which P(X <= k) = alpha (Clopper and Pearson, Biometrika 26, 1934). 1 where k is n. */
double la_binomial_upper(int64_t n, int64_t k, double alpha);
/* Fewest trials without a hit that rule out a rate of p or more at level alpha. */
int64_t la_binomial_least(double p, double alpha);

#endif
