#include "model/relative.h"
#include "model/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Distances up to half the buckets have one each; beyond, buckets grow with the logarithm. */
int64_t la_relative_line(const la_config *config, int64_t distance) {
    const la_distances *d = &config->distances;
    int64_t middle = d->buckets / 2, far = distance < 0 ? -distance : distance, bucket = distance;
    if (d->buckets > 0 && far > middle) {
        double log_far = log((double)far / (double)middle) /
                         log(((double)d->most - 1) / (double)middle) * ((double)middle - 1);
        bucket = (int64_t)ceil(log_far) + middle;
        bucket = distance < 0 ? -bucket : bucket;
    }
    int64_t line = bucket + d->span;
    return line < 0 ? 0 : line >= 2 * d->span ? 2 * d->span - 1 : line;
}

int64_t la_relative_lines(const la_config *config, int64_t length) {
    if (!config->distances.span || length < 1)
        return 0;
    return la_relative_line(config, length - 1) - la_relative_line(config, 1 - length) + 1;
}

/* Over the rows of a batch: none reads more than one line for each distance. */
static int64_t most_lines(const la_run *run) {
    int64_t by_distance = 2 * run->max_packed, by_table = 2 * run->model->config.distances.span;
    return by_distance < by_table * run->max_rows ? by_distance : by_table * run->max_rows;
}

static int32_t *take_ints(la_arena *arena, int64_t n) {
    return la_arena_take(arena, (size_t)n, sizeof(int32_t));
}

void la_relative_layout(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    la_run_relative *r = &run->relative;
    int64_t d = config->hidden, wide = config->heads * config->head_dim, m = run->n_rhs;
    int64_t n = la_relative_lines(config, run->max_packed), lines = most_lines(run);
    int64_t all = run->max_packed + lines, state = model->max_state_cols;
    if (!config->distances.span)
        return;
    r->ids = take_ints(arena, n);
    r->at = take_ints(arena, 2 * run->max_packed + 1);
    r->cu = take_ints(arena, run->max_rows + 1);
    r->cu_all = take_ints(arena, run->max_rows + 1);
    r->index = take_ints(arena, lines);
    r->token_at = take_ints(arena, run->max_packed);
    r->line_at = take_ints(arena, lines);
    r->raw = la_model_take(model, arena, n, d);
    r->table = model->norm_distances.weight ? la_model_take(model, arena, n, d) : r->raw;
    r->stats = la_arena_take(arena, (size_t)(2 * n), sizeof(float));
    r->state_line = la_model_take(model, arena, n, state);
    if (!m || !run->n_kept)
        return;
    r->x_lines = la_model_take(model, arena, lines, d);
    r->dpos_k = la_model_take(model, arena, m * lines, wide);
    r->dpos_q = la_model_take(model, arena, m * lines, wide);
    r->state_all = la_model_take(model, arena, all, state);
    r->x_all = la_model_take(model, arena, config->distances.shared ? all : 0, d);
    r->g_all = la_model_take(model, arena, m * all, wide);
}

la_status la_relative_open(la_run *run, la_error *err) {
    if (!run->model->config.distances.span)
        return LA_OK;
    size_t tokens = (size_t)run->max_packed, lines = (size_t)most_lines(run);
    size_t most = 2 * tokens + 1 + lines + (size_t)run->max_rows + 1;
    run->relative.host = la_alloc(most, sizeof(int32_t), err);
    return err->status;
}

void la_relative_close(la_run *run) {
    free(run->relative.host);
    run->relative.host = NULL;
}

static void upload_ints(la_run *run, int32_t *to, int64_t n) {
    la_backend *be = run->model->be;
    be->ops->upload(be, to, run->relative.host, (size_t)n * sizeof(int32_t));
}

/* Where each row's tokens and lines go in the matrices that hold both. */
static void upload_places(la_run *run, const la_batch *batch) {
    la_run_relative *r = &run->relative;
    const la_config *config = &run->model->config;
    int32_t *host = r->host, lines = 0;
    for (int64_t row = 0; row < batch->n_rows; row++) {
        host[row] = lines;
        lines += (int32_t)la_relative_lines(config, batch->cu[row + 1] - batch->cu[row]);
    }
    host[batch->n_rows] = lines;
    r->n_lines = lines;
    upload_ints(run, r->cu, batch->n_rows + 1);
    for (int64_t row = 0; row <= batch->n_rows; row++)
        host[row] += batch->cu[row];
    upload_ints(run, r->cu_all, batch->n_rows + 1);
    int32_t *token = host + batch->n_rows + 1;
    for (int64_t row = 0; row < batch->n_rows; row++)
        for (int32_t t = batch->cu[row]; t < batch->cu[row + 1]; t++)
            token[t] = host[row] + t - batch->cu[row];
    la_backend *be = run->model->be;
    be->ops->upload(be, r->token_at, token, (size_t)batch->n_tokens * sizeof *token);
    int32_t *line = token;
    for (int64_t row = 0; row < batch->n_rows; row++) {
        int32_t length = batch->cu[row + 1] - batch->cu[row];
        for (int32_t at = host[row] + length; at < host[row + 1]; at++)
            *line++ = at;
    }
    be->ops->upload(be, r->line_at, token, (size_t)lines * sizeof *token);
    line = token;
    for (int64_t row = 0; row < batch->n_rows; row++) {
        int64_t length = batch->cu[row + 1] - batch->cu[row];
        int64_t first = la_relative_line(config, 1 - length) - r->lowest;
        int64_t n = host[row + 1] - host[row] - length;
        for (int64_t i = 0; i < n; i++)
            *line++ = (int32_t)(first + i);
    }
    be->ops->upload(be, r->index, token, (size_t)lines * sizeof *token);
}

void la_relative_upload(la_run *run, const la_batch *batch) {
    la_run_relative *r = &run->relative;
    const la_model *model = run->model;
    const la_config *config = &model->config;
    la_backend *be = model->be;
    if (!config->distances.span)
        return;
    int64_t reach = batch->max_length - 1;
    r->lowest = la_relative_line(config, -reach);
    r->n = la_relative_lines(config, batch->max_length);
    for (int64_t i = 0; i <= 2 * reach; i++)
        r->host[i] = (int32_t)(la_relative_line(config, i - reach) - r->lowest);
    upload_ints(run, r->at, 2 * reach + 1);
    for (int64_t i = 0; i < r->n; i++)
        r->host[i] = (int32_t)(r->lowest + i);
    upload_ints(run, r->ids, r->n);
    upload_places(run, batch);
    r->form = (la_relative){.at = r->at, .reach = reach, .cu = r->cu};
    const int32_t *ids[1] = {r->ids};
    r->raw.rows = r->table.rows = r->state_line.rows = r->n;
    be->ops->embed(be, 1, &model->distance_table, ids, 1, &r->raw);
    if (model->norm_distances.weight)
        be->ops->norm(be, &model->norm_distances, &r->raw, r->stats, &r->table);
    if (!r->x_lines.data)
        return;
    r->x_lines.rows = r->n_lines;
    be->ops->gather(be, &r->table, r->index, &r->x_lines);
}

/* The projections of the table: those of the tokens, or their own. */
static const la_linear *projection(const la_run *run, int64_t layer, bool of_key) {
    const la_distances *d = &run->model->config.distances;
    const la_linear *linear = run->model->layers[layer].linear;
    if (!(of_key ? d->c2p : d->p2c))
        return NULL;
    return &linear[of_key ? (d->shared ? LA_SLOT_K : LA_SLOT_POS_K)
                          : (d->shared ? LA_SLOT_Q : LA_SLOT_POS_Q)];
}

void la_relative_forward(la_run *run, int64_t layer) {
    la_layer_state *s = &run->layers[layer];
    la_run_relative *r = &run->relative;
    la_mat *to[2] = {&s->pos_q, &s->pos_k};
    for (int of_key = 0; of_key < 2 && run->model->config.distances.span; of_key++) {
        const la_linear *linear = projection(run, layer, of_key);
        if (!linear)
            continue;
        to[of_key]->rows = r->n;
        la_mat state = r->state_line;
        if (linear->site)
            state = la_mat_of(state.type, state.data, r->n, linear->site->state_cols);
        la_linear_forward(run->model->be, linear, &r->table, NULL, &state, to[of_key]);
    }
}

static bool is_wanted(const la_run *run, const la_linear *linear) {
    return linear && la_linear_wanted(run->model, linear);
}

bool la_relative_adapted(const la_run *run, int64_t layer) {
    return is_wanted(run, projection(run, layer, true)) ||
           is_wanted(run, projection(run, layer, false));
}

void la_relative_attend(la_run *run, int64_t layer, bool backward, la_attention *a) {
    la_run_relative *r = &run->relative;
    const la_layer_state *s = &run->layers[layer];
    if (!run->model->config.distances.span)
        return;
    int64_t rows = run->n_rhs * r->n_lines, wide = s->q.cols;
    r->form.pos_k = s->pos_k;
    r->form.pos_q = s->pos_q;
    r->form.dpos_k = r->form.dpos_q = (la_mat){0};
    if (backward && is_wanted(run, projection(run, layer, true)))
        r->form.dpos_k = la_mat_of(r->dpos_k.type, r->dpos_k.data, rows, wide);
    if (backward && is_wanted(run, projection(run, layer, false)))
        r->form.dpos_q = la_mat_of(r->dpos_q.type, r->dpos_q.data, rows, wide);
    a->relative = &r->form;
}

/* What the adapter's forward leaves, for any kind of it; what else it computes is not needed. */
static la_mat state_of(la_run *run, const la_linear *linear, const la_mat *x) {
    la_run_relative *r = &run->relative;
    la_mat state =
        la_mat_of(r->state_all.type, r->state_all.data, x->rows, linear->site->state_cols);
    la_mat unused = la_mat_of(r->g_all.type, r->g_all.data, x->rows, linear->w.rows);
    la_linear_forward(run->model->be, linear, x, NULL, &state, &unused);
    return state;
}

/* A projection that tokens and lines share: both are put together, row by row. */
static void visit_shared(la_run *run, const la_linear *linear, const la_mat *x, const la_mat *g,
                         const la_mat *dpos, const la_block_visitor *visitor) {
    la_run_relative *r = &run->relative;
    la_backend *be = run->model->be;
    int64_t all = run->n_tokens + r->n_lines;
    la_mat x_all = la_mat_of(r->x_all.type, r->x_all.data, all, x->cols);
    la_mat g_all = la_mat_of(r->g_all.type, r->g_all.data, run->n_rhs * all, g->cols);
    be->ops->scatter(be, x, 1, r->token_at, false, &x_all);
    be->ops->scatter(be, &r->x_lines, 1, r->line_at, true, &x_all);
    la_mat state = state_of(run, linear, &x_all);
    be->ops->scatter(be, g, run->n_rhs, r->token_at, false, &g_all);
    be->ops->scatter(be, dpos, run->n_rhs, r->line_at, true, &g_all);
    la_linear_backward(run, linear, &state, &x_all, &x_all, r->cu_all, false, &g_all, 0, NULL,
                       false, visitor);
}

static void visit_lines(la_run *run, const la_linear *linear, const la_mat *dpos,
                        const la_block_visitor *visitor) {
    la_run_relative *r = &run->relative;
    la_mat state = state_of(run, linear, &r->x_lines);
    la_linear_backward(run, linear, &state, &r->x_lines, &r->x_lines, r->cu, false, dpos, 0, NULL,
                       false, visitor);
}

void la_relative_backward(la_run *run, int64_t layer, const la_mat *dq, const la_mat *dk,
                          const la_block_visitor *visitor) {
    const la_relative *form = &run->relative.form;
    const la_mat *tokens[2] = {dq, dk}, *dpos[2] = {&form->dpos_q, &form->dpos_k};
    for (int of_key = 0; of_key < 2; of_key++) {
        const la_linear *linear = projection(run, layer, of_key);
        if (!is_wanted(run, linear))
            continue;
        if (run->model->config.distances.shared)
            visit_shared(run, linear, &run->layers[layer].a, tokens[of_key], dpos[of_key], visitor);
        else
            visit_lines(run, linear, dpos[of_key], visitor);
    }
}
