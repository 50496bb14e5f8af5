#include "bayes/exact_sketch.h"
#include "base/blas.h"
#include "base/random.h"
#include "bayes/jacobian.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OVERSAMPLING = 64, /* and an eighth of the rank */
    CHUNK = 2048,      /* parameters that are turned, or summed in f32, at a time */
    ROUNDS = 6         /* of orthonormalisation, at most */
};

/* Any number: the result must not depend on it by more than the sketch's error. */
#define SEED UINT64_C(0x6c61706c6f726131)
/* Eigenvalues this small beside the largest are rounding of products in f32. */
#define LEAST_SHARE 1e-8
/* H Q of smaller Ritz values is rounding of the larger ones. */
#define POWER_SHARE 1e-6
/* A Gram matrix of f32 columns says nothing of squares below the first; squares that remain below
 * the second after two rounds are columns of rounding. */
#define CLIPPED 1e-6
#define DROPPED 1e-2
#define ORTHONORMAL 0.5

typedef enum stage { START, RANGE, POWER, RITZ, DONE } stage;

struct la_exact_sketch {
    const la_blocks *blocks;
    la_fit_shape shape;
    const int64_t *offset;
    stage stage;
    int64_t width, most, cols; /* P; l; columns of the basis, which are fewer where G's rank is */
    float *basis;              /* [P, most], a parameter a row */
    float *image;              /* [P, most] H times the basis; the second pass alone */
    float *held;               /* [max_rows m, P] of a batch; the second pass alone */
    float *weights;            /* [max_rows m, most] of a batch: Omega, or W */
    float *weights_host;
    float *turned; /* [CHUNK, most] */
    double *core;  /* [most, most] T, or a Gram matrix */
    double *trace; /* one, where factor sums live */
    int64_t first, n_rows;
    bool pending; /* W of a batch is complete and not summed */
};

int64_t la_exact_sketch_width(int64_t rank) {
    return rank + rank / 8 + OVERSAMPLING;
}

bool la_exact_sketch_is_for(const la_fit_shape *shape) {
    int64_t rows = shape->n_rows * shape->batch.n_rhs;
    return shape->rank && (!rows || 2 * la_exact_sketch_width(shape->rank) <= rows);
}

size_t la_exact_sketch_bytes(const la_fit_shape *shape, int64_t width) {
    size_t l = (size_t)la_exact_sketch_width(shape->rank);
    size_t rows = (size_t)(shape->batch.max_rows * shape->batch.n_rhs), p = (size_t)width;
    return (2 * p * l + rows * p + rows * l + CHUNK * l + l * l) * sizeof(float) +
           (l * l + 1) * sizeof(double);
}

static void release(la_backend *be, float **memory) {
    be->ops->release(be, *memory);
    *memory = NULL;
}

void la_exact_sketch_close(la_exact_sketch *s) {
    if (!s)
        return;
    la_backend *be = s->blocks->be;
    release(be, &s->basis);
    release(be, &s->image);
    release(be, &s->held);
    release(be, &s->weights);
    release(be, &s->turned);
    be->ops->release(be, s->core);
    be->ops->release(be, s->trace);
    free(s->weights_host);
    free(s);
}

static la_status out_of_memory(const la_exact_sketch *s, la_error *err) {
    const la_fit_shape *shape = &s->shape;
    size_t available, total;
    s->blocks->be->ops->memory(s->blocks->be, &available, &total);
    return la_fail(err, LA_RESOURCE,
                   "%s: not enough memory for %lld eigenpairs of the exact curvature: sketch of "
                   "%lld x %lld parameters and a batch of rows %.0f MiB, eigenvectors %.0f MiB, "
                   "but %.0f MiB are free; give a smaller --rank, or --curvature kron",
                   s->blocks->be->device, (long long)shape->rank, (long long)s->most,
                   (long long)s->width, la_mib((double)la_exact_sketch_bytes(shape, s->width)),
                   la_mib((double)(shape->rank * s->width) * sizeof(float)),
                   la_mib((double)available));
}

static float *take_zeros(la_backend *be, int64_t rows, int64_t cols) {
    size_t bytes = (size_t)(rows * cols) * sizeof(float);
    float *memory = be->ops->alloc(be, bytes);
    if (memory)
        be->ops->zero(be, memory, bytes);
    return memory;
}

la_status la_exact_sketch_open(const la_blocks *blocks, const la_fit_shape *shape,
                               const int64_t *offset, int64_t width, la_exact_sketch **out,
                               la_error *err) {
    la_backend *be = blocks->be;
    size_t available, total;
    *out = NULL;
    la_exact_sketch *s = la_alloc(1, sizeof *s, err);
    if (!s)
        return err->status;
    *s = (la_exact_sketch){
        .blocks = blocks, .shape = *shape, .offset = offset, .stage = START, .width = width};
    s->most = s->cols = la_exact_sketch_width(shape->rank);
    int64_t rows = shape->batch.max_rows * shape->batch.n_rhs;
    be->ops->memory(be, &available, &total);
    if (la_exact_sketch_bytes(shape, width) + (size_t)(shape->rank * width) * sizeof(float) >
        available) {
        (void)out_of_memory(s, err);
    } else {
        s->basis = take_zeros(be, width, s->most);
        s->weights = be->ops->alloc(be, (size_t)(rows * s->most) * sizeof *s->weights);
        s->turned = be->ops->alloc(be, (size_t)(CHUNK * s->most) * sizeof *s->turned);
        s->core = be->ops->alloc(be, (size_t)(s->most * s->most) * sizeof *s->core);
        s->trace = be->ops->alloc(be, sizeof *s->trace);
        if (!s->basis || !s->weights || !s->turned || !s->core || !s->trace)
            (void)out_of_memory(s, err);
        else
            be->ops->zero(be, s->trace, sizeof *s->trace);
        if (err->status == LA_OK)
            s->weights_host = la_alloc((size_t)(rows * s->most), sizeof *s->weights_host, err);
    }
    if (err->status != LA_OK) {
        la_exact_sketch_close(s);
        return err->status;
    }
    *out = s;
    return LA_OK;
}

/* ---- a batch ---- */

static void flush_batch(la_exact_sketch *s) {
    la_backend *be = s->blocks->be;
    int64_t n = s->n_rows * s->shape.batch.n_rhs;
    la_mat w = {s->weights, n, s->cols, s->most, LA_F32};
    if (!s->pending)
        return;
    s->pending = false;
    be->ops->factor_add(be, 1, &w, s->core);
    if (s->stage != POWER)
        return;
    la_mat rows = la_mat_f32(s->held, n, s->width);
    la_mat image = {s->image, s->width, s->cols, s->most, LA_F32};
    be->ops->gemm(be, true, false, 1, &rows, &w, 1, &image);
}

/* Omega's rows of the batch, each its own stream. */
static void draw_weights(la_exact_sketch *s) {
    la_backend *be = s->blocks->be;
    int64_t m = s->shape.batch.n_rhs, rows = s->n_rows * m, l = s->most;
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t i = 0; i < rows; i++) {
        double some[64];
        for (int64_t j = 0; j < l; j += 64) {
            int64_t n = l - j < 64 ? l - j : 64;
            la_random_normal(SEED, (uint64_t)(s->first * m + i), (uint64_t)j, (size_t)n, some);
            for (int64_t k = 0; k < n; k++)
                s->weights_host[i * l + j + k] = (float)some[k];
        }
    }
    be->ops->upload(be, s->weights, s->weights_host, (size_t)(rows * l) * sizeof *s->weights);
}

void la_exact_sketch_batch(la_exact_sketch *s, int64_t first, int64_t n_rows) {
    la_backend *be = s->blocks->be;
    size_t rows = (size_t)(n_rows * s->shape.batch.n_rhs);
    flush_batch(s);
    s->first = first;
    s->n_rows = n_rows;
    s->pending = s->stage != RANGE;
    if (s->stage == RANGE)
        draw_weights(s);
    else
        be->ops->zero(be, s->weights, rows * (size_t)s->most * sizeof *s->weights);
    if (s->stage == POWER)
        be->ops->zero(be, s->held, rows * (size_t)s->width * sizeof *s->held);
}

void la_exact_sketch_take(la_exact_sketch *s, int64_t block, int64_t first, int64_t n_rows,
                          float *data) {
    la_backend *be = s->blocks->be;
    const la_block *of = &s->blocks->list[block];
    int64_t m = s->shape.batch.n_rhs, count = of->out * of->in, column = s->offset[block];
    la_mat rows = la_mat_f32(data, n_rows * m, count);
    la_mat weights = {s->weights + first * m * s->most, n_rows * m, s->cols, s->most, LA_F32};
    la_mat basis = {s->basis + column * s->most, count, s->cols, s->most, LA_F32};
    if (s->stage == RANGE) {
        be->ops->square_add(be, 1, &rows, s->trace);
        be->ops->gemm(be, true, false, 1, &rows, &weights, 1, &basis);
        return;
    }
    be->ops->gemm(be, false, false, 1, &rows, &basis, 1, &weights);
    if (s->stage == POWER) {
        la_mat to = {s->held + first * m * s->width + column, rows.rows, count, s->width, LA_F32};
        be->ops->add(be, &rows, &to); /* to zeros */
    }
}

/* ---- between passes ---- */

la_status la_exact_solve(la_backend *be, double *matrix, int64_t n, int64_t rank, double *values,
                         float *vectors, la_error *err) {
    la_eigen problem = {.name = "the exact curvature",
                        .n = n,
                        .rank = rank,
                        .a = matrix,
                        .values = values,
                        .vectors = vectors};
    LA_TRY(be->ops->eigh(be, 1, &problem, err));
    return values[0] > 0
               ? LA_OK
               : la_fail(err, LA_NUMERICAL, "the exact curvature is zero; is the adapter trained?");
}

/* The largest n eigenpairs of the core, cols wide; values and vectors [n, cols] from malloc. */
static la_status decompose(la_exact_sketch *s, int64_t n, double **values, float **vectors,
                           la_error *err) {
    *values = la_alloc((size_t)n, sizeof **values, err);
    *vectors = la_alloc((size_t)(n * s->cols), sizeof **vectors, err);
    LA_TRY(err->status);
    return la_exact_solve(s->blocks->be, s->core, s->cols, n, *values, *vectors, err);
}

/* basis = basis turn^T + image image_turn^T, both turns [cols, s->cols] on the host; image_turn
 * NULL: the first alone. */
static la_status turn_basis(la_exact_sketch *s, const float *turn, const float *image_turn,
                            int64_t cols, la_error *err) {
    la_backend *be = s->blocks->be;
    size_t count = (size_t)(cols * s->cols);
    float *on_device = la_device_copy(be, turn, count, err), *second = NULL;
    if (on_device && image_turn)
        second = la_device_copy(be, image_turn, count, err);
    for (int64_t from = 0; err->status == LA_OK && from < s->width; from += CHUNK) {
        int64_t n = s->width - from < CHUNK ? s->width - from : CHUNK;
        la_mat old = {s->basis + from * s->most, n, s->cols, s->most, LA_F32};
        la_mat by = la_mat_f32(on_device, cols, s->cols), to = la_mat_f32(s->turned, n, cols);
        be->ops->gemm(be, false, true, 1, &old, &by, 0, &to);
        if (second) {
            la_mat image = {s->image + from * s->most, n, s->cols, s->most, LA_F32};
            la_mat image_by = la_mat_f32(second, cols, s->cols);
            be->ops->gemm(be, false, true, 1, &image, &image_by, 1, &to);
        }
        be->ops->zero(be, old.data, (size_t)(n * s->most) * sizeof(float));
        old.cols = cols;
        be->ops->add(be, &to, &old);
    }
    release(be, &on_device);
    release(be, &second);
    s->cols = cols;
    return err->status;
}

static void scale_row(int64_t n, float by, float *row) {
    for (int64_t i = 0; i < n; i++)
        row[i] *= by;
}

/* turn [n, n] = vectors^T scaled, whose rows are scaled eigenvectors: the symmetric root, which
 * leaves columns that are nearly orthonormal in their places. */
static la_status make_symmetric(la_team team, int64_t n, const double *squares, float *turn,
                                la_error *err) {
    float *scaled = la_alloc((size_t)(n * n), sizeof *scaled, err);
    if (!scaled)
        return err->status;
    memcpy(scaled, turn, (size_t)(n * n) * sizeof *scaled);
    for (int64_t i = 0; i < n; i++)
        scale_row(n, (float)pow(squares[i], -0.25), scaled + i * n);
    la_team_ssyrk(team, n, n, scaled, n, turn, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            turn[j * n + i] = turn[i * n + j];
    free(scaled);
    return LA_OK;
}

/* One round: the basis through the inverse root of its Gram matrix. *least: the smallest square
 * that was there, of the largest. The first puts the columns in the order of their singular values,
 * and the others leave it: products with G then are small where their column is, and so is
 * rounding. */
static la_status orthonormalise_once(la_exact_sketch *s, int round, double *least, la_error *err) {
    la_backend *be = s->blocks->be;
    double *squares = NULL;
    float *turn = NULL;
    be->ops->zero(be, s->core, (size_t)(s->cols * s->cols) * sizeof *s->core);
    for (int64_t from = 0; from < s->width; from += CHUNK) {
        int64_t n = s->width - from < CHUNK ? s->width - from : CHUNK;
        la_mat rows = {s->basis + from * s->most, n, s->cols, s->most, LA_F32};
        be->ops->factor_add(be, 1, &rows, s->core);
    }
    la_status status = decompose(s, s->cols, &squares, &turn, err);
    if (status == LA_OK) {
        int64_t cols = s->cols;
        *least = squares[cols - 1] / squares[0];
        while (round >= 2 && squares[cols - 1] <= DROPPED * squares[0])
            cols--;
        for (int64_t i = 0; i < cols; i++)
            squares[i] = fmax(squares[i], CLIPPED * squares[0]);
        if (round && cols == s->cols)
            status = make_symmetric(be->team, cols, squares, turn, err);
        else
            for (int64_t i = 0; i < cols; i++)
                scale_row(s->cols, (float)(1 / sqrt(squares[i])), turn + i * s->cols);
        if (status == LA_OK)
            status = turn_basis(s, turn, NULL, cols, err);
    }
    free(squares);
    free(turn);
    return status;
}

/* ordered: the columns are in their order, and stay there. */
static la_status orthonormalise(la_exact_sketch *s, bool ordered, la_error *err) {
    double least = 0;
    for (int round = ordered; round < ROUNDS && !(least > ORTHONORMAL); round++)
        LA_TRY(orthonormalise_once(s, round, &least, err));
    return LA_OK;
}

static la_status begin_power(la_exact_sketch *s, la_error *err) {
    la_backend *be = s->blocks->be;
    LA_TRY(orthonormalise(s, false, err));
    s->image = take_zeros(be, s->width, s->most);
    /* batches rarely have max_rows: what they do not use is never touched */
    s->held = be->ops->alloc(
        be, (size_t)(s->shape.batch.max_rows * s->shape.batch.n_rhs * s->width) * sizeof *s->held);
    if (!s->image || !s->held)
        return out_of_memory(s, err);
    be->ops->zero(be, s->core, (size_t)(s->cols * s->cols) * sizeof *s->core);
    s->stage = POWER;
    return LA_OK;
}

static la_status begin_ritz(la_exact_sketch *s, la_error *err) {
    la_backend *be = s->blocks->be;
    double *values = NULL;
    float *turn = NULL;
    int64_t n = s->cols;
    flush_batch(s);
    la_status status = decompose(s, n, &values, &turn, err);
    float *image_turn = la_alloc((size_t)(n * n), sizeof *image_turn, err);
    if (status == LA_OK && image_turn) {
        for (int64_t i = 0; i < n && values[i] > POWER_SHARE * values[0]; i++)
            for (int64_t j = 0; j < n; j++) {
                image_turn[i * n + j] = turn[i * n + j] / (float)values[i];
                turn[i * n + j] = 0;
            }
        (void)turn_basis(s, turn, image_turn, n, err);
    }
    free(values);
    free(turn);
    free(image_turn);
    release(be, &s->image);
    release(be, &s->held);
    LA_TRY(err->status);
    LA_TRY(orthonormalise(s, true, err));
    be->ops->zero(be, s->core, (size_t)(s->cols * s->cols) * sizeof *s->core);
    s->stage = RITZ;
    return LA_OK;
}

/* vectors [rank, P] = turn [rank, cols] basis^T, on a host in the posterior's own memory. */
static la_status write_vectors(la_exact_sketch *s, const float *turn, la_directions *d,
                               la_error *err) {
    la_backend *be = s->blocks->be;
    size_t bytes = (size_t)(d->rank * d->width) * sizeof(float);
    float *memory = be->ops->in_place ? d->vectors : be->ops->alloc(be, bytes);
    float *on_device = la_device_copy(be, turn, (size_t)(d->rank * s->cols), err);
    if (!memory)
        (void)out_of_memory(s, err);
    if (err->status == LA_OK) {
        la_mat by = la_mat_f32(on_device, d->rank, s->cols);
        la_mat basis = {s->basis, s->width, s->cols, s->most, LA_F32};
        la_mat to = la_mat_f32(memory, d->rank, d->width);
        be->ops->gemm(be, false, true, 1, &by, &basis, 0, &to);
        if (!be->ops->in_place)
            be->ops->download(be, d->vectors, memory, bytes);
        (void)be->ops->sync(be, err);
    }
    if (!be->ops->in_place)
        release(be, &memory);
    release(be, &on_device);
    return err->status;
}

static la_status finish(la_exact_sketch *s, la_posterior *posterior, la_error *err) {
    la_backend *be = s->blocks->be;
    la_directions *d = la_exact_directions(posterior);
    double *values = NULL;
    float *turn = NULL;
    int64_t rank = s->shape.rank < s->cols ? s->shape.rank : s->cols;
    flush_batch(s);
    la_status status = decompose(s, rank, &values, &turn, err);
    while (status == LA_OK && rank > 1 && values[rank - 1] <= LEAST_SHARE * values[0])
        rank--;
    if (status == LA_OK) {
        *d = (la_directions){.rank = rank, .width = s->width};
        be->ops->download(be, &d->trace, s->trace, sizeof d->trace);
        d->values = la_pool_take(&posterior->pool, (size_t)rank, sizeof *d->values, err);
        d->vectors =
            la_pool_take(&posterior->pool, (size_t)(rank * s->width), sizeof *d->vectors, err);
        status = err->status;
    }
    if (status == LA_OK) {
        memcpy(d->values, values, (size_t)rank * sizeof *values);
        status = write_vectors(s, turn, d, err);
    }
    free(values);
    free(turn);
    return status;
}

la_status la_exact_sketch_next(la_exact_sketch *s, la_posterior *posterior, la_fit_pass *pass,
                               la_error *err) {
    *pass = (la_fit_pass){.to = s->shape.n_rows, .more = true};
    switch (s->stage) {
    case START:
        s->stage = RANGE;
        return LA_OK;
    case RANGE:
        return begin_power(s, err);
    case POWER:
        return begin_ritz(s, err);
    case RITZ:
        LA_TRY(finish(s, posterior, err));
        break;
    case DONE:
        break;
    }
    s->stage = DONE;
    *pass = (la_fit_pass){0};
    return LA_OK;
}
