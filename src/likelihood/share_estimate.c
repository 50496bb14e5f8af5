/* Class shares of rows without labels, from the model's probabilities of them. */
#include "base/blas.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "base/stop.h"
#include "likelihood/likelihood.h"
#include "likelihood/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows that all of them together count as at most: probabilities are never so right in their tails
 * as the evidence of many would take them to be, and a rare class would swallow others. */
enum { ROWS_COUNTED = 20 };

/* The strength s of a prior is in rows: how many with the reference shares it is worth. The last
 * one is that the shares have not moved. */
enum { STRENGTHS = 5, UNMOVED = STRENGTHS, STEPS_MOST = 1000 };
static const double strengths[STRENGTHS] = {2048, 512, 128, 32, 8};
/* Where there are too many classes for standard errors, and so for evidence. */
enum { INFORMED_MOST = 256, PLAIN = 3 };
#define STEP_LEAST 1e-9

/* ---- rows ---- */

la_share_rows la_share_rows_of(int64_t n_classes) {
    int64_t most = LA_SHARE_NUMBERS_MOST / n_classes;
    most = most < LA_SHARE_ROWS_MOST ? most : LA_SHARE_ROWS_MOST;
    return (la_share_rows){.n_classes = n_classes, .step = 1, .most = most < 2 ? 2 : most};
}

void la_share_rows_free(la_share_rows *rows) {
    free(rows->probs);
    *rows = (la_share_rows){0};
}

/* Every second one is dropped when they are too many. */
static void thin(la_share_rows *rows) {
    size_t width = (size_t)rows->n_classes;
    int64_t kept = (rows->n + 1) / 2;
    for (int64_t i = 0; i < kept; i++)
        memmove(rows->probs + (size_t)i * width, rows->probs + (size_t)(2 * i) * width,
                width * sizeof *rows->probs);
    rows->n = kept;
    rows->step *= 2;
}

la_status la_share_rows_add(la_share_rows *rows, const double *probs, la_error *err) {
    size_t width = (size_t)rows->n_classes;
    if (rows->seen++ % rows->step)
        return LA_OK;
    if (rows->n == rows->most) {
        thin(rows);
        if ((rows->seen - 1) % rows->step)
            return LA_OK;
    }
    LA_TRY(la_grow(&rows->probs, &rows->capacity, (size_t)(rows->n + 1) * width,
                   sizeof *rows->probs, err));
    for (size_t c = 0; c < width; c++)
        rows->probs[(size_t)rows->n * width + c] = (float)probs[c];
    rows->n++;
    return LA_OK;
}

/* ---- the estimate under one prior ---- */

typedef struct estimate {
    const la_share_rows *rows;
    int64_t c, m;      /* classes that have a reference, less one */
    int64_t *class;    /* [C] their numbers */
    double *reference; /* [C] shares P at which no row is re-weighted */
    double *q, *sums;  /* [C] */
    double *shares;    /* [STRENGTHS + 1, C] */
    double evidence[STRENGTHS + 1];
    double power; /* of the likelihood: what a row counts */
    /* where there are few enough classes; else NULL */
    double *basis, *part;     /* [C, m], [C, C] */
    double *square, *hessian; /* [C, C], [m, m] */
    double *cov;              /* [STRENGTHS + 1, C, C] of the shares */
} estimate;

/* q[C] of a row under shares P; returns the sum over classes of P p / reference. */
static double weigh(const estimate *e, int64_t i, const double *shares, double *q) {
    const float *p = e->rows->probs + i * e->rows->n_classes;
    double sum = 0;
    for (int64_t c = 0; c < e->c; c++)
        sum += q[c] = (double)p[e->class[c]] / e->reference[c] * shares[c];
    for (int64_t c = 0; c < e->c; c++)
        q[c] = sum > 0 ? q[c] / sum : shares[c];
    return sum;
}

/* EM's step, of the posterior's mode in the softmax basis: P_c = (power sum of q_c + s
 * reference_c) over power n + s. Returns how far they moved. */
static double step(estimate *e, double strength, double *shares) {
    double moved = 0, n = e->power * (double)e->rows->n + strength;
    memset(e->sums, 0, (size_t)e->c * sizeof *e->sums);
    for (int64_t i = 0; i < e->rows->n; i++) {
        weigh(e, i, shares, e->q);
        for (int64_t c = 0; c < e->c; c++)
            e->sums[c] += e->q[c];
    }
    for (int64_t c = 0; c < e->c; c++) {
        double to = (e->power * e->sums[c] + strength * e->reference[c]) / n;
        moved = fmax(moved, fabs(to - shares[c]));
        shares[c] = to;
    }
    return moved;
}

/* The Hessian becomes its Cholesky factor; false: it is not positive definite. */
static bool factorise(estimate *e, double *log_det) {
    *log_det = 0;
    if (la_dpotrf(e->m, e->hessian))
        return false;
    for (int64_t k = 0; k < e->m; k++)
        *log_det += 2 * log(e->hessian[k * e->m + k]);
    return true;
}

/* Minus the second derivative of the log posterior by the softmax coordinates of the shares, on the
 * contrasts: s diag(reference) + power sum q q^T - (power n + s) P P^T. *value: the log
 * likelihood. */
static void second_derivative(estimate *e, double strength, const double *shares, double *value) {
    int64_t c = e->c, m = e->m;
    double n = e->power * (double)e->rows->n + strength;
    memset(e->square, 0, (size_t)(c * c) * sizeof *e->square);
    *value = 0;
    for (int64_t i = 0; i < e->rows->n; i++) {
        double sum = weigh(e, i, shares, e->q);
        *value += e->power * log(sum > 0 ? sum : 1);
        for (int64_t a = 0; a < c; a++)
            for (int64_t b = 0; b <= a; b++)
                e->square[a * c + b] += e->power * e->q[a] * e->q[b];
    }
    for (int64_t a = 0; a < c; a++)
        for (int64_t b = 0; b <= a; b++) {
            double x = e->square[a * c + b] - n * shares[a] * shares[b];
            e->square[a * c + b] = e->square[b * c + a] =
                x + (a == b ? strength * e->reference[a] : 0);
        }
    for (int64_t a = 0; a < c; a++)
        for (int64_t k = 0; k < m; k++) {
            double x = 0;
            for (int64_t b = 0; b < c; b++)
                x += e->square[a * c + b] * e->basis[b * m + k];
            e->part[a * m + k] = x;
        }
    for (int64_t k = 0; k < m; k++)
        for (int64_t l = 0; l < m; l++) {
            double x = 0;
            for (int64_t a = 0; a < c; a++)
                x += e->basis[a * m + k] * e->part[a * m + l];
            e->hessian[k * m + l] = x;
        }
}

/* Log density of the Dirichlet prior at the shares, in the softmax basis (MacKay 1998), whose
 * volume is that of orthonormal contrasts. */
static double log_prior(const estimate *e, double strength, const double *shares) {
    double value = la_log_gamma(strength) + log((double)e->c) / 2;
    for (int64_t c = 0; c < e->c; c++)
        value +=
            strength * e->reference[c] * log(shares[c]) - la_log_gamma(strength * e->reference[c]);
    return value;
}

/* cov[C, C] of the shares, J B H^-1 B^T J with J = diag(P) - P P^T and the Cholesky factor of H. */
static void covariance(estimate *e, const double *shares, double *cov) {
    int64_t c = e->c, m = e->m;
    for (int64_t a = 0; a < c; a++) {
        double *row = e->part + a * m; /* of J B, then of that over the factor */
        for (int64_t k = 0; k < m; k++) {
            double mean = 0;
            for (int64_t b = 0; b < c; b++)
                mean += shares[b] * e->basis[b * m + k];
            row[k] = shares[a] * (e->basis[a * m + k] - mean);
        }
        for (int64_t k = 0; k < m; k++) {
            for (int64_t l = 0; l < k; l++)
                row[k] -= e->hessian[k * m + l] * row[l];
            row[k] /= e->hessian[k * m + k];
        }
    }
    for (int64_t a = 0; a < c; a++)
        for (int64_t b = 0; b < c; b++) {
            double x = 0;
            for (int64_t k = 0; k < m; k++)
                x += e->part[a * m + k] * e->part[b * m + k];
            cov[a * c + b] = x;
        }
}

/* Shares under every strength, each from where the stronger one led, with evidence by Laplace's
 * method. A prior whose second derivative is none by rounding has no evidence. */
static la_status run_strengths(estimate *e, la_error *err) {
    int64_t c = e->c;
    double *unmoved = e->shares + UNMOVED * c, log_det, value;
    memcpy(unmoved, e->reference, (size_t)c * sizeof *unmoved);
    memcpy(e->shares, e->reference, (size_t)c * sizeof *e->shares);
    for (int g = 0; g < STRENGTHS; g++) {
        double *shares = e->shares + g * c;
        if (g)
            memcpy(shares, shares - c, (size_t)c * sizeof *shares);
        for (int k = 0; k < STEPS_MOST && step(e, strengths[g], shares) > STEP_LEAST; k++)
            LA_TRY(la_check_interrupt(err));
        e->evidence[g] = g == PLAIN ? 0 : -INFINITY;
        if (!e->cov)
            continue;
        second_derivative(e, strengths[g], shares, &value);
        e->evidence[g] = -INFINITY;
        if (!factorise(e, &log_det))
            continue;
        covariance(e, shares, e->cov + g * c * c);
        e->evidence[g] = value + log_prior(e, strengths[g], shares) +
                         (double)e->m / 2 * log(2 * M_PI) - log_det / 2 - log((double)STRENGTHS);
    }
    e->evidence[UNMOVED] = -INFINITY;
    if (e->cov)
        second_derivative(e, 1, unmoved, &e->evidence[UNMOVED]);
    return LA_OK;
}

/* Mean over the strengths by evidence, half of whose prior is on unmoved shares, of the shares
 * and of their covariance: within each, and between them. */
static void average(const estimate *e, double *shares, double *cov) {
    int64_t c = e->c;
    double weight[STRENGTHS + 1], most = -INFINITY, sum = 0;
    for (int g = 0; g <= STRENGTHS; g++)
        most = fmax(most, e->evidence[g]);
    for (int g = 0; g <= STRENGTHS; g++)
        sum += weight[g] = exp(e->evidence[g] - most);
    memset(shares, 0, (size_t)c * sizeof *shares);
    for (int g = 0; g <= STRENGTHS; g++)
        for (int64_t a = 0; a < c; a++)
            shares[a] += weight[g] / sum * e->shares[g * c + a];
    if (!cov)
        return;
    memset(cov, 0, (size_t)(c * c) * sizeof *cov);
    for (int g = 0; g <= STRENGTHS; g++)
        for (int64_t a = 0; a < c; a++)
            for (int64_t b = 0; b < c; b++)
                cov[a * c + b] +=
                    weight[g] / sum *
                    (e->cov[(g * c + a) * c + b] +
                     (e->shares[g * c + a] - shares[a]) * (e->shares[g * c + b] - shares[b]));
}

/* ---- the shares of the posterior's classes ---- */

/* From shares P of the model's own to those R of labels, R_c = P_c training_c / reference_c over
 * their sum: where P is the reference, R is training's. Standard errors by the derivative. */
static void convert(const estimate *e, const double *p, const double *cov, la_class_shares *s) {
    double sum = 0;
    for (int64_t c = 0; c < s->n_classes; c++) {
        s->shares[c] = 0;
        s->errors[c] = NAN;
    }
    for (int64_t a = 0; a < e->c; a++)
        sum += p[a] * s->training[e->class[a]] / e->reference[a];
    for (int64_t a = 0; a < e->c; a++)
        s->shares[e->class[a]] = p[a] * s->training[e->class[a]] / e->reference[a] / sum;
    for (int64_t a = 0; a < e->c && cov; a++) {
        double variance = 0, r = s->shares[e->class[a]];
        for (int64_t i = 0; i < e->c; i++)
            for (int64_t j = 0; j < e->c; j++) {
                double di = s->training[e->class[i]] / e->reference[i] / sum;
                double dj = s->training[e->class[j]] / e->reference[j] / sum;
                variance += di * ((i == a) - r) * cov[i * e->c + j] * dj * ((j == a) - r);
            }
        s->errors[e->class[a]] = sqrt(fmax(variance, 0));
    }
}

static la_status allocate(estimate *e, double **memory, la_error *err) {
    size_t c = (size_t)e->c, m = (size_t)e->m, square = c * c;
    bool informed = e->c > 1 && e->c <= INFORMED_MOST;
    size_t own = (STRENGTHS + 4) * c;
    size_t rest = informed ? 2 * c * m + m * m + (STRENGTHS + 3) * square : 0;
    double *at = *memory = la_alloc(own + rest, sizeof **memory, err);
    if (!at)
        return err->status;
    e->q = at;
    e->sums = at + c;
    e->shares = at + 2 * c;
    if (!informed)
        return LA_OK;
    at += own;
    e->basis = at;
    e->part = e->basis + c * m;
    e->hessian = e->part + c * m;
    e->square = e->hessian + m * m;
    e->cov = e->square + square;
    la_softmax_likelihood.contrast_basis(e->c, e->basis);
    return LA_OK;
}

static la_status run(estimate *e, la_class_shares *s, la_error *err) {
    double *memory = NULL;
    la_status status = allocate(e, &memory, err);
    if (status == LA_OK)
        status = run_strengths(e, err);
    if (status == LA_OK) {
        double *shares = e->sums, *cov = e->cov ? e->square : NULL;
        average(e, shares, cov);
        convert(e, shares, cov, s);
    }
    free(memory);
    return status;
}

la_status la_class_shares_estimate(la_class_shares *s, const la_share_rows *rows, la_error *err) {
    double sum = 0;
    estimate e = {.rows = rows,
                  .class = la_alloc((size_t)s->n_classes, sizeof *e.class, err),
                  .reference = la_alloc((size_t)s->n_classes, sizeof *e.reference, err)};
    for (int64_t c = 0; err->status == LA_OK && c < s->n_classes; c++)
        if (s->training[c] > 0 && s->reference[c] > 0) {
            e.class[e.c] = c;
            sum += e.reference[e.c++] = s->reference[c];
        }
    for (int64_t a = 0; a < e.c; a++)
        e.reference[a] /= sum;
    e.m = e.c - 1;
    e.power = rows->n > ROWS_COUNTED ? ROWS_COUNTED / (double)rows->n : 1;
    la_status status = err->status == LA_OK ? run(&e, s, err) : err->status;
    if (status == LA_OK) {
        s->is_estimate = true;
        s->n_rows = rows->seen;
        la_class_shares_finish(s);
    }
    free(e.class);
    free(e.reference);
    return status;
}
