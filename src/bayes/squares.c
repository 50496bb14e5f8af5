#include "bayes/squares.h"

#include <stdlib.h>

/* Share of the largest that rounding does not reach. */
#define SLACK 1e-4

struct la_squares {
    const la_blocks *blocks;
    la_jacobian *jacobian;
    la_sums sums; /* [n blocks] */
};

size_t la_squares_bytes(const la_blocks *blocks, const la_batch_shape *shape) {
    return la_jacobian_bytes(blocks, shape, NULL) +
           (size_t)la_blocks_width(blocks) * sizeof(double);
}

/* The sum of a block; NULL when there is no memory. */
static double *open_sum(la_squares *q, int64_t b, const la_posterior *basis) {
    const la_block *block = &q->blocks->list[b];
    int64_t rows = la_small_side(block->out, block->in), cols = la_big_side(block->out, block->in);
    if (basis) {
        int64_t out = la_factored_of(basis, b)->output.rank;
        int64_t in = la_factored_inputs(basis)[block->input].rank;
        rows = block->out <= block->in ? out : in;
        cols = block->out <= block->in ? in : out;
    }
    return la_sums_add(&q->sums, "blocks", b, "squares", rows, cols);
}

la_status la_squares_open(const la_blocks *blocks, const la_batch_shape *shape,
                          const la_posterior *basis, la_squares **out, la_error *err) {
    *out = NULL;
    la_squares *q = la_alloc(1, sizeof *q, err);
    if (!q)
        return err->status;
    q->blocks = blocks;
    q->sums.be = blocks->be;
    for (int64_t b = 0; err->status == LA_OK && b < blocks->n; b++)
        if (!open_sum(q, b, basis))
            (void)la_fail(err, LA_RESOURCE, "out of memory on %s for the curvature of %s",
                          blocks->be->device, blocks->list[b].name);
    if (err->status == LA_OK)
        (void)la_jacobian_open(blocks, shape, basis, &q->jacobian, err);
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
    la_jacobian_close(q->jacobian);
    la_sums_close(&q->sums);
    free(q);
}

static void add(void *user, int64_t block, int64_t first, int64_t n_rows, int64_t n_rhs,
                const la_mat *outer, const la_mat *rotated) {
    la_squares *q = user;
    la_backend *be = q->blocks->be;
    const la_sum *sum = &q->sums.list[block];
    (void)first;
    (void)outer;
    la_mat rows = la_mat_f32(rotated->data, n_rows * n_rhs, sum->rows * sum->cols);
    be->ops->column_squares(be, &rows, sum->data);
}

la_block_visitor la_squares_visitor(la_squares *q) {
    return la_jacobian_visitor(q->jacobian, add, q);
}

la_sums *la_squares_sums(la_squares *q) {
    return &q->sums;
}

/* What is negative beyond the rounding of sums that are kept in f32 is an error; the rest is 0. */
static la_status clear_negative(const char *name, size_t count, double *sum, double *least,
                                la_error *err) {
    double top = 0, low = 0;
    for (size_t i = 0; i < count; i++) {
        top = sum[i] > top ? sum[i] : top;
        low = sum[i] < low ? sum[i] : low;
        sum[i] = sum[i] < 0 ? 0 : sum[i];
    }
    if (low < -SLACK * top)
        return la_fail(err, LA_NUMERICAL, "%s: the diagonal of its curvature is negative: %g to %g",
                       name, low, top);
    *least = low < *least * top ? low / top : *least;
    return LA_OK;
}

la_status la_squares_read(la_squares *q, la_posterior *posterior, la_error *err) {
    la_backend *be = q->blocks->be;
    for (int64_t b = 0; b < q->blocks->n; b++) {
        size_t count = (size_t)(q->sums.list[b].rows * q->sums.list[b].cols);
        double *host = la_alloc(count, sizeof *host, err);
        float *spectrum = la_pool_take(&posterior->pool, count, sizeof *spectrum, err);
        if (err->status == LA_OK) {
            be->ops->download(be, host, q->sums.list[b].data, count * sizeof *host);
            (void)be->ops->sync(be, err);
        }
        if (err->status == LA_OK)
            (void)clear_negative(q->blocks->list[b].name, count, host, &posterior->least_share,
                                 err);
        for (size_t i = 0; err->status == LA_OK && i < count; i++)
            spectrum[i] = (float)host[i];
        la_factored_block *to = la_factored_of(posterior, b);
        to->rows = q->sums.list[b].rows;
        to->cols = q->sums.list[b].cols;
        to->spectrum = spectrum;
        free(host);
        LA_TRY(err->status);
    }
    return LA_OK;
}
