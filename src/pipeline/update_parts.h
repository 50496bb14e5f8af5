/* Parts of an update (update.h). */
#ifndef LA_PIPELINE_UPDATE_PARTS_H
#define LA_PIPELINE_UPDATE_PARTS_H

#include "bayes/row_digests.h"
#include "pipeline/passes.h"
#include "pipeline/update.h"

typedef struct la_updating {
    const la_update_options *options;
    la_update_summary *summary;
    la_posterior old;
    la_session session;
    la_structure structure;
    la_template *prompt;
    la_row_set rows, held; /* rows: to add or to take out */
    double times, sign;    /* of the old sums, and of the rows' */
    bool taken_out, new_adapter;
    float *theta; /* [width] of the old adapter, where another one follows; NULL */
} la_updating;

/* True where some rows were, or are from now on, summed under an earlier adapter: the prior is
 * about it, and its precisions stay. */
static inline bool la_update_keeps_prior(const la_updating *u) {
    return u->new_adapter || u->old.earlier_rows > 0;
}
/* True where the old posterior's rows are known by its curvature alone from now on. */
static inline bool la_update_old_is_prior(const la_updating *u) {
    return u->new_adapter || (u->old.earlier_rows > 0 && u->times < 1);
}

/* ---- update_rows.c ---- */

/* Checks that the rows to be taken out are in the posterior; sets `sign` by what they count for. */
la_status la_update_find_rows(la_updating *u, la_error *err);
/* The new posterior gets digests and numbers of its rows. */
la_status la_update_keep_rows(la_updating *u, la_error *err);

/* ---- update_sums.c ---- */

/* Sums over the rows, those of the old posterior with them. */
la_status la_update_sum(la_updating *u, la_error *err);

/* ---- update_prior.c ---- */

/* Chooses prior and noise as the fit did, or keeps them; then settings by held-out rows, or the old
 * choice. */
la_status la_update_choose(la_updating *u, la_error *err);

#endif
