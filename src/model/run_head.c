/* Pooling and head of a run. The head works in f32 whatever the layers do. */
#include "model/run.h"

#include <math.h>

static la_mat take_f32(la_arena *arena, int64_t rows, int64_t cols) {
    return la_mat_f32(la_arena_take(arena, (size_t)(rows * cols), sizeof(float)), rows, cols);
}

static float *take_stats(la_arena *arena, int64_t rows) {
    return la_arena_take(arena, (size_t)(2 * rows), sizeof(float));
}

/* True when the final norm is needed over all tokens. */
static bool needs_all(const la_run *run) {
    return run->model->pool_token == LA_POOL_MEAN ||
           (!run->pruned && la_head_reads_all(run->model));
}

void la_run_head_layout(la_run *run, la_arena *arena, la_arena *host) {
    const la_model *model = run->model;
    la_run_head *h = &run->head;
    int64_t n = run->max_rows, d = model->config.hidden, widest = d;
    h->pooled = take_f32(arena, n, d);
    h->state = take_f32(arena, n, d);
    h->stats = take_stats(arena, n);
    if (needs_all(run)) {
        h->all = la_model_take(model, arena, run->max_packed, d);
        h->stats_all = take_stats(arena, run->max_packed);
    }
    for (int i = 0; i < model->n_head; i++) {
        const la_head_layer *layer = &model->head[i];
        int64_t out = layer->linear.w.rows;
        h->pre[i] = take_f32(arena, n, out);
        h->in[i + 1] = take_f32(arena, n, out);
        h->one[i] = take_f32(arena, n, layer->linear.w.cols + 1);
        if (layer->norm.weight) {
            h->act[i] = take_f32(arena, n, out);
            h->norm_stats[i] = take_stats(arena, n);
        }
        if (layer->linear.site)
            h->site[i] = take_f32(arena, n, layer->linear.site->state_cols);
        widest = out > widest ? out : widest;
    }
    for (int i = 0; i < 2 && run->n_rhs; i++)
        h->g[i] = take_f32(arena, run->n_rhs * n, widest);
    if (model->task != LA_TASK_CHOICE || model->config.logit_cap <= 0)
        return;
    int64_t logits = n * model->n_classes;
    h->slopes = la_arena_take(host, (size_t)logits, sizeof *h->slopes);
    h->sloped = la_arena_take(host, (size_t)(logits * run->n_rhs), sizeof *h->sloped);
}

static void forward_pooling(la_run *run, const la_mat *out) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_run_head *h = &run->head;
    bool normed = model->final_norm.weight != NULL;
    if (needs_all(run) && normed)
        be->ops->norm(be, &model->final_norm, out, h->stats_all, &h->all);
    if (model->pool_token == LA_POOL_MEAN) {
        be->ops->segment_sum(be, normed ? &h->all : out, 1, run->batch.n_rows, run->batch.cu, true,
                             &h->state);
        h->in[0] = h->state;
        return;
    }
    /* a pruned last layer holds the pooled rows alone, one behind the other */
    be->ops->gather(be, out, run->pruned ? run->batch.ones : run->batch.pooled, &h->pooled);
    if (normed)
        be->ops->norm(be, &model->final_norm, &h->pooled, h->stats, &h->state);
    h->in[0] = normed ? h->state : h->pooled;
}

void la_run_head_forward(la_run *run, const la_mat *last, float *logits) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_run_head *h = &run->head;
    forward_pooling(run, last);
    for (int i = 0; i < model->n_head; i++) {
        const la_head_layer *layer = &model->head[i];
        la_mat *out = &h->in[i + 1];
        bool plain = layer->activation == LA_ACT_NONE, norm = layer->norm.weight != NULL;
        la_mat *active = norm ? &h->act[i] : out;
        la_linear_forward(be, &layer->linear, &h->in[i], NULL, &h->site[i],
                          plain ? active : &h->pre[i]);
        if (!plain)
            be->ops->activation(be, layer->activation, &h->pre[i], NULL, active);
        if (norm)
            be->ops->norm(be, &layer->norm, active, h->norm_stats[i], out);
    }
    const la_mat *out = &h->in[model->n_head];
    be->ops->download(be, logits, out->data, (size_t)(out->rows * out->cols) * sizeof(float));
}

/* logits -> cap tanh(logits / cap), leaving its slopes */
void la_run_head_cap(la_run *run, size_t count, float *logits) {
    la_run_head *h = &run->head;
    float cap = (float)run->model->config.logit_cap;
    for (size_t i = 0; h->slopes && i < count; i++) {
        float t = tanhf(logits[i] / cap);
        logits[i] = cap * t;
        h->slopes[i] = 1 - t * t;
    }
}

int64_t la_run_state_width(const la_model *model) {
    return model->head[model->n_head - 1].linear.w.cols;
}

la_status la_run_states(la_run *run, float *states, la_error *err) {
    la_backend *be = run->model->be;
    const la_mat *state = &run->head.in[run->model->n_head - 1];
    be->ops->download(be, states, state->data,
                      (size_t)(run->batch.n_rows * state->cols) * sizeof *states);
    return be->ops->sync(be, err);
}

static void visit(la_run *run, int i, const la_mat *g, const la_block_visitor *visitor) {
    const la_model *model = run->model;
    la_run_head *h = &run->head;
    const la_head_layer *layer = &model->head[i];
    if (layer->block < 0 || !model->blocks[layer->block].wanted)
        return;
    const la_mat *x = &h->in[i];
    if (model->blocks[layer->block].in > x->cols) {
        model->be->ops->append_one(model->be, x, &h->one[i]);
        x = &h->one[i];
    }
    la_block_io io = la_run_io(run, x, g, run->batch.ones);
    visitor->visit(visitor->user, layer->block, &io);
}

static void upload_cotangents(la_run *run, const float *cotangents) {
    la_backend *be = run->model->be;
    la_run_head *h = &run->head;
    int64_t each = run->batch.n_rows * run->model->n_classes, n = run->n_rhs * each;
    for (int64_t i = 0; h->slopes && i < n; i++)
        h->sloped[i] = cotangents[i] * h->slopes[i % each];
    be->ops->upload(be, h->g[0].data, h->slopes ? h->sloped : cotangents,
                    (size_t)n * sizeof *cotangents);
}

la_mat la_run_head_backward(la_run *run, const float *cotangents, const la_block_visitor *visitor) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_run_head *h = &run->head;
    int64_t rows = run->n_rhs * run->batch.n_rows;
    int at = 0;
    upload_cotangents(run, cotangents);
    la_mat g = la_mat_f32(h->g[0].data, rows, model->n_classes);
    for (int i = model->n_head - 1; i >= 0; i--) {
        const la_head_layer *layer = &model->head[i];
        if (layer->norm.weight)
            be->ops->norm_backward(be, &layer->norm, &h->act[i], h->norm_stats[i], run->n_rhs, &g,
                                   NULL, &g);
        if (layer->activation != LA_ACT_NONE)
            be->ops->activation_backward(be, layer->activation, &h->pre[i], NULL, run->n_rhs, &g,
                                         &g, NULL);
        visit(run, i, &g, visitor);
        la_mat dx = la_mat_f32(h->g[1 - at].data, rows, layer->linear.w.cols);
        la_site_pass pass = {.io = la_run_io(run, &h->in[i], &g, run->batch.ones),
                             .state = &h->site[i],
                             .dx = &dx,
                             .visitor = visitor};
        if (!i && !run->pruned && la_head_reads_all(model)) {
            pass.io.x = &h->all;
            pass.io.cu = run->batch.cu;
        }
        la_linear_backward(run, &layer->linear, &pass);
        g = dx;
        at = 1 - at;
    }
    return g;
}

void la_run_pooling_backward(la_run *run, la_mat *from, const la_mat *out, la_mat *g) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_run_head *h = &run->head;
    bool normed = model->final_norm.weight != NULL;
    if (model->pool_token == LA_POOL_MEAN) {
        be->ops->segment_spread(be, from, run->n_rhs, run->batch.n_rows, run->batch.cu, g);
        if (normed)
            be->ops->norm_backward(be, &model->final_norm, out, h->stats_all, run->n_rhs, g, NULL,
                                   g);
        return;
    }
    if (normed)
        be->ops->norm_backward(be, &model->final_norm, &h->pooled, h->stats, run->n_rhs, from, NULL,
                               from);
    be->ops->scatter(be, from, run->n_rhs, run->pruned ? run->batch.ones : run->batch.pooled, false,
                     g);
}
