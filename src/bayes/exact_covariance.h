/* The logit covariance under the full Gauss-Newton matrix. */
#ifndef LA_BAYES_EXACT_COVARIANCE_H
#define LA_BAYES_EXACT_COVARIANCE_H

#include "bayes/curvature.h"

size_t la_exact_cov_bytes(const la_model *model, const la_posterior *posterior,
                          const la_cov_shape *shape);
la_status la_exact_cov_open(la_model *model, const la_posterior *posterior,
                            const la_cov_shape *shape, la_covariance **covariance, la_error *err);
void la_exact_cov_batch(la_covariance *covariance, int64_t n_rows);
la_block_visitor la_exact_cov_visitor(la_covariance *covariance);
la_status la_exact_cov_read(la_covariance *covariance, double *cov, la_error *err);
void la_exact_cov_close(la_covariance *covariance);

#endif
