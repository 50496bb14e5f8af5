/* Factor sums and the predictive's quadratic forms. */
#include "backend/cpu_product.h"
#include "base/blas.h"

#include <string.h>

/* sum[d,d] lower += alpha x[T,d]^T x: the batch in f32, the sum over batches in f64 */
void la_cpu_factor_add(la_backend *be, double alpha, const la_mat *x, double *sum) {
    int64_t d = x->cols;
    if (!x->rows)
        return;
    float *batch = la_cpu_scratch_get(be, LA_SCRATCH_FACTOR, (size_t)(d * d) * sizeof(float));
    if (!batch)
        return;
    la_team_ssyrk(be->team, d, x->rows, x->data, x->ld, batch, d);
#pragma omp parallel for schedule(static, 16) num_threads(be->team.threads)
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j <= i; j++)
            sum[i * d + j] += alpha * (double)batch[i * d + j];
}

/* sum[d,l] += alpha x[T,d]^T (x omega) */
void la_cpu_sketch_add(la_backend *be, double alpha, const la_mat *x, int64_t l,
                       const double *omega, double *sum) {
    enum { ROWS = 256 }; /* rows that are widened at a time */
    int64_t d = x->cols;
    double *wide =
        la_cpu_scratch_get(be, LA_SCRATCH_FACTOR, (size_t)(ROWS * (d + l)) * sizeof(double));
    if (!wide)
        return;
    double *product = wide + ROWS * d;
    for (int64_t from = 0; from < x->rows; from += ROWS) {
        int64_t n = x->rows - from < ROWS ? x->rows - from : ROWS;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
        for (int64_t t = 0; t < n; t++)
            for (int64_t j = 0; j < d; j++)
                wide[t * d + j] = (double)((const float *)x->data)[(from + t) * x->ld + j];
        la_team_dgemm(be->team, false, false, n, l, d, 1, wide, d, omega, l, 0, product, l);
        la_team_dgemm(be->team, true, false, d, l, n, alpha, wide, d, product, l, 1, sum, l);
    }
}

void la_cpu_diagonal(la_backend *be, int64_t n, const double *sum, double *host) {
    (void)be;
    for (int64_t i = 0; i < n; i++)
        host[i] = sum[i * n + i];
}

void la_cpu_square_add(la_backend *be, double alpha, const la_mat *x, double *sum) {
    (void)be;
    double total = 0;
    for (int64_t t = 0; t < x->rows; t++) {
        const float *row = (const float *)x->data + t * x->ld;
        float square = 0;
#pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < x->cols; j++)
            square += row[j] * row[j];
        total += (double)square;
    }
    *sum += alpha * total;
}

/* sum[cols] += squares of x[rows, cols] */
void la_cpu_column_squares(la_backend *be, const la_mat *x, double *sum) {
    enum { STRIP = 512 }; /* columns whose sums stay in the first-level cache */
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t from = 0; from < x->cols; from += STRIP) {
        int64_t to = from + STRIP < x->cols ? from + STRIP : x->cols;
        for (int64_t t = 0; t < x->rows; t++) {
            const float *row = (const float *)x->data + t * x->ld;
            for (int64_t j = from; j < to; j++)
                sum[j] += (double)row[j] * (double)row[j];
        }
    }
}

void la_cpu_row_outer(la_backend *be, int64_t first, int64_t n_rows, const int32_t *cu,
                      int64_t n_rhs, float alpha, const la_mat *s, bool s_rhs, const la_mat *b,
                      bool b_rhs, la_mat *out) {
    int64_t s_tokens = s_rhs ? s->rows / n_rhs : 0, b_tokens = b_rhs ? b->rows / n_rhs : 0;
    int64_t height = s->cols;
#pragma omp parallel for collapse(2) schedule(dynamic, 4) num_threads(be->team.threads)
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t k = 0; k < n_rhs; k++) {
            int64_t from = cu[first + i], n = cu[first + i + 1] - from;
            const float *left = (const float *)s->data + (k * s_tokens + from) * s->ld;
            const float *right = (const float *)b->data + (k * b_tokens + from) * b->ld;
            float *to = (float *)out->data + (i * n_rhs + k) * height * out->ld;
            la_cpu_product_small(true, false, height, b->cols, n, alpha, left, s->ld, right, b->ld,
                                 0, to, out->ld);
        }
    }
}

void la_cpu_kron_quadratic(la_backend *be, int64_t n_rows, int64_t n_rhs, const la_mat *r,
                           const la_mat *weight, double *cov) {
    int64_t height = weight->rows, d = r->cols;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < n_rows; i++) {
        double *out = cov + i * n_rhs * n_rhs;
        for (int64_t p = 0; p < height; p++) {
            const float *w = (const float *)weight->data + p * weight->ld;
            for (int64_t k = 0; k < n_rhs; k++) {
                const float *rk = (const float *)r->data + ((i * n_rhs + k) * height + p) * r->ld;
                for (int64_t l = 0; l <= k; l++) {
                    const float *rl =
                        (const float *)r->data + ((i * n_rhs + l) * height + p) * r->ld;
                    float dot = 0;
#pragma omp simd reduction(+ : dot)
                    for (int64_t j = 0; j < d; j++)
                        dot += rk[j] * rl[j] * w[j];
                    out[k * n_rhs + l] += (double)dot;
                    if (l != k)
                        out[l * n_rhs + k] += (double)dot;
                }
            }
        }
    }
}
