/* The emulated device itself: that it computes what it should, and that it notices races, missing
 * waits, divergence and the host's hands on device memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"
#include "cusolverDn.h"
#include "mma.h"
#include "nccl.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

/* True when device memory is closed to the host: not when it is malloc's. */
static bool is_closed() {
#if defined(__SANITIZE_ADDRESS__)
    return false;
#else
    return !getenv("LA_EMULATED_MALLOC");
#endif
}

static void ok(cudaError_t code) {
    if (code != cudaSuccess)
        fail_msg("%s", cudaGetErrorName(code));
}

static float number(unsigned i) {
    return static_cast<float>(i * 2654435761u >> 8) / 16777216.0f - 0.5f;
}

/* The child's end: its signal, or 0. Its complaints are not shown. */
static int signal_of(const std::function<void()> &child) {
    fflush(nullptr);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        child();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* ---- order ---- */

/* y[block] = sum of the block's x */
__global__ static void block_sum(const float *x, bool synchronises, float *y) {
    __shared__ float partial[8];
    float sum = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int offset = 16; offset; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = sum;
    if (synchronises)
        __syncthreads();
    if (threadIdx.x == 100) {
        float all = 0;
        for (int i = 0; i < 8; i++)
            all += partial[i];
        y[blockIdx.x] = all;
    }
}

static std::vector<float> block_sums(int order, bool synchronises) {
    const int blocks = 7, threads = 256;
    std::vector<float> host(blocks * threads), sums(blocks);
    for (size_t i = 0; i < host.size(); i++)
        host[i] = number(static_cast<unsigned>(i));
    float *x, *y;
    ok(cudaMalloc(&x, host.size() * sizeof *x));
    ok(cudaMalloc(&y, sums.size() * sizeof *y));
    ok(cudaMemcpy(x, host.data(), host.size() * sizeof *x, cudaMemcpyHostToDevice));
    la_emulated_set_order(order);
    LA_LAUNCH(block_sum, blocks, threads, 0, nullptr, x, synchronises, y);
    ok(cudaGetLastError());
    ok(cudaMemcpy(sums.data(), y, sums.size() * sizeof *y, cudaMemcpyDeviceToHost));
    la_emulated_set_order(0);
    ok(cudaFree(x));
    ok(cudaFree(y));
    return sums;
}

static bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
    return memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

static void test_orders_agree(void **) {
    std::vector<float> sums = block_sums(0, true);
    for (int block = 0; block < 7; block++) {
        double expected = 0;
        for (unsigned i = 0; i < 256; i++)
            expected += number(static_cast<unsigned>(block) * 256 + i);
        assert_float_equal(sums[static_cast<size_t>(block)], expected, 1e-4);
    }
    assert_true(same_bits(sums, block_sums(1, true)));
    assert_true(same_bits(sums, block_sums(2, true)));
}

static void test_race_shows(void **) {
    std::vector<float> sums = block_sums(0, true);
    bool differs = false;
    for (int order = 0; order < 3; order++)
        differs = differs || !same_bits(sums, block_sums(order, false));
    assert_true(differs);
}

__global__ static void collect(int *out, unsigned char *shared_at_start) {
    LA_DYNAMIC_SHARED(dynamic);
    __shared__ unsigned char fixed[40];
    int t = static_cast<int>(threadIdx.x + threadIdx.y * blockDim.x);
    if (t < 24)
        shared_at_start[t] = dynamic[t];
    else if (t < 64)
        shared_at_start[t] = fixed[t - 24];
    __syncthreads();
    if (t < 24)
        dynamic[t] = 0;
    if (t < 40)
        fixed[t] = 0;
    int at = t * 8;
    out[at] = __shfl_up_sync(0xffffffffu, t, 3);
    out[at + 1] = __shfl_down_sync(0xffffffffu, t, 3, 8);
    out[at + 2] = __shfl_sync(0xffffffffu, t, 5, 8);
    out[at + 3] = static_cast<int>(__ballot_sync(0xffffffffu, t % 3 == 0));
    out[at + 4] = __syncthreads_count(t % 5 == 0);
    out[at + 5] = __syncthreads_or(t == 63) * 2 + __syncthreads_and(t != 63);
    /* two halves of a warp, each by itself */
    unsigned half = t % 32 < 16 ? 0xffffu : 0xffff0000u;
    out[at + 6] = __shfl_xor_sync(half, t, 1) + __any_sync(half, t == 0) * 1000;
    out[at + 7] = atomicAdd(&out[64 * 8], 1);
}

static void test_collectives(void **) {
    for (int order = 0; order < 3; order++) {
        la_emulated_set_order(order);
        int *device, host[64 * 8 + 1];
        unsigned char *start, host_start[64];
        ok(cudaMalloc(&device, sizeof host));
        ok(cudaMalloc(&start, sizeof host_start));
        ok(cudaMemset(device, 0, sizeof host));
        LA_LAUNCH(collect, 3, dim3(16, 4), 24, nullptr, device, start);
        ok(cudaGetLastError());
        ok(cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost));
        ok(cudaMemcpy(host_start, start, sizeof host_start, cudaMemcpyDeviceToHost));
        assert_int_equal(host[64 * 8], 3 * 64);
        for (int t = 0; t < 64; t++) {
            const int *out = &host[t * 8];
            int lane = t % 32;
            assert_int_equal(out[0], lane < 3 ? t : t - 3);
            assert_int_equal(out[1], lane % 8 + 3 < 8 ? t + 3 : t);
            assert_int_equal(out[2], t / 8 * 8 + 5);
            unsigned ballot = 0;
            for (int i = 0; i < 32; i++)
                ballot |= (t / 32 * 32 + i) % 3 == 0 ? 1u << i : 0;
            assert_int_equal(static_cast<unsigned>(out[3]), ballot);
            assert_int_equal(out[4], 13);
            assert_int_equal(out[5], 2);
            assert_int_equal(out[6], (t ^ 1) + (t < 16 ? 1000 : 0));
            /* the last block to run found its shared memory as every block does */
            assert_int_equal(host_start[t], 0xff);
        }
        ok(cudaFree(device));
        ok(cudaFree(start));
    }
    la_emulated_set_order(0);
}

/* ---- divergence ---- */

__global__ static void barrier_for_some(int threads) {
    if (static_cast<int>(threadIdx.x) < threads)
        __syncthreads();
}
__global__ static void two_barriers() {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
}
__global__ static void shuffle_for_some(float *x) {
    if (threadIdx.x != 7)
        x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sums_fragment;
__global__ static void store_for_some(float *x) {
    sums_fragment sums;
    nvcuda::wmma::fill_fragment(sums, 1.0f);
    if (threadIdx.x != 7)
        nvcuda::wmma::store_matrix_sync(x, sums, 16, nvcuda::wmma::mem_row_major);
}

static void test_divergence_aborts(void **) {
    float *x;
    ok(cudaMalloc(&x, 256 * sizeof *x));
    for (int order = 0; order < 3; order++) {
        la_emulated_set_order(order);
        assert_int_equal(signal_of([] {
                             LA_LAUNCH(barrier_for_some, 1, 64, 0, nullptr, 64);
                             cudaDeviceSynchronize();
                         }),
                         0);
        assert_int_equal(signal_of([] {
                             LA_LAUNCH(barrier_for_some, 1, 64, 0, nullptr, 63);
                             cudaDeviceSynchronize();
                         }),
                         SIGABRT);
        assert_int_equal(signal_of([] {
                             LA_LAUNCH(two_barriers, 1, 64, 0, nullptr);
                             cudaDeviceSynchronize();
                         }),
                         SIGABRT);
        assert_int_equal(signal_of([x] {
                             LA_LAUNCH(shuffle_for_some, 1, 64, 0, nullptr, x);
                             cudaDeviceSynchronize();
                         }),
                         SIGABRT);
        assert_int_equal(signal_of([x] {
                             LA_LAUNCH(store_for_some, 1, 32, 0, nullptr, x);
                             cudaDeviceSynchronize();
                         }),
                         SIGABRT);
    }
    la_emulated_set_order(0);
    ok(cudaFree(x));
}

/* ---- launches, memory, streams ---- */

__global__ static void set_to(float *x, float value) {
    x[threadIdx.x] = value;
}

static void test_launch_limits(void **) {
    float *x;
    ok(cudaMalloc(&x, 1024 * sizeof *x));
    LA_LAUNCH(set_to, 1, 1025, 0, nullptr, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    LA_LAUNCH(set_to, dim3(1, 65536), 1, 0, nullptr, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    LA_LAUNCH(set_to, 0, 1, 0, nullptr, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    LA_LAUNCH(set_to, 1, 1, 49153, nullptr, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(
        cudaFuncSetAttribute(set_to, cudaFuncAttributeMaxDynamicSharedMemorySize, 101377),
        cudaErrorInvalidValue);
    cudaGetLastError();
    ok(cudaFuncSetAttribute(set_to, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000));
    LA_LAUNCH(set_to, 1, 1, 50000, nullptr, x, 1.0f);
    ok(cudaGetLastError());
    assert_int_equal(cudaFree(x + 1), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    float past[8];
    assert_int_equal(cudaMemcpy(past, x + 1020, sizeof past, cudaMemcpyDeviceToHost),
                     cudaErrorInvalidValue);
    cudaGetLastError();
    size_t available, total, after;
    ok(cudaMemGetInfo(&available, &total));
    void *all;
    assert_int_equal(cudaMalloc(&all, total), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    ok(cudaFree(x));
    ok(cudaMemGetInfo(&after, &total));
    assert_int_equal(after, available + 1024 * sizeof *x);
}

static void test_lazy_streams(void **) {
    float *x, *pinned;
    float pageable[4] = {1, 2, 3, 4};
    cudaStream_t first, second;
    cudaEvent_t event;
    ok(cudaMalloc(&x, 8 * sizeof *x));
    ok(cudaMallocHost(&pinned, 8 * sizeof *pinned));
    ok(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    ok(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    for (int i = 0; i < 8; i++)
        pinned[i] = 10;
    /* from pinned memory when it runs, from pageable memory at once */
    ok(cudaMemcpyAsync(x, pinned, 4 * sizeof *x, cudaMemcpyHostToDevice, first));
    ok(cudaMemcpyAsync(x + 4, pageable, sizeof pageable, cudaMemcpyHostToDevice, first));
    pinned[1] = 20;
    pageable[1] = 50;
    ok(cudaEventRecord(event, first));
    ok(cudaMemcpyAsync(pinned, x, 8 * sizeof *x, cudaMemcpyDeviceToHost, second));
    assert_int_equal(cudaStreamQuery(second), cudaErrorNotReady);
    ok(cudaStreamSynchronize(second));
    assert_true(std::isnan(pinned[4])); /* nothing made it wait for the first stream */
    pinned[1] = 30;
    ok(cudaStreamWaitEvent(second, event));
    ok(cudaMemcpyAsync(pinned + 4, x + 4, 4 * sizeof *x, cudaMemcpyDeviceToHost, second));
    ok(cudaStreamSynchronize(second));
    assert_float_equal(pinned[5], 2, 0);
    ok(cudaMemcpyAsync(pageable, x, sizeof pageable, cudaMemcpyDeviceToHost, first));
    assert_float_equal(pageable[1], 30, 0);
    /* a poll comes to an end */
    LA_LAUNCH(set_to, 1, 1, 0, first, x, 7.0f);
    ok(cudaEventRecord(event, first));
    while (cudaEventQuery(event) == cudaErrorNotReady) {
    }
    ok(cudaMemcpy(pageable, x, sizeof *x, cudaMemcpyDeviceToHost));
    assert_float_equal(pageable[0], 7, 0);
    cudaGetLastError();
    ok(cudaEventDestroy(event));
    ok(cudaStreamDestroy(first));
    assert_int_equal(cudaStreamDestroy(first), cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    ok(cudaStreamDestroy(second));
    ok(cudaFreeHost(pinned));
    ok(cudaFree(x));
}

static void test_device_memory_is_closed(void **) {
    if (!is_closed())
        skip();
    float *x;
    ok(cudaMalloc(&x, 4 * sizeof *x));
    assert_int_equal(signal_of([x] {
                         volatile float value = *x;
                         (void)value;
                     }),
                     SIGSEGV);
    ok(cudaMemset(x, 0, 4 * sizeof *x));
    ok(cudaDeviceSynchronize());
    assert_int_equal(signal_of([x] { *static_cast<volatile float *>(x) = 1; }), SIGSEGV);
    ok(cudaFree(x));
}

/* ---- types and libraries ---- */

static void test_conversions(void **) {
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16(1.0f)), 0x3f80);
    /* ties to even */
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16(1.00390625f)), 0x3f80);
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16(1.01171875f)), 0x3f82);
    assert_true(std::isnan(__bfloat162float(__float2bfloat16(NAN))));
    assert_true(std::isinf(__bfloat162float(__float2bfloat16(3.4e38f))));
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        unsigned short half_bits = static_cast<unsigned short>(bits);
        float value = __half2float(__ushort_as_half(half_bits));
        if (std::isnan(value))
            assert_true(std::isnan(__half2float(__float2half(value))));
        else
            assert_int_equal(__half_as_ushort(__float2half(value)), bits);
    }
    assert_int_equal(__half_as_ushort(__float2half(65519.0f)), 0x7bff);
    assert_int_equal(__half_as_ushort(__float2half(65520.0f)), 0x7c00);
    assert_int_equal(__half_as_ushort(__float2half(1.00048828125f)), 0x3c00);
    assert_int_equal(__half_as_ushort(__float2half(2.98023224e-8f)), 0);
}

using nvcuda::wmma::col_major;
using nvcuda::wmma::row_major;

/* c[16,16] = a[16,32] b[32,16], b given by columns */
__global__ static void tile_product(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c) {
    LA_DYNAMIC_SHARED(memory);
    float *tile = reinterpret_cast<float *>(memory);
    sums_fragment sums;
    nvcuda::wmma::fill_fragment(sums, 0.0f);
    for (int k = 0; k < 32; k += 16) {
        nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, row_major> left;
        nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, col_major> right;
        nvcuda::wmma::load_matrix_sync(left, a + k, 32);
        nvcuda::wmma::load_matrix_sync(right, b + k, 32);
        nvcuda::wmma::mma_sync(sums, left, right, sums);
    }
    nvcuda::wmma::store_matrix_sync(tile, sums, 16, nvcuda::wmma::mem_row_major);
    __syncwarp();
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += 32)
        c[i] = tile[i];
}

static std::vector<__nv_bfloat16> bf16_numbers(size_t count, unsigned first) {
    std::vector<__nv_bfloat16> numbers(count);
    for (size_t i = 0; i < count; i++)
        numbers[i] = __float2bfloat16(number(static_cast<unsigned>(i) + first));
    return numbers;
}

template <typename T> static T *on_device(const std::vector<T> &host) {
    T *device;
    ok(cudaMalloc(&device, host.size() * sizeof(T)));
    ok(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    return device;
}

static void test_wmma(void **) {
    std::vector<__nv_bfloat16> a = bf16_numbers(512, 0), b = bf16_numbers(512, 5000);
    std::vector<float> c(256, -1);
    __nv_bfloat16 *da = on_device(a), *db = on_device(b);
    float *dc = on_device(c);
    for (int order = 0; order < 3; order++) {
        la_emulated_set_order(order);
        ok(cudaMemset(dc, 0xff, 256 * sizeof *dc));
        LA_LAUNCH(tile_product, 1, 32, 1024, nullptr, da, db, dc);
        ok(cudaMemcpy(c.data(), dc, 256 * sizeof *dc, cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < 16; i++)
            for (size_t j = 0; j < 16; j++) {
                double sum = 0;
                for (size_t k = 0; k < 32; k++)
                    sum += static_cast<double>(static_cast<float>(a[i * 32 + k])) *
                           static_cast<double>(static_cast<float>(b[j * 32 + k]));
                assert_float_equal(c[i * 16 + j], sum, 1e-5);
            }
    }
    la_emulated_set_order(0);
    ok(cudaFree(da));
    ok(cudaFree(db));
    ok(cudaFree(dc));
}

template <typename T>
static void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t which, T value) {
    assert_int_equal(cublasLtMatmulDescSetAttribute(desc, which, &value, sizeof value), 0);
}

/* d[24,10] = gelu(a^T[24,12] b[12,10] + bias), column-major, and what it was before */
static void check_matmul(cublasOperation_t transa, cublasOperation_t transb,
                         cublasLtEpilogue_t epilogue) {
    const int m = 24, n = 10, k = 12;
    std::vector<__nv_bfloat16> a = bf16_numbers(m * k, 1), b = bf16_numbers(k * n, 777);
    std::vector<__nv_bfloat16> bias = bf16_numbers(m, 99), d(m * n), aux(m * n);
    __nv_bfloat16 *da = on_device(a), *db = on_device(b), *dbias = on_device(bias);
    __nv_bfloat16 *dd = on_device(d), *daux = on_device(aux);
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t la, lb, ld;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int lda = transa == CUBLAS_OP_N ? m : k, ldb = transb == CUBLAS_OP_N ? k : n, found = 0;
    assert_int_equal(cublasLtCreate(&lt), 0);
    assert_int_equal(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), 0);
    set(desc, CUBLASLT_MATMUL_DESC_TRANSA, transa);
    set(desc, CUBLASLT_MATMUL_DESC_TRANSB, transb);
    set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, dbias);
    set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, daux);
    set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, static_cast<int64_t>(m));
    cublasLtMatrixLayoutCreate(&la, CUDA_R_16BF, static_cast<uint64_t>(lda), m + k - lda, lda);
    cublasLtMatrixLayoutCreate(&lb, CUDA_R_16BF, static_cast<uint64_t>(ldb), n + k - ldb, ldb);
    cublasLtMatrixLayoutCreate(&ld, CUDA_R_16BF, m, n, m);
    assert_int_equal(cublasLtMatmulPreferenceCreate(&preference), 0);
    assert_int_equal(
        cublasLtMatmulAlgoGetHeuristic(lt, desc, la, lb, ld, ld, preference, 1, &result, &found),
        0);
    assert_int_equal(found, 1);
    float one = 1, zero = 0;
    assert_int_equal(cublasLtMatmul(lt, desc, &one, da, la, db, lb, &zero, dd, ld, dd, ld,
                                    &result.algo, nullptr, 0, nullptr),
                     0);
    ok(cudaMemcpy(d.data(), dd, d.size() * sizeof d[0], cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(aux.data(), daux, aux.size() * sizeof aux[0], cudaMemcpyDeviceToHost));
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float sum = epilogue & CUBLASLT_EPILOGUE_BIAS ? __bfloat162float(bias[i]) : 0;
            for (int p = 0; p < k; p++)
                sum += __bfloat162float(a[transa == CUBLAS_OP_N ? p * m + i : i * k + p]) *
                       __bfloat162float(b[transb == CUBLAS_OP_N ? j * k + p : p * n + j]);
            if (epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
                assert_float_equal(__bfloat162float(aux[j * m + i]), sum, 0.01);
                sum = 0.5f * sum * (1 + tanhf(0.79788456f * (sum + 0.044715f * sum * sum * sum)));
            }
            assert_float_equal(__bfloat162float(d[j * m + i]), sum, 0.01);
        }
    /* factors of different types are not for it */
    cublasLtMatrixLayout_t wide;
    cublasLtMatrixLayoutCreate(&wide, CUDA_R_32F, static_cast<uint64_t>(ldb), n + k - ldb, ldb);
    assert_int_equal(
        cublasLtMatmulAlgoGetHeuristic(lt, desc, la, wide, ld, ld, preference, 1, &result, &found),
        CUBLAS_STATUS_NOT_SUPPORTED);
    cublasLtMatrixLayoutDestroy(wide);
    cublasLtMatrixLayoutDestroy(la);
    cublasLtMatrixLayoutDestroy(lb);
    cublasLtMatrixLayoutDestroy(ld);
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatmulDescDestroy(desc);
    cublasLtDestroy(lt);
    for (__nv_bfloat16 *memory : {da, db, dbias, dd, daux})
        ok(cudaFree(memory));
}

static void test_cublaslt(void **) {
    for (cublasOperation_t transa : {CUBLAS_OP_N, CUBLAS_OP_T})
        for (cublasOperation_t transb : {CUBLAS_OP_N, CUBLAS_OP_T})
            for (cublasLtEpilogue_t epilogue : {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS,
                                                CUBLASLT_EPILOGUE_GELU_AUX_BIAS})
                check_matmul(transa, transb, epilogue);
}

static void test_syevd(void **) {
    const int64_t n = 6;
    std::vector<double> a(n * n), vectors(n * n), values(n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            a[i * n + j] = a[j * n + i] =
                static_cast<double>(number(static_cast<unsigned>(i * n + j)));
    double *da = on_device(a), *dw = on_device(values);
    int *info, host_info = -1;
    cusolverDnHandle_t handle;
    cusolverDnParams_t params;
    size_t device_bytes, host_bytes;
    void *device;
    ok(cudaMalloc(&info, sizeof *info));
    assert_int_equal(cusolverDnCreate(&handle), 0);
    assert_int_equal(cusolverDnCreateParams(&params), 0);
    assert_int_equal(cusolverDnXsyevd_bufferSize(
                         handle, params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n,
                         CUDA_R_64F, da, n, CUDA_R_64F, dw, CUDA_R_64F, &device_bytes, &host_bytes),
                     0);
    ok(cudaMalloc(&device, device_bytes));
    std::vector<char> host(host_bytes);
    assert_int_equal(cusolverDnXsyevd(handle, params, CUSOLVER_EIG_MODE_VECTOR,
                                      CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, da, n, CUDA_R_64F, dw,
                                      CUDA_R_64F, device, device_bytes, host.data(), host_bytes,
                                      info),
                     0);
    ok(cudaMemcpy(&host_info, info, sizeof host_info, cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(vectors.data(), da, a.size() * sizeof(double), cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(values.data(), dw, values.size() * sizeof(double), cudaMemcpyDeviceToHost));
    assert_int_equal(host_info, 0);
    for (int64_t v = 0; v < n; v++)
        for (int64_t i = 0; i < n; i++) {
            double product = 0;
            for (int64_t j = 0; j < n; j++)
                product += a[i * n + j] * vectors[v * n + j];
            assert_true(fabs(product - values[v] * vectors[v * n + i]) < 1e-12);
        }
    cusolverDnDestroyParams(params);
    cusolverDnDestroy(handle);
    ok(cudaFree(device));
    ok(cudaFree(info));
    ok(cudaFree(da));
    ok(cudaFree(dw));
}

static void test_reduction_between_devices(void **) {
    int devices[2] = {0, 1};
    double *sums[2], host[3] = {0, 0, 0};
    cudaStream_t streams[2];
    ncclComm_t comms[2];
    assert_int_equal(ncclCommInitAll(comms, 2, devices), ncclSuccess);
    for (int i = 0; i < 2; i++) {
        double start[3] = {1.0 + i, 2.0 + i, 3.0 + i};
        ok(cudaSetDevice(i));
        ok(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
        ok(cudaMalloc(&sums[i], sizeof start));
        ok(cudaMemcpyAsync(sums[i], start, sizeof start, cudaMemcpyHostToDevice, streams[i]));
    }
    /* a launch needs its stream's device to be the current one */
    LA_LAUNCH(set_to, 1, 1, 0, streams[0], nullptr, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidResourceHandle);
    ncclGroupStart();
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            ncclReduce(sums[i], sums[0], 3, ncclDouble, ncclSum, 0, comms[i], streams[i]),
            ncclSuccess);
    assert_int_equal(ncclGroupEnd(), ncclSuccess);
    ok(cudaStreamSynchronize(streams[0]));
    ok(cudaSetDevice(0));
    ok(cudaMemcpy(host, sums[0], sizeof host, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 3; i++)
        assert_true(host[i] == 2 * i + 3);
    for (int i = 0; i < 2; i++) {
        ok(cudaSetDevice(i));
        ok(cudaStreamDestroy(streams[i]));
        ok(cudaFree(sums[i]));
        assert_int_equal(ncclCommDestroy(comms[i]), ncclSuccess);
    }
    ok(cudaSetDevice(0));
}

int main() {
    setenv("LA_EMULATED_DEVICES", "2", 1);
    setenv("LA_EMULATED_LEAKS", "1", 1);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_orders_agree),
        cmocka_unit_test(test_race_shows),
        cmocka_unit_test(test_collectives),
        cmocka_unit_test(test_divergence_aborts),
        cmocka_unit_test(test_launch_limits),
        cmocka_unit_test(test_lazy_streams),
        cmocka_unit_test(test_device_memory_is_closed),
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_wmma),
        cmocka_unit_test(test_cublaslt),
        cmocka_unit_test(test_syevd),
        cmocka_unit_test(test_reduction_between_devices),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
