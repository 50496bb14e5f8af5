#include "output/bootstrap.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/statistics.h"
#include "base/stop.h"
#include "output/resampling.h"

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

/* Rows that are drawn in order, together; bits of each, and how many of them a word has. */
enum { BLOCK = 1536, BITS = 21, EACH = 3, MOST = 10 };

/* Copies of up to BLOCK rows, `stride` apart; returns their sum. above[k]: from these bits on there
 * are more than k. position: of random numbers. */
static int64_t draw_block(const la_resampling *ops, uint32_t *count, int64_t stride, int64_t n,
                          const uint32_t above[MOST], uint64_t seed, uint64_t stream,
                          uint64_t position) {
    uint32_t bits[BLOCK], copies[BLOCK];
    int64_t sum = 0, drawn = 0;
    do { /* BLOCK is a multiple of what two words have; n is at least 1 */
        uint64_t words[2];
        la_random_words(seed, stream, position++, words);
        for (int w = 0; w < 2; w++)
            for (int j = 0; j < EACH; j++, drawn++, words[w] >>= BITS)
                bits[drawn] = words[w] & ((1 << BITS) - 1);
    } while (drawn < n);
    ops->count_above(bits, n, above, MOST, copies);
    for (int64_t i = 0; i < n; i++) {
        count[i * stride] = copies[i];
        sum += copies[i];
    }
    return sum;
}

/* Poisson numbers of a mean so far below 1 that a sum is above n once in 1e9 times. */
static void draw_in_order(uint32_t *count, int at_once, int64_t n, uint64_t seed, uint64_t stream,
                          int64_t *sums) {
    double mean = 1 - 6 / sqrt((double)n), p = exp(-mean), sum = 0;
    uint32_t above[MOST];
    const la_resampling *ops = la_resampling_here();
    for (int k = 0; k < MOST; k++) {
        sum += p;
        p *= mean / (k + 1);
        above[k] = (uint32_t)lrint(sum * (1 << BITS));
    }
    for (int64_t i = 0; i < n; i += BLOCK)
        for (int s = 0; s < at_once; s++)
            sums[s] += draw_block(ops, count + i * at_once + s, at_once,
                                  n - i < BLOCK ? n - i : BLOCK, above, seed, stream + (uint64_t)s,
                                  (uint64_t)n + (uint64_t)(i / (2 * EACH)));
}

/* Of many rows most are drawn in order, the rest one by one at random places of memory: independent
 * Poisson numbers, given their sum, are such counts. */
void la_bootstrap_draw(uint32_t *count, int at_once, int64_t n, uint64_t seed, uint64_t stream) {
    enum { MANY = 1 << 16 };
    int64_t taken[LA_AT_ONCE_MAX] = {0};
    if (n >= MANY)
        draw_in_order(count, at_once, n, seed, stream, taken);
    else
        memset(count, 0, (size_t)(n * at_once) * sizeof *count);
    for (int s = 0; s < at_once; s++) {
        if (taken[s] > n) {
            for (int64_t i = 0; i < n; i++)
                count[i * at_once + s] = 0;
            taken[s] = 0;
        }
        for (int64_t i = taken[s]; i < n; i++)
            count[(int64_t)la_random_below(seed, stream + (uint64_t)s, (uint64_t)i, (uint64_t)n) *
                      at_once +
                  s]++;
    }
}

la_status la_bootstrap(la_team team, int64_t n, const la_metric_set *set, const void *prepared,
                       int64_t resamples, uint64_t seed, la_interval *intervals, la_error *err) {
    double once[LA_METRICS_MAX];
    la_status status = LA_OK;
    la_slices counts = {0}, owns = {0};
    int64_t each = set->at_once, rounds = (resamples + each - 1) / each;
    if (team.threads > rounds)
        team.threads = rounds > 0 ? (int)rounds : 1;
    double *values = la_alloc((size_t)(rounds * each), (size_t)set->n * sizeof *values, err);
    double *column = la_alloc((size_t)resamples, sizeof *column, err);
    (void)la_slices_open(team, (size_t)(n * each) * sizeof(uint32_t), &counts, err);
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
        for (int64_t r = 0; r < rounds; r++) {
            if (la_interrupted())
                continue;
            la_bootstrap_draw(count, set->at_once, n, seed, (uint64_t)(r * each));
            set->measure(prepared, own, count, values + r * each * set->n, NULL);
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
        LA_TRY_DONE(set->exact(prepared, once, intervals, err));
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
