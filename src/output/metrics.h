/* Metrics of predictions: pure functions over arrays. A likelihood has a set of metrics, a table
 * and a function that fills it (output/softmax_metrics.h, output/gaussian_metrics.h); reports in
 * all formats, gates, baselines and intervals follow from the table. Definitions: REPORT.md
 * beside this file, and tests/reference. Everything is computed from rows in an order of their
 * own, each with a count: the numbers of a file have every count 1, a bootstrap resample has
 * others, and no resample needs a sort. */
#ifndef LA_OUTPUT_METRICS_H
#define LA_OUTPUT_METRICS_H

#include "base/team.h"
#include "input/label.h"
#include "output/ece_noise.h"

/* Equal-width bins of the confidence, and equal-mass bins; the most metrics of a set, and
 * the most resamples that one measures at once. */
enum { LA_METRIC_BINS = 15, LA_METRICS_MAX = 24, LA_AT_ONCE_MAX = 8 };

typedef struct la_metric_info {
    const char *name;
    int direction; /* 1: higher is better, -1: lower is better, 0: neither */
    bool gap; /* a mean or largest distance, 0..1: resamples lie above it (output/bootstrap.h) */
    const char *way; /* name of how its interval is made without resamples (la_metric_set.exact) */
    const char *undefined; /* reason why rows leave it without a value; NULL: they never do */
} la_metric_info;

/* Rows with lo < confidence <= hi (the first bin holds 0 too). Means are NaN when there are none.
 */
typedef struct la_metric_bin {
    double lo, hi;
    int64_t n;
    double confidence, accuracy;
} la_metric_bin;

/* Lower edge of bin k; the upper one of the bin before. */
static inline double la_metric_bin_edge(int k) {
    return k / (double)LA_METRIC_BINS;
}

/* Bin (lo, hi] of a probability. Found by comparing with the edges, not by multiplying: 0.2 belongs
 * to the bin below it whatever 0.2 * 15 rounds to. */
static inline int la_metric_bin_of(double p) {
    int bin = 0;
    while (bin < LA_METRIC_BINS - 1 && p > la_metric_bin_edge(bin + 1))
        bin++;
    return bin;
}

/* Rows that are at least as confident, and the wrong ones among them. */
typedef struct la_metric_point {
    double confidence;
    int64_t n, wrong;
} la_metric_point;

/* Most points of a curve: one wherever n or wrong passes another hundredth of its total. */
enum { LA_METRIC_POINTS = 200 };

/* value is indexed as the set's list; NaN means undefined. bins, points: of sets that have them. */
typedef struct la_metrics {
    double value[LA_METRICS_MAX];
    la_metric_bin bins[LA_METRIC_BINS];
    la_metric_point points[LA_METRIC_POINTS]; /* by confidence, the highest first */
    int n_points;
} la_metrics;

/* Both NaN when the metric is undefined for the rows or in every resample. */
typedef struct la_interval {
    double lo, hi;
} la_interval;

/* Predictions and the labels they are measured by. */
typedef struct la_metric_rows {
    int64_t n, n_classes;
    const double *values; /* [n, width of the likelihood]: probabilities, or mean and variance */
    la_label_list labels; /* [n], borrowed */
} la_metric_rows;

/* What became of a prediction: its loss, the probability that it gave itself of being right, and
 * whether it was wrong. */
typedef struct la_row_outcome {
    double loss, confidence;
    bool missed;
} la_row_outcome;

typedef struct la_metric_set {
    const char *rows; /* name of the predicted values, for messages */
    const la_metric_info *list;
    int n;
    /* Words for a bin's n, accuracy and confidence; bin_rows NULL: there are no bins. */
    const char *bin_rows, *bin_share, *bin_mean;
    /* Rows (1 or more) in the form that measure takes, one block of memory; the caller frees it.
     * order[n]: the row at each place there; NULL: not wanted. */
    la_status (*prepare)(const la_metric_rows *rows, uint32_t *order, void **prepared,
                         la_error *err);
    /* value[at_once, n] of counts [rows, at_once], each of which add up to that of the rows; count
     * NULL: value[n] of each row once. bins: [LA_METRIC_BINS], or NULL. work: workspace
     * bytes. */
    int at_once; /* resamples that are measured at once */
    void (*measure)(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *bins);
    size_t (*workspace)(const void *prepared); /* NULL: none */
    /* Intervals of metrics that have one without resamples, or a wider one, in place of theirs;
     * NULL: none has. value: the metrics of the rows. */
    la_status (*exact)(const void *prepared, const double *value, la_interval *intervals,
                       la_error *err);
    /* The curve of risk over coverage as points; returns their number. NULL: no answer is right or
     * wrong as a whole. */
    int (*trace)(const void *prepared, la_metric_point points[LA_METRIC_POINTS]);
    /* value[at_once, n], of which those that are gaps are set: of labels drawn from the
     * probabilities in place of the rows' own, by that stream and those behind it. NULL: no metric
     * is a gap. */
    void (*measure_drawn)(const void *prepared, void *work, uint64_t seed, uint64_t stream,
                          double *value);
    void (*outcome)(const la_metric_rows *rows, int64_t i, la_row_outcome *outcome);
    /* Probabilities whose metric "ece" is one of calibration: returns their number, at most
     * n n_classes. NULL: none. */
    int64_t (*chances)(const la_metric_rows *rows, double *chances);
    /* Metrics of each class alone; NULL: none. measure_class: value[n_class], and the number of
     * rows that have the class. */
    const la_metric_info *class_list;
    int n_class;
    void (*measure_class)(const void *prepared, int64_t class, double *value, int64_t *n);
} la_metric_set;

/* Number of that name in a list[n], or in a set's; -1: there is none. */
int la_metric_index(const la_metric_info *list, int n, const char *name);
int la_metric_find(const la_metric_set *set, const char *name);

/* LA_BAD_INPUT when there is no row, or more than 2^32 - 2. */
la_status la_metrics_compute(const la_metric_set *set, const la_metric_rows *rows,
                             la_metrics *metrics, la_error *err);

/* Metrics of classes: values[n_classes, n_class], and n[n_classes] rows that have each. */
la_status la_class_metrics(const la_metric_set *set, const la_metric_rows *rows, double *values,
                           int64_t *n, la_error *err);

/* Noise of the metric "ece", which is ece of the rows; all NaN where the set has no chances. */
la_status la_metrics_noise(const la_metric_set *set, const la_metric_rows *rows, double ece,
                           uint64_t seed, la_noise_floor *noise, la_error *err);

/* Resamples in place of those wanted: fewer from 1.2e9 probabilities and rows drawn on, but never
 * less than 200, which leave a chance of a tenth of an interval's width in its ends. */
int64_t la_metrics_resamples(const la_metric_rows *rows, int64_t wanted);

/* 95 % interval of every metric, by bootstrap (output/bootstrap.h) but for those that have one of
 * their own (output/coverage_interval.h, output/rare_intervals.h); intervals has set->n entries.
 * Each holds the metric itself. The result depends on the rows, not their order, and the seed, not
 * on the threads. */
la_status la_metrics_intervals(la_team team, const la_metric_set *set, const la_metric_rows *rows,
                               int64_t resamples, uint64_t seed, la_interval *intervals,
                               la_error *err);

#endif
