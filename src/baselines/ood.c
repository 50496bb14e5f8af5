#include "baselines/ood.h"
#include "base/blas.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "baselines/mahalanobis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRIP = 512 }; /* rows of a product */

/* ---- the groups ---- */

/* group[n] of the rows, *n_groups of them. */
static la_status group_rows(int64_t n, const int64_t *list, int64_t n_classes,
                            const int64_t *labels, int64_t *group, int64_t *n_groups,
                            la_error *err) {
    size_t classes = labels ? (size_t)n_classes : 1;
    int64_t *count = la_alloc(classes, sizeof *count, err),
            *of = la_alloc(classes, sizeof *of, err), rare = -1;
    *n_groups = 0;
    for (int64_t i = 0; err->status == LA_OK && i < n; i++)
        count[labels ? labels[list ? list[i] : i] : 0]++;
    for (size_t c = 0; err->status == LA_OK && c < classes; c++) {
        if (count[c] == 1 && rare < 0)
            rare = (*n_groups)++;
        if (count[c])
            of[c] = count[c] == 1 ? rare : (*n_groups)++;
    }
    for (int64_t i = 0; err->status == LA_OK && i < n; i++)
        group[i] = of[labels ? labels[list ? list[i] : i] : 0];
    free(count);
    free(of);
    return err->status;
}

/* Rows that a fit reads. */
typedef struct fit_rows {
    int64_t n, d;
    const int64_t *list;
    const float *states;
    int64_t *group; /* [n] */
} fit_rows;

static const float *state_of(const fit_rows *rows, int64_t i) {
    return rows->states + (rows->list ? rows->list[i] : i) * rows->d;
}

/* means[G, d] of the groups */
static la_status find_means(const fit_rows *rows, int64_t n_groups, float *means, la_error *err) {
    int64_t d = rows->d;
    double *sums = la_alloc((size_t)(n_groups * (d + 1)), sizeof *sums, err);
    if (!sums)
        return err->status;
    double *count = sums + n_groups * d;
    for (int64_t i = 0; i < rows->n; i++) {
        double *sum = sums + rows->group[i] * d;
        count[rows->group[i]]++;
        for (int64_t j = 0; j < d; j++)
            sum[j] += (double)state_of(rows, i)[j];
    }
    for (int64_t g = 0; g < n_groups; g++)
        for (int64_t j = 0; j < d; j++)
            means[g * d + j] = (float)(sums[g * d + j] / count[g]);
    free(sums);
    return LA_OK;
}

/* x[count, d] = (state - the group's mean) / sqrt(n) of rows from..from + count */
static void centre(const fit_rows *rows, int64_t from, int64_t count, const float *means,
                   double *x) {
    int64_t d = rows->d;
    double share = 1 / sqrt((double)rows->n);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < d; j++)
            x[i * d + j] = ((double)state_of(rows, from + i)[j] -
                            (double)means[rows->group[from + i] * d + j]) *
                           share;
}

/* ---- the covariance ---- */

/* values[m] descending, of x^T x with the centred rows x[n, d] where d <= n, else of x x^T, which
 * has the same but for zeros; the rows of vectors[m, m] belong to them from behind. x has at least
 * min(n, STRIP) rows, and all where n < d: it then holds them. */
static la_status decompose(la_team team, const fit_rows *rows, const float *means, double *x,
                           double *vectors, double *values, la_error *err) {
    int64_t n = rows->n, d = rows->d, m = n < d ? n : d;
    for (int64_t from = 0; d <= n && from < n; from += STRIP) {
        int64_t count = n - from < STRIP ? n - from : STRIP;
        centre(rows, from, count, means, x);
        la_team_dgemm(team, true, false, d, d, count, 1, x, d, x, d, 1, vectors, d);
    }
    if (n < d) {
        centre(rows, 0, n, means, x);
        la_team_dgemm(team, false, true, n, n, d, 1, x, d, x, d, 0, vectors, n);
    }
    int code = la_dsyevd(m, vectors, values);
    if (code)
        return la_fail(err, code == la_lapack_no_memory ? LA_RESOURCE : LA_NUMERICAL,
                       "ood: the %lld x %lld covariance of %lld states has no eigenpairs",
                       (long long)d, (long long)d, (long long)n);
    for (int64_t j = 0; j < m / 2; j++) {
        double v = values[j];
        values[j] = values[m - 1 - j];
        values[m - 1 - j] = v;
    }
    return LA_OK;
}

/* Shrinkage of the eigenvalues values[m] (d - m more are 0), then rank, values and rest of out.
 * scale: mean square of the states, below whose rounding a variance is none. */
static la_status cut(int64_t n, int64_t m, const double *values, double scale, la_ood *out,
                     la_error *err) {
    int64_t d = out->width;
    double trace = 0, square = 0, kept = 0;
    for (int64_t j = 0; j < m; j++) {
        double v = fmax(values[j], 0);
        trace += v;
        square += v * v;
    }
    double variance = trace / (double)d, r = la_shrinkage(n, d, trace, square);
    if (!(variance > 1e-13 * scale)) { /* what means round to in single precision */
        out->rest = 1;
        return LA_OK;
    }
    /* a zero eigenvalue is the rest's, and some rest stays */
    int64_t most = d - 1 < LA_OOD_RANK_MOST ? d - 1 : LA_OOD_RANK_MOST, k = 0;
    while (r < 1 && k < most && k < m && values[k] > 1e-10 * values[0] &&
           kept < LA_OOD_SHARE * trace)
        kept += (1 - r) * values[k++] + r * variance;
    out->rest = (trace - kept) / (double)(d - k);
    if (!(out->rest > 1e-13 * variance))
        out->rest = 1e-13 * variance;
    out->rank = k;
    if (!k)
        return LA_OK;
    out->values = la_alloc((size_t)k, sizeof *out->values, err);
    out->vectors = la_alloc((size_t)(k * d), sizeof *out->vectors, err);
    for (int64_t j = 0; err->status == LA_OK && j < k; j++)
        out->values[j] = (1 - r) * values[j] + r * variance;
    return err->status;
}

/* vectors[k, d] from those of decompose: x^T v / sqrt(value) where they are of x x^T. */
static la_status take_vectors(la_team team, int64_t n, const double *x, const double *v,
                              const double *values, la_ood *out, la_error *err) {
    int64_t d = out->width, k = out->rank, m = n < d ? n : d;
    const double *last = v + (m - k) * m; /* the k largest, ascending */
    double *rows = d <= n ? NULL : la_alloc((size_t)(k * d), sizeof *rows, err);
    LA_TRY(err->status);
    if (rows)
        la_team_dgemm(team, false, false, k, d, m, 1, last, m, x, d, 0, rows, d);
    for (int64_t j = 0; j < k; j++)
        for (int64_t c = 0; c < d; c++)
            out->vectors[j * d + c] = (float)(rows ? rows[(k - 1 - j) * d + c] / sqrt(values[j])
                                                   : last[(k - 1 - j) * d + c]);
    free(rows);
    return LA_OK;
}

static la_status check(int64_t n, const int64_t *list, int64_t d, const float *states,
                       double *scale, la_error *err) {
    if (n < 1 || d < 1)
        return la_fail(err, LA_BAD_INPUT, "ood: no rows to measure distances from");
    *scale = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) {
            double v = (double)states[(list ? list[i] : i) * d + j];
            if (!isfinite(v))
                return la_fail(err, LA_BAD_INPUT, "ood: the state of row %lld is not finite",
                               (long long)(list ? list[i] : i));
            *scale += v * v / (double)(n * d);
        }
    return LA_OK;
}

la_status la_ood_fit(la_team team, int64_t n, const int64_t *list, int64_t width,
                     const float *states, int64_t n_classes, const int64_t *labels, la_ood *out,
                     la_error *err) {
    la_status status = LA_OK;
    double scale = 0, *x = NULL, *vectors = NULL, *values = NULL;
    fit_rows rows = {.n = n, .d = width, .list = list, .states = states};
    int64_t m = n < width ? n : width;
    *out = (la_ood){.width = width};
    LA_TRY(check(n, list, width, states, &scale, err));
    x = la_alloc((size_t)((n < STRIP || n < width ? n : STRIP) * width), sizeof *x, err);
    rows.group = la_alloc((size_t)n, sizeof *rows.group, err);
    vectors = la_alloc((size_t)(m * m), sizeof *vectors, err);
    values = la_alloc((size_t)m, sizeof *values, err);
    LA_TRY_DONE(err->status);
    LA_TRY_DONE(group_rows(n, list, n_classes, labels, rows.group, &out->n_groups, err));
    out->means = la_alloc((size_t)(out->n_groups * width), sizeof *out->means, err);
    LA_TRY_DONE(err->status);
    LA_TRY_DONE(find_means(&rows, out->n_groups, out->means, err));
    LA_TRY_DONE(decompose(team, &rows, out->means, x, vectors, values, err));
    LA_TRY_DONE(cut(n, m, values, scale, out, err));
    if (out->rank)
        LA_TRY_DONE(take_vectors(team, n, x, vectors, values, out, err));
done:
    free(x);
    free(rows.group);
    free(values);
    free(vectors);
    if (status != LA_OK)
        la_ood_free(out);
    return status;
}

void la_ood_free(la_ood *ood) {
    free(ood->means);
    free(ood->vectors);
    free(ood->values);
    free(ood->table);
    *ood = (la_ood){0};
}

/* ---- the table ---- */

la_status la_ood_set_table(la_ood *ood, int64_t n, double *distances, bool held_out,
                           la_error *err) {
    int64_t m = n < LA_OOD_TABLE_MOST ? n : LA_OOD_TABLE_MOST;
    double *table = la_alloc((size_t)m, sizeof *table, err);
    if (!table)
        return err->status;
    la_doubles_sort(distances, n);
    for (int64_t i = 0; i < m; i++) /* the middle of each of m equal parts */
        table[i] = distances[(2 * i + 1) * n / (2 * m)];
    free(ood->table);
    ood->table = table;
    ood->n_table = m;
    ood->n_reference = n;
    ood->held_out = held_out;
    return LA_OK;
}

/* ---- a row ---- */

static double dot(int64_t d, const float *a, const float *b) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d; j++)
        sum += (double)a[j] * (double)b[j];
    return sum;
}

void la_ood_project(const la_ood *ood, double *projected) {
    for (int64_t g = 0; g < ood->n_groups; g++)
        for (int64_t j = 0; j < ood->rank; j++)
            projected[g * ood->rank + j] =
                dot(ood->width, ood->means + g * ood->width, ood->vectors + j * ood->width);
}

double la_ood_distance(const la_ood *ood, const double *projected, const float *state,
                       double *workspace) {
    int64_t d = ood->width, k = ood->rank;
    double least = INFINITY;
    for (int64_t j = 0; j < k; j++)
        workspace[j] = dot(d, state, ood->vectors + j * d);
    for (int64_t g = 0; g < ood->n_groups; g++) {
        const float *mean = ood->means + g * d;
        double all = 0, within = 0, sum = 0;
#pragma omp simd reduction(+ : all)
        for (int64_t j = 0; j < d; j++) {
            double gap = (double)state[j] - (double)mean[j];
            all += gap * gap;
        }
        for (int64_t j = 0; j < k; j++) {
            double gap = workspace[j] - projected[g * k + j];
            within += gap * gap;
            sum += gap * gap / ood->values[j];
        }
        least = fmin(least, sum + fmax(all - within, 0) / ood->rest);
    }
    return least;
}

double la_ood_share(const la_ood *ood, double distance) {
    int64_t low = 0, high = ood->n_table; /* table[..low) lies nearer, table[high..) does not */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (ood->table[middle] < distance)
            low = middle + 1;
        else
            high = middle;
    }
    return (double)low / (double)ood->n_table;
}
