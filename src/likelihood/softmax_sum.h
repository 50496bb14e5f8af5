/* Softmax of a row in f64, and the check of its input. */
#ifndef LA_LIKELIHOOD_SOFTMAX_SUM_H
#define LA_LIKELIHOOD_SOFTMAX_SUM_H

#include "base/error.h"

typedef struct la_softmax_sum {
    int64_t top;    /* the first class with the largest logit */
    double rest;    /* 1 - p[top] without cancellation: the sum of the other probabilities */
    double log_sum; /* log sum exp of the logits */
} la_softmax_sum;

/* values[n_classes]: logits, which become probabilities. */
la_softmax_sum la_softmax(int64_t n_classes, double *values);

/* LA_BAD_INPUT unless there is at least one row and one column, every one of values[n, width] is
 * finite, and every one of labels[n] (may be NULL) is in [0, n_classes). what: "logits". */
la_status la_rows_check(const char *what, int64_t n, int64_t width, const float *values,
                        int64_t n_classes, const int64_t *labels, la_error *err);

#endif
