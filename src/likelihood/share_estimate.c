/* Class shares of rows without labels, from the model's probabilities of them.
 *
 * Where held-out rows have told what the model answers on rows of each class, a row counts as one
 * answer that is drawn by its probabilities: of n rows with the mean probabilities m, n m_j are
 * answers j, and a row of class c is answered j with the mean probability M_cj of the held-out rows
 * of c. That holds whether or not the probabilities are right, also far out in their tails (Lipton,
 * Wang, Smola 2018, arXiv 1802.03916, who invert M), and drawing adds to the variance of m, so that
 * it never says more than the rows do. Where nothing has been told, the rows' own likelihood ratios
 * p_c / reference_c take M's place, and all rows together count as few. */
#include "base/blas.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "base/stop.h"
#include "likelihood/likelihood.h"
#include "likelihood/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows that all of them together count as at most, without M: probabilities are never so right in
 * their tails as the evidence of many would take them to be, and a rare class would swallow others.
 */
enum { ROWS_COUNTED = 20 };

/* The strength s of a prior is in rows: how many with the reference shares it is worth. The last
 * one is that the shares have not moved. */
enum { STRENGTHS = 5, UNMOVED = STRENGTHS, STEPS_MOST = 1000 };
static const double strengths[STRENGTHS] = {2048, 512, 128, 32, 8};
/* Where there are too many classes for standard errors, and so for evidence. */
enum { PLAIN = 3 };
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
    int64_t n;         /* rows; or c kinds of answers */
    int64_t *class;    /* [C] their numbers */
    double *reference; /* [C] shares P at which no row is re-weighted */
    double *ratio;     /* [answers, C] M_cj, c fastest; NULL: rows */
    double *count;     /* [answers] share of the rows that is answered so */
    double *told;      /* [C] held-out rows of each class that M is from */
    double *q, *sums;  /* [C] */
    double *shares;    /* [STRENGTHS + 1, C] */
    double evidence[STRENGTHS + 1];
    double counted; /* what all rows together count as */
    /* where there are few enough classes; else NULL */
    double *basis, *part;     /* [C, m], [C, C] */
    double *square, *hessian; /* [C, C], [m, m] */
    double *cov;              /* [STRENGTHS + 1, C, C] of the shares */
} estimate;

/* What a row, or an answer, counts. */
static double power_of(const estimate *e, int64_t i) {
    return e->counted * (e->ratio ? e->count[i] : 1 / (double)e->n);
}

/* q[C] of a row, or of an answer, under shares P; returns their sum before they are divided by it.
 */
static double weigh(const estimate *e, int64_t i, const double *shares, double *q) {
    double sum = 0;
    if (e->ratio) {
        for (int64_t c = 0; c < e->c; c++)
            sum += q[c] = e->ratio[i * e->c + c] * shares[c];
    } else {
        const float *p = e->rows->probs + i * e->rows->n_classes;
        for (int64_t c = 0; c < e->c; c++)
            sum += q[c] = (double)p[e->class[c]] / e->reference[c] * shares[c];
    }
    for (int64_t c = 0; c < e->c; c++)
        q[c] = sum > 0 ? q[c] / sum : shares[c];
    return sum;
}

/* EM's step, of the posterior's mode in the softmax basis: P_c = (sum of power q_c + s reference_c)
 * over counted + s. Returns how far they moved. */
static double step(estimate *e, double strength, double *shares) {
    double moved = 0, n = e->counted + strength;
    memset(e->sums, 0, (size_t)e->c * sizeof *e->sums);
    for (int64_t i = 0; i < e->n; i++) {
        double power = power_of(e, i);
        weigh(e, i, shares, e->q);
        for (int64_t c = 0; c < e->c; c++)
            e->sums[c] += power * e->q[c];
    }
    for (int64_t c = 0; c < e->c; c++) {
        double to = (e->sums[c] + strength * e->reference[c]) / n;
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
 * contrasts: s diag(reference) + sum of power q q^T - (counted + s) P P^T. *value: the log
 * likelihood. */
static void second_derivative(estimate *e, double strength, const double *shares, double *value) {
    int64_t c = e->c, m = e->m;
    double n = e->counted + strength;
    memset(e->square, 0, (size_t)(c * c) * sizeof *e->square);
    *value = 0;
    for (int64_t i = 0; i < e->n; i++) {
        double sum = weigh(e, i, shares, e->q), power = power_of(e, i);
        *value += power * log(sum > 0 ? sum : 1);
        for (int64_t a = 0; a < c; a++)
            for (int64_t b = 0; b <= a; b++)
                e->square[a * c + b] += power * e->q[a] * e->q[b];
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
    bool informed = e->c > 1 && e->c <= LA_SHARE_ANSWERS_MOST;
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

/* Mean shares, and their covariance where there is one, for what the rows count as. */
static la_status run_counted(estimate *e, double counted, la_error *err) {
    e->counted = counted;
    LA_TRY(run_strengths(e, err));
    average(e, e->sums, e->cov ? e->square : NULL);
    return LA_OK;
}

/* What n rows with shares P count as: the variance of their mean answer is 1 / n of a row's, and
 * that of what M says it is the sum over classes of P_c^2 / told_c. */
static double rows_counted(const estimate *e, const double *shares) {
    double variance = 1 / (double)e->rows->n;
    for (int64_t c = 0; c < e->c; c++)
        variance += shares[c] * shares[c] / e->told[c];
    return e->rows->n ? 1 / variance : 0;
}

/* Of answers the second run counts the rows by the shares that the first has found. */
static la_status run(estimate *e, la_class_shares *s, la_error *err) {
    double *memory = NULL, n = (double)e->rows->n;
    la_status status = allocate(e, &memory, err);
    if (status == LA_OK)
        status =
            run_counted(e, e->ratio ? rows_counted(e, e->reference) : fmin(n, ROWS_COUNTED), err);
    if (status == LA_OK && e->ratio)
        status = run_counted(e, rows_counted(e, e->sums), err);
    if (status == LA_OK)
        convert(e, e->sums, e->cov ? e->square : NULL, s);
    free(memory);
    return status;
}

/* ---- what rows of each class are answered ---- */

/* Mean probabilities m[C] of the held-out rows of the classes; returns how many rows these are. */
static double mean_answers(const estimate *e, const la_class_shares *s, double *m) {
    double n = 0;
    memset(m, 0, (size_t)s->n_classes * sizeof *m);
    for (int64_t a = 0; a < e->c; a++) {
        const double *sums = s->answers + e->class[a] * s->n_classes;
        for (int64_t j = 0; j < s->n_classes; j++) {
            m[j] += sums[j];
            n += sums[j];
        }
    }
    for (int64_t j = 0; j < s->n_classes && n > 0; j++)
        m[j] /= n;
    return n;
}

/* M from the sums of held-out rows of each class, and C rows more, m_c of each: these are answered
 * m, as if there were no classes, so that few rows say little; and rows in use that are answered m
 * on average are not re-weighted. m[C] becomes the answers' counts. */
static void set_answers(estimate *e, const la_class_shares *s, double *m) {
    double all = 0, of_classes = 0;
    int64_t kept = 0;
    if (!(mean_answers(e, s, m) > 0))
        return;
    for (int64_t a = 0; a < e->c; a++) {
        const double *sums = s->answers + e->class[a] * s->n_classes;
        double told = 0;
        for (int64_t j = 0; j < s->n_classes; j++)
            told += sums[j];
        if (!(told > 0 || m[e->class[a]] > 0))
            continue;
        of_classes += m[e->class[a]];
        e->class[kept] = e->class[a];
        e->told[kept++] = told;
    }
    e->c = kept;
    e->n = s->n_classes;
    for (int64_t a = 0; a < e->c; a++) {
        const double *sums = s->answers + e->class[a] * s->n_classes;
        double more = (double)e->c * m[e->class[a]] / of_classes;
        e->told[a] += more;
        all += e->told[a];
        for (int64_t j = 0; j < s->n_classes; j++)
            e->ratio[j * e->c + a] = (sums[j] + more * m[j]) / e->told[a];
    }
    for (int64_t a = 0; a < e->c; a++)
        e->reference[a] = e->told[a] / all;
    memset(m, 0, (size_t)s->n_classes * sizeof *m);
    for (int64_t i = 0; i < e->rows->n; i++)
        for (int64_t j = 0; j < s->n_classes; j++)
            m[j] += (double)e->rows->probs[i * s->n_classes + j] / (double)e->rows->n;
    e->count = m;
}

/* Classes, their reference and what rows of them are answered. memory[3 + C, C], or [C] without
 * answers. */
static void set_classes(estimate *e, const la_class_shares *s, double *memory) {
    double sum = 0;
    e->reference = memory;
    for (int64_t c = 0; c < s->n_classes; c++)
        if (s->training[c] > 0 && s->reference[c] > 0) {
            e->class[e->c] = c;
            sum += e->reference[e->c++] = s->reference[c];
        }
    for (int64_t a = 0; a < e->c; a++)
        e->reference[a] /= sum;
    e->n = e->rows->n;
    if (s->answers) {
        e->told = memory + s->n_classes;
        e->ratio = memory + 3 * s->n_classes;
        set_answers(e, s, memory + 2 * s->n_classes);
    }
    e->ratio = e->count ? e->ratio : NULL;
    e->m = e->c - 1;
}

la_status la_class_shares_estimate(la_class_shares *s, const la_share_rows *rows, la_error *err) {
    size_t c = (size_t)s->n_classes;
    double *memory = la_alloc(s->answers ? (3 + c) * c : c, sizeof *memory, err);
    estimate e = {.rows = rows, .class = la_alloc(c, sizeof *e.class, err)};
    la_status status = err->status;
    if (status == LA_OK) {
        set_classes(&e, s, memory);
        status = run(&e, s, err);
    }
    if (status == LA_OK) {
        s->is_estimate = true;
        s->n_rows = rows->seen;
        la_class_shares_finish(s);
    }
    free(e.class);
    free(memory);
    return status;
}
