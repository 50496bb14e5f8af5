/* Distance of a state to the classes' Gaussians with one shared covariance (Lee, Lee, Lee, Shin,
 * arXiv 1807.03888, equations 1 and 2, on one layer, without input preprocessing), and the same
 * less the distance to one Gaussian over all rows (Ren et al., arXiv 2106.09022, equation 3).
 * Distances are squared and have no unit; larger means further from the fitted rows.
 *
 * Covariances are shrunk, (1 - r) S + r (tr S / d) I, so that fewer rows than dimensions are no
 * obstacle; r is the oracle approximating shrinkage (Chen, Wiesel, Eldar, Hero, arXiv 0907.4698,
 * equation 23, without its terms in 2/d, as scikit-learn has it), which is never 0. Where states do
 * not vary at all, the covariance is the identity.
 *
 * Results do not depend on the number of threads. Errors: LA_BAD_INPUT for no rows, states that are
 * not finite or labels outside [0, n_classes); LA_RESOURCE; LA_NUMERICAL for a covariance without a
 * Cholesky factor. */
#ifndef LA_BASELINES_MAHALANOBIS_H
#define LA_BASELINES_MAHALANOBIS_H

#include "base/team.h"

#include <stdbool.h>

typedef struct la_mahalanobis {
    int64_t n_classes, width;           /* C, d */
    int64_t *count;                     /* [C] rows of a class; a class without rows is left out */
    double *centre;                     /* [d] the mean of all rows */
    double *means;                      /* [C, d] L^-1 (class mean - centre) */
    double *factor;                     /* [d, d] L, lower: L L^T is the shared covariance */
    double *global_factor;              /* [d, d] the same of the Gaussian over all rows */
    double shrinkage, global_shrinkage; /* r */
} la_mahalanobis;

/* r of a d x d covariance of n rows, by its trace and that of its square. */
double la_shrinkage(int64_t n, int64_t d, double trace, double square);

/* states[n, d], labels[n]. Holds 2 d^2 doubles; free with la_mahalanobis_free, which is also
 * allowed after an error. */
la_status la_mahalanobis_fit(la_team team, int64_t n, int64_t width, int64_t n_classes,
                             const float *states, const int64_t *labels, la_mahalanobis *out,
                             la_error *err);
void la_mahalanobis_free(la_mahalanobis *m);

/* states[n, d] to scores[n]: the least squared distance to a class; relative: less the squared
 * distance to the Gaussian over all rows, which may be negative. */
la_status la_mahalanobis_score(la_team team, const la_mahalanobis *m, bool relative, int64_t n,
                               const float *states, double *scores, la_error *err);

#endif
