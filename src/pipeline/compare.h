/* All methods on the same rows: shared forward and backward passes, one table. */
#ifndef LA_PIPELINE_COMPARE_H
#define LA_PIPELINE_COMPARE_H

#include "output/comparison.h"
#include "pipeline/row_set.h"

typedef enum la_compare_method {
    LA_COMPARE_MAP,
    LA_COMPARE_TEMPERATURE,
    LA_COMPARE_VECTOR,
    LA_COMPARE_KRON,
    LA_COMPARE_EKFAC,
    LA_COMPARE_DIAG,
    LA_COMPARE_LAST_LAYER,
    LA_COMPARE_EXACT,
    LA_COMPARE_GUARD,
    LA_COMPARE_TFB,
    LA_COMPARE_ENSEMBLE,
    LA_COMPARE_ENERGY,
    LA_COMPARE_ENTROPY,
    LA_COMPARE_MAHALANOBIS,
    LA_COMPARE_ADUE,
    LA_COMPARE_METHODS
} la_compare_method;
extern const char *const la_compare_methods[LA_COMPARE_METHODS];
#define LA_COMPARE_BIT(method) ((uint64_t)1 << (method))

typedef struct la_compare_options {
    la_run_options run;
    const char *base;
    const char *const *adapters; /* [n_adapters] the first is the model, all of them the ensemble */
    int n_adapters;
    const char *calib, *test;
    const char
        *val; /* held-out rows for what is fitted to some; NULL: those methods are left out */
    const char *ood;        /* rows of other data, labels not needed; NULL: none */
    uint64_t methods;       /* LA_COMPARE_BIT of each; 0: all that are cheap enough */
    la_curvature curvature; /* that the guard stands over */
    la_kron kron;
    const char *choices, *choice_ids, *template_path; /* as for a fit */
    int64_t samples;                                  /* Monte Carlo draws */
    uint64_t seed;
} la_compare_options;

/* The caller frees comparison->rows. */
la_status la_compare(const la_compare_options *options, la_comparison *comparison, la_error *err);

#endif
