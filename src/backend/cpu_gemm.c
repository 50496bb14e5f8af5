/* Products with weights. Weights of other types than the product's are widened (and rounded) panel
 * by panel, so that a checkpoint is never held twice: a panel stays in the second-level cache. */
#include "backend/cpu.h"
#include "backend/quant.h"
#include "base/blas.h"

#include <string.h>

/* About 1 MiB of floats. */
size_t la_cpu_panel_bytes(const la_backend *be, int64_t rows, int64_t cols, int64_t *step) {
    size_t number = sizeof(float);
    number += be->precision == LA_PRECISION_BF16 ? sizeof(uint16_t) : 0;
    *step = (1 << 18) / (cols ? cols : 1);
    *step = *step < 32 ? 32 : *step;
    *step = *step > rows ? rows : *step;
    return (size_t)(*step * cols) * number;
}

/* A weight as its products read it: rows of f32 or bf16. */
typedef struct factor {
    la_backend *be;
    const la_mat *w;
    la_dtype type;
    int64_t step, ld; /* rows taken at a time */
    float *panel;     /* NULL: it is read where it lies */
} factor;

/* False when there is no memory. */
static bool open_factor(la_backend *be, const la_mat *w, factor *f) {
    *f = (factor){.be = be, .w = w, .type = la_cpu_in_bf16(be, w) ? LA_BF16 : LA_F32};
    f->step = w->rows;
    f->ld = w->ld;
    if (w->type == f->type)
        return true;
    size_t bytes = la_cpu_panel_bytes(be, w->rows, w->cols, &f->step);
    f->ld = w->cols;
    f->panel = la_cpu_scratch_get(be, LA_SCRATCH_PANEL, bytes);
    return f->panel != NULL;
}

/* Rows [from, from + n), n at most step. */
static const void *rows_of(const factor *f, int64_t from, int64_t n) {
    la_backend *be = f->be;
    const la_mat *w = f->w;
    size_t size = la_dtype_size(w->type);
    const char *data = w->data;
    if (!f->panel)
        return data + (size_t)(from * w->ld) * size;
    uint16_t *narrow = (uint16_t *)(void *)(f->panel + f->step * w->cols);
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < n; i++) {
        float *row = f->panel + i * w->cols;
        if (w->type == LA_CODES)
            la_quant_decode(w, (from + i) * w->ld, w->cols, row);
        else
            la_dtype_to_f32(w->type, data + (size_t)((from + i) * w->ld) * size, w->cols, row);
        if (f->type == LA_BF16)
            la_f32_to_bf16(row, w->cols, narrow + i * w->cols);
    }
    return f->type == LA_BF16 ? (const void *)narrow : f->panel;
}

/* The other side of a product, of the factor's type: in place, or rounded. data NULL: there was no
 * memory. */
static la_mat side_of(const factor *f, const la_mat *x) {
    if (f->type == LA_F32)
        return *x;
    la_backend *be = f->be;
    size_t bytes = (size_t)(x->rows * x->cols) * sizeof(uint16_t);
    uint16_t *narrow = la_cpu_scratch_get(be, LA_SCRATCH_NARROW, bytes);
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < (narrow ? x->rows : 0); i++)
        la_f32_to_bf16((const float *)x->data + i * x->ld, x->cols, narrow + i * x->cols);
    return la_mat_of(LA_BF16, narrow, x->rows, x->cols);
}

/* c[m, n] = x[m, k] op(w) + beta c, x from column `at` on */
static void multiply(const factor *f, const la_mat *x, int64_t at, const void *w, bool trans_w,
                     int64_t n, int64_t k, float beta, float *c, int64_t ldc) {
    if (f->type == LA_BF16)
        la_team_bgemm(f->be->team, false, trans_w, x->rows, n, k, 1, (const uint16_t *)x->data + at,
                      x->ld, w, f->ld, beta, c, ldc);
    else
        la_team_sgemm(f->be->team, false, trans_w, x->rows, n, k, 1, (const float *)x->data + at,
                      x->ld, w, f->ld, beta, c, ldc);
}

/* y = x w^T + bias + residual */
void la_cpu_linear(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                   const la_mat *residual, la_mat *y) {
    if (!x->rows || !w->rows)
        return;
    bool filled = bias || residual;
    if (filled) {
        const float *shift = bias ? bias->data : NULL;
        size_t row_bytes = (size_t)y->cols * sizeof(float);
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
        for (int64_t t = 0; t < y->rows; t++) {
            float *out = (float *)y->data + t * y->ld;
            const float *add = residual ? (const float *)residual->data + t * residual->ld : NULL;
            if (shift && add) {
                for (int64_t j = 0; j < y->cols; j++)
                    out[j] = shift[j] + add[j];
            } else {
                memcpy(out, shift ? shift : add, row_bytes);
            }
        }
    }
    factor f;
    if (!open_factor(be, w, &f))
        return;
    la_mat side = side_of(&f, x);
    for (int64_t from = 0; from < w->rows && side.data; from += f.step) {
        int64_t n = w->rows - from < f.step ? w->rows - from : f.step;
        multiply(&f, &side, 0, rows_of(&f, from, n), true, n, x->cols, filled ? 1 : 0,
                 (float *)y->data + from, y->ld);
    }
}

void la_cpu_linear_activation(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                              la_activation kind, la_mat *before, la_mat *after) {
    la_cpu_linear(be, x, w, bias, NULL, before);
    la_cpu_activation(be, kind, before, NULL, after);
}

/* dx = beta dx + g w */
void la_cpu_linear_backward(la_backend *be, const la_mat *g, const la_mat *w, float beta,
                            la_mat *dx) {
    if (!g->rows || !w->rows)
        return;
    factor f;
    if (!open_factor(be, w, &f))
        return;
    la_mat side = side_of(&f, g);
    for (int64_t from = 0; from < w->rows && side.data; from += f.step) {
        int64_t n = w->rows - from < f.step ? w->rows - from : f.step;
        multiply(&f, &side, from, rows_of(&f, from, n), false, w->cols, n, from ? 1 : beta,
                 dx->data, dx->ld);
    }
}

void la_cpu_gemm(la_backend *be, bool trans_a, bool trans_b, float alpha, const la_mat *a,
                 const la_mat *b, float beta, la_mat *c) {
    int64_t k = trans_a ? a->rows : a->cols;
    if (!c->rows || !c->cols)
        return;
    la_team_sgemm(be->team, trans_a, trans_b, c->rows, c->cols, k, alpha, a->data, a->ld, b->data,
                  b->ld, beta, c->data, c->ld);
}
