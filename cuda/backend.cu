/* The CUDA backend's table, memory, copies and faults. The operations are in the other files, one
 * family each.
 *
 * All operations of a backend go to one stream, in order. Copies from the host pass through pinned
 * buffers in turn, so that a file mapped into memory streams to the device while the next piece is
 * read; a buffer is used again only after its copy is done. */
#include "vector.cuh"

#include <algorithm>
#include <new>
#include <stdio.h>
#include <string.h>
#include <unordered_map>

namespace {

/* Memory handed out by alloc, to know its total at any time. */
struct allocations {
    std::unordered_map<void *, size_t> bytes;
    size_t held = 0;
};

/* The context behind la_backend, with what only this file needs. */
struct context {
    la_cuda cuda; /* first: both are cast to */
    allocations memory;
};

context *context_of(la_backend *be) {
    return static_cast<context *>(be->context);
}

} // namespace

la_cuda *la_cuda_of(la_backend *be) {
    la_cuda *cu = static_cast<la_cuda *>(be->context);
    la_cuda_ok(cu, cudaSetDevice(cu->device), "choosing the device");
    return cu;
}

/* ---- faults ---- */

bool la_cuda_ok(la_cuda *cu, cudaError_t code, const char *what) {
    if (code == cudaSuccess)
        return true;
    (void)la_fail(&cu->fault, LA_RESOURCE, "cuda:%d: %s failed: %s (%s)", cu->device, what,
                  cudaGetErrorString(code), cudaGetErrorName(code));
    return false;
}

bool la_cuda_blas_ok(la_cuda *cu, cublasStatus_t code, const char *what) {
    if (code == CUBLAS_STATUS_SUCCESS)
        return true;
    (void)la_fail(&cu->fault, LA_RESOURCE, "cuda:%d: %s failed: cuBLAS status %d", cu->device, what,
                  static_cast<int>(code));
    return false;
}

bool la_cuda_launched(la_cuda *cu, const char *kernel) {
    return la_cuda_ok(cu, cudaGetLastError(), kernel);
}

/* ---- memory ---- */

void *la_cuda_alloc(la_backend *be, size_t bytes) {
    context *c = context_of(be);
    void *memory = nullptr;
    if (cudaSetDevice(c->cuda.device) != cudaSuccess ||
        cudaMalloc(&memory, bytes ? bytes : 1) != cudaSuccess) {
        /* a full device is reported by the caller, and is no fault of later calls */
        cudaGetLastError();
        return nullptr;
    }
    try {
        c->memory.bytes[memory] = bytes;
    } catch (const std::bad_alloc &) {
        cudaFree(memory);
        return nullptr;
    }
    c->memory.held += bytes;
    be->peak_bytes = std::max(be->peak_bytes, c->memory.held);
    return memory;
}

void la_cuda_release(la_backend *be, void *memory) {
    context *c = context_of(be);
    if (!memory)
        return;
    auto found = c->memory.bytes.find(memory);
    if (found != c->memory.bytes.end()) {
        c->memory.held -= found->second;
        c->memory.bytes.erase(found);
    }
    cudaSetDevice(c->cuda.device);
    cudaFree(memory);
}

void *la_cuda_scratch_get(la_cuda *cu, la_cuda_scratch_kind which, size_t bytes) {
    if (bytes <= cu->scratch_bytes[which] && cu->scratch[which])
        return cu->scratch[which];
    /* cudaFree waits for what still uses the old memory */
    cudaFree(cu->scratch[which]);
    cu->scratch[which] = nullptr;
    cu->scratch_bytes[which] = 0;
    if (!la_cuda_ok(cu, cudaMalloc(&cu->scratch[which], bytes), "allocating a workspace")) {
        cudaGetLastError();
        cu->scratch[which] = nullptr;
        return nullptr;
    }
    cu->scratch_bytes[which] = bytes;
    return cu->scratch[which];
}

void la_cuda_scratch_free(la_cuda *cu) {
    for (int i = 0; i < LA_CUDA_SCRATCHES; i++) {
        cudaFree(cu->scratch[i]);
        cu->scratch[i] = nullptr;
        cu->scratch_bytes[i] = 0;
    }
}

void la_cuda_memory(la_backend *be, size_t *available, size_t *total) {
    la_cuda *cu = la_cuda_of(be);
    *available = *total = 0;
    la_cuda_ok(cu, cudaMemGetInfo(available, total), "asking for free memory");
}

/* Bytes of each scratch that the sizes lead to. */
static void scratch_sizes(const la_sizes *sizes, size_t bytes[LA_CUDA_SCRATCHES]) {
    int64_t widest = sizes->max_width > sizes->max_factor ? sizes->max_width : sizes->max_factor;
    /* weights of another type, or the covariance's smaller side */
    bytes[LA_CUDA_WIDEN] = static_cast<size_t>(
        std::max(sizes->max_weight, sizes->n_rhs * sizes->max_tokens * sizes->max_small));
    bytes[LA_CUDA_WIDEN] *= sizeof(float);
    bytes[LA_CUDA_FACTOR] =
        static_cast<size_t>(sizes->max_factor * sizes->max_factor) * sizeof(float);
    bytes[LA_CUDA_FACTOR] =
        std::max(bytes[LA_CUDA_FACTOR], static_cast<size_t>(widest) * sizeof(double));
    bytes[LA_CUDA_RAW] = LA_STAGE_BYTES;
    bytes[LA_CUDA_DRAWS] = 0;
    if (sizes->n_rhs)
        bytes[LA_CUDA_DRAWS] = la_cuda_draws_bytes(sizes->max_rows, sizes->n_rhs + 1);
    bytes[LA_CUDA_DELTA] =
        static_cast<size_t>(sizes->n_rhs * sizes->max_tokens * sizes->n_heads) * sizeof(float);
    bytes[LA_CUDA_RELATIVE] =
        static_cast<size_t>(3 * sizes->max_tokens * sizes->n_heads * sizes->max_relative) *
        sizeof(float);
}

size_t la_cuda_workspace(la_backend *be, const la_sizes *sizes) {
    (void)be;
    size_t bytes[LA_CUDA_SCRATCHES], total = 0;
    scratch_sizes(sizes, bytes);
    for (size_t one : bytes)
        total += one;
    return total;
}

la_status la_cuda_sync(la_backend *be, la_error *err) {
    la_cuda *cu = la_cuda_of(be);
    la_cuda_ok(cu, cudaStreamSynchronize(cu->stream), "computing");
    if (cu->fault.status == LA_OK)
        return LA_OK;
    *err = cu->fault;
    memset(&cu->fault, 0, sizeof cu->fault);
    return err->status;
}

la_status la_cuda_reserve(la_backend *be, const la_sizes *sizes, la_error *err) {
    la_cuda *cu = la_cuda_of(be);
    size_t bytes[LA_CUDA_SCRATCHES];
    scratch_sizes(sizes, bytes);
    cu->max_relative = sizes->max_relative;
    for (int i = 0; i < LA_CUDA_SCRATCHES; i++)
        if (bytes[i])
            la_cuda_scratch_get(cu, static_cast<la_cuda_scratch_kind>(i), bytes[i]);
    return la_cuda_sync(be, err);
}

void la_cuda_wait(la_backend *be) {
    la_cuda *cu = la_cuda_of(be);
    la_cuda_ok(cu, cudaStreamSynchronize(cu->stream), "computing");
}

/* ---- copies ---- */

/* The next pinned buffer, free to be written; NULL after a fault. */
static unsigned char *next_stage(la_cuda *cu, int *number) {
    int i = cu->next_stage;
    cu->next_stage = (i + 1) % LA_STAGES;
    *number = i;
    if (cu->stage_used[i] &&
        !la_cuda_ok(cu, cudaEventSynchronize(cu->stage_free[i]), "a copy to the device"))
        return nullptr;
    cu->stage_used[i] = true;
    return cu->stage[i];
}

/* Host bytes to the device, piece by piece; the source may change once this returns. */
void la_cuda_upload(la_backend *be, void *to, const void *from, size_t bytes) {
    la_cuda *cu = la_cuda_of(be);
    for (size_t at = 0; at < bytes; at += LA_STAGE_BYTES) {
        size_t n = std::min(bytes - at, static_cast<size_t>(LA_STAGE_BYTES));
        int number;
        unsigned char *stage = next_stage(cu, &number);
        if (!stage)
            return;
        memcpy(stage, static_cast<const unsigned char *>(from) + at, n);
        if (!la_cuda_ok(cu,
                        cudaMemcpyAsync(static_cast<unsigned char *>(to) + at, stage, n,
                                        cudaMemcpyHostToDevice, cu->stream),
                        "a copy to the device") ||
            !la_cuda_ok(cu, cudaEventRecord(cu->stage_free[number], cu->stream),
                        "a copy to the device"))
            return;
    }
}

/* Device bytes to the host, there when this returns. */
void la_cuda_download(la_backend *be, void *to, const void *from, size_t bytes) {
    la_cuda *cu = la_cuda_of(be);
    if (bytes &&
        la_cuda_ok(cu, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, cu->stream),
                   "a copy from the device"))
        la_cuda_ok(cu, cudaStreamSynchronize(cu->stream), "a copy from the device");
}

void la_cuda_zero(la_backend *be, void *memory, size_t bytes) {
    la_cuda *cu = la_cuda_of(be);
    if (bytes)
        la_cuda_ok(cu, cudaMemsetAsync(memory, 0, bytes, cu->stream), "clearing memory");
}

/* count numbers through a raw buffer on the device, converted there piece by piece */
static void upload_converted(la_backend *be, const void *host, la_dtype from, int64_t count,
                             la_dtype to, void *memory) {
    la_cuda *cu = la_cuda_of(be);
    int64_t piece = LA_STAGE_BYTES / 8;
    void *raw = la_cuda_scratch_get(cu, LA_CUDA_RAW, LA_STAGE_BYTES);
    for (int64_t at = 0; raw && at < count; at += piece) {
        int64_t n = std::min(piece, count - at);
        la_cuda_upload(
            be, raw, static_cast<const char *>(host) + static_cast<size_t>(at) * la_type_size(from),
            static_cast<size_t>(n) * la_type_size(from));
        la_mat x = {raw, 1, n, n, from};
        la_mat y = {static_cast<char *>(memory) + static_cast<size_t>(at) * la_type_size(to), 1, n,
                    n, to};
        la_cuda_convert(cu, &x, &y);
    }
}

const void *la_cuda_place(la_backend *be, const void *host, la_dtype from, int64_t count,
                          la_dtype to, bool *copied) {
    void *memory = la_cuda_alloc(be, static_cast<size_t>(count) * la_type_size(to));
    *copied = memory != nullptr;
    if (!memory)
        return nullptr;
    if (from == to)
        la_cuda_upload(be, memory, host, static_cast<size_t>(count) * la_type_size(to));
    else
        upload_converted(be, host, from, count, to, memory);
    return memory;
}

/* ---- opening and closing ---- */

void la_cuda_close(la_backend *be) {
    context *c = context_of(be);
    if (!c)
        return;
    la_cuda *cu = &c->cuda;
    cudaSetDevice(cu->device);
    if (cu->stream)
        cudaStreamSynchronize(cu->stream);
    la_cuda_gemms_free(cu->gemms);
    if (cu->lt)
        cublasLtDestroy(cu->lt);
    if (cu->blas)
        cublasDestroy(cu->blas);
    for (int i = 0; i < LA_STAGES; i++) {
        if (cu->stage_free[i])
            cudaEventDestroy(cu->stage_free[i]);
        if (cu->stage[i])
            cudaFreeHost(cu->stage[i]);
    }
    la_cuda_scratch_free(cu);
    cudaFree(cu->lt_workspace);
    if (cu->stream)
        cudaStreamDestroy(cu->stream);
    delete c;
    be->context = nullptr;
}

static const la_ops cuda_ops = {
    "cuda",
    false,
    true,
    false,
#define LA_OP(cost, result, name, parameters, arguments) la_cuda_##name,
#include "backend/ops.def"
};

/* "Ampere" and newer: what the kernels are compiled for. */
enum { MAJOR_LEAST = 8 };

/* Split sums are reduced in f32, as with cuBLASLt (gemm.cu). */
static const cublasMath_t MATH_MODE = static_cast<cublasMath_t>(
    CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);

static bool open_parts(la_cuda *cu, char name[64]) {
    cudaDeviceProp properties;
    if (!la_cuda_ok(cu, cudaSetDevice(cu->device), "opening the device") ||
        !la_cuda_ok(cu, cudaGetDeviceProperties(&properties, cu->device), "opening the device"))
        return false;
    snprintf(name, 64, "cuda:%d (%.40s)", cu->device, properties.name);
    if (properties.major < MAJOR_LEAST) {
        (void)la_fail(&cu->fault, LA_UNSUPPORTED,
                      "%s has compute capability %d.%d, expected %d.0 or newer; use --device cpu",
                      name, properties.major, properties.minor, static_cast<int>(MAJOR_LEAST));
        return false;
    }
    if (!la_cuda_ok(cu, cudaStreamCreateWithFlags(&cu->stream, cudaStreamNonBlocking),
                    "making a stream") ||
        !la_cuda_blas_ok(cu, cublasLtCreate(&cu->lt), "opening cuBLASLt") ||
        !la_cuda_blas_ok(cu, cublasCreate(&cu->blas), "opening cuBLAS") ||
        !la_cuda_blas_ok(cu, cublasSetStream(cu->blas, cu->stream), "opening cuBLAS") ||
        !la_cuda_blas_ok(cu, cublasSetMathMode(cu->blas, MATH_MODE), "opening cuBLAS") ||
        !la_cuda_ok(cu, cudaMalloc(&cu->lt_workspace, LA_LT_WORKSPACE), "allocating a workspace"))
        return false;
    for (int i = 0; i < LA_STAGES; i++) {
        void *memory = nullptr;
        if (!la_cuda_ok(cu, cudaMallocHost(&memory, LA_STAGE_BYTES), "pinning memory"))
            return false;
        cu->stage[i] = static_cast<unsigned char *>(memory);
        if (!la_cuda_ok(cu, cudaEventCreateWithFlags(&cu->stage_free[i], cudaEventDisableTiming),
                        "making an event"))
            return false;
    }
    cu->gemms = la_cuda_gemms_new();
    if (!cu->gemms)
        (void)la_fail(&cu->fault, LA_RESOURCE, "out of memory for %s", name);
    return cu->gemms != nullptr;
}

static int cuda_count(la_error *err) {
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess && count > 0)
        return count;
    (void)la_fail(err, LA_RESOURCE, "no CUDA device can be used: %s",
                  code == cudaSuccess ? "the driver finds none" : cudaGetErrorString(code));
    return -1;
}

static la_status cuda_open(int device, la_precision precision, la_backend *backend, la_error *err) {
    int count = cuda_count(err);
    if (count < 0)
        return err->status;
    if (device >= count)
        return la_fail(err, LA_RESOURCE, "--device cuda:%d: this machine has %d device%s", device,
                       count, count == 1 ? "" : "s");
    context *c = new (std::nothrow) context();
    if (!c)
        return la_fail(err, LA_RESOURCE, "out of memory for a device");
    c->cuda.device = device;
    c->cuda.precision = precision;
    memset(backend, 0, sizeof *backend);
    backend->ops = &cuda_ops;
    backend->context = c;
    backend->precision = precision;
    backend->activation = precision == LA_PRECISION_BF16 ? LA_BF16 : LA_F32;
    if (!open_parts(&c->cuda, backend->device)) {
        *err = c->cuda.fault;
        la_cuda_close(backend);
        return err->status;
    }
    return LA_OK;
}

extern "C" {
extern const la_cuda_plugin la_cuda_plugin_entry __attribute__((visibility("default")));
const la_cuda_plugin la_cuda_plugin_entry = {LA_CUDA_ABI, cuda_count, cuda_open};
}
