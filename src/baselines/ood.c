#include "baselines/ood.h"
#include "base/blas.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "baselines/mahalanobis.h"
#include "baselines/principal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* means[G, d] of the groups */
static la_status find_means(const la_principal *rows, int64_t n_groups, float *means,
                            la_error *err) {
    int64_t d = rows->width;
    double *sums = la_alloc((size_t)(n_groups * (d + 1)), sizeof *sums, err);
    if (!sums)
        return err->status;
    double *count = sums + n_groups * d;
    for (int64_t i = 0; i < rows->n; i++) {
        double *sum = sums + rows->group[i] * d;
        count[rows->group[i]]++;
        for (int64_t j = 0; j < d; j++)
            sum[j] += (double)rows->states[(rows->list ? rows->list[i] : i) * d + j];
    }
    for (int64_t g = 0; g < n_groups; g++)
        for (int64_t j = 0; j < d; j++)
            means[g * d + j] = (float)(sums[g * d + j] / count[g]);
    free(sums);
    return LA_OK;
}

/* ---- the covariance ---- */

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
    double scale = 0;
    int64_t *group = NULL;
    la_principal rows = {.n = n, .width = width, .list = list, .states = states};
    *out = (la_ood){.width = width};
    LA_TRY(check(n, list, width, states, &scale, err));
    rows.group = group = la_alloc((size_t)n, sizeof *group, err);
    LA_TRY_DONE(err->status);
    LA_TRY_DONE(group_rows(n, list, n_classes, labels, group, &out->n_groups, err));
    rows.means = out->means = la_alloc((size_t)(out->n_groups * width), sizeof *out->means, err);
    LA_TRY_DONE(err->status);
    LA_TRY_DONE(find_means(&rows, out->n_groups, out->means, err));
    if (la_principal_find(team, &rows, err) != LA_OK)
        LA_TRY_DONE(la_error_prefix(err, "ood: "));
    LA_TRY_DONE(cut(n, n < width ? n : width, rows.values, scale, out, err));
    if (out->rank)
        LA_TRY_DONE(la_principal_take(team, &rows, out->rank, out->vectors, err));
done:
    la_principal_free(&rows);
    free(group);
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
