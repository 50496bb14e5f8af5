/* All methods on the same rows: shared forward and backward passes, one table. */
#ifndef LA_PIPELINE_COMPARE_H
#define LA_PIPELINE_COMPARE_H

#include "bayes/posterior.h"
#include "output/comparison.h"
#include "pipeline/row_set.h"

/* Needs of a method besides the model and calibration rows. */
enum {
    LA_NEEDS_HELD_OUT = 1,
    LA_NEEDS_ADAPTERS = 2,     /* several */
    LA_NEEDS_TRAINED_HEAD = 4, /* and is of its last layer alone */
    LA_NEEDS_LORA = 8,
    LA_NEEDS_STATES = 16 /* of calibration rows, that the head's last layer reads */
};
/* Options that a method reads. */
enum { LA_READS_CURVATURE = 1, LA_READS_KRON = 2, LA_READS_ADAPTERS = 4 };

struct la_comparing;

/* A row of the table, or several. */
typedef struct la_compare_kind {
    const char *name;
    unsigned needs, reads;
    bool scores; /* it ranks rows by a score, and has no probabilities */
    const struct la_structure_kind *structure; /* whose posterior it is, and which has needs of its
                                                  own; NULL: of none */
    /* Fits it, predicts the rows, adds the rows of the table. */
    la_status (*run)(struct la_comparing *c, const struct la_compare_kind *kind, la_error *err);
} la_compare_kind;

/* In the order of the table's rows. */
enum { LA_COMPARE_METHODS = 12 + LA_CURVATURES_FITTED };
extern const la_compare_kind la_compare_kinds[LA_COMPARE_METHODS];

/* Options that are read by methods of that set of bits; 0: all methods. */
unsigned la_compare_reads(uint64_t methods);

typedef struct la_compare_options {
    la_run_options run;
    const char *base;
    const char *const *adapters; /* [n_adapters] the first is the model, all of them the ensemble */
    int n_adapters;
    const char *calib, *test;
    const char
        *val; /* held-out rows for what is fitted to some; NULL: those methods are left out */
    const char *ood;        /* rows of other data, labels not needed; NULL: none */
    uint64_t methods;       /* bits of places in la_compare_kinds; 0: all that are cheap enough */
    la_curvature curvature; /* that the guard stands over */
    la_kron kron;
    const char *choices, *choice_ids, *template_path; /* as for a fit */
    int64_t samples;                                  /* Monte Carlo draws */
    uint64_t seed;
} la_compare_options;

/* The caller frees comparison->rows. */
la_status la_compare(const la_compare_options *options, la_comparison *comparison, la_error *err);

#endif
