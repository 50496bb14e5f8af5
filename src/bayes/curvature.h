/* Kinds of curvature behind one table. A kind sees blocks: inputs and output cotangents, never
 * adapters or models.
 *
 * Fitting:    fit_open, then for every batch the visitor over the exact-Fisher cotangents, then
 *             fit_finish.
 * Predicting: cov_open, then for every batch the visitor over contrast cotangents fills
 *             cov[n_rows, n_rhs, n_rhs]. */
#ifndef LA_BAYES_CURVATURE_H
#define LA_BAYES_CURVATURE_H

#include "bayes/posterior.h"
#include "model/run.h"

typedef struct la_curvature_fit la_curvature_fit;
typedef struct la_covariance la_covariance;

typedef struct la_curvature_kind {
    const char *name;
    /* Bytes on the device that fit_open takes; *max_factor: side of the largest matrix summed. */
    size_t (*fit_bytes)(const la_model *model, la_kron kron, int64_t max_rows, int64_t n_rhs,
                        int64_t *max_factor);
    la_status (*fit_open)(la_model *model, la_kron kron, int64_t max_rows, int64_t n_rhs,
                          la_curvature_fit **fit, la_error *err);
    /* Call before each batch. */
    void (*fit_batch)(la_curvature_fit *fit);
    la_block_visitor (*fit_visitor)(la_curvature_fit *fit);
    /* Adds the sums of n fits of one model, each on a device of its own, into the first. */
    la_status (*fit_merge)(la_curvature_fit *const *fits, int n, la_error *err);
    /* Decomposes the sums, which are used up, into posterior->blocks and posterior->inputs; n_rows and n_tokens must be
     * set. rank: eigenpairs kept of a block's larger factor, 0 for all. */
    la_status (*fit_finish)(la_curvature_fit *fit, int64_t rank, la_posterior *posterior,
                            la_error *err);
    void (*fit_close)(la_curvature_fit *fit);

    /* Bytes on the device that cov_open takes. */
    size_t (*cov_bytes)(const la_model *model, const la_posterior *posterior, int64_t max_rows,
                        int64_t max_tokens, int64_t n_rhs);
    /* The model's blocks must be those of the posterior. */
    la_status (*cov_open)(la_model *model, const la_posterior *posterior, int64_t max_rows,
                          int64_t max_tokens, int64_t n_rhs, la_covariance **covariance,
                          la_error *err);
    /* Clears the sums for a batch of n_rows. */
    void (*cov_batch)(la_covariance *covariance, int64_t n_rows);
    la_block_visitor (*cov_visitor)(la_covariance *covariance);
    /* cov[n_rows, n_rhs, n_rhs] on the host */
    la_status (*cov_read)(la_covariance *covariance, double *cov, la_error *err);
    void (*cov_close)(la_covariance *covariance);
} la_curvature_kind;

extern const la_curvature_kind la_curvature_kron;

#endif
