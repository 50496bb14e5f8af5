/* Products with weights. Weights in f16, in bf16 or packed are widened panel by panel (a panel
 * stays in the second-level cache), so that a checkpoint is never held twice. */
#include "backend/cpu.h"
#include "backend/quant.h"
#include "base/blas.h"

#include <string.h>

/* About 1 MiB of floats. */
size_t la_cpu_panel_bytes(int64_t rows, int64_t cols, int64_t *step) {
    *step = (1 << 18) / (cols ? cols : 1);
    *step = *step < 32 ? 32 : *step;
    *step = *step > rows ? rows : *step;
    return (size_t)(*step * cols) * sizeof(float);
}

/* Rows of w that are taken at a time, and where they are widened: all of them and nowhere for f32.
 * False when there is no memory. */
static bool open_panel(la_backend *be, const la_mat *w, int64_t *step, float **panel) {
    *step = w->rows;
    *panel = NULL;
    if (w->type == LA_F32)
        return true;
    *panel = la_cpu_scratch_get(be, LA_SCRATCH_PANEL, la_cpu_panel_bytes(w->rows, w->cols, step));
    return *panel != NULL;
}

/* Rows [from, from + n) of w as f32: in place, or widened into the panel. */
static const float *weight_rows(la_backend *be, const la_mat *w, int64_t from, int64_t n,
                                float *panel) {
    if (w->type == LA_F32)
        return (const float *)w->data + from * w->ld;
    size_t size = la_dtype_size(w->type);
    const char *data = w->data;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < n; i++) {
        if (w->type == LA_CODES)
            la_quant_decode(w, (from + i) * w->ld, w->cols, panel + i * w->cols);
        else
            la_dtype_to_f32(w->type, data + (size_t)((from + i) * w->ld) * size, w->cols,
                            panel + i * w->cols);
    }
    return panel;
}

static int64_t weight_ld(const la_mat *w) {
    return w->type == LA_F32 ? w->ld : w->cols;
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
    int64_t step;
    float *panel;
    if (!open_panel(be, w, &step, &panel))
        return;
    for (int64_t from = 0; from < w->rows; from += step) {
        int64_t n = w->rows - from < step ? w->rows - from : step;
        const float *rows = weight_rows(be, w, from, n, panel);
        la_team_sgemm(be->team, false, true, x->rows, n, x->cols, 1, x->data, x->ld, rows,
                      weight_ld(w), filled ? 1 : 0, (float *)y->data + from, y->ld);
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
    int64_t step;
    float *panel;
    if (!open_panel(be, w, &step, &panel))
        return;
    for (int64_t from = 0; from < w->rows; from += step) {
        int64_t n = w->rows - from < step ? w->rows - from : step;
        const float *rows = weight_rows(be, w, from, n, panel);
        la_team_sgemm(be->team, false, false, g->rows, w->cols, n, 1, (const float *)g->data + from,
                      g->ld, rows, weight_ld(w), from ? 1 : beta, dx->data, dx->ld);
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
