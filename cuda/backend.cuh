/* What the files of the CUDA backend share. Nothing outside cuda/ includes it.
 *
 * The same sources are built twice: by nvcc for a device, and by a host C++ compiler against
 * tests/emulation, where kernels run thread by thread on the CPU (LA_EMULATED). They therefore
 * launch kernels and take dynamic shared memory through the two macros below, and use no inline
 * assembly. */
#ifndef LA_CUDA_BACKEND_CUH
#define LA_CUDA_BACKEND_CUH

extern "C" {
#include "backend/cuda_plugin.h"
}

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#ifdef LA_EMULATED
/* from tests/emulation/cuda_runtime.h: LA_LAUNCH and LA_DYNAMIC_SHARED */
#else
/* kernel<<<...>>>(arguments); a kernel with template arguments is given in parentheses */
#define LA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                  \
    (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
/* unsigned char NAME[]: the shared memory given at launch, aligned for tensor-core tiles */
#define LA_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

typedef __nv_bfloat16 bf16;

enum {
    LA_WARP = 32,
    LA_STAGES = 4,            /* pinned buffers that copies from the host go through, in turn */
    LA_STAGE_BYTES = 8 << 20, /* of each */
    LA_LT_WORKSPACE = 32 << 20
};

/* Device memory that grows at need and is kept. */
typedef enum la_cuda_scratch_kind {
    LA_CUDA_WIDEN,    /* a weight or a factor of a product in another type */
    LA_CUDA_FACTOR,   /* f32 [d, d] of a batch */
    LA_CUDA_DELTA,    /* f32 [n_rhs, Q, heads] of attention's backward */
    LA_CUDA_RELATIVE, /* f32 [3, tokens, heads, reached]: scores that know distances */
    LA_CUDA_RAW,      /* weights on their way to another type */
    LA_CUDA_DRAWS,    /* Monte Carlo */
    LA_CUDA_SCRATCHES
} la_cuda_scratch_kind;

struct la_gemm_cache; /* gemm.cu: descriptors and algorithms by shape */

typedef struct la_cuda {
    int device;
    la_precision precision;
    cudaStream_t stream; /* all operations, in order */
    cublasLtHandle_t lt;
    cublasHandle_t blas;
    void *lt_workspace;
    la_gemm_cache *gemms;
    void *scratch[LA_CUDA_SCRATCHES];
    size_t scratch_bytes[LA_CUDA_SCRATCHES];
    int64_t max_relative; /* as reserved; 0: a row may reach all of the position tables */
    /* copies from the host */
    unsigned char *stage[LA_STAGES];
    cudaEvent_t stage_free[LA_STAGES];
    bool stage_used[LA_STAGES];
    int next_stage;
    la_error fault; /* the first one, until sync */
} la_cuda;

/* Also makes its device the current one: a host thread may serve several. */
la_cuda *la_cuda_of(la_backend *be);

/* ---- faults ---- */

/* Keep the first fault, named by what was being done. All return whether it went well. */
bool la_cuda_ok(la_cuda *cu, cudaError_t code, const char *what);
bool la_cuda_blas_ok(la_cuda *cu, cublasStatus_t code, const char *what);
/* Call after every launch. */
bool la_cuda_launched(la_cuda *cu, const char *kernel);

/* Scratch of at least bytes; NULL (and a fault) when there is no memory. Its old contents are lost;
 * work already on the stream may still use the old memory. */
void *la_cuda_scratch_get(la_cuda *cu, la_cuda_scratch_kind which, size_t bytes);
/* Gives all scratch back to the device. */
void la_cuda_scratch_free(la_cuda *cu);

/* ---- the operations, one family a file: as la_ops describes them ---- */

/* gemm.cu */
la_gemm_cache *la_cuda_gemms_new(void);
void la_cuda_gemms_free(la_gemm_cache *cache);
void la_cuda_linear(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                    const la_mat *residual, la_mat *y);
void la_cuda_linear_activation(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                               la_activation kind, la_mat *before, la_mat *after);
void la_cuda_linear_backward(la_backend *be, const la_mat *g, const la_mat *w, float beta,
                             la_mat *dx);
void la_cuda_gemm(la_backend *be, bool trans_a, bool trans_b, float alpha, const la_mat *a,
                  const la_mat *b, float beta, la_mat *c);
/* unpack.cu: y[rows, cols], without gaps, f32 or bf16 = a packed weight */
void la_cuda_unpack(la_cuda *cu, const la_mat *w, la_mat *y);
/* rows.cu */
void la_cuda_embed(la_backend *be, int n_tables, const la_mat *tables, const int32_t *const *ids,
                   float scale, la_mat *y);
void la_cuda_gather(la_backend *be, const la_mat *x, const int32_t *index, la_mat *y);
void la_cuda_scatter(la_backend *be, const la_mat *x, int64_t n_rhs, const int32_t *index,
                     bool accumulate, la_mat *y);
void la_cuda_segment_sum(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                         const int32_t *cu_rows, bool mean, la_mat *y);
void la_cuda_segment_spread(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                            const int32_t *cu_rows, la_mat *y);
void la_cuda_add(la_backend *be, const la_mat *x, la_mat *y);
void la_cuda_append_one(la_backend *be, const la_mat *x, la_mat *y);
/* y = x in the type of y; x may be f32, f16 or bf16, y f32 or bf16 */
void la_cuda_convert(la_cuda *cu, const la_mat *x, la_mat *y);
/* pointwise.cu */
void la_cuda_norm(la_backend *be, const la_norm *norm, const la_mat *x, float *stats, la_mat *y);
void la_cuda_norm_backward(la_backend *be, const la_norm *norm, const la_mat *x, const float *stats,
                           int64_t n_rhs, const la_mat *g, const la_mat *residual, la_mat *dx);
void la_cuda_scale_columns(la_backend *be, const la_mat *x, const float *c, const la_mat *bias,
                           const la_mat *residual, la_mat *y);
void la_cuda_activation(la_backend *be, la_activation kind, const la_mat *x, const la_mat *up,
                        la_mat *y);
void la_cuda_activation_backward(la_backend *be, la_activation kind, const la_mat *x,
                                 const la_mat *up, int64_t n_rhs, const la_mat *g, la_mat *dx,
                                 la_mat *dup);
void la_cuda_rotate(la_backend *be, int64_t n_heads, int64_t head_dim, int64_t rotary_dim,
                    const float *angles, const int32_t *positions, int64_t n_rhs, int sign,
                    la_mat *x);
/* attention.cu */
void la_cuda_attention(la_backend *be, const la_attention *a, const la_mat *q, const la_mat *k,
                       const la_mat *v, float *lse, la_mat *out);
void la_cuda_attention_backward(la_backend *be, const la_attention *a, const la_mat *q,
                                const la_mat *k, const la_mat *v, const float *lse,
                                const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq,
                                la_mat *dk, la_mat *dv);
/* curvature.cu */
void la_cuda_factor_add(la_backend *be, double alpha, const la_mat *x, double *sum);
void la_cuda_sketch_add(la_backend *be, double alpha, const la_mat *x, int64_t l,
                        const double *omega, double *sum);
void la_cuda_diagonal(la_backend *be, int64_t n, const double *sum, double *host);
void la_cuda_square_add(la_backend *be, double alpha, const la_mat *x, double *sum);
void la_cuda_row_outer(la_backend *be, int64_t first, int64_t n_rows, const int32_t *cu_rows,
                       int64_t n_rhs, float alpha, const la_mat *s, bool s_rhs, const la_mat *b,
                       bool b_rhs, la_mat *out);
void la_cuda_column_squares(la_backend *be, const la_mat *x, double *sum);
void la_cuda_kron_quadratic(la_backend *be, int64_t n_rows, int64_t n_rhs, const la_mat *r,
                            const la_mat *weight, double *cov);
/* draws.cu */
size_t la_cuda_draws_bytes(int64_t n, int64_t n_classes);
bool la_cuda_monte_carlo(la_backend *be, int64_t n, int64_t n_classes, const double *centre,
                         const double *spread, int64_t samples, uint64_t seed,
                         const uint64_t *streams, double *means);
/* solver.cu */
size_t la_cuda_eigh_bytes(la_backend *be, int64_t n, int64_t rank);
la_status la_cuda_eigh(la_backend *be, int64_t count, la_eigen *problems, la_error *err);
/* devices.cu */
la_status la_cuda_reduce(la_backend *const *devices, int n, double *const *sums, int64_t count,
                         la_error *err);

/* ---- for kernels ---- */

static inline unsigned la_cuda_blocks(int64_t work, int64_t per_block) {
    return static_cast<unsigned>((work + per_block - 1) / per_block);
}

__device__ __forceinline__ float la_to_float(float x) {
    return x;
}
__device__ __forceinline__ float la_to_float(bf16 x) {
    return __bfloat162float(x);
}
template <typename T> __device__ __forceinline__ T la_from_float(float x);
template <> __device__ __forceinline__ float la_from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16 la_from_float<bf16>(float x) {
    return __float2bfloat16(x);
}

/* sum and maximum over a warp; every lane gets the result */
__device__ __forceinline__ float la_warp_sum(float x) {
    for (int offset = LA_WARP / 2; offset; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}
__device__ __forceinline__ double la_warp_sum(double x) {
    for (int offset = LA_WARP / 2; offset; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

#endif
