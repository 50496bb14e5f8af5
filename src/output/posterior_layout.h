/* What the writer and the reader of posterior files share: names, versions, bounds, and what a file
 * of each curvature holds. The fields: posterior_fields.h. */
#ifndef LA_OUTPUT_POSTERIOR_LAYOUT_H
#define LA_OUTPUT_POSTERIOR_LAYOUT_H

#include "output/hdf5_subset.h"
#include "output/posterior_file.h"

#include <stdbool.h>
#include <stdio.h>

#define LA_POSTERIOR_FORMAT "laplora.posterior"
enum {
    LA_SCHEMA_MAJOR = 1,
    LA_SCHEMA_MINOR = 4,
    LA_SEAL_BYTES = 512, /* the block in front */
    LA_BLOCKS_MOST = 100000,
    LA_CLASSES_MOST = 1 << 20,
    LA_SIDE_MOST = 1 << 24 /* of a block */
};

/* Groups. A block or an input is named by its number. */
#define LA_GROUP_LABELS "labels"
#define LA_GROUP_INPUTS "inputs"
#define LA_GROUP_BLOCKS "blocks"
#define LA_GROUP_DIRECTIONS "directions"
#define LA_GROUP_CHOICE "choice"
#define LA_GROUP_SETTINGS "settings" /* in the choice; since schema 1.4 */
#define LA_GROUP_ADUE "adue"

static inline bool la_has_factors(la_curvature curvature) {
    return curvature == LA_CURVATURE_KRON || curvature == LA_CURVATURE_EKFAC;
}
static inline bool la_has_spectra(la_curvature curvature) {
    return curvature == LA_CURVATURE_DIAG || curvature == LA_CURVATURE_EKFAC;
}

/* posterior_seal.c: writes the block in front of a file that is open to read and write; path is for
 * messages */
la_status la_posterior_seal_stream(FILE *stream, const char *path, la_error *err);
/* whether the block in front agrees with what follows it */
la_status la_posterior_check_seal(la_h5_file *file);

#endif
