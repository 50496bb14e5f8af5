/* Kronecker-factored curvature with the exact Fisher: sums over a calibration set and their
 * eigendecomposition.
 *
 *   expand: H = (1/R) (sum_nt a a^T) (x) (sum_nt sum_s g_s g_s^T)
 *   reduce: H = (1/N) (sum_n abar abar^T) (x) (sum_n sum_s (sum_t g_s)(sum_t g_s)^T)
 *
 * where abar is the mean over a row's tokens and the right-hand sides s are the C-1 columns of S,
 * S S^T = diag(p) - p p^T. Blocks that read the same matrix share one input sum. A batch is summed
 * in f32, the batches into each other in f64. */
#include "bayes/kron.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct la_curvature_fit {
    la_model *model;
    la_kron kron;
    double **inputs; /* [n_inputs] sums [n, n] on the device, lower triangle; NULL: not wanted */
    int64_t *input_size; /* [n_inputs] */
    bool *input_per_row; /* [n_inputs] */
    bool *input_done;    /* [n_inputs] in this batch */
    double **outputs;    /* [n_blocks] */
    float *segments;     /* workspace for row sums */
    double *squares;     /* [n_blocks] reduce: squared cotangents token by token, on the device */
};

/* Row sums that are this small beside their terms are rounding: the terms cancel. They do for key
 * projections, since attention does not see a shift that all keys of a row share; what is left of
 * them is no curvature. */
#define CANCELLED 1e-10

static void fit_close(la_curvature_fit *fit) {
    if (!fit)
        return;
    la_backend *be = fit->model->be;
    for (int64_t i = 0; fit->inputs && i < fit->model->n_inputs; i++)
        if (fit->inputs[i])
            be->ops->release(be, fit->inputs[i]);
    for (int64_t b = 0; fit->outputs && b < fit->model->n_blocks; b++)
        if (fit->outputs[b])
            be->ops->release(be, fit->outputs[b]);
    if (fit->segments)
        be->ops->release(be, fit->segments);
    if (fit->squares)
        be->ops->release(be, fit->squares);
    free(fit->inputs);
    free(fit->input_size);
    free(fit->input_per_row);
    free(fit->input_done);
    free(fit->outputs);
    free(fit);
}

static double *new_sum(la_backend *be, int64_t n, const char *name, la_error *err) {
    size_t bytes = (size_t)(n * n) * sizeof(double);
    double *sum = be->ops->alloc(be, bytes);
    if (!sum) {
        la_fail(err, LA_RESOURCE, "out of memory on %s: %.1f MiB for a %lld x %lld factor of %s",
                be->device, (double)bytes / 1048576.0, (long long)n, (long long)n, name);
        return NULL;
    }
    be->ops->zero(be, sum, bytes);
    return sum;
}

static la_status fit_open(la_model *model, la_kron kron, int64_t max_rows, int64_t n_rhs,
                          la_curvature_fit **out, la_error *err) {
    *out = NULL;
    la_curvature_fit *fit = la_alloc(1, sizeof *fit, err);
    if (!fit)
        return err->status;
    size_t inputs = (size_t)model->n_inputs, blocks = (size_t)model->n_blocks;
    int64_t widest = 0;
    fit->model = model;
    fit->kron = kron;
    fit->inputs = la_alloc(inputs, sizeof *fit->inputs, err);
    fit->input_size = la_alloc(inputs, sizeof *fit->input_size, err);
    fit->input_per_row = la_alloc(inputs, sizeof *fit->input_per_row, err);
    fit->input_done = la_alloc(inputs, sizeof *fit->input_done, err);
    fit->outputs = la_alloc(blocks, sizeof *fit->outputs, err);
    for (int64_t b = 0; err->status == LA_OK && b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        if (!block->wanted)
            continue;
        if (!fit->inputs[block->input])
            fit->inputs[block->input] = new_sum(model->be, block->in, block->name, err);
        fit->input_size[block->input] = block->in;
        fit->input_per_row[block->input] = block->per_row;
        if (err->status == LA_OK)
            fit->outputs[b] = new_sum(model->be, block->out, block->name, err);
        widest = block->in > widest ? block->in : widest;
        widest = block->out > widest ? block->out : widest;
    }
    if (err->status == LA_OK && kron == LA_KRON_REDUCE) {
        size_t count = (size_t)(max_rows * (n_rhs > 1 ? n_rhs : 1) * widest);
        fit->segments = model->be->ops->alloc(model->be, count * sizeof(float));
        fit->squares = model->be->ops->alloc(model->be, blocks * sizeof(double));
        if (!fit->segments || !fit->squares)
            la_fail(err, LA_RESOURCE, "out of memory for row sums; lower --batch-tokens");
        else
            model->be->ops->zero(model->be, fit->squares, blocks * sizeof(double));
    }
    if (err->status != LA_OK) {
        fit_close(fit);
        return err->status;
    }
    *out = fit;
    return LA_OK;
}

static void fit_batch(la_curvature_fit *fit) {
    memset(fit->input_done, 0, (size_t)fit->model->n_inputs * sizeof *fit->input_done);
}

static void visit(void *user, int64_t number, const la_block_io *io) {
    la_curvature_fit *fit = user;
    la_backend *be = fit->model->be;
    const la_block *block = &fit->model->blocks[number];
    bool reduce = fit->kron == LA_KRON_REDUCE && !block->per_row;
    if (!fit->input_done[block->input]) {
        fit->input_done[block->input] = true;
        la_mat x = *io->x;
        if (reduce) {
            x = la_mat_f32(fit->segments, io->n_rows, block->in);
            be->ops->segment_sum(be, io->x, 1, io->n_rows, io->cu, true, &x);
        }
        be->ops->factor_add(be, 1, &x, fit->inputs[block->input]);
    }
    la_mat g = *io->g;
    double scale = (double)io->g_scale * (double)io->g_scale;
    if (reduce) {
        be->ops->square_add(be, scale, io->g, fit->squares + number);
        g = la_mat_f32(fit->segments, io->n_rhs * io->n_rows, block->out);
        be->ops->segment_sum(be, io->g, io->n_rhs, io->n_rows, io->cu_g, false, &g);
    }
    be->ops->factor_add(be, scale, &g, fit->outputs[number]);
}

static la_block_visitor fit_visitor(la_curvature_fit *fit) {
    return (la_block_visitor){visit, fit};
}

/* ---- decomposition ---- */

/* Ascending eigenpairs in full -> the rank largest, descending, in f32 vectors. */
static la_status keep_largest(int64_t n, int64_t rank, const double *values, const double *vectors,
                              const char *name, la_pool *pool, la_factor *factor, la_error *err) {
    *factor = (la_factor){.n = n, .rank = rank};
    factor->values = la_pool_take(pool, (size_t)rank, sizeof *factor->values, err);
    factor->vectors = la_pool_take(pool, (size_t)(rank * n), sizeof *factor->vectors, err);
    if (!factor->values || !factor->vectors)
        return err->status;
    double top = values[n - 1];
    /* sums of f32 products: what is negative beyond their rounding is no rounding */
    if (values[0] < -1e-4 * top || top < 0)
        return la_fail(err, LA_NUMERICAL,
                       "%s: a curvature factor is not positive semi-definite: eigenvalues %g to %g",
                       name, values[0], top);
    for (int64_t i = 0; i < rank; i++) {
        int64_t from = n - 1 - i;
        factor->values[i] = values[from] > 0 ? values[from] : 0;
        for (int64_t j = 0; j < n; j++)
            factor->vectors[i * n + j] = (float)vectors[from * n + j];
    }
    return LA_OK;
}

typedef struct decomposition {
    int64_t count;
    int64_t *n, *rank;
    double **sums, **values;
    const char **names;
    la_factor **targets;
} decomposition;

static double trace_of(const double *sum, int64_t n) {
    double trace = 0;
    for (int64_t i = 0; i < n; i++)
        trace += sum[i * n + i];
    return trace;
}

static void free_decomposition(decomposition *d) {
    for (int64_t i = 0; i < d->count; i++) {
        if (d->sums)
            free(d->sums[i]);
        if (d->values)
            free(d->values[i]);
    }
    free(d->n);
    free(d->rank);
    free(d->sums);
    free(d->values);
    free(d->names);
    free(d->targets);
}

static la_status add_matrix(decomposition *d, la_backend *be, const double *sum, int64_t n,
                            int64_t rank, const char *name, la_factor *target, la_error *err) {
    int64_t i = d->count++;
    size_t bytes = (size_t)(n * n) * sizeof(double);
    d->n[i] = n;
    d->rank[i] = rank && rank < n ? rank : n;
    d->names[i] = name;
    d->targets[i] = target;
    d->sums[i] = la_alloc((size_t)(n * n), sizeof(double), err);
    d->values[i] = la_alloc((size_t)n, sizeof(double), err);
    if (err->status != LA_OK)
        return err->status;
    be->ops->download(be, d->sums[i], sum, bytes);
    return LA_OK;
}

static la_status fit_finish(la_curvature_fit *fit, int64_t rank, la_posterior *posterior,
                            la_error *err) {
    la_model *model = fit->model;
    la_backend *be = model->be;
    la_pool *pool = &posterior->pool;
    size_t most = (size_t)(model->n_inputs + model->n_blocks);
    la_status status = be->ops->sync(be, err);
    decomposition d = {.n = la_alloc(most, sizeof *d.n, err),
                       .rank = la_alloc(most, sizeof *d.rank, err),
                       .sums = la_alloc(most, sizeof *d.sums, err),
                       .values = la_alloc(most, sizeof *d.values, err),
                       .names = la_alloc(most, sizeof *d.names, err),
                       .targets = la_alloc(most, sizeof *d.targets, err)};
    int64_t *input_number = la_alloc((size_t)model->n_inputs, sizeof *input_number, err);
    posterior->blocks = la_pool_take(pool, (size_t)model->n_blocks, sizeof *posterior->blocks, err);
    posterior->inputs = la_pool_take(pool, (size_t)model->n_inputs, sizeof *posterior->inputs, err);
    if (err->status != LA_OK) {
        status = err->status;
        goto done;
    }
    for (int64_t i = 0; i < model->n_inputs; i++)
        input_number[i] = -1;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        if (!block->wanted)
            continue;
        la_posterior_block *to = &posterior->blocks[posterior->n_blocks++];
        bool input_is_larger = block->in >= block->out;
        if (input_number[block->input] < 0) {
            input_number[block->input] = posterior->n_inputs++;
            LA_TRY_DONE(add_matrix(&d, be, fit->inputs[block->input], block->in,
                                   input_is_larger ? rank : 0, block->name,
                                   &posterior->inputs[input_number[block->input]], err));
        }
        LA_TRY_DONE(add_matrix(&d, be, fit->outputs[b], block->out, input_is_larger ? 0 : rank,
                               block->name, &to->output, err));
        double rows = (double)posterior->n_rows, tokens = (double)posterior->n_tokens;
        to->name = la_pool_text(pool, block->name, strlen(block->name), err);
        to->out = block->out;
        to->in = block->in;
        to->input = input_number[block->input];
        to->denominator = block->is_head || fit->kron == LA_KRON_REDUCE ? rows : tokens;
        to->theta_square = block->theta_square;
        to->trace_out = trace_of(d.sums[d.count - 1], block->out);
        if (fit->kron == LA_KRON_REDUCE && !block->per_row) {
            double squares;
            be->ops->download(be, &squares, fit->squares + b, sizeof squares);
            if (to->trace_out <= CANCELLED * squares) {
                memset(d.sums[d.count - 1], 0, (size_t)(block->out * block->out) * sizeof(double));
                to->trace_out = 0;
            }
        }
        if (!to->name) {
            status = err->status;
            goto done;
        }
    }
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        for (int64_t i = 0; i < d.count; i++)
            if (d.targets[i] == &posterior->inputs[posterior->blocks[b].input])
                posterior->blocks[b].trace_in = trace_of(d.sums[i], d.n[i]);
    LA_TRY_DONE(be->ops->eigh(be, d.count, d.n, d.sums, d.values, d.names, err));
    for (int64_t i = 0; i < d.count; i++)
        LA_TRY_DONE(keep_largest(d.n[i], d.rank[i], d.values[i], d.sums[i], d.names[i], pool,
                                 d.targets[i], err));
done:
    free_decomposition(&d);
    free(input_number);
    return status;
}

const la_curvature_kind la_curvature_kron = {
    .name = "kron",
    .fit_open = fit_open,
    .fit_batch = fit_batch,
    .fit_visitor = fit_visitor,
    .fit_finish = fit_finish,
    .fit_close = fit_close,
    .cov_open = la_kron_cov_open,
    .cov_batch = la_kron_cov_batch,
    .cov_visitor = la_kron_cov_visitor,
    .cov_read = la_kron_cov_read,
    .cov_close = la_kron_cov_close,
};
