/* Metrics of Gaussians about numbers. Values of rows: [n, 2], means and variances, which are
 * positive; labels: numbers. Definitions: REPORT.md beside this file, and
 * tests/reference/regression_metrics_reference.py. */
#ifndef LA_OUTPUT_GAUSSIAN_METRICS_H
#define LA_OUTPUT_GAUSSIAN_METRICS_H

#include "output/metrics.h"

typedef enum la_gaussian_metric {
    LA_GAUSSIAN_RMSE,
    LA_GAUSSIAN_MAE,
    LA_GAUSSIAN_NLL,         /* mean -log of the Gaussian's density at the label */
    LA_GAUSSIAN_PEARSON,     /* correlation of labels and means; NaN where either does not vary */
    LA_GAUSSIAN_SPEARMAN,    /* likewise of their ranks, ties averaged */
    LA_GAUSSIAN_COVERAGE_90, /* share of labels inside the central 90 % interval */
    LA_GAUSSIAN_SHARPNESS,   /* mean standard deviation */
    LA_GAUSSIAN_CRPS,        /* mean continuous ranked probability score, in closed form */
    LA_GAUSSIAN_METRICS
} la_gaussian_metric;

extern const la_metric_set la_gaussian_metrics; /* indexed by la_gaussian_metric */

/* Half the width of the central 90 % interval, in standard deviations. */
#define LA_GAUSSIAN_Z90 1.6448536269514722

#endif
