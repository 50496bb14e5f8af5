/* The full Gauss-Newton matrix over all blocks, H = G^T G with the rows of G [N m, P] the row
 * Jacobians times S (S S^T = diag(p) - p p^T, m = C - 1). Nearly always N m < P, so it is
 * decomposed in its dual form: the Gram matrix K = G G^T = U diag(d) U^T has H's eigenvalues, and
 * H's eigenvectors are the rows of V = diag(d)^-1/2 U^T G. With few parameters H itself is summed.
 *
 * Rows of G are held as far as memory goes. What does not fit is run again: for each part that is
 * held the rows behind it pass once, and all rows once more for V. Where few of very many
 * eigenpairs are wanted they are sketched instead (exact_sketch.h). */
#include "bayes/exact_sketch.h"
#include "bayes/jacobian.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PRIMAL_MOST = 4096, /* parameters for which H itself may be summed */
    DUAL_MOST = 4096,   /* rows of G from which few eigenpairs are sketched */
    TILE_ROWS = 1024    /* of the Gram matrix that are formed at a time */
};

/* Share of the free memory that held rows may take. */
#define HELD_SHARE 0.4
/* Eigenvalues this small beside the largest are rounding of products in f32. */
#define LEAST_SHARE 1e-8

typedef enum stage { START, PRIMAL, HOLD, CROSS, PROJECT, DONE } stage;

struct la_structure_fit {
    const la_blocks *blocks;
    la_fit_shape shape;
    la_jacobian *jacobian;
    la_exact_sketch *sketch; /* does all the rest; NULL: not sketched */
    stage stage;
    int64_t width, rows; /* P, N m */
    int64_t *offset;     /* [n blocks] column of a block's first parameter */
    int64_t capacity;    /* calibration rows that can be held */
    int64_t from, to;    /* those held now */
    float *held;         /* [capacity m, P] on the device; primal: of a batch */
    float *tile;         /* [tile rows, capacity m] on the device */
    float *tile_host;    /* as tile */
    int64_t tile_rows;
    double *gram; /* [N m, N m] on the host, lower triangle */
    la_sums sums;
    double *sum; /* primal: [P, P] on the device, of the sums */
    /* the batch */
    int64_t first, n_rows;
    bool pending; /* something of it waits in held or tile */
    /* projection */
    float *weights;    /* [rank, N m] diag(d)^-1/2 U^T on the device */
    float *directions; /* [rank, P] on the device */
    int64_t rank;
    la_posterior *posterior;
};

static size_t fit_bytes(const la_blocks *blocks, const la_fit_shape *shape, int64_t *max_factor) {
    const la_batch_shape *batch = &shape->batch;
    int64_t width = la_blocks_width(blocks);
    size_t jacobian = la_jacobian_bytes(blocks, batch, NULL);
    *max_factor = width <= PRIMAL_MOST ? width : 0;
    if (!*max_factor && la_exact_sketch_is_for(shape)) {
        *max_factor = la_exact_sketch_width(shape->rank);
        return jacobian + la_exact_sketch_bytes(shape, width);
    }
    return jacobian + (size_t)(batch->max_rows * batch->n_rhs * width) * sizeof(float) +
           (size_t)(*max_factor * *max_factor) * sizeof(double);
}

static void fit_close(la_structure_fit *fit) {
    if (!fit)
        return;
    la_backend *be = fit->blocks->be;
    be->ops->release(be, fit->held);
    be->ops->release(be, fit->tile);
    la_sums_close(&fit->sums);
    be->ops->release(be, fit->weights);
    if (!be->ops->in_place)
        be->ops->release(be, fit->directions);
    la_jacobian_close(fit->jacobian);
    la_exact_sketch_close(fit->sketch);
    free(fit->offset);
    free(fit->tile_host);
    free(fit->gram);
    free(fit);
}

/* Bytes of the dual form. */
typedef struct dual_bytes {
    double available, row, tile, directions;
    double solve; /* the Gram matrix and its decomposition */
} dual_bytes;

static dual_bytes measure_dual(const la_structure_fit *fit) {
    la_backend *be = fit->blocks->be;
    size_t available, total;
    be->ops->memory(be, &available, &total);
    int64_t m = fit->shape.batch.n_rhs, n = fit->rows,
            rank = fit->shape.rank && fit->shape.rank < n ? fit->shape.rank : n;
    return (dual_bytes){.available = (double)available,
                        .row = (double)(m * fit->width) * sizeof(float),
                        .tile = (double)(TILE_ROWS * n) * sizeof(float),
                        .directions = (double)rank * (double)fit->width * sizeof(float),
                        .solve = (double)be->ops->eigh_bytes(be, n, rank) +
                                 (double)n * (double)n * sizeof(double)};
}

static double rows_that_fit(const dual_bytes *b) {
    return HELD_SHARE * (b->available - b->tile - b->directions) / b->row;
}

/* True when few of many eigenpairs are wanted: the sketch runs all rows three times, so that the
 * whole matrix costs less as long as it is small and its rows are run once. */
static bool is_sketched(const la_structure_fit *fit) {
    if (!la_exact_sketch_is_for(&fit->shape))
        return false;
    dual_bytes b = measure_dual(fit);
    return fit->rows > DUAL_MOST || b.solve + b.directions > b.available ||
           rows_that_fit(&b) < (double)fit->shape.n_rows;
}

/* Number of rows of G to hold, from the memory that is free beside the Gram matrix's
 * decomposition and V. */
static la_status plan_held(la_structure_fit *fit, la_error *err) {
    dual_bytes b = measure_dual(fit);
    double least = b.row * (double)fit->shape.batch.max_rows + b.tile + b.directions;
    if (least > b.available || b.solve + b.directions > b.available)
        return la_fail(err, LA_RESOURCE,
                       "%s: not enough memory for the exact curvature of %lld rows x %lld: Gram "
                       "matrix and its decomposition %.0f MiB, eigenvectors %.0f MiB, a batch of "
                       "rows %.0f MiB, but %.0f MiB are free; give a --rank, fewer rows, or "
                       "--curvature kron",
                       fit->blocks->be->device, (long long)fit->shape.n_rows,
                       (long long)fit->shape.batch.n_rhs, la_mib(b.solve), la_mib(b.directions),
                       la_mib(b.row * (double)fit->shape.batch.max_rows), la_mib(b.available));
    fit->capacity = (int64_t)fmin(fmax(rows_that_fit(&b), (double)fit->shape.batch.max_rows),
                                  (double)fit->shape.n_rows);
    return LA_OK;
}

/* The Gram matrix, and what is formed of it at a time. */
static la_status open_gram(la_structure_fit *fit, la_error *err) {
    la_backend *be = fit->blocks->be;
    int64_t m = fit->shape.batch.n_rhs;
    fit->tile_rows =
        fit->shape.batch.max_rows * m > TILE_ROWS ? fit->shape.batch.max_rows * m : TILE_ROWS;
    size_t tile = (size_t)(fit->tile_rows * fit->capacity * m);
    fit->tile = be->ops->alloc(be, tile * sizeof *fit->tile);
    if (!fit->tile)
        return la_fail(err, LA_RESOURCE, "out of memory on %s for the exact curvature: %.0f MiB",
                       be->device, la_mib((double)tile * sizeof *fit->tile));
    fit->tile_host = be->ops->in_place ? NULL : la_alloc(tile, sizeof *fit->tile_host, err);
    fit->gram = la_alloc((size_t)(fit->rows * fit->rows), sizeof *fit->gram, err);
    return err->status;
}

/* All rows are held: those of a part, to be stacked with those of the others, which is where they
 * are decomposed. */
static la_status open_stack(la_structure_fit *fit, la_error *err) {
    la_backend *be = fit->blocks->be;
    int64_t m = fit->shape.batch.n_rhs, n = fit->shape.n_rows;
    size_t available, total;
    be->ops->memory(be, &available, &total);
    double bytes = (double)(n * m) * (double)fit->width * sizeof *fit->held;
    if (n == fit->shape.n_all)
        LA_TRY(plan_held(fit, err));
    if (bytes > HELD_SHARE * (double)available)
        return la_fail(err, LA_RESOURCE,
                       "%s: not enough memory to stack %lld Jacobian rows of %lld parameters: %.0f "
                       "MiB, of %.0f MiB that are free; sum more parts, or give --curvature kron",
                       be->device, (long long)(n * m), (long long)fit->width, la_mib(bytes),
                       la_mib((double)available));
    fit->capacity = n;
    size_t count = (size_t)((n ? n * m : 1) * fit->width);
    fit->held = be->ops->alloc(be, count * sizeof *fit->held);
    if (!fit->held)
        return la_fail(err, LA_RESOURCE, "out of memory on %s for the exact curvature: %.0f MiB",
                       be->device, la_mib((double)count * sizeof *fit->held));
    return LA_OK;
}

static la_status open_memory(la_structure_fit *fit, la_error *err) {
    la_backend *be = fit->blocks->be;
    int64_t m = fit->shape.batch.n_rhs, held_rows;
    bool adds = fit->shape.adds;
    bool primal =
        fit->width <= PRIMAL_MOST && fit->width <= (adds ? fit->shape.n_all * m : fit->rows);
    fit->stage = START;
    if (!primal && adds)
        return open_stack(fit, err);
    if (!primal && is_sketched(fit))
        return la_exact_sketch_open(fit->blocks, &fit->shape, fit->offset, fit->width, &fit->sketch,
                                    err);
    if (primal) {
        held_rows = fit->shape.batch.max_rows * m;
        fit->sum = la_sums_add(&fit->sums, "whole", 0, "sum", fit->width, fit->width);
    } else {
        LA_TRY(plan_held(fit, err));
        held_rows = fit->capacity * m;
        LA_TRY(open_gram(fit, err));
    }
    fit->held = be->ops->alloc(be, (size_t)(held_rows * fit->width) * sizeof *fit->held);
    if (!fit->held || (primal && !fit->sum))
        return la_fail(err, LA_RESOURCE, "out of memory on %s for the exact curvature: %.0f MiB",
                       be->device, la_mib((double)(held_rows * fit->width) * sizeof *fit->held));
    return LA_OK;
}

int64_t *la_blocks_offsets(const la_blocks *blocks, la_error *err) {
    int64_t *offset = la_alloc((size_t)blocks->n, sizeof *offset, err), next = 0;
    for (int64_t b = 0; offset && b < blocks->n; b++) {
        offset[b] = next;
        next += blocks->list[b].out * blocks->list[b].in;
    }
    return offset;
}

static la_status fit_open(const la_blocks *blocks, const la_fit_shape *shape,
                          la_structure_fit **out, la_error *err) {
    *out = NULL;
    la_structure_fit *fit = la_alloc(1, sizeof *fit, err);
    if (!fit)
        return err->status;
    fit->blocks = blocks;
    fit->shape = *shape;
    fit->sums.be = blocks->be;
    fit->width = la_blocks_width(blocks);
    fit->rows = shape->n_rows * shape->batch.n_rhs;
    fit->offset = la_blocks_offsets(blocks, err);
    if (err->status == LA_OK)
        (void)la_jacobian_open(blocks, &shape->batch, NULL, &fit->jacobian, err);
    if (err->status == LA_OK)
        (void)open_memory(fit, err);
    if (err->status != LA_OK) {
        fit_close(fit);
        return err->status;
    }
    *out = fit;
    return LA_OK;
}

/* ---- a batch ---- */

/* Adds tile[n, held rows] to the Gram matrix at [row, column]. */
static void add_tile(la_structure_fit *fit, int64_t row, int64_t n, int64_t column, int64_t cols) {
    la_backend *be = fit->blocks->be;
    la_error ignored = {0};
    const float *tile = fit->tile;
    if (!be->ops->in_place) {
        be->ops->download(be, fit->tile_host, fit->tile, (size_t)(n * cols) * sizeof *tile);
        (void)be->ops->sync(
            be, &ignored); /* its fault is kept for the next sync with an error to fill */
        tile = fit->tile_host;
    }
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < n; i++) {
        double *to = fit->gram + (row + i) * fit->rows + column;
        for (int64_t j = 0; j < cols && column + j <= row + i; j++)
            to[j] += (double)tile[i * cols + j];
    }
}

static void flush_batch(la_structure_fit *fit) {
    la_backend *be = fit->blocks->be;
    int64_t m = fit->shape.batch.n_rhs;
    if (fit->pending && fit->stage == CROSS)
        add_tile(fit, fit->first * m, fit->n_rows * m, fit->from * m, (fit->to - fit->from) * m);
    if (fit->pending && fit->stage == PRIMAL) {
        la_mat rows = la_mat_f32(fit->held, fit->n_rows * m, fit->width);
        be->ops->factor_add(be, 1, &rows, fit->sum);
    }
    fit->pending = false;
}

static void fit_batch(la_structure_fit *fit, int64_t first, int64_t n_rows) {
    la_backend *be = fit->blocks->be;
    int64_t m = fit->shape.batch.n_rhs;
    if (fit->sketch) {
        la_exact_sketch_batch(fit->sketch, first, n_rows);
        return;
    }
    flush_batch(fit);
    fit->first = first;
    fit->n_rows = n_rows;
    fit->pending = fit->stage == CROSS || fit->stage == PRIMAL;
    if (fit->stage == CROSS)
        be->ops->zero(be, fit->tile,
                      (size_t)(n_rows * m * (fit->to - fit->from) * m) * sizeof *fit->tile);
    if (fit->stage == PRIMAL)
        be->ops->zero(be, fit->held, (size_t)(n_rows * m * fit->width) * sizeof *fit->held);
}

static void take(void *user, int64_t block, int64_t first, int64_t n_rows, int64_t n_rhs,
                 const la_mat *outer, const la_mat *rotated) {
    la_structure_fit *fit = user;
    la_backend *be = fit->blocks->be;
    int64_t count = fit->blocks->list[block].out * fit->blocks->list[block].in;
    int64_t column = fit->offset[block], n = n_rows * n_rhs;
    la_mat rows = la_mat_f32(outer->data, n, count);
    (void)rotated;
    if (fit->sketch) {
        la_exact_sketch_take(fit->sketch, block, first, n_rows, outer->data);
        return;
    }
    if (fit->stage == HOLD || fit->stage == PRIMAL) {
        int64_t at = first + (fit->stage == HOLD ? fit->first - fit->from : 0);
        la_mat to = {fit->held + at * n_rhs * fit->width + column, n, count, fit->width, LA_F32};
        be->ops->add(be, &rows, &to); /* to zeros */
    } else if (fit->stage == CROSS) {
        int64_t cols = (fit->to - fit->from) * n_rhs;
        la_mat held = {fit->held + column, cols, count, fit->width, LA_F32};
        la_mat tile = la_mat_f32(fit->tile + first * n_rhs * cols, n, cols);
        be->ops->gemm(be, false, true, 1, &rows, &held, 1, &tile);
    } else {
        la_mat weights = {fit->weights + (fit->first + first) * n_rhs, fit->rank, n, fit->rows,
                          LA_F32};
        la_mat to = {fit->directions + column, fit->rank, count, fit->width, LA_F32};
        be->ops->gemm(be, false, false, 1, &weights, &rows, 1, &to);
    }
}

static la_block_visitor fit_visitor(la_structure_fit *fit) {
    return la_jacobian_visitor(fit->jacobian, take, fit);
}

/* ---- what is kept of the rows so far ---- */

/* Bytes of an array that rows are handed over in. */
enum { KEPT_BYTES = 64 << 20 };

/* [P, P]; NULL: rows are held. */
static la_sums *fit_sums(la_structure_fit *fit) {
    flush_batch(fit);
    return fit->sum ? &fit->sums : NULL;
}

/* Rows [from, from + n) of G, as doubles. */
static la_status visit_rows(la_structure_fit *fit, const char *name, int64_t from, int64_t n,
                            bool takes_back, const la_array_visitor *visitor, la_error *err) {
    la_backend *be = fit->blocks->be;
    size_t count = (size_t)(n * fit->width);
    float *rows = la_alloc(count, sizeof *rows, err), *at = fit->held + from * fit->width;
    double *data = la_alloc(count, sizeof *data, err);
    la_status status = err->status;
    la_array array = {.name = name, .rows = n, .cols = fit->width, .data = data};
    if (status == LA_OK) {
        be->ops->download(be, rows, at, count * sizeof *rows);
        status = be->ops->sync(be, err);
    }
    for (size_t i = 0; status == LA_OK && i < count; i++)
        data[i] = (double)rows[i];
    if (status == LA_OK)
        status = visitor->visit(visitor->user, &array, err);
    for (size_t i = 0; status == LA_OK && takes_back && i < count; i++)
        rows[i] = (float)data[i];
    if (status == LA_OK && takes_back) {
        be->ops->upload(be, at, rows, count * sizeof *rows);
        status = be->ops->sync(be, err);
    }
    free(rows);
    free(data);
    return status;
}

static la_status fit_kept(la_structure_fit *fit, bool takes_back, const la_array_visitor *visitor,
                          bool *is_there, la_error *err) {
    int64_t piece = KEPT_BYTES / (int64_t)sizeof(double) / fit->width;
    bool all = !fit->sketch && fit->stage == HOLD && fit->capacity == fit->shape.n_rows;
    *is_there = all || (!fit->sketch && fit->stage == PRIMAL && fit->sum);
    if (*is_there && !all)
        return la_sums_visit(fit_sums(fit), takes_back, visitor, err);
    piece = piece > 0 ? piece : 1;
    for (int64_t from = 0, n; all && from < fit->rows; from += n) {
        n = fit->rows - from < piece ? fit->rows - from : piece;
        char name[48];
        snprintf(name, sizeof name, "rows/%lld", (long long)from);
        LA_TRY(visit_rows(fit, name, from, n, takes_back, visitor, err));
    }
    return LA_OK;
}

/* Each calibration row by itself, named by its number among all. */
static la_status fit_rows(la_structure_fit *fit, bool takes_back, const la_array_visitor *visitor,
                          la_error *err) {
    int64_t m = fit->shape.batch.n_rhs;
    if (!fit->shape.adds)
        return LA_UNSUPPORTED; /* which the caller says */
    for (int64_t i = 0; i < fit->shape.n_rows; i++) {
        char name[48];
        snprintf(name, sizeof name, LA_ARRAY_ROW "%012lld",
                 (long long)(fit->shape.first + i * fit->shape.step));
        LA_TRY(visit_rows(fit, name, i * m, m, takes_back, visitor, err));
    }
    return LA_OK;
}

/* ---- between passes ---- */

/* held held^T, block by block of parameters so that sums in f32 stay short. */
static void gram_of_held(la_structure_fit *fit) {
    la_backend *be = fit->blocks->be;
    int64_t m = fit->shape.batch.n_rhs, cols = (fit->to - fit->from) * m, start = fit->from * m;
    for (int64_t row = 0; row < cols; row += fit->tile_rows) {
        int64_t n = cols - row < fit->tile_rows ? cols - row : fit->tile_rows, upto = row + n;
        for (int64_t b = 0; b < fit->blocks->n; b++) {
            const la_block *block = &fit->blocks->list[b];
            float *at = fit->held + fit->offset[b];
            la_mat left = {at + row * fit->width, n, block->out * block->in, fit->width, LA_F32};
            la_mat right = {at, upto, block->out * block->in, fit->width, LA_F32};
            la_mat tile = la_mat_f32(fit->tile, n, upto);
            be->ops->gemm(be, false, true, 1, &left, &right, 0, &tile);
            add_tile(fit, start + row, n, start, upto);
        }
    }
}

static void begin_hold(la_structure_fit *fit, int64_t from, la_fit_pass *pass) {
    int64_t m = fit->shape.batch.n_rhs, all = fit->shape.n_rows;
    fit->stage = HOLD;
    fit->from = from;
    fit->to = from + fit->capacity < all ? from + fit->capacity : all;
    fit->blocks->be->ops->zero(fit->blocks->be, fit->held,
                               (size_t)((fit->to - from) * m * fit->width) * sizeof *fit->held);
    *pass = (la_fit_pass){fit->from, fit->to, true};
}

/* Decomposes `matrix` [n, n] (where sums live); keeps the eigenvalues that are more than rounding.
 * vectors[rank, n] from malloc. */
static la_status decompose(la_structure_fit *fit, double *matrix, int64_t n, float **vectors,
                           la_error *err) {
    la_backend *be = fit->blocks->be;
    la_directions *d = la_exact_directions(fit->posterior);
    int64_t rank = fit->shape.rank && fit->shape.rank < n ? fit->shape.rank : n;
    LA_TRY(la_device_trace(be, matrix, n, &d->trace, err));
    *vectors = la_alloc((size_t)(rank * n), sizeof **vectors, err);
    d->values = la_pool_take(&fit->posterior->pool, (size_t)rank, sizeof *d->values, err);
    LA_TRY(err->status);
    LA_TRY(la_exact_solve(be, matrix, n, rank, d->values, *vectors, err));
    while (rank > 1 && d->values[rank - 1] <= LEAST_SHARE * d->values[0])
        rank--;
    d->rank = fit->rank = rank;
    d->width = fit->width;
    return LA_OK;
}

/* Memory for V: on a host the posterior's own. */
static la_status open_directions(la_structure_fit *fit, la_error *err) {
    la_backend *be = fit->blocks->be;
    la_directions *d = la_exact_directions(fit->posterior);
    size_t count = (size_t)(d->rank * d->width);
    d->vectors = la_pool_take(&fit->posterior->pool, count, sizeof *d->vectors, err);
    LA_TRY(err->status);
    fit->directions = be->ops->in_place ? d->vectors : be->ops->alloc(be, count * sizeof(float));
    if (!fit->directions)
        return la_fail(err, LA_RESOURCE, "out of memory on %s for the exact curvature", be->device);
    be->ops->zero(be, fit->directions, count * sizeof(float));
    return LA_OK;
}

static la_status download_directions(la_structure_fit *fit, la_error *err) {
    la_backend *be = fit->blocks->be;
    la_directions *d = la_exact_directions(fit->posterior);
    if (!be->ops->in_place)
        be->ops->download(be, d->vectors, fit->directions,
                          (size_t)(d->rank * d->width) * sizeof(float));
    return be->ops->sync(be, err);
}

/* H's eigenvectors are the directions. */
static la_status finish_primal(la_structure_fit *fit, la_error *err) {
    float *vectors = NULL;
    la_directions *d = la_exact_directions(fit->posterior);
    flush_batch(fit);
    la_status status = fit->blocks->be->ops->sync(fit->blocks->be, err);
    if (status == LA_OK)
        status = decompose(fit, fit->sum, fit->width, &vectors, err);
    if (status == LA_OK) {
        size_t count = (size_t)(d->rank * d->width);
        d->vectors = la_pool_take(&fit->posterior->pool, count, sizeof *d->vectors, err);
        status = err->status;
        if (status == LA_OK)
            memcpy(d->vectors, vectors, count * sizeof *vectors);
    }
    free(vectors);
    return status;
}

static la_status solve_gram(la_structure_fit *fit, float **vectors, la_error *err) {
    la_backend *be = fit->blocks->be;
    int64_t n = fit->rows;
    if (be->ops->in_place)
        return decompose(fit, fit->gram, n, vectors, err);
    double *device = be->ops->alloc(be, (size_t)(n * n) * sizeof *device);
    if (!device)
        return la_fail(err, LA_RESOURCE, "out of memory on %s for the exact curvature", be->device);
    be->ops->upload(be, device, fit->gram, (size_t)(n * n) * sizeof *device);
    la_status status = decompose(fit, device, n, vectors, err);
    be->ops->release(be, device);
    return status;
}

/* V = diag(d)^-1/2 U^T G, at once where all of G is held. */
static la_status begin_projection(la_structure_fit *fit, la_fit_pass *pass, la_error *err) {
    la_backend *be = fit->blocks->be;
    float *vectors = NULL;
    bool all_held = fit->capacity == fit->shape.n_rows;
    la_status status = be->ops->sync(be, err);
    be->ops->release(be, fit->tile);
    fit->tile = NULL;
    if (!all_held) { /* room for the decomposition */
        be->ops->release(be, fit->held);
        fit->held = NULL;
    }
    if (status == LA_OK)
        status = solve_gram(fit, &vectors, err);
    free(fit->gram);
    fit->gram = NULL;
    for (int64_t i = 0; status == LA_OK && i < fit->rank; i++) {
        float scale = (float)(1 / sqrt(la_exact_directions(fit->posterior)->values[i]));
        for (int64_t j = 0; j < fit->rows; j++)
            vectors[i * fit->rows + j] *= scale;
    }
    if (status == LA_OK) {
        fit->weights = la_device_copy(be, vectors, (size_t)(fit->rank * fit->rows), err);
        status = err->status;
    }
    free(vectors);
    LA_TRY(status);
    LA_TRY(open_directions(fit, err));
    fit->stage = PROJECT;
    if (!all_held) {
        *pass = (la_fit_pass){0, fit->shape.n_rows, true};
        return LA_OK;
    }
    la_mat weights = la_mat_f32(fit->weights, fit->rank, fit->rows);
    la_mat rows = la_mat_f32(fit->held, fit->rows, fit->width);
    la_mat to = la_mat_f32(fit->directions, fit->rank, fit->width);
    be->ops->gemm(be, false, false, 1, &weights, &rows, 0, &to);
    return download_directions(fit, err);
}

static la_status fit_next(la_structure_fit *fit, la_posterior *posterior, la_fit_pass *pass,
                          la_error *err) {
    int64_t all = fit->shape.n_rows;
    *pass = (la_fit_pass){0};
    fit->posterior = posterior;
    if (fit->sketch)
        return la_exact_sketch_next(fit->sketch, posterior, pass, err);
    switch (fit->stage) {
    case START:
        fit->stage = PRIMAL;
        if (fit->sum)
            *pass = (la_fit_pass){0, all, true};
        else
            begin_hold(fit, 0, pass);
        return LA_OK;
    case PRIMAL:
        LA_TRY(finish_primal(fit, err));
        break;
    case HOLD:
        if (!fit->gram)
            LA_TRY(open_gram(fit, err));
        gram_of_held(fit);
        if (fit->to < all) {
            fit->stage = CROSS;
            *pass = (la_fit_pass){fit->to, all, true};
            return LA_OK;
        }
        LA_TRY(begin_projection(fit, pass, err));
        if (pass->more)
            return LA_OK;
        break;
    case CROSS:
        flush_batch(fit);
        begin_hold(fit, fit->to, pass);
        return LA_OK;
    case PROJECT:
        LA_TRY(download_directions(fit, err));
        break;
    case DONE:
        break;
    }
    fit->stage = DONE;
    return LA_OK;
}

const la_fit_kind la_exact_fit = {.bytes = fit_bytes,
                                  .open = fit_open,
                                  .next = fit_next,
                                  .batch = fit_batch,
                                  .visitor = fit_visitor,
                                  .kept = fit_kept,
                                  .sums = fit_sums,
                                  .rows = fit_rows,
                                  .close = fit_close};
