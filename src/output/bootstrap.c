#include "output/bootstrap.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between the two neighbours, as numpy.percentile. */
static double quantile(const double *sorted, int64_t n, double share) {
    double at = share * (double)(n - 1);
    int64_t below = (int64_t)at;
    if (below >= n - 1)
        return sorted[n - 1];
    return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

static la_interval interval_of(const double *values, int n_values, int at, int64_t resamples,
                               double *column) {
    int64_t defined = 0;
    for (int64_t r = 0; r < resamples; r++)
        if (!isnan(values[r * n_values + at]))
            column[defined++] = values[r * n_values + at];
    if (!defined)
        return (la_interval){NAN, NAN};
    qsort(column, (size_t)defined, sizeof *column, compare_numbers);
    return (la_interval){quantile(column, defined, 0.025), quantile(column, defined, 0.975)};
}

la_status la_bootstrap(la_team team, int64_t n, int n_values, int64_t resamples, uint64_t seed,
                       size_t own_bytes, la_bootstrap_job job, void *user, la_interval *intervals,
                       la_error *err) {
    la_status status = LA_OK;
    la_slices counts = {0}, owns = {0};
    if (team.threads > resamples)
        team.threads = resamples > 0 ? (int)resamples : 1;
    double *values = la_alloc((size_t)resamples, (size_t)n_values * sizeof *values, err);
    double *column = la_alloc((size_t)resamples, sizeof *column, err);
    la_slices_open(team, (size_t)n * sizeof(uint32_t), &counts, err);
    la_slices_open(team, own_bytes, &owns, err);
    if (!values || !column || !counts.memory || !owns.memory) {
        status = err->status;
        goto done;
    }
#pragma omp parallel num_threads(team.threads)
    {
        uint32_t *count = la_slices_own(&counts);
        void *own = la_slices_own(&owns);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < resamples; r++) {
            if (la_interrupted())
                continue;
            memset(count, 0, (size_t)n * sizeof *count);
            for (int64_t i = 0; i < n; i++)
                count[la_random_below(seed, (uint64_t)r, (uint64_t)i, (uint64_t)n)]++;
            job(user, own, count, values + r * n_values);
        }
    }
    LA_TRY_DONE(la_check_interrupt(err));
    for (int m = 0; m < n_values; m++)
        intervals[m] = interval_of(values, n_values, m, resamples, column);
done:
    free(values);
    free(column);
    free(counts.memory);
    free(owns.memory);
    return status;
}
