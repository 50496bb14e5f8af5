/* Metrics of probabilities of sets of classes. Values of rows: [n, n_classes], each in [0, 1];
 * labels: sets. A decision is whether a class is in a row's set: n times n_classes of them; a
 * class is predicted where its probability is above one half. Definitions: README.md beside this
 * file, and tests/reference/sigmoid_metrics_reference.py. */
#ifndef LA_OUTPUT_SIGMOID_METRICS_H
#define LA_OUTPUT_SIGMOID_METRICS_H

#include "output/metrics.h"

typedef enum la_sigmoid_metric {
    LA_SIGMOID_F1_MICRO,    /* over all decisions; NaN where no class is labelled or predicted */
    LA_SIGMOID_F1_MACRO,    /* mean over the classes that are labelled or predicted */
    LA_SIGMOID_EXACT_MATCH, /* share of rows whose set is predicted */
    LA_SIGMOID_HAMMING,     /* share of decisions that are wrong */
    LA_SIGMOID_NLL,         /* mean over decisions, as all below */
    LA_SIGMOID_BRIER,       /* (p - y)^2 */
    LA_SIGMOID_ECE,         /* 15 equal-width bins of p */
    LA_SIGMOID_METRICS
} la_sigmoid_metric;

extern const la_metric_set la_sigmoid_metrics; /* indexed by la_sigmoid_metric */

#endif
