/* Prediction files, JSON lines or tables: writing one row, reading all of them into arrays. */
#ifndef LA_OUTPUT_PREDICTION_ROWS_H
#define LA_OUTPUT_PREDICTION_ROWS_H

#include "base/digest.h"
#include "base/error.h"
#include "input/label.h"
#include "output/prediction_file.h"
#include "output/seen_rows.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct la_likelihood la_likelihood;
/* Fields and metrics of a likelihood's rows (output/row_kind.h). */
typedef struct la_row_kind la_row_kind;
/* Kind of the rows of a likelihood: that of its labels. */
const la_row_kind *la_row_kind_of(const la_likelihood *likelihood);

/* Token of an input row that a prediction is of. */
typedef struct la_row_token {
    bool nested;      /* the row's predictions are one line, else each is one of its own */
    bool first, last; /* among the row's predictions */
    int64_t row;
    int64_t token; /* its index; -1: the row has no predictions */
    int64_t word;  /* -1: none */
} la_row_token;

/* Properties shared by all rows of a file. */
typedef struct la_row_shape {
    const la_row_kind *kind;
    int64_t n_classes;
    const char *const *labels; /* class names, or NULL: a class is named by its number */
    const char *confidence_kind;
    const char *model; /* digest of the posterior; NULL: rows do not say */
    bool emit_logits, emit_cov, emit_ood;
    bool has_model, has_held_out, has_calibration;
    bool has_fields, has_action; /* rows carry fields of the input, and what is to be done */
    bool has_tokens, has_errors; /* rows may be of tokens, or errors */
} la_row_shape;

typedef struct la_prediction_row {
    const la_row_shape *shape;
    int64_t index;
    const char *id_json;         /* JSON text, or NULL */
    const char *fields_json;     /* likewise */
    const char *held_out;        /* "true": the row chose the guard's settings; NULL: it did not */
    const char *calibration;     /* "true": the posterior was fitted on the row; NULL: it was not */
    const char *action, *reason; /* NULL: none */
    la_label label;
    const la_prediction *prediction;
    const char
        *error; /* not NULL: reason that there is no prediction; only index and token are used
                          besides */
    const la_row_token *token; /* NULL: the prediction is of the whole row */
} la_prediction_row;

typedef struct la_row_values la_row_values; /* output/row_kind.h */

typedef struct la_row_format {
    const char *name; /* value of the option, and extension */
    bool one_a_line;  /* predictions of tokens are not nested in the line of their row */
    la_status (*header)(FILE *stream, const la_row_shape *shape, la_error *err); /* NULL: none */
    la_status (*write)(FILE *stream, const la_row_values *values, la_error *err);
} la_row_format;

#define LA_ROW_FORMAT(name) extern const la_row_format la_row_format_##name;
#include "output/row_formats.def"
#undef LA_ROW_FORMAT

enum {
#define LA_ROW_FORMAT(name) LA_ROW_FORMAT_NUMBER_##name,
#include "output/row_formats.def"
#undef LA_ROW_FORMAT
    LA_ROW_FORMATS
};
extern const la_row_format *const la_row_formats[LA_ROW_FORMATS];
extern const char *const la_row_format_names[LA_ROW_FORMATS];
/* Format by the extension of a path, which may be NULL. */
const la_row_format *la_row_format_of(const char *path);

la_status la_prediction_header(const la_row_format *format, FILE *stream, const la_row_shape *shape,
                               la_error *err);
/* Writes one line, or of a nested one the part of this prediction. LA_NUMERICAL, and nothing
 * written, when a number is not finite or probs are no distribution. */
la_status la_prediction_write(const la_row_format *format, FILE *stream,
                              const la_prediction_row *row, la_error *err);

enum { LA_CONFIDENCE_KIND_MAX = 32 };

typedef struct la_predictions {
    const la_row_kind *kind;
    int64_t n, n_classes; /* rows with a label; 0 when there is none */
    double *values;       /* [n, width of the kind] */
    double *map_values;   /* likewise; NULL unless every predicted row has them */
    la_label_list labels; /* [n] */
    /* [C] names of classes that rows predict, as shown, NULL: of one that none does; NULL: metrics
     * are not of each class. */
    char **names;
    int64_t n_errors, n_unlabelled, n_without_map;
    la_seen_rows seen; /* rows with a label that the posterior has seen */
    /* "" when no row says, "mixed" when rows differ; letters, digits, "._+-?" */
    char confidence_kind[LA_CONFIDENCE_KIND_MAX];
    char digest[LA_DIGEST_TEXT]; /* digest of the file's bytes */
} la_predictions;

/* path "-": standard input. LA_BAD_INPUT, with the line, for a row that is no prediction, or a file
 * without rows; a file none of whose rows has a label is fine here. Free with la_predictions_free.
 */
la_status la_predictions_read(const char *path, la_predictions *predictions, la_error *err);

/* Gets every prediction as it is read, with its values behind the last ones of the predictions'
 * arrays; number is that among the rows with a label, -1 without one. */
typedef struct la_prediction_watch {
    la_status (*see)(void *user, const la_prediction_entry *entry, int64_t number, la_error *err);
    void *user;
} la_prediction_watch;
/* Likewise; watch may be NULL. */
la_status la_predictions_watch(const char *path, const la_prediction_watch *watch,
                               la_predictions *predictions, la_error *err);
void la_predictions_free(la_predictions *predictions);

#endif
