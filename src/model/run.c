#include "model/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static la_mat take(const la_run *run, la_arena *arena, int64_t rows, int64_t cols) {
    la_dtype type = run->model->be->activation;
    return la_mat_of(type, la_arena_take(arena, (size_t)(rows * cols), la_dtype_size(type)), rows,
                     cols);
}

/* The head works in f32 whatever the layers do. */
static la_mat take_f32(la_arena *arena, int64_t rows, int64_t cols) {
    return la_mat_f32(la_arena_take(arena, (size_t)(rows * cols), sizeof(float)), rows, cols);
}

static int64_t largest(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void layout_sites(const la_run *run, const la_layer *layer, int64_t tokens, int64_t queries,
                         la_arena *arena, la_layer_state *s) {
    for (int slot = 0; slot < LA_SLOTS; slot++) {
        bool all = slot == LA_SLOT_K || slot == LA_SLOT_V;
        if (layer->linear[slot].site)
            s->site[slot] =
                take(run, arena, all ? tokens : queries, layer->linear[slot].site->state_cols);
    }
}

/* Everything of a layer but its place in the residual stream. */
static void layout_layer(const la_run *run, int64_t tokens, int64_t queries, bool pruned,
                         la_arena *arena, la_layer_state *s) {
    const la_config *config = &run->model->config;
    int64_t d = config->hidden, wide = config->heads * config->head_dim;
    int64_t narrow = config->kv_heads * config->head_dim;
    bool pre_norm = config->arch->pre_norm;
    s->q = take(run, arena, queries, wide);
    s->k = take(run, arena, tokens, narrow);
    s->v = take(run, arena, tokens, narrow);
    s->context = take(run, arena, queries, wide);
    s->sum = take(run, arena, queries, d);
    s->f = take(run, arena, queries, d);
    s->up = take(run, arena, queries, config->ffn);
    if (config->arch->gated)
        s->gate = take(run, arena, queries, config->ffn);
    s->act = take(run, arena, queries, config->ffn);
    s->stats_a = la_arena_take(arena, (size_t)(2 * tokens), sizeof(float));
    s->stats_f = la_arena_take(arena, (size_t)(2 * queries), sizeof(float));
    s->lse = la_arena_take(arena, (size_t)(queries * config->heads), sizeof(float));
    if (pre_norm)
        s->a = take(run, arena, tokens, d);
    if (!pre_norm)
        s->sum2 = take(run, arena, queries, d);
    if (pruned) {
        s->a_q = take(run, arena, queries, d);
        if (pre_norm)
            s->in_q = take(run, arena, queries, d);
    }
}

/* Layers that keep nothing for backward, or their input alone, work in one shared state; the
 * residual stream of the former goes to and fro between two buffers. */
static void layout_layers(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    int64_t tokens = run->max_tokens, d = config->hidden, n = config->layers;
    la_layer_state shared = {0};
    run->stream[0] = take(run, arena, tokens, d);
    run->stream[1] = take(run, arena, tokens, d);
    if (run->n_kept < n || run->recompute)
        layout_layer(run, tokens, tokens, false, arena, &shared);
    la_mat in = run->stream[0];
    for (int64_t i = 0; i < n; i++) {
        la_layer_state *s = &run->layers[i];
        bool kept = i >= n - run->n_kept, pruned = run->pruned && i == n - 1;
        bool own = pruned || (kept && !run->recompute);
        int64_t queries = pruned ? run->max_rows : tokens;
        *s = shared;
        if (own)
            layout_layer(run, tokens, queries, pruned, arena, s);
        layout_sites(run, &model->layers[i], tokens, queries, arena, s);
        s->in = in;
        s->out = kept || pruned ? take(run, arena, queries, d) : run->stream[(i + 1) % 2];
        if (config->arch->pre_norm)
            s->sum2 = s->out;
        else
            s->a = s->in;
        if (!pruned)
            s->a_q = s->a;
        if (!pruned)
            s->in_q = s->in;
        else if (!config->arch->pre_norm)
            s->in_q = s->a_q;
        in = s->out;
    }
}

static void layout_head(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    int64_t n = run->max_rows, d = model->config.hidden, widest = d;
    run->pooled_state = take_f32(arena, n, d);
    run->final_state = take_f32(arena, n, d);
    run->stats_final = la_arena_take(arena, (size_t)(2 * n), sizeof(float));
    for (int i = 0; i < model->n_head; i++) {
        const la_head_layer *layer = &model->head[i];
        run->head_pre[i] = take_f32(arena, n, layer->linear.w.rows);
        run->head_in[i + 1] = take_f32(arena, n, layer->linear.w.rows);
        run->head_one[i] = take_f32(arena, n, layer->linear.w.cols + 1);
        if (layer->linear.site)
            run->head_site[i] = take_f32(arena, n, layer->linear.site->state_cols);
        widest = largest(widest, layer->linear.w.rows);
    }
    for (int i = 0; i < 2 && run->n_rhs; i++)
        run->head_g[i] = take_f32(arena, run->n_rhs * n, widest);
}

static void layout_cotangents(la_run *run, la_arena *arena) {
    const la_config *config = &run->model->config;
    int64_t rows = run->n_rhs * run->max_tokens, d = config->hidden;
    int64_t wide = config->heads * config->head_dim, narrow = config->kv_heads * config->head_dim;
    int64_t state = run->model->max_state_cols;
    /* these two serve the head's sites as well */
    run->site_g = take_f32(arena, rows, state);
    run->site_all = take_f32(arena, run->max_tokens, state);
    if (!run->n_kept)
        return;
    run->g = take(run, arena, rows, d);
    run->g2 = take(run, arena, rows, d);
    run->dq = take(run, arena, rows, wide);
    run->dk = take(run, arena, rows, narrow);
    run->dv = take(run, arena, rows, narrow);
    run->dctx = take(run, arena, rows, largest(wide, d));
    run->dffn = take(run, arena, rows, largest(config->ffn, d));
    run->dup = take(run, arena, rows, config->arch->gated ? config->ffn : 0);
}

static void layout(la_run *run, la_arena *arena) {
    size_t tokens = (size_t)run->max_tokens, rows = (size_t)run->max_rows + 1;
    const la_config *config = &run->model->config;
    run->ids = la_arena_take(arena, tokens, sizeof(int32_t));
    run->types = la_arena_take(arena, tokens, sizeof(int32_t));
    run->positions = la_arena_take(arena, tokens, sizeof(int32_t));
    run->cu = la_arena_take(arena, rows, sizeof(int32_t));
    run->pooled = la_arena_take(arena, rows, sizeof(int32_t));
    run->pooled_at = la_arena_take(arena, rows, sizeof(int32_t));
    run->ones = la_arena_take(arena, rows, sizeof(int32_t));
    if (config->arch->rotary)
        run->angles = la_arena_take(arena, tokens * (size_t)config->head_dim, sizeof(float));
    run->embedded = take(run, arena, run->max_tokens, config->hidden);
    run->stats_embed = la_arena_take(arena, 2 * tokens, sizeof(float));
    layout_layers(run, arena);
    layout_head(run, arena);
    if (run->n_rhs)
        layout_cotangents(run, arena);
}

/* cosines and sines for every place a row can have */
static la_status upload_angles(la_run *run, la_error *err) {
    const la_config *config = &run->model->config;
    la_backend *be = run->model->be;
    int64_t half = config->head_dim / 2;
    size_t count = (size_t)(run->max_tokens * config->head_dim);
    double *frequency = la_alloc((size_t)half, sizeof *frequency, err);
    float *angles = la_alloc(count, sizeof *angles, err);
    if (frequency && angles) {
        la_rope_frequencies(config, frequency);
        for (int64_t t = 0; t < run->max_tokens; t++) {
            for (int64_t j = 0; j < half; j++) {
                angles[(t * half + j) * 2] = (float)cos((double)t * frequency[j]);
                angles[(t * half + j) * 2 + 1] = (float)sin((double)t * frequency[j]);
            }
        }
        be->ops->upload(be, run->angles, angles, count * sizeof *angles);
    }
    free(frequency);
    free(angles);
    return err->status;
}

/* Projections behind the attention of the last layer see all tokens when one of them is adapted and
 * all inputs count. */
static bool can_prune(const la_model *model, bool all_inputs) {
    const la_layer *last = &model->layers[model->config.layers - 1];
    if (!all_inputs)
        return true;
    for (int slot = LA_SLOT_O; slot < LA_SLOTS; slot++)
        if (last->linear[slot].site && model->blocks[last->linear[slot].site->blocks[0]].wanted)
            return false;
    return true;
}

static la_status shape_run(la_model *model, const la_run_shape *shape, la_run *run, la_error *err) {
    bool any = shape->n_rhs > 0;
    *run = (la_run){.model = model,
                    .max_rows = shape->max_rows,
                    .max_tokens = shape->max_tokens,
                    .n_rhs = shape->n_rhs,
                    .n_kept = any ? model->config.layers - model->lowest_layer : 0,
                    .recompute = any && shape->recompute,
                    .pruned = can_prune(model, shape->all_inputs)};
    run->layers = la_alloc((size_t)model->config.layers, sizeof *run->layers, err);
    return err->status;
}

static la_sizes sizes_of(const la_model *model, const la_run_shape *shape) {
    const la_config *config = &model->config;
    return (la_sizes){.max_rows = shape->max_rows,
                      .max_tokens = shape->max_tokens,
                      .max_length = shape->max_tokens,
                      .n_rhs = shape->n_rhs,
                      .n_heads = config->heads,
                      .max_width = largest(config->ffn, config->hidden),
                      .max_factor = shape->max_factor,
                      .max_weight = model->max_weight,
                      .max_small = model->be->activation == LA_F32 ? 0 : model->max_state_cols};
}

la_status la_run_plan(la_model *model, const la_run_shape *shape, size_t *bytes, la_sizes *sizes,
                      la_error *err) {
    la_run run;
    la_arena arena = {0};
    LA_TRY(shape_run(model, shape, &run, err));
    layout(&run, &arena);
    *bytes = arena.used;
    *sizes = sizes_of(model, shape);
    free(run.layers);
    return LA_OK;
}

la_status la_run_open(la_model *model, const la_run_shape *shape, la_run *run, la_error *err) {
    la_backend *be = model->be;
    LA_TRY(shape_run(model, shape, run, err));
    la_arena arena = {0};
    layout(run, &arena);
    size_t bytes = arena.used;
    run->memory = be->ops->alloc(be, bytes);
    if (!run->memory) {
        la_fail(err, LA_RESOURCE,
                "out of memory on %s: %.1f MiB for activations of %lld tokens with %lld "
                "right-hand sides; lower --batch-tokens or --max-length",
                be->device, (double)bytes / 1048576.0, (long long)shape->max_tokens,
                (long long)shape->n_rhs);
        la_run_close(run);
        return err->status;
    }
    arena = (la_arena){run->memory, 0, bytes};
    layout(run, &arena);
    la_sizes sizes = sizes_of(model, shape);
    la_status status = model->config.arch->rotary ? upload_angles(run, err) : LA_OK;
    if (status == LA_OK)
        status = be->ops->reserve(be, &sizes, err);
    if (status != LA_OK)
        la_run_close(run);
    return status;
}

void la_run_close(la_run *run) {
    if (run->memory)
        run->model->be->ops->release(run->model->be, run->memory);
    free(run->layers);
    *run = (la_run){0};
}

/* ---- forward ---- */

static void set_rows(la_run *run, const la_batch *batch) {
    const la_model *model = run->model;
    int64_t tokens = batch->n_tokens, rows = batch->n_rows;
    run->n_rows = rows;
    run->n_tokens = tokens;
    run->embedded.rows = tokens;
    for (int64_t i = 0; i < model->config.layers; i++) {
        la_layer_state *s = &run->layers[i];
        int64_t queries = run->pruned && i == model->config.layers - 1 ? rows : tokens;
        la_mat *all[] = {&s->in, &s->a, &s->k, &s->v};
        la_mat *after[] = {&s->a_q,  &s->in_q, &s->q,   &s->context, &s->sum, &s->f,
                           &s->gate, &s->up,   &s->act, &s->sum2,    &s->out};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            all[j]->rows = tokens;
        for (size_t j = 0; j < sizeof after / sizeof *after; j++)
            after[j]->rows = queries;
        for (int slot = 0; slot < LA_SLOTS; slot++)
            s->site[slot].rows = slot == LA_SLOT_K || slot == LA_SLOT_V ? tokens : queries;
    }
    run->pooled_state.rows = run->final_state.rows = rows;
    for (int i = 0; i < model->n_head; i++)
        run->head_pre[i].rows = run->head_in[i + 1].rows = run->head_one[i].rows =
            run->head_site[i].rows = rows;
}

static void upload_batch(la_run *run, const la_batch *batch) {
    la_backend *be = run->model->be;
    const la_config *config = &run->model->config;
    size_t tokens = (size_t)batch->n_tokens * sizeof(int32_t);
    size_t rows = (size_t)batch->n_rows * sizeof(int32_t), ends = rows + sizeof(int32_t);
    be->ops->upload(be, run->ids, batch->ids, tokens);
    be->ops->upload(be, run->types, batch->types, tokens);
    be->ops->upload(be, run->positions, batch->positions, tokens);
    be->ops->upload(be, run->cu, batch->cu, ends);
    be->ops->upload(be, run->pooled, batch->pooled, rows);
    be->ops->upload(be, run->pooled_at, batch->pooled_at, rows);
    be->ops->upload(be, run->ones, batch->ones, ends);
    run->attention = (la_attention){
        .n_rows = batch->n_rows,
        .cu = run->cu,
        .cu_q = run->cu,
        .q_at = run->positions,
        .n_heads = config->heads,
        .n_kv_heads = config->kv_heads,
        .head_dim = config->head_dim,
        .max_length = batch->max_length,
        .max_queries = batch->max_length,
        .scale = (float)(1.0 / sqrt((double)config->head_dim)),
        .before = LA_ATTENTION_ALL,
        .after = config->arch->causal ? 0 : LA_ATTENTION_ALL,
    };
}

static void forward_embedding(la_run *run) {
    la_model *model = run->model;
    la_backend *be = model->be;
    const int32_t *ids[3] = {run->ids};
    int n = 1;
    if (model->config.arch->embed_positions)
        ids[n++] = run->positions;
    if (model->config.arch->embed_types)
        ids[n++] = run->types;
    la_mat *first = &run->layers[0].in;
    bool norm = model->embed_norm.weight != NULL;
    be->ops->embed(be, n, model->tables, ids, 1, norm ? &run->embedded : first);
    if (norm)
        be->ops->norm(be, &model->embed_norm, &run->embedded, run->stats_embed, first);
}

static void forward_head(la_run *run) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_mat *out = &run->layers[model->config.layers - 1].out;
    /* a pruned last layer holds the pooled rows alone, one behind the other */
    be->ops->gather(be, out, run->pruned ? run->ones : run->pooled, &run->pooled_state);
    la_mat state = run->pooled_state;
    if (model->final_norm.weight) {
        be->ops->norm(be, &model->final_norm, &state, run->stats_final, &run->final_state);
        state = run->final_state;
    }
    run->head_in[0] = state;
    for (int i = 0; i < model->n_head; i++) {
        const la_head_layer *layer = &model->head[i];
        bool plain = layer->activation == LA_ACT_NONE;
        la_linear_forward(be, &layer->linear, &run->head_in[i], NULL, &run->head_site[i],
                          plain ? &run->head_in[i + 1] : &run->head_pre[i]);
        if (!plain)
            be->ops->activation(be, layer->activation, &run->head_pre[i], NULL,
                                &run->head_in[i + 1]);
    }
}

la_status la_run_forward(la_run *run, const la_batch *batch, float *logits, la_error *err) {
    la_model *model = run->model;
    la_backend *be = model->be;
    run->bad_row = -1;
    set_rows(run, batch);
    upload_batch(run, batch);
    forward_embedding(run);
    for (int64_t i = 0; i < model->config.layers; i++)
        la_block_forward(run, i);
    forward_head(run);
    const la_mat *out = &run->head_in[model->n_head];
    size_t count = (size_t)(out->rows * out->cols);
    be->ops->download(be, logits, out->data, count * sizeof(float));
    LA_TRY(be->ops->sync(be, err));
    for (size_t i = 0; i < count; i++) {
        if (isfinite(logits[i]))
            continue;
        run->bad_row = (int64_t)i / out->cols;
        return la_fail(
            err, LA_NUMERICAL,
            "the model's logits for this row are %s; a weight or an activation is out of "
            "range",
            isnan(logits[i]) ? "NaN" : "infinite");
    }
    return LA_OK;
}

int64_t la_run_state_width(const la_model *model) {
    return model->head[model->n_head - 1].linear.w.cols;
}

la_status la_run_states(la_run *run, float *states, la_error *err) {
    la_backend *be = run->model->be;
    const la_mat *state = &run->head_in[run->model->n_head - 1];
    be->ops->download(be, states, state->data,
                      (size_t)(run->n_rows * state->cols) * sizeof *states);
    return be->ops->sync(be, err);
}

/* ---- backward ---- */

static void visit_head(la_run *run, int i, const la_mat *g, const la_block_visitor *visitor) {
    const la_model *model = run->model;
    const la_head_layer *layer = &model->head[i];
    if (layer->block < 0 || !model->blocks[layer->block].wanted)
        return;
    const la_mat *x = &run->head_in[i];
    if (model->blocks[layer->block].in > x->cols) {
        model->be->ops->append_one(model->be, x, &run->head_one[i]);
        x = &run->head_one[i];
    }
    la_block_io io = {.x = x,
                      .cu = run->ones,
                      .x_at_g = x,
                      .g = g,
                      .cu_g = run->ones,
                      .g_scale = 1,
                      .n_rows = run->n_rows,
                      .n_rhs = run->n_rhs};
    visitor->visit(visitor->user, layer->block, &io);
}

/* From the logits to the pooled state; returns its cotangents [n_rhs n, d]. */
static la_mat backward_head(la_run *run, const la_block_visitor *visitor) {
    la_model *model = run->model;
    la_backend *be = model->be;
    int64_t rows = run->n_rhs * run->n_rows;
    int at = 0;
    la_mat g = la_mat_f32(run->head_g[0].data, rows, model->n_classes);
    for (int i = model->n_head - 1; i >= 0; i--) {
        const la_head_layer *layer = &model->head[i];
        if (layer->activation != LA_ACT_NONE)
            be->ops->activation_backward(be, layer->activation, &run->head_pre[i], NULL, run->n_rhs,
                                         &g, &g, NULL);
        visit_head(run, i, &g, visitor);
        la_mat dx = la_mat_f32(run->head_g[1 - at].data, rows, layer->linear.w.cols);
        la_linear_backward(run, &layer->linear, &run->head_site[i], &run->head_in[i],
                           &run->head_in[i], true, &g, 0, &dx, true, visitor);
        g = dx;
        at = 1 - at;
    }
    if (model->final_norm.weight)
        be->ops->norm_backward(be, &model->final_norm, &run->pooled_state, run->stats_final,
                               run->n_rhs, &g, NULL, &g);
    return g;
}

la_status la_run_backward(la_run *run, const float *cotangents, const la_block_visitor *visitor,
                          la_error *err) {
    la_model *model = run->model;
    la_backend *be = model->be;
    int64_t n = model->config.layers, m = run->n_rhs;
    be->ops->upload(be, run->head_g[0].data, cotangents,
                    (size_t)(m * run->n_rows * model->n_classes) * sizeof(float));
    la_mat g = backward_head(run, visitor);
    if (run->n_kept) {
        int64_t rows = m * run->layers[n - 1].out.rows;
        la_mat to = la_mat_of(run->g.type, run->g.data, rows, model->config.hidden);
        be->ops->scatter(be, &g, m, run->pruned ? run->ones : run->pooled, false, &to);
        for (int64_t i = n - 1; i >= model->lowest_layer; i--)
            la_block_backward(run, i, visitor);
    }
    return be->ops->sync(be, err);
}
