#include "bayes/predictive.h"
#include "base/random.h"

#include <math.h>
#include <string.h>

static void softmax(int64_t n, const double *logits, double *probs) {
    double top = logits[0], sum = 0;
    for (int64_t c = 1; c < n; c++)
        top = logits[c] > top ? logits[c] : top;
    for (int64_t c = 0; c < n; c++)
        sum += probs[c] = exp(logits[c] - top);
    for (int64_t c = 0; c < n; c++)
        probs[c] /= sum;
}

static double entropy(int64_t n, const double *probs) {
    double sum = 0;
    for (int64_t c = 0; c < n; c++)
        if (probs[c] > 0)
            sum -= probs[c] * log(probs[c]);
    return sum;
}

/* Lower Cholesky factor of a positive semi-definite matrix; directions of no variance get a zero
 * column. */
static void cholesky(int64_t n, const double *a, double *l) {
    double scale = 0;
    for (int64_t i = 0; i < n; i++)
        scale = a[i * n + i] > scale ? a[i * n + i] : scale;
    memset(l, 0, (size_t)(n * n) * sizeof *l);
    for (int64_t j = 0; j < n; j++) {
        double pivot = a[j * n + j];
        for (int64_t k = 0; k < j; k++)
            pivot -= l[j * n + k] * l[j * n + k];
        if (pivot <= 1e-12 * scale)
            continue;
        l[j * n + j] = sqrt(pivot);
        for (int64_t i = j + 1; i < n; i++) {
            double sum = a[i * n + j];
            for (int64_t k = 0; k < j; k++)
                sum -= l[i * n + k] * l[j * n + k];
            l[i * n + j] = sum / l[j * n + j];
        }
    }
}

void la_predict_gaussian(int64_t n_classes, const float *logits, const double *basis,
                         const double *cov, double *workspace, double *centre, double *spread) {
    int64_t m = n_classes - 1;
    double *l = workspace, mean = 0;
    for (int64_t c = 0; c < n_classes; c++)
        mean += (double)logits[c] / (double)n_classes;
    for (int64_t c = 0; c < n_classes; c++)
        centre[c] = (double)logits[c] - mean;
    cholesky(m, cov, l);
    for (int64_t c = 0; c < n_classes; c++)
        for (int64_t k = 0; k < m; k++) {
            double sum = 0;
            for (int64_t i = k; i < m; i++)
                sum += basis[c * m + i] * l[i * m + k];
            spread[c * m + k] = sum;
        }
}

/* means[2C+1] over draws f = centre + spread z of softmax(f), of its entropy, and of (softmax(f) -
 * map_probs)^2, map_probs[C] = softmax(centre); workspace of C-1 + 2 C numbers */
static void draw(int64_t n_classes, const double *centre, const double *spread,
                 const double *map_probs, int64_t samples, uint64_t seed, uint64_t stream,
                 double *workspace, double *means) {
    int64_t m = n_classes - 1;
    double *z = workspace, *f = z + m, *p = f + n_classes, *squares = means + n_classes + 1;
    for (int64_t c = 0; c <= 2 * n_classes; c++)
        means[c] = 0;
    for (int64_t s = 0; s < samples; s++) {
        if (s % 2)
            for (int64_t k = 0; k < m; k++)
                z[k] = -z[k];
        else
            la_random_normal(seed, stream, (uint64_t)(s / 2 * m), (size_t)m, z);
        for (int64_t c = 0; c < n_classes; c++) {
            f[c] = centre[c];
            for (int64_t k = 0; k < m; k++)
                f[c] += spread[c * m + k] * z[k];
        }
        softmax(n_classes, f, p);
        for (int64_t c = 0; c < n_classes; c++) {
            means[c] += p[c];
            squares[c] += (p[c] - map_probs[c]) * (p[c] - map_probs[c]);
        }
        means[n_classes] += entropy(n_classes, p);
    }
    for (int64_t c = 0; c <= 2 * n_classes; c++)
        means[c] /= (double)samples;
}

void la_predict_network(int64_t n_classes, const float *logits, const float *map,
                        double temperature, double *workspace, double *sums) {
    double *p = workspace, *at_map = workspace + n_classes, *squares = sums + n_classes + 1;
    if (n_classes == 1) {
        double moved = (double)*logits - (double)*map;
        sums[0] += moved;
        *squares += moved * moved;
        return;
    }
    for (int64_t c = 0; c < n_classes; c++) {
        p[c] = (double)logits[c] / temperature;
        at_map[c] = (double)map[c] / temperature;
    }
    softmax(n_classes, p, p);
    softmax(n_classes, at_map, at_map);
    for (int64_t c = 0; c < n_classes; c++) {
        sums[c] += p[c];
        squares[c] += (p[c] - at_map[c]) * (p[c] - at_map[c]);
    }
    sums[n_classes] += entropy(n_classes, p);
}

/* From the means of draws: mutual information H[mean p] - mean H[p], and the draws' own variance (a mean
 * over them, not over one less), from moments about the MAP probabilities. */
static void spread_of(int64_t n_classes, const double *means, la_prediction *out) {
    const double *squares = means + n_classes + 1;
    double gap = entropy(n_classes, means) - means[n_classes];
    out->mutual_information = gap > 0 ? gap : 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double moved = means[c] - out->map_probs[c], variance = squares[c] - moved * moved;
        /* rounding; a NaN stays one */
        out->variance[c] = variance < 0 ? 0 : variance;
    }
}

/* A closed form has probabilities alone: without draws of its Gaussian the rest is not known. */
static void spread_unknown(int64_t n_classes, la_prediction *out) {
    for (int64_t c = 0; c < n_classes; c++)
        out->variance[c] = NAN;
    out->mutual_information = NAN;
}

/* Probit approximation for several classes, pair by pair (Lu, Ie, Sha, arXiv 2006.07584, "mf2"):
 * with two classes it is MacKay's, and like softmax it does not see a common shift:
 *   p_c ~ 1 / sum_d exp(-(f_c - f_d) / sqrt(1 + pi/8 Var(f_c - f_d))) */
static void probit(int64_t n_classes, const double *centre, const double *cov, la_prediction *out) {
    double total = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double sum = 0;
        for (int64_t d = 0; d < n_classes; d++) {
            double variance =
                cov[c * n_classes + c] + cov[d * n_classes + d] - 2 * cov[c * n_classes + d];
            variance = variance > 0 ? variance : 0;
            sum += exp(-(centre[c] - centre[d]) / sqrt(1 + M_PI / 8 * variance));
        }
        total += out->probs[c] = 1 / sum;
    }
    for (int64_t c = 0; c < n_classes; c++)
        out->probs[c] /= total;
}

/* Probit with one variance a row, the mean of Var(f_c - f_d) over pairs of classes: all logits are
 * divided by the same number, so that the answer and the order of classes stay those of the MAP
 * model. With two classes it is MacKay's as well. */
static void scalar_probit(int64_t n_classes, const double *centre, const double *cov,
                          double *scaled, la_prediction *out) {
    double trace = 0;
    for (int64_t c = 0; c < n_classes; c++)
        trace += cov[c * n_classes + c];
    double shrink = la_probit_shrink(1, la_pair_variance(n_classes, trace));
    for (int64_t c = 0; c < n_classes; c++)
        scaled[c] = centre[c] * shrink;
    softmax(n_classes, scaled, out->probs);
}

/* psi(x) for x > 0: recurrence up to 6, then the asymptotic series */
static double digamma(double x) {
    double sum = 0;
    for (; x < 6; x++)
        sum -= 1 / x;
    double r = 1 / (x * x);
    return sum + log(x) - 0.5 / x -
           r * (1.0 / 12 - r * (1.0 / 120 - r * (1.0 / 252 - r * (1.0 / 240 - r / 132))));
}

/* Laplace bridge (Hobbhahn et al., arXiv 2003.01227, equation 8): the Dirichlet whose softmax-basis
 * Gaussian this is. Its mean are the probabilities; their variance and mutual information H[p] - E H
 * are closed too. */
static void bridge(int64_t n_classes, const double *centre, const double *full_cov, double *alpha,
                   la_prediction *out) {
    double sum_exp = 0, total = 0, c_count = (double)n_classes;
    for (int64_t c = 0; c < n_classes; c++)
        sum_exp += exp(-centre[c]);
    for (int64_t c = 0; c < n_classes; c++) {
        double variance = full_cov[c * n_classes + c];
        /* no variance: the Dirichlet would sharpen without bound */
        variance = variance > 1e-9 ? variance : 1e-9;
        alpha[c] = (1 - 2 / c_count + exp(centre[c]) * sum_exp / (c_count * c_count)) / variance;
        total += alpha[c];
    }
    double expected = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        out->probs[c] = alpha[c] / total;
        /* alpha (total - alpha) / (total^2 (total + 1)), whose square may overflow */
        out->variance[c] = out->probs[c] * ((total - alpha[c]) / total) / (total + 1);
        expected -= out->probs[c] * (digamma(alpha[c] + 1) - digamma(total + 1));
    }
    double gap = entropy(n_classes, out->probs) - expected;
    out->mutual_information = gap > 0 ? gap : 0;
}

int64_t la_predict_workspace(int64_t n_classes) {
    int64_t m = n_classes - 1;
    /* centred logits; then Monte Carlo's spread, means and the draw's numbers or the factor of the
     * covariance, or C numbers */
    int64_t drawing = m + 2 * n_classes, factor = m * m;
    return n_classes + n_classes * m + 2 * n_classes + 1 + (drawing > factor ? drawing : factor);
}

/* Q cov Q^T */
static void centred_covariance(int64_t n_classes, const double *basis, const double *cov,
                               double *out) {
    int64_t m = n_classes - 1;
    for (int64_t c = 0; c < n_classes; c++)
        for (int64_t d = 0; d <= c; d++) {
            double sum = 0;
            for (int64_t k = 0; k < m; k++)
                for (int64_t l = 0; l < m; l++)
                    sum += basis[c * m + k] * cov[k * m + l] * basis[d * m + l];
            out[c * n_classes + d] = out[d * n_classes + c] = sum;
        }
}

/* What follows from the probabilities. */
static void conclude(int64_t n_classes, la_prediction *out) {
    out->prediction = 0;
    for (int c = 1; c < (int)n_classes; c++)
        if (out->probs[c] > out->probs[out->prediction])
            out->prediction = c;
    out->confidence = out->probs[out->prediction];
    out->entropy = entropy(n_classes, out->probs);
}

void la_predict_row(la_predictive kind, int64_t n_classes, const float *logits, const double *basis,
                    const double *cov, int64_t samples, uint64_t seed, uint64_t stream,
                    const double *drawn, double *workspace, la_prediction *out) {
    double *centre = workspace, mean = 0;
    workspace += n_classes;
    for (int64_t c = 0; c < n_classes; c++) {
        out->logits[c] = (double)logits[c];
        mean += (double)logits[c] / (double)n_classes;
    }
    for (int64_t c = 0; c < n_classes; c++)
        centre[c] = (double)logits[c] - mean;
    softmax(n_classes, centre, out->map_probs);
    if (!la_predict_needs_cov(kind))
        memset(out->logit_cov, 0, (size_t)(n_classes * n_classes) * sizeof(double));
    else
        centred_covariance(n_classes, basis, cov, out->logit_cov);
    if (la_predict_draws(kind) && samples > 0 && !drawn) {
        double *spread = workspace, *means = spread + n_classes * (n_classes - 1);
        double *rest = means + 2 * n_classes + 1;
        la_predict_gaussian(n_classes, logits, basis, cov, rest, centre, spread);
        draw(n_classes, centre, spread, out->map_probs, samples, seed, stream, rest, means);
        drawn = means;
    }
    if (drawn)
        spread_of(n_classes, drawn, out);
    else
        spread_unknown(n_classes, out);
    switch (kind) {
    case LA_PREDICT_MC:
    case LA_PREDICT_WEIGHTS:
        memcpy(out->probs, drawn, (size_t)n_classes * sizeof *drawn);
        break;
    case LA_PREDICT_PROBIT:
        probit(n_classes, centre, out->logit_cov, out);
        break;
    case LA_PREDICT_SCALAR:
        scalar_probit(n_classes, centre, out->logit_cov, workspace, out);
        break;
    case LA_PREDICT_BRIDGE:
        bridge(n_classes, centre, out->logit_cov, workspace, out);
        break;
    case LA_PREDICT_MAP:
    case LA_PREDICT_TEMPERATURE: /* of logits that were divided by it */
    case LA_PREDICT_AVERAGE:     /* of several such rows: la_predict_mix_add */
    case LA_PREDICT_STORED:
        memcpy(out->probs, out->map_probs, (size_t)n_classes * sizeof(double));
        memset(out->variance, 0, (size_t)n_classes * sizeof(double));
        out->mutual_information = 0;
        break;
    }
    conclude(n_classes, out);
}

void la_predict_mix_start(int64_t n_classes, la_prediction *out) {
    size_t bytes = (size_t)n_classes * sizeof(double);
    memset(out->probs, 0, bytes);
    memset(out->variance, 0, bytes);
    memset(out->logit_cov, 0, bytes * (size_t)n_classes);
    out->mutual_information = 0;
}

void la_predict_mix_add(int64_t n_classes, double weight, const la_prediction *part,
                        la_prediction *out) {
    for (int64_t c = 0; c < n_classes; c++) {
        double moved = part->probs[c] - part->map_probs[c];
        out->logits[c] = part->logits[c];
        out->map_probs[c] = part->map_probs[c];
        out->probs[c] += weight * part->probs[c];
        out->variance[c] += weight * (part->variance[c] + moved * moved);
    }
    for (int64_t i = 0; i < n_classes * n_classes; i++)
        out->logit_cov[i] += weight * part->logit_cov[i];
    /* until the end the mean of what the parts hold for noise: their entropy less their information */
    out->mutual_information += weight * (part->entropy - part->mutual_information);
}

void la_predict_mix_finish(int64_t n_classes, la_prediction *out) {
    conclude(n_classes, out);
    double gap = out->entropy - out->mutual_information;
    out->mutual_information = gap < 0 ? 0 : gap; /* rounding; a NaN stays one */
    for (int64_t c = 0; c < n_classes; c++) {
        double moved = out->probs[c] - out->map_probs[c];
        double variance = out->variance[c] - moved * moved;
        out->variance[c] = variance < 0 ? 0 : variance;
    }
}

void la_predict_restore(int64_t n_classes, const float *logits, double temperature,
                        la_prediction *out) {
    double top = (double)logits[0];
    for (int64_t c = 1; c < n_classes; c++)
        top = (double)logits[c] > top ? (double)logits[c] : top;
    for (int64_t c = 0; c < n_classes; c++) {
        out->logits[c] = (double)logits[c];
        out->map_probs[c] = (double)logits[c] - top;
    }
    softmax(n_classes, out->map_probs, out->map_probs);
    for (int64_t i = 0; i < n_classes * n_classes; i++)
        out->logit_cov[i] *= temperature * temperature;
}

void la_predict_regression(la_predictive kind, float output, const double *cov, const double *drawn,
                           double noise_variance, double map_variance, la_prediction *out) {
    double moved = kind == LA_PREDICT_WEIGHTS ? drawn[0] : 0, model = 0;
    if (kind == LA_PREDICT_WEIGHTS)
        model = drawn[2] - moved * moved;
    else if (la_predict_needs_cov(kind))
        model = *cov;
    /* rounding; a NaN stays one */
    model = model < 0 ? 0 : model;
    out->mean = (double)output + moved;
    out->map_mean = *out->logits = (double)output;
    out->model_variance = *out->logit_cov = model;
    out->noise_variance = kind == LA_PREDICT_MAP ? map_variance : noise_variance;
    out->map_variance = map_variance;
    *out->variance = model + out->noise_variance;
    *out->probs = *out->map_probs = NAN;
    out->confidence = out->entropy = out->mutual_information = out->adue = NAN;
    out->prediction = 0;
}
