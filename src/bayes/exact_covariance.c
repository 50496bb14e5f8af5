/* With H = V^T diag(d) V over all parameters (rows of V orthonormal), a row's Jacobian J
 * and z = J V^T:
 *
 *   J (H + lambda)^-1 J^T = z diag(1 / (d + lambda)) z^T + (J J^T - z z^T) / lambda
 *
 * so that J is seen block by block and never held, and every scale of lambda costs a sum on the
 * host. */
#include "bayes/exact.h"
#include "bayes/jacobian.h"

#include <stdlib.h>
#include <string.h>

/* Relative rounding error of J J^T by precision. */
static double rounding(const la_backend *be) {
    static const double shares[] = {
        [LA_PRECISION_F32] = 1e-6, [LA_PRECISION_TF32] = 1e-3, [LA_PRECISION_BF16] = 1e-3};
    return shares[be->precision];
}

struct la_covariance {
    const la_blocks *blocks;
    la_jacobian *jacobian;
    const la_posterior *posterior;
    const la_directions *directions;
    int64_t n_rhs, n_rows, max_rows, n_scales, rank, width;
    double *scales;
    int64_t *offset; /* [n blocks] column of a block's first parameter */
    float *vectors;  /* [rank, width] where the backend reads; owned unless it is the posterior's */
    bool vectors_owned;
    float *ones;          /* as many as the largest block has elements */
    float *z;             /* [max_rows n_rhs, rank] on the device */
    double *squares;      /* [max_rows, n_rhs, n_rhs] J J^T on the device */
    float *z_host;        /* as z */
    double *squares_host; /* as squares */
};

static size_t cov_bytes(const la_blocks *blocks, const la_posterior *posterior,
                        const la_cov_shape *shape) {
    int64_t m = shape->batch.n_rhs, rows = shape->batch.max_rows * m;
    const la_directions *d = la_exact_directions(posterior);
    size_t vectors = blocks->be->ops->in_place ? 0 : (size_t)(d->rank * d->width);
    return la_jacobian_bytes(blocks, &shape->batch, NULL) +
           (vectors + (size_t)la_blocks_largest(blocks) + (size_t)(rows * d->rank)) *
               sizeof(float) +
           (size_t)(rows * m) * sizeof(double);
}

static la_status open_memory(la_covariance *c, const la_cov_shape *shape, la_error *err) {
    la_backend *be = c->blocks->be;
    const la_directions *d = c->directions;
    size_t rows = (size_t)(c->max_rows * c->n_rhs), most = (size_t)la_blocks_largest(c->blocks);
    c->scales = la_alloc((size_t)c->n_scales, sizeof *c->scales, err);
    c->offset = la_blocks_offsets(c->blocks, err);
    c->z_host = la_alloc(rows * (size_t)c->rank, sizeof *c->z_host, err);
    c->squares_host = la_alloc(rows * (size_t)c->n_rhs, sizeof *c->squares_host, err);
    float *host = la_alloc(most, sizeof *host, err);
    if (err->status == LA_OK) {
        memcpy(c->scales, shape->scales, (size_t)c->n_scales * sizeof *c->scales);
        for (size_t i = 0; i < most; i++)
            host[i] = 1;
        c->ones = la_device_copy(be, host, most, err);
    }
    free(host);
    LA_TRY(err->status);
    if (be->ops->in_place) {
        c->vectors = d->vectors;
    } else {
        c->vectors = la_device_copy(be, d->vectors, (size_t)(d->rank * d->width), err);
        c->vectors_owned = true;
    }
    c->z = be->ops->alloc(be, rows * (size_t)c->rank * sizeof *c->z);
    c->squares = be->ops->alloc(be, rows * (size_t)c->n_rhs * sizeof *c->squares);
    if (!c->z || !c->squares)
        return la_fail(err, LA_RESOURCE,
                       "out of memory on %s for the predictive; lower --batch-tokens", be->device);
    return err->status;
}

static void cov_close(la_covariance *c) {
    if (!c)
        return;
    la_backend *be = c->blocks->be;
    void *buffers[] = {c->ones, c->z, c->squares, c->vectors_owned ? c->vectors : NULL};
    for (int i = 0; i < 4; i++)
        be->ops->release(be, buffers[i]);
    la_jacobian_close(c->jacobian);
    free(c->scales);
    free(c->offset);
    free(c->z_host);
    free(c->squares_host);
    free(c);
}

static la_status cov_open(const la_blocks *blocks, const la_posterior *posterior,
                          const la_cov_shape *shape, la_covariance **out, la_error *err) {
    *out = NULL;
    la_covariance *c = la_alloc(1, sizeof *c, err);
    if (!c)
        return err->status;
    c->blocks = blocks;
    c->posterior = posterior;
    c->directions = la_exact_directions(posterior);
    c->n_rhs = shape->batch.n_rhs;
    c->max_rows = shape->batch.max_rows;
    c->n_scales = shape->n_scales;
    c->rank = c->directions->rank;
    c->width = c->directions->width;
    if (open_memory(c, shape, err) == LA_OK)
        (void)la_jacobian_open(blocks, &shape->batch, NULL, &c->jacobian, err);
    if (err->status != LA_OK) {
        cov_close(c);
        return err->status;
    }
    *out = c;
    return LA_OK;
}

static void cov_batch(la_covariance *c, int64_t n_rows) {
    la_backend *be = c->blocks->be;
    size_t rows = (size_t)(n_rows * c->n_rhs);
    c->n_rows = n_rows;
    be->ops->zero(be, c->z, rows * (size_t)c->rank * sizeof *c->z);
    be->ops->zero(be, c->squares, rows * (size_t)c->n_rhs * sizeof *c->squares);
}

static void add(void *user, int64_t block, int64_t first, int64_t n_rows, int64_t n_rhs,
                const la_mat *outer, const la_mat *rotated) {
    la_covariance *c = user;
    la_backend *be = c->blocks->be;
    const la_block *of = &c->blocks->list[block];
    int64_t big = la_big_side(of->out, of->in), count = of->out * of->in;
    la_mat ones = la_mat_f32(c->ones, la_small_side(of->out, of->in), big);
    la_mat rows = la_mat_f32(rotated->data, n_rows * n_rhs, count);
    la_mat vectors = {c->vectors + c->offset[block], c->rank, count, c->width, LA_F32};
    la_mat z = la_mat_f32(c->z + first * n_rhs * c->rank, n_rows * n_rhs, c->rank);
    be->ops->kron_quadratic(be, n_rows, n_rhs, outer, &ones, c->squares + first * n_rhs * n_rhs);
    be->ops->gemm(be, false, true, 1, &rows, &vectors, 1, &z);
}

static la_block_visitor cov_visitor(la_covariance *c) {
    return la_jacobian_visitor(c->jacobian, add, c);
}

/* Covariance of a row; the last term is the part without curvature. A row like those of the
 * calibration set has only rounding there, which over lambda may be more than the rest. */
static void finish_row(const la_covariance *c, int64_t row, double lambda, double *cov) {
    int64_t m = c->n_rhs;
    const double *d = c->directions->values, *squares = c->squares_host + row * m * m;
    const float *z = c->z_host + row * m * c->rank;
    double all = 0, rest = 0, scale = la_curvature_scale(c->posterior);
    for (int64_t k = 0; k < m; k++) {
        const float *zk = z + k * c->rank;
        double left = squares[k * m + k];
        for (int64_t i = 0; i < c->rank; i++)
            left -= (double)zk[i] * (double)zk[i];
        all += squares[k * m + k];
        rest += left > 0 ? left : 0;
    }
    bool inside = rest <= rounding(c->blocks->be) * all;
    for (int64_t k = 0; k < m; k++)
        for (int64_t l = 0; l <= k; l++) {
            double left = inside ? 0 : squares[k * m + l], sum = 0;
            const float *zk = z + k * c->rank, *zl = z + l * c->rank;
            for (int64_t i = 0; i < c->rank; i++) {
                double product = (double)zk[i] * (double)zl[i];
                left -= inside ? 0 : product;
                sum += product / (scale * d[i] + lambda);
            }
            if (k == l && left < 0)
                left = 0;
            cov[k * m + l] = cov[l * m + k] = sum + left / lambda;
        }
}

static la_status cov_read(la_covariance *c, double *cov, la_error *err) {
    la_backend *be = c->blocks->be;
    int64_t m = c->n_rhs, rows = c->n_rows * m;
    be->ops->download(be, c->z_host, c->z, (size_t)(rows * c->rank) * sizeof *c->z);
    be->ops->download(be, c->squares_host, c->squares, (size_t)(rows * m) * sizeof *c->squares);
    LA_TRY(be->ops->sync(be, err));
    double lambda = c->posterior->blocks[0].prior_precision;
#pragma omp parallel for collapse(2) schedule(static) num_threads(be->team.threads)
    for (int64_t g = 0; g < c->n_scales; g++)
        for (int64_t i = 0; i < c->n_rows; i++)
            finish_row(c, i, lambda * c->scales[g], cov + (g * c->n_rows + i) * m * m);
    return LA_OK;
}

const la_covariance_kind la_exact_covariance = {
    .bytes = cov_bytes,
    .open = cov_open,
    .batch = cov_batch,
    .visitor = cov_visitor,
    .read = cov_read,
    .close = cov_close,
};
