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

/* A view: it does not own its memory. ld: elements from one row to the next. Of type LA_CODES, data
 * is a la_quant on the host (quant.h). */
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

/* Precision of products. Sums are at least f32 in all of them. */
typedef enum la_precision {
    LA_PRECISION_F32,
    LA_PRECISION_TF32, /* f32 storage, factors of products rounded to 10 bits */
    LA_PRECISION_BF16, /* weights in bf16; activations and cotangents too, or (on the host) rounded
                        * to it where they are multiplied by weights */
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
    int64_t max_queries;   /* most queries of a row */
    int64_t before, after; /* at most LA_ATTENTION_ALL; after 0: causal */
    float scale;
    float softcap;               /* scores become softcap tanh(score / softcap); 0: they stay */
    const la_relative *relative; /* NULL: scores are q.k alone; else n_heads = n_kv_heads */
} la_attention;

typedef struct la_backend la_backend;

/* Sizes that the workspaces of a run depend on; 0 where something does not occur. */
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

/* A backend: one table of operations, declared in ops.def. */
typedef struct la_ops {
    const char *name;
    /* place hands out host addresses where it can: weights take no memory of their own */
    bool in_place;
    /* monte_carlo does something */
    bool draws;
    /* it has kernels of its own for f32 products, which it uses unless a library was asked for */
    bool own_products;
#define LA_OP(cost, result, name, parameters, arguments) result(*name) parameters;
#include "backend/ops.def"
} la_ops;

typedef struct la_profile la_profile;

struct la_backend {
    const la_ops *ops;
    void *context;
    la_profile *profile; /* NULL: operations are not timed (profile.h) */
    la_team team;        /* threads for work on the host, whatever the backend */
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

/* The type of a weight that is multiplied: bf16, rounded once, where products are. */
static inline la_dtype la_product_type(const la_backend *be, la_dtype stored) {
    return be->precision == LA_PRECISION_BF16 ? LA_BF16 : la_weight_type(be, stored);
}

enum { LA_DEVICES_MAX = 16 };

/* The host, over a team of threads. Free with backend->ops->close. */
la_status la_backend_open_cpu(la_team team, la_backend *backend, la_error *err);
/* Instructions that its operations were compiled for, for people: "AVX-512". */
const char *la_cpu_instructions(void);

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
