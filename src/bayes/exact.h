/* The structure of joint kinds: H over all blocks together, by its largest eigenpairs. */
#ifndef LA_BAYES_EXACT_H
#define LA_BAYES_EXACT_H

#include "bayes/structure.h"

/* The rank largest eigenpairs. Eigenvalues left out count as 0. */
typedef struct la_directions {
    int64_t rank, width; /* width: all parameters, block by block, each laid out as in jacobian.h */
    double *values;      /* [rank], descending, > 0 */
    float *vectors;      /* [rank, width] */
    double trace; /* of H, with what is left out; 0: not known, of a posterior that was read */
} la_directions;

static inline la_directions *la_exact_directions(const la_posterior *posterior) {
    return posterior->structure;
}

/* Columns of the blocks' first parameters, [n], from malloc. */
int64_t *la_blocks_offsets(const la_blocks *blocks, la_error *err);

/* exact_join.c: the kinds' join. */
la_status la_exact_join(la_backend *be, const la_restored *restored, la_posterior *posterior,
                        la_error *err);

extern const la_fit_kind la_exact_fit;
extern const la_covariance_kind la_exact_covariance;

#endif
