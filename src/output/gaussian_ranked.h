/* Rows of a regression in the order in which they are measured: what output/gaussian_metrics.c
 * prepares and output/gaussian_measure.c measures. */
#ifndef LA_OUTPUT_GAUSSIAN_RANKED_H
#define LA_OUTPUT_GAUSSIAN_RANKED_H

#include <stdbool.h>
#include <stdint.h>

/* A label and the prediction for it. */
typedef struct la_gaussian_row {
    double label, mean, variance;
    int64_t row;
} la_gaussian_row;

/* Terms of the means over rows. */
typedef struct la_gaussian_score {
    double square, distance, nll, crps, deviation;
    bool inside;
} la_gaussian_score;

/* Rows sorted, so that no number depends on the order in which the file has them, not in its last
 * digit. The arrays lie behind the struct. */
typedef struct la_gaussian_ranked {
    int64_t n;
    la_gaussian_row *rows; /* [n] by the mean */
    la_gaussian_score *scored;
    uint32_t *by_label; /* [n] rows in that order */
} la_gaussian_ranked;

#endif
