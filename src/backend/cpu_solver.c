/* Symmetric eigendecompositions by LAPACK, several matrices side by side. */
#include "backend/cpu.h"
#include "base/blas.h"

#include <math.h>
#include <stdlib.h>

/* LAPACK's code; -1 for values that are not finite */
static int decompose(la_eigen *problem) {
    int64_t n = problem->n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            if (!isfinite(problem->a[i * n + j]))
                return -1;
    double *values = malloc((size_t)n * sizeof *values);
    if (!values)
        return la_lapack_no_memory;
    int info = la_dsyevd(n, problem->a, values);
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
    /* the first failure in list order is reported, whatever the threads did */
    int64_t failed = count;
    int code = 0;
#pragma omp parallel for schedule(dynamic) num_threads(be->team.threads)
    for (int64_t i = 0; i < count; i++) {
        int info = decompose(&problems[i]);
        if (info) {
#pragma omp critical
            if (i < failed) {
                failed = i;
                code = info;
            }
        }
    }
    if (failed == count)
        return LA_OK;
    const la_eigen *problem = &problems[failed];
    if (code == la_lapack_no_memory)
        return la_fail(err, LA_RESOURCE, "%s: out of memory for its eigendecomposition",
                       problem->name);
    return la_fail(err, LA_NUMERICAL,
                   "%s: the eigendecomposition of its %lld x %lld curvature factor failed (%s)",
                   problem->name, (long long)problem->n, (long long)problem->n,
                   code == -1 ? "it holds NaN or infinite values" : "no convergence");
}
