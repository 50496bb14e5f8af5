#include "output/metrics.h"
#include "base/memory.h"
#include "base/stop.h"
#include "output/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int la_metric_index(const la_metric_info *list, int n, const char *name) {
    for (int m = 0; m < n; m++)
        if (!strcmp(list[m].name, name))
            return m;
    return -1;
}

int la_metric_find(const la_metric_set *set, const char *name) {
    return la_metric_index(set->list, set->n, name);
}

static la_status prepare(const la_metric_set *set, const la_metric_rows *rows, void **prepared,
                         la_error *err) {
    *prepared = NULL;
    if (rows->n < 1 || rows->n >= UINT32_MAX)
        return la_fail(err, LA_BAD_INPUT, "metrics of %lld rows, expected 1 to %lld",
                       (long long)rows->n, (long long)UINT32_MAX - 1);
    return set->prepare(rows, NULL, prepared, err);
}

la_status la_metrics_compute(const la_metric_set *set, const la_metric_rows *rows,
                             la_metrics *metrics, la_error *err) {
    void *prepared;
    *metrics = (la_metrics){0};
    LA_TRY(prepare(set, rows, &prepared, err));
    void *work = la_alloc(1, set->workspace ? set->workspace(prepared) : 0, err);
    if (work)
        set->measure(prepared, work, NULL, metrics->value, set->bin_rows ? metrics->bins : NULL);
    if (set->trace)
        metrics->n_points = set->trace(prepared, metrics->points);
    free(work);
    free(prepared);
    return err->status;
}

la_status la_class_metrics(const la_metric_set *set, const la_metric_rows *rows, double *values,
                           int64_t *n, la_error *err) {
    void *prepared;
    LA_TRY(prepare(set, rows, &prepared, err));
    for (int64_t c = 0; c < rows->n_classes; c++)
        set->measure_class(prepared, c, values + c * set->n_class, &n[c]);
    free(prepared);
    return LA_OK;
}

la_status la_metrics_noise(const la_metric_set *set, const la_metric_rows *rows, double ece,
                           uint64_t seed, la_noise_floor *noise, la_error *err) {
    *noise = (la_noise_floor){NAN, NAN, NAN, NAN};
    if (!set->chances)
        return LA_OK;
    double *chances = la_alloc((size_t)(rows->n * rows->n_classes), sizeof *chances, err);
    if (!chances)
        return err->status;
    int64_t n = set->chances(rows, chances);
    *noise = la_ece_noise(n, chances, ece, LA_NOISE_DRAWS_MOST, seed);
    free(chances);
    return LA_OK;
}

int64_t la_metrics_resamples(const la_metric_rows *rows, int64_t wanted) {
    double most = 1.2e9 / (double)rows->n / (double)(rows->n_classes + 3);
    return (int64_t)fmin(fmax(most, 200), (double)wanted);
}

/* Gaps of rows whose labels are drawn from the probabilities, beside those of the rows. */
typedef struct drawn_gaps {
    int64_t n, as_much[LA_METRICS_MAX];
    double sum[LA_METRICS_MAX], square[LA_METRICS_MAX];
} drawn_gaps;

/* Takes a draw in. False where it decides: of every gap enough draws showed as much, or those so
 * far lie more than 6 of their standard deviations below. */
static bool take_draw(const la_metric_set *set, const double *own, const double *drawn,
                      int64_t enough, drawn_gaps *gaps) {
    enum { LEAST = 20, FAR = 6 };
    double n = (double)++gaps->n;
    bool open = false;
    for (int m = 0; m < set->n; m++) {
        double off = drawn[m] - own[m];
        gaps->as_much[m] += off >= 0;
        gaps->sum[m] += off;
        gaps->square[m] += off * off;
        double mean = gaps->sum[m] / n, variance = gaps->square[m] / n - mean * mean;
        bool far = n >= LEAST && mean < -FAR * sqrt(variance);
        open |= set->list[m].gap && gaps->as_much[m] < enough && !far;
    }
    return open;
}

/* Lowers to 0 the intervals of those gaps that calibrated predictions of these probabilities would
 * show as well: where at least 2.5 % of models whose labels are drawn from the probabilities show
 * as much. Draws end early where all is decided, after the same one whatever the team. */
static la_status admit_none(la_team team, const la_metric_set *set, int64_t draws,
                            const void *prepared, uint64_t seed, la_interval *intervals,
                            la_error *err) {
    enum { STREAM = 1 << 30 };
    double own[LA_METRICS_MAX];
    drawn_gaps gaps = {0};
    la_slices works = {0};
    la_status status = LA_OK;
    int64_t each = set->at_once, round = each * team.threads;
    double *drawn = la_alloc((size_t)(round * set->n), sizeof *drawn, err);
    (void)la_slices_open(team, set->workspace ? set->workspace(prepared) : 0, &works, err);
    LA_TRY_DONE(err->status);
    set->measure(prepared, works.memory, NULL, own, NULL);
    bool open = true;
    while (open && gaps.n < draws) {
        const int64_t first = gaps.n;
#pragma omp parallel for num_threads(team.threads) schedule(static)
        for (int64_t d = 0; d < round; d += each)
            if (!la_interrupted())
                set->measure_drawn(prepared, la_slices_own(&works), seed,
                                   STREAM + (uint64_t)(first + d), drawn + d * set->n);
        LA_TRY_DONE(la_check_interrupt(err));
        for (int64_t d = 0; d < round && open && gaps.n < draws; d++)
            open = take_draw(set, own, drawn + d * set->n, draws / 40, &gaps);
    }
    for (int m = 0; m < set->n; m++)
        if (set->list[m].gap && gaps.as_much[m] >= draws / 40)
            intervals[m].lo = 0;
done:
    free(drawn);
    free(works.memory);
    return status;
}

la_status la_metrics_intervals(la_team team, const la_metric_set *set, const la_metric_rows *rows,
                               int64_t resamples, uint64_t seed, la_interval *intervals,
                               la_error *err) {
    void *prepared;
    LA_TRY(prepare(set, rows, &prepared, err));
    resamples = la_metrics_resamples(rows, resamples);
    la_status status = la_bootstrap(team, rows->n, set, prepared, resamples, seed, intervals, err);
    if (status == LA_OK && set->measure_drawn)
        status = admit_none(team, set, la_metrics_resamples(rows, 1000) / 5, prepared, seed,
                            intervals, err);
    free(prepared);
    return status;
}
