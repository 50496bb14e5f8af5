/* Moving and summing rows. */
#include "backend/cpu.h"

#include <string.h>

/* y[T,d] = scale times the sum of table rows, all [*,d] */
void la_cpu_embed(la_backend *be, int n_tables, const la_mat *tables, const int32_t *const *ids,
                  float scale, la_mat *y) {
    int64_t d = y->cols;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t t = 0; t < y->rows; t++) {
        float *out = (float *)y->data + t * y->ld;
        memset(out, 0, (size_t)d * sizeof *out);
        for (int i = 0; i < n_tables; i++) {
            const la_mat *table = &tables[i];
            size_t size = la_dtype_size(table->type);
            const char *row = (const char *)table->data + (size_t)(ids[i][t] * table->ld) * size;
            for (int64_t from = 0; from < d; from += 256) {
                float piece[256];
                int64_t n = d - from < 256 ? d - from : 256;
                la_dtype_to_f32(table->type, row + (size_t)from * size, n, piece);
                for (int64_t j = 0; j < n; j++)
                    out[from + j] += scale * piece[j];
            }
        }
    }
}

void la_cpu_gather(la_backend *be, const la_mat *x, const int32_t *index, la_mat *y) {
    (void)be;
    for (int64_t i = 0; i < y->rows; i++)
        memcpy((float *)y->data + i * y->ld, (const float *)x->data + index[i] * x->ld,
               (size_t)y->cols * sizeof(float));
}

void la_cpu_scatter(la_backend *be, const la_mat *x, int64_t n_rhs, const int32_t *index,
                    bool accumulate, la_mat *y) {
    (void)be;
    int64_t n = x->rows / n_rhs, tokens = y->rows / n_rhs;
    if (!accumulate)
        for (int64_t t = 0; t < y->rows; t++)
            memset((float *)y->data + t * y->ld, 0, (size_t)y->cols * sizeof(float));
    for (int64_t k = 0; k < n_rhs; k++) {
        for (int64_t i = 0; i < n; i++) {
            const float *from = (const float *)x->data + (k * n + i) * x->ld;
            float *to = (float *)y->data + (k * tokens + index[i]) * y->ld;
            for (int64_t j = 0; j < x->cols; j++)
                to[j] += from[j];
        }
    }
}

/* y[n_rhs n,d] from x[n_rhs T,d] */
void la_cpu_segment_sum(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                        const int32_t *cu, bool mean, la_mat *y) {
    int64_t tokens = x->rows / n_rhs;
#pragma omp parallel for collapse(2) schedule(static) num_threads(be->team.threads)
    for (int64_t k = 0; k < n_rhs; k++) {
        for (int64_t i = 0; i < n_rows; i++) {
            float *out = (float *)y->data + (k * n_rows + i) * y->ld;
            memset(out, 0, (size_t)y->cols * sizeof *out);
            for (int64_t t = cu[i]; t < cu[i + 1]; t++) {
                const float *row = (const float *)x->data + (k * tokens + t) * x->ld;
                for (int64_t j = 0; j < y->cols; j++)
                    out[j] += row[j];
            }
            if (mean) {
                float scale = 1.0f / (float)(cu[i + 1] - cu[i]);
                for (int64_t j = 0; j < y->cols; j++)
                    out[j] *= scale;
            }
        }
    }
}

/* y[n_rhs T,d] from x[n_rhs n,d] */
void la_cpu_segment_spread(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                           const int32_t *cu, la_mat *y) {
    int64_t tokens = y->rows / n_rhs;
#pragma omp parallel for collapse(2) schedule(static) num_threads(be->team.threads)
    for (int64_t k = 0; k < n_rhs; k++) {
        for (int64_t i = 0; i < n_rows; i++) {
            const float *from = (const float *)x->data + (k * n_rows + i) * x->ld;
            float scale = 1.0f / (float)(cu[i + 1] - cu[i]);
            for (int64_t t = cu[i]; t < cu[i + 1]; t++) {
                float *to = (float *)y->data + (k * tokens + t) * y->ld;
                for (int64_t j = 0; j < y->cols; j++)
                    to[j] = scale * from[j];
            }
        }
    }
}

void la_cpu_add(la_backend *be, const la_mat *x, la_mat *y) {
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t t = 0; t < y->rows; t++) {
        const float *from = (const float *)x->data + t * x->ld;
        float *to = (float *)y->data + t * y->ld;
        for (int64_t j = 0; j < y->cols; j++)
            to[j] += from[j];
    }
}

void la_cpu_append_one(la_backend *be, const la_mat *x, la_mat *y) {
    (void)be;
    for (int64_t t = 0; t < y->rows; t++) {
        float *to = (float *)y->data + t * y->ld;
        memcpy(to, (const float *)x->data + t * x->ld, (size_t)x->cols * sizeof *to);
        to[x->cols] = 1;
    }
}
