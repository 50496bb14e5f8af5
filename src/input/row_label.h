/* Label of a row, however the tool that wrote the file puts it: a class as 1, 1.0, "1.0", true or
 * its name, a number as 0.5 or "0.5", or one of the ways to leave a cell empty. */
#ifndef LA_INPUT_ROW_LABEL_H
#define LA_INPUT_ROW_LABEL_H

#include "input/label.h"
#include "input/rows.h"

/* Meaning of numbers as labels. It matters where class names are numbers other than the indices of
 * their classes, as in a model of one to five stars. */
typedef enum la_label_reading {
    LA_READING_UNDECIDED,
    LA_READING_EITHER, /* names and indices do not contradict each other */
    LA_READING_NAMES,  /* a number is the name of a class */
    LA_READING_INDICES /* a number counts classes from 0 */
} la_label_reading;

/* Labels that a model takes. */
typedef struct la_label_rule {
    la_label_kind kind;
    const la_labels *names; /* class names */
    int64_t n_classes;
    la_label_reading reading;
} la_label_rule;

/* Decides rule->reading for all of a file, by its labels where names and indices differ: labels
 * that only one reading knows decide; else they are names. The decision is logged. path "-":
 * names. */
la_status la_label_reading_find(const char *path, const la_row_fields *fields, la_label_rule *rule,
                                la_error *err);
/* False where la_row_label would find none. */
bool la_row_may_have_label(const la_row *row, const la_label_rule *rule);
/* Reads row->label. None of a class: absent, null, -1, an empty cell, or what tables write for a
 * missing value (nan, NA, None, ...) and no class is called. A number is finite, or a string that
 * is such a number; none: absent, null, or an empty or missing cell. A set is a list of classes, in
 * a table as JSON text, or one class alone, or a 0 or 1 for each class; its field may be "labels".
 * Free with la_label_free, also after a failure. */
la_status la_row_label(const la_row_reader *reader, const la_row *row, const la_label_rule *rule,
                       la_label *label, la_error *err);

#endif
