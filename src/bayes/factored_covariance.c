/* Logit covariance of the linearised model under a block-diagonal posterior (arXiv 2308.13111,
 * equation 13), in the eigenbasis: with R_k the row's gradient of contrast k there (jacobian.h) and
 * h the eigenvalues of a block,
 *
 *   cov_kl = sum_blocks sum_ij R_k[i,j] R_l[i,j] / (h_ij + lambda)
 *
 * Where the larger factor is cut to its rank largest eigenpairs, the rest of the space has
 * precision lambda:
 *
 *   cov_kl = <G_k, G_l> / lambda + sum_ij R_k[i,j] R_l[i,j] (1 / (h_ij + lambda) - 1 / lambda) */
#include "bayes/jacobian.h"

#include <stdlib.h>
#include <string.h>

/* Weights of a block at a scale of its prior precision. */
typedef struct weights {
    la_mat kept; /* [small rank, big rank] */
    la_mat flat; /* [small rank, big n] all 1 / lambda, where the big side is cut; else no data */
} weights;

struct la_covariance {
    const la_blocks *blocks;
    la_jacobian *jacobian;
    int64_t n_rhs, n_rows, max_rows, n_scales;
    weights *weights; /* [n blocks, n_scales] */
    double *cov;      /* [n_scales, max_rows, n_rhs, n_rhs] on the device */
};

/* The eigenvectors that row Jacobians are rotated into; NULL: none. */
static const la_posterior *basis_of(const la_posterior *posterior) {
    return posterior->n_inputs ? posterior : NULL;
}

/* weights of the quadratic form, made on the host */
static la_status make_weights(la_backend *be, const la_posterior *posterior, int64_t number,
                              double scale, weights *w, la_error *err) {
    const la_posterior_block *block = &posterior->blocks[number];
    la_spectrum s = la_block_spectrum(posterior, block);
    int64_t big = la_big_side(block->out, block->in);
    double lambda = scale * block->prior_precision, shift = s.cols < big ? 1 / lambda : 0;
    size_t count = (size_t)(s.rows * big);
    float *weight = la_alloc(count, sizeof *weight, err);
    if (!weight)
        return err->status;
    for (int64_t p = 0; p < s.rows; p++)
        for (int64_t q = 0; q < s.cols; q++)
            weight[p * s.cols + q] = (float)(1 / (la_spectrum_at(&s, p, q) + lambda) - shift);
    float *memory = la_device_copy(be, weight, (size_t)(s.rows * s.cols), err);
    w->kept = la_mat_f32(memory, s.rows, s.cols);
    if (shift > 0 && memory) {
        for (size_t i = 0; i < count; i++)
            weight[i] = (float)shift;
        w->flat = la_mat_f32(la_device_copy(be, weight, count, err), s.rows, big);
    }
    free(weight);
    return err->status;
}

static size_t cov_bytes(const la_blocks *blocks, const la_posterior *posterior,
                        const la_cov_shape *shape) {
    const la_batch_shape *batch = &shape->batch;
    size_t floats = 0, scales = (size_t)shape->n_scales;
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        const la_posterior_block *block = &posterior->blocks[b];
        la_spectrum s = la_block_spectrum(posterior, block);
        floats += (size_t)(s.rows * s.cols);
        if (s.cols < la_big_side(block->out, block->in))
            floats += (size_t)(block->out * block->in);
    }
    return la_jacobian_bytes(blocks, batch, basis_of(posterior)) + floats * scales * sizeof(float) +
           scales * (size_t)(batch->max_rows * batch->n_rhs * batch->n_rhs) * sizeof(double);
}

static void cov_close(la_covariance *c) {
    if (!c)
        return;
    la_backend *be = c->blocks->be;
    for (int64_t i = 0; c->weights && i < c->blocks->n * c->n_scales; i++) {
        be->ops->release(be, c->weights[i].kept.data);
        be->ops->release(be, c->weights[i].flat.data);
    }
    be->ops->release(be, c->cov);
    la_jacobian_close(c->jacobian);
    free(c->weights);
    free(c);
}

static la_status cov_open(const la_blocks *blocks, const la_posterior *posterior,
                          const la_cov_shape *shape, la_covariance **out, la_error *err) {
    *out = NULL;
    la_backend *be = blocks->be;
    la_covariance *c = la_alloc(1, sizeof *c, err);
    if (!c)
        return err->status;
    c->blocks = blocks;
    c->n_rhs = shape->batch.n_rhs;
    c->max_rows = shape->batch.max_rows;
    c->n_scales = shape->n_scales;
    c->weights = la_alloc((size_t)(blocks->n * c->n_scales), sizeof *c->weights, err);
    if (err->status == LA_OK)
        (void)la_jacobian_open(blocks, &shape->batch, basis_of(posterior), &c->jacobian, err);
    for (int64_t i = 0; err->status == LA_OK && i < blocks->n * c->n_scales; i++)
        (void)make_weights(be, posterior, i / c->n_scales, shape->scales[i % c->n_scales],
                           &c->weights[i], err);
    if (err->status == LA_OK) {
        size_t count = (size_t)(c->n_scales * c->max_rows * c->n_rhs * c->n_rhs);
        c->cov = be->ops->alloc(be, count * sizeof(double));
        if (!c->cov)
            (void)la_fail(err, LA_RESOURCE,
                          "out of memory on %s for the predictive; lower --batch-tokens",
                          be->device);
    }
    if (err->status != LA_OK) {
        cov_close(c);
        return err->status;
    }
    *out = c;
    return LA_OK;
}

static size_t scale_stride(const la_covariance *c) {
    return (size_t)(c->max_rows * c->n_rhs * c->n_rhs);
}

static void cov_batch(la_covariance *c, int64_t n_rows) {
    c->n_rows = n_rows;
    c->blocks->be->ops->zero(c->blocks->be, c->cov,
                             (size_t)c->n_scales * scale_stride(c) * sizeof(double));
}

static void add(void *user, int64_t block, int64_t first, int64_t n_rows, int64_t n_rhs,
                const la_mat *outer, const la_mat *rotated) {
    la_covariance *c = user;
    la_backend *be = c->blocks->be;
    for (int64_t g = 0; g < c->n_scales; g++) {
        const weights *w = &c->weights[block * c->n_scales + g];
        double *cov = c->cov + (size_t)g * scale_stride(c) + first * n_rhs * n_rhs;
        be->ops->kron_quadratic(be, n_rows, n_rhs, rotated, &w->kept, cov);
        if (w->flat.data)
            be->ops->kron_quadratic(be, n_rows, n_rhs, outer, &w->flat, cov);
    }
}

static la_block_visitor cov_visitor(la_covariance *c) {
    return la_jacobian_visitor(c->jacobian, add, c);
}

static la_status cov_read(la_covariance *c, double *cov, la_error *err) {
    la_backend *be = c->blocks->be;
    size_t count = (size_t)(c->n_rows * c->n_rhs * c->n_rhs);
    for (int64_t g = 0; g < c->n_scales; g++)
        be->ops->download(be, cov + (size_t)g * count, c->cov + (size_t)g * scale_stride(c),
                          count * sizeof(double));
    return be->ops->sync(be, err);
}

const la_covariance_kind la_factored_covariance = {
    .bytes = cov_bytes,
    .open = cov_open,
    .batch = cov_batch,
    .visitor = cov_visitor,
    .read = cov_read,
    .close = cov_close,
};
