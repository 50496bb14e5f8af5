#include "output/gaussian_metrics.h"
#include "base/memory.h"
#include "output/gaussian_ranked.h"
#include "output/lanes.h"
#include "output/resampling.h"

#include <math.h>
#include <stdlib.h>

typedef la_gaussian_row gaussian;
typedef la_gaussian_score scored_row;
typedef la_gaussian_ranked ranked;

static scored_row score(const gaussian *row) {
    double deviation = sqrt(row->variance), miss = row->label - row->mean, z = miss / deviation;
    double density = exp(-0.5 * z * z) / sqrt(2 * M_PI);
    /* 2 Phi(z) - 1 */
    double within = erf(z / M_SQRT2);
    return (scored_row){.square = miss * miss,
                        .distance = fabs(miss),
                        .nll = 0.5 * (log(2 * M_PI * row->variance) + z * z),
                        .crps = deviation * (z * within + 2 * density - 1 / sqrt(M_PI)),
                        .deviation = deviation,
                        .inside = fabs(miss) <= LA_GAUSSIAN_Z90 * deviation};
}

/* A value and the row it is of. */
typedef struct keyed {
    double value;
    uint32_t row;
} keyed;

static int by_value(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static int compare_rows(const void *a, const void *b) {
    const gaussian *x = a, *y = b;
    const double pairs[3][2] = {
        {x->mean, y->mean}, {x->label, y->label}, {x->variance, y->variance}};
    for (int i = 0; i < 3; i++)
        if (pairs[i][0] != pairs[i][1])
            return pairs[i][0] < pairs[i][1] ? -1 : 1;
    return 0;
}

static void sort_labels(const ranked *m, keyed *work) {
    for (int64_t i = 0; i < m->n; i++)
        work[i] = (keyed){m->rows[i].label, (uint32_t)i};
    qsort(work, (size_t)m->n, sizeof *work, by_value);
    for (int64_t i = 0; i < m->n; i++)
        m->by_label[i] = work[i].row;
}

static void measure(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *bins) {
    la_resampling_here()->gaussian(prepared, work, count, value, bins);
}

static size_t ranks_bytes(const void *prepared) {
    return la_resampling_here()->gaussian_workspace(prepared);
}

static la_status prepare(const la_metric_rows *from, uint32_t *order, void **prepared,
                         la_error *err) {
    size_t n = (size_t)from->n, each = sizeof(gaussian) + sizeof(scored_row);
    keyed *work = la_alloc(n, sizeof *work, err);
    ranked *m = la_alloc(1, sizeof *m + n * (each + sizeof(uint32_t)), err);
    if (err->status != LA_OK) {
        free(work);
        free(m);
        return err->status;
    }
    m->n = from->n;
    m->rows = (gaussian *)(m + 1);
    m->scored = (scored_row *)(m->rows + n);
    m->by_label = (uint32_t *)(m->scored + n);
    for (size_t i = 0; i < n; i++)
        m->rows[i] = (gaussian){.label = from->labels.numbers[i],
                                .mean = from->values[2 * i],
                                .variance = from->values[2 * i + 1],
                                .row = (int64_t)i};
    qsort(m->rows, n, sizeof *m->rows, compare_rows);
    for (size_t i = 0; order && i < n; i++)
        order[i] = (uint32_t)m->rows[i].row;
    for (size_t i = 0; i < n; i++)
        m->scored[i] = score(&m->rows[i]);
    sort_labels(m, work);
    free(work);
    *prepared = m;
    return LA_OK;
}

#define NEEDS_SPREAD .undefined = "needs labels and predictions that vary"
static const la_metric_info list[LA_GAUSSIAN_METRICS] = {
    [LA_GAUSSIAN_RMSE] = {"rmse", -1},
    [LA_GAUSSIAN_MAE] = {"mae", -1},
    [LA_GAUSSIAN_NLL] = {"nll", -1},
    [LA_GAUSSIAN_PEARSON] = {"pearson", 1, NEEDS_SPREAD},
    [LA_GAUSSIAN_SPEARMAN] = {"spearman", 1, NEEDS_SPREAD},
    [LA_GAUSSIAN_COVERAGE_90] = {"coverage_90", 0},
    [LA_GAUSSIAN_SHARPNESS] = {"sharpness", 0},
    [LA_GAUSSIAN_CRPS] = {"crps", -1},
};

/* Wrong: a label outside of the interval of 90 %. */
static void judge(const la_metric_rows *rows, int64_t i, la_row_outcome *outcome) {
    gaussian row = {.label = rows->labels.numbers[i],
                    .mean = rows->values[2 * i],
                    .variance = rows->values[2 * i + 1]};
    scored_row scored = score(&row);
    *outcome =
        (la_row_outcome){.loss = scored.distance, .confidence = 0.9, .missed = !scored.inside};
}

const la_metric_set la_gaussian_metrics = {.rows = "numbers (a regression)",
                                           .list = list,
                                           .n = LA_GAUSSIAN_METRICS,
                                           .prepare = prepare,
                                           .at_once = LA_LANES_AT_ONCE,
                                           .measure = measure,
                                           .outcome = judge,
                                           .workspace = ranks_bytes};
