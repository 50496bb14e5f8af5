#include "likelihood/newton.h"
#include "base/blas.h"

#include <math.h>
#include <string.h>

/* step[size] = -hessian^-1 gradient, into the factor's memory. Where rounding has made the Hessian
 * indefinite, its diagonal is raised until it is not. False: not even then. */
static bool newton_step(int64_t size, const double *hessian, const double *gradient, double *factor,
                        double *step) {
    double largest = 0;
    for (int64_t k = 0; k < size; k++)
        largest = fmax(largest, hessian[k * size + k]);
    for (double damping = 0; damping<1; damping = damping> 0 ? 100 * damping : 1e-16) {
        memcpy(factor, hessian, (size_t)(size * size) * sizeof *factor);
        for (int64_t k = 0; k < size; k++) {
            factor[k * size + k] += damping * largest;
            step[k] = -gradient[k];
        }
        if (la_dposv(size, factor, step) == 0)
            return true;
    }
    return false;
}

/* Backtracking by Armijo's rule. */
bool la_newton_minimise(const la_objective *objective, double *theta, double *workspace) {
    int64_t size = objective->size;
    double *hessian = workspace, *factor = hessian + size * size;
    double *gradient = factor + size * size, *step = gradient + size, *trial = step + size;
    double before = INFINITY;
    for (int iteration = 0; iteration < 200; iteration++) {
        double value = objective->value(objective->user, theta, gradient, hessian);
        double decrement = 0, length = 1, gain;
        if (!newton_step(size, hessian, gradient, factor, step))
            return false;
        for (int64_t k = 0; k < size; k++)
            decrement -= gradient[k] * step[k];
        /* so near the minimum the objective hardly resolves a step: steps are taken as they are
         * until rounding stops them */
        bool near = decrement < 1e-11;
        for (;; length *= 0.5) {
            for (int64_t k = 0; k < size; k++)
                trial[k] = theta[k] + length * step[k];
            gain = value - objective->value(objective->user, trial, NULL, NULL);
            if (near || gain >= 1e-4 * length * decrement || length < 1e-12)
                break;
        }
        if (near && (decrement > 0.5 * before || gain < -1e-11))
            return true;
        if (!near && length < 1e-12)
            return false;
        memcpy(theta, trial, (size_t)size * sizeof *theta);
        before = near ? decrement : INFINITY;
        if (decrement < 1e-26)
            return true;
    }
    return false;
}
