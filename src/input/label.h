/* Label of a row as a value of the kind that the model's likelihood takes, and lists of them. */
#ifndef LA_INPUT_LABEL_H
#define LA_INPUT_LABEL_H

#include "base/digest.h"
#include "base/error.h"
#include "input/json_members.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

typedef enum la_label_kind {
    LA_LABEL_CLASS,  /* index of a class; -1: none */
    LA_LABEL_NUMBER, /* finite number; NaN: none */
    LA_LABEL_SET     /* any number of the classes; NULL: none */
} la_label_kind;

typedef struct la_label {
    la_label_kind kind;
    union {
        int64_t class;
        double number;
        const unsigned char *set; /* [C] 1: the class is in it; memory of whoever read the row */
    };
} la_label;

la_label la_label_none(la_label_kind kind);
bool la_label_is_none(la_label label);
/* Two labels of one kind, neither missing. n_classes: of sets. */
bool la_label_equal(la_label a, la_label b, int64_t n_classes);
/* Frees the set of a label that owns it. */
void la_label_free(la_label *label);
/* JSON of a label that is not missing: an index, a list of them, or a number in full, so that what
 * was read is what is written. n_classes: of a set. */
void la_label_write(FILE *stream, la_label label, int64_t n_classes);
/* Reads the field "label" of a row that was written so into a label of the kind that it has; left
 * as it is where the field is missing or null. place: "FILE:LINE", for messages. Free a set with
 * la_label_free. */
la_status la_label_of_json(const json_t *row, const char *place, int64_t n_classes, la_label *label,
                           la_error *err);
/* Likewise the value of such a field, NULL where it is missing. False for one that la_label_of_json
 * is to look at: a set, and what is no label. */
bool la_label_of_value(const la_json_value *value, int64_t n_classes, la_label *label);
/* width: C, of a set. */
void la_label_digest(la_digest *digest, la_label label, int64_t width);

/* Labels of rows, all of one kind. */
typedef struct la_label_list {
    la_label_kind kind;
    int64_t width; /* C, of sets */
    union {
        int64_t *classes;
        double *numbers;
        unsigned char *sets; /* [n, C] */
    };
} la_label_list;

/* Memory for n labels, as la_grow does: *capacity is that of the list, in labels. */
la_status la_label_list_grow(la_label_list *list, size_t *capacity, size_t n, la_error *err);
void la_label_list_set(la_label_list *list, int64_t i, la_label label);
la_label la_label_list_at(const la_label_list *list, int64_t i);
/* Number of classes that none of n labels is; of other kinds 0. */
int64_t la_label_list_absent(const la_label_list *list, int64_t n, int64_t n_classes);
/* counts[C]: labels that are each class, of n; false, and nothing counted, of other kinds. */
bool la_label_list_count(const la_label_list *list, int64_t n, int64_t n_classes, double *counts);
void la_label_list_free(la_label_list *list);

#endif
