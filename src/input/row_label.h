/* The class that a row's label means, however the tool that wrote the file puts it: 1, 1.0, "1.0",
 * true, a class name, or one of the ways to leave a cell empty. */
#ifndef LA_INPUT_ROW_LABEL_H
#define LA_INPUT_ROW_LABEL_H

#include "input/rows.h"

/* What numbers mean. It matters where class names are numbers and not those of their classes, as in
 * a model of one to five stars. */
typedef enum la_label_reading {
    LA_LABEL_UNDECIDED,
    LA_LABEL_EITHER, /* names and numbers do not contradict each other */
    LA_LABEL_NAMES,  /* a number is the name of a class */
    LA_LABEL_CLASSES /* a number counts classes from 0 */
} la_label_reading;

/* Decides for all of a file, by looking at its labels where names and numbers differ: labels that
 * only one reading knows decide; else they are names. Tells the log what it took. path "-":
 * names. */
la_status la_label_reading_find(const char *path, const la_row_fields *fields,
                                const la_labels *labels, int64_t n_classes, la_label_reading *out,
                                la_error *err);
/* Class of a row. -1 when it has no label: absent, null, -1, an empty cell, or what tables write
 * for a missing value (nan, NA, None, ...) and no class is called. */
la_status la_row_label(const la_row_reader *reader, const la_row *row, const la_labels *labels,
                       int64_t n_classes, la_label_reading reading, int64_t *label, la_error *err);
/* Label of a row for a regression: a finite number, or a string that is one. NaN when the row has
 * none (absent, null, or an empty or missing cell). */
la_status la_row_target(const la_row_reader *reader, const la_row *row, double *target,
                        la_error *err);

#endif
