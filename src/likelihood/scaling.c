#include "likelihood/scaling.h"
#include "base/memory.h"
#include "likelihood/newton.h"
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

typedef struct vector_problem {
    row_set rows;
    double *p; /* [C] */
} vector_problem;

/* theta[2C] = (scale, bias) */
static double evaluate(void *user, const double *theta, double *gradient, double *hessian) {
    const vector_problem *problem = user;
    const row_set *rows = &problem->rows;
    double *p = problem->p;
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

la_status la_vector_scaling_fit(int64_t n, int64_t n_classes, const float *logits,
                                const int64_t *labels, double *scale, double *bias, la_error *err) {
    row_set rows = {n, n_classes, logits, labels};
    LA_TRY(check(&rows, err));
    int64_t size = 2 * n_classes;
    size_t doubles = (size_t)(la_newton_doubles(size) + size + n_classes);
    double *memory = la_alloc(doubles, sizeof *memory, err);
    if (!memory)
        return err->status;
    double *theta = memory, mean = 0, largest = 1;
    vector_problem problem = {.rows = rows, .p = theta + size};
    la_objective objective = {.size = size, .value = evaluate, .user = &problem};
    for (int64_t k = 0; k < n * n_classes; k++)
        largest = fmax(largest, fabs((double)logits[k]));
    /* from where softmax moves: Newton's steps are of no use among saturated rows */
    for (int64_t c = 0; c < n_classes; c++)
        theta[c] = 1 / largest;
    la_status status = LA_OK;
    if (!la_newton_minimise(&objective, theta, theta + size + n_classes))
        status = la_fail(err, LA_NUMERICAL,
                         "vector scaling: no minimum found over %lld rows, %lld classes",
                         (long long)n, (long long)n_classes);
    for (int64_t c = 0; c < n_classes; c++)
        mean += theta[n_classes + c] / (double)n_classes;
    for (int64_t c = 0; status == LA_OK && c < n_classes; c++) {
        scale[c] = theta[c];
        bias[c] = theta[n_classes + c] - mean;
    }
    free(memory);
    return status;
}
