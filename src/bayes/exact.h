/* The structure of joint kinds: H over all blocks together, by its largest eigenpairs. */
#ifndef LA_BAYES_EXACT_H
#define LA_BAYES_EXACT_H

#include "bayes/structure.h"

/* Columns of the blocks' first parameters, [n], from malloc. */
int64_t *la_blocks_offsets(const la_blocks *blocks, la_error *err);

extern const la_fit_kind la_exact_fit;
extern const la_covariance_kind la_exact_covariance;

#endif
