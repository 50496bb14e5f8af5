/* All methods on the same rows: shared forward and backward passes, one table. */
#ifndef LA_PIPELINE_COMPARE_H
#define LA_PIPELINE_COMPARE_H

#include "output/comparison.h"
#include "pipeline/row_set.h"

typedef struct la_compare_options {
    la_run_options run;
    const char *base;
    const char *const *adapters; /* [n_adapters] the first is the model, all of them the ensemble */
    int n_adapters;
    const char *calib, *test;
    const char
        *val; /* held-out rows for what is fitted to some; NULL: those methods are left out */
    const char *ood;        /* rows of other data, labels not needed; NULL: none */
    const char *methods;    /* names, separated by commas; NULL: all that are cheap enough */
    la_curvature curvature; /* that the guard stands over */
    la_kron kron;
    const char *choices, *choice_ids, *template_path; /* as for a fit */
    int64_t samples;                                  /* Monte Carlo draws */
    uint64_t seed;
} la_compare_options;

/* The caller frees comparison->rows. */
la_status la_compare(const la_compare_options *options, la_comparison *comparison, la_error *err);

#endif
