/* Sums over rows that a fit has seen, in f64 where the backend keeps factor sums. Those of
 * different rows add up: over devices, over parts of a calibration set, over sittings. */
#ifndef LA_BAYES_SUMS_H
#define LA_BAYES_SUMS_H

#include "backend/ops.h"
#include "bayes/array.h"

typedef struct la_sum {
    char name[48];
    int64_t rows, cols;
    double *data;
    int owner; /* 1 + the process that decomposes it (peers.h); 0: none alone */
} la_sum;

typedef struct la_sums {
    la_backend *be; /* not owned */
    la_sum *list;
    size_t n, capacity;
} la_sums;

/* Zeros [rows, cols] that belong to the sums, named name/number/part. NULL when there is no memory,
 * which the caller reports. */
double *la_sums_add(la_sums *sums, const char *name, int64_t number, const char *part, int64_t rows,
                    int64_t cols);
void la_sums_close(la_sums *sums);
/* Adds the sums of all others to the first; they are of the same blocks, each on a device of its
 * own. */
la_status la_sums_merge(la_sums *const *all, int n, la_error *err);
/* Hands copies of the sums to the visitor, one at a time; takes_back: what it leaves in them is the
 * sum from then on. */
la_status la_sums_visit(la_sums *sums, bool takes_back, const la_array_visitor *visitor,
                        la_error *err);

#endif
