/* An ensemble of adapters of one base: the mean of their probabilities. */
#ifndef LA_PIPELINE_ENSEMBLE_H
#define LA_PIPELINE_ENSEMBLE_H

#include "pipeline/row_set.h"

typedef struct la_ensemble {
    la_session *session; /* of the first adapter */
    const la_run_options *run;
    const char *base;
    const char *const *adapters;
    int n_adapters;
    const int32_t *choice_ids; /* [n_choices], or NULL */
    int64_t n_choices;
} la_ensemble;

/* probs[n, C] of both files (b may have no rows). The rows' tokens are those of the first, the same
 * base. */
la_status la_ensemble_predict(const la_ensemble *networks, const la_row_set *a, double *a_probs,
                              const la_row_set *b, double *b_probs, double *seconds_predict,
                              la_error *err);

#endif
