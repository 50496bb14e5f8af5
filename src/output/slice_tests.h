/* Tests of slices of rows: of too much or too little confidence, and of more errors. Against the
 * rest, exact and conditional: of rows whose confidence is about the same, those of a slice are a
 * draw without replacement if the slice does not matter, so that the number of its misses is a sum
 * of hypergeometric counts (the exact form of the test of Cochran, Mantel and Haenszel). And
 * against the slice's own confidences: if they are right, its misses are a sum of trials of these
 * probabilities. A slice has too much confidence where both tests say so; the value is the larger
 * one, which is valid where either is nothing. Small slices are judged by their own, wide
 * distribution, and Holm's steps take the number of tests into account: slices among which none
 * differs are flagged at all with a probability of at most 5 %. */
#ifndef LA_OUTPUT_SLICE_TESTS_H
#define LA_OUTPUT_SLICE_TESTS_H

#include "base/error.h"
#include "output/metrics.h"

typedef enum la_slice_flag {
    LA_SLICE_MORE_ERRORS,
    LA_SLICE_OVER_CONFIDENT,
    LA_SLICE_UNDER_CONFIDENT,
    LA_SLICE_FLAGS
} la_slice_flag;
extern const char *const la_slice_flag_names[LA_SLICE_FLAGS];

#define LA_SLICE_LEVEL 0.05

/* slice[n]: number of the slice that a row is in, -1: in none. p[n_slices, LA_SLICE_FLAGS]: values
 * of the one-sided tests, each by itself: more errors than the rest has, and more or fewer misses
 * than its confidences say and than the rest has at the same confidence. 1 where the slice is all
 * rows. */
la_status la_slice_tests(int64_t n, const la_row_outcome *outcomes, const int32_t *slice,
                         int n_slices, double *p, la_error *err);

#endif
