/* Products with weights, by the backend's own kernels (cpu_product.c) or by a library. For that,
 * weights of other types than the product's are widened (and rounded) panel
 * by panel, so that a checkpoint is never held twice: a panel stays in the second-level cache. */
#include "backend/cpu_product.h"
#include "backend/quant.h"
#include "base/bf16.h"
#include "base/blas.h"

#include <string.h>

/* About 1 MiB of floats, or 2 MiB of halves: a product of bf16 rounds its other side again for
 * every panel. */
size_t la_cpu_panel_bytes(const la_backend *be, int64_t rows, int64_t cols, int64_t *step) {
    bool half = be->precision == LA_PRECISION_BF16;
    *step = (1 << (half ? 20 : 18)) / (cols ? cols : 1);
    *step = *step < 32 ? 32 : *step;
    *step = *step > rows ? rows : *step;
    size_t numbers = (size_t)(*step * cols), row = (size_t)cols * sizeof(float);
    if (!half)
        return numbers * sizeof(float);
    return la_slices_bytes(be->team, row) + numbers * sizeof(uint16_t);
}

/* A weight as its products read it: rows of f32 or bf16. */
typedef struct factor {
    la_backend *be;
    const la_mat *w;
    la_dtype type;
    int64_t step, ld; /* rows taken at a time */
    void *panel;      /* NULL: it is read where it lies */
    la_slices wide;   /* a row of f32 a thread, before the panel */
} factor;

/* False when there is no memory. */
static bool open_factor(la_backend *be, const la_mat *w, factor *f) {
    *f = (factor){.be = be, .w = w, .type = la_cpu_in_bf16(be, w) ? LA_BF16 : LA_F32};
    f->step = w->rows;
    f->ld = w->ld;
    if (w->type == f->type)
        return true;
    size_t bytes = la_cpu_panel_bytes(be, w->rows, w->cols, &f->step);
    char *memory = la_cpu_scratch_get(be, LA_SCRATCH_PANEL, bytes);
    f->ld = w->cols;
    f->panel = memory;
    if (memory && f->type == LA_BF16) {
        size_t row = (size_t)w->cols * sizeof(float);
        f->wide = la_slices_in(memory, row);
        f->panel = memory + la_slices_bytes(be->team, row);
    }
    return memory != NULL;
}

/* Rows [from, from + n), n at most step. */
static const void *rows_of(const factor *f, int64_t from, int64_t n) {
    la_backend *be = f->be;
    const la_mat *w = f->w;
    size_t size = la_dtype_size(w->type);
    const char *data = w->data;
    if (!f->panel)
        return data + (size_t)(from * w->ld) * size;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < n; i++) {
        float *row = f->type == LA_BF16 ? la_slices_own(&f->wide) : (float *)f->panel + i * w->cols;
        if (w->type == LA_CODES)
            la_quant_decode(w, (from + i) * w->ld, w->cols, row);
        else
            la_dtype_to_f32(w->type, data + (size_t)((from + i) * w->ld) * size, w->cols, row);
        if (f->type == LA_BF16)
            la_f32_to_bf16(row, w->cols, (uint16_t *)f->panel + i * w->cols);
    }
    return f->panel;
}

/* Rows of x that are rounded to bf16 at a time: they stay in the second-level cache until they are
 * multiplied. From the sizes alone. */
static int64_t rows_at_a_time(int64_t rows) {
    enum { FEW = 128, MANY = 256 };
    return rows < 8 * MANY ? FEW : MANY;
}

size_t la_cpu_narrow_bytes(la_team team, int64_t rows, int64_t cols) {
    int64_t most = rows_at_a_time(rows);
    return la_slices_bytes(team, (size_t)((rows < most ? rows : most) * cols) * sizeof(uint16_t));
}

/* c[m, n] = x[m, k] op(w) + beta c, rounded */
static void multiply_bf16(const factor *f, const la_mat *x, const void *w, bool trans_w, int64_t n,
                          float beta, float *c, int64_t ldc) {
    la_backend *be = f->be;
    int64_t step = rows_at_a_time(x->rows), most = x->rows < step ? x->rows : step;
    size_t bytes = la_cpu_narrow_bytes(be->team, x->rows, x->cols);
    void *memory = la_cpu_scratch_get(be, LA_SCRATCH_NARROW, bytes);
    if (!memory)
        return;
    la_slices slices = la_slices_in(memory, (size_t)(most * x->cols) * sizeof(uint16_t));
#pragma omp parallel for schedule(dynamic) num_threads(be->team.threads)
    for (int64_t at = 0; at < x->rows; at += step) {
        int64_t rows = x->rows - at < step ? x->rows - at : step;
        uint16_t *narrow = la_slices_own(&slices);
        for (int64_t i = 0; i < rows; i++)
            la_f32_to_bf16((const float *)x->data + (at + i) * x->ld, x->cols,
                           narrow + i * x->cols);
        la_bgemm(false, trans_w, rows, n, x->cols, 1, narrow, x->cols, w, f->ld, beta, c + at * ldc,
                 ldc);
    }
}

static void multiply(const factor *f, const la_mat *x, const void *w, bool trans_w, int64_t n,
                     float beta, float *c, int64_t ldc) {
    if (f->type == LA_BF16)
        multiply_bf16(f, x, w, trans_w, n, beta, c, ldc);
    else
        la_team_sgemm(f->be->team, false, trans_w, x->rows, n, x->cols, 1, x->data, x->ld, w, f->ld,
                      beta, c, ldc);
}

/* Whether the backend's own kernels multiply them. */
static bool is_own(const la_backend *be, const la_mat *x, const la_mat *w) {
    return x->cols && !la_cpu_in_bf16(be, w) && la_cpu_product_own(LA_SHAPE_LARGE);
}

/* y = x w^T + bias + residual */
void la_cpu_linear(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                   const la_mat *residual, la_mat *y) {
    if (!x->rows || !w->rows)
        return;
    if (is_own(be, x, w)) {
        la_cpu_joined joined = {.alpha = 1, .bias = bias ? bias->data : NULL, .residual = residual};
        la_cpu_product(be, x, w, true, &joined, y);
        return;
    }
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
    for (int64_t from = 0; from < w->rows; from += f.step) {
        int64_t n = w->rows - from < f.step ? w->rows - from : f.step;
        multiply(&f, x, rows_of(&f, from, n), true, n, filled ? 1 : 0, (float *)y->data + from,
                 y->ld);
    }
}

void la_cpu_linear_activation(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                              la_activation kind, la_mat *before, la_mat *after) {
    if (x->rows && w->rows && is_own(be, x, w)) {
        la_cpu_joined joined = {
            .alpha = 1, .bias = bias ? bias->data : NULL, .kind = kind, .after = after};
        la_cpu_product(be, x, w, true, &joined, before);
        return;
    }
    la_cpu_linear(be, x, w, bias, NULL, before);
    la_cpu_activation(be, kind, before, NULL, after);
}

/* dx = beta dx + g w */
void la_cpu_linear_backward(la_backend *be, const la_mat *g, const la_mat *w, float beta,
                            la_mat *dx) {
    if (!g->rows || !w->rows)
        return;
    if (is_own(be, g, w)) {
        la_cpu_joined joined = {.alpha = 1, .beta = beta};
        la_cpu_product(be, g, w, false, &joined, dx);
        return;
    }
    factor f;
    if (!open_factor(be, w, &f))
        return;
    for (int64_t from = 0; from < w->rows; from += f.step) {
        int64_t n = w->rows - from < f.step ? w->rows - from : f.step;
        la_mat part = {(float *)g->data + from, g->rows, n, g->ld, LA_F32};
        multiply(&f, &part, rows_of(&f, from, n), false, w->cols, from ? 1 : beta, dx->data,
                 dx->ld);
    }
}

void la_cpu_gemm(la_backend *be, bool trans_a, bool trans_b, float alpha, const la_mat *a,
                 const la_mat *b, float beta, la_mat *c) {
    int64_t k = trans_a ? a->rows : a->cols;
    if (!c->rows || !c->cols)
        return;
    if (k && !trans_a && la_cpu_product_own(la_shape_of(c->rows, c->cols, k))) {
        la_cpu_joined joined = {.alpha = alpha, .beta = beta};
        la_cpu_product(be, a, b, trans_b, &joined, c);
        return;
    }
    la_team_sgemm(be->team, trans_a, trans_b, c->rows, c->cols, k, alpha, a->data, a->ld, b->data,
                  b->ld, beta, c->data, c->ld);
}
