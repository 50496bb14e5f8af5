#include "backend/profile.h"
#include "base/memory.h"
#include "base/threads.h"

#include <stdlib.h>

/* Operations that are products, and so the library's time, not ours. */
#define PRODUCTS(X)                                                                                \
    X(linear)                                                                                      \
    X(linear_activation) X(linear_backward) X(gemm) X(factor_add) X(sketch_add) X(row_outer)
#define OTHERS(X)                                                                                  \
    X(embed)                                                                                       \
    X(gather)                                                                                      \
    X(scatter)                                                                                     \
    X(segment_sum)                                                                                 \
    X(segment_spread)                                                                              \
    X(add)                                                                                         \
    X(append_one)                                                                                  \
    X(norm)                                                                                        \
    X(norm_backward)                                                                               \
    X(scale_columns)                                                                               \
    X(activation)                                                                                  \
    X(activation_backward)                                                                         \
    X(rotate)                                                                                      \
    X(attention)                                                                                   \
    X(attention_backward)                                                                          \
    X(square_add)                                                                                  \
    X(column_squares)                                                                              \
    X(kron_quadratic)                                                                              \
    X(eigh)

#define ENUM(name) OP_##name,
enum { PRODUCTS(ENUM) N_PRODUCTS, LAST_PRODUCT = N_PRODUCTS - 1, OTHERS(ENUM) N_OPS };

#define NAME(name) [OP_##name] = #name,
static const char *const names[N_OPS] = {PRODUCTS(NAME) OTHERS(NAME)};

struct la_profile {
    const la_ops *inner;
    la_ops table;
    double seconds[N_OPS];
    int64_t calls[N_OPS];
};

/* Runs the inner operation with the inner table in place, so that operations that call others are
 * timed once. */
#define TIMED(name, parameters, arguments)                                                         \
    static void timed_##name parameters {                                                          \
        la_profile *profile = be->profile;                                                         \
        double start = la_seconds();                                                               \
        be->ops = profile->inner;                                                                  \
        be->ops->name arguments;                                                                   \
        if (be->ops->wait)                                                                         \
            be->ops->wait(be);                                                                     \
        be->ops = &profile->table;                                                                 \
        profile->seconds[OP_##name] += la_seconds() - start;                                       \
        profile->calls[OP_##name]++;                                                               \
    }

TIMED(linear,
      (la_backend * be, const la_mat *x, const la_mat *w, const la_mat *bias,
       const la_mat *residual, la_mat *y),
      (be, x, w, bias, residual, y))
TIMED(linear_activation,
      (la_backend * be, const la_mat *x, const la_mat *w, const la_mat *bias, la_activation kind,
       la_mat *before, la_mat *after),
      (be, x, w, bias, kind, before, after))
TIMED(linear_backward, (la_backend * be, const la_mat *g, const la_mat *w, float beta, la_mat *dx),
      (be, g, w, beta, dx))
TIMED(gemm,
      (la_backend * be, bool ta, bool tb, float alpha, const la_mat *a, const la_mat *b, float beta,
       la_mat *c),
      (be, ta, tb, alpha, a, b, beta, c))
TIMED(embed,
      (la_backend * be, int n, const la_mat *tables, const int32_t *const *ids, float scale,
       la_mat *y),
      (be, n, tables, ids, scale, y))
TIMED(gather, (la_backend * be, const la_mat *x, const int32_t *index, la_mat *y),
      (be, x, index, y))
TIMED(scatter,
      (la_backend * be, const la_mat *x, int64_t n_rhs, const int32_t *index, bool accumulate,
       la_mat *y),
      (be, x, n_rhs, index, accumulate, y))
TIMED(segment_sum,
      (la_backend * be, const la_mat *x, int64_t n_rhs, int64_t n_rows, const int32_t *cu,
       bool mean, la_mat *y),
      (be, x, n_rhs, n_rows, cu, mean, y))
TIMED(segment_spread,
      (la_backend * be, const la_mat *x, int64_t n_rhs, int64_t n_rows, const int32_t *cu,
       la_mat *y),
      (be, x, n_rhs, n_rows, cu, y))
TIMED(add, (la_backend * be, const la_mat *x, la_mat *y), (be, x, y))
TIMED(append_one, (la_backend * be, const la_mat *x, la_mat *y), (be, x, y))
TIMED(norm, (la_backend * be, const la_norm *n, const la_mat *x, float *stats, la_mat *y),
      (be, n, x, stats, y))
TIMED(norm_backward,
      (la_backend * be, const la_norm *n, const la_mat *x, const float *stats, int64_t n_rhs,
       const la_mat *g, const la_mat *residual, la_mat *dx),
      (be, n, x, stats, n_rhs, g, residual, dx))
TIMED(scale_columns,
      (la_backend * be, const la_mat *x, const float *c, const la_mat *bias, const la_mat *residual,
       la_mat *y),
      (be, x, c, bias, residual, y))
TIMED(activation,
      (la_backend * be, la_activation kind, const la_mat *x, const la_mat *up, la_mat *y),
      (be, kind, x, up, y))
TIMED(activation_backward,
      (la_backend * be, la_activation kind, const la_mat *x, const la_mat *up, int64_t n_rhs,
       const la_mat *g, la_mat *dx, la_mat *dup),
      (be, kind, x, up, n_rhs, g, dx, dup))
TIMED(rotate,
      (la_backend * be, int64_t heads, int64_t head_dim, int64_t rotary_dim, const float *angles,
       const int32_t *positions, int64_t n_rhs, int sign, la_mat *x),
      (be, heads, head_dim, rotary_dim, angles, positions, n_rhs, sign, x))
TIMED(attention,
      (la_backend * be, const la_attention *a, const la_mat *q, const la_mat *k, const la_mat *v,
       float *lse, la_mat *out),
      (be, a, q, k, v, lse, out))
TIMED(attention_backward,
      (la_backend * be, const la_attention *a, const la_mat *q, const la_mat *k, const la_mat *v,
       const float *lse, const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq, la_mat *dk,
       la_mat *dv),
      (be, a, q, k, v, lse, out, n_rhs, g, dq, dk, dv))
TIMED(factor_add, (la_backend * be, double alpha, const la_mat *x, double *sum),
      (be, alpha, x, sum))
TIMED(sketch_add,
      (la_backend * be, double alpha, const la_mat *x, int64_t l, const double *omega, double *sum),
      (be, alpha, x, l, omega, sum))
TIMED(square_add, (la_backend * be, double alpha, const la_mat *x, double *sum),
      (be, alpha, x, sum))
TIMED(column_squares, (la_backend * be, const la_mat *x, double *sum), (be, x, sum))
TIMED(row_outer,
      (la_backend * be, int64_t first, int64_t n_rows, const int32_t *cu, int64_t n_rhs,
       float alpha, const la_mat *s, bool s_rhs, const la_mat *b, bool b_rhs, la_mat *out),
      (be, first, n_rows, cu, n_rhs, alpha, s, s_rhs, b, b_rhs, out))
TIMED(kron_quadratic,
      (la_backend * be, int64_t n_rows, int64_t n_rhs, const la_mat *r, const la_mat *weight,
       double *cov),
      (be, n_rows, n_rhs, r, weight, cov))

static la_status timed_eigh(la_backend *be, int64_t count, la_eigen *problems, la_error *err) {
    la_profile *profile = be->profile;
    double start = la_seconds();
    la_status status = profile->inner->eigh(be, count, problems, err);
    profile->seconds[OP_eigh] += la_seconds() - start;
    profile->calls[OP_eigh]++;
    return status;
}

la_status la_profile_start(la_backend *backend, la_error *err) {
    la_profile *profile = la_alloc(1, sizeof *profile, err);
    if (!profile)
        return err->status;
    profile->inner = backend->ops;
    profile->table = *backend->ops;
#define SET(name) profile->table.name = timed_##name;
    PRODUCTS(SET)
    OTHERS(SET)
#undef SET
    backend->profile = profile;
    backend->ops = &profile->table;
    return LA_OK;
}

void la_profile_report(const la_backend *backend, double total, const la_log *log) {
    const la_profile *profile = backend->profile;
    if (!profile || !(total > 0))
        return;
    if (backend->peak_bytes)
        la_warn(log, "device memory: peak %.2f GiB", (double)backend->peak_bytes / 1073741824.0);
    double products = 0, all = 0;
    bool told[N_OPS] = {false};
    for (int i = 0; i < N_OPS; i++) {
        products += i < N_PRODUCTS ? profile->seconds[i] : 0;
        all += profile->seconds[i];
    }
    la_warn(log, "time in products (BLAS) %.1f %%, in other operations %.1f %%, outside %.1f %%",
            100 * products / total, 100 * (all - products) / total, 100 * (total - all) / total);
    for (int n = 0; n < N_OPS; n++) {
        int most = -1;
        for (int i = 0; i < N_OPS; i++)
            if (!told[i] && profile->calls[i] &&
                (most < 0 || profile->seconds[i] > profile->seconds[most]))
                most = i;
        if (most < 0)
            break;
        told[most] = true;
        la_warn(log, "  %-20s %8.3f s %5.1f %% %8lld calls", names[most], profile->seconds[most],
                100 * profile->seconds[most] / total, (long long)profile->calls[most]);
    }
}

void la_profile_stop(la_backend *backend) {
    if (!backend->profile)
        return;
    backend->ops = backend->profile->inner;
    free(backend->profile);
    backend->profile = NULL;
}
