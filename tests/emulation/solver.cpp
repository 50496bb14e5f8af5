/* cuSOLVER's dense solvers, with LAPACK. */
#include "cusolverDn.h"

#include "emulator.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <lapacke.h>

struct cusolverDnContext {
    int device;
    cudaStream_t stream;
};

struct cusolverDnParams {
    int unused;
};

namespace {

/* Workspace that every solver asks for, so that callers have to provide it. */
const size_t DEVICE_BYTES_EACH = 16, HOST_BYTES = 64;

struct workspace {
    void *device;
    size_t device_bytes;
    void *host;
    size_t host_bytes;
};

size_t device_bytes_of(int64_t n, int64_t count) {
    return DEVICE_BYTES_EACH * static_cast<size_t>(n + 1) * static_cast<size_t>(count);
}

void spoil(const workspace &w, size_t device_bytes) {
    memset(w.device, 0xff, device_bytes);
    memset(w.host, 0xff, HOST_BYTES);
}

bool is_type(cudaDataType type) {
    return type == CUDA_R_32F || type == CUDA_R_64F;
}

lapack_int syevd(char jobz, char uplo, lapack_int n, float *a, float *w, float *work,
                 lapack_int length, lapack_int *iwork, lapack_int ilength) {
    return LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, jobz, uplo, n, a, n, w, work, length, iwork,
                               ilength);
}
lapack_int syevd(char jobz, char uplo, lapack_int n, double *a, double *w, double *work,
                 lapack_int length, lapack_int *iwork, lapack_int ilength) {
    return LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, jobz, uplo, n, a, n, w, work, length, iwork,
                               ilength);
}

template <typename T> struct aligned {
    T *data;
    explicit aligned(int64_t count)
        : data(static_cast<T *>(aligned_alloc(64, (static_cast<size_t>(count) * sizeof(T) + 63) &
                                                      ~static_cast<size_t>(63)))) {
    }
    aligned(const aligned &) = delete;
    aligned &operator=(const aligned &) = delete;
    ~aligned() {
        free(data);
    }
};

/* Eigenpairs of a[n, lda] in place. The same bits wherever the matrix lies, as a device has them:
 * sums in old kernels are split where the memory is aligned, so all that they read is put at the
 * same alignment. */
template <typename T> lapack_int syevd(char jobz, char uplo, int64_t n, T *a, int64_t lda, T *w) {
    lapack_int size = static_cast<lapack_int>(n), most = 0;
    T length = 0;
    lapack_int code = syevd(jobz, uplo, size, a, w, &length, -1, &most, -1);
    if (code)
        return code;
    /* a float does not hold every length */
    int64_t count = static_cast<int64_t>(length) + 64;
    aligned<T> matrix(n * n), values(n), work(count);
    aligned<lapack_int> iwork(most);
    if (!matrix.data || !values.data || !work.data || !iwork.data)
        return LAPACK_WORK_MEMORY_ERROR;
    for (int64_t k = 0; k < n; k++)
        std::copy(a + k * lda, a + k * lda + n, matrix.data + k * n);
    code = syevd(jobz, uplo, size, matrix.data, values.data, work.data,
                 static_cast<lapack_int>(count), iwork.data, most);
    for (int64_t k = 0; k < n; k++)
        std::copy(matrix.data + k * n, matrix.data + (k + 1) * n, a + k * lda);
    std::copy(values.data, values.data + n, w);
    return code;
}

lapack_int potrf(char uplo, lapack_int n, float *a, lapack_int lda) {
    return LAPACKE_spotrf(LAPACK_COL_MAJOR, uplo, n, a, lda);
}
lapack_int potrf(char uplo, lapack_int n, double *a, lapack_int lda) {
    return LAPACKE_dpotrf(LAPACK_COL_MAJOR, uplo, n, a, lda);
}
lapack_int geqrf(lapack_int m, lapack_int n, float *a, lapack_int lda, float *tau) {
    return LAPACKE_sgeqrf(LAPACK_COL_MAJOR, m, n, a, lda, tau);
}
lapack_int geqrf(lapack_int m, lapack_int n, double *a, lapack_int lda, double *tau) {
    return LAPACKE_dgeqrf(LAPACK_COL_MAJOR, m, n, a, lda, tau);
}

char letter_of(cublasFillMode_t uplo) {
    return uplo == CUBLAS_FILL_MODE_UPPER ? 'U' : 'L';
}

/* Eigenpairs first to last (from 0) of count matrices. */
template <typename T>
void decompose(cusolverEigMode_t jobz, cublasFillMode_t uplo, int64_t n, T *a, int64_t lda, T *w,
               int64_t count, int64_t first, int64_t last, int *info) {
    for (int64_t i = 0; i < count; i++) {
        T *ai = a + i * lda * n, *wi = w + i * n;
        bool vectors = jobz == CUSOLVER_EIG_MODE_VECTOR;
        /* LAPACKE calls NaN an argument's fault; a device only fails */
        bool known = true, upper = uplo == CUBLAS_FILL_MODE_UPPER;
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = upper ? 0 : k; j < (upper ? k + 1 : n); j++)
                known &= !std::isnan(ai[k * lda + j]);
        info[i] = known ? syevd(vectors ? 'V' : 'N', letter_of(uplo), n, ai, lda, wi) : -1;
        if (info[i] < 0)
            info[i] = static_cast<int>(n);
        if (first == 0 && last == n - 1)
            continue;
        /* the wanted ones come first; the rest is not for use */
        int64_t found = last - first + 1;
        std::copy(wi + first, wi + last + 1, wi);
        std::fill(wi + found, wi + n, static_cast<T>(NAN));
        for (int64_t k = 0; vectors && k < n; k++) {
            if (k < found)
                std::copy(ai + (first + k) * lda, ai + (first + k) * lda + n, ai + k * lda);
            else
                std::fill(ai + k * lda, ai + k * lda + n, static_cast<T>(NAN));
        }
    }
}

cusolverStatus_t check_eigen(cusolverDnHandle_t handle, cusolverEigMode_t jobz,
                             cublasFillMode_t uplo, int64_t n, cudaDataType a_type, int64_t lda,
                             cudaDataType w_type, cudaDataType compute, int64_t count) {
    if (!handle)
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (n < 1 || lda < n || count < 1 || uplo > CUBLAS_FILL_MODE_UPPER ||
        (jobz != CUSOLVER_EIG_MODE_VECTOR && jobz != CUSOLVER_EIG_MODE_NOVECTOR))
        return CUSOLVER_STATUS_INVALID_VALUE;
    if (!is_type(a_type) || w_type != a_type || compute != a_type)
        return CUSOLVER_STATUS_INVALID_VALUE;
    return CUSOLVER_STATUS_SUCCESS;
}

/* Checks the workspace and puts the work on the handle's stream. */
cusolverStatus_t enqueue(cusolverDnHandle_t handle, const workspace &w, size_t device_bytes,
                         std::function<void()> run) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!w.device || w.device_bytes < device_bytes || !w.host || w.host_bytes < HOST_BYTES)
        return CUSOLVER_STATUS_INVALID_VALUE;
    if (handle->device != la_emulated_current_device() ||
        la_emulated_stream_device(handle->stream) != handle->device)
        return CUSOLVER_STATUS_EXECUTION_FAILED;
    la_emulated_enqueue(handle->stream, [=] {
        spoil(w, device_bytes);
        run();
    });
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t eigen(cusolverDnHandle_t handle, cusolverEigMode_t jobz, cublasFillMode_t uplo,
                       int64_t n, cudaDataType type, void *a, int64_t lda, void *values,
                       int64_t count, int64_t first, int64_t last, const workspace &w, int *info) {
    if (!a || !values || !info)
        return CUSOLVER_STATUS_INVALID_VALUE;
    return enqueue(handle, w, device_bytes_of(n, count), [=] {
        if (type == CUDA_R_32F)
            decompose(jobz, uplo, n, static_cast<float *>(a), lda, static_cast<float *>(values),
                      count, first, last, info);
        else
            decompose(jobz, uplo, n, static_cast<double *>(a), lda, static_cast<double *>(values),
                      count, first, last, info);
    });
}

cusolverStatus_t sizes(cusolverStatus_t status, int64_t n, int64_t count, size_t *device_bytes,
                       size_t *host_bytes) {
    if (status != CUSOLVER_STATUS_SUCCESS)
        return status;
    if (!device_bytes || !host_bytes)
        return CUSOLVER_STATUS_INVALID_VALUE;
    *device_bytes = device_bytes_of(n, count);
    *host_bytes = HOST_BYTES;
    return status;
}

/* Ranges by value depend on the matrix: not emulated. */
cusolverStatus_t check_range(cusolverEigRange_t range, int64_t n, int64_t il, int64_t iu,
                             int64_t *first, int64_t *last) {
    *first = 0;
    *last = n - 1;
    if (range == CUSOLVER_EIG_RANGE_V)
        return CUSOLVER_STATUS_NOT_SUPPORTED;
    if (range == CUSOLVER_EIG_RANGE_ALL)
        return CUSOLVER_STATUS_SUCCESS;
    if (range != CUSOLVER_EIG_RANGE_I || il < 1 || iu < il || iu > n)
        return CUSOLVER_STATUS_INVALID_VALUE;
    *first = il - 1;
    *last = iu - 1;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t check_factor(cusolverDnHandle_t handle, int64_t rows, int64_t n,
                              cudaDataType a_type, int64_t lda, cudaDataType compute) {
    if (!handle)
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (rows < 1 || n < 1 || lda < rows || !is_type(a_type) || compute != a_type)
        return CUSOLVER_STATUS_INVALID_VALUE;
    return CUSOLVER_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cusolverStatus_t cusolverGetVersion(int *version) {
    *version = CUSOLVER_VERSION;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle) {
    if (!handle)
        return CUSOLVER_STATUS_INVALID_VALUE;
    if (la_emulated_device_count() == 0)
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    *handle = new cusolverDnContext{la_emulated_current_device(), nullptr};
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!handle)
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    la_emulated_drain_device(handle->device);
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
    if (!handle)
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle,
                                                cusolverDeterministicMode_t) {
    return handle ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_NOT_INITIALIZED;
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t *params) {
    if (!params)
        return CUSOLVER_STATUS_INVALID_VALUE;
    *params = new cusolverDnParams{0};
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
    delete params;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t,
                                             cusolverEigMode_t jobz, cublasFillMode_t uplo,
                                             int64_t n, cudaDataType a_type, const void *,
                                             int64_t lda, cudaDataType w_type, const void *,
                                             cudaDataType compute, size_t *device_bytes,
                                             size_t *host_bytes) {
    return sizes(check_eigen(handle, jobz, uplo, n, a_type, lda, w_type, compute, 1), n, 1,
                 device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t,
                                  cusolverEigMode_t jobz, cublasFillMode_t uplo, int64_t n,
                                  cudaDataType a_type, void *a, int64_t lda, cudaDataType w_type,
                                  void *w, cudaDataType compute, void *device, size_t device_bytes,
                                  void *host, size_t host_bytes, int *info) {
    cusolverStatus_t status = check_eigen(handle, jobz, uplo, n, a_type, lda, w_type, compute, 1);
    if (status != CUSOLVER_STATUS_SUCCESS)
        return status;
    return eigen(handle, jobz, uplo, n, a_type, a, lda, w, 1, 0, n - 1,
                 {device, device_bytes, host, host_bytes}, info);
}

cusolverStatus_t cusolverDnXsyevdx_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t,
                                              cusolverEigMode_t jobz, cusolverEigRange_t range,
                                              cublasFillMode_t uplo, int64_t n, cudaDataType a_type,
                                              const void *, int64_t lda, void *, void *, int64_t il,
                                              int64_t iu, int64_t *, cudaDataType w_type,
                                              const void *, cudaDataType compute,
                                              size_t *device_bytes, size_t *host_bytes) {
    int64_t first, last;
    cusolverStatus_t status = check_eigen(handle, jobz, uplo, n, a_type, lda, w_type, compute, 1);
    if (status == CUSOLVER_STATUS_SUCCESS)
        status = check_range(range, n, il, iu, &first, &last);
    return sizes(status, n, 1, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXsyevdx(cusolverDnHandle_t handle, cusolverDnParams_t,
                                   cusolverEigMode_t jobz, cusolverEigRange_t range,
                                   cublasFillMode_t uplo, int64_t n, cudaDataType a_type, void *a,
                                   int64_t lda, void *, void *, int64_t il, int64_t iu,
                                   int64_t *found, cudaDataType w_type, void *w,
                                   cudaDataType compute, void *device, size_t device_bytes,
                                   void *host, size_t host_bytes, int *info) {
    int64_t first, last;
    cusolverStatus_t status = check_eigen(handle, jobz, uplo, n, a_type, lda, w_type, compute, 1);
    if (status == CUSOLVER_STATUS_SUCCESS)
        status = check_range(range, n, il, iu, &first, &last);
    if (status != CUSOLVER_STATUS_SUCCESS)
        return status;
    if (!found)
        return CUSOLVER_STATUS_INVALID_VALUE;
    *found = last - first + 1;
    return eigen(handle, jobz, uplo, n, a_type, a, lda, w, 1, first, last,
                 {device, device_bytes, host, host_bytes}, info);
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t,
                                                   cusolverEigMode_t jobz, cublasFillMode_t uplo,
                                                   int64_t n, cudaDataType a_type, const void *,
                                                   int64_t lda, cudaDataType w_type, const void *,
                                                   cudaDataType compute, size_t *device_bytes,
                                                   size_t *host_bytes, int64_t count) {
    return sizes(check_eigen(handle, jobz, uplo, n, a_type, lda, w_type, compute, count), n, count,
                 device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t handle, cusolverDnParams_t,
                                        cusolverEigMode_t jobz, cublasFillMode_t uplo, int64_t n,
                                        cudaDataType a_type, void *a, int64_t lda,
                                        cudaDataType w_type, void *w, cudaDataType compute,
                                        void *device, size_t device_bytes, void *host,
                                        size_t host_bytes, int *info, int64_t count) {
    cusolverStatus_t status =
        check_eigen(handle, jobz, uplo, n, a_type, lda, w_type, compute, count);
    if (status != CUSOLVER_STATUS_SUCCESS)
        return status;
    return eigen(handle, jobz, uplo, n, a_type, a, lda, w, count, 0, n - 1,
                 {device, device_bytes, host, host_bytes}, info);
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t,
                                             cublasFillMode_t, int64_t n, cudaDataType a_type,
                                             const void *, int64_t lda, cudaDataType compute,
                                             size_t *device_bytes, size_t *host_bytes) {
    return sizes(check_factor(handle, n, n, a_type, lda, compute), n, 1, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t,
                                  cublasFillMode_t uplo, int64_t n, cudaDataType a_type, void *a,
                                  int64_t lda, cudaDataType compute, void *device,
                                  size_t device_bytes, void *host, size_t host_bytes, int *info) {
    cusolverStatus_t status = check_factor(handle, n, n, a_type, lda, compute);
    if (status != CUSOLVER_STATUS_SUCCESS)
        return status;
    if (!a || !info || uplo > CUBLAS_FILL_MODE_UPPER)
        return CUSOLVER_STATUS_INVALID_VALUE;
    return enqueue(handle, {device, device_bytes, host, host_bytes}, device_bytes_of(n, 1), [=] {
        lapack_int size = static_cast<lapack_int>(n), ld = static_cast<lapack_int>(lda);
        *info = a_type == CUDA_R_32F ? potrf(letter_of(uplo), size, static_cast<float *>(a), ld)
                                     : potrf(letter_of(uplo), size, static_cast<double *>(a), ld);
        /* a NaN is met in some column */
        if (*info < 0)
            *info = 1;
    });
}

cusolverStatus_t cusolverDnXgeqrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t,
                                             int64_t m, int64_t n, cudaDataType a_type,
                                             const void *, int64_t lda, cudaDataType, const void *,
                                             cudaDataType compute, size_t *device_bytes,
                                             size_t *host_bytes) {
    return sizes(check_factor(handle, m, n, a_type, lda, compute), n, 1, device_bytes, host_bytes);
}

cusolverStatus_t cusolverDnXgeqrf(cusolverDnHandle_t handle, cusolverDnParams_t, int64_t m,
                                  int64_t n, cudaDataType a_type, void *a, int64_t lda,
                                  cudaDataType tau_type, void *tau, cudaDataType compute,
                                  void *device, size_t device_bytes, void *host, size_t host_bytes,
                                  int *info) {
    cusolverStatus_t status = check_factor(handle, m, n, a_type, lda, compute);
    if (status != CUSOLVER_STATUS_SUCCESS)
        return status;
    if (!a || !tau || !info || tau_type != a_type)
        return CUSOLVER_STATUS_INVALID_VALUE;
    return enqueue(handle, {device, device_bytes, host, host_bytes}, device_bytes_of(n, 1), [=] {
        lapack_int rows = static_cast<lapack_int>(m), cols = static_cast<lapack_int>(n);
        lapack_int ld = static_cast<lapack_int>(lda);
        *info = a_type == CUDA_R_32F
                    ? geqrf(rows, cols, static_cast<float *>(a), ld, static_cast<float *>(tau))
                    : geqrf(rows, cols, static_cast<double *>(a), ld, static_cast<double *>(tau));
    });
}
}
