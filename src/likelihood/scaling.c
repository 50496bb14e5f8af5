#include "likelihood/scaling.h"
#include "base/blas.h"
#include "base/memory.h"
#include "likelihood/softmax_sum.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_TEMPERATURE = 1e-2, MOST_TEMPERATURE = 1e2;
static const double RIDGE = 1e-6;

typedef struct row_set {
    int64_t n, n_classes;
    const float *logits;
    const int64_t *labels;
} row_set;

static la_status check(const row_set *rows, la_error *err) {
    if (rows->n_classes < 2)
        return la_fail(err, LA_BAD_INPUT, "logits: %lld classes, expected at least 2",
                       (long long)rows->n_classes);
    return la_rows_check("logits", rows->n, rows->n_classes, rows->logits, rows->n_classes,
                         rows->labels, err);
}

/* d NLL / d a at a = 1/T, summed over rows: E_p f - f_y. *curvature is its derivative, Var_p f. */
static double slope(const row_set *rows, double a, double *p, double *curvature) {
    int64_t n_classes = rows->n_classes;
    double first = 0, second = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        const float *f = rows->logits + i * n_classes;
        double own = (double)f[rows->labels[i]], mean = 0;
        for (int64_t c = 0; c < n_classes; c++)
            p[c] = a * ((double)f[c] - own);
        la_softmax(n_classes, p);
        for (int64_t c = 0; c < n_classes; c++)
            mean += p[c] * ((double)f[c] - own);
        for (int64_t c = 0; c < n_classes; c++) {
            double from_mean = (double)f[c] - own - mean;
            second += p[c] * from_mean * from_mean;
        }
        first += mean;
    }
    *curvature = second;
    return first;
}

/* The root of the slope over s = log a = -log T, between lo and hi, where it has another sign:
 * Newton, and bisection where Newton leaves the bracket or does not halve its step. */
static double root(const row_set *rows, double lo, double hi, double *p) {
    double s = 0, before = hi - lo;
    for (int iteration = 0; iteration < 200; iteration++) {
        double curvature, value = slope(rows, exp(s), p, &curvature);
        if (value == 0)
            break;
        *(value < 0 ? &lo : &hi) = s;
        double next = s - value / (exp(s) * curvature);
        /* written so that a NaN bisects too */
        if (!(next > lo && next < hi && fabs(next - s) <= 0.5 * fabs(before)))
            next = 0.5 * (lo + hi);
        before = next - s;
        s = next;
        if (fabs(before) < 1e-15)
            break;
    }
    return s;
}

la_status la_temperature_scaling_fit(int64_t n, int64_t n_classes, const float *logits,
                                     const int64_t *labels, double *temperature, la_error *err) {
    row_set rows = {n, n_classes, logits, labels};
    LA_TRY(check(&rows, err));
    double *p = la_alloc((size_t)n_classes, sizeof *p, err), unused;
    if (!p)
        return err->status;
    double sharpest = slope(&rows, 1 / LEAST_TEMPERATURE, p, &unused);
    double flattest = slope(&rows, 1 / MOST_TEMPERATURE, p, &unused);
    if (sharpest == 0 && flattest == 0)
        *temperature = 1;
    else if (sharpest <= 0)
        *temperature = LEAST_TEMPERATURE;
    else if (flattest >= 0)
        *temperature = MOST_TEMPERATURE;
    else
        *temperature = exp(-root(&rows, -log(MOST_TEMPERATURE), -log(LEAST_TEMPERATURE), p));
    free(p);
    return LA_OK;
}

void la_temperature_scaling_apply(int64_t n_classes, double temperature, const float *logits,
                                  double *probs) {
    for (int64_t c = 0; c < n_classes; c++)
        probs[c] = (double)logits[c] / temperature;
    la_softmax(n_classes, probs);
}

void la_vector_scaling_apply(int64_t n_classes, const double *scale, const double *bias,
                             const float *logits, double *probs) {
    for (int64_t c = 0; c < n_classes; c++)
        probs[c] = scale[c] * (double)logits[c] + bias[c];
    la_softmax(n_classes, probs);
}

/* Adds the row's lower triangle of the Hessian over (scale, bias): (diag(p) - p p^T) in (f, 1). */
static void add_hessian(int64_t n_classes, const float *f, const double *p, double *hessian) {
    int64_t size = 2 * n_classes;
    for (int64_t c = 0; c < n_classes; c++) {
        double *of_scale = hessian + c * size, *of_bias = hessian + (n_classes + c) * size;
        for (int64_t d = 0; d < n_classes; d++) {
            double both = p[c] * ((c == d ? 1 : 0) - p[d]), by_scale = both * (double)f[d];
            of_bias[d] += by_scale;
            if (d <= c) {
                of_scale[d] += by_scale * (double)f[c];
                of_bias[n_classes + d] += both;
            }
        }
    }
}

/* The objective at theta[2C] = (scale, bias); its gradient[2C] and hessian[2C, 2C] (lower) unless
 * NULL. p[C] is workspace. */
static double evaluate(const row_set *rows, const double *theta, double *p, double *gradient,
                       double *hessian) {
    int64_t n_classes = rows->n_classes, size = 2 * n_classes;
    double nll = 0, penalty = 0, share = 1 / (double)rows->n;
    if (gradient) {
        memset(gradient, 0, (size_t)size * sizeof *gradient);
        memset(hessian, 0, (size_t)(size * size) * sizeof *hessian);
    }
    for (int64_t i = 0; i < rows->n; i++) {
        const float *f = rows->logits + i * n_classes;
        int64_t label = rows->labels[i];
        for (int64_t c = 0; c < n_classes; c++)
            p[c] = theta[c] * (double)f[c] + theta[n_classes + c];
        double own = p[label];
        nll += la_softmax(n_classes, p).log_sum - own;
        if (!gradient)
            continue;
        for (int64_t c = 0; c < n_classes; c++) {
            double residual = p[c] - (c == label ? 1 : 0);
            gradient[c] += residual * (double)f[c];
            gradient[n_classes + c] += residual;
        }
        add_hessian(n_classes, f, p, hessian);
    }
    for (int64_t k = 0; k < size; k++) {
        double from_identity = theta[k] - (k < n_classes ? 1 : 0);
        penalty += 0.5 * RIDGE * from_identity * from_identity;
        if (!gradient)
            continue;
        gradient[k] = gradient[k] * share + RIDGE * from_identity;
        for (int64_t l = 0; l <= k; l++)
            hessian[k * size + l] *= share;
        hessian[k * size + k] += RIDGE;
    }
    return nll * share + penalty;
}

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

/* Newton's method with backtracking (Armijo). memory: 2 (2C)^2 + 4 (2C). */
static la_status minimise(const row_set *rows, double *theta, double *memory, la_error *err) {
    int64_t size = 2 * rows->n_classes;
    double *hessian = memory, *factor = hessian + size * size, *gradient = factor + size * size;
    double *step = gradient + size, *trial = step + size, *p = trial + size;
    double before = INFINITY;
    for (int iteration = 0; iteration < 200; iteration++) {
        double value = evaluate(rows, theta, p, gradient, hessian), decrement = 0, length = 1, gain;
        if (!newton_step(size, hessian, gradient, factor, step))
            break;
        for (int64_t k = 0; k < size; k++)
            decrement -= gradient[k] * step[k];
        /* so near the minimum the objective hardly resolves a step: steps are taken as they are
         * until rounding stops them */
        bool near = decrement < 1e-11;
        for (;; length *= 0.5) {
            for (int64_t k = 0; k < size; k++)
                trial[k] = theta[k] + length * step[k];
            gain = value - evaluate(rows, trial, p, NULL, NULL);
            if (near || gain >= 1e-4 * length * decrement || length < 1e-12)
                break;
        }
        if (near && (decrement > 0.5 * before || gain < -1e-11))
            return LA_OK;
        if (!near && length < 1e-12)
            break;
        memcpy(theta, trial, (size_t)size * sizeof *theta);
        before = near ? decrement : INFINITY;
        if (decrement < 1e-26)
            return LA_OK;
    }
    return la_fail(err, LA_NUMERICAL,
                   "vector scaling: no minimum found over %lld rows, %lld classes",
                   (long long)rows->n, (long long)rows->n_classes);
}

la_status la_vector_scaling_fit(int64_t n, int64_t n_classes, const float *logits,
                                const int64_t *labels, double *scale, double *bias, la_error *err) {
    row_set rows = {n, n_classes, logits, labels};
    LA_TRY(check(&rows, err));
    size_t size = 2 * (size_t)n_classes;
    double *memory = la_alloc(2 * size * size + 5 * size, sizeof *memory, err);
    if (!memory)
        return err->status;
    double *theta = memory, mean = 0, largest = 1;
    for (int64_t k = 0; k < n * n_classes; k++)
        largest = fmax(largest, fabs((double)logits[k]));
    /* from where softmax moves: Newton's steps are of no use among saturated rows */
    for (int64_t c = 0; c < n_classes; c++)
        theta[c] = 1 / largest;
    la_status status = minimise(&rows, theta, memory + size, err);
    for (int64_t c = 0; c < n_classes; c++)
        mean += theta[n_classes + c] / (double)n_classes;
    for (int64_t c = 0; status == LA_OK && c < n_classes; c++) {
        scale[c] = theta[c];
        bias[c] = theta[n_classes + c] - mean;
    }
    free(memory);
    return status;
}
