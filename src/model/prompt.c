#include "model/prompt.h"

#include <stdlib.h>
#include <string.h>

int64_t la_prompt_most_tokens(const la_model *model) {
    int64_t most = la_config_most_tokens(&model->config);
    if (la_prompt_offset(model))
        return most;
    return most > model->prompt.n ? most - model->prompt.n : most ? 1 : 0;
}

static int64_t part_width(const la_model *model) {
    return model->prompt.parts[0].table.cols;
}

void la_prompt_layout(const la_model *model, int64_t max_rows, int64_t max_tokens, int64_t n_rhs,
                      la_arena *arena, la_arena *host, la_prompt_run *run) {
    const la_prompt *prompt = &model->prompt;
    if (!prompt->n)
        return;
    int64_t virtual = max_rows * prompt->n, width = part_width(model);
    int64_t all = la_prompt_tokens(model, max_rows, max_tokens);
    la_batch_layout(max_rows, all, host, &run->packed);
    run->host = la_arena_take(host, (size_t)all + 1, sizeof *run->host);
    run->cu = la_arena_take(arena, (size_t)max_rows + 1, sizeof(int32_t));
    run->number = la_arena_take(arena, (size_t) virtual, sizeof(int32_t));
    run->at = la_arena_take(arena, (size_t) virtual, sizeof(int32_t));
    run->real_at = la_arena_take(arena, (size_t)max_tokens, sizeof(int32_t));
    run->identity = la_arena_take(arena, (size_t)(prompt->n * prompt->n), sizeof(float));
    run->rows = la_model_take(model, arena, virtual, width);
    if (prompt->of_layers)
        run->key_cu = la_arena_take(arena, (size_t)max_rows + 1, sizeof(int32_t));
    else
        run->words = la_model_take(model, arena, max_tokens, width);
    if (!n_rhs)
        return;
    run->x = la_mat_f32(la_arena_take(arena, (size_t)(virtual * prompt->n), sizeof(float)), virtual,
                        prompt->n);
    run->g = la_model_take(model, arena, n_rhs * virtual, width);
}

la_status la_prompt_open(const la_model *model, la_prompt_run *run, la_error *err) {
    int64_t n = model->prompt.n;
    if (!n)
        return LA_OK;
    la_batch_start(&run->packed);
    float *identity = la_alloc((size_t)(n * n), sizeof *identity, err);
    for (int64_t i = 0; identity && i < n; i++)
        identity[i * n + i] = 1;
    if (identity)
        model->be->ops->upload(model->be, run->identity, identity,
                               (size_t)(n * n) * sizeof *identity);
    free(identity);
    return err->status;
}

static void upload(const la_model *model, const la_prompt_run *run, int32_t *to, int64_t count) {
    model->be->ops->upload(model->be, to, run->host, (size_t)count * sizeof *to);
}

/* Where virtual tokens and the rows' own lie, one row behind the other. */
static void upload_places(const la_model *model, const la_batch *batch, la_prompt_run *run) {
    int64_t n = model->prompt.n, rows = batch->n_rows, at = 0;
    int32_t *host = run->host;
    for (int64_t r = 0; r <= rows; r++)
        host[r] = (int32_t)(r * n);
    upload(model, run, run->cu, rows + 1);
    for (int64_t i = 0; i < rows * n; i++)
        host[i] = (int32_t)(i % n);
    upload(model, run, run->number, rows * n);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < n; j++)
            host[at++] = (int32_t)(batch->cu[r] + r * n + j);
    upload(model, run, run->at, rows * n);
    for (int64_t r = 0; r < rows; r++)
        for (int32_t t = batch->cu[r]; t < batch->cu[r + 1]; t++)
            host[t] = (int32_t)(t + (r + 1) * n);
    upload(model, run, run->real_at, batch->n_tokens);
    for (int64_t r = 0; r <= rows && model->prompt.of_layers; r++)
        host[r] = (int32_t)(batch->cu[r] + r * n);
    if (model->prompt.of_layers)
        upload(model, run, run->key_cu, rows + 1);
}

/* The rows' own tokens, which come behind n virtual ones that are keys alone. Positions are places
 * among the keys. */
static void pack_behind(const la_model *model, const la_batch *batch, la_batch *to) {
    int32_t n = (int32_t)model->prompt.n;
    size_t tokens = (size_t)batch->n_tokens, rows = (size_t)batch->n_rows;
    memcpy(to->ids, batch->ids, tokens * sizeof *to->ids);
    memcpy(to->types, batch->types, tokens * sizeof *to->types);
    memcpy(to->cu, batch->cu, (rows + 1) * sizeof *to->cu);
    memcpy(to->pooled, batch->pooled, rows * sizeof *to->pooled);
    for (size_t t = 0; t < tokens; t++) {
        to->positions[t] = batch->positions[t] + n;
        to->embed_at[t] = batch->embed_at[t] + (model->prompt.shifts ? n : 0);
    }
    for (size_t r = 0; r < rows; r++)
        to->pooled_at[r] = batch->pooled_at[r] + n;
}

/* The model is handed embeddings then, and knows no padding by its id any more. */
static void pack_among(const la_model *model, const la_batch *batch, la_batch *to) {
    const la_config *config = &model->config;
    int64_t n = model->prompt.n, at = 0;
    int32_t first = config->arch->position_after_pad ? (int32_t)config->pad_id + 1 : 0;
    memcpy(to->ids, batch->ids, (size_t)batch->n_tokens * sizeof *to->ids);
    for (int64_t r = 0; r < batch->n_rows; r++) {
        int64_t from = batch->cu[r], length = batch->cu[r + 1] - from;
        to->cu[r] = (int32_t)at;
        to->pooled_at[r] = model->pool_token == LA_POOL_FIRST   ? 0
                           : model->pool_token == LA_POOL_PLACE ? (int32_t)n + batch->pooled_at[r]
                                                                : (int32_t)(n + length - 1);
        to->pooled[r] = (int32_t)at + to->pooled_at[r];
        for (int64_t t = 0; t < n + length; t++, at++) {
            to->positions[at] = (int32_t)t;
            to->embed_at[at] = first + (int32_t)t;
            to->types[at] = t < n ? 0 : batch->types[from + t - n];
        }
        to->cu[r + 1] = (int32_t)at;
    }
    to->n_tokens = at;
    to->max_length += n;
}

const la_batch *la_prompt_pack(const la_model *model, const la_batch *batch, la_prompt_run *run) {
    int64_t n = model->prompt.n;
    la_batch *to = &run->packed;
    if (!n)
        return batch;
    run->n_rows = batch->n_rows;
    run->n_virtual = batch->n_rows * n;
    run->n_keys = batch->n_tokens + run->n_virtual;
    run->words.rows = batch->n_tokens;
    run->rows.rows = run->x.rows = run->n_virtual;
    to->n_rows = batch->n_rows;
    to->n_tokens = batch->n_tokens;
    to->max_length = batch->max_length;
    if (model->prompt.of_layers)
        pack_behind(model, batch, to);
    else
        pack_among(model, batch, to);
    upload_places(model, batch, run);
    return to;
}

void la_prompt_embed(const la_model *model, const int32_t *const *ids, la_prompt_run *run,
                     la_mat *y) {
    la_backend *be = model->be;
    bool others = model->embed.n > 1;
    if (others)
        be->ops->embed(be, model->embed.n - 1, model->embed.tables + 1, ids + 1, model->embed.scale,
                       y);
    be->ops->embed(be, 1, model->embed.tables, ids, model->embed.scale, &run->words);
    be->ops->scatter(be, &run->words, 1, run->real_at, others, y);
    be->ops->gather(be, &model->prompt.parts[0].table, run->number, &run->rows);
    be->ops->scatter(be, &run->rows, 1, run->at, true, y);
}

/* Right-hand side k of a matrix [n_rhs rows, cols]. */
static la_mat side(const la_mat *m, int64_t n_rhs, int64_t k) {
    la_mat view = *m;
    view.rows = m->rows / n_rhs;
    view.data = (char *)m->data + (size_t)(k * view.rows * m->ld) * la_dtype_size(m->type);
    return view;
}

/* to[n_rhs rows, cols] = rows index of g[n_rhs all, cols], for every right-hand side */
static void gather_sides(la_backend *be, int64_t n_rhs, const la_mat *g, const int32_t *index,
                         const la_mat *to) {
    for (int64_t k = 0; k < n_rhs; k++) {
        la_mat from = side(g, n_rhs, k), into = side(to, n_rhs, k);
        be->ops->gather(be, &from, index, &into);
    }
}

static void visit(const la_model *model, la_prompt_run *run, const struct la_prompt_part *part,
                  int64_t n_rhs, const la_mat *g, const la_block_visitor *visitor) {
    la_backend *be = model->be;
    la_mat identity = la_mat_f32(run->identity, model->prompt.n, model->prompt.n);
    la_mat own = run->g;
    own.rows = n_rhs * run->n_virtual;
    gather_sides(be, n_rhs, g, run->at, &own);
    be->ops->gather(be, &identity, run->number, &run->x);
    la_block_io io = {.x = &run->x,
                      .cu = run->cu,
                      .x_at_g = &run->x,
                      .g = &own,
                      .cu_g = run->cu,
                      .g_scale = 1,
                      .n_rows = run->n_rows,
                      .n_rhs = n_rhs};
    visitor->visit(visitor->user, part->block, &io);
}

void la_prompt_embed_backward(const la_model *model, la_prompt_run *run, int64_t n_rhs,
                              const la_mat *g, const la_block_visitor *visitor) {
    if (model->blocks[model->prompt.parts[0].block].wanted)
        visit(model, run, &model->prompt.parts[0], n_rhs, g, visitor);
}

void la_prompt_extend(const la_model *model, la_prompt_run *run, const struct la_prompt_part *part,
                      const la_mat *own, la_mat *to) {
    la_backend *be = model->be;
    be->ops->gather(be, &part->table, run->number, &run->rows);
    be->ops->scatter(be, own, 1, run->real_at, false, to);
    be->ops->scatter(be, &run->rows, 1, run->at, true, to);
}

void la_prompt_extend_backward(const la_model *model, la_prompt_run *run,
                               const struct la_prompt_part *part, int64_t n_rhs, const la_mat *g,
                               la_mat *own, const la_block_visitor *visitor) {
    if (own)
        gather_sides(model->be, n_rhs, g, run->real_at, own);
    if (visitor)
        visit(model, run, part, n_rhs, g, visitor);
}
