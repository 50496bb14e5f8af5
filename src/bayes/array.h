/* Named arrays on their way to or from a file or memory. */
#ifndef LA_BAYES_ARRAY_H
#define LA_BAYES_ARRAY_H

#include "base/error.h"

#include <stdint.h>

typedef struct la_array {
    const char *name;
    int64_t rows, cols;
    double *data; /* [rows, cols] */
} la_array;

/* Reads the array's data, or changes them: sets them to those of the array of that name and shape,
 * adds those of other parts, ... */
typedef struct la_array_visitor {
    la_status (*visit)(void *user, const la_array *array, la_error *err);
    void *user;
} la_array_visitor;

#endif
