/* Kronecker-factored curvature with the exact Fisher: sums over a calibration set and their
 * eigendecomposition.
 *
 *   expand: H = (1/R) (sum_nt a a^T) (x) (sum_nt sum_s g_s g_s^T)
 *   reduce: H = (1/N) (sum_n abar abar^T) (x) (sum_n sum_s (sum_t g_s)(sum_t g_s)^T)
 *
 * where abar is the mean over a row's tokens and the right-hand sides s are the C-1 columns of S,
 * S S^T = diag(p) - p p^T. Blocks that read the same matrix share one input sum. A batch is summed
 * in f32, the batches into each other in f64. Of a larger side from which few eigenpairs are kept
 * only a sketch is summed (nystrom.h). */
#include "base/blas.h"
#include "bayes/jacobian.h"
#include "bayes/nystrom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sum of a factor: [n, n], lower triangle, or a sketch [n, cols]. */
typedef struct factor_sum {
    double *sum;   /* on the device; NULL: not opened yet */
    double *trace; /* of a sketched factor, on the device */
    int64_t n, cols;
} factor_sum;

struct la_structure_fit {
    const la_blocks *blocks;
    la_fit_shape shape;
    bool seen;
    la_sums sums;              /* all of them */
    factor_sum *inputs;        /* [n_inputs] */
    bool *input_done;          /* [n_inputs] in this batch */
    factor_sum *outputs;       /* [n blocks] */
    double *omega;             /* of all sketches, on the device; NULL: there are none */
    float *segments;           /* workspace for row sums */
    double *cotangent_squares; /* [n blocks] reduce: summed token by token, on the device */
};

/* Row sums whose squares are this small beside those of their terms are rounding: the terms cancel.
 * They do for key projections, since attention does not see a shift that all keys of a row share;
 * what is left of them is no curvature. */
static double cancelled(const la_backend *be) {
    static const double limits[] = {
        [LA_PRECISION_F32] = 1e-10, [LA_PRECISION_TF32] = 1e-5, [LA_PRECISION_BF16] = 1e-3};
    return limits[be->precision];
}

static void fit_close(la_structure_fit *fit) {
    if (!fit)
        return;
    la_backend *be = fit->blocks->be;
    la_sums_close(&fit->sums);
    be->ops->release(be, fit->omega);
    be->ops->release(be, fit->segments);
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

static la_status open_sum(la_structure_fit *fit, const char *group, int64_t number, int64_t n,
                          int64_t cols, const char *name, factor_sum *f, la_error *err) {
    *f = (factor_sum){
        .sum = la_sums_add(&fit->sums, group, number, "sum", n, cols), .n = n, .cols = cols};
    if (f->sum && is_sketch(f))
        f->trace = la_sums_add(&fit->sums, group, number, "trace", 1, 1);
    if (!f->sum || (is_sketch(f) && !f->trace))
        return la_fail(err, LA_RESOURCE,
                       "out of memory on %s: %.1f MiB for a %lld x %lld factor of %s",
                       fit->blocks->be->device, la_mib((double)(n * cols) * sizeof(double)),
                       (long long)n, (long long)cols, name);
    return LA_OK;
}

static int64_t widest_side(const la_blocks *blocks) {
    int64_t widest = 0;
    for (int64_t b = 0; b < blocks->n; b++) {
        int64_t side = la_big_side(blocks->list[b].out, blocks->list[b].in);
        widest = side > widest ? side : widest;
    }
    return widest;
}

static size_t segments_count(const la_blocks *blocks, const la_batch_shape *shape) {
    return (size_t)(shape->max_rows * (shape->n_rhs > 1 ? shape->n_rhs : 1) * widest_side(blocks));
}

/* Side of the largest factor that is sketched; 0: none. */
static int64_t widest_sketch(const la_blocks *blocks, int64_t rank) {
    int64_t widest = widest_side(blocks);
    return la_nystrom_is_for(widest, rank) ? widest : 0;
}

/* Blocks that read the same input share its sum. */
static size_t fit_bytes(const la_blocks *blocks, const la_fit_shape *shape, int64_t *max_factor) {
    size_t bytes = 0;
    int64_t widest = widest_sketch(blocks, shape->rank), next = 0;
    *max_factor = 0;
    for (int64_t b = 0; b < blocks->n; b++) {
        const la_block *block = &blocks->list[b];
        bool first = block->input == next, input_is_larger = block->in >= block->out;
        int64_t in = columns_of(block->in, input_is_larger, shape->rank);
        int64_t out = columns_of(block->out, !input_is_larger, shape->rank);
        next += first;
        bytes += (size_t)(block->out * out) * sizeof(double);
        bytes += first ? (size_t)(block->in * in) * sizeof(double) : 0;
        if (out == block->out && out > *max_factor)
            *max_factor = out;
        if (in == block->in && in > *max_factor)
            *max_factor = in;
    }
    if (widest)
        bytes += la_nystrom_bytes(widest, shape->rank);
    if (shape->kron == LA_KRON_REDUCE)
        bytes += segments_count(blocks, &shape->batch) * sizeof(float);
    return bytes;
}

static la_status open_sums(la_structure_fit *fit, la_error *err) {
    const la_blocks *blocks = fit->blocks;
    la_backend *be = blocks->be;
    int64_t rank = fit->shape.rank, widest = widest_sketch(blocks, rank);
    for (int64_t b = 0; b < blocks->n; b++) {
        const la_block *block = &blocks->list[b];
        bool input_is_larger = block->in >= block->out;
        factor_sum *input = &fit->inputs[block->input];
        if (!input->sum)
            LA_TRY(open_sum(fit, "inputs", block->input, block->in,
                            columns_of(block->in, input_is_larger, rank), block->name, input, err));
        LA_TRY(open_sum(fit, "blocks", b, block->out,
                        columns_of(block->out, !input_is_larger, rank), block->name,
                        &fit->outputs[b], err));
    }
    if (widest) {
        fit->omega = la_nystrom_omega(be, widest, rank, err);
        LA_TRY(err->status);
    }
    if (fit->shape.peers)
        LA_TRY(la_peers_share(fit->shape.peers, &fit->sums, err));
    if (fit->shape.kron != LA_KRON_REDUCE)
        return LA_OK;
    fit->segments =
        be->ops->alloc(be, segments_count(blocks, &fit->shape.batch) * sizeof *fit->segments);
    fit->cotangent_squares = la_sums_add(&fit->sums, "cotangents", 0, "squares", 1, blocks->n);
    if (!fit->segments || !fit->cotangent_squares)
        return la_fail(err, LA_RESOURCE, "out of memory for row sums; lower --batch-tokens");
    return LA_OK;
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
    fit->inputs = la_alloc((size_t)blocks->n_inputs, sizeof *fit->inputs, err);
    fit->input_done = la_alloc((size_t)blocks->n_inputs, sizeof *fit->input_done, err);
    fit->outputs = la_alloc((size_t)blocks->n, sizeof *fit->outputs, err);
    if (err->status != LA_OK || open_sums(fit, err) != LA_OK) {
        fit_close(fit);
        return err->status;
    }
    *out = fit;
    return LA_OK;
}

static void fit_batch(la_structure_fit *fit, int64_t first, int64_t n_rows) {
    (void)first;
    (void)n_rows;
    memset(fit->input_done, 0, (size_t)fit->blocks->n_inputs * sizeof *fit->input_done);
}

static void add_rows(la_structure_fit *fit, double alpha, const la_mat *x, const factor_sum *to) {
    la_backend *be = fit->blocks->be;
    if (!is_sketch(to)) {
        be->ops->factor_add(be, alpha, x, to->sum);
        return;
    }
    be->ops->sketch_add(be, alpha, x, to->cols, fit->omega, to->sum);
    be->ops->square_add(be, alpha, x, to->trace);
}

static void visit(void *user, int64_t number, const la_block_io *io) {
    la_structure_fit *fit = user;
    la_backend *be = fit->blocks->be;
    int64_t own = fit->blocks->index[number];
    if (own < 0)
        return;
    const la_block *block = &fit->blocks->list[own];
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
        be->ops->square_add(be, scale, io->g, fit->cotangent_squares + own);
        g = la_mat_f32(fit->segments, io->n_rhs * io->n_rows, block->out);
        be->ops->segment_sum(be, io->g, io->n_rhs, io->n_rows, io->cu_g, false, &g);
    }
    add_rows(fit, scale, &g, &fit->outputs[own]);
}

static la_block_visitor fit_visitor(la_structure_fit *fit) {
    return (la_block_visitor){visit, fit};
}

static la_sums *fit_sums(la_structure_fit *fit) {
    return &fit->sums;
}

/* ---- sums back from a posterior ---- */

/* A factor whose sum is an array [n, n], or a sketch. */
static la_status restore_factor(const la_restored *r, const la_factor *factor, const la_array *sum,
                                la_error *err) {
    int64_t n = factor->n, rank = factor->rank;
    if (sum->cols != n)
        return la_nystrom_restore(r->team, factor, r->of->rank_asked, r->times, sum->data, err);
    double *rows = la_alloc((size_t)(rank * n), sizeof *rows, err);
    double *scaled = la_alloc((size_t)(rank * n), sizeof *scaled, err);
    for (int64_t i = 0; rows && scaled && i < rank * n; i++) {
        rows[i] = (double)factor->vectors[i];
        scaled[i] = r->times * factor->values[i / n] * rows[i];
    }
    if (rows && scaled)
        la_team_dgemm(r->team, true, false, n, n, rank, 1, scaled, n, rows, n, 1, sum->data, n);
    free(rows);
    free(scaled);
    return err->status;
}

/* Row sums that cancelled in all rows are zero in any of them; what is seen now is rounding. */
static bool cancels(const la_restored *r, const la_posterior_block *block) {
    return r->sign < 0 && !(block->trace_out > 0);
}

static la_status restore(const la_restored *r, const la_array *sum, la_error *err) {
    const la_posterior *of = r->of;
    char group[12], part[12];
    long long number;
    if (sscanf(sum->name, "%11[a-z]/%lld/%11[a-z]", group, &number, part) != 3)
        return la_fail(err, LA_MISMATCH, "%s: no posterior has that sum", sum->name);
    for (int64_t i = 0; i < sum->rows * sum->cols; i++)
        sum->data[i] *= r->sign;
    if (!strcmp(group, "cotangents")) { /* not kept: at least what did not cancel */
        for (int64_t b = 0; b < sum->cols; b++)
            sum->data[b] += r->times * of->blocks[b].trace_out;
        return LA_OK;
    }
    bool input = !strcmp(group, "inputs");
    int64_t b = input ? 0 : number;
    while (input && of->blocks[b].input != number)
        b++;
    if (!input && cancels(r, &of->blocks[b])) {
        memset(sum->data, 0, (size_t)(sum->rows * sum->cols) * sizeof *sum->data);
        return LA_OK;
    }
    if (!strcmp(part, "trace")) {
        sum->data[0] += r->times * (input ? of->blocks[b].trace_in : of->blocks[b].trace_out);
        return LA_OK;
    }
    return restore_factor(
        r, input ? &la_factored_inputs(of)[number] : &la_factored_of(of, number)->output, sum, err);
}

static double left_out(const la_restored *r, const la_factor *factor, bool large, double trace) {
    double kept = 0;
    if (factor->rank == factor->n || columns_of(factor->n, large, r->of->rank_asked) != factor->n)
        return 0; /* nothing, or the sketch's trace has it */
    for (int64_t i = 0; i < factor->rank; i++)
        kept += factor->values[i];
    return r->times * (trace - kept);
}

/* Share of the old sum's largest eigenvalue that rounding of its vectors, kept in f32, reaches. */
#define ROUNDED 2e-7

/* A sum of n squares, of which others were taken out, has n eigenvalues; more, and smaller ones
 * than the old sum was kept to, are rounding. */
static void cap_rank(la_factor *factor, const la_factor *old, int64_t n) {
    for (int64_t i = 0; i < factor->rank; i++)
        if (i >= n || factor->values[i] < ROUNDED * old->values[0])
            factor->values[i] = 0;
}

static la_status join(la_backend *be, const la_restored *r, la_posterior *p, la_error *err) {
    (void)be;
    (void)err;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        const la_posterior_block *of = &r->of->blocks[b];
        if (r->sign < 0 && p->kron == LA_KRON_REDUCE) { /* one square a row */
            cap_rank(&la_factored_inputs(p)[of->input], &la_factored_inputs(r->of)[of->input],
                     r->n_rows);
            cap_rank(&la_factored_of(p, b)->output, &la_factored_of(r->of, b)->output,
                     r->n_rows * r->n_contrasts);
        }
        bool input_is_larger = of->in >= of->out;
        const la_factor *input = &la_factored_inputs(r->of)[of->input];
        p->blocks[b].trace_in += left_out(r, input, input_is_larger, of->trace_in);
        p->blocks[b].trace_out +=
            left_out(r, &la_factored_of(r->of, b)->output, !input_is_larger, of->trace_out);
    }
    return LA_OK;
}

/* ---- decomposition ---- */

/* Eigenvalues that are negative beyond the rounding of sums of products are an error. */
static la_status check_eigenvalues(const la_backend *be, const la_eigen *problem, double *least,
                                   la_error *err) {
    double slack = be->precision == LA_PRECISION_F32 ? 1e-4 : 1e-3, top = problem->values[0];
    if (top > 0 && problem->least / top < *least)
        *least = problem->least / top;
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
    return la_device_trace(be, f->sum, f->n, trace, err);
}

/* Matrices to decompose together. */
typedef struct problem_list {
    la_eigen *problems;
    int64_t count;
} problem_list;

/* Adds a matrix to the list of those to decompose, its eigenpairs to go to factor; a sketch gives
 * them at once. */
static la_status add_problem(const la_structure_fit *fit, problem_list *list, const factor_sum *of,
                             int64_t rank, const char *name, la_pool *pool, la_factor *factor,
                             la_error *err) {
    int64_t n = of->n;
    if (is_sketch(of))
        return la_nystrom_factor(fit->blocks->be, name, n, rank, fit->omega, of->sum, pool, factor,
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

/* Denominator of a block, and the trace of its output's sum. */
static la_status read_block(const la_structure_fit *fit, int64_t b, la_posterior *posterior,
                            la_error *err) {
    la_backend *be = fit->blocks->be;
    const la_block *block = &fit->blocks->list[b];
    const factor_sum *output = &fit->outputs[b];
    la_posterior_block *to = &posterior->blocks[b];
    bool reduce = fit->shape.kron == LA_KRON_REDUCE;
    double rows = la_posterior_rows(posterior), tokens = la_posterior_tokens(posterior), squares;
    tokens = block->n_virtual ? rows * (double)block->n_virtual : tokens;
    to->denominator = block->group == LA_GROUP_HEAD || reduce ? rows : tokens;
    LA_TRY(read_trace(be, output, &to->trace_out, err));
    if (!reduce || block->per_row)
        return LA_OK;
    be->ops->download(be, &squares, fit->cotangent_squares + b, sizeof squares);
    if (to->trace_out > cancelled(be) * squares)
        return LA_OK;
    to->trace_out = 0;
    be->ops->zero(be, output->sum, (size_t)(output->n * output->cols) * sizeof(double));
    if (output->trace)
        be->ops->zero(be, output->trace, sizeof(double));
    return LA_OK;
}

static la_status decompose(la_structure_fit *fit, la_posterior *posterior, la_error *err) {
    const la_blocks *blocks = fit->blocks;
    la_backend *be = blocks->be;
    la_pool *pool = &posterior->pool;
    size_t inputs = (size_t)blocks->n_inputs;
    int64_t rank = fit->shape.rank, next = 0;
    la_status status = be->ops->sync(be, err);
    problem_list list = {.problems = la_alloc(inputs + (size_t)blocks->n, sizeof(la_eigen), err)};
    double *traces = la_alloc(inputs, sizeof *traces, err);
    la_factor *factors = posterior->structure = la_pool_take(pool, inputs, sizeof *factors, err);
    posterior->n_inputs = blocks->n_inputs;
    if (err->status != LA_OK) {
        status = err->status;
        goto done;
    }
    for (int64_t b = 0; b < blocks->n; b++) {
        const la_block *block = &blocks->list[b];
        bool input_is_larger = block->in >= block->out;
        if (block->input == next) {
            const factor_sum *input = &fit->inputs[next];
            LA_TRY_DONE(read_trace(be, input, &traces[next], err));
            LA_TRY_DONE(add_problem(fit, &list, input, input_is_larger ? rank : 0, block->name,
                                    pool, &factors[next], err));
            next++;
        }
        posterior->blocks[b].input = block->input;
        posterior->blocks[b].trace_in = traces[block->input];
        LA_TRY_DONE(read_block(fit, b, posterior, err));
        LA_TRY_DONE(add_problem(fit, &list, &fit->outputs[b], input_is_larger ? 0 : rank,
                                block->name, pool, &la_factored_of(posterior, b)->output, err));
    }
    LA_TRY_DONE(la_peers_eigh(fit->shape.peers, &fit->sums, list.count, list.problems, err));
    for (int64_t i = 0; i < list.count; i++) {
        la_eigen *problem = &list.problems[i];
        LA_TRY_DONE(check_eigenvalues(be, problem, &posterior->least_share, err));
        for (int64_t j = 0; j < problem->rank; j++)
            if (problem->values[j] < 0)
                problem->values[j] = 0;
    }
done:
    free(list.problems);
    free(traces);
    return status;
}

static la_status fit_next(la_structure_fit *fit, la_posterior *posterior, la_fit_pass *pass,
                          la_error *err) {
    *pass = (la_fit_pass){.to = posterior->n_rows, .more = !fit->seen};
    fit->seen = true;
    return pass->more ? LA_OK : decompose(fit, posterior, err);
}

const la_fit_kind la_kron_fit = {.bytes = fit_bytes,
                                 .open = fit_open,
                                 .next = fit_next,
                                 .batch = fit_batch,
                                 .visitor = fit_visitor,
                                 .sums = fit_sums,
                                 .restore = restore,
                                 .close = fit_close};

const la_structure_kind la_structure_kron =
    LA_FACTORED_KIND(.curvature = LA_CURVATURE_KRON, .has_inputs = true, .cuts = true,
                     .fit = &la_kron_fit, .kept = la_factored_kept, .join = join,
                     .block_fields = &la_kron_fields);
