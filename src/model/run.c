#include "model/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static la_mat take(const la_run *run, la_arena *arena, int64_t rows, int64_t cols) {
    return la_model_take(run->model, arena, rows, cols);
}

/* The head works in f32 whatever the layers do. */
static la_mat take_f32(la_arena *arena, int64_t rows, int64_t cols) {
    return la_mat_f32(la_arena_take(arena, (size_t)(rows * cols), sizeof(float)), rows, cols);
}

static float *take_stats(la_arena *arena, int64_t rows) {
    return la_arena_take(arena, (size_t)(2 * rows), sizeof(float));
}

static int64_t largest(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Slots that work on all tokens even where only some go on. */
static bool sees_all(int slot) {
    return slot == LA_SLOT_QKV || slot == LA_SLOT_K || slot == LA_SLOT_V;
}

static void layout_sites(const la_run *run, const la_layer *layer, int64_t tokens, int64_t queries,
                         la_arena *arena, la_layer_state *s) {
    for (int slot = 0; slot < LA_SLOTS; slot++) {
        if (layer->linear[slot].site)
            s->site[slot] = take(run, arena, sees_all(slot) ? tokens : queries,
                                 layer->linear[slot].site->state_cols);
    }
}

static void layout_bottlenecks(const la_run *run, const la_layer *layer, int64_t queries,
                               la_arena *arena, la_layer_state *s) {
    int64_t d = run->model->config.hidden;
    for (int place = 0; place < 2; place++) {
        const la_bottleneck *e = layer->bottleneck[place];
        la_bottleneck_state *to = &s->bottleneck[place];
        if (!e)
            continue;
        to->z = take(run, arena, queries, d + 1);
        to->pre = take(run, arena, queries, e->down.rows);
        to->act = take(run, arena, queries, e->up.cols);
        to->narrow = take(run, arena, queries, e->down.rows);
        if (e->input != LA_BOTTLENECK_NORMED)
            continue;
        to->before = take(run, arena, queries, d);
        to->stats = take_stats(arena, queries);
    }
}

/* q, k and v beside each other where one projection gives them all. */
static void layout_qkv(const la_run *run, int64_t tokens, int64_t queries, bool pruned,
                       la_arena *arena, la_layer_state *s) {
    const la_config *config = &run->model->config;
    const la_arch *arch = config->arch;
    int64_t wide = config->heads * config->head_dim, narrow = config->kv_heads * config->head_dim;
    if (!arch->linear[LA_SLOT_QKV]) {
        s->q = take(run, arena, queries, wide);
        s->k = take(run, arena, tokens, narrow);
        s->v = take(run, arena, tokens, narrow);
        s->q_raw = arch->norm_q ? take(run, arena, queries, wide) : s->q;
        s->k_raw = arch->norm_k ? take(run, arena, tokens, narrow) : s->k;
        return;
    }
    s->qkv = take(run, arena, tokens, wide + 2 * narrow);
    s->q = pruned ? take(run, arena, queries, wide) : la_mat_columns(&s->qkv, 0, wide);
    s->k = la_mat_columns(&s->qkv, wide, narrow);
    s->v = la_mat_columns(&s->qkv, wide + narrow, narrow);
}

/* Everything of a layer but its place in the residual stream. */
static void layout_layer(const la_run *run, int64_t tokens, int64_t queries, bool pruned,
                         la_arena *arena, la_layer_state *s) {
    const la_config *config = &run->model->config;
    const la_arch *arch = config->arch;
    int64_t d = config->hidden, wide = config->heads * config->head_dim;
    layout_qkv(run, tokens, queries, pruned, arena, s);
    int64_t lines = la_relative_lines(config, run->max_packed);
    if (config->distances.c2p && lines)
        s->pos_k = take(run, arena, lines, wide);
    if (config->distances.p2c && lines)
        s->pos_q = take(run, arena, lines, wide);
    if (run->model->prompt.of_layers) {
        s->k_all = take(run, arena, run->max_packed, config->kv_heads * config->head_dim);
        s->v_all = take(run, arena, run->max_packed, config->kv_heads * config->head_dim);
    }
    s->context = take(run, arena, queries, wide);
    s->sum = take(run, arena, queries, d);
    s->f = take(run, arena, queries, d);
    if (arch->linear[LA_SLOT_GATE_UP]) {
        s->gate_up = take(run, arena, queries, 2 * config->ffn);
        s->gate = la_mat_columns(&s->gate_up, 0, config->ffn);
        s->up = la_mat_columns(&s->gate_up, config->ffn, config->ffn);
    } else {
        s->up = take(run, arena, queries, config->ffn);
        if (arch->gated)
            s->gate = take(run, arena, queries, config->ffn);
    }
    s->act = take(run, arena, queries, config->ffn);
    s->stats_a = take_stats(arena, tokens);
    s->stats_f = take_stats(arena, queries);
    s->lse = la_arena_take(arena, (size_t)(queries * config->heads), sizeof(float));
    if (arch->norm_q)
        s->stats_q = take_stats(arena, queries * config->heads);
    if (arch->norm_k)
        s->stats_k = take_stats(arena, tokens * config->kv_heads);
    if (arch->norm_attention_out) {
        s->attended = take(run, arena, queries, d);
        s->stats_attended = take_stats(arena, queries);
    }
    if (arch->norm_ffn_out) {
        s->added = take(run, arena, queries, d);
        s->stats_added = take_stats(arena, queries);
    }
    if (arch->pre_norm)
        s->a = take(run, arena, tokens, d);
    if (!arch->pre_norm)
        s->sum2 = take(run, arena, queries, d);
    if (pruned) {
        s->a_q = take(run, arena, queries, d);
        if (arch->pre_norm)
            s->in_q = take(run, arena, queries, d);
    }
}

/* Layers that keep nothing for backward, or their input alone, work in one shared state; the
 * residual stream of the former goes to and fro between two buffers. */
static void layout_layers(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    int64_t tokens = run->max_packed, d = config->hidden, n = config->layers;
    la_layer_state shared = {0};
    run->stream[0] = take(run, arena, tokens, d);
    run->stream[1] = take(run, arena, tokens, d);
    if (model->max_bottleneck)
        run->spare = take(run, arena, tokens, d);
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
        layout_bottlenecks(run, &model->layers[i], queries, arena, s);
        s->in = in;
        s->out = kept || pruned ? take(run, arena, queries, d) : run->stream[(i + 1) % 2];
        if (config->arch->pre_norm)
            s->sum2 = s->out;
        if (!model->layers[i].norm_attention.weight || !config->arch->pre_norm)
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

/* Whether the final norm is needed over all tokens. */
static bool needs_all(const la_run *run) {
    return run->model->pool_token == LA_POOL_MEAN ||
           (!run->pruned && la_head_reads_all(run->model));
}

static void layout_head(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    int64_t n = run->max_rows, d = model->config.hidden, widest = d;
    run->pooled_state = take_f32(arena, n, d);
    run->final_state = take_f32(arena, n, d);
    run->stats_final = take_stats(arena, n);
    if (needs_all(run)) {
        run->final_all = take(run, arena, run->max_packed, d);
        run->stats_all = take_stats(arena, run->max_packed);
    }
    for (int i = 0; i < model->n_head; i++) {
        const la_head_layer *layer = &model->head[i];
        run->head_pre[i] = take_f32(arena, n, layer->linear.w.rows);
        run->head_in[i + 1] = take_f32(arena, n, layer->linear.w.rows);
        run->head_one[i] = take_f32(arena, n, layer->linear.w.cols + 1);
        if (layer->norm.weight) {
            run->head_act[i] = take_f32(arena, n, layer->linear.w.rows);
            run->head_stats[i] = take_stats(arena, n);
        }
        if (layer->linear.site)
            run->head_site[i] = take_f32(arena, n, layer->linear.site->state_cols);
        widest = largest(widest, layer->linear.w.rows);
    }
    for (int i = 0; i < 2 && run->n_rhs; i++)
        run->head_g[i] = take_f32(arena, run->n_rhs * n, widest);
}

static void layout_cotangents(la_run *run, la_arena *arena) {
    const la_config *config = &run->model->config;
    const la_arch *arch = config->arch;
    int64_t rows = run->n_rhs * run->max_packed, d = largest(config->hidden, config->embedding);
    int64_t wide = config->heads * config->head_dim, narrow = config->kv_heads * config->head_dim;
    int64_t state = run->model->max_state_cols;
    /* these serve the head's sites as well */
    int64_t all = la_model_most_inputs(run->model, run->max_packed);
    run->site_work = take_f32(arena, run->n_rhs * all, largest(state, run->model->max_work_cols));
    run->site_all = take_f32(arena, all, state);
    if (!run->n_kept)
        return;
    run->g = take(run, arena, rows, d);
    run->g2 = take(run, arena, rows, d);
    if (run->model->max_bottleneck)
        run->bottleneck_g = take(run, arena, rows, d);
    if (arch->linear[LA_SLOT_QKV])
        run->dqkv = take(run, arena, rows, wide + 2 * narrow);
    else
        run->dk = take(run, arena, rows, narrow), run->dv = take(run, arena, rows, narrow);
    run->dq = take(run, arena, rows, wide);
    run->dctx = take(run, arena, rows, largest(wide, d));
    run->dffn = take(run, arena, rows, largest(config->ffn, d));
    if (arch->linear[LA_SLOT_GATE_UP])
        run->dgate_up = take(run, arena, rows, 2 * config->ffn);
    else
        run->dup = take(run, arena, rows, arch->gated ? config->ffn : 0);
}

/* Columns of the widest one-hot input that backward needs; 0: none. */
static int64_t one_hot_columns(const la_run *run) {
    const la_model *model = run->model;
    int64_t widest = 0;
    for (int i = 0; run->n_rhs && model->embedding_wanted && i < model->n_tables; i++)
        if (model->embedding[i] && model->embedding[i]->blocks[0] >= 0)
            widest = largest(widest, model->tables[i].rows);
    return widest;
}

static void layout_embedding(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    int64_t tokens = run->max_packed, wide = one_hot_columns(run);
    run->embedded = take(run, arena, tokens, largest(config->embedding, config->hidden));
    run->embedded.cols = run->embedded.ld = config->embedding;
    run->stats_embed = take_stats(arena, tokens);
    if (model->embed_project.w.data) {
        run->projected = take(run, arena, tokens, config->embedding);
        if (model->embed_project.site)
            run->embed_site = take(run, arena, tokens, model->embed_project.site->state_cols);
    }
    for (int i = 0; i < model->n_tables; i++)
        if (model->embedding[i])
            run->table_state[i] = take(run, arena, tokens, model->embedding[i]->b.cols);
    if (!wide)
        return;
    run->one_hot = take_f32(arena, tokens, wide);
    for (int i = 0; i < model->n_tables; i++)
        if (model->embedding[i])
            run->one_at[i] = la_arena_take(arena, (size_t)tokens, sizeof(int32_t));
    run->column = la_arena_take(arena, (size_t)tokens, sizeof(float));
}

static bool any_by_length(const la_config *config) {
    bool any = false;
    for (int i = 0; i < config->n_ropes; i++)
        any |= la_rope_by_length(&config->rope[i]);
    return any;
}

static void layout(la_run *run, la_arena *arena) {
    size_t tokens = (size_t)run->max_packed, rows = (size_t)run->max_rows + 1;
    const la_model *model = run->model;
    const la_config *config = &model->config;
    run->ids = la_arena_take(arena, tokens, sizeof(int32_t));
    run->types = la_arena_take(arena, tokens, sizeof(int32_t));
    run->positions = la_arena_take(arena, tokens, sizeof(int32_t));
    run->embed_at = la_arena_take(arena, tokens, sizeof(int32_t));
    run->cu = la_arena_take(arena, rows, sizeof(int32_t));
    run->pooled = la_arena_take(arena, rows, sizeof(int32_t));
    run->pooled_at = la_arena_take(arena, rows, sizeof(int32_t));
    run->ones = la_arena_take(arena, rows, sizeof(int32_t));
    if (any_by_length(config))
        run->iota = la_arena_take(arena, tokens, sizeof(int32_t));
    for (int i = 0; i < config->n_ropes; i++)
        run->angles[i] = la_arena_take(arena, tokens * (size_t)config->rope[i].dim, sizeof(float));
    la_relative_layout(run, arena);
    la_prompt_layout(model, run->max_rows, run->max_tokens, run->n_rhs, arena, &run->prompt);
    layout_embedding(run, arena);
    layout_layers(run, arena);
    layout_head(run, arena);
    if (run->n_rhs)
        layout_cotangents(run, arena);
}

/* ---- rotary angles ---- */

/* cosines and sines [n][dim / 2][2] for places first, first + 1, ... of a row of that length */
static void fill_angles(const la_rope *rope, int64_t length, int64_t first, int64_t n, float *out) {
    double frequency[LA_ROPE_PAIRS_MAX];
    int64_t half = rope->dim / 2;
    la_rope_frequencies(rope, length, frequency);
    for (int64_t t = 0; t < n; t++) {
        for (int64_t j = 0; j < half; j++) {
            double angle = (double)(first + t) * frequency[j];
            *out++ = (float)(rope->attention_factor * cos(angle));
            *out++ = (float)(rope->attention_factor * sin(angle));
        }
    }
}

/* For every place that a row can have, where its length does not matter. */
static la_status open_angles(la_run *run, la_error *err) {
    const la_config *config = &run->model->config;
    la_backend *be = run->model->be;
    size_t most = 0;
    for (int i = 0; i < config->n_ropes; i++)
        most = (size_t)largest((int64_t)most, run->max_packed * config->rope[i].dim);
    if (!most)
        return LA_OK;
    run->host_angles = la_alloc(most, sizeof *run->host_angles, err);
    if (!run->host_angles)
        return err->status;
    for (int i = 0; i < config->n_ropes; i++) {
        const la_rope *rope = &config->rope[i];
        if (la_rope_by_length(rope))
            continue;
        fill_angles(rope, run->max_packed, -la_prompt_offset(run->model), run->max_packed,
                    run->host_angles);
        be->ops->upload(be, run->angles[i], run->host_angles,
                        (size_t)(run->max_packed * rope->dim) * sizeof(float));
    }
    if (!run->iota)
        return LA_OK;
    int32_t *iota = la_alloc((size_t)run->max_packed, sizeof *iota, err);
    for (int64_t t = 0; iota && t < run->max_packed; t++)
        iota[t] = (int32_t)t;
    if (iota)
        be->ops->upload(be, run->iota, iota, (size_t)run->max_packed * sizeof *iota);
    free(iota);
    return err->status;
}

/* For every token of the batch, where it does. */
static void upload_angles(la_run *run, const la_batch *batch) {
    const la_config *config = &run->model->config;
    la_backend *be = run->model->be;
    for (int i = 0; i < config->n_ropes; i++) {
        const la_rope *rope = &config->rope[i];
        if (!la_rope_by_length(rope))
            continue;
        for (int64_t r = 0; r < batch->n_rows; r++) {
            int64_t n = batch->cu[r + 1] - batch->cu[r];
            int64_t first = batch->positions[batch->cu[r]] - la_prompt_offset(run->model);
            fill_angles(rope, first + n, first, n, run->host_angles + batch->cu[r] * rope->dim);
        }
        be->ops->upload(be, run->angles[i], run->host_angles,
                        (size_t)(batch->n_tokens * rope->dim) * sizeof(float));
    }
}

void la_run_rotate(la_run *run, int64_t layer, bool queries, int64_t n_rhs, int sign, la_mat *x) {
    const la_config *config = &run->model->config;
    la_backend *be = run->model->be;
    int which = config->plan[layer].rope;
    if (which < 0)
        return;
    const la_rope *rope = &config->rope[which];
    bool pruned = queries && run->pruned && layer == config->layers - 1;
    bool by_length = la_rope_by_length(rope);
    const int32_t *at = pruned      ? (by_length ? run->pooled : run->pooled_at)
                        : by_length ? run->iota
                                    : run->positions;
    be->ops->rotate(be, queries ? config->heads : config->kv_heads, config->head_dim, rope->dim,
                    run->angles[which], at, n_rhs, sign, x);
}

/* ---- opening ---- */

static la_status open_one_hot(la_run *run, la_error *err) {
    if (!run->column)
        return LA_OK;
    la_backend *be = run->model->be;
    size_t tokens = (size_t)run->max_packed;
    float *ones = la_alloc(tokens, sizeof *ones, err);
    run->host_one_at = la_alloc(tokens, sizeof *run->host_one_at, err);
    for (size_t t = 0; ones && t < tokens; t++)
        ones[t] = 1;
    if (err->status == LA_OK)
        be->ops->upload(be, run->column, ones, tokens * sizeof *ones);
    free(ones);
    return err->status;
}

/* Projections behind the attention of the last layer see all tokens when one of them is adapted and
 * all inputs count. */
static bool can_prune(const la_model *model, bool all_inputs, bool forward_only) {
    const la_layer *last = &model->layers[model->config.layers - 1];
    if (model->pool_token == LA_POOL_MEAN || (model->config.distances.span && !forward_only))
        return false;
    if (!all_inputs)
        return true;
    if (la_head_reads_all(model) && la_linear_wanted(model, &model->head[0].linear))
        return false;
    for (int place = 0; place < 2; place++)
        if (last->bottleneck[place] && model->blocks[last->bottleneck[place]->blocks[0]].wanted)
            return false;
    for (int slot = LA_SLOT_O; slot < LA_SLOTS; slot++)
        if (la_linear_wanted(model, &last->linear[slot]))
            return false;
    return true;
}

static la_status shape_run(la_model *model, const la_run_shape *shape, la_run *run, la_error *err) {
    bool any = shape->n_rhs > 0;
    *run =
        (la_run){.model = model,
                 .max_rows = shape->max_rows,
                 .max_tokens = shape->max_tokens,
                 .max_packed = la_prompt_tokens(model, shape->max_rows, shape->max_tokens),
                 .n_rhs = shape->n_rhs,
                 .n_kept = !any                      ? 0
                           : model->lowest_layer < 0 ? model->config.layers
                                                     : model->config.layers - model->lowest_layer,
                 .recompute = any && shape->recompute,
                 .pruned = can_prune(model, shape->all_inputs, !any)};
    run->layers = la_alloc((size_t)model->config.layers, sizeof *run->layers, err);
    return err->status;
}

static la_sizes sizes_of(const la_model *model, const la_run_shape *shape) {
    const la_config *config = &model->config;
    int64_t tokens = la_prompt_tokens(model, shape->max_rows, shape->max_tokens);
    int64_t small = model->max_state_cols;
    if (model->prompt.n) /* the smaller side of its blocks may be that of the cotangents */
        small = largest(small, model->prompt.parts[0].table.cols);
    return (la_sizes){.max_rows = shape->max_rows,
                      .max_tokens = la_model_most_inputs(model, tokens),
                      .max_length = tokens,
                      .n_rhs = shape->n_rhs,
                      .n_heads = config->heads,
                      .max_width = largest(config->ffn, config->hidden),
                      .max_factor = shape->max_factor,
                      .max_weight = model->max_weight,
                      .max_relative = la_relative_lines(config, tokens),
                      .max_small = model->be->activation == LA_F32 ? 0 : small};
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

static la_status open_softcap(la_run *run, la_error *err) {
    int64_t n = run->max_rows * run->model->n_classes;
    run->slopes = la_alloc((size_t)n, sizeof *run->slopes, err);
    run->sloped = la_alloc((size_t)(n * largest(run->n_rhs, 1)), sizeof *run->sloped, err);
    return err->status;
}

la_status la_run_open(la_model *model, const la_run_shape *shape, la_run *run, la_error *err) {
    la_backend *be = model->be;
    LA_TRY(shape_run(model, shape, run, err));
    la_arena arena = {0};
    layout(run, &arena);
    size_t bytes = arena.used;
    run->memory = be->ops->alloc(be, bytes);
    if (!run->memory) {
        (void)la_fail(err, LA_RESOURCE,
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
    la_status status = open_angles(run, err);
    if (status == LA_OK)
        status = la_relative_open(run, err);
    if (status == LA_OK)
        status = open_one_hot(run, err);
    if (status == LA_OK)
        status = la_prompt_open(model, run->max_rows, run->max_tokens, &run->prompt, err);
    if (status == LA_OK && model->task == LA_TASK_CHOICE && model->config.logit_cap > 0)
        status = open_softcap(run, err);
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
    la_relative_close(run);
    free(run->host_angles);
    free(run->host_one_at);
    la_prompt_close(&run->prompt);
    free(run->slopes);
    free(run->sloped);
    *run = (la_run){0};
}

/* ---- forward ---- */

static void set_rows(la_run *run, const la_batch *batch) {
    const la_model *model = run->model;
    int64_t tokens = batch->n_tokens, rows = batch->n_rows;
    run->n_rows = rows;
    run->n_tokens = tokens;
    run->embedded.rows = run->projected.rows = run->embed_site.rows = run->final_all.rows = tokens;
    for (int i = 0; i < 3; i++)
        run->table_state[i].rows = tokens;
    for (int64_t i = 0; i < model->config.layers; i++) {
        la_layer_state *s = &run->layers[i];
        int64_t queries = run->pruned && i == model->config.layers - 1 ? rows : tokens;
        la_mat *all[] = {&s->in, &s->a, &s->qkv, &s->k, &s->v, &s->k_raw};
        la_mat *after[] = {&s->a_q, &s->in_q, &s->q,       &s->q_raw, &s->context,
                           &s->sum, &s->f,    &s->gate_up, &s->gate,  &s->up,
                           &s->act, &s->sum2, &s->out,     &s->added, &s->attended};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            all[j]->rows = tokens;
        s->k_all.rows = s->v_all.rows = run->prompt.n_keys;
        for (size_t j = 0; j < sizeof after / sizeof *after; j++)
            after[j]->rows = queries;
        for (int slot = 0; slot < LA_SLOTS; slot++)
            s->site[slot].rows = sees_all(slot) ? tokens : queries;
        for (int place = 0; place < 2; place++) {
            la_bottleneck_state *e = &s->bottleneck[place];
            e->before.rows = e->z.rows = e->pre.rows = e->act.rows = e->narrow.rows = queries;
        }
    }
    run->pooled_state.rows = run->final_state.rows = rows;
    for (int i = 0; i < model->n_head; i++)
        run->head_pre[i].rows = run->head_act[i].rows = run->head_in[i + 1].rows =
            run->head_one[i].rows = run->head_site[i].rows = rows;
}

/* What each embedding table is asked for, in the order of the tables; returns how many there are. */
static int table_ids(const la_config *config, const int32_t *tokens, const int32_t *positions,
                     const int32_t *types, const int32_t *ids[3]) {
    int n = 0;
    ids[n++] = tokens;
    if (config->has_positions)
        ids[n++] = positions;
    if (config->has_types)
        ids[n++] = types;
    return n;
}

/* Where the ones of the tables' one-hot inputs [T, rows] are. */
static void upload_ones(la_run *run, const la_batch *batch) {
    const la_model *model = run->model;
    const int32_t *ids[3];
    int n = table_ids(&model->config, batch->ids, batch->embed_at, batch->types, ids);
    for (int i = 0; run->host_one_at && i < n; i++) {
        if (!run->one_at[i])
            continue;
        for (int64_t t = 0; t < batch->n_tokens; t++)
            run->host_one_at[t] = (int32_t)(t * model->tables[i].rows) + ids[i][t];
        model->be->ops->upload(model->be, run->one_at[i], run->host_one_at,
                               (size_t)batch->n_tokens * sizeof(int32_t));
    }
}

static void upload_batch(la_run *run, const la_batch *batch) {
    la_backend *be = run->model->be;
    const la_config *config = &run->model->config;
    size_t tokens = (size_t)batch->n_tokens * sizeof(int32_t);
    size_t rows = (size_t)batch->n_rows * sizeof(int32_t), ends = rows + sizeof(int32_t);
    be->ops->upload(be, run->ids, batch->ids, tokens);
    be->ops->upload(be, run->types, batch->types, tokens);
    be->ops->upload(be, run->positions, batch->positions, tokens);
    be->ops->upload(be, run->embed_at, batch->embed_at, tokens);
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
        .softcap = (float)config->score_cap,
    };
    if (run->model->prompt.of_layers) {
        run->attention.cu = run->prompt.key_cu;
        run->attention.max_length += run->model->prompt.n;
    }
    upload_angles(run, batch);
    la_relative_upload(run, batch);
    upload_ones(run, batch);
}

static void forward_embedding(la_run *run) {
    la_model *model = run->model;
    la_backend *be = model->be;
    const int32_t *ids[3];
    int n = table_ids(&model->config, run->ids, run->embed_at, run->types, ids);
    la_mat *first = &run->layers[0].in;
    bool norm = model->embed_norm.weight != NULL, project = model->embed_project.w.data != NULL;
    la_mat *normed = project ? &run->projected : first;
    bool late = norm && project && model->config.arch->norm_after_project;
    la_mat *sum = norm && !late ? &run->embedded : normed;
    if (model->prompt.n && !model->prompt.of_layers)
        la_prompt_embed(model, ids, &run->prompt, sum);
    else
        be->ops->embed(be, n, model->tables, ids, model->embed_scale, sum);
    for (int i = 0; i < n; i++)
        if (model->embedding[i])
            la_embedding_forward(be, model->embedding[i], ids[i], &run->table_state[i], sum);
    if (late) {
        la_mat wide = la_mat_of(first->type, run->embedded.data, first->rows, first->cols);
        la_linear_forward(be, &model->embed_project, normed, NULL, &run->embed_site, &wide);
        be->ops->norm(be, &model->embed_norm, &wide, run->stats_embed, first);
        return;
    }
    if (norm)
        be->ops->norm(be, &model->embed_norm, &run->embedded, run->stats_embed, normed);
    if (project)
        la_linear_forward(be, &model->embed_project, normed, NULL, &run->embed_site, first);
}

static void forward_pooling(la_run *run) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_mat *out = &run->layers[model->config.layers - 1].out;
    bool normed = model->final_norm.weight != NULL;
    if (needs_all(run) && normed)
        be->ops->norm(be, &model->final_norm, out, run->stats_all, &run->final_all);
    if (model->pool_token == LA_POOL_MEAN) {
        be->ops->segment_sum(be, normed ? &run->final_all : out, 1, run->n_rows, run->cu, true,
                             &run->final_state);
        run->head_in[0] = run->final_state;
        return;
    }
    /* a pruned last layer holds the pooled rows alone, one behind the other */
    be->ops->gather(be, out, run->pruned ? run->ones : run->pooled, &run->pooled_state);
    if (normed)
        be->ops->norm(be, &model->final_norm, &run->pooled_state, run->stats_final,
                      &run->final_state);
    run->head_in[0] = normed ? run->final_state : run->pooled_state;
}

static void forward_head(la_run *run) {
    la_model *model = run->model;
    la_backend *be = model->be;
    forward_pooling(run);
    for (int i = 0; i < model->n_head; i++) {
        const la_head_layer *layer = &model->head[i];
        la_mat *out = &run->head_in[i + 1];
        bool plain = layer->activation == LA_ACT_NONE, norm = layer->norm.weight != NULL;
        la_mat *active = norm ? &run->head_act[i] : out;
        la_linear_forward(be, &layer->linear, &run->head_in[i], NULL, &run->head_site[i],
                          plain ? active : &run->head_pre[i]);
        if (!plain)
            be->ops->activation(be, layer->activation, &run->head_pre[i], NULL, active);
        if (norm)
            be->ops->norm(be, &layer->norm, active, run->head_stats[i], out);
    }
}

/* logits -> cap tanh(logits / cap), leaving its slopes */
static void cap_logits(la_run *run, size_t count, float *logits) {
    float cap = (float)run->model->config.logit_cap;
    for (size_t i = 0; run->slopes && i < count; i++) {
        float t = tanhf(logits[i] / cap);
        logits[i] = cap * t;
        run->slopes[i] = 1 - t * t;
    }
}

la_status la_run_forward(la_run *run, const la_batch *batch, float *logits, la_error *err) {
    la_model *model = run->model;
    la_backend *be = model->be;
    run->bad_row = -1;
    batch = la_prompt_pack(model, batch, &run->prompt);
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
    cap_logits(run, count, logits);
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

/* From the logits to what the head reads; returns its cotangents [n_rhs n, d]. */
static la_mat backward_head(la_run *run, const la_block_visitor *visitor) {
    la_model *model = run->model;
    la_backend *be = model->be;
    int64_t rows = run->n_rhs * run->n_rows;
    int at = 0;
    la_mat g = la_mat_f32(run->head_g[0].data, rows, model->n_classes);
    for (int i = model->n_head - 1; i >= 0; i--) {
        const la_head_layer *layer = &model->head[i];
        if (layer->norm.weight)
            be->ops->norm_backward(be, &layer->norm, &run->head_act[i], run->head_stats[i],
                                   run->n_rhs, &g, NULL, &g);
        if (layer->activation != LA_ACT_NONE)
            be->ops->activation_backward(be, layer->activation, &run->head_pre[i], NULL, run->n_rhs,
                                         &g, &g, NULL);
        visit_head(run, i, &g, visitor);
        la_mat dx = la_mat_f32(run->head_g[1 - at].data, rows, layer->linear.w.cols);
        bool all = !i && !run->pruned && la_head_reads_all(model);
        la_linear_backward(run, &layer->linear, &run->head_site[i],
                           all ? &run->final_all : &run->head_in[i], &run->head_in[i], run->cu,
                           true, &g, 0, &dx, true, visitor);
        g = dx;
        at = 1 - at;
    }
    return g;
}

/* g[n_rhs n, d] of what the head reads -> run->g of the last layer's output */
static void backward_pooling(la_run *run, la_mat *g) {
    la_model *model = run->model;
    la_backend *be = model->be;
    const la_mat *out = &run->layers[model->config.layers - 1].out;
    la_mat to = la_mat_of(run->g.type, run->g.data, run->n_rhs * out->rows, model->config.hidden);
    bool normed = model->final_norm.weight != NULL;
    if (model->pool_token == LA_POOL_MEAN) {
        be->ops->segment_spread(be, g, run->n_rhs, run->n_rows, run->cu, &to);
        if (normed)
            be->ops->norm_backward(be, &model->final_norm, out, run->stats_all, run->n_rhs, &to,
                                   NULL, &to);
        return;
    }
    if (normed)
        be->ops->norm_backward(be, &model->final_norm, &run->pooled_state, run->stats_final,
                               run->n_rhs, g, NULL, g);
    be->ops->scatter(be, g, run->n_rhs, run->pruned ? run->ones : run->pooled, false, &to);
}

/* run->g of the first layer's input -> the blocks of the embeddings */
static void backward_embedding(la_run *run, const la_block_visitor *visitor) {
    la_model *model = run->model;
    la_backend *be = model->be;
    int64_t m = run->n_rhs, tokens = run->n_tokens;
    la_mat g = la_mat_of(run->g.type, run->g.data, m * tokens, model->config.hidden);
    bool more = model->embedding_wanted;
    if (model->embed_project.w.data) {
        la_mat dx = la_mat_of(run->g.type, run->g2.data, m * tokens, model->config.embedding);
        la_linear_backward(run, &model->embed_project, &run->embed_site, &run->projected,
                           &run->projected, run->cu, false, &g, 0, &dx, more, visitor);
        g = dx;
    }
    if (!more)
        return;
    if (model->embed_norm.weight)
        be->ops->norm_backward(be, &model->embed_norm, &run->embedded, run->stats_embed, m, &g,
                               NULL, &g);
    if (model->prompt.n && !model->prompt.of_layers)
        la_prompt_embed_backward(model, &run->prompt, m, &g, visitor);
    for (int i = 0; i < model->n_tables; i++) {
        const la_embedding *e = model->embedding[i];
        if (!e)
            continue;
        la_mat ones = la_mat_f32(run->column, tokens, 1);
        la_embedding_pass pass = {
            .io = {.cu = run->cu, .g = &g, .cu_g = run->cu, .n_rows = run->n_rows, .n_rhs = m},
            .state = &run->table_state[i],
            .state_g = la_mat_of(g.type, run->site_work.data, g.rows, e->b.cols),
            .one_hot = la_mat_f32(run->one_hot.data, tokens, model->tables[i].rows),
            .one_at = run->one_at[i],
            .ones = &ones,
            .visitor = visitor,
        };
        la_embedding_backward(be, e, &pass);
    }
}

la_status la_run_backward(la_run *run, const float *cotangents, const la_block_visitor *visitor,
                          la_error *err) {
    la_model *model = run->model;
    la_backend *be = model->be;
    int64_t n = model->config.layers, m = run->n_rhs, each = run->n_rows * model->n_classes;
    for (int64_t i = 0; run->slopes && i < m * each; i++)
        run->sloped[i] = cotangents[i] * run->slopes[i % each];
    be->ops->upload(be, run->head_g[0].data, run->slopes ? run->sloped : cotangents,
                    (size_t)(m * each) * sizeof(float));
    la_mat g = backward_head(run, visitor);
    if (run->n_kept) {
        backward_pooling(run, &g);
        for (int64_t i = n - 1; i >= 0 && i >= model->lowest_layer; i--)
            la_block_backward(run, i, visitor);
        if (model->lowest_layer < 0)
            backward_embedding(run, visitor);
    }
    return be->ops->sync(be, err);
}
