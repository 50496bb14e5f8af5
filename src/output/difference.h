/* What differs between two adapters or two posteriors, and its formats. */
#ifndef LA_OUTPUT_DIFFERENCE_H
#define LA_OUTPUT_DIFFERENCE_H

#include "base/memory.h"

#include <jansson.h>

#include <stdio.h>

typedef enum la_change {
    LA_CHANGE_NONE,
    LA_CHANGE_VALUE,
    LA_CHANGE_ADDED,
    LA_CHANGE_REMOVED
} la_change;

/* A NaN is an undefined number. */
typedef struct la_block_change {
    const char *name;
    la_change change;
    double norm_a, norm_b; /* Frobenius */
    double distance, relative, distance_in_sd;
} la_block_change;

/* Answers of the same rows. */
typedef struct la_answer_changes {
    int64_t n, flips;
    int64_t right_to_wrong, wrong_to_right; /* -1: no row has a label */
    double mean_confidence_change;
    json_t *rows; /* those that flipped */
} la_answer_changes;

typedef struct la_difference {
    la_pool pool;      /* owns the names */
    const char *a, *b; /* paths, borrowed */
    const char *kind;  /* "adapter" or "posterior" */
    bool same;
    json_t *options;         /* [{"name", "a", "b"}] */
    la_block_change *blocks; /* [n_blocks] of the pool */
    int64_t n_blocks;
    bool has_answers;
    la_answer_changes answers;
} la_difference;

enum { LA_DIFFERENCE_FORMATS = 3 };
extern const char *const la_difference_formats[LA_DIFFERENCE_FORMATS]; /* text, json, markdown */

/* Write errors are left to the stream's error flag. */
la_status la_difference_write(const la_difference *difference, int format, FILE *stream,
                              la_error *err);
/* Safe on a zeroed object. */
void la_difference_free(la_difference *difference);

#endif
