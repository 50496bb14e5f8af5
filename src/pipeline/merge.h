/* Posterior from files of parts: `laplora merge`. */
#ifndef LA_PIPELINE_MERGE_H
#define LA_PIPELINE_MERGE_H

#include "pipeline/fit.h"

typedef struct la_merge_options {
    const char *const *parts; /* [n_parts] paths, in any order */
    int64_t n_parts;
    /* What fit takes for prior, selection and guard; base and adapter NULL: where the parts say; of
     * data: fit.h. What the parts know of curvature and rows is theirs. */
    la_fit_options fit;
} la_merge_options;

/* The posterior of all rows, written to options->fit.out: that of one fit over them, to rounding.
 * Parts are read one after another in the order of their numbers, so that it is the same bytes
 * whatever order they are given in, and memory that of one fit and one of their sums. LA_MISMATCH,
 * with its name, for a part that is missing, given twice or of another fit. */
la_status la_merge(const la_merge_options *options, la_fit_summary **summary, la_error *err);

#endif
