/* Symmetric eigendecompositions by cuSOLVER, three ways:
 *
 *   small                 all matrices of one side in one batched call (solver_batch.cu)
 *   large, few eigenpairs subspace iteration (solver_subspace.cu)
 *   large                 Xsyevd, or Xsyevdx where subspace iteration gave up
 *
 * The large ones are spread over a few workers, each a thread with its own stream: parts of one
 * decomposition run on the host or fill the device badly, and others fill the gaps. A matrix's
 * result does not depend on the worker. Every result is checked against its matrix. */
#include "solver.cuh"

#include <algorithm>
#include <atomic>
#include <exception>
#include <math.h>
#include <new>
#include <stdlib.h>
#include <string.h>
#include <system_error>
#include <thread>
#include <vector>

enum {
    SMALL = 256,     /* sides up to this go into batches */
    F64_MOST = 2048, /* larger matrices of a bf16 run are decomposed in f32 */
    WORKERS = 4,
    THREADS = 256,
    WARPS = THREADS / LA_WARP
};
static const int64_t PANEL = 256; /* columns checked at a time */
/* Left alone by all workers but the first: cuBLAS, cuSOLVER and kernels take memory themselves. */
static const size_t RESERVE = 512u << 20;

/* Limits of a check, as a share of the largest eigenvalue. Rounding gives some n u (u is 1.1e-16
 * in f64, 6e-8 in f32, and f32 stays below 1e-5 in practice); a wrong answer is off by about 1.
 * These limits lie between the two, nearer to rounding. */
double la_solver_allowed_f64(int64_t n) {
    return 1e-13 * static_cast<double>(n < 10 ? 10 : n);
}
static const double ALLOWED_F32 = 1e-4;

/* ---- errors ---- */

static la_status failed_step(const la_solver *s, const char *what, const char *why, la_error *err) {
    return la_fail(err, LA_RESOURCE, "%s: its eigendecomposition on device %d failed: %s: %s",
                   s->name, s->device, what, why);
}

la_status la_solver_cuda(const la_solver *s, cudaError_t code, const char *what, la_error *err) {
    return code == cudaSuccess ? LA_OK : failed_step(s, what, cudaGetErrorString(code), err);
}

la_status la_solver_launched(const la_solver *s, const char *kernel, la_error *err) {
    return la_solver_cuda(s, cudaGetLastError(), kernel, err);
}

static la_status failed_call(const la_solver *s, const char *what, const char *library, int code,
                             la_error *err) {
    char text[48];
    snprintf(text, sizeof text, "%s status %d", library, code);
    return failed_step(s, what, text, err);
}

la_status la_solver_blas(const la_solver *s, cublasStatus_t code, const char *what, la_error *err) {
    return code == CUBLAS_STATUS_SUCCESS ? LA_OK : failed_call(s, what, "cuBLAS", code, err);
}

la_status la_solver_dense(const la_solver *s, cusolverStatus_t code, const char *what,
                          la_error *err) {
    return code == CUSOLVER_STATUS_SUCCESS ? LA_OK : failed_call(s, what, "cuSOLVER", code, err);
}

la_status la_solver_failed(const la_eigen *problem, const char *why, la_error *err) {
    return la_fail(err, LA_NUMERICAL,
                   "%s: the eigendecomposition of its %lld x %lld curvature factor failed (%s)",
                   problem->name, static_cast<long long>(problem->n),
                   static_cast<long long>(problem->n), why);
}

la_status la_solver_not_finite(const la_eigen *problem, la_error *err) {
    return la_solver_failed(problem, "it holds NaN or infinite values", err);
}

/* ---- kernels ---- */

/* a[n, n]: the upper triangle becomes the mirror of the lower one; *bad = 1 where a value is not
 * finite */
__global__ static void mirror(int64_t n, double *a, int *bad) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
    if (i >= n || j > i)
        return;
    double value = a[i * n + j];
    if (!isfinite(value))
        *bad = 1;
    if (j < i)
        a[j * n + i] = value;
}

/* out[count] = in */
template <typename From, typename To>
__global__ static void copy_as(int64_t count, const From *in, To *out) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < count)
        out[at] = static_cast<To>(in[at]);
}

/* checks[2, columns] from av[columns, n], v[columns, n], values[columns], a warp a column:
 * ||av - value v||^2 and ||v||^2 */
__global__ static void check_columns(int64_t n, int64_t columns, const double *av, const double *v,
                                     const double *values, double *checks) {
    int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (column >= columns)
        return;
    double value = values[column], residual = 0, norm = 0;
    for (int64_t i = threadIdx.x; i < n; i += LA_WARP) {
        double x = v[column * n + i], r = av[column * n + i] - value * x;
        residual += r * r;
        norm += x * x;
    }
    residual = la_warp_sum(residual);
    norm = la_warp_sum(norm);
    if (threadIdx.x == 0) {
        checks[column] = residual;
        checks[columns + column] = norm;
    }
}

/* *trace of a[n, n], by one warp */
__global__ static void trace_of(int64_t n, const double *a, double *trace) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += LA_WARP)
        sum += a[i * (n + 1)];
    sum = la_warp_sum(sum);
    if (threadIdx.x == 0)
        *trace = sum;
}

/* out[rank, n] = the last rank rows of v[columns, n], last one first */
template <typename T>
__global__ static void reversed_rows(int64_t n, int64_t rank, int64_t columns, const T *v,
                                     float *out) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < rank * n)
        out[at] = static_cast<float>(v[(columns - 1 - at / n) * n + at % n]);
}

/* ---- steps ---- */

la_status la_solver_download(const la_solver *s, void *to, const void *from, size_t bytes,
                             la_error *err) {
    LA_TRY(la_solver_cuda(s, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s->stream),
                          "a copy to the host", err));
    return la_solver_cuda(s, cudaStreamSynchronize(s->stream), "a copy to the host", err);
}

la_status la_solver_mirror(const la_solver *s, const la_eigen *problem, int *flag, la_error *err) {
    int bad = 0;
    LA_TRY(la_solver_cuda(s, cudaMemsetAsync(flag, 0, sizeof *flag, s->stream), "memset", err));
    dim3 block(LA_WARP, WARPS);
    dim3 grid(la_cuda_blocks(problem->n, LA_WARP), la_cuda_blocks(problem->n, WARPS));
    LA_LAUNCH(mirror, grid, block, 0, s->stream, problem->n, problem->a, flag);
    LA_TRY(la_solver_launched(s, "mirror", err));
    /* known before the solver starts: NaN may keep it from ending */
    LA_TRY(la_solver_download(s, &bad, flag, sizeof bad, err));
    return bad ? la_solver_not_finite(problem, err) : LA_OK;
}

la_status la_solver_check(const la_solver *s, int64_t n, int64_t columns, const double *av,
                          const double *v, const double *values, double *checks, la_error *err) {
    LA_LAUNCH(check_columns, la_cuda_blocks(columns, WARPS), dim3(LA_WARP, WARPS), 0, s->stream, n,
              columns, av, v, values, checks);
    return la_solver_launched(s, "check_columns", err);
}

template <typename T>
static la_status vectors_out(const la_solver *s, const la_eigen *problem, int64_t columns,
                             const T *v, la_error *err) {
    int64_t count = problem->rank * problem->n;
    float *rows = reinterpret_cast<float *>(problem->a);
    LA_LAUNCH(reversed_rows<T>, la_cuda_blocks(count, THREADS), THREADS, 0, s->stream, problem->n,
              problem->rank, columns, v, rows);
    LA_TRY(la_solver_launched(s, "reversed_rows", err));
    return la_solver_download(s, problem->vectors, rows, static_cast<size_t>(count) * sizeof *rows,
                              err);
}

la_status la_solver_vectors(const la_solver *s, const la_eigen *problem, int64_t columns,
                            const double *v, la_error *err) {
    return vectors_out(s, problem, columns, v, err);
}

la_status la_solver_syevd_space(const la_solver *s, int64_t n, const void *any, la_workspace *space,
                                la_error *err) {
    size_t device = 0, host = 0;
    LA_TRY(
        la_solver_dense(s,
                        cusolverDnXsyevd_bufferSize(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                                                    CUBLAS_FILL_MODE_UPPER, n, CUDA_R_64F, any, n,
                                                    CUDA_R_64F, any, CUDA_R_64F, &device, &host),
                        "the workspace of Xsyevd", err));
    la_workspace_include(space, device, host);
    return LA_OK;
}

la_status la_solver_syevd(const la_solver *s, int64_t n, double *a, double *values,
                          const la_workspace *space, int *info, la_error *err) {
    return la_solver_dense(s,
                           cusolverDnXsyevd(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                                            CUBLAS_FILL_MODE_UPPER, n, CUDA_R_64F, a, n, CUDA_R_64F,
                                            values, CUDA_R_64F, space->device, space->device_bytes,
                                            s->host, space->host_bytes, info),
                           "Xsyevd", err);
}

/* ---- large ones, by a direct solver ---- */

/* Sums that come from bf16 products carry errors of 1e-5 and more; the rounding of an f32
 * decomposition is far below that, and it takes half the time. Small ones are not worth it. */
static bool in_f32(const la_solver *s, const la_eigen *problem) {
    return s->precision == LA_PRECISION_BF16 && problem->n > F64_MOST;
}

typedef struct direct {
    bool f32;
    bool some; /* the rank largest pairs alone */
    int64_t n, columns;
    void *matrix;       /* [n, n] in the type of the computation; then vectors, one a row */
    void *values;       /* [n] */
    double *values_f64; /* [n]; values itself in f64 */
    double *product;    /* [PANEL, n] */
    double *panel;      /* [PANEL, n], f32 only */
    double *checks;     /* [2, PANEL] */
    double *trace;
    int *info;
    la_workspace space;
} direct;

static la_status lay_out_direct(const la_solver *s, const la_eigen *problem, bool some, direct *d,
                                la_solver_arena *arena, la_error *err) {
    int64_t n = problem->n, found = 0;
    size_t device = 0, host = 0;
    d->n = n;
    d->f32 = in_f32(s, problem);
    d->some = some;
    d->columns = some ? problem->rank : n;
    int64_t size = d->f32 ? 4 : 8;
    d->matrix = la_solver_take<unsigned char>(arena, n * n * size);
    d->values = la_solver_take<unsigned char>(arena, n * size);
    d->values_f64 = d->f32 ? la_solver_take<double>(arena, n) : static_cast<double *>(d->values);
    d->product = la_solver_take<double>(arena, PANEL * n);
    d->panel = d->f32 ? la_solver_take<double>(arena, PANEL * n) : nullptr;
    d->checks = la_solver_take<double>(arena, 2 * PANEL);
    d->trace = la_solver_take<double>(arena, 1);
    d->info = la_solver_take<int>(arena, 1);
    cudaDataType type = d->f32 ? CUDA_R_32F : CUDA_R_64F;
    double unused = 0; /* bounds of a range of values */
    cusolverStatus_t code =
        some ? cusolverDnXsyevdx_bufferSize(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                                            CUSOLVER_EIG_RANGE_I, CUBLAS_FILL_MODE_UPPER, n, type,
                                            problem->a, n, &unused, &unused, n - problem->rank + 1,
                                            n, &found, type, problem->a, type, &device, &host)
             : cusolverDnXsyevd_bufferSize(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                                           CUBLAS_FILL_MODE_UPPER, n, type, problem->a, n, type,
                                           problem->a, type, &device, &host);
    LA_TRY(la_solver_dense(s, code, "the workspace of the solver", err));
    la_workspace_include(&d->space, device, host);
    d->space.device = la_solver_take<unsigned char>(arena, static_cast<int64_t>(device));
    return LA_OK;
}

/* Calls the solver on d->matrix; *count eigenpairs come out, ascending. */
static la_status call_direct(const la_solver *s, const la_eigen *problem, const direct *d,
                             int64_t *count, la_error *err) {
    cudaDataType type = d->f32 ? CUDA_R_32F : CUDA_R_64F;
    double unused_low = 0, unused_high = 0;
    int info = 0;
    *count = d->columns;
    /* our rows are its columns, and our lower triangle its upper one; the matrix is full anyway */
    cusolverStatus_t code =
        d->some
            ? cusolverDnXsyevdx(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR, CUSOLVER_EIG_RANGE_I,
                                CUBLAS_FILL_MODE_UPPER, d->n, type, d->matrix, d->n, &unused_low,
                                &unused_high, d->n - problem->rank + 1, d->n, count, type,
                                d->values, type, d->space.device, d->space.device_bytes, s->host,
                                d->space.host_bytes, d->info)
            : cusolverDnXsyevd(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                               CUBLAS_FILL_MODE_UPPER, d->n, type, d->matrix, d->n, type, d->values,
                               type, d->space.device, d->space.device_bytes, s->host,
                               d->space.host_bytes, d->info);
    LA_TRY(la_solver_dense(s, code, d->some ? "Xsyevdx" : "Xsyevd", err));
    LA_TRY(la_solver_download(s, &info, d->info, sizeof info, err));
    if (info || *count != d->columns)
        return la_solver_failed(problem, "no convergence", err);
    return LA_OK;
}

la_status la_solver_inaccurate(const la_eigen *problem, double residual, double allowed,
                               la_error *err) {
    char why[96];
    snprintf(why, sizeof why, "its result is off by %.2g of the largest eigenvalue, %.2g allowed",
             residual, allowed);
    return la_solver_failed(problem, why, err);
}

/* Is every column of d->matrix an eigenvector of problem->a? In f64, a panel at a time. values: on
 * the host, ascending. */
static la_status check_direct(const la_solver *s, const la_eigen *problem, const direct *d,
                              const double *values, la_error *err) {
    double allowed = d->f32 ? ALLOWED_F32 : la_solver_allowed_f64(d->n);
    double top = fmax(fabs(values[0]), fabs(values[d->columns - 1]));
    double checks[2 * PANEL], sum = 0, trace = 0, one = 1, zero = 0;
    int n = static_cast<int>(d->n);
    if (!d->some) { /* pairs that stand twice for others that are missing */
        LA_LAUNCH(trace_of, 1, LA_WARP, 0, s->stream, d->n, problem->a, d->trace);
        LA_TRY(la_solver_launched(s, "trace_of", err));
        LA_TRY(la_solver_download(s, &trace, d->trace, sizeof trace, err));
        for (int64_t i = 0; i < d->n; i++)
            sum += values[i];
        if (!(fabs(sum - trace) <= allowed * fmax(top, fabs(trace))))
            return la_solver_inaccurate(problem, fabs(sum - trace) / top, allowed, err);
    }
    for (int64_t first = 0; first < d->columns; first += PANEL) {
        int64_t width = d->columns - first < PANEL ? d->columns - first : PANEL;
        const double *v = static_cast<const double *>(d->matrix) + first * d->n;
        if (d->f32) {
            int64_t count = width * d->n;
            LA_LAUNCH((copy_as<float, double>), la_cuda_blocks(count, THREADS), THREADS, 0,
                      s->stream, count, static_cast<const float *>(d->matrix) + first * d->n,
                      d->panel);
            LA_TRY(la_solver_launched(s, "copy_as", err));
            v = d->panel;
        }
        LA_TRY(la_solver_blas(s,
                              cublasDgemm(s->blas, CUBLAS_OP_N, CUBLAS_OP_N, n,
                                          static_cast<int>(width), n, &one, problem->a, n, v, n,
                                          &zero, d->product, n),
                              "a product with the matrix", err));
        LA_TRY(
            la_solver_check(s, d->n, width, d->product, v, d->values_f64 + first, d->checks, err));
        LA_TRY(la_solver_download(s, checks, d->checks,
                                  static_cast<size_t>(2 * width) * sizeof *checks, err));
        for (int64_t i = 0; i < width; i++) {
            double residual = sqrt(checks[i]), norm = fabs(checks[width + i] - 1);
            if (!(residual <= allowed * top))
                return la_solver_inaccurate(problem, residual / top, allowed, err);
            if (!(norm <= allowed))
                return la_solver_inaccurate(problem, norm, allowed, err);
        }
    }
    return LA_OK;
}

static la_status solve_direct(const la_solver *s, la_eigen *problem, bool some, la_error *err) {
    direct d = {};
    la_solver_arena arena = {s->memory, 0};
    LA_TRY(lay_out_direct(s, problem, some, &d, &arena, err));
    LA_TRY(la_solver_mirror(s, problem, d.info, err));
    int64_t count = d.n * d.n, found = 0;
    if (d.f32) {
        LA_LAUNCH((copy_as<double, float>), la_cuda_blocks(count, THREADS), THREADS, 0, s->stream,
                  count, problem->a, static_cast<float *>(d.matrix));
        LA_TRY(la_solver_launched(s, "copy_as", err));
    } else {
        LA_TRY(la_solver_cuda(s,
                              cudaMemcpyAsync(d.matrix, problem->a,
                                              static_cast<size_t>(count) * sizeof(double),
                                              cudaMemcpyDeviceToDevice, s->stream),
                              "a copy", err));
    }
    LA_TRY(call_direct(s, problem, &d, &found, err));
    if (d.f32) {
        LA_LAUNCH((copy_as<float, double>), la_cuda_blocks(found, THREADS), THREADS, 0, s->stream,
                  found, static_cast<const float *>(d.values), d.values_f64);
        LA_TRY(la_solver_launched(s, "copy_as", err));
    }
    double *values = static_cast<double *>(malloc(static_cast<size_t>(found) * sizeof *values));
    if (!values)
        return la_fail(err, LA_RESOURCE, "%s: out of memory for its eigendecomposition",
                       problem->name);
    la_status status = la_solver_download(s, values, d.values_f64,
                                          static_cast<size_t>(found) * sizeof *values, err);
    if (status == LA_OK)
        status = check_direct(s, problem, &d, values, err);
    if (status == LA_OK) {
        for (int64_t i = 0; i < problem->rank; i++)
            problem->values[i] = values[found - 1 - i];
        problem->least = some ? NAN : values[0];
        status = d.f32 ? vectors_out(s, problem, found, static_cast<const float *>(d.matrix), err)
                       : vectors_out(s, problem, found, static_cast<const double *>(d.matrix), err);
    }
    free(values);
    return status;
}

/* ---- workers ---- */

/* Also after a failure; safe to call twice. */
static void close_solver(la_solver *s) {
    if (s->stream)
        cudaStreamSynchronize(s->stream);
    if (s->params)
        cusolverDnDestroyParams(s->params);
    if (s->dense)
        cusolverDnDestroy(s->dense);
    if (s->blas)
        cublasDestroy(s->blas);
    if (s->stream)
        cudaStreamDestroy(s->stream);
    if (s->memory)
        cudaFree(s->memory);
    free(s->host);
    *s = la_solver();
}

static la_status open_solver(la_solver *s, const la_cuda *cu, const char *name, la_error *err) {
    s->device = cu->device;
    s->precision = cu->precision;
    s->name = name;
    LA_TRY(la_solver_cuda(s, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking),
                          "a stream", err));
    LA_TRY(la_solver_blas(s, cublasCreate(&s->blas), "cuBLAS", err));
    LA_TRY(la_solver_blas(s, cublasSetStream(s->blas, s->stream), "cuBLAS", err));
    LA_TRY(la_solver_dense(s, cusolverDnCreate(&s->dense), "cuSOLVER", err));
    LA_TRY(la_solver_dense(s, cusolverDnSetStream(s->dense, s->stream), "cuSOLVER", err));
    return la_solver_dense(s, cusolverDnCreateParams(&s->params), "cuSOLVER", err);
}

/* The memory of an open worker, in place of what it had. */
bool la_solver_give_memory(la_solver *s, size_t bytes, size_t host_bytes) {
    if (s->memory)
        cudaFree(s->memory);
    free(s->host);
    s->memory = nullptr;
    s->host = static_cast<unsigned char *>(malloc(host_bytes ? host_bytes : 1));
    void *memory = nullptr;
    if (!s->host || cudaMalloc(&memory, bytes) != cudaSuccess) {
        (void)cudaGetLastError(); /* it is dealt with here */
        return false;
    }
    s->memory = static_cast<unsigned char *>(memory);
    s->bytes = bytes;
    s->host_bytes = host_bytes;
    return true;
}

la_status la_solver_no_memory(const la_eigen *problem, size_t bytes, size_t host_bytes,
                              la_error *err) {
    size_t available = 0, total = 0;
    if (cudaMemGetInfo(&available, &total) != cudaSuccess)
        (void)cudaGetLastError();
    return la_fail(err, LA_RESOURCE,
                   "%s: the eigendecomposition of its %lld x %lld curvature factor needs %.1f MiB "
                   "on the device (%.1f MiB are free) and %.1f MiB on the host",
                   problem->name, static_cast<long long>(problem->n),
                   static_cast<long long>(problem->n), static_cast<double>(bytes) / 1048576.0,
                   static_cast<double>(available) / 1048576.0,
                   static_cast<double>(host_bytes) / 1048576.0);
}

typedef enum method {
    METHOD_FEW,   /* subspace iteration */
    METHOD_DIRECT /* all pairs, or those that METHOD_FEW left */
} method;

/* Large matrices that the workers take from, in turn. */
typedef struct work_list {
    method how;
    la_eigen *problems;
    la_error *errors;           /* [count] of the problems */
    unsigned char *left;        /* [count] METHOD_FEW gave it up: only the largest, directly */
    std::vector<int64_t> order; /* numbers of problems */
    std::atomic<size_t> next;
    std::atomic<bool> broken; /* the device is at fault: nothing more will work */
} work_list;

static bool few_wanted(const la_eigen *problem) {
    return problem->rank <= problem->n / 8;
}

static void work(la_solver *s, work_list *list) {
    /* a new thread starts on device 0 */
    if (cudaSetDevice(s->device) != cudaSuccess) {
        list->broken = true;
        return;
    }
    while (!list->broken) {
        size_t at = list->next++;
        if (at >= list->order.size())
            break;
        int64_t i = list->order[at];
        la_eigen *problem = &list->problems[i];
        la_error *err = &list->errors[i];
        bool done = true;
        s->name = problem->name;
        if (list->how == METHOD_FEW)
            (void)la_subspace(s, problem, &done, err);
        else
            (void)solve_direct(s, problem, list->left[i] != 0, err);
        if (err->status == LA_RESOURCE)
            list->broken = true;
        if (err->status == LA_OK && !done)
            list->left[i] = 1;
    }
}

/* The largest need among the list, and whose it is. */
static la_status measure(const la_solver *s, const work_list *list, size_t *bytes,
                         size_t *host_bytes, int64_t *largest, la_error *err) {
    *bytes = *host_bytes = 0;
    *largest = list->order[0];
    const la_eigen *before = nullptr;
    bool before_left = false;
    for (int64_t i : list->order) {
        const la_eigen *problem = &list->problems[i];
        bool left = list->left[i] != 0;
        if (before && before->n == problem->n && before->rank == problem->rank &&
            before_left == left)
            continue;
        before = problem;
        before_left = left;
        size_t device = 0, host = 0;
        if (list->how == METHOD_FEW) {
            LA_TRY(la_subspace_measure(s, problem, &device, &host, err));
        } else {
            direct d = {};
            la_solver_arena arena = {};
            LA_TRY(lay_out_direct(s, problem, left, &d, &arena, err));
            device = arena.used;
            host = d.space.host_bytes;
        }
        if (device > *bytes) {
            *bytes = device;
            *largest = i;
        }
        *host_bytes = std::max(*host_bytes, host);
    }
    return LA_OK;
}

static la_status run_workers(const la_cuda *cu, work_list *list, la_solver *solvers,
                             la_error *err) {
    size_t bytes = 0, host_bytes = 0;
    int64_t largest = 0;
    const char *name = list->problems[list->order[0]].name;
    LA_TRY(open_solver(&solvers[0], cu, name, err));
    LA_TRY(measure(&solvers[0], list, &bytes, &host_bytes, &largest, err));
    if (!la_solver_give_memory(&solvers[0], bytes, host_bytes))
        return la_solver_no_memory(&list->problems[largest], bytes, host_bytes, err);
    size_t wanted = std::min<size_t>(WORKERS, list->order.size()), workers = 1;
    while (workers < wanted) {
        size_t available = 0, total = 0;
        la_error unused = {};
        la_solver *s = &solvers[workers];
        if (cudaMemGetInfo(&available, &total) != cudaSuccess || available < bytes + RESERVE ||
            open_solver(s, cu, name, &unused) != LA_OK ||
            !la_solver_give_memory(s, bytes, host_bytes)) {
            (void)cudaGetLastError(); /* fewer workers are slower, and right */
            close_solver(s);
            break;
        }
        workers++;
    }
    std::thread threads[WORKERS];
    for (size_t w = 1; w < workers; w++) {
        try {
            threads[w] = std::thread(work, &solvers[w], list);
        } catch (const std::system_error &) {
            break;
        }
    }
    work(&solvers[0], list);
    for (size_t w = 1; w < workers; w++)
        if (threads[w].joinable())
            threads[w].join();
    return LA_OK;
}

/* Problems fill their errors; the status is for what concerns no single one. */
static la_status run_list(const la_cuda *cu, work_list *list, la_error *err) {
    if (list->order.empty())
        return LA_OK;
    /* the longest first, so that no worker starts one when the others are done */
    std::stable_sort(list->order.begin(), list->order.end(), [list](int64_t a, int64_t b) {
        return list->problems[a].n > list->problems[b].n;
    });
    list->next = 0;
    list->broken = false;
    la_solver solvers[WORKERS] = {};
    la_status status = run_workers(cu, list, solvers, err);
    for (la_solver &s : solvers)
        close_solver(&s);
    if (status == LA_OK && list->broken) {
        for (int64_t i : list->order)
            if (list->errors[i].status == LA_RESOURCE)
                return LA_OK;
        return la_fail(err, LA_RESOURCE, "device %d cannot be used by a new thread", cu->device);
    }
    return status;
}

/* ---- small ones ---- */

/* Ends what is under way, whatever was thrown. */
struct solver_owner {
    la_solver s = {};
    ~solver_owner() {
        close_solver(&s);
    }
};

static la_status run_small(const la_cuda *cu, la_eigen *problems, la_error *errors,
                           std::vector<int64_t> &members, la_error *err) {
    if (members.empty())
        return LA_OK;
    solver_owner owner;
    LA_TRY(open_solver(&owner.s, cu, problems[members[0]].name, err));
    return la_small_ones(&owner.s, problems, errors, members, err);
}

/* ---- all of them ---- */

static la_status decompose(const la_cuda *cu, int64_t count, la_eigen *problems, la_error *err) {
    std::vector<la_error> errors(static_cast<size_t>(count));
    std::vector<unsigned char> left(static_cast<size_t>(count));
    std::vector<int64_t> small;
    work_list few = {}, direct_ones = {};
    few.how = METHOD_FEW;
    direct_ones.how = METHOD_DIRECT;
    few.problems = direct_ones.problems = problems;
    few.errors = direct_ones.errors = errors.data();
    few.left = direct_ones.left = left.data();
    for (int64_t i = 0; i < count; i++) {
        if (problems[i].n <= SMALL)
            small.push_back(i);
        else if (few_wanted(&problems[i]))
            few.order.push_back(i);
        else
            direct_ones.order.push_back(i);
    }
    la_error fault = {};
    la_status status = run_small(cu, problems, errors.data(), small, &fault);
    if (status == LA_OK)
        status = run_list(cu, &few, &fault);
    for (int64_t i : few.order)
        if (left[static_cast<size_t>(i)])
            direct_ones.order.push_back(i);
    if (status == LA_OK && !few.broken)
        status = run_list(cu, &direct_ones, &fault);
    /* the first in list order, whatever the threads did */
    for (const la_error &e : errors)
        if (e.status != LA_OK)
            return la_fail(err, e.status, "%s", e.message);
    return status == LA_OK ? LA_OK : la_fail(err, status, "%s", fault.message);
}

/* One worker's memory: a full matrix, Xsyevd's workspace (two to three matrices) and the vectors,
 * or the blocks of the subspace beside a full matrix. */
size_t la_cuda_eigh_bytes(la_backend *be, int64_t n, int64_t rank) {
    size_t side = static_cast<size_t>(n), kept = static_cast<size_t>(rank);
    size_t element = be->precision == LA_PRECISION_BF16 && n > F64_MOST ? 4 : 8;
    bool few = rank <= n / 8;
    size_t matrices =
        few ? side * side * 8 + 6 * side * (2 * kept + 8) * 8 : 4 * side * side * element;
    return matrices + side * kept * sizeof(float);
}

la_status la_cuda_eigh(la_backend *be, int64_t count, la_eigen *problems, la_error *err) {
    la_cuda *cu = la_cuda_of(be);
    /* the sums were made on the backend's stream */
    cudaError_t code = cudaStreamSynchronize(cu->stream);
    if (code != cudaSuccess)
        return la_fail(err, LA_RESOURCE, "%s: %s", be->device, cudaGetErrorString(code));
    if (cu->fault.status != LA_OK)
        return la_fail(err, cu->fault.status, "%s", cu->fault.message);
    la_cuda_scratch_free(cu); /* the batches are over, and the matrices need memory */
    try {
        return decompose(cu, count, problems, err);
    } catch (const std::exception &) {
        return la_fail(err, LA_RESOURCE, "out of memory for %lld eigendecompositions",
                       static_cast<long long>(count));
    }
}
