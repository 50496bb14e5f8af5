/* The table of `laplora compare`: metrics of every method on the same rows, and its cost. */
#ifndef LA_OUTPUT_COMPARISON_H
#define LA_OUTPUT_COMPARISON_H

#include "output/softmax_metrics.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct la_comparison_row {
    char name[40], note[80];
    bool has_probs; /* false: a score, which only ranks; its metrics are auroc and aurc */
    double value[LA_METRIC_COUNT];
    double ece_noise; /* la_ece_noise of its probabilities */
    double ood_auroc; /* AUROC by which --ood rows rank above --test's; NaN: there are none */
    double seconds_fit, seconds_predict;
} la_comparison_row;

typedef struct la_comparison {
    const char *calib, *val, *test, *ood; /* paths, borrowed; NULL: not given */
    int64_t n_calib, n_val, n_test, n_ood, n_classes;
    la_comparison_row *rows; /* [n]; the caller frees with free() */
    int n;
} la_comparison;

typedef enum la_table_format { LA_TABLE_TEXT, LA_TABLE_JSON, LA_TABLE_MARKDOWN } la_table_format;

/* Write errors are left to the stream's error flag. */
la_status la_comparison_write(const la_comparison *comparison, la_table_format format, FILE *stream,
                              la_error *err);

#endif
