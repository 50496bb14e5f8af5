/* Principal directions of states about means: eigenpairs of 1/n sum_i z_i z_i^T, z_i a row's state
 * less the mean of its group, by the smaller of covariance and Gram matrix. */
#ifndef LA_BASELINES_PRINCIPAL_H
#define LA_BASELINES_PRINCIPAL_H

#include "base/error.h"
#include "base/team.h"

#include <stdint.h>

typedef struct la_principal {
    int64_t n, width;     /* rows, d */
    const float *states;  /* [.., d] */
    const int64_t *list;  /* [n] which of them are rows; NULL: the first n */
    const int64_t *group; /* [n] of each row; NULL: 0 */
    const float *means;   /* [groups, d] */
    double *values;       /* [min(n, d)] eigenvalues, descending */
    double *x, *vectors;  /* of la_principal_find, for la_principal_take */
} la_principal;

/* Fills values. Free with la_principal_free (also after an error). LA_NUMERICAL where the
 * eigenpairs are not found; LA_RESOURCE. */
la_status la_principal_find(la_team team, la_principal *principal, la_error *err);
/* directions[k, d] of length 1, those of the k largest values, which are above 0. */
la_status la_principal_take(la_team team, const la_principal *principal, int64_t k,
                            float *directions, la_error *err);
void la_principal_free(la_principal *principal);

#endif
