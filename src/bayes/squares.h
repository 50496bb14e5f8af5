/* Eigenvalues measured in a basis: h_ij = sum_n sum_s (row Jacobian of right-hand side s)_ij^2 over
 * the calibration set, the diagonal of the Gauss-Newton matrix there. In Kronecker eigenvectors it
 * is EKFAC (George et al., arXiv 1806.03884), without a basis the plain diagonal. */
#ifndef LA_BAYES_SQUARES_H
#define LA_BAYES_SQUARES_H

#include "bayes/jacobian.h"

typedef struct la_squares la_squares;

/* Without a basis. */
size_t la_squares_bytes(const la_blocks *blocks, const la_batch_shape *shape);
/* Arguments of la_jacobian_open. Free with la_squares_close. */
la_status la_squares_open(const la_blocks *blocks, const la_batch_shape *shape,
                          const la_posterior *basis, la_squares **squares, la_error *err);
void la_squares_close(la_squares *squares);
la_block_visitor la_squares_visitor(la_squares *squares);
la_sums *la_squares_sums(la_squares *squares);
/* Sets the spectrum of every block of the posterior. */
la_status la_squares_read(la_squares *squares, la_posterior *posterior, la_error *err);

#endif
