/* Kronecker-factored curvature with the exact Fisher: sums over a calibration set and their
 * eigendecomposition.
 *
 *   expand: H = (1/R) (sum_nt a a^T) (x) (sum_nt sum_s g_s g_s^T)
 *   reduce: H = (1/N) (sum_n abar abar^T) (x) (sum_n sum_s (sum_t g_s)(sum_t g_s)^T)
 *
 * where abar is the mean over a row's tokens and the right-hand sides s are the C-1 columns of S,
 * S S^T = diag(p) - p p^T. Blocks that read the same matrix share one input sum. A batch is summed
 * in f32, the batches into each other in f64. Of a larger side from which few eigenpairs are kept only
 * a sketch is summed (nystrom.h). EKFAC adds a second pass over the rows, which measures
 * the eigenvalues in the eigenvectors of the first. */
#include "bayes/curvature.h"
#include "bayes/nystrom.h"
#include "bayes/squares.h"

#include <stdlib.h>
#include <string.h>

/* Of a factor: [n, n], lower triangle, or a sketch [n, cols]. */
typedef struct factor_sum {
    double *sum;   /* on the device; NULL: not wanted */
    double *trace; /* of a sketched factor, on the device */
    int64_t n, cols;
} factor_sum;

struct la_curvature_fit {
    la_model *model;
    la_fit_shape shape;
    bool corrected;            /* EKFAC */
    int passes;                /* begun */
    la_squares *squares;       /* of the second pass */
    factor_sum *inputs;        /* [n_inputs] */
    bool *input_done;          /* [n_inputs] in this batch */
    factor_sum *outputs;       /* [n_blocks] */
    double *omega;             /* of all sketches, on the device; NULL: there are none */
    float *segments;           /* workspace for row sums */
    double *cotangent_squares; /* [n_blocks] reduce: summed token by token, on the device */
};

/* Row sums whose squares are this small beside those of their terms are rounding: the terms cancel.
 * They do for key projections, since attention does not see a shift that all keys of a row share;
 * what is left of them is no curvature. */
static double cancelled(const la_backend *be) {
    static const double limits[] = {
        [LA_PRECISION_F32] = 1e-10, [LA_PRECISION_TF32] = 1e-5, [LA_PRECISION_BF16] = 1e-3};
    return limits[be->precision];
}

static void release(la_backend *be, double **memory) {
    if (*memory)
        be->ops->release(be, *memory);
    *memory = NULL;
}

static void release_sums(la_curvature_fit *fit) {
    la_backend *be = fit->model->be;
    for (int64_t i = 0; fit->inputs && i < fit->model->n_inputs; i++) {
        release(be, &fit->inputs[i].sum);
        release(be, &fit->inputs[i].trace);
    }
    for (int64_t b = 0; fit->outputs && b < fit->model->n_blocks; b++) {
        release(be, &fit->outputs[b].sum);
        release(be, &fit->outputs[b].trace);
    }
    release(be, &fit->omega);
}

static void fit_close(la_curvature_fit *fit) {
    if (!fit)
        return;
    la_backend *be = fit->model->be;
    release_sums(fit);
    if (fit->segments)
        be->ops->release(be, fit->segments);
    if (fit->cotangent_squares)
        be->ops->release(be, fit->cotangent_squares);
    la_squares_close(fit->squares);
    free(fit->inputs);
    free(fit->input_done);
    free(fit->outputs);
    free(fit);
}

/* Columns of a factor's sum; large: it is its block's larger side. */
static int64_t columns_of(int64_t n, bool large, int64_t rank) {
    return large && la_nystrom_is_for(n, rank) ? la_nystrom_width(rank) : n;
}

static bool is_sketch(const factor_sum *f) {
    return f->cols != f->n;
}

static void clear(la_backend *be, const factor_sum *f) {
    be->ops->zero(be, f->sum, (size_t)(f->n * f->cols) * sizeof *f->sum);
    if (f->trace)
        be->ops->zero(be, f->trace, sizeof *f->trace);
}

static la_status open_sum(la_backend *be, int64_t n, int64_t cols, const char *name, factor_sum *f,
                          la_error *err) {
    size_t bytes = (size_t)(n * cols) * sizeof(double);
    *f = (factor_sum){.sum = be->ops->alloc(be, bytes), .n = n, .cols = cols};
    if (is_sketch(f))
        f->trace = be->ops->alloc(be, sizeof *f->trace);
    if (!f->sum || (is_sketch(f) && !f->trace))
        return la_fail(err, LA_RESOURCE,
                       "out of memory on %s: %.1f MiB for a %lld x %lld factor of %s", be->device,
                       (double)bytes / 1048576.0, (long long)n, (long long)cols, name);
    clear(be, f);
    return LA_OK;
}

static size_t segments_count(const la_model *model, int64_t max_rows, int64_t n_rhs) {
    int64_t widest = 0;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        int64_t side = block->in > block->out ? block->in : block->out;
        widest = block->wanted && side > widest ? side : widest;
    }
    return (size_t)(max_rows * (n_rhs > 1 ? n_rhs : 1) * widest);
}

/* Side of the largest factor that is sketched; 0: none. */
static int64_t widest_sketch(const la_model *model, int64_t rank) {
    int64_t widest = 0;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        int64_t side = block->in >= block->out ? block->in : block->out;
        if (block->wanted && la_nystrom_is_for(side, rank) && side > widest)
            widest = side;
    }
    return widest;
}

/* Blocks that read the same input share its sum. */
static size_t fit_bytes(const la_model *model, const la_fit_shape *shape, int64_t *max_factor) {
    size_t bytes = 0;
    int64_t widest = widest_sketch(model, shape->rank);
    *max_factor = 0;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        if (!block->wanted)
            continue;
        bool shared = false, input_is_larger = block->in >= block->out;
        for (int64_t i = 0; i < b; i++)
            shared |= model->blocks[i].wanted && model->blocks[i].input == block->input;
        int64_t in = columns_of(block->in, input_is_larger, shape->rank);
        int64_t out = columns_of(block->out, !input_is_larger, shape->rank);
        bytes += (size_t)(block->out * out) * sizeof(double);
        bytes += shared ? 0 : (size_t)(block->in * in) * sizeof(double);
        if (out == block->out && out > *max_factor)
            *max_factor = out;
        if (in == block->in && in > *max_factor)
            *max_factor = in;
    }
    if (widest)
        bytes += la_nystrom_bytes(widest, shape->rank);
    if (shape->kron == LA_KRON_REDUCE)
        bytes += segments_count(model, shape->max_rows, shape->n_rhs) * sizeof(float);
    return bytes;
}

static la_status fit_open(la_model *model, const la_fit_shape *shape, la_curvature_fit **out,
                          la_error *err) {
    *out = NULL;
    la_curvature_fit *fit = la_alloc(1, sizeof *fit, err);
    if (!fit)
        return err->status;
    size_t inputs = (size_t)model->n_inputs, blocks = (size_t)model->n_blocks;
    fit->model = model;
    fit->shape = *shape;
    fit->inputs = la_alloc(inputs, sizeof *fit->inputs, err);
    fit->input_done = la_alloc(inputs, sizeof *fit->input_done, err);
    fit->outputs = la_alloc(blocks, sizeof *fit->outputs, err);
    for (int64_t b = 0; err->status == LA_OK && b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        if (!block->wanted)
            continue;
        bool input_is_larger = block->in >= block->out;
        factor_sum *input = &fit->inputs[block->input];
        if (!input->sum)
            (void)open_sum(model->be, block->in,
                           columns_of(block->in, input_is_larger, shape->rank), block->name, input,
                           err);
        if (err->status == LA_OK)
            (void)open_sum(model->be, block->out,
                           columns_of(block->out, !input_is_larger, shape->rank), block->name,
                           &fit->outputs[b], err);
    }
    int64_t widest = widest_sketch(model, shape->rank);
    if (err->status == LA_OK && widest)
        fit->omega = la_nystrom_omega(model->be, widest, shape->rank, err);
    if (err->status == LA_OK && shape->kron == LA_KRON_REDUCE) {
        size_t count = segments_count(model, shape->max_rows, shape->n_rhs);
        fit->segments = model->be->ops->alloc(model->be, count * sizeof(float));
        fit->cotangent_squares = model->be->ops->alloc(model->be, blocks * sizeof(double));
        if (!fit->segments || !fit->cotangent_squares)
            (void)la_fail(err, LA_RESOURCE, "out of memory for row sums; lower --batch-tokens");
        else
            model->be->ops->zero(model->be, fit->cotangent_squares, blocks * sizeof(double));
    }
    if (err->status != LA_OK) {
        fit_close(fit);
        return err->status;
    }
    *out = fit;
    return LA_OK;
}

static la_status ekfac_open(la_model *model, const la_fit_shape *shape, la_curvature_fit **fit,
                            la_error *err) {
    LA_TRY(fit_open(model, shape, fit, err));
    (*fit)->corrected = true;
    return LA_OK;
}

static void fit_batch(la_curvature_fit *fit, int64_t first, int64_t n_rows) {
    (void)first;
    (void)n_rows;
    memset(fit->input_done, 0, (size_t)fit->model->n_inputs * sizeof *fit->input_done);
}

static void add_rows(la_curvature_fit *fit, double alpha, const la_mat *x, const factor_sum *to) {
    la_backend *be = fit->model->be;
    if (!is_sketch(to)) {
        be->ops->factor_add(be, alpha, x, to->sum);
        return;
    }
    be->ops->sketch_add(be, alpha, x, to->cols, fit->omega, to->sum);
    be->ops->square_add(be, alpha, x, to->trace);
}

static void visit(void *user, int64_t number, const la_block_io *io) {
    la_curvature_fit *fit = user;
    la_backend *be = fit->model->be;
    const la_block *block = &fit->model->blocks[number];
    bool reduce = fit->shape.kron == LA_KRON_REDUCE && !block->per_row;
    if (!fit->input_done[block->input]) {
        fit->input_done[block->input] = true;
        la_mat x = *io->x;
        if (reduce) {
            x = la_mat_f32(fit->segments, io->n_rows, block->in);
            be->ops->segment_sum(be, io->x, 1, io->n_rows, io->cu, true, &x);
        }
        add_rows(fit, 1, &x, &fit->inputs[block->input]);
    }
    la_mat g = *io->g;
    double scale = (double)io->g_scale * (double)io->g_scale;
    if (reduce) {
        be->ops->square_add(be, scale, io->g, fit->cotangent_squares + number);
        g = la_mat_f32(fit->segments, io->n_rhs * io->n_rows, block->out);
        be->ops->segment_sum(be, io->g, io->n_rhs, io->n_rows, io->cu_g, false, &g);
    }
    add_rows(fit, scale, &g, &fit->outputs[number]);
}

static la_block_visitor fit_visitor(la_curvature_fit *fit) {
    return fit->squares ? la_squares_visitor(fit->squares) : (la_block_visitor){visit, fit};
}

/* ---- several devices ---- */

/* The sums of all devices on the first. */
static la_status merge(la_curvature_fit *const *all, int n, la_error *err) {
    la_backend *devices[LA_DEVICES_MAX];
    double *sums[LA_DEVICES_MAX];
    const la_model *model = all[0]->model;
    if (n < 2)
        return LA_OK;
    for (int i = 0; i < n; i++)
        devices[i] = all[i]->model->be;
#define MERGE(sum, count)                                                                          \
    do {                                                                                           \
        for (int i = 0; i < n; i++)                                                                \
            sums[i] = all[i]->sum;                                                                 \
        if (sums[0])                                                                               \
            LA_TRY(devices[0]->ops->reduce(devices, n, sums, count, err));                         \
    } while (0)
#define MERGE_FACTOR(factor)                                                                       \
    do {                                                                                           \
        MERGE(factor.sum, all[0]->factor.n *all[0]->factor.cols);                                  \
        MERGE(factor.trace, 1);                                                                    \
    } while (0)
    for (int64_t k = 0; k < model->n_inputs; k++)
        MERGE_FACTOR(inputs[k]);
    for (int64_t b = 0; b < model->n_blocks; b++)
        MERGE_FACTOR(outputs[b]);
    MERGE(cotangent_squares, model->n_blocks);
#undef MERGE_FACTOR
#undef MERGE
    return LA_OK;
}

/* ---- decomposition ---- */

/* What is negative beyond the rounding of sums of products is no rounding. */
static la_status check_eigenvalues(const la_backend *be, const la_eigen *problem, la_error *err) {
    double slack = be->precision == LA_PRECISION_F32 ? 1e-4 : 1e-3, top = problem->values[0];
    if (top >= 0 && !(problem->least < -slack * top))
        return LA_OK;
    return la_fail(err, LA_NUMERICAL,
                   "%s: a curvature factor is not positive semi-definite: eigenvalues %g to %g",
                   problem->name, problem->least, top);
}

static la_status read_trace(la_backend *be, const factor_sum *f, double *trace, la_error *err) {
    if (is_sketch(f)) {
        be->ops->download(be, trace, f->trace, sizeof *trace);
        return be->ops->sync(be, err);
    }
    double *diagonal = la_alloc((size_t)f->n, sizeof *diagonal, err);
    if (!diagonal)
        return err->status;
    be->ops->diagonal(be, f->n, f->sum, diagonal);
    *trace = 0;
    for (int64_t i = 0; i < f->n; i++)
        *trace += diagonal[i];
    free(diagonal);
    return LA_OK;
}

/* What is to be decomposed together. */
typedef struct problem_list {
    la_eigen *problems;
    int64_t count;
} problem_list;

/* Adds a matrix to the list of those to decompose, its eigenpairs to go to factor; a sketch gives them
 * at once. */
static la_status add_problem(const la_curvature_fit *fit, problem_list *list, const factor_sum *of,
                             int64_t rank, const char *name, la_pool *pool, la_factor *factor,
                             la_error *err) {
    int64_t n = of->n;
    if (is_sketch(of))
        return la_nystrom_factor(fit->model->be, name, n, rank, fit->omega, of->sum, pool, factor,
                                 err);
    *factor = (la_factor){.n = n, .rank = rank && rank < n ? rank : n};
    factor->values = la_pool_take(pool, (size_t)factor->rank, sizeof *factor->values, err);
    factor->vectors = la_pool_take(pool, (size_t)(factor->rank * n), sizeof(float), err);
    list->problems[list->count++] = (la_eigen){.name = name,
                                               .n = n,
                                               .rank = factor->rank,
                                               .a = of->sum,
                                               .values = factor->values,
                                               .vectors = factor->vectors};
    return err->status;
}

static la_status decompose(la_curvature_fit *fit, la_posterior *posterior, la_error *err) {
    la_model *model = fit->model;
    la_backend *be = model->be;
    la_pool *pool = &posterior->pool;
    int64_t rank = fit->shape.rank, next = 0;
    size_t inputs = (size_t)model->n_inputs, blocks = (size_t)model->n_blocks;
    la_status status = be->ops->sync(be, err);
    problem_list list = {.problems = la_alloc(inputs + blocks, sizeof(la_eigen), err)};
    int64_t *input_number = la_alloc(inputs, sizeof *input_number, err);
    double *input_trace = la_alloc(inputs, sizeof *input_trace, err);
    posterior->inputs = la_pool_take(pool, inputs, sizeof *posterior->inputs, err);
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
        la_posterior_block *to = &posterior->blocks[next++];
        bool input_is_larger = block->in >= block->out;
        int64_t *number = &input_number[block->input];
        if (*number < 0) {
            *number = posterior->n_inputs++;
            const factor_sum *input = &fit->inputs[block->input];
            LA_TRY_DONE(read_trace(be, input, &input_trace[*number], err));
            LA_TRY_DONE(add_problem(fit, &list, input, input_is_larger ? rank : 0, block->name,
                                    pool, &posterior->inputs[*number], err));
        }
        double rows = (double)posterior->n_rows, tokens = (double)posterior->n_tokens;
        to->input = *number;
        tokens = block->n_virtual ? rows * (double)block->n_virtual : tokens;
        to->denominator =
            block->group == LA_GROUP_HEAD || fit->shape.kron == LA_KRON_REDUCE ? rows : tokens;
        to->trace_in = input_trace[*number];
        LA_TRY_DONE(read_trace(be, &fit->outputs[b], &to->trace_out, err));
        if (fit->shape.kron == LA_KRON_REDUCE && !block->per_row) {
            double squares;
            be->ops->download(be, &squares, fit->cotangent_squares + b, sizeof squares);
            if (to->trace_out <= cancelled(be) * squares) {
                clear(be, &fit->outputs[b]);
                to->trace_out = 0;
            }
        }
        LA_TRY_DONE(add_problem(fit, &list, &fit->outputs[b], input_is_larger ? 0 : rank,
                                block->name, pool, &to->output, err));
    }
    LA_TRY_DONE(be->ops->eigh(be, list.count, list.problems, err));
    for (int64_t i = 0; i < list.count; i++) {
        la_eigen *problem = &list.problems[i];
        LA_TRY_DONE(check_eigenvalues(be, problem, err));
        for (int64_t j = 0; j < problem->rank; j++)
            if (problem->values[j] < 0)
                problem->values[j] = 0;
    }
done:
    free(list.problems);
    free(input_number);
    free(input_trace);
    return status;
}

/* The sums have gone into their decomposition: they make room for the second pass. */
static la_status open_squares(la_curvature_fit *fit, const la_posterior *posterior, la_error *err) {
    release_sums(fit);
    la_jacobian_shape shape = {.max_rows = fit->shape.max_rows,
                               .max_tokens = fit->shape.max_tokens,
                               .n_rhs = fit->shape.n_rhs,
                               .basis = posterior};
    return la_squares_open(fit->model, &shape, &fit->squares, err);
}

static la_status finish_squares(la_curvature_fit *const *fits, int n, la_posterior *posterior,
                                la_error *err) {
    la_squares *all[LA_DEVICES_MAX];
    for (int i = 0; i < n; i++)
        all[i] = fits[i]->squares;
    LA_TRY(la_squares_merge(all, n, err));
    return la_squares_read(all[0], posterior, err);
}

static la_status fit_next(la_curvature_fit *const *fits, int n, la_posterior *posterior,
                          la_fit_pass *pass, la_error *err) {
    la_curvature_fit *first = fits[0];
    int done = first->passes++;
    *pass =
        (la_fit_pass){.to = posterior->n_rows, .more = !done || (done == 1 && first->corrected)};
    if (!done)
        return la_posterior_list_blocks(first->model, posterior, err);
    if (done == 2)
        return finish_squares(fits, n, posterior, err);
    LA_TRY(merge(fits, n, err));
    LA_TRY(decompose(first, posterior, err));
    for (int i = 0; i < n && first->corrected; i++)
        LA_TRY(open_squares(fits[i], posterior, err));
    return LA_OK;
}

/* The second pass holds eigenvectors and sums of squares instead of the factors' sums. */
static size_t ekfac_bytes(const la_model *model, const la_fit_shape *shape, int64_t *max_factor) {
    la_jacobian_shape jacobian = {
        .max_rows = shape->max_rows, .max_tokens = shape->max_tokens, .n_rhs = shape->n_rhs};
    size_t first = fit_bytes(model, shape, max_factor);
    /* rotated outer products double those of a plain diagonal; eigenvectors take at most half of
     * what the sums took */
    size_t second = 2 * la_squares_bytes(model, &jacobian) + first / 2;
    return first > second ? first : second;
}

const la_curvature_kind la_curvature_kron = {
    .name = "kron",
    .curvature = LA_CURVATURE_KRON,
    .fit_bytes = fit_bytes,
    .fit_open = fit_open,
    .fit_next = fit_next,
    .fit_batch = fit_batch,
    .fit_visitor = fit_visitor,
    .fit_close = fit_close,
    .covariance = &la_block_covariance,
};

const la_curvature_kind la_curvature_ekfac = {
    .name = "ekfac",
    .curvature = LA_CURVATURE_EKFAC,
    .fit_bytes = ekfac_bytes,
    .fit_open = ekfac_open,
    .fit_next = fit_next,
    .fit_batch = fit_batch,
    .fit_visitor = fit_visitor,
    .fit_close = fit_close,
    .covariance = &la_block_covariance,
};
