/* Adapters of embeddings: LoRA, virtual tokens. */
#include "model/binder.h"

#include <stdio.h>
#include <string.h>

static la_status refuse_second(const la_adapter *adapter, const char *what, const char *module,
                               la_error *err) {
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: %s: a second adapter brings %s, which is not supported",
                   adapter->config_path, module, what);
}

static la_status add_embedding(la_binder *b, la_adapter *adapter, const char *module,
                               la_error *err) {
    la_model *model = b->model;
    int number = model->embed.n - 1;
    const la_mat *table = &model->embed.tables[number];
    la_embedding *e = la_pool_take(&model->pool, 1, sizeof *e, err);
    la_parameter *p = la_pool_take(&model->pool, 2, sizeof *p, err);
    bool adapted = false;
    char key[NAME_MAX_BYTES];
    LA_TRY(err->status);
    for (int i = 0; !adapted && la_binder_spell(b, i, true, module, key, sizeof key); i++)
        LA_TRY(adapter->kind->bind_table(adapter, &model->pool, key, table->rows, table->cols, e, p,
                                         &adapted, err));
    if (!adapted)
        return LA_OK;
    if (model->embed.adapted[number])
        return refuse_second(adapter, "LoRA", key, err);
    if (table->rows > LA_EMBEDDING_MOST) {
        if (!b->twin)
            la_warn(b->log,
                    "%s: %lld tokens are too many for curvature over them (at most %d): it counts "
                    "at its trained values, outside of the posterior; lora_embedding_B is in it",
                    p[0].trained.name, (long long)table->rows, LA_EMBEDDING_MOST);
        p[0].trained.name = NULL;
    }
    model->embed.adapted[number] = e;
    return la_binder_add_pair(b, adapter, p, e->blocks, e->b.cols, err);
}

la_status la_binder_embedding(la_binder *b, const char *module, la_error *err) {
    for (la_adapter *adapter = &b->model->adapter; adapter; adapter = adapter->next)
        if (adapter->kind->bind_table)
            LA_TRY(add_embedding(b, adapter, module, err));
    return LA_OK;
}

/* Columns [from, from + width) of the virtual tokens [n, all] as a part of the prompt, and its
 * block. */
static la_status bind_part(la_binder *b, const la_adapter *adapter, const la_virtual_tokens *tokens,
                           int64_t all, int64_t from, int64_t width, const char *name,
                           struct la_prompt_part *part, la_error *err) {
    la_model *model = b->model;
    int64_t n = tokens->n;
    la_parameter *p = la_pool_take(&model->pool, 1, sizeof *p, err);
    if (!p)
        return err->status;
    *p = (la_parameter){.value = &part->table,
                        .trained = {.out = width,
                                    .in = n,
                                    .input = model->n_inputs++,
                                    .n_virtual = n,
                                    .name = la_pool_text(&model->pool, name, strlen(name), err)},
                        .cut = {0, 1, n}}; /* turned */
    float *values = la_pool_take(&model->pool, (size_t)(n * width), sizeof *values, err);
    if (!values || !p->trained.name)
        return err->status;
    for (int64_t i = 0; i < n; i++)
        memcpy(values + i * width, tokens->values + i * all + from, (size_t)width * sizeof *values);
    for (int64_t i = 0; i < n * width; i++)
        p->trained.theta_square += (double)values[i] * (double)values[i];
    part->table = la_mat_f32(values, n, width);
    LA_TRY(la_binder_add_parameter(b, adapter, p, err));
    part->block = p->block;
    return la_binder_upload_matrix(b, &part->table, false, err);
}

/* Keys and values are tried out where every token sees all of them, or all before it. */
static la_status check_layers(const la_binder *b, const la_adapter *adapter, la_error *err) {
    const la_config *config = &b->model->config;
    if (config->distances.span)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: a prefix of model_type \"%s\", which has relative positions, is not "
                       "supported",
                       adapter->config_path, config->arch->model_type);
    for (int64_t i = 0; i < config->layers; i++)
        if (config->plan[i].before < LA_ATTENTION_ALL)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: a prefix of a model with a sliding window is not supported",
                           adapter->config_path);
    return LA_OK;
}

static la_status add_prompt(la_binder *b, la_adapter *adapter, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    la_prompt *prompt = &model->prompt;
    int64_t kv = config->kv_heads * config->head_dim;
    la_virtual_widths widths = {config->layers, kv, config->hidden, config->embedding};
    la_virtual_tokens tokens;
    char name[128];
    LA_TRY(
        adapter->kind->read_tokens(model->be->team, adapter, &widths, &model->pool, &tokens, err));
    if (prompt->n)
        return refuse_second(adapter, "virtual tokens", tokens.name, err);
    if (tokens.of_layers)
        LA_TRY(check_layers(b, adapter, err));
    else if (model->embed.adapted[0])
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: virtual tokens beside LoRA on the embeddings are not supported",
                       adapter->config_path);
    prompt->of_layers = tokens.of_layers;
    prompt->shifts = tokens.shifts;
    prompt->n_parts = prompt->of_layers ? 2 * config->layers : 1;
    prompt->parts = la_pool_take(&model->pool, (size_t)prompt->n_parts, sizeof *prompt->parts, err);
    if (!prompt->parts)
        return err->status;
    prompt->n = tokens.n;
    if (!prompt->of_layers)
        return bind_part(b, adapter, &tokens, widths.embedding, 0, widths.embedding, tokens.name,
                         &prompt->parts[0], err);
    for (int64_t i = 0; i < prompt->n_parts; i++) {
        snprintf(name, sizeof name, "%s.%lld.%s", tokens.name, (long long)(i / 2),
                 i % 2 ? "value" : "key");
        LA_TRY(bind_part(b, adapter, &tokens, prompt->n_parts * kv, i * kv, kv, name,
                         &prompt->parts[i], err));
    }
    return LA_OK;
}

la_status la_binder_prompt(la_binder *b, la_error *err) {
    for (la_adapter *adapter = &b->model->adapter; adapter; adapter = adapter->next)
        if (adapter->kind->read_tokens)
            LA_TRY(add_prompt(b, adapter, err));
    return LA_OK;
}
