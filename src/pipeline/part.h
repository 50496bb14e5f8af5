/* Fits of a part of the rows, which end with a file of their sums: fit --shard. */
#ifndef LA_PIPELINE_PART_H
#define LA_PIPELINE_PART_H

#include "pipeline/fit.h"
#include "pipeline/part_number.h"

typedef struct la_part_fit {
    const char *out, *basis; /* basis: of la_fit_options */
    la_part_number part;
    /* set when the file is written */
    int64_t n_rows, n_all, n_tokens;
    double log_likelihood;
} la_part_fit;

/* A carrier that writes the sums and ends the fit. LA_UNSUPPORTED where the structure has no sums
 * that add up. */
la_carrier la_part_carrier(la_part_fit *fit);

#endif
