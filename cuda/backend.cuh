/* Declarations shared by the files of the CUDA backend. Nothing outside cuda/ includes it.
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
    LA_STAGE_BYTES = 8 << 20, /* bytes of each */
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
    int64_t max_relative; /* reserved rows; 0: all of the position tables */
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

/* ---- the operations, one family a file ---- */

#define LA_OP(cost, result, name, parameters, arguments) result la_cuda_##name parameters;
#include "backend/ops.def"

/* gemm.cu */
la_gemm_cache *la_cuda_gemms_new(void);
void la_cuda_gemms_free(la_gemm_cache *cache);
/* unpack.cu: y[rows, cols], without gaps, f32 or bf16 = a packed weight */
void la_cuda_unpack(la_cuda *cu, const la_mat *w, la_mat *y);
/* rows.cu: y = x in the type of y; x may be f32, f16 or bf16, y f32 or bf16 */
void la_cuda_convert(la_cuda *cu, const la_mat *x, la_mat *y);
/* draws.cu */
size_t la_cuda_draws_bytes(int64_t n, int64_t n_classes);

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
