/* Row Jacobians of the trained matrices, block by block and some rows at a time, without one
 * token's contribution ever being held: G_k = sum_t g_kt x_t^T for row and right-hand side k.
 *
 * A block is laid out smaller side first: [small, big] with small = min(out, in), so a block with
 * out > in is transposed. Where a basis is given, both sides are rotated into its eigenvectors. */
#ifndef LA_BAYES_JACOBIAN_H
#define LA_BAYES_JACOBIAN_H

#include "bayes/factored.h"

typedef struct la_jacobian la_jacobian;

/* Rows [first, first + n) of the batch. outer[n n_rhs small, big]: the smaller side rotated alone;
 * rotated[n n_rhs small, rank of the big side]: both; without a basis they are one matrix. */
typedef void (*la_jacobian_sink)(void *user, int64_t block, int64_t first, int64_t n_rows,
                                 int64_t n_rhs, const la_mat *outer, const la_mat *rotated);

/* Bytes on the device that la_jacobian_open takes. */
size_t la_jacobian_bytes(const la_blocks *blocks, const la_batch_shape *shape,
                         const la_posterior *basis);
/* basis: whose eigenvectors, of the same blocks; NULL: none. It is borrowed while opening, the
 * blocks until la_jacobian_close, which frees. */
la_status la_jacobian_open(const la_blocks *blocks, const la_batch_shape *shape,
                           const la_posterior *basis, la_jacobian **jacobian, la_error *err);
void la_jacobian_close(la_jacobian *jacobian);
/* Hands every chunk of every block that is visited to the sink. */
la_block_visitor la_jacobian_visitor(la_jacobian *jacobian, la_jacobian_sink sink, void *user);

/* A host array on the device; NULL and LA_RESOURCE when there is no memory. */
float *la_device_copy(la_backend *be, const float *host, size_t count, la_error *err);
/* Trace of a matrix [n, n] where sums live. */
la_status la_device_trace(la_backend *be, const double *matrix, int64_t n, double *trace,
                          la_error *err);

static inline int64_t la_small_side(int64_t out, int64_t in) {
    return out <= in ? out : in;
}
static inline int64_t la_big_side(int64_t out, int64_t in) {
    return out <= in ? in : out;
}

#endif
