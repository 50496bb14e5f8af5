/* Eigenvalues measured in a basis: h_ij = sum_n sum_s (row Jacobian of right-hand side s)_ij^2 over
 * the calibration set, the diagonal of the Gauss-Newton matrix there. In Kronecker eigenvectors it is
 * EKFAC (George et al., arXiv 1806.03884), without a basis the plain diagonal. */
#ifndef LA_BAYES_SQUARES_H
#define LA_BAYES_SQUARES_H

#include "bayes/jacobian.h"

typedef struct la_squares la_squares;

size_t la_squares_bytes(const la_model *model, const la_jacobian_shape *shape);
/* Free with la_squares_close. */
la_status la_squares_open(la_model *model, const la_jacobian_shape *shape, la_squares **squares,
                          la_error *err);
void la_squares_close(la_squares *squares);
la_block_visitor la_squares_visitor(la_squares *squares);
/* Adds the sums of n devices into the first. */
la_status la_squares_merge(la_squares *const *all, int n, la_error *err);
/* Sets the spectrum of every block of the posterior, in block order. */
la_status la_squares_read(la_squares *squares, la_posterior *posterior, la_error *err);

#endif
