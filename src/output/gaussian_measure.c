/* Metrics of a regression, of several resamples of the same rows at once (output/lanes.h). */
#include "output/gaussian_metrics.h"
#include "output/gaussian_ranked.h"
#include "output/lanes.h"
#include "output/resampling.h"

#include <math.h>
#include <stdbool.h>

/* ---- correlations ---- */

/* Of two numbers of each row; those of means are complete before those of squares begin. */
typedef struct moments {
    double n;
    la_lanes x_mean, y_mean, xx, yy, xy;
    la_lanes least[2], most[2]; /* of x and y */
} moments;

static moments begin(int64_t n) {
    moments s = {.n = (double)n};
    for (int k = 0; k < 2; k++) {
        s.least[k] = la_lanes_of(HUGE_VAL);
        s.most[k] = la_lanes_of(-HUGE_VAL);
    }
    return s;
}

static void widen(moments *s, int k, const la_lanes *weight, const la_lanes *x) {
    const la_lane_masks there = *weight > la_lanes_of(0);
    s->least[k] = LA_LANES_WHERE(there & (*x < s->least[k]), *x, s->least[k]);
    s->most[k] = LA_LANES_WHERE(there & (*x > s->most[k]), *x, s->most[k]);
}

static void add_means(moments *s, const la_lanes *weight, const la_lanes *x, const la_lanes *y) {
    widen(s, 0, weight, x);
    widen(s, 1, weight, y);
    s->x_mean += *weight * *x / s->n;
    s->y_mean += *weight * *y / s->n;
}

static void add_squares(moments *s, const la_lanes *weight, const la_lanes *x, const la_lanes *y) {
    const la_lanes a = *x - s->x_mean, b = *y - s->y_mean;
    s->xx += *weight * a * a;
    s->yy += *weight * b * b;
    s->xy += *weight * a * b;
}

/* NaN where one of them does not vary. */
static double correlation_of(const moments *s, int lane) {
    bool vary = s->most[0][lane] > s->least[0][lane] && s->most[1][lane] > s->least[1][lane];
    return vary ? s->xy[lane] / (sqrt(s->xx[lane]) * sqrt(s->yy[lane])) : NAN;
}

typedef void (*add_pair)(moments *s, const la_lanes *weight, const la_lanes *x, const la_lanes *y);

static void add_values(const la_gaussian_ranked *m, const uint32_t *count, add_pair add,
                       moments *s) {
    for (int64_t i = 0; i < m->n; i++) {
        const la_lanes weight = la_lanes_copies(count, i);
        const la_lanes label = la_lanes_of(m->rows[i].label), mean = la_lanes_of(m->rows[i].mean);
        add(s, &weight, &label, &mean);
    }
}

/* Ranks of the rows' labels among their copies, ties averaged. */
static void rank_labels(const la_gaussian_ranked *m, const uint32_t *count, la_lanes *ranks) {
    la_lanes before = {0};
    for (int64_t from = 0, to; from < m->n; from = to) {
        la_lanes group = {0};
        double value = m->rows[m->by_label[from]].label;
        for (to = from; to < m->n && m->rows[m->by_label[to]].label == value; to++)
            group += la_lanes_copies(count, m->by_label[to]);
        for (int64_t i = from; i < to; i++)
            ranks[m->by_label[i]] = before + 0.5 * (group + 1);
        before += group;
    }
}

/* Ranks of labels, and of means, in whose order the rows are. */
static void add_ranks(const la_gaussian_ranked *m, const uint32_t *count, const la_lanes *ranks,
                      add_pair add, moments *s) {
    la_lanes before = {0};
    for (int64_t from = 0, to; from < m->n; from = to) {
        la_lanes group = {0};
        for (to = from; to < m->n && m->rows[to].mean == m->rows[from].mean; to++)
            group += la_lanes_copies(count, to);
        const la_lanes own = before + 0.5 * (group + 1);
        for (int64_t i = from; i < to; i++) {
            const la_lanes weight = la_lanes_copies(count, i);
            add(s, &weight, &ranks[i], &own);
        }
        before += group;
    }
}

/* ---- all metrics ---- */

size_t la_gaussian_workspace(const void *prepared) {
    return (size_t)((const la_gaussian_ranked *)prepared)->n * sizeof(la_lanes);
}

static void measure(const void *prepared, void *work, const uint32_t *count, double *value) {
    const la_gaussian_ranked *m = prepared;
    const double n = (double)m->n;
    la_lanes square = {0}, sums[LA_GAUSSIAN_METRICS] = {0}, *ranks = work;
    moments values = begin(m->n), places = begin(m->n);
    for (int64_t i = 0; i < m->n; i++) {
        const la_gaussian_score *row = &m->scored[i];
        const la_lanes weight = la_lanes_copies(count, i);
        square += weight * row->square;
        sums[LA_GAUSSIAN_MAE] += weight * row->distance;
        sums[LA_GAUSSIAN_NLL] += weight * row->nll;
        sums[LA_GAUSSIAN_CRPS] += weight * row->crps;
        sums[LA_GAUSSIAN_SHARPNESS] += weight * row->deviation;
        sums[LA_GAUSSIAN_COVERAGE_90] += weight * (double)row->inside;
    }
    add_values(m, count, add_means, &values);
    add_values(m, count, add_squares, &values);
    rank_labels(m, count, ranks);
    add_ranks(m, count, ranks, add_means, &places);
    add_ranks(m, count, ranks, add_squares, &places);
    for (int l = 0; l < (count ? LA_LANES : 1); l++) {
        double *own = value + l * LA_GAUSSIAN_METRICS;
        for (int k = 0; k < LA_GAUSSIAN_METRICS; k++)
            own[k] = sums[k][l] / n;
        own[LA_GAUSSIAN_RMSE] = sqrt(square[l] / n);
        own[LA_GAUSSIAN_PEARSON] = correlation_of(&values, l);
        own[LA_GAUSSIAN_SPEARMAN] = correlation_of(&places, l);
    }
}

void la_gaussian_measure(const void *prepared, void *memory, const uint32_t *count, double *value,
                         la_metric_bin *bins) {
    (void)bins;
    if (!count)
        measure(prepared, memory, NULL, value);
    for (int first = 0; count && first < LA_LANES_AT_ONCE; first += LA_LANES)
        measure(prepared, memory, count + first, value + first * LA_GAUSSIAN_METRICS);
}
