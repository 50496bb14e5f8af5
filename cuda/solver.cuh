/* Worker of the eigensolver and its memory, shared by the files of the solver. */
#ifndef LA_CUDA_SOLVER_CUH
#define LA_CUDA_SOLVER_CUH

#include "backend.cuh"

extern "C" {
#include "base/error.h"
}

#include <cusolverDn.h>
#include <vector>

/* One worker: a stream with its own handles and one piece of device memory. */
typedef struct la_solver {
    int device;
    la_precision precision;
    cudaStream_t stream;
    cublasHandle_t blas;
    cusolverDnHandle_t dense;
    cusolverDnParams_t params;
    unsigned char *memory; /* on the device */
    size_t bytes;
    unsigned char *host; /* cuSOLVER's workspace on the host */
    size_t host_bytes;
    const char *name; /* of the matrix at hand, for messages */
} la_solver;

/* Device memory that is handed out piece by piece, for one matrix at a time. With no base it only
 * counts: a layout is measured by the code that makes it. */
typedef struct la_solver_arena {
    unsigned char *base;
    size_t used;
} la_solver_arena;

template <typename T> static inline T *la_solver_take(la_solver_arena *arena, int64_t count) {
    unsigned char *at = arena->base ? arena->base + arena->used : nullptr;
    size_t bytes = static_cast<size_t>(count) * sizeof(T);
    arena->used += (bytes + 255) / 256 * 256;
    return reinterpret_cast<T *>(at);
}

/* A workspace of cuSOLVER: two calls may share one that is large enough for both. */
typedef struct la_workspace {
    void *device;
    size_t device_bytes, host_bytes;
} la_workspace;

static inline void la_workspace_include(la_workspace *space, size_t device_bytes,
                                        size_t host_bytes) {
    if (device_bytes > space->device_bytes)
        space->device_bytes = device_bytes;
    if (host_bytes > space->host_bytes)
        space->host_bytes = host_bytes;
}

/* ---- errors: LA_RESOURCE, naming the matrix and what was being done ---- */

la_status la_solver_cuda(const la_solver *s, cudaError_t code, const char *what, la_error *err);
la_status la_solver_blas(const la_solver *s, cublasStatus_t code, const char *what, la_error *err);
la_status la_solver_dense(const la_solver *s, cusolverStatus_t code, const char *what,
                          la_error *err);
/* Call after every launch. */
la_status la_solver_launched(const la_solver *s, const char *kernel, la_error *err);
/* LA_NUMERICAL: the decomposition of the problem failed, and why. */
la_status la_solver_failed(const la_eigen *problem, const char *why, la_error *err);
la_status la_solver_not_finite(const la_eigen *problem, la_error *err);
la_status la_solver_inaccurate(const la_eigen *problem, double residual, double allowed,
                               la_error *err);
/* LA_RESOURCE: what the problem needs, and what there is. */
la_status la_solver_no_memory(const la_eigen *problem, size_t bytes, size_t host_bytes,
                              la_error *err);

/* ---- steps (solver.cu) ---- */

/* Limit of a check of an f64 result, as a share of the largest eigenvalue. */
double la_solver_allowed_f64(int64_t n);
/* The memory of an open worker, in place of what it had; false when there is none. */
bool la_solver_give_memory(la_solver *s, size_t bytes, size_t host_bytes);

/* Copies to the host and waits. */
la_status la_solver_download(const la_solver *s, void *to, const void *from, size_t bytes,
                             la_error *err);
/* Completes problem->a to a full symmetric matrix; fails where it is not finite. flag: an int on
 * the device. */
la_status la_solver_mirror(const la_solver *s, const la_eigen *problem, int *flag, la_error *err);
/* checks[2, columns] = the squared norms of a v - values v and of v, column by column; av and v are
 * [columns, n] with one column of the problem a row. */
la_status la_solver_check(const la_solver *s, int64_t n, int64_t columns, const double *av,
                          const double *v, const double *values, double *checks, la_error *err);
/* problem->vectors = the last rank columns of v (ascending), in f32 and descending. Passes through
 * problem->a, whose contents are lost. */
la_status la_solver_vectors(const la_solver *s, const la_eigen *problem, int64_t columns,
                            const double *v, la_error *err);
/* Workspace of a symmetric f64 decomposition (Xsyevd, all vectors) of side n. any: any device
 * pointer. */
la_status la_solver_syevd_space(const la_solver *s, int64_t n, const void *any, la_workspace *space,
                                la_error *err);
la_status la_solver_syevd(const la_solver *s, int64_t n, double *a, double *values,
                          const la_workspace *space, int *info, la_error *err);

/* ---- small ones (solver_batch.cu) ---- */

/* Problems fill their errors; the status is for what concerns no single one. Sorts members, which
 * are numbers of problems. */
la_status la_small_ones(la_solver *s, la_eigen *problems, la_error *errors,
                        std::vector<int64_t> &members, la_error *err);

/* ---- the largest few eigenpairs (solver_subspace.cu) ---- */

/* Device and host memory that la_subspace needs for the problem. */
la_status la_subspace_measure(const la_solver *s, const la_eigen *problem, size_t *bytes,
                              size_t *host_bytes, la_error *err);
/* The rank largest eigenpairs. *done is false when they did not converge: problem->a is then a full
 * symmetric matrix, and something else has to be tried. */
la_status la_subspace(const la_solver *s, la_eigen *problem, bool *done, la_error *err);

#endif
