/* The two halves of the Kronecker kind: kron_fit.c and kron_covariance.c. */
#ifndef LA_BAYES_KRON_H
#define LA_BAYES_KRON_H

#include "bayes/curvature.h"

size_t la_kron_cov_bytes(const la_model *model, const la_posterior *posterior, int64_t max_rows,
                         int64_t max_tokens, int64_t n_rhs);
la_status la_kron_cov_open(la_model *model, const la_posterior *posterior, int64_t max_rows,
                           int64_t max_tokens, int64_t n_rhs, la_covariance **covariance,
                           la_error *err);
void la_kron_cov_batch(la_covariance *covariance, int64_t n_rows);
la_block_visitor la_kron_cov_visitor(la_covariance *covariance);
la_status la_kron_cov_read(la_covariance *covariance, double *cov, la_error *err);
void la_kron_cov_close(la_covariance *covariance);

#endif
