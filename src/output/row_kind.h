/* Prediction rows of a likelihood: the fields of a row, from which the writers and the reader
 * follow (output/prediction_rows.h), and the metrics of many. One table a likelihood. */
#ifndef LA_OUTPUT_ROW_KIND_H
#define LA_OUTPUT_ROW_KIND_H

#include "likelihood/likelihood.h"
#include "output/metrics.h"
#include "output/prediction_rows.h"

#include <jansson.h>

/* Values that fields show: the row, what was predicted for it, and what its kind derives from that.
 * An index below 0, a NaN and a NULL are missing values, and where null is written, a vector of
 * NaN. */
struct la_row_values {
    la_prediction_row row;
    la_prediction p;
    int64_t line_row, word, token;
    const char *confidence_kind, *model;
    int64_t predicted; /* class */
    const char *predicted_label;
    char class_text[24];
    double variance, deviation, interval_90[2];
    const double *interval; /* to it */
};

typedef enum la_row_field_type {
    LA_ROW_FIELD_INDEX,  /* int64_t */
    LA_ROW_FIELD_NUMBER, /* double */
    LA_ROW_FIELD_VECTOR, /* const double * to [length], by default [C] */
    LA_ROW_FIELD_MATRIX, /* const double * to [C, C] */
    LA_ROW_FIELD_TEXT,   /* const char * */
    LA_ROW_FIELD_JSON,   /* const char * to JSON text */
    LA_ROW_FIELD_LABEL,  /* la_label */
    LA_ROW_FIELD_SET, /* const double * to [C]: the classes whose probability is above one half */
    LA_ROW_FIELD_SET_NAMES /* likewise, their names */
} la_row_field_type;

/* Numbers of a field are finite, and: */
typedef enum la_field_range {
    LA_RANGE_ANY,
    LA_RANGE_NOT_NEGATIVE,
    LA_RANGE_POSITIVE,
    LA_RANGE_SHARE,       /* 0 to 1 */
    LA_RANGE_DISTRIBUTION /* likewise, and they add up to 1 */
} la_field_range;

/* A field without a value is an error, null, or left out. */
typedef enum la_field_absence {
    LA_MISSING_REFUSED,
    LA_MISSING_NULL,
    LA_MISSING_OMITTED
} la_field_absence;

/* Array that the reader puts a field in: the model's values, or those of the MAP model. */
typedef enum la_field_into { LA_INTO_NOTHING, LA_INTO_VALUES, LA_INTO_MAP } la_field_into;

typedef struct la_row_field {
    const char *name;
    la_row_field_type type;
    size_t offset; /* in la_row_values */
    la_field_range range;
    la_field_absence missing;
    int64_t length;
    size_t flag;         /* in la_row_shape, of files whose rows may have the field; 0: of all */
    const char *column;  /* stem of the columns of a vector or matrix in a table; NULL: name */
    const char *same_as; /* left out where it equals that field, and then read from there */
    bool derived;        /* checked after the fields that it is computed from */
    bool of_line;        /* the line's, not one of its predictions', where they are nested */
    bool of_error;       /* a prediction's, and that of a row with an error too */
    la_field_into into;
    int64_t at; /* index of a number in the array */
} la_row_field;

/* An answer as a person who looks for mistakes sees it. */
typedef struct la_look {
    double certainty; /* answers of low certainty are looked at first */
    double shown;     /* the certainty in the kind's own terms */
    double mistake;   /* weight of the mistake; NaN: right, or without a label */
    int64_t class;    /* the predicted one; -1: an answer is not one class */
} la_look;

/* Words for the looks of a kind. */
typedef struct la_look_words {
    const char *shown; /* name of that number */
    const char *uncertain, *wrong;
} la_look_words;

struct la_row_kind {
    const la_likelihood *likelihood;
    const la_metric_set *metrics;
    const la_row_field *fields;
    int n_fields;
    /* Names of the fields without which a row cannot be measured, for messages. */
    const char *values_field, *map_field;
    int64_t width; /* numbers a row that metrics read; 0: one for each class */
    /* Fills what follows from the row and its prediction; NULL: nothing. */
    void (*derive)(la_row_values *values);
    /* values: of one row; label may be missing. */
    la_look (*look)(const double *values, int64_t n_classes, la_label label);
    la_look_words words;
    /* True of a row of a file that is of this kind. */
    bool (*is)(const la_prediction_entry *row);
    const char *mismatch; /* message about a row that is not, behind one that is; NULL: none */
};

#define LA_ROW_KIND(name) extern const la_row_kind la_##name##_rows;
#include "output/row_kinds.def"
#undef LA_ROW_KIND

enum {
#define LA_ROW_KIND(name) LA_ROW_KIND_NUMBER_##name,
#include "output/row_kinds.def"
#undef LA_ROW_KIND
    LA_ROW_KINDS
};
extern const la_row_kind *const la_row_kinds[LA_ROW_KINDS];

/* Fields of every kind, before those of the kind and behind them. */
typedef struct la_row_field_list {
    const la_row_field *fields;
    int n;
} la_row_field_list;
enum { LA_ROW_FIELD_LISTS = 3 };
void la_row_kind_fields(const la_row_kind *kind, la_row_field_list lists[LA_ROW_FIELD_LISTS]);

void la_row_values_fill(const la_prediction_row *row, la_row_values *values);
/* LA_NUMERICAL for a value that is missing or out of its field's range. */
la_status la_row_values_check(const la_row_values *values, la_error *err);

/* ---- values, for the formats ---- */

double la_field_number(const la_row_values *values, const la_row_field *field);
int64_t la_field_index(const la_row_values *values, const la_row_field *field);
const void *la_field_pointer(const la_row_values *values, const la_row_field *field);
la_label la_field_label(const la_row_values *values, const la_row_field *field);
/* Numbers of a vector or matrix. */
int64_t la_field_length(const la_row_shape *shape, const la_row_field *field);
bool la_field_missing(const la_row_values *values, const la_row_field *field);
void la_number_write(FILE *stream, double number);
/* A value of any type as JSON. */
la_status la_json_value_write(FILE *stream, const la_row_values *values, const la_row_field *field,
                              la_error *err);

static const double LA_SUM_TOLERANCE = 1e-6; /* largest distance of a distribution's sum from 1 */

#endif
