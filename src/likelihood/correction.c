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

typedef struct problem {
    int64_t n, n_classes;
    const float *logits;
    const int64_t *labels;
    double scale; /* s */
    double *p;    /* [C] */
} problem;

/* Sums over the rows at theta[1 + C] = (log a, b), whose bias needs no contrasts: the data do not
 * see a common shift, so the prior alone holds it, at 0. Returns the negative log likelihood;
 * gradient and the Fisher information fisher[1 + C, 1 + C] (lower) are added to unless NULL. */
static double add_rows(const problem *of, const double *theta, double *gradient, double *fisher) {
    int64_t c = of->n_classes, size = c + 1;
    double a = exp(theta[0]), nll = 0;
    const double *bias = theta + 1;
    for (int64_t i = 0; i < of->n; i++) {
        const float *f = of->logits + i * c;
        int64_t label = of->labels[i];
        double own = (double)f[label], mean = 0, *p = of->p;
        for (int64_t k = 0; k < c; k++)
            p[k] = a * ((double)f[k] - own) + bias[k];
        nll += la_softmax(c, p).log_sum - bias[label];
        if (!gradient)
            continue;
        for (int64_t k = 0; k < c; k++)
            mean += p[k] * ((double)f[k] - own);
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
        }
    }
    return nll;
}

/* The negative log posterior over n, with a Hessian that is positive definite everywhere: the
 * Fisher information, and what log a lacks of the exact curvature as far as its prior outweighs
 * that. */
static double evaluate(void *user, const double *theta, double *gradient, double *hessian) {
    const problem *of = user;
    int64_t size = of->n_classes + 1;
    double share = 1 / (double)of->n, precision = 1 / (of->scale * of->scale);
    if (gradient) {
        memset(gradient, 0, (size_t)size * sizeof *gradient);
        memset(hessian, 0, (size_t)(size * size) * sizeof *hessian);
    }
    double value = add_rows(of, theta, gradient, hessian);
    if (gradient)
        hessian[0] += fmax(gradient[0], -LOG_A_PRECISION);
    for (int64_t k = 0; k < size; k++) {
        double of_prior = k ? precision : LOG_A_PRECISION;
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

/* Sets what the fit says of the maximum theta; its memory is the workspace's. False where numbers
 * leave their range. */
static bool conclude(const problem *of, const double *theta, double *workspace,
                     la_correction_fit *fit) {
    int64_t c = of->n_classes, size = c + 1;
    double *fisher = workspace, *inner = fisher + size * size, *gradient = inner + c * c;
    double square = of->scale * of->scale, a = exp(theta[0]), length = 0, log_det = 0, mean = 0;
    memset(fisher, 0, (size_t)(size * size) * sizeof *fisher);
    memset(gradient, 0, (size_t)size * sizeof *gradient);
    fit->log_likelihood = -add_rows(of, theta, gradient, fisher);
    for (int64_t k = 0; k < c; k++)
        for (int64_t l = 0; l <= k; l++) {
            const double *of_k = fisher + (k + 1) * size, *of_l = fisher + (l + 1) * size;
            /* outputs that are all equal tell nothing of a */
            double with_a = fisher[0] > 0 ? of_k[0] * of_l[0] / fisher[0] : 0;
            inner[k * c + l] = square * (of_k[l + 1] - with_a) + (k == l);
        }
    if (la_dpotrf(c, inner))
        return false;
    for (int64_t k = 0; k < c; k++) {
        log_det += 2 * log(inner[k * c + k]);
        length += theta[k + 1] * theta[k + 1];
        mean += theta[k + 1] / (double)c;
    }
    fit->log_occam = -0.5 * (length / square + log_det);
    fit->correction.temperature = 1 / a;
    bool finite = isfinite(fit->log_likelihood) && isfinite(fit->log_occam) && a > 0 && isfinite(a);
    for (int64_t k = 0; k < c; k++) {
        fit->correction.bias[k] = (theta[k + 1] - mean) / a;
        finite &= isfinite(fit->correction.bias[k]);
    }
    return finite;
}

la_status la_corrections_fit(int64_t n, int64_t n_classes, const float *logits,
                             const int64_t *labels, double temperature, la_correction_fit *fits,
                             la_error *err) {
    if (n_classes < 2 || n_classes > LA_CORRECTION_CLASSES_MOST)
        return la_fail(err, LA_BAD_INPUT, "logits: %lld classes, expected 2 to %d",
                       (long long)n_classes, LA_CORRECTION_CLASSES_MOST);
    LA_TRY(la_rows_check("logits", n, n_classes, logits, n_classes, labels, err));
    int64_t size = n_classes + 1;
    size_t doubles = (size_t)(la_newton_doubles(size) + size + n_classes);
    double *theta = la_alloc(doubles, sizeof *theta, err);
    if (!theta)
        return err->status;
    double *workspace = theta + size + n_classes;
    problem of = {n, n_classes, logits, labels, 0, theta + size};
    la_objective objective = {.size = size, .value = evaluate, .user = &of};
    bool found = false;
    for (int s = 0; s < LA_CORRECTION_SCALES; s++) {
        of.scale = la_correction_scales[s];
        if (!found) {
            memset(theta, 0, (size_t)size * sizeof *theta);
            theta[0] = -log(temperature);
        }
        fits[s] = (la_correction_fit){.correction = {.scale = of.scale}};
        found = la_newton_minimise(&objective, theta, workspace) &&
                conclude(&of, theta, workspace, &fits[s]);
        if (!found)
            fits[s].log_likelihood = -INFINITY;
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
