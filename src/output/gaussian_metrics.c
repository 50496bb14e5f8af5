#include "output/gaussian_metrics.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* A label and the prediction for it. */
typedef struct gaussian {
    double label, mean, variance;
    int64_t row;
} gaussian;

/* Terms of the means over rows. */
typedef struct scored_row {
    double square, distance, nll, crps, deviation;
    bool inside;
} scored_row;

/* Rows sorted, so that no number depends on the order in which the file has them, not in its last
 * digit. The arrays lie behind the struct. */
typedef struct ranked {
    int64_t n;
    gaussian *rows;
    scored_row *scored;
    uint32_t *by_label, *by_mean; /* [n] rows in that order */
} ranked;

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

static double value_of(const gaussian *row, bool label) {
    return label ? row->label : row->mean;
}

static void sort_rows(const ranked *m, bool label, keyed *work, uint32_t *order) {
    for (int64_t i = 0; i < m->n; i++)
        work[i] = (keyed){value_of(&m->rows[i], label), (uint32_t)i};
    qsort(work, (size_t)m->n, sizeof *work, by_value);
    for (int64_t i = 0; i < m->n; i++)
        order[i] = work[i].row;
}

static double weight_of(const uint32_t *count, int64_t i) {
    return count ? (double)count[i] : 1;
}

/* Ranks of the rows among their copies, ties averaged. */
static void rank(const ranked *m, bool label, const uint32_t *count, double *ranks) {
    const uint32_t *order = label ? m->by_label : m->by_mean;
    double before = 0;
    for (int64_t from = 0, to; from < m->n; from = to) {
        double group = 0, value = value_of(&m->rows[order[from]], label);
        for (to = from; to < m->n && value_of(&m->rows[order[to]], label) == value; to++)
            group += weight_of(count, order[to]);
        for (int64_t i = from; i < to; i++)
            ranks[order[i]] = before + 0.5 * (group + 1);
        before += group;
    }
}

/* x[i step] and y[i step]; NaN where one of them does not vary. */
static double correlation(int64_t n, const uint32_t *count, const double *x, const double *y,
                          int64_t step) {
    double x_mean = 0, y_mean = 0, xx = 0, yy = 0, xy = 0, first_x = NAN, first_y = NAN;
    bool x_varies = false, y_varies = false;
    for (int64_t i = 0; i < n; i++) {
        double weight = weight_of(count, i), a = x[i * step], b = y[i * step];
        if (weight == 0)
            continue;
        x_varies |= a != (isnan(first_x) ? (first_x = a) : first_x);
        y_varies |= b != (isnan(first_y) ? (first_y = b) : first_y);
        x_mean += weight * a / (double)n;
        y_mean += weight * b / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double weight = weight_of(count, i), a = x[i * step] - x_mean, b = y[i * step] - y_mean;
        xx += weight * a * a;
        yy += weight * b * b;
        xy += weight * a * b;
    }
    return x_varies && y_varies ? xy / (sqrt(xx) * sqrt(yy)) : NAN;
}

static void measure(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *bins) {
    const ranked *m = prepared;
    double n = (double)m->n, square = 0, *ranks = work;
    double sums[LA_GAUSSIAN_METRICS] = {0};
    (void)bins;
    for (int64_t i = 0; i < m->n; i++) {
        const scored_row *row = &m->scored[i];
        double weight = weight_of(count, i);
        square += weight * row->square;
        sums[LA_GAUSSIAN_MAE] += weight * row->distance;
        sums[LA_GAUSSIAN_NLL] += weight * row->nll;
        sums[LA_GAUSSIAN_CRPS] += weight * row->crps;
        sums[LA_GAUSSIAN_SHARPNESS] += weight * row->deviation;
        sums[LA_GAUSSIAN_COVERAGE_90] += weight * row->inside;
    }
    for (int k = 0; k < LA_GAUSSIAN_METRICS; k++)
        value[k] = sums[k] / n;
    value[LA_GAUSSIAN_RMSE] = sqrt(square / n);
    int64_t step = sizeof *m->rows / sizeof(double);
    value[LA_GAUSSIAN_PEARSON] = correlation(m->n, count, &m->rows->label, &m->rows->mean, step);
    rank(m, true, count, ranks);
    rank(m, false, count, ranks + m->n);
    value[LA_GAUSSIAN_SPEARMAN] = correlation(m->n, count, ranks, ranks + m->n, 1);
}

static size_t ranks_bytes(const void *prepared) {
    return 2 * (size_t)((const ranked *)prepared)->n * sizeof(double);
}

static la_status prepare(const la_metric_rows *from, uint32_t *order, void **prepared,
                         la_error *err) {
    size_t n = (size_t)from->n, each = sizeof(gaussian) + sizeof(scored_row);
    keyed *work = la_alloc(n, sizeof *work, err);
    ranked *m = la_alloc(1, sizeof *m + n * (each + 2 * sizeof(uint32_t)), err);
    if (err->status != LA_OK) {
        free(work);
        free(m);
        return err->status;
    }
    m->n = from->n;
    m->rows = (gaussian *)(m + 1);
    m->scored = (scored_row *)(m->rows + n);
    m->by_label = (uint32_t *)(m->scored + n);
    m->by_mean = m->by_label + n;
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
    sort_rows(m, true, work, m->by_label);
    sort_rows(m, false, work, m->by_mean);
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
                                           .at_once = 1,
                                           .measure = measure,
                                           .outcome = judge,
                                           .workspace = ranks_bytes};
