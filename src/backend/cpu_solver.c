/* Symmetric eigendecompositions by LAPACK, several matrices side by side. */
#include "backend/cpu.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

/* LAPACK's code; -1 for values that are not finite */
static lapack_int decompose(la_eigen *problem) {
    int64_t n = problem->n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            if (!isfinite(problem->a[i * n + j]))
                return -1;
    double *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return LAPACK_WORK_MEMORY_ERROR;
    /* our lower triangle is LAPACK's upper one, and its columns are our rows */
    lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)n, problem->a,
                                     (lapack_int)n, values);
    for (int64_t i = 0; !info && i < problem->rank; i++) {
        const double *from = problem->a + (n - 1 - i) * n;
        problem->values[i] = values[n - 1 - i];
        for (int64_t j = 0; j < n; j++)
            problem->vectors[i * n + j] = (float)from[j];
    }
    problem->least = values[0];
    free(values);
    return info;
}

/* dsyevd's workspace, and the vectors */
size_t la_cpu_eigh_bytes(la_backend *be, int64_t n, int64_t rank) {
    (void)be;
    return (size_t)(2 * n * n + 6 * n) * sizeof(double) + (size_t)(rank * n) * sizeof(float);
}

la_status la_cpu_eigh(la_backend *be, int64_t count, la_eigen *problems, la_error *err) {
    (void)be;
    /* the first failure in list order is the one told, whatever the threads did */
    int64_t failed = count;
    lapack_int code = 0;
    int inner = openblas_get_num_threads();
    /* few large matrices: threads inside LAPACK; many: one a thread */
    int threads = omp_get_max_threads();
    bool side_by_side = count >= threads && threads > 1;
    if (side_by_side)
        openblas_set_num_threads(1);
/* telling OpenBLAS its number of threads tells OpenMP, too */
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (side_by_side)
    for (int64_t i = 0; i < count; i++) {
        lapack_int info = decompose(&problems[i]);
        if (info) {
#pragma omp critical
            if (i < failed) {
                failed = i;
                code = info;
            }
        }
    }
    if (side_by_side)
        openblas_set_num_threads(inner);
    if (failed == count)
        return LA_OK;
    const la_eigen *problem = &problems[failed];
    if (code == LAPACK_WORK_MEMORY_ERROR)
        return la_fail(err, LA_RESOURCE, "%s: out of memory for its eigendecomposition",
                       problem->name);
    return la_fail(err, LA_NUMERICAL,
                   "%s: the eigendecomposition of its %lld x %lld curvature factor failed (%s)",
                   problem->name, (long long)problem->n, (long long)problem->n,
                   code == -1 ? "it holds NaN or infinite values" : "no convergence");
}
