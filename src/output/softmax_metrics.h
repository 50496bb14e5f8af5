/* Metrics of probabilities of classes. Values of rows: [n, n_classes], each in [0, 1]; labels:
 * classes. Definitions: README.md beside this file, and tests/reference/metrics_reference.py. */
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
    LA_METRIC_AUROC,
    LA_METRIC_AUPR_ERROR,
    LA_METRIC_AURC,
    LA_METRIC_EAURC,
    LA_METRIC_FPR95,
    LA_METRIC_CONFIDENCE,
    LA_METRIC_COUNT
} la_metric;

extern const la_metric_set la_softmax_metrics; /* indexed by la_metric */

/* The ECE that 95 % of perfectly calibrated models with these confidences [n] stay below: labels
 * are drawn from the confidences, `draws` times. Depends on its arguments alone, and not on the
 * order of the confidences, which are sorted in place. */
double la_ece_noise(int64_t n, double *confidence, int64_t draws, uint64_t seed);

#endif
