/* Newton's method with backtracking, for the smooth and mostly convex objectives of scaling and
 * correction: few numbers, sums over rows. */
#ifndef LA_LIKELIHOOD_NEWTON_H
#define LA_LIKELIHOOD_NEWTON_H

#include <stdbool.h>
#include <stdint.h>

typedef struct la_objective {
    int64_t size;
    /* The objective at theta[size], about 1 in size, as a mean over rows is; its gradient[size] and
     * positive definite hessian[size, size] (lower) unless NULL. */
    double (*value)(void *user, const double *theta, double *gradient, double *hessian);
    void *user;
} la_objective;

/* Doubles of workspace. */
static inline int64_t la_newton_doubles(int64_t size) {
    return 2 * size * size + 3 * size;
}

/* theta[size], the start, becomes the minimum. False: none was found. */
bool la_newton_minimise(const la_objective *objective, double *theta, double *workspace);

#endif
