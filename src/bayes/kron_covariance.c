/* Logit covariance of the linearised model under a Kronecker posterior (arXiv 2308.13111, equation
 * 13), in the eigenbasis and without the Jacobian: with G_k = sum_t g_kt x_t^T the row's gradient
 * of contrast k [out, in],
 *
 *   cov_kl = sum_ij R_k[i,j] R_l[i,j] / (s_i a_j + lambda),   R = U_out^T G U_in
 *
 * The smaller side is rotated token by token before the sum over tokens, the larger one in a single
 * product for all rows. Where the larger factor is cut to its rank largest eigenpairs, the rest of
 * the space has precision lambda:
 *
 *   cov_kl = <G_k, G_l> / lambda + sum_ij R_k[i,j] R_l[i,j] (1 / (s_i a_j + lambda) - 1 / lambda)
 */
#include "bayes/kron.h"

#include <stdlib.h>
#include <string.h>

/* The rows' outer products are formed and rotated for as many rows at a time as fit this: enough
 * rows for the rotation to run at full speed, and on a host little enough for its caches. */
enum { HOST_CHUNK_FLOATS = 4 << 20, DEVICE_CHUNK_FLOATS = 64 << 20 };

typedef struct rotation {
    bool out_is_small;
    la_mat small, big; /* eigenvectors [rank, n] on the device */
    la_mat weight;     /* [small rank, big rank] */
    la_mat flat; /* [small rank, big n] all 1 / lambda, where the big side is cut; else no data */
} rotation;

struct la_covariance {
    la_model *model;
    int64_t n_rhs, n_rows, max_rows;
    rotation *rotations;  /* [n_blocks of the model] */
    float **input_memory; /* [n_inputs] shared eigenvectors */
    int64_t n_inputs;
    float *s, *outer, *rotated; /* workspaces */
    int64_t outer_floats;
    double *cov; /* [max_rows, n_rhs, n_rhs] on the device */
};

static float *place(la_backend *be, const float *host, size_t count, la_error *err) {
    float *memory = be->ops->alloc(be, count * sizeof *memory);
    if (!memory) {
        la_fail(err, LA_RESOURCE, "out of memory on %s for the posterior", be->device);
        return NULL;
    }
    be->ops->upload(be, memory, host, count * sizeof *memory);
    return memory;
}

/* weights of the quadratic form, made on the host */
static la_status make_weights(la_backend *be, const la_posterior *posterior,
                              const la_posterior_block *block, rotation *r, la_error *err) {
    const la_factor *input = &posterior->inputs[block->input], *output = &block->output;
    const la_factor *small = r->out_is_small ? output : input;
    const la_factor *big = r->out_is_small ? input : output;
    double lambda = block->prior_precision, shift = big->rank < big->n ? 1 / lambda : 0;
    size_t count = (size_t)(small->rank * big->n);
    float *weight = la_alloc(count, sizeof *weight, err);
    if (!weight)
        return err->status;
    for (int64_t p = 0; p < small->rank; p++)
        for (int64_t q = 0; q < big->rank; q++)
            weight[p * big->rank + q] =
                (float)(1 / (small->values[p] * big->values[q] / block->denominator + lambda) -
                        shift);
    float *memory = place(be, weight, (size_t)(small->rank * big->rank), err);
    r->weight = la_mat_f32(memory, small->rank, big->rank);
    if (shift > 0 && memory) {
        for (size_t i = 0; i < count; i++)
            weight[i] = (float)shift;
        r->flat = la_mat_f32(place(be, weight, count, err), small->rank, big->n);
    }
    free(weight);
    return err->status;
}

static la_status open_block(la_covariance *c, const la_posterior *posterior,
                            const la_posterior_block *block, rotation *r, la_error *err) {
    la_backend *be = c->model->be;
    const la_factor *input = &posterior->inputs[block->input];
    float **shared = &c->input_memory[block->input];
    if (!*shared)
        *shared = place(be, input->vectors, (size_t)(input->rank * input->n), err);
    float *own =
        place(be, block->output.vectors, (size_t)(block->output.rank * block->output.n), err);
    la_mat in = la_mat_f32(*shared, input->rank, input->n);
    la_mat out = la_mat_f32(own, block->output.rank, block->output.n);
    r->out_is_small = block->out <= block->in;
    r->small = r->out_is_small ? out : in;
    r->big = r->out_is_small ? in : out;
    if (err->status != LA_OK)
        return err->status;
    if (r->small.rows < r->small.cols)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: --rank cuts its smaller factor, of size %lld; give a larger rank",
                       block->name, (long long)r->small.cols);
    return make_weights(be, posterior, block, r, err);
}

typedef struct workspaces {
    size_t s, outer; /* floats: tokens in the smaller side's basis; outer products, twice */
} workspaces;

static workspaces workspaces_of(const la_model *model, const la_posterior *posterior,
                                int64_t max_rows, int64_t max_tokens, int64_t n_rhs) {
    int64_t small = 0, outer = 0;
    int64_t chunk = model->be->ops->in_place ? HOST_CHUNK_FLOATS : DEVICE_CHUNK_FLOATS;
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        const la_posterior_block *block = &posterior->blocks[b];
        int64_t least = block->out < block->in ? block->out : block->in;
        small = least > small ? least : small;
        outer = block->out * block->in > outer ? block->out * block->in : outer;
    }
    int64_t row = outer * n_rhs, all = row * max_rows;
    return (workspaces){.s = (size_t)(max_tokens * n_rhs * small),
                        .outer = (size_t)(all < chunk   ? all
                                          : row > chunk ? row
                                                        : chunk)};
}

size_t la_kron_cov_bytes(const la_model *model, const la_posterior *posterior, int64_t max_rows,
                         int64_t max_tokens, int64_t n_rhs) {
    workspaces w = workspaces_of(model, posterior, max_rows, max_tokens, n_rhs);
    size_t floats = w.s + 2 * w.outer + (size_t)(2 * max_rows * n_rhs * n_rhs);
    for (int64_t i = 0; i < posterior->n_inputs; i++)
        floats += (size_t)(posterior->inputs[i].rank * posterior->inputs[i].n);
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        const la_posterior_block *block = &posterior->blocks[b];
        const la_factor *input = &posterior->inputs[block->input];
        floats += (size_t)(block->output.rank * block->output.n);
        /* weights, and those of what a cut factor leaves out */
        floats += (size_t)(block->output.rank * input->rank);
        if (input->rank < input->n || block->output.rank < block->output.n)
            floats += (size_t)(block->out * block->in);
    }
    return floats * sizeof(float);
}

la_status la_kron_cov_open(la_model *model, const la_posterior *posterior, int64_t max_rows,
                           int64_t max_tokens, int64_t n_rhs, la_covariance **out, la_error *err) {
    *out = NULL;
    la_backend *be = model->be;
    la_covariance *c = la_alloc(1, sizeof *c, err);
    if (!c)
        return err->status;
    c->model = model;
    c->n_rhs = n_rhs;
    c->max_rows = max_rows;
    c->n_inputs = posterior->n_inputs;
    c->rotations = la_alloc((size_t)model->n_blocks, sizeof *c->rotations, err);
    c->input_memory = la_alloc((size_t)posterior->n_inputs, sizeof *c->input_memory, err);
    int64_t next = 0;
    for (int64_t b = 0; err->status == LA_OK && b < model->n_blocks; b++)
        if (model->blocks[b].wanted)
            open_block(c, posterior, &posterior->blocks[next++], &c->rotations[b], err);
    if (err->status == LA_OK) {
        workspaces w = workspaces_of(model, posterior, max_rows, max_tokens, n_rhs);
        c->outer_floats = (int64_t)w.outer;
        c->s = be->ops->alloc(be, w.s * sizeof(float));
        c->outer = be->ops->alloc(be, w.outer * sizeof(float));
        c->rotated = be->ops->alloc(be, w.outer * sizeof(float));
        c->cov = be->ops->alloc(be, (size_t)(max_rows * n_rhs * n_rhs) * sizeof(double));
        if (!c->s || !c->outer || !c->rotated || !c->cov)
            la_fail(err, LA_RESOURCE,
                    "out of memory on %s for the predictive; lower --batch-tokens", be->device);
    }
    if (err->status != LA_OK) {
        la_kron_cov_close(c);
        return err->status;
    }
    *out = c;
    return LA_OK;
}

void la_kron_cov_batch(la_covariance *c, int64_t n_rows) {
    c->n_rows = n_rows;
    c->model->be->ops->zero(c->model->be, c->cov,
                            (size_t)(n_rows * c->n_rhs * c->n_rhs) * sizeof(double));
}

static void visit(void *user, int64_t number, const la_block_io *io) {
    la_covariance *c = user;
    la_backend *be = c->model->be;
    const la_ops *ops = be->ops;
    const rotation *r = &c->rotations[number];
    int64_t m = io->n_rhs, height = r->small.rows, width = r->big.cols;
    /* s: the smaller side's tokens in its eigenbasis */
    const la_mat *small_side = r->out_is_small ? io->g : io->x_at_g;
    const la_mat *big_side = r->out_is_small ? io->x_at_g : io->g;
    la_mat s = la_mat_f32(c->s, small_side->rows, height);
    ops->gemm(be, false, true, 1, small_side, &r->small, 0, &s);
    int64_t chunk = c->outer_floats / (m * height * width);
    for (int64_t from = 0; from < io->n_rows; from += chunk) {
        int64_t n = io->n_rows - from < chunk ? io->n_rows - from : chunk;
        la_mat outer = la_mat_f32(c->outer, n * m * height, width);
        la_mat rotated = la_mat_f32(c->rotated, n * m * height, r->big.rows);
        double *cov = c->cov + from * m * m;
        ops->row_outer(be, from, n, io->cu_g, m, io->g_scale, &s, r->out_is_small, big_side,
                       !r->out_is_small, &outer);
        ops->gemm(be, false, true, 1, &outer, &r->big, 0, &rotated);
        ops->kron_quadratic(be, n, m, &rotated, &r->weight, cov);
        if (r->flat.data)
            ops->kron_quadratic(be, n, m, &outer, &r->flat, cov);
    }
}

la_block_visitor la_kron_cov_visitor(la_covariance *c) {
    return (la_block_visitor){visit, c};
}

la_status la_kron_cov_read(la_covariance *c, double *cov, la_error *err) {
    la_backend *be = c->model->be;
    be->ops->download(be, cov, c->cov, (size_t)(c->n_rows * c->n_rhs * c->n_rhs) * sizeof(double));
    return be->ops->sync(be, err);
}

void la_kron_cov_close(la_covariance *c) {
    if (!c)
        return;
    la_backend *be = c->model->be;
    for (int64_t b = 0; c->rotations && b < c->model->n_blocks; b++) {
        rotation *r = &c->rotations[b];
        la_mat own = r->out_is_small ? r->small : r->big;
        void *memory[] = {own.data, r->weight.data, r->flat.data};
        for (int i = 0; i < 3; i++)
            if (memory[i])
                be->ops->release(be, memory[i]);
    }
    for (int64_t i = 0; c->input_memory && i < c->n_inputs; i++)
        if (c->input_memory[i])
            be->ops->release(be, c->input_memory[i]);
    void *buffers[] = {c->s, c->outer, c->rotated, c->cov};
    for (int i = 0; i < 4; i++)
        if (buffers[i])
            be->ops->release(be, buffers[i]);
    free(c->rotations);
    free(c->input_memory);
    free(c);
}
