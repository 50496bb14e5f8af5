/* BLAS and LAPACK, the only way to them: always on the calling thread alone (team.h), so that calls
 * of several threads at once are independent and nothing of the process is set. f32 products may be
 * another library's (products.h). Products over a team are cut into tiles at places that the sizes
 * alone decide, a tile a thread: the numbers do not depend on the threads.
 *
 * Matrices are row-major; ld: elements from one row to the next. Symmetric matrices and Cholesky
 * factors are lower triangles. */
#ifndef LA_BASE_BLAS_H
#define LA_BASE_BLAS_H

#include "base/team.h"

#include <stdbool.h>

/* ---- on the calling thread ---- */

/* c[m, n] = alpha op(a) op(b) + beta c; k: what is summed over */
void la_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
              const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
              int64_t ldc);
/* a and b in bf16; la_products_bf16 (products.h) was there. */
void la_bgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
              const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float beta, float *c,
              int64_t ldc);
void la_dgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha,
              const double *a, int64_t lda, const double *b, int64_t ldb, double beta, double *c,
              int64_t ldc);
/* x[rows, n] becomes x L^-T, every row L^-1 row, with the factor L[n, n]. */
void la_dtrsm(int64_t rows, int64_t n, const double *factor, double *x);

/* LAPACK's codes: 0, or what failed; la_lapack_no_memory where there was no workspace. */
extern const int la_lapack_no_memory;
/* a[n, n] becomes its Cholesky factor. */
int la_dpotrf(int64_t n, double *a);
/* x[n] becomes a^-1 x; a[n, n] its Cholesky factor. */
int la_dposv(int64_t n, double *a, double *x);
/* The rows of a[n, n] become eigenvectors, values[n] ascending. */
int la_dsyevd(int64_t n, double *a, double *values);
/* a[m, n] = u diag(values) vt with k = min(m, n): u[m, k], vt[k, n]; a is overwritten. */
int la_dgesdd(int64_t m, int64_t n, double *a, double *values, double *u, double *vt);

/* ---- over a team ---- */

void la_team_sgemm(la_team team, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                   float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                   float beta, float *c, int64_t ldc);
void la_team_dgemm(la_team team, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                   double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                   double beta, double *c, int64_t ldc);
/* c[n, n] = a[k, n]^T a, the lower triangle; what lies above is not defined. */
void la_team_ssyrk(la_team team, int64_t n, int64_t k, const float *a, int64_t lda, float *c,
                   int64_t ldc);
void la_team_dsyrk(la_team team, int64_t n, int64_t k, const double *a, int64_t lda, double *c,
                   int64_t ldc);
/* Single precision of la_dtrsm. */
void la_team_dtrsm(la_team team, int64_t rows, int64_t n, const double *factor, double *x);

/* ---- memory of the library ---- */

/* Address space that OpenBLAS takes for each thread that is in a product. */
#define LA_BLAS_BUFFER ((size_t)128 << 20)

/* Makes the library take its buffers for n threads at once, so that no product asks for one: it
 * waits forever where memory is missing. Returns the number of buffers, at most n, which
 * la_blas_release gives back. More threads than the library was built for wait for each other in
 * products. */
int la_blas_reserve(int n);
void la_blas_release(int n);

#endif
