/* Sum of independent trials, each with a probability of its own (the Poisson-binomial
 * distribution). */
#ifndef LA_BASE_TRIALS_H
#define LA_BASE_TRIALS_H

#include "base/error.h"

#include <stdint.h>

/* Tails of the number of failures of n trials: *above is the probability of `failures` or more,
 * *below that of as many or fewer. Exact while that takes at most `steps` steps, beyond by the
 * normal distribution with a correction for skewness (Volkova, Theory of Probability and its
 * Applications 40, 1996). successes[n]: probabilities of no failure, 0 to 1. */
la_status la_trials_tails(const double *successes, int64_t n, int64_t failures, double steps,
                          double *above, double *below, la_error *err);

#endif
