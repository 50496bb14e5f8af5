#include "bayes/jacobian.h"

#include <stdlib.h>
#include <string.h>

/* The rows' outer products are formed and rotated for as many rows at a time as fit this: enough
 * rows for the rotation to run at full speed, and on a host little enough for its caches. */
enum { HOST_CHUNK_FLOATS = 4 << 20, DEVICE_CHUNK_FLOATS = 64 << 20 };

typedef struct rotation {
    bool out_is_small;
    la_mat small, big; /* eigenvectors [rank, n] on the device; big without data: not rotated */
    float *own;        /* the output side's, which no other block shares */
} rotation;

struct la_jacobian {
    const la_blocks *blocks;
    rotation *rotations;        /* [n blocks] */
    float **shared;             /* [n_inputs] eigenvectors of input factors; NULL: not there */
    float *identity;            /* [side, side] of the largest smaller side; without a basis */
    float *s, *outer, *rotated; /* workspaces */
    int64_t outer_floats;
    la_jacobian_sink sink;
    void *user;
};

float *la_device_copy(la_backend *be, const float *host, size_t count, la_error *err) {
    float *memory = be->ops->alloc(be, count * sizeof *memory);
    if (!memory) {
        (void)la_fail(err, LA_RESOURCE, "out of memory on %s for the posterior", be->device);
        return NULL;
    }
    be->ops->upload(be, memory, host, count * sizeof *memory);
    return memory;
}

la_status la_device_trace(la_backend *be, const double *matrix, int64_t n, double *trace,
                          la_error *err) {
    double *diagonal = la_alloc((size_t)n, sizeof *diagonal, err);
    if (!diagonal)
        return err->status;
    be->ops->diagonal(be, n, matrix, diagonal);
    *trace = 0;
    for (int64_t i = 0; i < n; i++)
        *trace += diagonal[i];
    free(diagonal);
    return LA_OK;
}

typedef struct workspaces {
    int64_t small;   /* largest smaller side */
    size_t s, outer; /* floats: tokens in the smaller side's basis; outer products, twice */
} workspaces;

static workspaces workspaces_of(const la_blocks *blocks, const la_batch_shape *shape) {
    int64_t small = 0, outer = la_blocks_largest(blocks);
    int64_t chunk = blocks->be->ops->in_place ? HOST_CHUNK_FLOATS : DEVICE_CHUNK_FLOATS;
    for (int64_t b = 0; b < blocks->n; b++) {
        int64_t least = la_small_side(blocks->list[b].out, blocks->list[b].in);
        small = least > small ? least : small;
    }
    int64_t tokens = shape->max_tokens + shape->max_rows * blocks->n_virtual;
    int64_t row = outer * shape->n_rhs, all = row * shape->max_rows;
    return (workspaces){.small = small,
                        .s = (size_t)(blocks->rows_each_token * tokens * shape->n_rhs * small),
                        .outer = (size_t)(all < chunk   ? all
                                          : row > chunk ? row
                                                        : chunk)};
}

static size_t floats_of(const la_factor *factor) {
    return (size_t)(factor->rank * factor->n);
}

size_t la_jacobian_bytes(const la_blocks *blocks, const la_batch_shape *shape,
                         const la_posterior *basis) {
    workspaces w = workspaces_of(blocks, shape);
    if (!basis)
        return (w.s + w.outer + (size_t)(w.small * w.small)) * sizeof(float);
    size_t floats = w.s + 2 * w.outer;
    /* the posterior's own numbers: memory is planned before its blocks are compared with the
     * model's, which may have more */
    for (int64_t i = 0; i < basis->n_inputs; i++)
        floats += floats_of(&la_factored_inputs(basis)[i]);
    for (int64_t b = 0; b < basis->n_blocks; b++)
        floats += floats_of(&la_factored_of(basis, b)->output);
    return floats * sizeof(float);
}

static la_status open_basis(la_jacobian *j, const la_posterior *basis, int64_t number, rotation *r,
                            la_error *err) {
    la_backend *be = j->blocks->be;
    const la_block *block = &j->blocks->list[number];
    const la_factor *input = &la_factored_inputs(basis)[block->input];
    const la_factor *output = &la_factored_of(basis, number)->output;
    float **shared = &j->shared[block->input];
    if (!*shared)
        *shared = la_device_copy(be, input->vectors, floats_of(input), err);
    r->own = la_device_copy(be, output->vectors, floats_of(output), err);
    la_mat in = la_mat_f32(*shared, input->rank, input->n);
    la_mat out = la_mat_f32(r->own, output->rank, output->n);
    r->small = r->out_is_small ? out : in;
    r->big = r->out_is_small ? in : out;
    if (err->status != LA_OK)
        return err->status;
    if (r->small.rows < r->small.cols)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: --rank cuts its smaller factor, of size %lld; give a larger rank",
                       block->name, (long long)r->small.cols);
    return LA_OK;
}

/* The smaller side is copied by a product with the identity: it may be of another type. */
static la_status open_identity(la_jacobian *j, int64_t side, la_error *err) {
    float *host = la_alloc((size_t)(side * side), sizeof *host, err);
    if (!host)
        return err->status;
    for (int64_t i = 0; i < side; i++)
        host[i * side + i] = 1;
    j->identity = la_device_copy(j->blocks->be, host, (size_t)(side * side), err);
    free(host);
    return err->status;
}

static la_status open_rotations(la_jacobian *j, const la_posterior *basis, int64_t side,
                                la_error *err) {
    if (!basis)
        LA_TRY(open_identity(j, side, err));
    for (int64_t b = 0; b < j->blocks->n; b++) {
        const la_block *block = &j->blocks->list[b];
        rotation *r = &j->rotations[b];
        r->out_is_small = block->out <= block->in;
        int64_t n = la_small_side(block->out, block->in);
        if (basis)
            LA_TRY(open_basis(j, basis, b, r, err));
        else
            r->small = (la_mat){j->identity, n, n, side, LA_F32};
    }
    return LA_OK;
}

la_status la_jacobian_open(const la_blocks *blocks, const la_batch_shape *shape,
                           const la_posterior *basis, la_jacobian **out, la_error *err) {
    *out = NULL;
    la_backend *be = blocks->be;
    la_jacobian *j = la_alloc(1, sizeof *j, err);
    if (!j)
        return err->status;
    workspaces w = workspaces_of(blocks, shape);
    j->blocks = blocks;
    j->rotations = la_alloc((size_t)blocks->n, sizeof *j->rotations, err);
    j->shared = la_alloc((size_t)blocks->n_inputs, sizeof *j->shared, err);
    if (err->status == LA_OK)
        (void)open_rotations(j, basis, w.small, err);
    if (err->status == LA_OK) {
        j->outer_floats = (int64_t)w.outer;
        j->s = be->ops->alloc(be, w.s * sizeof(float));
        j->outer = be->ops->alloc(be, w.outer * sizeof(float));
        j->rotated = basis ? be->ops->alloc(be, w.outer * sizeof(float)) : NULL;
        if (!j->s || !j->outer || (basis && !j->rotated))
            (void)la_fail(err, LA_RESOURCE,
                          "out of memory on %s for row Jacobians; lower --batch-tokens",
                          be->device);
    }
    if (err->status != LA_OK) {
        la_jacobian_close(j);
        return err->status;
    }
    *out = j;
    return LA_OK;
}

void la_jacobian_close(la_jacobian *j) {
    if (!j)
        return;
    la_backend *be = j->blocks->be;
    for (int64_t b = 0; j->rotations && b < j->blocks->n; b++)
        be->ops->release(be, j->rotations[b].own);
    for (int64_t i = 0; j->shared && i < j->blocks->n_inputs; i++)
        be->ops->release(be, j->shared[i]);
    float *buffers[] = {j->identity, j->s, j->outer, j->rotated};
    for (int i = 0; i < 4; i++)
        be->ops->release(be, buffers[i]);
    free(j->rotations);
    free(j->shared);
    free(j);
}

static void visit(void *user, int64_t number, const la_block_io *io) {
    la_jacobian *j = user;
    la_backend *be = j->blocks->be;
    const la_ops *ops = be->ops;
    int64_t own = j->blocks->index[number];
    if (own < 0)
        return;
    const rotation *r = &j->rotations[own];
    const la_block *block = &j->blocks->list[own];
    int64_t m = io->n_rhs, height = r->small.rows, width = la_big_side(block->out, block->in);
    /* s: the smaller side's tokens in its eigenbasis */
    const la_mat *small_side = r->out_is_small ? io->g : io->x_at_g;
    const la_mat *big_side = r->out_is_small ? io->x_at_g : io->g;
    la_mat s = la_mat_f32(j->s, small_side->rows, height);
    ops->gemm(be, false, true, 1, small_side, &r->small, 0, &s);
    int64_t chunk = j->outer_floats / (m * height * width);
    for (int64_t from = 0; from < io->n_rows; from += chunk) {
        int64_t n = io->n_rows - from < chunk ? io->n_rows - from : chunk;
        la_mat outer = la_mat_f32(j->outer, n * m * height, width), rotated = outer;
        ops->row_outer(be, from, n, io->cu_g, m, io->g_scale, &s, r->out_is_small, big_side,
                       !r->out_is_small, &outer);
        if (r->big.data) {
            rotated = la_mat_f32(j->rotated, n * m * height, r->big.rows);
            ops->gemm(be, false, true, 1, &outer, &r->big, 0, &rotated);
        }
        j->sink(j->user, own, from, n, m, &outer, &rotated);
    }
}

la_block_visitor la_jacobian_visitor(la_jacobian *j, la_jacobian_sink sink, void *user) {
    j->sink = sink;
    j->user = user;
    return (la_block_visitor){visit, j};
}
