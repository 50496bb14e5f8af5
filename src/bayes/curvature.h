/* Kinds of curvature behind one table. A kind sees blocks: inputs and output cotangents, never
 * adapters or models.
 *
 * Fitting:    fit_open; then as long as fit_next names a pass, its rows in order, in batches:
 *             fit_batch, then the visitor over the exact-Fisher cotangents (columns of S, S S^T =
 *             diag(p) - p p^T). When fit_next has no more passes the posterior is filled.
 * Predicting: the covariance's open, then for every batch its batch, the visitor over contrast
 *             cotangents, and read. Several scales of the prior precision are answered by one pass. */
#ifndef LA_BAYES_CURVATURE_H
#define LA_BAYES_CURVATURE_H

#include "bayes/posterior.h"
#include "model/run.h"

typedef struct la_curvature_fit la_curvature_fit;
typedef struct la_covariance la_covariance;

typedef struct la_fit_shape {
    la_kron kron;
    int64_t rank;   /* eigenpairs kept of a large factor, or of the whole matrix; 0: all */
    int64_t n_rows; /* of the calibration set; 0: not known yet */
    int64_t max_rows, max_tokens, n_rhs; /* of a batch */
} la_fit_shape;

/* Calibration rows [from, to) that a pass has to see. */
typedef struct la_fit_pass {
    int64_t from, to;
    bool more; /* false: the fit is complete, there is no such pass */
} la_fit_pass;

typedef struct la_cov_shape {
    int64_t max_rows, max_tokens, n_rhs; /* of a batch */
    int64_t n_scales;
    const double *scales; /* [n_scales] factors of every prior precision; read while opening */
} la_cov_shape;

/* The logit covariance under a family of posteriors. */
typedef struct la_covariance_kind {
    /* Bytes on the device that open takes. */
    size_t (*bytes)(const la_model *model, const la_posterior *posterior,
                    const la_cov_shape *shape);
    /* The model's blocks must be those of the posterior, which must outlive the covariance. */
    la_status (*open)(la_model *model, const la_posterior *posterior, const la_cov_shape *shape,
                      la_covariance **covariance, la_error *err);
    /* Clears the sums for a batch of n_rows. */
    void (*batch)(la_covariance *covariance, int64_t n_rows);
    la_block_visitor (*visitor)(la_covariance *covariance);
    /* cov[n_scales, n_rows, n_rhs, n_rhs] on the host */
    la_status (*read)(la_covariance *covariance, double *cov, la_error *err);
    void (*close)(la_covariance *covariance);
} la_covariance_kind;

typedef struct la_curvature_kind {
    const char *name;
    la_curvature curvature;
    bool one_device; /* its passes cannot be shared among devices */
    bool subtracts; /* its covariance is a difference, which loses the digits of rounded products */
    /* Bytes on the device that fit_open takes; *max_factor: side of the largest matrix that is
     * summed and decomposed while the model is there. */
    size_t (*fit_bytes)(const la_model *model, const la_fit_shape *shape, int64_t *max_factor);
    la_status (*fit_open)(la_model *model, const la_fit_shape *shape, la_curvature_fit **fit,
                          la_error *err);
    /* n fits of one model, each on a device of its own, proceed together: their sums are merged
     * where the kind needs them. The posterior's n_rows and n_tokens must be set; its blocks,
     * inputs and directions are filled. */
    la_status (*fit_next)(la_curvature_fit *const *fits, int n, la_posterior *posterior,
                          la_fit_pass *pass, la_error *err);
    /* Before each batch; first: the number of its first row in the calibration set. */
    void (*fit_batch)(la_curvature_fit *fit, int64_t first, int64_t n_rows);
    la_block_visitor (*fit_visitor)(la_curvature_fit *fit);
    void (*fit_close)(la_curvature_fit *fit);
    const la_covariance_kind *covariance;
} la_curvature_kind;

/* The row of the table. */
const la_curvature_kind *la_curvature_of(la_curvature curvature);
/* Fills names, shapes and norms of the posterior's blocks, which are those the model wants. */
la_status la_posterior_list_blocks(const la_model *model, la_posterior *posterior, la_error *err);

/* block_covariance.c: block-diagonal posteriors, Kronecker, EKFAC and diagonal alike;
 * exact_covariance.c: the full Gauss-Newton matrix. */
extern const la_covariance_kind la_block_covariance, la_exact_covariance;
extern const la_curvature_kind la_curvature_kron, la_curvature_ekfac, la_curvature_diag,
    la_curvature_exact, la_curvature_last_layer;

#endif
