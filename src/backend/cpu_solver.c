/* Symmetric eigendecompositions by LAPACK, several matrices side by side. */
#include "backend/cpu.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>

la_status la_cpu_eigh(la_backend *be, int64_t count, const int64_t *n, double *const *a,
                      double *const *values, const char *const *names, la_error *err) {
    (void)be;
    /* the first failure in list order is the one told, whatever the threads did */
    int64_t failed = count;
    lapack_int code = 0;
    int inner = openblas_get_num_threads();
    /* few large matrices: threads inside LAPACK; many: one a thread */
    bool side_by_side = count >= omp_get_max_threads() && omp_get_max_threads() > 1;
    if (side_by_side)
        openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic) if (side_by_side)
    for (int64_t i = 0; i < count; i++) {
        lapack_int size = (lapack_int)n[i], info = -1;
        bool finite = true;
        for (int64_t j = 0; j < n[i] * n[i]; j++)
            finite &= isfinite(a[i][j]) != 0;
        /* our lower triangle is LAPACK's upper one, and its columns are our rows */
        if (finite)
            info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', size, a[i], size, values[i]);
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
    if (code == LAPACK_WORK_MEMORY_ERROR)
        return la_fail(err, LA_RESOURCE, "%s: out of memory for its eigendecomposition",
                       names[failed]);
    return la_fail(err, LA_NUMERICAL,
                   "%s: the eigendecomposition of its %lld x %lld curvature factor failed (%s)",
                   names[failed], (long long)n[failed], (long long)n[failed],
                   code == -1 ? "it holds NaN or infinite values" : "no convergence");
}
