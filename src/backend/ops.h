/* The seam between model code and machines: one table of operations on matrices.
 *
 * Forward tensors have T rows (the packed tokens of a batch, no padding). Cotangents have n_rhs * T
 * rows: right-hand side k, token t is row k * T + t; forward values are read once for all
 * right-hand sides. Operations are eager, may be asynchronous, and do not return errors: a backend
 * keeps its first fault until `sync` hands it over. Matrices are row-major. Activations and
 * cotangents are of the backend's activation type, f32 or bf16; the head works in f32; weights may
 * be f32, f16, bf16 or packed (quant.h). */
#ifndef LA_BACKEND_OPS_H
#define LA_BACKEND_OPS_H

#include "base/team.h"
#include "input/safetensors.h"

#include <stdbool.h>

/* A view: it does not own its memory. ld: elements from one row to the next. Of type LA_CODES, data is
 * a la_quant on the host (quant.h). */
typedef struct la_mat {
    void *data;
    int64_t rows, cols, ld;
    la_dtype type;
} la_mat;

static inline la_mat la_mat_of(la_dtype type, void *data, int64_t rows, int64_t cols) {
    la_mat m = {data, rows, cols, cols, type};
    return m;
}
static inline la_mat la_mat_f32(float *data, int64_t rows, int64_t cols) {
    return la_mat_of(LA_F32, data, rows, cols);
}

/* How products are computed. Sums are at least f32 in all of them. */
typedef enum la_precision {
    LA_PRECISION_F32,
    LA_PRECISION_TF32, /* f32 storage, factors of products rounded to 10 bits */
    LA_PRECISION_BF16, /* activations, cotangents and weights in bf16 */
    LA_PRECISIONS
} la_precision;

typedef enum la_activation {
    LA_ACT_NONE,
    LA_ACT_GELU,      /* x Phi(x), by erf */
    LA_ACT_GELU_TANH, /* its tanh approximation */
    LA_ACT_SILU,
    LA_ACT_RELU,
    LA_ACT_TANH
} la_activation;

typedef enum la_norm_kind { LA_NORM_LAYER, LA_NORM_RMS } la_norm_kind;

typedef struct la_norm {
    la_norm_kind kind;
    float eps;
    const float *weight, *bias; /* [d]; bias NULL for none */
} la_norm;

/* Scores that also know the distance d of query and key, query's place minus key's (arXiv
 * 2006.03654, equation 4): scale (q.k + q.pos_k[at d] + k.pos_q[at d]). */
typedef struct la_relative {
    la_mat pos_k, pos_q; /* [P, heads * head_dim]; data NULL: the scores lack that term */
    const int32_t *at;   /* [2 reach + 1]: at[reach + d], never falling as d grows */
    int64_t reach;       /* at least max_length - 1 */
    /* For the backward: a row of length L has cotangents of its own of the rows at[-(L - 1)] to
     * at[L - 1] of pos, which begin at cu[row]. */
    const int32_t *cu;     /* [n_rows + 1] */
    la_mat dpos_k, dpos_q; /* [n_rhs cu[n_rows], heads * head_dim]; data NULL: not asked for */
} la_relative;

enum { LA_ATTENTION_ALL = INT32_MAX }; /* a window without an edge */

/* Rows of varying length in one pack. Queries may be a subset of a row's tokens. A query at place p
 * of its row sees the keys at p - before to p + after. */
typedef struct la_attention {
    int64_t n_rows;
    const int32_t *cu;   /* [n_rows + 1] first key token of each row */
    const int32_t *cu_q; /* [n_rows + 1] first query of each row */
    const int32_t *q_at; /* [queries] place of a query within its row, rising within a row */
    int64_t n_heads, n_kv_heads, head_dim;
    int64_t max_length;    /* longest row */
    int64_t max_queries;   /* of a row */
    int64_t before, after; /* at most LA_ATTENTION_ALL; after 0: causal */
    float scale;
    float softcap;               /* scores become softcap tanh(score / softcap); 0: they stay */
    const la_relative *relative; /* NULL: scores are q.k alone; else n_heads = n_kv_heads */
} la_attention;

typedef struct la_backend la_backend;

/* What the workspaces of a run depend on; 0 where something does not occur. */
typedef struct la_sizes {
    int64_t max_rows, max_tokens, max_length, n_rhs, n_heads;
    int64_t max_width;    /* columns of the widest activation */
    int64_t max_factor;   /* side of the largest factor that is summed */
    int64_t max_weight;   /* elements of the largest weight that is not of the activation type */
    int64_t max_small;    /* columns of the widest adapter state that is multiplied in f32 */
    int64_t max_relative; /* rows of la_relative.pos_k that a row of the batch can reach */
} la_sizes;

/* A symmetric positive semi-definite matrix to decompose. */
typedef struct la_eigen {
    const char *name; /* for messages */
    int64_t n, rank;  /* eigenpairs wanted: the rank largest */
    double *a;        /* [n, n] where factor sums live, lower triangle; destroyed */
    double *values;   /* [rank] on the host, descending */
    float *vectors;   /* [rank, n] on the host: row i belongs to values[i] */
    double least;     /* out: the smallest eigenvalue; NaN where only the largest are computed */
} la_eigen;

typedef struct la_ops {
    const char *name;
    /* place hands out host addresses where it can: weights take no memory of their own */
    bool in_place;

    /* ---- memory ---- */
    /* 64-byte aligned; NULL when there is none. */
    void *(*alloc)(la_backend *be, size_t bytes);
    void (*release)(la_backend *be, void *memory);
    void (*upload)(la_backend *be, void *to, const void *from, size_t bytes);
    void (*download)(la_backend *be, void *to, const void *from, size_t bytes);
    void (*zero)(la_backend *be, void *memory, size_t bytes);
    /* Where a read-only host array of count numbers of type from can be read by the operations as
     * numbers of type to: the host address itself, or a copy. NULL when there is no memory. *copied
     * tells whether release() is due. */
    const void *(*place)(la_backend *be, const void *host, la_dtype from, int64_t count,
                         la_dtype to, bool *copied);
    /* Bytes that alloc could still hand out, and all there are. */
    void (*memory)(la_backend *be, size_t *available, size_t *total);
    /* Bytes that reserve would hold in all. */
    size_t (*workspace)(la_backend *be, const la_sizes *sizes);
    /* Called before a run, and again when a batch will be larger: makes all workspaces, so that the
     * batch loop allocates nothing. */
    la_status (*reserve)(la_backend *be, const la_sizes *sizes, la_error *err);
    /* Waits for all operations; returns the first fault. */
    la_status (*sync)(la_backend *be, la_error *err);
    /* Waits, and leaves faults to sync; NULL where operations are done when they return. */
    void (*wait)(la_backend *be);
    void (*close)(la_backend *be);

    /* ---- products ---- */
    /* y[T,out] = x[T,in] w[out,in]^T + bias[1,out] + residual[T,out]; bias, residual may be NULL.
     * bias is of the type of y. */
    void (*linear)(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                   const la_mat *residual, la_mat *y);
    /* before[T,out] = x w^T + bias, after = act(before) */
    void (*linear_activation)(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                              la_activation kind, la_mat *before, la_mat *after);
    /* dx[R,in] = beta dx + g[R,out] w[out,in] */
    void (*linear_backward)(la_backend *be, const la_mat *g, const la_mat *w, float beta,
                            la_mat *dx);
    /* c = alpha op(a) op(b) + beta c; a and b f32 or bf16 each, c f32, or bf16 where both are */
    void (*gemm)(la_backend *be, bool trans_a, bool trans_b, float alpha, const la_mat *a,
                 const la_mat *b, float beta, la_mat *c);

    /* ---- rows ---- */
    /* y[T,d] = scale times the sum over tables of table[ids[t]]; a table is [rows,d] of any weight
     * type. */
    void (*embed)(la_backend *be, int n_tables, const la_mat *tables, const int32_t *const *ids,
                  float scale, la_mat *y);
    /* y[i] = x[index[i]]; here and in scatter and segment_sum x and y may differ in type */
    void (*gather)(la_backend *be, const la_mat *x, const int32_t *index, la_mat *y);
    /* y[k T + index[i]] (+)= x[k n + i]; without accumulate y is zeroed first. n = x.rows / n_rhs.
     */
    void (*scatter)(la_backend *be, const la_mat *x, int64_t n_rhs, const int32_t *index,
                    bool accumulate, la_mat *y);
    /* y[k n + i] = scale_i sum of x[k T + t] over tokens t of row i; scale 1, or 1 / length for a
     * mean. */
    void (*segment_sum)(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                        const int32_t *cu, bool mean, la_mat *y);
    /* y[k T + t] = x[k n + i], divided by the length of row i, for the tokens t of row i: the
     * backward of a mean over tokens. */
    void (*segment_spread)(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                           const int32_t *cu, la_mat *y);
    /* y += x */
    void (*add)(la_backend *be, const la_mat *x, la_mat *y);
    /* y[:,0..d) = x, y[:,d] = 1 */
    void (*append_one)(la_backend *be, const la_mat *x, la_mat *y);

    /* ---- pointwise, with their backward through activations ---- */
    /* y = norm(x); stats[T][2] keeps mean and 1/deviation */
    void (*norm)(la_backend *be, const la_norm *norm, const la_mat *x, float *stats, la_mat *y);
    /* dx[n_rhs T,d] = d norm / dx ^T g + residual; residual may be NULL; dx may be g or residual */
    void (*norm_backward)(la_backend *be, const la_norm *norm, const la_mat *x, const float *stats,
                          int64_t n_rhs, const la_mat *g, const la_mat *residual, la_mat *dx);
    /* y[R,d] = c[d] x[R,d] + bias[1,d] + residual[R,d]; bias (of the type of y) and residual may be
     * NULL; y may be x or residual */
    void (*scale_columns)(la_backend *be, const la_mat *x, const float *c, const la_mat *bias,
                          const la_mat *residual, la_mat *y);
    /* y = act(x), or act(x) * up */
    void (*activation)(la_backend *be, la_activation kind, const la_mat *x, const la_mat *up,
                       la_mat *y);
    /* dx = g act'(x) [* up], dup = g act(x); up and dup may be NULL; dx may be g */
    void (*activation_backward)(la_backend *be, la_activation kind, const la_mat *x,
                                const la_mat *up, int64_t n_rhs, const la_mat *g, la_mat *dx,
                                la_mat *dup);
    /* Rotary embedding in place of the first rotary_dim columns of each head, first half paired with
     * second half. angles[position][rotary_dim/2][2]: cosine, sine, both times a factor that some
     * scalings have. rows T or n_rhs T; sign -1 is the transposed map (the backward). */
    void (*rotate)(la_backend *be, int64_t n_heads, int64_t head_dim, int64_t rotary_dim,
                   const float *angles, const int32_t *positions, int64_t n_rhs, int sign,
                   la_mat *x);

    /* ---- attention ---- */
    /* out[Q, heads * head_dim] from q[Q,..], k[T, kv_heads * head_dim], v. lse[Q, heads]: the log
     * of each softmax's denominator, for the same backend's backward (one that does without leaves
     * it alone). */
    void (*attention)(la_backend *be, const la_attention *a, const la_mat *q, const la_mat *k,
                      const la_mat *v, float *lse, la_mat *out);
    /* dq[n_rhs Q], dk[n_rhs T], dv[n_rhs T] from g[n_rhs Q]; the weights are computed again. lse
     * and out are what the forward left. dq and dk may both be NULL, or dv. */
    void (*attention_backward)(la_backend *be, const la_attention *a, const la_mat *q,
                               const la_mat *k, const la_mat *v, const float *lse,
                               const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq,
                               la_mat *dk, la_mat *dv);

    /* ---- curvature ---- */
    /* sum[d,d] (f64, lower triangle) += alpha x^T x */
    void (*factor_add)(la_backend *be, double alpha, const la_mat *x, double *sum);
    /* sum[d,l] (f64) += alpha x^T (x omega), omega[d,l] f64 where factor sums live; all of it in f64 */
    void (*sketch_add)(la_backend *be, double alpha, const la_mat *x, int64_t l,
                       const double *omega, double *sum);
    /* host[n] = the diagonal of sum[n,n] */
    void (*diagonal)(la_backend *be, int64_t n, const double *sum, double *host);
    /* *sum (f64, where factor sums live) += alpha times the sum of squares of x */
    void (*square_add)(la_backend *be, double alpha, const la_mat *x, double *sum);
    /* sum[cols] (f64, where factor sums live) += the squares of x [rows, cols], column by column; x is
     * f32 without gaps */
    void (*column_squares)(la_backend *be, const la_mat *x, double *sum);
    /* out[(i n_rhs + k) a + p, q] = sum over tokens t of row i of s_t[p] b_t[q], where side s has a
     * columns, b has the columns of out; s_rhs, b_rhs: whether the side differs by right-hand side
     * (row k T + t) or not (row t). Rows [first, first + n_rows) of the batch. s and out are f32. */
    void (*row_outer)(la_backend *be, int64_t first, int64_t n_rows, const int32_t *cu,
                      int64_t n_rhs, float alpha, const la_mat *s, bool s_rhs, const la_mat *b,
                      bool b_rhs, la_mat *out);
    /* cov[i][k][l] += sum_pq weight[p,q] r_ikpq r_ilpq, with r as row_outer gives it and weight[a,
     * cols] in f32 */
    void (*kron_quadratic)(la_backend *be, int64_t n_rows, int64_t n_rhs, const la_mat *r,
                           const la_mat *weight, double *cov);
    /* Of n rows of Gaussian logits f = centre + spread z, centre [n, C] and spread [n, C, C-1]:
     * means [n, 2C+1] over the draws of softmax(f), of its entropy, and of (softmax(f) -
     * softmax(centre))^2: about the centre, so that a small variance does not cancel. Draws
     * come in pairs z, -z: the z of draws 2 s and 2 s + 1 are the normals s (C-1), s (C-1) + 1, ...
     * of the row's stream (la_random_normal), and their negatives. All arrays are on the host. False when it was not done: the host draws then. NULL likewise. */
    bool (*monte_carlo)(la_backend *be, int64_t n, int64_t n_classes, const double *centre,
                        const double *spread, int64_t samples, uint64_t seed,
                        const uint64_t *streams, double *means);
    /* Bytes beside the matrices that eigh needs at least for one of n, rank eigenpairs wanted. */
    size_t (*eigh_bytes)(la_backend *be, int64_t n, int64_t rank);
    /* Decomposes count matrices, several at a time. */
    la_status (*eigh)(la_backend *be, int64_t count, la_eigen *problems, la_error *err);
    /* sums[0][count] += sums[1] + ... + sums[n - 1], sums[i] on devices[i], all of one kind */
    la_status (*reduce)(la_backend *const *devices, int n, double *const *sums, int64_t count,
                        la_error *err);
} la_ops;

typedef struct la_profile la_profile;

struct la_backend {
    const la_ops *ops;
    void *context;
    la_profile *profile; /* NULL: operations are not timed (profile.h) */
    la_team team;        /* of what is done on the host, whatever the backend */
    la_precision precision;
    la_dtype activation; /* type of activations and cotangents outside the head */
    size_t peak_bytes;   /* most memory handed out at once; 0: not counted */
    char device[64];
};

/* The type a weight matrix is kept in: as it is stored, or that of the activations where those are
 * bf16 (both factors of a product are then alike). */
static inline la_dtype la_weight_type(const la_backend *be, la_dtype stored) {
    if (be->activation == LA_BF16)
        return LA_BF16;
    return stored == LA_F64 ? LA_F32 : stored;
}

enum { LA_DEVICES_MAX = 16 };

/* The host, over a team of threads. Free with backend->ops->close. */
la_status la_backend_open_cpu(la_team team, la_backend *backend, la_error *err);

/* "f32", "tf32", "bf16" */
extern const char *const la_precision_names[LA_PRECISIONS];
const char *la_precision_name(la_precision precision);
/* LA_USAGE unless the text is one of these names; NULL is f32. */
la_status la_precision_parse(const char *text, la_precision *precision, la_error *err);

/* device: "auto" or NULL (CUDA where there is a device, else the host, saying so), "cpu", "cuda",
 * "cuda:1", "cuda:0,1". Opens *n backends, one a device; close each. */
la_status la_backend_open(const char *device, la_precision precision, la_team team,
                          const la_log *log, la_backend backends[LA_DEVICES_MAX], int *n,
                          la_error *err);

#endif
