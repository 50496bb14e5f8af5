/* Rows of probabilities in the order in which they are measured: what output/softmax_metrics.c
 * prepares and output/softmax_measure.c measures. */
#ifndef LA_OUTPUT_SOFTMAX_RANKED_H
#define LA_OUTPUT_SOFTMAX_RANKED_H

#include "output/metrics.h"
#include "output/smooth_ece.h"

/* Coverages in percent at which the risk is shown, and risks at which the coverage is. */
enum { LA_SELECTIVE_LEVELS = 3 };
extern const int64_t la_selective_coverages[LA_SELECTIVE_LEVELS];
extern const double la_selective_risks[LA_SELECTIVE_LEVELS];

/* A row as metrics see it. */
typedef struct la_scored_row {
    double confidence, nll, brier;
    const double *probs; /* [n_classes] */
    int32_t prediction, label;
} la_scored_row;

typedef struct la_ranked_rows {
    int64_t n, n_classes;
    la_scored_row *rows; /* [n] by confidence */
    double *probs;       /* [n, n_classes] in that order */
    uint8_t *bins;       /* [n, n_classes] bin of each */
    la_smoother *smoother;
} la_ranked_rows;

static inline bool la_scored_right(const la_scored_row *row) {
    return row->prediction == row->label;
}

#endif
