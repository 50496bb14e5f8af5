/* What the files of the host backend share. Nothing outside src/backend includes it. */
#ifndef LA_BACKEND_CPU_H
#define LA_BACKEND_CPU_H

#include "backend/ops.h"

#include <stddef.h>

typedef enum la_cpu_scratch {
    LA_SCRATCH_PANEL,
    LA_SCRATCH_ATTENTION,
    LA_SCRATCH_FACTOR,
    LA_SCRATCHES
} la_cpu_scratch;

typedef struct la_cpu {
    la_error fault; /* the first one, until sync */
    void *scratch[LA_SCRATCHES];
    size_t scratch_bytes[LA_SCRATCHES];
} la_cpu;

/* Workspace of at least bytes, kept from call to call; NULL (and a fault) when there is no memory.
 */
void *la_cpu_scratch_get(la_backend *be, la_cpu_scratch which, size_t bytes);
/* Bytes of the panel that weights of another type are widened in, and its rows. */
size_t la_cpu_panel_bytes(int64_t rows, int64_t cols, int64_t *step);

/* cpu_gemm.c */
void la_cpu_linear(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                   const la_mat *residual, la_mat *y);
void la_cpu_linear_activation(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                              la_activation kind, la_mat *before, la_mat *after);
void la_cpu_linear_backward(la_backend *be, const la_mat *g, const la_mat *w, float beta,
                            la_mat *dx);
void la_cpu_gemm(la_backend *be, bool trans_a, bool trans_b, float alpha, const la_mat *a,
                 const la_mat *b, float beta, la_mat *c);
/* cpu_rows.c */
void la_cpu_embed(la_backend *be, int n_tables, const la_mat *tables, const int32_t *const *ids,
                  float scale, la_mat *y);
void la_cpu_gather(la_backend *be, const la_mat *x, const int32_t *index, la_mat *y);
void la_cpu_scatter(la_backend *be, const la_mat *x, int64_t n_rhs, const int32_t *index,
                    bool accumulate, la_mat *y);
void la_cpu_segment_sum(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                        const int32_t *cu, bool mean, la_mat *y);
void la_cpu_segment_spread(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                           const int32_t *cu, la_mat *y);
void la_cpu_add(la_backend *be, const la_mat *x, la_mat *y);
void la_cpu_append_one(la_backend *be, const la_mat *x, la_mat *y);
/* cpu_pointwise.c */
void la_cpu_norm(la_backend *be, const la_norm *norm, const la_mat *x, float *stats, la_mat *y);
void la_cpu_norm_backward(la_backend *be, const la_norm *norm, const la_mat *x, const float *stats,
                          int64_t n_rhs, const la_mat *g, const la_mat *residual, la_mat *dx);
void la_cpu_scale_columns(la_backend *be, const la_mat *x, const float *c, const la_mat *bias,
                          const la_mat *residual, la_mat *y);
void la_cpu_activation(la_backend *be, la_activation kind, const la_mat *x, const la_mat *up,
                       la_mat *y);
void la_cpu_activation_backward(la_backend *be, la_activation kind, const la_mat *x,
                                const la_mat *up, int64_t n_rhs, const la_mat *g, la_mat *dx,
                                la_mat *dup);
void la_cpu_rotate(la_backend *be, int64_t n_heads, int64_t head_dim, int64_t rotary_dim,
                   const float *angles, const int32_t *positions, int64_t n_rhs, int sign,
                   la_mat *x);
/* cpu_attention.c */
size_t la_cpu_attention_bytes(la_team team, int64_t max_length, int64_t max_relative);
void la_cpu_attention(la_backend *be, const la_attention *a, const la_mat *q, const la_mat *k,
                      const la_mat *v, float *lse, la_mat *out);
void la_cpu_attention_backward(la_backend *be, const la_attention *a, const la_mat *q,
                               const la_mat *k, const la_mat *v, const float *lse,
                               const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq,
                               la_mat *dk, la_mat *dv);
/* cpu_curvature.c */
void la_cpu_factor_add(la_backend *be, double alpha, const la_mat *x, double *sum);
void la_cpu_sketch_add(la_backend *be, double alpha, const la_mat *x, int64_t l,
                       const double *omega, double *sum);
void la_cpu_diagonal(la_backend *be, int64_t n, const double *sum, double *host);
void la_cpu_square_add(la_backend *be, double alpha, const la_mat *x, double *sum);
void la_cpu_row_outer(la_backend *be, int64_t first, int64_t n_rows, const int32_t *cu,
                      int64_t n_rhs, float alpha, const la_mat *s, bool s_rhs, const la_mat *b,
                      bool b_rhs, la_mat *out);
void la_cpu_column_squares(la_backend *be, const la_mat *x, double *sum);
void la_cpu_kron_quadratic(la_backend *be, int64_t n_rows, int64_t n_rhs, const la_mat *r,
                           const la_mat *weight, double *cov);
size_t la_cpu_eigh_bytes(la_backend *be, int64_t n, int64_t rank);
la_status la_cpu_eigh(la_backend *be, int64_t count, la_eigen *problems, la_error *err);

#endif
