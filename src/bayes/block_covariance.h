/* The logit covariance of block-diagonal posteriors: Kronecker, EKFAC and diagonal alike. */
#ifndef LA_BAYES_BLOCK_COVARIANCE_H
#define LA_BAYES_BLOCK_COVARIANCE_H

#include "bayes/curvature.h"

size_t la_block_cov_bytes(const la_model *model, const la_posterior *posterior,
                          const la_cov_shape *shape);
la_status la_block_cov_open(la_model *model, const la_posterior *posterior,
                            const la_cov_shape *shape, la_covariance **covariance, la_error *err);
void la_block_cov_batch(la_covariance *covariance, int64_t n_rows);
la_block_visitor la_block_cov_visitor(la_covariance *covariance);
la_status la_block_cov_read(la_covariance *covariance, double *cov, la_error *err);
void la_block_cov_close(la_covariance *covariance);

#endif
