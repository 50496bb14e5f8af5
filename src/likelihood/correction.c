#include "likelihood/correction.h"
#include "base/blas.h"
#include "base/memory.h"
#include "likelihood/newton.h"
#include "likelihood/softmax_sum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Precision of log a. */
#define LOG_A_PRECISION 0.25

const double la_correction_scales[LA_CORRECTION_SCALES] = {0.1, 0.3, 1, 3, 10};
const double la_correction_spreads[LA_CORRECTION_SPREADS] = {0.1, 0.3, 1};

typedef struct problem {
    int64_t n, n_classes;
    const float *logits;
    const int64_t *labels;
    double scale, spread; /* s, and t; spread 0: no weights */
    double unit;          /* a0 */
    double *p, *x;        /* [C], [C] */
} problem;

/* theta = (log a, b[C], v[C]), v where there are weights. Bias and weights need no contrasts: the
 * data do not see a common shift of the biases, and of the weights they are shown what differs from
 * the mean, so the prior alone holds either sum, at 0. */
static int64_t size_of(const problem *of) {
    return 1 + (of->spread > 0 ? 2 : 1) * of->n_classes;
}

static double mean_of(int64_t n, const double *values) {
    double mean = 0;
    for (int64_t k = 0; k < n; k++)
        mean += values[k] / (double)n;
    return mean;
}

/* x[C] = a0 (f - mean f), what the weights are of. */
static void weighed_of(const problem *of, const float *f) {
    double mean = 0;
    for (int64_t k = 0; k < of->n_classes; k++)
        mean += (double)f[k] / (double)of->n_classes;
    for (int64_t k = 0; k < of->n_classes; k++)
        of->x[k] = of->unit * ((double)f[k] - mean);
}

/* Adds a row with probabilities p, whose mean of f - own is given. */
static void add_derivatives(const problem *of, const float *f, int64_t label, double a, double mean,
                            double *gradient, double *fisher) {
    int64_t c = of->n_classes, size = size_of(of);
    double own = (double)f[label];
    const double *p = of->p, *x = of->x;
    gradient[0] += a * mean;
    for (int64_t k = 0; k < c; k++) {
        double from_mean = a * ((double)f[k] - own - mean);
        double *row = fisher + (k + 1) * size;
        gradient[k + 1] += p[k] - (k == label);
        fisher[0] += p[k] * from_mean * from_mean;
        row[0] += p[k] * from_mean;
        row[k + 1] += p[k];
        for (int64_t l = 0; l <= k; l++)
            row[l + 1] -= p[k] * p[l];
        if (!(of->spread > 0))
            continue;
        row = fisher + (c + k + 1) * size;
        gradient[c + k + 1] += x[k] * (p[k] - (k == label));
        row[0] += x[k] * p[k] * from_mean;
        row[k + 1] += x[k] * p[k];
        row[c + k + 1] += x[k] * x[k] * p[k];
        for (int64_t l = 0; l < c; l++)
            row[l + 1] -= x[k] * p[k] * p[l];
        for (int64_t l = 0; l <= k; l++)
            row[c + l + 1] -= x[k] * p[k] * x[l] * p[l];
    }
}

/* Derivatives by weights become those by weights whose mean is taken away. */
static void centre_weights(const problem *of, double *gradient, double *fisher) {
    int64_t c = of->n_classes, size = size_of(of), first = 1 + c;
    double mean = mean_of(c, gradient + first), all = 0;
    for (int64_t k = 0; k < c; k++)
        gradient[first + k] -= mean;
    for (int64_t l = 0; l < first; l++) {
        mean = 0;
        for (int64_t k = 0; k < c; k++)
            mean += fisher[(first + k) * size + l] / (double)c;
        for (int64_t k = 0; k < c; k++)
            fisher[(first + k) * size + l] -= mean;
    }
    double *means = of->x; /* of the rows of their own block */
    for (int64_t k = 0; k < c; k++) {
        means[k] = 0;
        for (int64_t l = 0; l < c; l++)
            means[k] += fisher[(first + (l < k ? k : l)) * size + first + (l < k ? l : k)];
        means[k] /= (double)c;
        all += means[k] / (double)c;
    }
    for (int64_t k = 0; k < c; k++)
        for (int64_t l = 0; l <= k; l++)
            fisher[(first + k) * size + first + l] += all - means[k] - means[l];
}

/* Sums over the rows at theta. Returns the negative log likelihood; gradient and the Fisher
 * information fisher[size, size] (lower), both zero, are set unless NULL. */
static double add_rows(const problem *of, const double *theta, double *gradient, double *fisher) {
    int64_t c = of->n_classes;
    double a = exp(theta[0]), nll = 0;
    const double *bias = theta + 1, *v = of->spread > 0 ? bias + c : NULL;
    double shift = v ? mean_of(c, v) : 0;
    for (int64_t i = 0; i < of->n; i++) {
        const float *f = of->logits + i * c;
        int64_t label = of->labels[i];
        double own = (double)f[label], mean = 0, *p = of->p;
        if (v)
            weighed_of(of, f);
        double moved = bias[label] + (v ? (v[label] - shift) * of->x[label] : 0);
        for (int64_t k = 0; k < c; k++)
            p[k] = a * ((double)f[k] - own) + bias[k];
        for (int64_t k = 0; v && k < c; k++)
            p[k] += (v[k] - shift) * of->x[k];
        nll += la_softmax(c, p).log_sum - moved;
        if (!gradient)
            continue;
        for (int64_t k = 0; k < c; k++)
            mean += p[k] * ((double)f[k] - own);
        add_derivatives(of, f, label, a, mean, gradient, fisher);
    }
    if (v && gradient)
        centre_weights(of, gradient, fisher);
    return nll;
}

/* Deviation of a number of theta but the first. */
static double deviation_of(const problem *of, int64_t k) {
    return k <= of->n_classes ? of->scale : of->spread;
}

/* The negative log posterior over n, with a Hessian that is positive definite everywhere: the
 * Fisher information, and what log a lacks of the exact curvature as far as its prior outweighs
 * that. */
static double evaluate(void *user, const double *theta, double *gradient, double *hessian) {
    const problem *of = user;
    int64_t size = size_of(of);
    double share = 1 / (double)of->n;
    if (gradient) {
        memset(gradient, 0, (size_t)size * sizeof *gradient);
        memset(hessian, 0, (size_t)(size * size) * sizeof *hessian);
    }
    double value = add_rows(of, theta, gradient, hessian);
    if (gradient)
        hessian[0] += fmax(gradient[0], -LOG_A_PRECISION);
    for (int64_t k = 0; k < size; k++) {
        double deviation = deviation_of(of, k);
        double of_prior = k ? 1 / (deviation * deviation) : LOG_A_PRECISION;
        value += 0.5 * of_prior * theta[k] * theta[k];
        if (!gradient)
            continue;
        hessian[k * size + k] += of_prior;
        gradient[k] = share * (gradient[k] + of_prior * theta[k]);
        for (int64_t l = 0; l <= k; l++)
            hessian[k * size + l] *= share;
    }
    return share * value;
}

/* The correction at theta; false where numbers leave their range. */
static bool set_correction(const problem *of, const double *theta, la_correction *correction) {
    int64_t c = of->n_classes;
    double a = exp(theta[0]), mean = mean_of(c, theta + 1);
    bool finite = a > 0 && isfinite(a);
    correction->temperature = 1 / a;
    for (int64_t k = 0; k < c; k++) {
        correction->bias[k] = (theta[k + 1] - mean) / a;
        finite &= isfinite(correction->bias[k]);
    }
    if (!(of->spread > 0))
        return finite;
    mean = mean_of(c, theta + 1 + c);
    for (int64_t k = 0; k < c; k++) {
        correction->weight[k] = 1 + of->unit / a * (theta[c + k + 1] - mean);
        finite &= isfinite(correction->weight[k]);
    }
    return finite;
}

/* By the factor[m, m] of I + H, whose first C rows are of the bias. x: [C, m] */
static void set_determined(int64_t c, int64_t m, const double *factor, double *x,
                           la_correction *correction) {
    double left = 0; /* trace of (I + H)^-1 over these rows */
    for (int64_t i = 0; i < c * m; i++)
        x[i] = i / m == i % m;
    la_dtrsm(c, m, factor, x);
    for (int64_t i = 0; i < c * m; i++)
        left += x[i] * x[i];
    correction->determined = fmin(fmax(((double)c - left) / (double)(c - 1), 0), 1);
}

/* Sets what the fit says of the maximum theta; its memory is the workspace's. False where numbers
 * leave their range. */
static bool conclude(const problem *of, const double *theta, double *workspace,
                     la_correction_fit *fit) {
    int64_t size = size_of(of), m = size - 1;
    double *fisher = workspace, *inner = fisher + size * size, *gradient = inner + m * m;
    double length = 0, log_det = 0;
    memset(fisher, 0, (size_t)(size * size) * sizeof *fisher);
    memset(gradient, 0, (size_t)size * sizeof *gradient);
    fit->log_likelihood = -add_rows(of, theta, gradient, fisher);
    for (int64_t k = 0; k < m; k++)
        for (int64_t l = 0; l <= k; l++) {
            const double *of_k = fisher + (k + 1) * size, *of_l = fisher + (l + 1) * size;
            double prior = deviation_of(of, k + 1) * deviation_of(of, l + 1);
            /* outputs that are all equal tell nothing of a */
            double with_a = fisher[0] > 0 ? of_k[0] * of_l[0] / fisher[0] : 0;
            inner[k * m + l] = prior * (of_k[l + 1] - with_a) + (k == l);
        }
    if (la_dpotrf(m, inner))
        return false;
    for (int64_t k = 0; k < m; k++) {
        double in_prior = theta[k + 1] / deviation_of(of, k + 1);
        log_det += 2 * log(inner[k * m + k]);
        length += in_prior * in_prior;
    }
    fit->log_occam = -0.5 * (length + log_det);
    set_determined(of->n_classes, m, inner, fisher, &fit->correction);
    return set_correction(of, theta, &fit->correction) && isfinite(fit->log_likelihood) &&
           isfinite(fit->log_occam);
}

static la_status check(int64_t n, int64_t n_classes, int64_t least, int64_t most,
                       const float *logits, const int64_t *labels, la_error *err) {
    if (n_classes < least || n_classes > most)
        return la_fail(err, LA_BAD_INPUT, "logits: %lld classes, expected %lld to %lld",
                       (long long)n_classes, (long long)least, (long long)most);
    return la_rows_check("logits", n, n_classes, logits, n_classes, labels, err);
}

/* A fit from theta, which becomes the maximum; false: there is none. */
static bool fit_one(problem *of, double *theta, double *workspace, la_correction_fit *fit) {
    la_objective objective = {.size = size_of(of), .value = evaluate, .user = of};
    *fit = (la_correction_fit){.correction = {.scale = of->scale, .spread = of->spread}};
    bool found =
        la_newton_minimise(&objective, theta, workspace) && conclude(of, theta, workspace, fit);
    if (!found)
        fit->log_likelihood = -INFINITY;
    return found;
}

la_status la_corrections_fit(int64_t n, int64_t n_classes, const float *logits,
                             const int64_t *labels, double temperature, la_correction_fit *fits,
                             la_error *err) {
    LA_TRY(check(n, n_classes, 2, LA_CORRECTION_CLASSES_MOST, logits, labels, err));
    int64_t size = n_classes + 1;
    size_t doubles = (size_t)(la_newton_doubles(size) + size + n_classes);
    double *theta = la_alloc(doubles, sizeof *theta, err);
    if (!theta)
        return err->status;
    double *workspace = theta + size + n_classes;
    problem of = {.n = n, .n_classes = n_classes, .logits = logits, .labels = labels};
    of.p = theta + size;
    bool found = false;
    for (int s = 0; s < LA_CORRECTION_SCALES; s++) {
        of.scale = la_correction_scales[s];
        if (!found) {
            memset(theta, 0, (size_t)size * sizeof *theta);
            theta[0] = -log(temperature);
        }
        found = fit_one(&of, theta, workspace, &fits[s]);
    }
    free(theta);
    return LA_OK;
}

la_status la_weights_fit(int64_t n, int64_t n_classes, const float *logits, const int64_t *labels,
                         const la_correction_fit *biased, la_correction_fit *fits, la_error *err) {
    LA_TRY(check(n, n_classes, 3, LA_CORRECTION_WEIGHTS_MOST, logits, labels, err));
    int64_t c = n_classes, size = 2 * c + 1;
    size_t doubles = (size_t)(la_newton_doubles(size) + size + 2 * c);
    double *theta = la_alloc(doubles, sizeof *theta, err);
    if (!theta)
        return err->status;
    double *workspace = theta + size + 2 * c;
    const la_correction *from = &biased->correction;
    problem of = {.n = n,
                  .n_classes = c,
                  .logits = logits,
                  .labels = labels,
                  .scale = from->scale,
                  .unit = 1 / from->temperature,
                  .p = theta + size,
                  .x = theta + size + c};
    bool found = false;
    for (int t = 0; t < LA_CORRECTION_SPREADS; t++) {
        of.spread = la_correction_spreads[t];
        if (!found) {
            memset(theta, 0, (size_t)size * sizeof *theta);
            theta[0] = -log(from->temperature);
            for (int64_t k = 0; k < c; k++)
                theta[k + 1] = from->bias[k] / from->temperature;
        }
        found = fit_one(&of, theta, workspace, &fits[t]);
    }
    free(theta);
    return LA_OK;
}

void la_corrections_apply(const la_correction_fit *fits, int64_t n_classes, const float *logits,
                          double *workspace, double *probs) {
    double most = -INFINITY, sum = 0;
    memset(probs, 0, (size_t)n_classes * sizeof *probs);
    for (int s = 0; s < LA_CORRECTION_SCALES; s++)
        most = fmax(most, la_correction_evidence(&fits[s]));
    for (int s = 0; s < LA_CORRECTION_SCALES; s++) {
        const la_correction *of = &fits[s].correction;
        double weight = exp(la_correction_evidence(&fits[s]) - most);
        sum += weight;
        if (!(weight > 0))
            continue;
        for (int64_t c = 0; c < n_classes; c++)
            workspace[c] = ((double)logits[c] + of->bias[c]) / of->temperature;
        (void)la_softmax(n_classes, workspace);
        for (int64_t c = 0; c < n_classes; c++)
            probs[c] += weight * workspace[c];
    }
    for (int64_t c = 0; c < n_classes; c++)
        probs[c] /= sum;
}
