/* 95 % percentile intervals of statistics of rows: resamples are counts of the rows, so that what was
 * sorted stays sorted. */
#ifndef LA_OUTPUT_BOOTSTRAP_H
#define LA_OUTPUT_BOOTSTRAP_H

#include "output/metrics.h"

/* count[n] of every row in a resample, adding up to n, to values[n_values]; NaN: undefined. own: the
 * calling thread's workspace. */
typedef void (*la_bootstrap_job)(void *user, void *own, const uint32_t *count, double *values);

/* intervals[n_values]; own_bytes: of a workspace; both ends are NaN where no resample defines the value. Resamples in which it is
 * undefined are left out for it. The result depends on n, the seed and the job, not on the threads. */
la_status la_bootstrap(la_team team, int64_t n, int n_values, int64_t resamples, uint64_t seed,
                       size_t own_bytes, la_bootstrap_job job, void *user, la_interval *intervals,
                       la_error *err);

#endif
