#include "baselines/mahalanobis.h"
#include "base/blas.h"
#include "base/memory.h"
#include "likelihood/softmax_sum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 256, STRIP = 512, BLOCK = 64 }; /* columns; rows of a fit; rows of a score */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* sum[d, d] += x[rows, d]^T x, tiles of the lower triangle */
static void scatter_add(la_team team, int64_t rows, int64_t d, const double *x, double *sum) {
    int64_t tiles = (d + TILE - 1) / TILE;
#pragma omp parallel for schedule(dynamic) num_threads(team.threads)
    for (int64_t t = 0; t < tiles * tiles; t++) {
        int64_t i = t / tiles * TILE, j = t % tiles * TILE;
        if (j <= i)
            la_dgemm(true, false, least(TILE, d - i), least(TILE, d - j), rows, 1, x + i, d, x + j,
                     d, 1, sum + i * d + j, d);
    }
}

/* means[C, d] of the classes (0 without rows), centre[d] of all rows */
static void find_means(int64_t n, int64_t d, const float *states, const int64_t *labels,
                       int64_t n_classes, int64_t *count, double *means, double *centre) {
    for (int64_t i = 0; i < n; i++) {
        double *mean = means + labels[i] * d;
        count[labels[i]]++;
        for (int64_t j = 0; j < d; j++)
            mean[j] += (double)states[i * d + j];
    }
    for (int64_t c = 0; c < n_classes; c++)
        for (int64_t j = 0; j < d; j++) {
            centre[j] += means[c * d + j] / (double)n;
            means[c * d + j] /= count[c] ? (double)count[c] : 1;
        }
}

/* within[d, d] = mean of (state - class mean)(state - class mean)^T; strip[STRIP, d] */
static void find_within(la_team team, int64_t n, int64_t d, const float *states,
                        const int64_t *labels, const double *means, double *strip, double *within) {
    double share = 1 / sqrt((double)n);
    for (int64_t from = 0; from < n; from += STRIP) {
        int64_t rows = least(STRIP, n - from);
        for (int64_t i = 0; i < rows; i++) {
            const float *state = states + (from + i) * d;
            const double *mean = means + labels[from + i] * d;
            for (int64_t j = 0; j < d; j++)
                strip[i * d + j] = ((double)state[j] - mean[j]) * share;
        }
        scatter_add(team, rows, d, strip, within);
    }
}

/* Adds the covariance of the class means: within becomes that of all rows. */
static void add_between(la_team team, int64_t n, int64_t d, int64_t n_classes, const int64_t *count,
                        const double *means, const double *centre, double *strip, double *sum) {
    for (int64_t from = 0; from < n_classes; from += STRIP) {
        int64_t rows = least(STRIP, n_classes - from);
        for (int64_t i = 0; i < rows; i++) {
            double share = sqrt((double)count[from + i] / (double)n);
            for (int64_t j = 0; j < d; j++)
                strip[i * d + j] = share * (means[(from + i) * d + j] - centre[j]);
        }
        scatter_add(team, rows, d, strip, sum);
    }
}

double la_shrinkage(int64_t n, int64_t d, double trace, double square) {
    double excess = square - trace * (trace / (double)d);
    double r = (square + trace * trace) / ((double)(n + 1) * excess);
    /* written so that no excess (0/0, or below 0 by rounding) is full shrinkage */
    return excess > 0 && r < 1 ? r : 1;
}

/* cov[d, d] (lower) of n rows becomes the Cholesky factor of its shrunk form. mean_square: of the
 * states, below whose rounding a variance is none. */
static la_status shrink_and_factor(int64_t n, int64_t d, double mean_square, double *cov,
                                   double *shrinkage, la_error *err) {
    double trace = 0, square = 0;
    for (int64_t i = 0; i < d; i++) {
        trace += cov[i * d + i];
        square += cov[i * d + i] * cov[i * d + i];
        for (int64_t j = 0; j < i; j++)
            square += 2 * cov[i * d + j] * cov[i * d + j];
    }
    double variance = trace / (double)d;
    *shrinkage = la_shrinkage(n, d, trace, square);
    if (variance <= 1e-26 * mean_square) {
        *shrinkage = 1;
        variance = 1;
    }
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j <= i; j++)
            cov[i * d + j] = (1 - *shrinkage) * cov[i * d + j] + (i == j) * *shrinkage * variance;
    if (la_dpotrf(d, cov))
        return la_fail(err, LA_NUMERICAL,
                       "mahalanobis: the %lld x %lld covariance of %lld rows is not positive "
                       "definite",
                       (long long)d, (long long)d, (long long)n);
    return LA_OK;
}

static double mean_square(int64_t count, const float *values) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    return sum / (double)count;
}

la_status la_mahalanobis_fit(la_team team, int64_t n, int64_t width, int64_t n_classes,
                             const float *states, const int64_t *labels, la_mahalanobis *out,
                             la_error *err) {
    la_status status = LA_OK;
    size_t d = (size_t)(width > 0 ? width : 0), classes = (size_t)(n_classes > 0 ? n_classes : 0);
    double *strip = NULL, size = 0;
    *out = (la_mahalanobis){.n_classes = n_classes, .width = width};
    LA_TRY(la_rows_check("states", n, width, states, n_classes, labels, err));
    out->count = la_alloc(classes, sizeof *out->count, err);
    out->centre = la_alloc(d, sizeof *out->centre, err);
    out->means = la_alloc(classes, d * sizeof *out->means, err);
    out->factor = la_alloc(d, d * sizeof *out->factor, err);
    out->global_factor = la_alloc(d, d * sizeof *out->global_factor, err);
    strip = la_alloc(STRIP, d * sizeof *strip, err);
    LA_TRY_DONE(err->status);
    size = mean_square(n * width, states);
    find_means(n, width, states, labels, n_classes, out->count, out->means, out->centre);
    find_within(team, n, width, states, labels, out->means, strip, out->factor);
    memcpy(out->global_factor, out->factor, d * d * sizeof *out->factor);
    add_between(team, n, width, n_classes, out->count, out->means, out->centre, strip,
                out->global_factor);
    LA_TRY_DONE(shrink_and_factor(n, width, size, out->factor, &out->shrinkage, err));
    LA_TRY_DONE(shrink_and_factor(n, width, size, out->global_factor, &out->global_shrinkage, err));
    for (int64_t c = 0; c < n_classes; c++)
        for (int64_t j = 0; j < width; j++)
            out->means[c * width + j] -= out->centre[j];
    la_team_dtrsm(team, n_classes, width, out->factor, out->means);
done:
    free(strip);
    if (status != LA_OK)
        la_mahalanobis_free(out);
    return status;
}

void la_mahalanobis_free(la_mahalanobis *m) {
    free(m->count);
    free(m->centre);
    free(m->means);
    free(m->factor);
    free(m->global_factor);
    *m = (la_mahalanobis){0};
}

/* |x - y|^2; y NULL: |x|^2 */
static double square_distance(int64_t d, const double *x, const double *y) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d; j++) {
        double gap = x[j] - (y ? y[j] : 0);
        sum += gap * gap;
    }
    return sum;
}

/* x[rows, d] = states - centre */
static void centre_rows(const la_mahalanobis *m, int64_t rows, const float *states, double *x) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < m->width; j++)
            x[i * m->width + j] = (double)states[i * m->width + j] - m->centre[j];
}

static void score_rows(const la_mahalanobis *m, bool relative, int64_t rows, const float *states,
                       double *x, double *scores) {
    int64_t d = m->width;
    centre_rows(m, rows, states, x);
    la_dtrsm(rows, d, m->factor, x);
    for (int64_t i = 0; i < rows; i++) {
        scores[i] = INFINITY;
        for (int64_t c = 0; c < m->n_classes; c++)
            if (m->count[c])
                scores[i] = fmin(scores[i], square_distance(d, x + i * d, m->means + c * d));
    }
    if (!relative)
        return;
    centre_rows(m, rows, states, x);
    la_dtrsm(rows, d, m->global_factor, x);
    for (int64_t i = 0; i < rows; i++)
        scores[i] -= square_distance(d, x + i * d, NULL);
}

la_status la_mahalanobis_score(la_team team, const la_mahalanobis *m, bool relative, int64_t n,
                               const float *states, double *scores, la_error *err) {
    LA_TRY(la_rows_check("states", n, m->width, states, 0, NULL, err));
    la_slices x;
    LA_TRY(la_slices_open(team, (size_t)(BLOCK * m->width) * sizeof(double), &x, err));
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t from = 0; from < n; from += BLOCK)
        score_rows(m, relative, least(BLOCK, n - from), states + from * m->width, la_slices_own(&x),
                   scores + from);
    free(x.memory);
    return LA_OK;
}
