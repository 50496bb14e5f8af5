/* The embeddings of a run: sum of tables, norm and projection, with their adapters. */
#include "model/run.h"

#include <stdlib.h>

/* Columns of the widest one-hot input that backward needs; 0: none. */
static int64_t one_hot_columns(const la_run *run) {
    const la_model *model = run->model;
    int64_t widest = 0;
    for (int i = 0; run->n_rhs && model->embed.wanted && i < model->embed.n; i++)
        if (model->embed.adapted[i] && model->embed.adapted[i]->blocks[0] >= 0 &&
            model->embed.tables[i].rows > widest)
            widest = model->embed.tables[i].rows;
    return widest;
}

void la_run_embedding_layout(la_run *run, la_arena *arena, la_arena *host) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    la_run_embedding *e = &run->embedding;
    int64_t tokens = run->max_packed, wide = one_hot_columns(run);
    e->embedded =
        la_model_take(model, arena, tokens,
                      config->embedding > config->hidden ? config->embedding : config->hidden);
    e->embedded.cols = e->embedded.ld = config->embedding;
    e->stats = la_arena_take(arena, (size_t)(2 * tokens), sizeof(float));
    if (model->embed.project.w.data) {
        e->projected = la_model_take(model, arena, tokens, config->embedding);
        if (model->embed.project.site)
            e->site = la_model_take(model, arena, tokens, model->embed.project.site->state_cols);
    }
    for (int i = 0; i < model->embed.n; i++)
        if (model->embed.adapted[i])
            e->state[i] = la_model_take(model, arena, tokens, model->embed.adapted[i]->b.cols);
    if (!wide)
        return;
    e->one_hot =
        la_mat_f32(la_arena_take(arena, (size_t)(tokens * wide), sizeof(float)), tokens, wide);
    for (int i = 0; i < model->embed.n; i++)
        if (model->embed.adapted[i])
            e->one_at[i] = la_arena_take(arena, (size_t)tokens, sizeof(int32_t));
    e->column = la_arena_take(arena, (size_t)tokens, sizeof(float));
    e->host_one_at = la_arena_take(host, (size_t)tokens, sizeof(int32_t));
}

la_status la_run_embedding_open(la_run *run, la_error *err) {
    la_run_embedding *e = &run->embedding;
    if (!e->column)
        return LA_OK;
    la_backend *be = run->model->be;
    size_t tokens = (size_t)run->max_packed;
    float *ones = la_alloc(tokens, sizeof *ones, err);
    for (size_t t = 0; ones && t < tokens; t++)
        ones[t] = 1;
    if (ones)
        be->ops->upload(be, e->column, ones, tokens * sizeof *ones);
    free(ones);
    return err->status;
}

/* The norm stands behind the projection. */
static bool norm_is_late(const la_model *model) {
    return model->embed.norm.weight && model->embed.project.w.data &&
           model->config.arch->norm_after_project;
}

/* y[T, width] += the product of the tokens ids[T], leaving state[T, r] = A e. */
static void add_product(la_backend *be, const la_embedding *e, const int32_t *ids, la_mat *state,
                        la_mat *y) {
    be->ops->embed(be, 1, &e->a, &ids, 1, state);
    be->ops->gemm(be, false, true, e->scale, state, &e->b, 1, y);
}

void la_run_embedding_forward(la_run *run, la_mat *out) {
    la_model *model = run->model;
    la_backend *be = model->be;
    la_run_embedding *e = &run->embedding;
    const int32_t *ids[3];
    int n =
        la_table_ids(&model->config, run->batch.ids, run->batch.embed_at, run->batch.types, ids);
    bool norm = model->embed.norm.weight != NULL, project = model->embed.project.w.data != NULL;
    la_mat *normed = project ? &e->projected : out;
    bool late = norm_is_late(model);
    la_mat *sum = norm && !late ? &e->embedded : normed;
    if (model->prompt.n && !model->prompt.of_layers)
        la_prompt_embed(model, ids, &run->prompt, sum);
    else
        be->ops->embed(be, n, model->embed.tables, ids, model->embed.scale, sum);
    for (int i = 0; i < n; i++)
        if (model->embed.adapted[i])
            add_product(be, model->embed.adapted[i], ids[i], &e->state[i], sum);
    if (late) {
        la_mat wide = la_mat_of(out->type, e->embedded.data, out->rows, out->cols);
        la_linear_forward(be, &model->embed.project, normed, NULL, &e->site, &wide);
        be->ops->norm(be, &model->embed.norm, &wide, e->stats, out);
        return;
    }
    if (norm)
        be->ops->norm(be, &model->embed.norm, &e->embedded, e->stats, normed);
    if (project)
        la_linear_forward(be, &model->embed.project, normed, NULL, &e->site, out);
}

static void norm_backward(la_run *run, la_mat *g) {
    const la_run_embedding *e = &run->embedding;
    la_backend *be = run->model->be;
    la_mat x = la_mat_of(g->type, e->embedded.data, run->batch.n_tokens, g->cols);
    be->ops->norm_backward(be, &run->model->embed.norm, &x, e->stats, run->n_rhs, g, NULL, g);
}

static void table_backward(la_run *run, int table, const la_mat *g,
                           const la_block_visitor *visitor) {
    const la_model *model = run->model;
    const la_embedding *adapted = model->embed.adapted[table];
    la_backend *be = model->be;
    la_run_embedding *e = &run->embedding;
    la_block_io io = la_run_io(run, &e->state[table], g, run->batch.cu);
    io.g_scale = adapted->scale;
    if (adapted->blocks[0] >= 0) {
        la_mat ga = la_mat_of(g->type, run->site_work.data, g->rows, adapted->b.cols);
        la_mat x =
            la_mat_f32(e->one_hot.data, run->batch.n_tokens, model->embed.tables[table].rows);
        /* every row of the one-hot matrix lies behind the other, as a column of single numbers */
        la_mat cells = la_mat_f32(x.data, x.rows * x.cols, 1);
        la_mat ones = la_mat_f32(e->column, run->batch.n_tokens, 1);
        la_block_io of_a = la_run_io(run, &x, &ga, run->batch.cu);
        be->ops->zero(be, x.data, (size_t)(x.rows * x.cols) * sizeof(float));
        be->ops->scatter(be, &ones, 1, e->one_at[table], true, &cells);
        be->ops->gemm(be, false, false, adapted->scale, g, &adapted->b, 0, &ga);
        visitor->visit(visitor->user, adapted->blocks[0], &of_a);
    }
    visitor->visit(visitor->user, adapted->blocks[1], &io);
}

void la_run_embedding_backward(la_run *run, la_mat *g, const la_block_visitor *visitor) {
    la_model *model = run->model;
    la_run_embedding *e = &run->embedding;
    bool more = model->embed.wanted, late = norm_is_late(model);
    if (late)
        norm_backward(run, g);
    if (model->embed.project.w.data) {
        la_site_pass pass = {.io = la_run_io(run, &e->projected, g, run->batch.cu),
                             .state = &e->site,
                             .dx = more ? &e->dprojected : NULL,
                             .visitor = visitor};
        la_linear_backward(run, &model->embed.project, &pass);
        g = &e->dprojected;
    }
    if (!more)
        return;
    if (model->embed.norm.weight && !late)
        norm_backward(run, g);
    if (model->prompt.n && !model->prompt.of_layers)
        la_prompt_embed_backward(model, &run->prompt, run->n_rhs, g, visitor);
    for (int i = 0; i < model->embed.n; i++)
        if (model->embed.adapted[i])
            table_backward(run, i, g, visitor);
}
