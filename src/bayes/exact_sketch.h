/* The K largest eigenpairs of the full Gauss-Newton matrix H = G^T G [P, P] by a randomised range
 * finder (Halko, Martinsson and Tropp, SIAM Review 2011), in three passes over the calibration rows
 * and without their Gram matrix. With l = la_exact_sketch_width(K):
 *
 *   1  Y = G^T Omega, a Gaussian row of Omega [N m, l] a row of G;         Q = orth(Y)
 *   2  W = G Q, T = W^T W = U diag(t) U^T, Y = G^T W = H Q;                Q = orth(Y U diag(t)^-1)
 *   3  W = G Q, T = W^T W = U diag(t) U^T;                                 eigenpairs t, Q U
 *
 * Memory is 2 P l floats and a batch of rows, time 8 N m P l: neither knows of (N m)^2. The
 * eigenvalues are Ritz values, none above H's own; where l is at least the rank of G nothing is
 * lost. Y U diag(t)^-1 of a small t is rounding of the large ones: there Q U stays.
 *
 * Eigenvalues left out count as 0: nothing is put in the place of what is cut, so that the variance
 * there is the prior's. la_directions keeps the trace of H, summed exactly, to say how much that
 * was.
 *
 * Omega is a function of a row's number in the calibration set alone (random.h). */
#ifndef LA_BAYES_EXACT_SKETCH_H
#define LA_BAYES_EXACT_SKETCH_H

#include "bayes/exact.h"

typedef struct la_exact_sketch la_exact_sketch;

/* Columns of the sketch for so many eigenpairs. */
int64_t la_exact_sketch_width(int64_t rank);
/* True when so many eigenpairs of n_rows n_rhs rows may be sketched: they are cut from the whole
 * matrix's where the sketch had more than half its columns. n_rows 0 (not known yet): true. */
bool la_exact_sketch_is_for(const la_fit_shape *shape);
/* Bytes on the device that open takes; width: P. */
size_t la_exact_sketch_bytes(const la_fit_shape *shape, int64_t width);
/* offset: [n blocks] column of a block's first parameter; borrowed, as the blocks are. */
la_status la_exact_sketch_open(const la_blocks *blocks, const la_fit_shape *shape,
                               const int64_t *offset, int64_t width, la_exact_sketch **sketch,
                               la_error *err);
/* Fills the posterior's directions when there is no next pass. */
la_status la_exact_sketch_next(la_exact_sketch *sketch, la_posterior *posterior, la_fit_pass *pass,
                               la_error *err);
void la_exact_sketch_batch(la_exact_sketch *sketch, int64_t first, int64_t n_rows);
/* A la_jacobian_sink. rows[n_rows n_rhs, parameters of the block] without gaps. */
void la_exact_sketch_take(la_exact_sketch *sketch, int64_t block, int64_t first, int64_t n_rows,
                          float *rows);
void la_exact_sketch_close(la_exact_sketch *sketch);
/* The rank largest eigenpairs of a matrix [n, n] where sums live, which is overwritten. */
la_status la_exact_solve(la_backend *be, double *matrix, int64_t n, int64_t rank, double *values,
                         float *vectors, la_error *err);

#endif
