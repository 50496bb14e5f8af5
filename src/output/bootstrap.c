#include "output/bootstrap.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/statistics.h"
#include "base/stop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

la_interval la_bootstrap_interval(const la_metric_info *metric, double value, double *column,
                                  int64_t resamples) {
    int64_t defined = 0;
    for (int64_t r = 0; r < resamples; r++)
        if (!isnan(column[r]))
            column[defined++] = column[r];
    if (!defined || isnan(value))
        return (la_interval){NAN, NAN};
    la_doubles_sort(column, defined);
    double lo = la_quantile(column, defined, 0.025), hi = la_quantile(column, defined, 0.975);
    la_interval found = {lo, hi};
    if (metric->gap)
        found = (la_interval){
            fmax(2 * value - hi, 0),
            fmin(value + fmax(value - lo, hi - la_quantile(column, defined, 0.5)), 1)};
    return (la_interval){fmin(found.lo, value), fmax(found.hi, value)};
}

/* Copies of each row, in order: Poisson numbers of a mean so far below 1 that their sum, which is
 * returned, is above n once in 1e9 times. Three come from the bits of one number. */
static int64_t draw_in_order(uint32_t *count, int64_t n, uint64_t seed, uint64_t stream) {
    enum { EACH = 3, BITS = 21, MOST = 10 };
    double mean = 1 - 6 / sqrt((double)n), p = exp(-mean), sum = 0;
    uint32_t above[MOST]; /* one copy more for each that the bits reach */
    int64_t taken = 0;
    for (int k = 0; k < MOST; k++) {
        sum += p;
        p *= mean / (k + 1);
        above[k] = (uint32_t)lrint(sum * (1 << BITS));
    }
    for (int64_t i = 0; i < n;) {
        uint64_t bits =
            la_random_below(seed, stream, (uint64_t)(n + i), (uint64_t)1 << EACH * BITS);
        for (int j = 0; j < EACH && i < n; j++, i++, bits >>= BITS) {
            uint32_t own = bits & ((1 << BITS) - 1), copies = 0;
            for (int k = 0; k < MOST; k++)
                copies += own >= above[k];
            count[i] = copies;
            taken += copies;
        }
    }
    return taken;
}

/* Counts of n rows drawn from n with replacement. Of many rows most are drawn in order, the rest
 * one by one at random places of memory: independent Poisson numbers, given their sum, are such
 * counts. */
static void draw_counts(uint32_t *count, int64_t n, uint64_t seed, uint64_t stream) {
    enum { MANY = 1 << 16 };
    int64_t taken = n >= MANY ? draw_in_order(count, n, seed, stream) : INT64_MAX;
    if (taken > n) {
        memset(count, 0, (size_t)n * sizeof *count);
        taken = 0;
    }
    for (int64_t i = taken; i < n; i++)
        count[la_random_below(seed, stream, (uint64_t)i, (uint64_t)n)]++;
}

la_status la_bootstrap(la_team team, int64_t n, const la_metric_set *set, const void *prepared,
                       int64_t resamples, uint64_t seed, la_interval *intervals, la_error *err) {
    double once[LA_METRICS_MAX];
    la_status status = LA_OK;
    la_slices counts = {0}, owns = {0};
    if (team.threads > resamples)
        team.threads = resamples > 0 ? (int)resamples : 1;
    double *values = la_alloc((size_t)resamples, (size_t)set->n * sizeof *values, err);
    double *column = la_alloc((size_t)resamples, sizeof *column, err);
    (void)la_slices_open(team, (size_t)n * sizeof(uint32_t), &counts, err);
    (void)la_slices_open(team, set->workspace ? set->workspace(prepared) : 0, &owns, err);
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
            draw_counts(count, n, seed, (uint64_t)r);
            set->measure(prepared, own, count, values + r * set->n, NULL);
        }
    }
    LA_TRY_DONE(la_check_interrupt(err));
    set->measure(prepared, owns.memory, NULL, once, NULL);
    for (int m = 0; m < set->n; m++) {
        for (int64_t r = 0; r < resamples; r++)
            column[r] = values[r * set->n + m];
        intervals[m] = la_bootstrap_interval(&set->list[m], once[m], column, resamples);
    }
    if (set->exact)
        LA_TRY_DONE(set->exact(prepared, intervals, err));
    for (int m = 0; m < set->n; m++)
        if (!isnan(intervals[m].lo))
            intervals[m] =
                (la_interval){fmin(intervals[m].lo, once[m]), fmax(intervals[m].hi, once[m])};
done:
    free(values);
    free(column);
    free(counts.memory);
    free(owns.memory);
    return status;
}
