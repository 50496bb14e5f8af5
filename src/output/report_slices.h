/* Slices of a report: the labelled rows by the value of a field, each with its own metrics. */
#ifndef LA_OUTPUT_REPORT_SLICES_H
#define LA_OUTPUT_REPORT_SLICES_H

#include "base/team.h"
#include "output/prediction_rows.h"
#include "output/slice_tests.h"

enum { LA_SLICES_MOST = 100 }; /* values of a field that are shown, the most frequent */

typedef struct la_slice {
    int field;         /* number in fields */
    const char *value; /* as text; of rows without one, text that no row has */
    int64_t n;
    la_metrics metrics;
    la_interval intervals[LA_METRICS_MAX];
    double p[LA_SLICE_FLAGS]; /* by Holm over all tests of the report */
    bool flagged[LA_SLICE_FLAGS];
} la_slice;

typedef struct la_slice_field {
    const char *name;      /* borrowed */
    char *shown, none[24]; /* the name fit to be shown; value of rows without one */
    json_t *codes;         /* numbers of the values, by their text */
    int32_t *code;         /* [n] of labelled rows; -1: no value */
    size_t n, capacity;
    bool found;                  /* in any row */
    int64_t n_more, n_more_rows; /* values that are not shown, and their rows */
} la_slice_field;

typedef struct la_report_slices {
    la_slice_field *fields; /* [n_fields] */
    int n_fields;
    la_slice *list; /* [n] field by field, the largest first */
    int n;
} la_report_slices;

/* LA_USAGE for a name given twice. names are borrowed. Free with la_report_slices_free. */
la_status la_report_slices_open(const char *const *names, int n, la_report_slices *slices,
                                la_error *err);
void la_report_slices_free(la_report_slices *slices);
/* Notes the values of a prediction: keys of "fields", else of the row. number: as
 * la_prediction_watch has it. */
la_status la_report_slices_see(la_report_slices *slices, const la_prediction_entry *entry,
                               int64_t number, la_error *err);
/* Measures and tests them. LA_BAD_INPUT for a field that no row has; file is for messages. */
la_status la_report_slices_measure(la_report_slices *slices, la_team team, const char *file,
                                   const la_predictions *predictions, int64_t resamples,
                                   uint64_t seed, la_error *err);

/* ---- for the formats ---- */

/* The two metrics of slices that tables show. */
void la_slice_columns(const la_metric_set *set, int columns[2]);
enum { LA_SLICE_TEXT = 96 };
/* Beginning of a slice's value, fit to be shown. */
void la_slice_value_show(const la_slice *slice, char out[LA_SLICE_TEXT]);
/* "more_errors (p 0.001), ..."; "" without flags. */
void la_slice_flags_show(const la_slice *slice, char out[LA_SLICE_TEXT]);
/* "3 more values, 12 rows"; "" when there are none. */
void la_slice_more_show(const la_slice_field *field, char out[LA_SLICE_TEXT]);

#endif
