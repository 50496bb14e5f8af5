#include "baselines/principal.h"
#include "base/blas.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

enum { STRIP = 512 }; /* rows of a product */

/* x[count, d] = (state - its group's mean) / sqrt(n) of rows from..from + count */
static void centre(const la_principal *p, int64_t from, int64_t count) {
    int64_t d = p->width;
    double share = 1 / sqrt((double)p->n);
    for (int64_t i = 0; i < count; i++) {
        const float *state = p->states + (p->list ? p->list[from + i] : from + i) * d;
        const float *mean = p->means + (p->group ? p->group[from + i] : 0) * d;
        for (int64_t j = 0; j < d; j++)
            p->x[i * d + j] = ((double)state[j] - (double)mean[j]) * share;
    }
}

/* Where d <= n the eigenvectors are of x^T x, summed strip by strip; else of x x^T, which has the
 * same values but for zeros, and x holds all rows. The rows of vectors belong to the values from
 * behind. */
la_status la_principal_find(la_team team, la_principal *p, la_error *err) {
    int64_t n = p->n, d = p->width, m = n < d ? n : d;
    p->x = la_alloc((size_t)((n < STRIP || n < d ? n : STRIP) * d), sizeof *p->x, err);
    p->vectors = la_alloc((size_t)(m * m), sizeof *p->vectors, err);
    p->values = la_alloc((size_t)m, sizeof *p->values, err);
    LA_TRY(err->status);
    for (int64_t from = 0; d <= n && from < n; from += STRIP) {
        int64_t count = n - from < STRIP ? n - from : STRIP;
        centre(p, from, count);
        la_team_dgemm(team, true, false, d, d, count, 1, p->x, d, p->x, d, 1, p->vectors, d);
    }
    if (n < d) {
        centre(p, 0, n);
        la_team_dgemm(team, false, true, n, n, d, 1, p->x, d, p->x, d, 0, p->vectors, n);
    }
    int code = la_dsyevd(m, p->vectors, p->values);
    if (code)
        return la_fail(err, code == la_lapack_no_memory ? LA_RESOURCE : LA_NUMERICAL,
                       "the %lld x %lld covariance of %lld states has no eigenpairs", (long long)d,
                       (long long)d, (long long)n);
    for (int64_t j = 0; j < m / 2; j++) {
        double v = p->values[j];
        p->values[j] = p->values[m - 1 - j];
        p->values[m - 1 - j] = v;
    }
    return LA_OK;
}

/* Of x x^T: x^T v / sqrt(value). */
la_status la_principal_take(la_team team, const la_principal *p, int64_t k, float *directions,
                            la_error *err) {
    int64_t n = p->n, d = p->width, m = n < d ? n : d;
    const double *last = p->vectors + (m - k) * m; /* the k largest, ascending */
    double *rows = d <= n ? NULL : la_alloc((size_t)(k * d), sizeof *rows, err);
    LA_TRY(err->status);
    if (rows)
        la_team_dgemm(team, false, false, k, d, m, 1, last, m, p->x, d, 0, rows, d);
    for (int64_t j = 0; j < k; j++)
        for (int64_t c = 0; c < d; c++)
            directions[j * d + c] = (float)(rows ? rows[(k - 1 - j) * d + c] / sqrt(p->values[j])
                                                 : last[(k - 1 - j) * d + c]);
    free(rows);
    return LA_OK;
}

void la_principal_free(la_principal *p) {
    free(p->x);
    free(p->vectors);
    free(p->values);
    p->x = p->vectors = p->values = NULL;
}
