/* Named arrays on their way to or from a file or memory. */
#ifndef LA_BAYES_ARRAY_H
#define LA_BAYES_ARRAY_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct la_array {
    const char *name;
    int64_t rows, cols;
    double *data; /* [rows, cols] */
    int owner;    /* of a sum that one process decomposes: 1 + its rank, else 0. The others need the
                     diagonal alone */
} la_array;

/* Of one calibration row, by its name: what other rows leave behind has none of that name, and 0 is
 * what it stands for. */
#define LA_ARRAY_ROW "row/"
static inline bool la_array_is_row(const la_array *array) {
    return strstr(array->name, "/" LA_ARRAY_ROW) != NULL;
}

/* Reads the array's data, or changes them: sets them to those of the array of that name and shape,
 * adds those of other parts, ... */
typedef struct la_array_visitor {
    la_status (*visit)(void *user, const la_array *array, la_error *err);
    void *user;
} la_array_visitor;

#endif
