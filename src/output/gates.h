/* Conditions a report must meet: METRIC=X limits, limits on getting worse than a baseline, a least
 * number of rows. */
#ifndef LA_OUTPUT_GATES_H
#define LA_OUTPUT_GATES_H

#include "output/metrics.h"

#include <stdbool.h>

/* Values that gates read: [n] of the likelihood's set, then [C, n_class] of each class alone. */
static inline int64_t la_gate_values(const la_metric_set *set, int64_t n_classes) {
    return set->n + n_classes * set->n_class;
}

/* From the command line. */
typedef struct la_gate_options {
    const char *const *max, *const *min,
                                *const *max_worse; /* "METRIC=X" or "METRIC@LABEL=X" each */
    int n_max, n_min, n_max_worse;
    const char *baseline; /* a report in JSON, or NULL */
    int64_t min_samples;  /* 0 or less: none */
} la_gate_options;

typedef enum la_gate_kind { LA_GATE_MAX, LA_GATE_MIN, LA_GATE_MAX_WORSE } la_gate_kind;

enum { LA_GATE_ROWS = -1, LA_GATE_NAME = 128, LA_GATE_TEXT = 320 };

typedef struct la_gate {
    char name[LA_GATE_NAME];    /* METRIC, METRIC@LABEL, or "n" of the number of rows */
    int label;                  /* where LABEL begins in it; 0: the metric is of all labels */
    const la_metric_info *info; /* NULL: the number of rows */
    int64_t metric;             /* its place in the values that gates read, or LA_GATE_ROWS */
    la_gate_kind kind;
    double bound;
    double value; /* the metric's; NaN: undefined */
    /* LA_GATE_MAX_WORSE: the baseline's value (NaN: it has none), and by how much value is
     * worse (negative: better; where neither direction is better, the distance) */
    double baseline, worse;
    bool pass;
} la_gate;

/* Checks the options and lists the gates, not yet judged: LA_USAGE for a metric that no likelihood
 * has, a malformed limit, or one of getting worse without a baseline. The caller frees *gates. */
la_status la_gates_parse(const la_gate_options *options, la_gate **gates, int *n, la_error *err);

/* LA_USAGE for a gate on a metric that the likelihood of the predictions lacks, or on a label that
 * is neither a name of names[C] (see la_predictions) nor the number of a class. */
la_status la_gates_bind(la_gate *gates, int n, const la_metric_set *set, int64_t n_classes,
                        char *const *names, la_error *err);

/* Reads value[la_gate_values] of a report in JSON; NaN where it has none. LA_BAD_INPUT when the
 * file is no such report or one of another number of classes. */
la_status la_baseline_read(const char *path, const la_metric_set *set, int64_t n_classes,
                           double *value, la_error *err);

/* Fills value, baseline, worse and pass; baseline NULL: none. Returns the number that fail. */
int la_gates_judge(la_gate *gates, int n, int64_t n_rows, const double *value,
                   const double *baseline);

const char *la_gate_kind_name(const la_gate *gate);
/* "ece <= 0.05" */
void la_gate_condition(const la_gate *gate, char out[LA_GATE_TEXT]);
/* Outcome of a judged gate: "ece 0.061 > 0.05" */
void la_gate_outcome(const la_gate *gate, char out[LA_GATE_TEXT]);

#endif
