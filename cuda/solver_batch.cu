/* Small symmetric eigendecompositions: all matrices of one side in one batched call of cuSOLVER,
 * and one by one what that did not do well (or all, where cuSOLVER is older than 11.7.1). */
#include "solver.cuh"

#include <algorithm>
#include <math.h>
#include <string.h>
#include <vector>

#ifndef CUSOLVER_VERSION
#define CUSOLVER_VERSION (CUSOLVER_VER_MAJOR * 1000 + CUSOLVER_VER_MINOR * 100 + CUSOLVER_VER_PATCH)
#endif
#define HAVE_BATCHED (CUSOLVER_VERSION >= 11701)

enum { THREADS = 256, WARPS = THREADS / LA_WARP };
/* Elements of the matrices of one batch. */
static const int64_t BATCH_ELEMENTS = 8 << 20;

/* work[count, n, n] and kept[count, n, n] = the full matrices of the lower triangles list[count];
 * bad[m] = 1 where one is not finite. A row of blocks a matrix. */
__global__ static void gather_batch(int64_t n, const double *const *list, double *work,
                                    double *kept, int *bad) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, m = blockIdx.y;
    if (at >= n * n)
        return;
    int64_t i = at / n, j = at % n;
    double value = i >= j ? list[m][at] : list[m][j * n + i];
    if (!isfinite(value))
        bad[m] = 1;
    work[m * n * n + at] = value;
    kept[m * n * n + at] = value;
}

/* checks[2, count n] as in check_columns, from a[count, n, n], v[count, n, n] and values[count, n],
 * a warp a column */
__global__ static void check_batch(int64_t count, int64_t n, const double *a, const double *v,
                                   const double *values, double *checks) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (at >= count * n)
        return;
    const double *matrix = a + at / n * n * n, *x = v + at * n;
    double value = values[at], residual = 0, norm = 0;
    for (int64_t i = threadIdx.x; i < n; i += LA_WARP) {
        double r = -value * x[i];
        /* symmetric: down the column, so that a warp reads neighbours */
        for (int64_t j = 0; j < n; j++)
            r += matrix[j * n + i] * x[j];
        residual += r * r;
        norm += x[i] * x[i];
    }
    residual = la_warp_sum(residual);
    norm = la_warp_sum(norm);
    if (threadIdx.x == 0) {
        checks[at] = residual;
        checks[count * n + at] = norm;
    }
}

/* out[count, n, n] f32: each matrix of v[count, n, n] with its rows in reverse. A row of blocks a
 * matrix. */
__global__ static void reversed_batch(int64_t n, const double *v, float *out) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    int64_t first = blockIdx.y * n * n;
    if (at < n * n)
        out[first + at] = static_cast<float>(v[first + (n - 1 - at / n) * n + at % n]);
}

typedef struct batch {
    int64_t n, count;
    const int64_t *members; /* [count] numbers of problems */
    double **list;          /* [count] */
    double *work, *kept;    /* [count, n, n] */
    double *values;         /* [count, n] */
    double *checks;         /* [2, count, n] */
    int *bad, *info;        /* [count] */
    la_workspace space;
} batch;

static la_status lay_out_batch(const la_solver *s, batch *b, const void *any,
                               la_solver_arena *arena, la_error *err) {
    int64_t n = b->n, count = b->count;
    b->list = la_solver_take<double *>(arena, count);
    b->work = la_solver_take<double>(arena, count * n * n);
    b->kept = la_solver_take<double>(arena, count * n * n);
    b->values = la_solver_take<double>(arena, count * n);
    b->checks = la_solver_take<double>(arena, 2 * count * n);
    b->bad = la_solver_take<int>(arena, count);
    b->info = la_solver_take<int>(arena, count);
    LA_TRY(la_solver_syevd_space(s, n, any, &b->space, err));
#if HAVE_BATCHED
    size_t device = 0, host = 0;
    LA_TRY(la_solver_dense(
        s,
        cusolverDnXsyevBatched_bufferSize(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                                          CUBLAS_FILL_MODE_UPPER, n, CUDA_R_64F, any, n, CUDA_R_64F,
                                          any, CUDA_R_64F, &device, &host, count),
        "the workspace of XsyevBatched", err));
    la_workspace_include(&b->space, device, host);
#endif
    b->space.device =
        la_solver_take<unsigned char>(arena, static_cast<int64_t>(b->space.device_bytes));
    return LA_OK;
}

static la_status call_batched(const la_solver *s, const batch *b, la_error *err) {
#if HAVE_BATCHED
    /* cuSOLVER 11.7.1 takes what it finds in its workspace for zeros */
    if (b->space.device_bytes)
        LA_TRY(la_solver_cuda(s,
                              cudaMemsetAsync(b->space.device, 0, b->space.device_bytes, s->stream),
                              "memset", err));
    return la_solver_dense(s,
                           cusolverDnXsyevBatched(s->dense, s->params, CUSOLVER_EIG_MODE_VECTOR,
                                                  CUBLAS_FILL_MODE_UPPER, b->n, CUDA_R_64F, b->work,
                                                  b->n, CUDA_R_64F, b->values, CUDA_R_64F,
                                                  b->space.device, b->space.device_bytes, s->host,
                                                  b->space.host_bytes, b->info, b->count),
                           "XsyevBatched", err);
#else
    (void)s;
    (void)b;
    (void)err;
    return LA_OK;
#endif
}

/* Results of a batch on the host. */
typedef struct batch_result {
    std::vector<int> bad, info;
    std::vector<double> values, checks;
    std::vector<float> vectors;
} batch_result;

/* Fetches infos, values and checks of the whole batch. */
static la_status check_results(const la_solver *s, const batch *b, batch_result *r, la_error *err) {
    int64_t columns = b->count * b->n;
    LA_LAUNCH(check_batch, la_cuda_blocks(columns, WARPS), dim3(LA_WARP, WARPS), 0, s->stream,
              b->count, b->n, b->kept, b->work, b->values, b->checks);
    LA_TRY(la_solver_launched(s, "check_batch", err));
    LA_TRY(la_solver_download(s, r->info.data(), b->info, r->info.size() * sizeof(int), err));
    LA_TRY(
        la_solver_download(s, r->values.data(), b->values, r->values.size() * sizeof(double), err));
    return la_solver_download(s, r->checks.data(), b->checks, r->checks.size() * sizeof(double),
                              err);
}

/* The largest deviation among the pairs of one matrix, in units of what is allowed. */
static double deviation(const batch *b, const batch_result *r, int64_t m) {
    const double *values = r->values.data() + m * b->n, *residual = r->checks.data() + m * b->n;
    const double *norm = residual + b->count * b->n;
    double top = fmax(fabs(values[0]), fabs(values[b->n - 1])), worst = 0;
    for (int64_t i = 0; i < b->n; i++) {
        /* a zero matrix has residuals of exactly 0 */
        double share = residual[i] > 0 ? sqrt(residual[i]) / top : 0, off = fabs(norm[i] - 1);
        if (!isfinite(values[i]) || !isfinite(residual[i]) || !isfinite(off))
            return INFINITY;
        worst = fmax(worst, fmax(share, off));
    }
    return worst / la_solver_allowed_f64(b->n);
}

static la_status solve_batch(const la_solver *s, const batch *b, la_eigen *problems,
                             la_error *errors, batch_result *r, la_error *err) {
    int64_t n = b->n, count = b->count, square = n * n;
    size_t bytes = static_cast<size_t>(square) * sizeof(double);
    std::vector<double *> list(static_cast<size_t>(count));
    for (int64_t m = 0; m < count; m++)
        list[static_cast<size_t>(m)] = problems[b->members[m]].a;
    r->bad.assign(list.size(), 0);
    r->info.assign(list.size(), 0);
    r->values.assign(static_cast<size_t>(count * n), 0);
    r->checks.assign(static_cast<size_t>(2 * count * n), 0);
    r->vectors.resize(static_cast<size_t>(count * square));
    LA_TRY(la_solver_cuda(s,
                          cudaMemcpyAsync(b->list, list.data(), list.size() * sizeof(double *),
                                          cudaMemcpyHostToDevice, s->stream),
                          "a copy to the device", err));
    LA_TRY(la_solver_cuda(s, cudaMemsetAsync(b->bad, 0, list.size() * sizeof(int), s->stream),
                          "memset", err));
    LA_TRY(la_solver_cuda(s, cudaMemsetAsync(b->info, 0, list.size() * sizeof(int), s->stream),
                          "memset", err));
    dim3 grid(la_cuda_blocks(square, THREADS), static_cast<unsigned>(count));
    LA_LAUNCH(gather_batch, grid, THREADS, 0, s->stream, n, b->list, b->work, b->kept, b->bad);
    LA_TRY(la_solver_launched(s, "gather_batch", err));
    LA_TRY(la_solver_download(s, r->bad.data(), b->bad, r->bad.size() * sizeof(int), err));
    for (int64_t m = 0; m < count; m++) {
        if (!r->bad[static_cast<size_t>(m)])
            continue;
        (void)la_solver_not_finite(&problems[b->members[m]], &errors[b->members[m]]);
        /* the others are solved as if it were zero */
        LA_TRY(la_solver_cuda(s, cudaMemsetAsync(b->work + m * square, 0, bytes, s->stream),
                              "memset", err));
    }
    if (HAVE_BATCHED) {
        LA_TRY(call_batched(s, b, err));
        LA_TRY(check_results(s, b, r, err));
    }
    /* One by one what the batched solver, which is young, did not do well. */
    bool again = false;
    for (int64_t m = 0; m < count; m++) {
        bool good = HAVE_BATCHED && !r->info[static_cast<size_t>(m)] && deviation(b, r, m) <= 1;
        if (r->bad[static_cast<size_t>(m)] || good)
            continue;
        again = true;
        LA_TRY(la_solver_cuda(s,
                              cudaMemcpyAsync(b->work + m * square, b->kept + m * square, bytes,
                                              cudaMemcpyDeviceToDevice, s->stream),
                              "a copy", err));
        LA_TRY(la_solver_syevd(s, n, b->work + m * square, b->values + m * n, &b->space,
                               b->info + m, err));
    }
    if (again)
        LA_TRY(check_results(s, b, r, err));
    float *rows = reinterpret_cast<float *>(b->kept);
    LA_LAUNCH(reversed_batch, grid, THREADS, 0, s->stream, n, b->work, rows);
    LA_TRY(la_solver_launched(s, "reversed_batch", err));
    LA_TRY(la_solver_download(s, r->vectors.data(), rows, r->vectors.size() * sizeof(float), err));
    for (int64_t m = 0; m < count; m++) {
        la_eigen *problem = &problems[b->members[m]];
        la_error *failure = &errors[b->members[m]];
        const double *values = r->values.data() + m * n;
        double off = deviation(b, r, m);
        if (r->bad[static_cast<size_t>(m)])
            continue;
        if (r->info[static_cast<size_t>(m)])
            (void)la_solver_failed(problem, "no convergence", failure);
        else if (!(off <= 1))
            (void)la_solver_inaccurate(problem, off * la_solver_allowed_f64(n),
                                       la_solver_allowed_f64(n), failure);
        for (int64_t i = 0; i < problem->rank; i++)
            problem->values[i] = values[n - 1 - i];
        problem->least = values[0];
        memcpy(problem->vectors, r->vectors.data() + m * square,
               static_cast<size_t>(problem->rank * n) * sizeof(float));
    }
    return LA_OK;
}

/* Calls use for each batch of the sorted members, no batch above limit elements. */
template <typename Use>
static la_status for_batches(const la_eigen *problems, const std::vector<int64_t> &members,
                             int64_t limit, Use use) {
    for (size_t first = 0; first < members.size();) {
        batch b = {};
        b.n = problems[members[first]].n;
        b.members = &members[first];
        /* and no more than a grid's second side */
        int64_t most = std::min<int64_t>(std::max<int64_t>(limit / (b.n * b.n), 1), 32768);
        size_t end = first;
        while (end < members.size() && problems[members[end]].n == b.n && b.count < most) {
            end++;
            b.count++;
        }
        LA_TRY(use(&b, problems[members[first]].a));
        first = end;
    }
    return LA_OK;
}

la_status la_small_ones(la_solver *s, la_eigen *problems, la_error *errors,
                        std::vector<int64_t> &members, la_error *err) {
    std::stable_sort(members.begin(), members.end(),
                     [problems](int64_t a, int64_t b) { return problems[a].n < problems[b].n; });
    int64_t limit = BATCH_ELEMENTS;
    for (;;) {
        size_t bytes = 0, host_bytes = 0;
        auto add = [&](batch *b, const void *any) {
            la_solver_arena arena = {};
            LA_TRY(lay_out_batch(s, b, any, &arena, err));
            bytes = std::max(bytes, arena.used);
            host_bytes = std::max(host_bytes, b->space.host_bytes);
            return LA_OK;
        };
        LA_TRY(for_batches(problems, members, limit, add));
        if (la_solver_give_memory(s, bytes, host_bytes))
            break;
        limit /= 4;
        if (limit == 0)
            return la_solver_no_memory(&problems[members.back()], bytes, host_bytes, err);
    }
    batch_result result;
    return for_batches(problems, members, limit, [&](batch *b, const void *any) {
        la_solver_arena arena = {s->memory, 0};
        s->name = problems[b->members[0]].name;
        LA_TRY(lay_out_batch(s, b, any, &arena, err));
        return solve_batch(s, b, problems, errors, &result, err);
    });
}
