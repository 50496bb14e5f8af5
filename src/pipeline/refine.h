/* A round of training: the old posterior is the prior, its mean moves, and what comes out is an
 * adapter's folder and a posterior of it. BH-PEFT, arXiv 2508.02711, section 3.3: the posterior of
 * a round is the prior of the next; the training is IVON's (bayes/ivon.h). */
#ifndef LA_PIPELINE_REFINE_H
#define LA_PIPELINE_REFINE_H

#include "pipeline/refine_train.h"

typedef struct la_refine_options {
    la_run_options run;
    const char *posterior;      /* the old one */
    const char *base, *adapter; /* NULL: those that it was fitted with */
    const char *data, *val;     /* new rows; held-out rows, or NULL */
    const char *out, *out_adapter;
    la_refine_settings settings;
} la_refine_options;

typedef struct la_refine_summary {
    int64_t n_rows, n_held_out, n_parameters, steps, epochs, epoch;
    double rate, nll_before, nll_after, kl, temper;
    double *elbo; /* [epochs], or NULL; owned */
    double seconds;
    int threads;
} la_refine_summary;

/* Free *summary with la_refine_summary_free. */
la_status la_refine(const la_refine_options *options, la_refine_summary *summary, la_error *err);
void la_refine_summary_free(la_refine_summary *summary);

#endif
