/* What the writer and the reader of posterior files share: names, versions, and what a file of each
 * curvature holds. */
#ifndef LA_OUTPUT_POSTERIOR_LAYOUT_H
#define LA_OUTPUT_POSTERIOR_LAYOUT_H

#include "output/posterior_file.h"

#include <hdf5.h>
#include <stdbool.h>

#define LA_TASK_REGRESSION "regression" /* the task attribute; without one: classes */
#define LA_POSTERIOR_FORMAT "laplora.posterior"
enum {
    LA_SCHEMA_MAJOR = 1,
    LA_SCHEMA_MINOR = 4,
    LA_SEAL_BYTES = 512 /* the block in front */
};

/* Groups. A block or an input is named by its number. */
#define LA_GROUP_LABELS "labels"
#define LA_GROUP_INPUTS "inputs"
#define LA_GROUP_BLOCKS "blocks"
#define LA_GROUP_DIRECTIONS "directions"
#define LA_GROUP_CHOICE "choice"
#define LA_GROUP_SETTINGS "settings" /* in the choice; since schema 1.4 */
#define LA_GROUP_ADUE "adue"

/* Figures of a candidate, in the order of la_candidate. */
enum { LA_CANDIDATE_FIGURES = 6 };
static const char *const la_candidate_figures[LA_CANDIDATE_FIGURES] = {
    "prior_scale", "temperature", "nll", "accuracy", "gap", "gap_error"};

static inline bool la_has_factors(la_curvature curvature) {
    return curvature == LA_CURVATURE_KRON || curvature == LA_CURVATURE_EKFAC;
}
static inline bool la_has_spectra(la_curvature curvature) {
    return curvature == LA_CURVATURE_DIAG || curvature == LA_CURVATURE_EKFAC;
}

/* No stack of its own on stderr; and no clean-up at exit, which after a full disk tries to write
 * once more and crashes. Every file is closed by who opened it. */
static inline void la_hdf5_start(void) {
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* posterior_seal.c: whether the block in front agrees with what follows it */
la_status la_posterior_check_seal(const char *path, la_error *err);

#endif
