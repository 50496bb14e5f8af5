#include "model/run.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* ---- what runs, and where it lies ---- */

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
    for (int part = 0; part < 2; part++)
        if (last->bottleneck[part] && model->blocks[last->bottleneck[part]->blocks[0]].wanted)
            return false;
    for (int slot = LA_SLOT_O; slot < LA_SLOTS; slot++)
        if (la_linear_wanted(model, &last->linear[slot]))
            return false;
    return true;
}

/* Something below the layers is wanted. */
static bool below_layers(const la_model *model) {
    return model->embed.wanted || la_linear_wanted(model, &model->embed.project);
}

/* Programs and their memory. Layers without a backward, and those that are computed again, work in
 * the frame, one after the other; where layers are computed again the frame is theirs alone. */
static void compile(la_run *run) {
    const la_model *model = run->model;
    int64_t tokens = run->max_packed, n = model->config.layers;
    la_capacity capacity = {.rows = {[LA_TOKENS] = tokens,
                                     [LA_QUERIES] = tokens,
                                     [LA_KEYS] = tokens,
                                     [LA_LINES] = la_distances_lines(&model->config, tokens)},
                            .pooled = run->max_rows,
                            .n_rhs = run->n_rhs,
                            .number = la_dtype_size(model->be->activation)};
    bool below = run->n_rhs > 0 && below_layers(model);
    la_region frame = {.n = 0}, cotangents = {.n = 0};
    for (int64_t i = 0; i < n; i++) {
        la_program *p = &run->layers[i].program;
        bool pruned = run->pruned && i == n - 1;
        la_program_compile(model, i, pruned, p);
        if (run->n_rhs)
            la_program_need(model, below, p);
        below = p->active;
        run->n_kept += p->active;
        la_program_place(&capacity, run->recompute && pruned, run->recompute && !pruned, &frame, p);
    }
    run->frame_bytes = frame.most;
    if (!run->n_kept)
        return;
    const la_program *last = &run->layers[n - 1].program;
    size_t at = la_region_take(&cotangents,
                               la_buffer_bytes(last, last->out, &capacity) * (size_t)run->n_rhs);
    for (int64_t i = n - 1; i >= n - run->n_kept; i--)
        la_program_place_cotangents(&capacity, &cotangents, &at, &run->layers[i].program);
    if (model->embed.wanted && model->embed.project.w.data)
        run->dprojected_at = la_region_take(
            &cotangents, (size_t)(run->n_rhs * tokens * model->config.embedding) * capacity.number);
    run->cotangent_bytes = cotangents.most;
}

static int64_t largest(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void layout_layers(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    int64_t tokens = run->max_packed, d = model->config.hidden, n = model->config.layers;
    la_bases bases = {.type = model->be->activation};
    bases.frame = la_arena_take(arena, run->frame_bytes, 1);
    bases.cotangents = la_arena_take(arena, run->cotangent_bytes, 1);
    /* the residual stream of layers that keep nothing goes to and fro between two buffers */
    run->stream[0] = la_model_take(model, arena, tokens, d);
    if (run->n_kept < n)
        run->stream[1] = la_model_take(model, arena, tokens, d);
    bases.in = run->stream[0].data;
    for (int64_t i = 0; i < n; i++) {
        la_layer_run *layer = &run->layers[i];
        int64_t rows = layer->program.pruned ? run->max_rows : tokens;
        bases.own = la_arena_take(arena, layer->program.own_bytes, 1);
        bases.out = layer->program.active ? la_model_take(model, arena, rows, d).data
                                          : run->stream[(i + 1) % 2].data;
        la_program_bind(&layer->program, &bases, layer->values, layer->cotangents);
        bases.in = bases.out;
    }
    run->embedding.dprojected = la_mat_of(
        bases.type, la_offset(bases.cotangents, run->dprojected_at), 0, model->config.embedding);
}

/* Workspace of adapters, those of the head as well. */
static void layout_sites(la_run *run, la_arena *arena) {
    const la_model *model = run->model;
    int64_t state = model->max_state_cols, work = largest(state, model->max_work_cols);
    int64_t all = la_model_most_inputs(model, run->max_packed);
    run->site_work =
        la_mat_f32(la_arena_take(arena, (size_t)(run->n_rhs * all * work), sizeof(float)), 0, work);
    run->site_all =
        la_mat_f32(la_arena_take(arena, (size_t)(all * state), sizeof(float)), 0, state);
}

/* Everything on the device and on the host. */
static void layout(la_run *run, la_arena *arena, la_arena *host) {
    const la_model *model = run->model;
    int64_t rows = run->max_rows, tokens = run->max_packed;
    la_batch_layout(rows, tokens, arena, &run->batch);
    la_rotary_layout(model, tokens, arena, host, &run->rotary);
    la_distances_layout(model, rows, tokens, run->n_kept ? run->n_rhs : 0, arena, host,
                        &run->distances);
    la_prompt_layout(model, rows, run->max_tokens, run->n_rhs, arena, host, &run->prompt);
    la_run_embedding_layout(run, arena, host);
    layout_layers(run, arena);
    la_run_head_layout(run, arena, host);
    if (run->n_rhs)
        layout_sites(run, arena);
}

/* ---- opening ---- */

static la_status shape_run(la_model *model, const la_run_shape *shape, la_run *run, la_error *err) {
    bool any = shape->n_rhs > 0;
    *run = (la_run){.model = model,
                    .max_rows = shape->max_rows,
                    .max_tokens = shape->max_tokens,
                    .max_packed = la_prompt_tokens(model, shape->max_rows, shape->max_tokens),
                    .n_rhs = shape->n_rhs,
                    .recompute = any && shape->recompute,
                    .pruned = can_prune(model, shape->all_inputs, !any)};
    run->layers = la_alloc((size_t)model->config.layers, sizeof *run->layers, err);
    if (run->layers)
        compile(run);
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
                      .max_relative = la_distances_lines(config, tokens),
                      .max_small = model->be->activation == LA_F32 ? 0 : small};
}

la_status la_run_plan(la_model *model, const la_run_shape *shape, size_t *bytes, la_sizes *sizes,
                      la_error *err) {
    la_run run;
    la_arena arena = {0}, host = {0};
    LA_TRY(shape_run(model, shape, &run, err));
    layout(&run, &arena, &host);
    *bytes = arena.used;
    *sizes = sizes_of(model, shape);
    free(run.layers);
    return LA_OK;
}

la_status la_run_print(la_model *model, const la_run_shape *shape, la_line_sink sink, void *user,
                       la_error *err) {
    la_run run;
    LA_TRY(shape_run(model, shape, &run, err));
    la_program_print(model, run.layers, sink, user);
    free(run.layers);
    return LA_OK;
}

/* Uploads what is the same for every batch, and reserves workspaces. */
static la_status start(la_run *run, const la_sizes *sizes, la_error *err) {
    la_model *model = run->model;
    LA_TRY(la_rotary_open(model, run->max_packed, &run->rotary, err));
    LA_TRY(la_run_embedding_open(run, err));
    LA_TRY(la_prompt_open(model, &run->prompt, err));
    return model->be->ops->reserve(model->be, sizes, err);
}

la_status la_run_open(la_model *model, const la_run_shape *shape, la_run *run, la_error *err) {
    la_backend *be = model->be;
    LA_TRY(shape_run(model, shape, run, err));
    la_arena arena = {0}, host = {0};
    layout(run, &arena, &host);
    size_t bytes = arena.used;
    run->memory = be->ops->alloc(be, bytes);
    run->host = la_alloc(host.used, 1, err);
    if (!run->memory) {
        (void)la_fail(err, LA_RESOURCE,
                      "out of memory on %s: %.1f MiB for activations of %lld tokens with %lld "
                      "right-hand sides; lower --batch-tokens or --max-length",
                      be->device, la_mib((double)bytes), (long long)shape->max_tokens,
                      (long long)shape->n_rhs);
        la_run_close(run);
        return err->status;
    }
    if (run->host) {
        arena = (la_arena){run->memory, 0, bytes};
        host = (la_arena){run->host, 0, host.used};
        layout(run, &arena, &host);
        la_sizes sizes = sizes_of(model, shape);
        (void)start(run, &sizes, err);
    }
    if (err->status != LA_OK)
        la_run_close(run);
    return err->status;
}

void la_run_close(la_run *run) {
    if (run->memory)
        run->model->be->ops->release(run->model->be, run->memory);
    free(run->layers);
    free(run->host);
    *run = (la_run){0};
}

/* ---- running ---- */

static la_mat *layer_output(la_run *run, bool cotangent) {
    la_layer_run *last = &run->layers[run->model->config.layers - 1];
    return (cotangent ? last->cotangents : last->values) + last->program.out;
}

static la_mat *layer_input(la_run *run, bool cotangent) {
    la_layer_run *first = &run->layers[0];
    return (cotangent ? first->cotangents : first->values) + first->program.in;
}

la_status la_run_forward(la_run *run, const la_batch *batch, float *logits, la_error *err) {
    la_model *model = run->model;
    la_backend *be = model->be;
    run->bad_row = -1;
    batch = la_prompt_pack(model, batch, &run->prompt);
    la_run_upload(run, batch);
    la_run_embedding_forward(run, layer_input(run, false));
    for (int64_t i = 0; i < model->config.layers; i++)
        la_layer_forward(run, i);
    la_run_head_forward(run, layer_output(run, false), logits);
    LA_TRY(be->ops->sync(be, err));
    size_t count = (size_t)(run->batch.n_rows * model->n_classes);
    la_run_head_cap(run, count, logits);
    for (size_t i = 0; i < count; i++) {
        if (isfinite(logits[i]))
            continue;
        run->bad_row = (int64_t)i / model->n_classes;
        return la_fail(
            err, LA_NUMERICAL,
            "the model's logits for this row are %s; a weight or an activation is out of "
            "range",
            isnan(logits[i]) ? "NaN" : "infinite");
    }
    return LA_OK;
}

la_status la_run_backward(la_run *run, const float *cotangents, const la_block_visitor *visitor,
                          la_error *err) {
    la_backend *be = run->model->be;
    int64_t n = run->model->config.layers;
    la_mat g = la_run_head_backward(run, cotangents, visitor);
    if (run->n_kept)
        la_run_pooling_backward(run, &g, layer_output(run, false), layer_output(run, true));
    for (int64_t i = n - 1; i >= n - run->n_kept; i--)
        la_layer_backward(run, i, visitor);
    if (below_layers(run->model))
        la_run_embedding_backward(run, layer_input(run, true), visitor);
    return be->ops->sync(be, err);
}
