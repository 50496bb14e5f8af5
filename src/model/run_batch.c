/* A batch on the device. */
#include "model/run.h"

static void set_layer_rows(la_run *run, la_layer_run *layer) {
    const la_program *p = &layer->program;
    const int64_t rows[LA_EXTENTS] = {[LA_TOKENS] = run->batch.n_tokens,
                                      [LA_QUERIES] = run->batch.n_rows,
                                      [LA_KEYS] = run->prompt.n_keys,
                                      [LA_LINES] = run->distances.n};
    for (int b = 0; b < p->n_buffers; b++) {
        layer->values[b].rows = rows[p->buffers[b].extent];
        layer->cotangents[b].rows = run->n_rhs * layer->values[b].rows;
    }
}

static void set_rows(la_run *run) {
    const la_model *model = run->model;
    la_run_embedding *e = &run->embedding;
    la_run_head *h = &run->head;
    e->embedded.rows = e->projected.rows = e->site.rows = h->all.rows = run->batch.n_tokens;
    e->dprojected.rows = run->n_rhs * run->batch.n_tokens;
    for (int i = 0; i < 3; i++)
        e->state[i].rows = run->batch.n_tokens;
    for (int64_t i = 0; i < model->config.layers; i++)
        set_layer_rows(run, &run->layers[i]);
    h->pooled.rows = h->state.rows = run->batch.n_rows;
    for (int i = 0; i < model->n_head; i++)
        h->pre[i].rows = h->act[i].rows = h->in[i + 1].rows = h->one[i].rows = h->site[i].rows =
            run->batch.n_rows;
}

int la_table_ids(const la_config *config, const int32_t *tokens, const int32_t *positions,
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
    la_run_embedding *e = &run->embedding;
    const int32_t *ids[3];
    int n = la_table_ids(&model->config, batch->ids, batch->embed_at, batch->types, ids);
    for (int i = 0; e->host_one_at && i < n; i++) {
        if (!e->one_at[i])
            continue;
        for (int64_t t = 0; t < batch->n_tokens; t++)
            e->host_one_at[t] = (int32_t)(t * model->embed.tables[i].rows) + ids[i][t];
        model->be->ops->upload(model->be, e->one_at[i], e->host_one_at,
                               (size_t)batch->n_tokens * sizeof(int32_t));
    }
}

void la_run_upload(la_run *run, const la_batch *batch) {
    la_backend *be = run->model->be;
    const la_config *config = &run->model->config;
    size_t tokens = (size_t)batch->n_tokens * sizeof(int32_t);
    size_t rows = (size_t)batch->n_rows * sizeof(int32_t), ends = rows + sizeof(int32_t);
    la_batch *to = &run->batch;
    to->n_rows = batch->n_rows;
    to->n_tokens = batch->n_tokens;
    be->ops->upload(be, to->ids, batch->ids, tokens);
    be->ops->upload(be, to->types, batch->types, tokens);
    be->ops->upload(be, to->positions, batch->positions, tokens);
    be->ops->upload(be, to->embed_at, batch->embed_at, tokens);
    be->ops->upload(be, to->cu, batch->cu, ends);
    be->ops->upload(be, to->pooled, batch->pooled, rows);
    be->ops->upload(be, to->pooled_at, batch->pooled_at, rows);
    be->ops->upload(be, to->ones, batch->ones, ends);
    run->attention = (la_attention){
        .n_rows = batch->n_rows,
        .cu = run->batch.cu,
        .cu_q = run->batch.cu,
        .q_at = run->batch.positions,
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
    la_rotary_upload(run->model, batch, &run->rotary);
    la_distances_upload(run->model, batch, &run->distances);
    upload_ones(run, batch);
    set_rows(run);
}
