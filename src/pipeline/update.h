/* Updating a posterior: labelled rows are added to it, with the adapter that it is of or one that
 * was trained further, or taken out of it. */
#ifndef LA_PIPELINE_UPDATE_H
#define LA_PIPELINE_UPDATE_H

#include "bayes/posterior.h"

#include <stdbool.h>

typedef struct la_update_options {
    la_run_options run;
    const char *posterior, *out;
    const char *data, *remove; /* rows to add, or to take out: one of the two */
    const char *base,
        *adapter;    /* NULL: where the posterior says; data: another adapter may be given,
                                   of the same blocks */
    const char *val; /* held-out rows; NULL: an earlier choice is kept */
    double forget;   /* the old sums count this often, in (0, 1] */
} la_update_options;

/* What became of the guard's choice. */
typedef enum la_update_choice {
    LA_CHOICE_NONE,   /* there was none */
    LA_CHOICE_NEW,    /* made anew by held-out rows */
    LA_CHOICE_KEPT,   /* that of the old posterior */
    LA_CHOICE_CLEARED /* dropped: the rows taken out had a part in it */
} la_update_choice;

typedef struct la_update_summary {
    int64_t n_rows_old, n_rows_new, n_rows_removed, n_rows, n_tokens;
    int64_t n_rows_known; /* of the new ones: are among the old ones */
    double forget;
    bool new_adapter;
    double compression_error; /* share of the curvature's trace that a --rank leaves out */
    double least_eigenvalue;  /* the most negative one of a sum, over its largest */
    double residual; /* rows taken out: estimate of what rounding leaves of them, relative */
    double distance; /* <d, (H + lambda) d> from the old adapter; NaN: it is the same */
    double log_likelihood, log_marginal_likelihood, prior_precision;
    la_prior_kind prior;
    la_update_choice choice;
    bool cleared_adue, cleared_ood, kept_adue, kept_ood;
    double seconds_load, seconds_curvature, seconds_select, seconds_save;
    const char *device, *precision;
    int threads;
} la_update_summary;

extern const char *const la_update_choice_names[];

la_status la_update(const la_update_options *options, la_update_summary *summary, la_error *err);

#endif
