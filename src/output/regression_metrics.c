#include "output/regression_metrics.h"
#include "base/memory.h"
#include "output/bootstrap.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const la_metric_info list[LA_REGRESSION_METRICS] = {
    [LA_REGRESSION_RMSE] = {"rmse", -1},
    [LA_REGRESSION_MAE] = {"mae", -1},
    [LA_REGRESSION_NLL] = {"nll", -1},
    [LA_REGRESSION_PEARSON] = {"pearson", 1},
    [LA_REGRESSION_SPEARMAN] = {"spearman", 1},
    [LA_REGRESSION_COVERAGE_90] = {"coverage_90", 0},
    [LA_REGRESSION_SHARPNESS] = {"sharpness", 0},
    [LA_REGRESSION_CRPS] = {"crps", -1},
};
const la_metric_set la_regression_metrics = {
    .rows = "numbers (a regression)", .list = list, .n = LA_REGRESSION_METRICS};

/* What the means over rows are of. */
typedef struct scored_row {
    double square, distance, nll, crps, deviation;
    bool inside;
} scored_row;

/* What all resamples share. rows are sorted, so that no number depends on the order in which the
 * file has them, not in its last digit. */
typedef struct measuring {
    int64_t n;
    la_gaussian *rows;
    scored_row *scored;
    uint32_t *by_label, *by_mean; /* [n] rows in that order */
} measuring;

static scored_row score(const la_gaussian *row) {
    double deviation = sqrt(row->variance), miss = row->label - row->mean, z = miss / deviation;
    double density = exp(-0.5 * z * z) / sqrt(2 * M_PI);
    /* 2 Phi(z) - 1 */
    double within = erf(z / M_SQRT2);
    return (scored_row){.square = miss * miss,
                        .distance = fabs(miss),
                        .nll = 0.5 * (log(2 * M_PI * row->variance) + z * z),
                        .crps = deviation * (z * within + 2 * density - 1 / sqrt(M_PI)),
                        .deviation = deviation,
                        .inside = fabs(miss) <= LA_REGRESSION_Z90 * deviation};
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
    const la_gaussian *x = a, *y = b;
    const double pairs[3][2] = {
        {x->mean, y->mean}, {x->label, y->label}, {x->variance, y->variance}};
    for (int i = 0; i < 3; i++)
        if (pairs[i][0] != pairs[i][1])
            return pairs[i][0] < pairs[i][1] ? -1 : 1;
    return 0;
}

static double value_of(const la_gaussian *row, bool label) {
    return label ? row->label : row->mean;
}

static void sort_rows(const measuring *m, bool label, keyed *work, uint32_t *order) {
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
static void rank(const measuring *m, bool label, const uint32_t *count, double *ranks) {
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

static void measure(void *user, void *own, const uint32_t *count, double *value) {
    const measuring *m = user;
    double n = (double)m->n, square = 0, *ranks = own;
    double sums[LA_REGRESSION_METRICS] = {0};
    for (int64_t i = 0; i < m->n; i++) {
        const scored_row *row = &m->scored[i];
        double weight = weight_of(count, i);
        square += weight * row->square;
        sums[LA_REGRESSION_MAE] += weight * row->distance;
        sums[LA_REGRESSION_NLL] += weight * row->nll;
        sums[LA_REGRESSION_CRPS] += weight * row->crps;
        sums[LA_REGRESSION_SHARPNESS] += weight * row->deviation;
        sums[LA_REGRESSION_COVERAGE_90] += weight * row->inside;
    }
    for (int k = 0; k < LA_REGRESSION_METRICS; k++)
        value[k] = sums[k] / n;
    value[LA_REGRESSION_RMSE] = sqrt(square / n);
    int64_t step = sizeof *m->rows / sizeof(double);
    value[LA_REGRESSION_PEARSON] = correlation(m->n, count, &m->rows->label, &m->rows->mean, step);
    rank(m, true, count, ranks);
    rank(m, false, count, ranks + m->n);
    value[LA_REGRESSION_SPEARMAN] = correlation(m->n, count, ranks, ranks + m->n, 1);
}

/* What measure works in. */
static size_t ranks_bytes(int64_t n) {
    return 2 * (size_t)n * sizeof(double);
}

static void close_measuring(measuring *m) {
    free(m->rows);
    free(m->scored);
    free(m->by_label);
    free(m->by_mean);
}

static la_status open_measuring(int64_t n, const la_gaussian *rows, measuring *m, la_error *err) {
    *m = (measuring){.n = n};
    if (n < 1 || n >= UINT32_MAX)
        return la_fail(err, LA_BAD_INPUT, "metrics of %lld rows, expected 1 to %lld", (long long)n,
                       (long long)UINT32_MAX - 1);
    keyed *work = la_alloc((size_t)n, sizeof *work, err);
    m->rows = la_alloc((size_t)n, sizeof *m->rows, err);
    m->scored = la_alloc((size_t)n, sizeof *m->scored, err);
    m->by_label = la_alloc((size_t)n, sizeof *m->by_label, err);
    m->by_mean = la_alloc((size_t)n, sizeof *m->by_mean, err);
    if (err->status == LA_OK) {
        memcpy(m->rows, rows, (size_t)n * sizeof *rows);
        qsort(m->rows, (size_t)n, sizeof *m->rows, compare_rows);
        for (int64_t i = 0; i < n; i++)
            m->scored[i] = score(&m->rows[i]);
        sort_rows(m, true, work, m->by_label);
        sort_rows(m, false, work, m->by_mean);
    } else {
        close_measuring(m);
    }
    free(work);
    return err->status;
}

la_status la_regression_compute(int64_t n, const la_gaussian *rows, double *value, la_error *err) {
    measuring m;
    LA_TRY(open_measuring(n, rows, &m, err));
    double *ranks = la_alloc(1, ranks_bytes(n), err);
    if (ranks)
        measure(&m, ranks, NULL, value);
    free(ranks);
    close_measuring(&m);
    return err->status;
}

la_status la_regression_intervals(la_team team, int64_t n, const la_gaussian *rows,
                                  int64_t resamples, uint64_t seed, la_interval *intervals,
                                  la_error *err) {
    measuring m;
    LA_TRY(open_measuring(n, rows, &m, err));
    la_status status = la_bootstrap(team, n, &la_regression_metrics, resamples, seed,
                                    ranks_bytes(n), measure, &m, intervals, err);
    close_measuring(&m);
    return status;
}
