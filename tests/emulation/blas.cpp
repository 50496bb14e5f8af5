/* cuBLAS, with the host's BLAS. Calls check their arguments at once and run with the stream. */
#include "blas.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulator.h"

#include <cblas.h>

struct cublasContext {
    int device;
    cudaStream_t stream;
    cublasMath_t math;
    cublasPointerMode_t pointers;
};

namespace {

/* A scalar: its value, or where it is read when the call runs. */
template <typename T> struct scalar {
    T value;
    const T *at; /* NULL: value holds */
    T get() const {
        return at ? *at : value;
    }
};

template <typename T> scalar<T> scalar_of(cublasHandle_t handle, const T *at) {
    if (handle->pointers == CUBLAS_POINTER_MODE_DEVICE)
        return {T(), at};
    return {*at, nullptr};
}

/* A handle belongs to the device that was current when it was made. */
cublasStatus_t enqueue(cublasHandle_t handle, std::function<void()> run) {
    la_emulated_guard guard(la_emulated_mutex());
    if (handle->device != la_emulated_current_device() ||
        la_emulated_stream_device(handle->stream) != handle->device)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    return la_emulated_enqueue(handle->stream, std::move(run)) ? CUBLAS_STATUS_SUCCESS
                                                               : CUBLAS_STATUS_EXECUTION_FAILED;
}

CBLAS_TRANSPOSE cblas_of(cublasOperation_t op) {
    return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}
CBLAS_UPLO cblas_of(cublasFillMode_t uplo) {
    return uplo == CUBLAS_FILL_MODE_UPPER ? CblasUpper : CblasLower;
}
CBLAS_SIDE cblas_of(cublasSideMode_t side) {
    return side == CUBLAS_SIDE_LEFT ? CblasLeft : CblasRight;
}
CBLAS_DIAG cblas_of(cublasDiagType_t diag) {
    return diag == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit;
}

void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float *a,
          int lda, const float *b, int ldb, float beta, float *c, int ldc) {
    cblas_sgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha,
          const double *a, int lda, const double *b, int ldb, double beta, double *c, int ldc) {
    cblas_dgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void syrk(CBLAS_UPLO uplo, CBLAS_TRANSPOSE trans, int n, int k, float alpha, const float *a,
          int lda, float beta, float *c, int ldc) {
    cblas_ssyrk(CblasColMajor, uplo, trans, n, k, alpha, a, lda, beta, c, ldc);
}
void syrk(CBLAS_UPLO uplo, CBLAS_TRANSPOSE trans, int n, int k, double alpha, const double *a,
          int lda, double beta, double *c, int ldc) {
    cblas_dsyrk(CblasColMajor, uplo, trans, n, k, alpha, a, lda, beta, c, ldc);
}
void trsm(CBLAS_SIDE side, CBLAS_UPLO uplo, CBLAS_TRANSPOSE trans, CBLAS_DIAG diag, int m, int n,
          float alpha, const float *a, int lda, float *b, int ldb) {
    cblas_strsm(CblasColMajor, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb);
}
void trsm(CBLAS_SIDE side, CBLAS_UPLO uplo, CBLAS_TRANSPOSE trans, CBLAS_DIAG diag, int m, int n,
          double alpha, const double *a, int lda, double *b, int ldb) {
    cblas_dtrsm(CblasColMajor, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb);
}

int at_least_one(int n) {
    return n > 1 ? n : 1;
}

bool product_is_valid(cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
                      int lda, int ldb, int ldc) {
    return la_emulated_is_op(transa) && la_emulated_is_op(transb) && m >= 0 && n >= 0 && k >= 0 &&
           lda >= at_least_one(transa == CUBLAS_OP_N ? m : k) &&
           ldb >= at_least_one(transb == CUBLAS_OP_N ? k : n) && ldc >= at_least_one(m);
}

template <typename T>
cublasStatus_t gemm_batched(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const T *alpha,
                            const T *a, int lda, long long stride_a, const T *b, int ldb,
                            long long stride_b, const T *beta, T *c, int ldc, long long stride_c,
                            int count) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || count < 0 || !product_is_valid(transa, transb, m, n, k, lda, ldb, ldc))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n || !count)
        return CUBLAS_STATUS_SUCCESS;
    scalar<T> by = scalar_of(handle, alpha), kept = scalar_of(handle, beta);
    bool tf32 = sizeof(T) == sizeof(float) && handle->math == CUBLAS_TF32_TENSOR_OP_MATH;
    return enqueue(handle, [=] {
        for (int i = 0; i < count; i++) {
            const T *ai = a + i * stride_a, *bi = b + i * stride_b;
            T *ci = c + i * stride_c;
            if (!tf32) {
                gemm(cblas_of(transa), cblas_of(transb), m, n, k, by.get(), ai, lda, bi, ldb,
                     kept.get(), ci, ldc);
                continue;
            }
            std::vector<float> product;
            la_emulated_product(CUDA_R_32F, transa, transb, m, n, k, ai, lda, bi, ldb, true,
                                product);
            for (int64_t col = 0; col < n; col++)
                for (int64_t row = 0; row < m; row++) {
                    T *at = ci + col * ldc + row;
                    T old = kept.get() != T(0) ? kept.get() * *at : T(0);
                    *at = by.get() * static_cast<T>(product[col * m + row]) + old;
                }
        }
    });
}

template <typename T>
cublasStatus_t syrk_queued(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,
                           int n, int k, const T *alpha, const T *a, int lda, const T *beta, T *c,
                           int ldc) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || uplo > CUBLAS_FILL_MODE_UPPER || !la_emulated_is_op(trans) || n < 0 ||
        k < 0 || lda < at_least_one(trans == CUBLAS_OP_N ? n : k) || ldc < at_least_one(n))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!n)
        return CUBLAS_STATUS_SUCCESS;
    scalar<T> by = scalar_of(handle, alpha), kept = scalar_of(handle, beta);
    return enqueue(handle, [=] {
        syrk(cblas_of(uplo), cblas_of(trans), n, k, by.get(), a, lda, kept.get(), c, ldc);
    });
}

template <typename T>
cublasStatus_t trsm_queued(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                           cublasOperation_t trans, cublasDiagType_t diag, int m, int n,
                           const T *alpha, const T *a, int lda, T *b, int ldb) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || uplo > CUBLAS_FILL_MODE_UPPER || !la_emulated_is_op(trans) || m < 0 || n < 0 ||
        lda < at_least_one(side == CUBLAS_SIDE_LEFT ? m : n) || ldb < at_least_one(m))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n)
        return CUBLAS_STATUS_SUCCESS;
    scalar<T> by = scalar_of(handle, alpha);
    return enqueue(handle, [=] {
        trsm(cblas_of(side), cblas_of(uplo), cblas_of(trans), cblas_of(diag), m, n, by.get(), a,
             lda, b, ldb);
    });
}

float round_to_tf32(float x) {
    uint32_t bits = la_emulated_bits<uint32_t>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return x;
    return la_emulated_bits<float>((bits + 0x1000u) & ~0x1fffu);
}

} // namespace

size_t la_emulated_type_size(cudaDataType type) {
    switch (type) {
    case CUDA_R_64F:
        return 8;
    case CUDA_R_32F:
        return 4;
    default:
        return 2;
    }
}

float la_emulated_load_number(cudaDataType type, const void *a, int64_t at) {
    switch (type) {
    case CUDA_R_32F:
        return static_cast<const float *>(a)[at];
    case CUDA_R_16BF:
        return static_cast<float>(static_cast<const __nv_bfloat16 *>(a)[at]);
    case CUDA_R_16F:
        return static_cast<float>(static_cast<const __half *>(a)[at]);
    default:
        return static_cast<float>(static_cast<const double *>(a)[at]);
    }
}

void la_emulated_store_number(cudaDataType type, void *a, int64_t at, float value) {
    switch (type) {
    case CUDA_R_32F:
        static_cast<float *>(a)[at] = value;
        break;
    case CUDA_R_16BF:
        static_cast<__nv_bfloat16 *>(a)[at] = __float2bfloat16(value);
        break;
    case CUDA_R_16F:
        static_cast<__half *>(a)[at] = __float2half(value);
        break;
    default:
        static_cast<double *>(a)[at] = value;
    }
}

void la_emulated_widen(cudaDataType type, const void *a, int64_t rows, int64_t cols, int64_t ld,
                       bool tf32, std::vector<float> &to) {
    to.resize(static_cast<size_t>(rows * cols));
    for (int64_t col = 0; col < cols; col++)
        for (int64_t row = 0; row < rows; row++) {
            float value = la_emulated_load_number(type, a, col * ld + row);
            to[static_cast<size_t>(col * rows + row)] = tf32 ? round_to_tf32(value) : value;
        }
}

void la_emulated_product(cudaDataType type, cublasOperation_t transa, cublasOperation_t transb,
                         int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                         int64_t ldb, bool tf32, std::vector<float> &product) {
    std::vector<float> wide_a, wide_b;
    const float *fa = static_cast<const float *>(a), *fb = static_cast<const float *>(b);
    if (type != CUDA_R_32F || tf32) {
        int64_t rows_a = transa == CUBLAS_OP_N ? m : k, rows_b = transb == CUBLAS_OP_N ? k : n;
        la_emulated_widen(type, a, rows_a, transa == CUBLAS_OP_N ? k : m, lda, tf32, wide_a);
        la_emulated_widen(type, b, rows_b, transb == CUBLAS_OP_N ? n : k, ldb, tf32, wide_b);
        fa = wide_a.data();
        fb = wide_b.data();
        lda = rows_a;
        ldb = rows_b;
    }
    product.assign(static_cast<size_t>(m * n), 0);
    gemm(cblas_of(transa), cblas_of(transb), static_cast<int>(m), static_cast<int>(n),
         static_cast<int>(k), 1.0f, fa, static_cast<int>(lda), fb, static_cast<int>(ldb), 0.0f,
         product.data(), static_cast<int>(m));
}

extern "C" {

const char *cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "unknown cuBLAS status";
    }
}

const char *cublasGetStatusString(cublasStatus_t status) {
    return cublasGetStatusName(status);
}

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    if (!handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (la_emulated_device_count() == 0)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext{la_emulated_current_device(), nullptr, CUBLAS_DEFAULT_MATH,
                                CUBLAS_POINTER_MODE_HOST};
    return CUBLAS_STATUS_SUCCESS;
}

/* Waits for the device, as cuBLAS does. */
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    la_emulated_drain_device(handle->device);
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version) {
    *version = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *, size_t) {
    return handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->math = static_cast<cublasMath_t>(mode & 15);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->pointers = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transa,
                           cublasOperation_t transb, int m, int n, int k, const float *alpha,
                           const float *a, int lda, const float *b, int ldb, const float *beta,
                           float *c, int ldc) {
    return gemm_batched(handle, transa, transb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc,
                        0, 1);
}

cublasStatus_t cublasDgemm(cublasHandle_t handle, cublasOperation_t transa,
                           cublasOperation_t transb, int m, int n, int k, const double *alpha,
                           const double *a, int lda, const double *b, int ldb, const double *beta,
                           double *c, int ldc) {
    return gemm_batched(handle, transa, transb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc,
                        0, 1);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa,
                                         cublasOperation_t transb, int m, int n, int k,
                                         const float *alpha, const float *a, int lda,
                                         long long stride_a, const float *b, int ldb,
                                         long long stride_b, const float *beta, float *c, int ldc,
                                         long long stride_c, int count) {
    return gemm_batched(handle, transa, transb, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b,
                        beta, c, ldc, stride_c, count);
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transa,
                                         cublasOperation_t transb, int m, int n, int k,
                                         const double *alpha, const double *a, int lda,
                                         long long stride_a, const double *b, int ldb,
                                         long long stride_b, const double *beta, double *c, int ldc,
                                         long long stride_c, int count) {
    return gemm_batched(handle, transa, transb, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b,
                        beta, c, ldc, stride_c, count);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa,
                                          cublasOperation_t transb, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType a_type,
                                          int lda, long long stride_a, const void *b,
                                          cudaDataType b_type, int ldb, long long stride_b,
                                          const void *beta, void *c, cudaDataType c_type, int ldc,
                                          long long stride_c, int count,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || count < 0 || !product_is_valid(transa, transb, m, n, k, lda, ldb, ldc))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                (compute == CUBLAS_COMPUTE_32F && handle->math == CUBLAS_TF32_TENSOR_OP_MATH);
    bool known = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC || tf32;
    bool types = a_type == b_type && ((a_type == CUDA_R_32F && c_type == CUDA_R_32F) ||
                                      (a_type == CUDA_R_16BF &&
                                       compute != /* f32 only */
                                           CUBLAS_COMPUTE_32F_FAST_TF32 &&
                                       (c_type == CUDA_R_32F || c_type == CUDA_R_16BF)));
    if (!known || !types)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!m || !n || !count)
        return CUBLAS_STATUS_SUCCESS;
    scalar<float> by = scalar_of(handle, static_cast<const float *>(alpha));
    scalar<float> kept = scalar_of(handle, static_cast<const float *>(beta));
    int64_t size = static_cast<int64_t>(la_emulated_type_size(a_type));
    int64_t size_c = static_cast<int64_t>(la_emulated_type_size(c_type));
    tf32 = tf32 && a_type == CUDA_R_32F;
    return enqueue(handle, [=] {
        for (int64_t i = 0; i < count; i++) {
            std::vector<float> product;
            unsigned char *ci = static_cast<unsigned char *>(c) + i * stride_c * size_c;
            la_emulated_product(a_type, transa, transb, m, n, k,
                                static_cast<const unsigned char *>(a) + i * stride_a * size, lda,
                                static_cast<const unsigned char *>(b) + i * stride_b * size, ldb,
                                tf32, product);
            for (int64_t col = 0; col < n; col++)
                for (int64_t row = 0; row < m; row++) {
                    float sum = by.get() * product[static_cast<size_t>(col * m + row)];
                    if (kept.get() != 0)
                        sum += kept.get() * la_emulated_load_number(c_type, ci, col * ldc + row);
                    la_emulated_store_number(c_type, ci, col * ldc + row, sum);
                }
        }
    });
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algo) {
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, a, a_type, lda, 0, b,
                                      b_type, ldb, 0, beta, c, c_type, ldc, 0, 1, compute, algo);
}

cublasStatus_t cublasStrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                           cublasOperation_t trans, cublasDiagType_t diag, int m, int n,
                           const float *alpha, const float *a, int lda, float *b, int ldb) {
    return trsm_queued(handle, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb);
}

cublasStatus_t cublasDtrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                           cublasOperation_t trans, cublasDiagType_t diag, int m, int n,
                           const double *alpha, const double *a, int lda, double *b, int ldb) {
    return trsm_queued(handle, side, uplo, trans, diag, m, n, alpha, a, lda, b, ldb);
}

cublasStatus_t cublasSsyrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,
                           int n, int k, const float *alpha, const float *a, int lda,
                           const float *beta, float *c, int ldc) {
    return syrk_queued(handle, uplo, trans, n, k, alpha, a, lda, beta, c, ldc);
}

cublasStatus_t cublasDsyrk(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,
                           int n, int k, const double *alpha, const double *a, int lda,
                           const double *beta, double *c, int ldc) {
    return syrk_queued(handle, uplo, trans, n, k, alpha, a, lda, beta, c, ldc);
}

/* With a result on the host it waits. */
cublasStatus_t cublasDnrm2(cublasHandle_t handle, int n, const double *x, int incx,
                           double *result) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!result)
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = enqueue(handle, [=] { *result = n > 0 ? cblas_dnrm2(n, x, incx) : 0; });
    if (status == CUBLAS_STATUS_SUCCESS && handle->pointers == CUBLAS_POINTER_MODE_HOST)
        la_emulated_drain_stream(handle->stream);
    return status;
}

/* c = alpha op(a) + beta op(b) */
cublasStatus_t cublasDgeam(cublasHandle_t handle, cublasOperation_t transa,
                           cublasOperation_t transb, int m, int n, const double *alpha,
                           const double *a, int lda, const double *beta, const double *b, int ldb,
                           double *c, int ldc) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!alpha || !beta || m < 0 || n < 0 || ldc < at_least_one(m) ||
        lda < at_least_one(transa == CUBLAS_OP_N ? m : n) ||
        ldb < at_least_one(transb == CUBLAS_OP_N ? m : n) ||
        (c == a && (transa != CUBLAS_OP_N || lda != ldc)) ||
        (c == b && (transb != CUBLAS_OP_N || ldb != ldc)))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n)
        return CUBLAS_STATUS_SUCCESS;
    scalar<double> by = scalar_of(handle, alpha), other = scalar_of(handle, beta);
    return enqueue(handle, [=] {
        for (int64_t col = 0; col < n; col++)
            for (int64_t row = 0; row < m; row++) {
                double sum = 0;
                if (by.get() != 0)
                    sum += by.get() * a[transa == CUBLAS_OP_N ? col * lda + row : row * lda + col];
                if (other.get() != 0)
                    sum +=
                        other.get() * b[transb == CUBLAS_OP_N ? col * ldb + row : row * ldb + col];
                c[col * ldc + row] = sum;
            }
    });
}
}
