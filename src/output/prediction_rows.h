/* Prediction files (JSONL): writing one row, reading all of them into arrays. */
#ifndef LA_OUTPUT_PREDICTION_ROWS_H
#define LA_OUTPUT_PREDICTION_ROWS_H

#include "base/digest.h"
#include "base/error.h"
#include "input/label.h"
#include "output/regression_metrics.h"

#include <stdbool.h>
#include <stdio.h>

/* Which token of an input row a prediction is of. */
typedef struct la_token_place {
    bool nested;      /* the row's predictions are one line, else each is one of its own */
    bool first, last; /* of the row's predictions */
    int64_t row;
    int64_t token; /* its place; -1: the row has no predictions */
    int64_t word;  /* -1: of none */
} la_token_place;

typedef struct la_prediction_row {
    int64_t index;
    const char *id_json; /* JSON text, or NULL */
    la_label label;
    const la_prediction *prediction;
    int64_t n_classes;
    const char *const *labels; /* class names, or NULL: a class is named by its number */
    const char *confidence_kind;
    bool emit_logits, emit_cov;
    const char
        *error; /* not NULL: why there is no prediction; only index and place are used besides */
    const la_token_place *place; /* NULL: of the whole row */
} la_prediction_row;

/* Writes one line, or of a nested one the part of this prediction. LA_NUMERICAL, and nothing
 * written, when a number is not finite or probs are no distribution. */
la_status la_prediction_write(FILE *stream, const la_prediction_row *row, la_error *err);

enum { LA_CONFIDENCE_KIND_MAX = 32 };

typedef struct la_predictions {
    int64_t n, n_classes; /* rows with a label; 0 when there is none */
    double *probs;        /* n x n_classes */
    double *map_probs;    /* likewise; NULL unless every predicted row has them */
    int64_t *labels;
    /* of a regression (n_classes 1), in place of those: [n], and likewise of the MAP model */
    bool regression;
    la_gaussian *gaussians, *map_gaussians;
    int64_t n_errors, n_unlabelled, n_without_map;
    /* "" when no row says, "mixed" when rows differ; letters, digits, "._+-?" */
    char confidence_kind[LA_CONFIDENCE_KIND_MAX];
    char digest[LA_DIGEST_TEXT]; /* of the file's bytes */
} la_predictions;

/* path "-": standard input. LA_BAD_INPUT, with the line, for a row that is no prediction, or a file
 * without rows; a file none of whose rows has a label is fine here. Free with la_predictions_free.
 */
la_status la_predictions_read(const char *path, la_predictions *predictions, la_error *err);
void la_predictions_free(la_predictions *predictions);

#endif
