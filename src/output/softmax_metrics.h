/* Metrics of probabilities of classes. Values of rows: [n, n_classes], each in [0, 1]; labels:
 * classes. Definitions: REPORT.md beside this file, and tests/reference/metrics_reference.py. */
#ifndef LA_OUTPUT_SOFTMAX_METRICS_H
#define LA_OUTPUT_SOFTMAX_METRICS_H

#include "output/metrics.h"

typedef enum la_metric {
    LA_METRIC_ACCURACY,
    LA_METRIC_NLL,
    LA_METRIC_BRIER,
    LA_METRIC_ECE,
    LA_METRIC_MCE,
    LA_METRIC_ECE_EM,
    LA_METRIC_ECE_DEBIASED,
    LA_METRIC_ECE_SMOOTH,
    LA_METRIC_ECE_CLASSWISE,
    LA_METRIC_AUROC,
    LA_METRIC_AUPR_ERROR,
    LA_METRIC_AURC,
    LA_METRIC_EAURC,
    LA_METRIC_FPR95,
    LA_METRIC_RISK_AT_COVERAGE_80,
    LA_METRIC_RISK_AT_COVERAGE_90,
    LA_METRIC_RISK_AT_COVERAGE_95,
    LA_METRIC_COVERAGE_AT_RISK_1,
    LA_METRIC_COVERAGE_AT_RISK_2,
    LA_METRIC_COVERAGE_AT_RISK_5,
    LA_METRIC_CONFIDENCE,
    LA_METRIC_COUNT
} la_metric;

extern const la_metric_set la_softmax_metrics; /* indexed by la_metric */

#endif
