/* How good probabilities are: pure functions over arrays. Definitions: README, "The report", and
 * tests/reference/metrics_reference.py. Everything is computed from the rows in order of
 * confidence, each with a count: the numbers of a file have every count 1, a bootstrap resample has
 * others, and no resample needs a sort. */
#ifndef LA_OUTPUT_METRICS_H
#define LA_OUTPUT_METRICS_H

#include "base/team.h"

#include <stdbool.h>

/* Equal-width bins of the confidence, and equal-mass bins. */
enum { LA_METRIC_BINS = 15 };

typedef enum la_metric {
    LA_METRIC_ACCURACY,
    LA_METRIC_NLL,
    LA_METRIC_BRIER,
    LA_METRIC_ECE,
    LA_METRIC_MCE,
    LA_METRIC_ECE_EM,
    LA_METRIC_AUROC,
    LA_METRIC_AUPR_ERROR,
    LA_METRIC_AURC,
    LA_METRIC_EAURC,
    LA_METRIC_FPR95,
    LA_METRIC_CONFIDENCE,
    LA_METRIC_COUNT
} la_metric;

typedef struct la_metric_info {
    const char *name;
    int direction; /* 1: higher is better, -1: lower is better, 0: neither */
    bool gap; /* a mean or largest distance, 0..1: resamples lie above it (output/bootstrap.h) */
} la_metric_info;

extern const la_metric_info la_metric_table[LA_METRIC_COUNT];

/* The metrics of a task, by number. No task has more than LA_METRIC_COUNT. */
typedef struct la_metric_set {
    const char *rows; /* what its predictions are of, for messages */
    const la_metric_info *list;
    int n;
} la_metric_set;

extern const la_metric_set la_class_metrics; /* la_metric_table */

/* The number of that name, or -1. */
int la_metric_find_in(const la_metric_set *set, const char *name);
/* The la_metric of that name, or -1. */
int la_metric_find(const char *name);

/* Rows with lo < confidence <= hi (the first bin holds 0 too). Means are NaN when there are none.
 */
typedef struct la_metric_bin {
    double lo, hi;
    int64_t n;
    double confidence, accuracy;
} la_metric_bin;

/* value is indexed by la_metric; NaN means undefined. */
typedef struct la_metrics {
    double value[LA_METRIC_COUNT];
    la_metric_bin bins[LA_METRIC_BINS];
} la_metrics;

/* Both NaN when the metric is undefined for the rows or in every resample. */
typedef struct la_interval {
    double lo, hi;
} la_interval;

/* probs: n x n_classes, each in [0, 1]; labels: n, each in [0, n_classes). n at least 1. */
la_status la_metrics_compute(int64_t n, int64_t n_classes, const double *probs,
                             const int64_t *labels, la_metrics *metrics, la_error *err);

/* The ECE that 95 % of perfectly calibrated models with these confidences [n] stay below: labels
 * are drawn from the confidences, `draws` times. Depends on its arguments alone, and not on the
 * order of the confidences, which are sorted in place. */
double la_ece_noise(int64_t n, double *confidence, int64_t draws, uint64_t seed);

/* 95 % bootstrap interval of every metric (output/bootstrap.h); intervals has LA_METRIC_COUNT
 * entries. Each holds the metric itself. The result depends on the rows, not their order, and the
 * seed, not on the threads. */
la_status la_metrics_intervals(la_team team, int64_t n, int64_t n_classes, const double *probs,
                               const int64_t *labels, int64_t resamples, uint64_t seed,
                               la_interval *intervals, la_error *err);

#endif
