#include "bayes/squares.h"

#include <stdlib.h>

struct la_squares {
    la_model *model;
    la_jacobian *jacobian;
    double **sums;  /* [n_blocks of the model] [count] on the device; NULL: not wanted */
    int64_t *count; /* [n_blocks of the model] */
};

/* Elements of a block in the basis. */
static int64_t count_of(const la_block *block, const la_posterior *basis, int64_t next) {
    if (!basis)
        return block->out * block->in;
    const la_posterior_block *of = &basis->blocks[next];
    return of->output.rank * basis->inputs[of->input].rank;
}

size_t la_squares_bytes(const la_model *model, const la_jacobian_shape *shape) {
    size_t bytes = la_jacobian_bytes(model, shape);
    for (int64_t b = 0; b < model->n_blocks; b++)
        if (model->blocks[b].wanted)
            bytes += (size_t)(model->blocks[b].out * model->blocks[b].in) * sizeof(double);
    return bytes;
}

la_status la_squares_open(la_model *model, const la_jacobian_shape *shape, la_squares **out,
                          la_error *err) {
    *out = NULL;
    la_backend *be = model->be;
    la_squares *q = la_alloc(1, sizeof *q, err);
    if (!q)
        return err->status;
    q->model = model;
    q->sums = la_alloc((size_t)model->n_blocks, sizeof *q->sums, err);
    q->count = la_alloc((size_t)model->n_blocks, sizeof *q->count, err);
    int64_t next = 0;
    for (int64_t b = 0; err->status == LA_OK && b < model->n_blocks; b++) {
        if (!model->blocks[b].wanted)
            continue;
        q->count[b] = count_of(&model->blocks[b], shape->basis, next++);
        size_t bytes = (size_t)q->count[b] * sizeof(double);
        q->sums[b] = be->ops->alloc(be, bytes);
        if (!q->sums[b])
            (void)la_fail(err, LA_RESOURCE, "out of memory on %s for the curvature of %s",
                          be->device, model->blocks[b].name);
        else
            be->ops->zero(be, q->sums[b], bytes);
    }
    if (err->status == LA_OK)
        (void)la_jacobian_open(model, shape, &q->jacobian, err);
    if (err->status != LA_OK) {
        la_squares_close(q);
        return err->status;
    }
    *out = q;
    return LA_OK;
}

void la_squares_close(la_squares *q) {
    if (!q)
        return;
    la_backend *be = q->model->be;
    la_jacobian_close(q->jacobian);
    for (int64_t b = 0; q->sums && b < q->model->n_blocks; b++)
        if (q->sums[b])
            be->ops->release(be, q->sums[b]);
    free(q->sums);
    free(q->count);
    free(q);
}

static void add(void *user, int64_t block, int64_t first, int64_t n_rows, int64_t n_rhs,
                const la_mat *outer, const la_mat *rotated) {
    la_squares *q = user;
    (void)first;
    (void)outer;
    la_mat rows = la_mat_f32(rotated->data, n_rows * n_rhs, q->count[block]);
    q->model->be->ops->column_squares(q->model->be, &rows, q->sums[block]);
}

la_block_visitor la_squares_visitor(la_squares *q) {
    return la_jacobian_visitor(q->jacobian, add, q);
}

la_status la_squares_merge(la_squares *const *all, int n, la_error *err) {
    la_backend *devices[LA_DEVICES_MAX];
    double *sums[LA_DEVICES_MAX];
    const la_model *model = all[0]->model;
    if (n < 2)
        return LA_OK;
    for (int i = 0; i < n; i++)
        devices[i] = all[i]->model->be;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        if (!all[0]->sums[b])
            continue;
        for (int i = 0; i < n; i++)
            sums[i] = all[i]->sums[b];
        LA_TRY(devices[0]->ops->reduce(devices, n, sums, all[0]->count[b], err));
    }
    return LA_OK;
}

la_status la_squares_read(la_squares *q, la_posterior *posterior, la_error *err) {
    la_backend *be = q->model->be;
    int64_t next = 0;
    for (int64_t b = 0; b < q->model->n_blocks; b++) {
        if (!q->sums[b])
            continue;
        size_t count = (size_t)q->count[b];
        double *host = la_alloc(count, sizeof *host, err);
        float *spectrum = la_pool_take(&posterior->pool, count, sizeof *spectrum, err);
        if (err->status == LA_OK) {
            be->ops->download(be, host, q->sums[b], count * sizeof *host);
            (void)be->ops->sync(be, err);
        }
        for (size_t i = 0; err->status == LA_OK && i < count; i++)
            spectrum[i] = (float)host[i];
        posterior->blocks[next++].spectrum = spectrum;
        free(host);
        LA_TRY(err->status);
    }
    return LA_OK;
}
