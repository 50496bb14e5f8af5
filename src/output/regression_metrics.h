/* How good Gaussians about numbers are: pure functions over arrays. Definitions: README, "Regression",
 * and tests/reference/regression_metrics_reference.py. */
#ifndef LA_OUTPUT_REGRESSION_METRICS_H
#define LA_OUTPUT_REGRESSION_METRICS_H

#include "output/metrics.h"

typedef enum la_regression_metric {
    LA_REGRESSION_RMSE,
    LA_REGRESSION_MAE,
    LA_REGRESSION_NLL,         /* mean -log of the Gaussian's density at the label */
    LA_REGRESSION_PEARSON,     /* of labels and means; NaN where either does not vary */
    LA_REGRESSION_SPEARMAN,    /* likewise of their ranks, ties averaged */
    LA_REGRESSION_COVERAGE_90, /* share of labels inside the central 90 % interval */
    LA_REGRESSION_SHARPNESS,   /* mean standard deviation */
    LA_REGRESSION_CRPS,        /* mean continuous ranked probability score, in closed form */
    LA_REGRESSION_METRICS
} la_regression_metric;

extern const la_metric_set la_regression_metrics;

/* Half the width of the central 90 % interval, in standard deviations. */
#define LA_REGRESSION_Z90 1.6448536269514722

/* A label and what was predicted for it; the variance is positive. */
typedef struct la_gaussian {
    double label, mean, variance;
} la_gaussian;

/* value[LA_REGRESSION_METRICS]; n at least 1. */
la_status la_regression_compute(int64_t n, const la_gaussian *rows, double *value, la_error *err);
/* As la_metrics_intervals. */
la_status la_regression_intervals(la_team team, int64_t n, const la_gaussian *rows,
                                  int64_t resamples, uint64_t seed, la_interval *intervals,
                                  la_error *err);

#endif
