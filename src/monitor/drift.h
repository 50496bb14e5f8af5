/* Whether current predictions differ from reference ones: tests between two sets of rows, the
 * accuracy that the confidences of the current rows predict, or the errors that the standard
 * deviations of a regression do, and what to do. */
#ifndef LA_MONITOR_DRIFT_H
#define LA_MONITOR_DRIFT_H

#include "base/error.h"
#include "base/team.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Tests in the order in which they are written; those of scores first. */
typedef enum la_drift_kind {
    LA_DRIFT_CONFIDENCE,
    LA_DRIFT_ENTROPY,
    LA_DRIFT_MUTUAL_INFORMATION,
    LA_DRIFT_OOD,
    LA_DRIFT_SCORES,
    LA_DRIFT_PREDICTED_CLASS = LA_DRIFT_SCORES,
    LA_DRIFT_ERROR_RATE,
    LA_DRIFT_CALIBRATION,
    LA_DRIFT_LABEL,
    LA_DRIFT_KINDS
} la_drift_kind;

/* Those of a regression, at the same places. */
typedef enum la_drift_number_kind {
    LA_NUMBER_PREDICTION,
    LA_NUMBER_DEVIATION,
    LA_NUMBER_MODEL_VARIANCE,
    LA_NUMBER_OOD,
    LA_NUMBER_ERROR,       /* distance of prediction and label */
    LA_NUMBER_COVERAGE,    /* label inside the central interval of 90 % */
    LA_NUMBER_CALIBRATION, /* the distance with its sign, in standard deviations */
    LA_NUMBER_LABEL
} la_drift_number_kind;

/* Name of a test, as la_drift_kind or la_drift_number_kind has it. */
const char *la_drift_name(bool numbers, int kind);

typedef struct la_drift_row {
    double scores[LA_DRIFT_SCORES]; /* NaN: missing */
    union {
        struct {
            int32_t class, label; /* -1: none, or a set of classes */
        };
        double target; /* of a number; NaN: none */
    };
    bool labelled, right; /* of a number, right: inside the interval of 90 % */
} la_drift_row;

typedef struct la_drift_rows {
    la_drift_row *list; /* [n] */
    int64_t n;
    int64_t n_classes; /* 0: not known */
    bool numbers;      /* rows of a regression */
} la_drift_rows;

/* What a test of scores compares of a row of numbers; NaN: the row does not have it. */
double la_drift_number(const la_drift_row *row, int kind);

/* Mask of the tests that a row has the values for, and how many rows of a set have those of each:
 * only these take part in it. */
unsigned la_drift_values(bool numbers, const la_drift_row *row);
void la_drift_count(const la_drift_rows *rows, int64_t counts[LA_DRIFT_KINDS]);

typedef struct la_drift_test {
    double statistic, p_value, adjusted; /* NaN: not tested */
    int64_t n_reference, n_current;      /* rows that have its values */
    bool tested, alarm;
} la_drift_test;

typedef enum la_drift_advice {
    LA_ADVICE_NONE,
    LA_ADVICE_RECALIBRATE,
    LA_ADVICE_RETRAIN
} la_drift_advice;

/* A mean error. reference, measured: of the labelled rows of each set; estimated: of the current
 * rows without their labels, with a 95 % interval of what these would show. NaN: undefined. */
typedef struct la_drift_error {
    double reference, estimated, interval[2], measured;
} la_drift_error;

typedef struct la_drift {
    double alpha;
    bool numbers;
    int64_t n_reference, n_current;
    la_drift_test tests[LA_DRIFT_KINDS];
    bool alarm;
    /* shares of right answers; NaN: no labels. The interval, at 95 %, is of the share that labels
     * of the current rows that have a confidence would show. */
    double reference, estimated, interval[2], measured;
    double auroc[2]; /* of right answers above wrong ones, reference and current; NaN: undefined */
    /* of numbers, all else of accuracies is NaN; and of reference and current: share of labels in
     * the intervals of 90 %, and root mean square of the errors in standard deviations */
    la_drift_error rmse, nll;
    double coverage[2], spread[2];
    la_drift_advice advice;
    const char *reason; /* of the advice */
} la_drift;

/* Tests at a level of alpha over all of them together (Holm). Both sets have rows, of one kind. */
la_status la_drift_of(la_team team, const la_drift_rows *reference, const la_drift_rows *current,
                      double alpha, la_drift *drift, la_error *err);

typedef enum la_drift_format { LA_DRIFT_TEXT, LA_DRIFT_JSON, LA_DRIFT_MARKDOWN } la_drift_format;
void la_drift_write(const la_drift *drift, la_drift_format format, FILE *stream);

#endif
