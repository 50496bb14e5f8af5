/* What adapters bring for the embeddings: rows of their own, LoRA, virtual tokens. */
#include "input/json.h"
#include "model/binder.h"

#include <stdio.h>
#include <string.h>

la_status la_binder_token_rows(la_binder *b, const char *module, bool in_body, int64_t rows,
                               int64_t width, la_token_rows *out, la_error *err) {
    char key[NAME_MAX_BYTES];
    bool main = b->arch->embed_tokens && !strcmp(module, b->arch->embed_tokens);
    *out = (la_token_rows){0};
    for (int bare = 0; bare <= (in_body ? 1 : 0) && !out->values; bare++) {
        snprintf(key, sizeof key, "%s%s", in_body && !bare ? b->arch->prefix : "", module);
        LA_TRY(la_token_rows_find(&b->model->adapter, key, main, rows, width, out, err));
    }
    b->n_token_rows += out->values != NULL;
    return LA_OK;
}

la_status la_binder_replace_rows(la_binder *b, const la_token_rows *rows, const la_tensor *tensor,
                                 la_tensor *out, la_error *err) {
    size_t bytes = (size_t)tensor->count * la_dtype_size(tensor->dtype);
    void *copy = la_pool_take(&b->model->pool, bytes, 1, err);
    if (!copy)
        return err->status;
    memcpy(copy, tensor->data, bytes);
    la_token_rows_put(rows, tensor->shape[1], tensor->dtype, copy);
    *out = *tensor;
    out->data = copy;
    return LA_OK;
}

la_status la_binder_embedding(la_binder *b, const char *module, int64_t input, la_error *err) {
    la_model *model = b->model;
    int number = model->n_tables - 1;
    const la_mat *table = &model->tables[number];
    la_embedding e = {0};
    la_block blocks[2] = {0};
    bool adapted = false;
    char key[NAME_MAX_BYTES];
    for (int bare = 0; bare <= 1 && !adapted; bare++) {
        snprintf(key, sizeof key, "%s%s", bare ? "" : b->arch->prefix, module);
        LA_TRY(la_embedding_bind(&model->adapter, &model->pool, key, table->rows, table->cols, &e,
                                 blocks, &adapted, err));
    }
    if (!adapted)
        return LA_OK;
    e.blocks[0] = -1;
    if (table->rows <= LA_EMBEDDING_MOST) {
        blocks[0].input = input;
        LA_TRY(la_binder_add_block(b, &blocks[0], &e.blocks[0], err));
    } else if (!b->twin) {
        la_warn(b->log,
                "%s: %lld tokens are too many for curvature over them (at most %d): it counts at "
                "its trained values, outside of the posterior; lora_embedding_B is in it",
                blocks[0].name, (long long)table->rows, LA_EMBEDDING_MOST);
    }
    blocks[1].input = model->n_inputs++;
    LA_TRY(la_binder_add_block(b, &blocks[1], &e.blocks[1], err));
    la_embedding *kept = la_pool_take(&model->pool, 1, sizeof *kept, err);
    if (!kept)
        return err->status;
    *kept = e;
    model->embedding[number] = kept;
    la_mat *matrices[2] = {&kept->a, &kept->b};
    for (int i = 0; i < 2; i++) {
        la_mat *m = matrices[i];
        m->type = model->be->activation;
        LA_TRY(la_binder_place(b, m->data, LA_F32, m->rows * m->cols, m->type, &m->data, err));
    }
    if (kept->b.cols > model->max_state_cols)
        model->max_state_cols = kept->b.cols;
    return LA_OK;
}

/* Columns [from, from + width) of the virtual tokens [n, *] as a part of the prompt, and its block. */
static la_status bind_part(la_binder *b, const la_tensor *tensor, int64_t from, int64_t width,
                           const char *name, struct la_prompt_part *part, la_error *err) {
    la_model *model = b->model;
    int64_t n = tensor->shape[0], all = tensor->shape[1];
    size_t size = la_dtype_size(tensor->dtype);
    la_block block = {.out = width,
                      .in = n,
                      .input = model->n_inputs++,
                      .n_virtual = n,
                      .name = la_pool_text(&model->pool, name, strlen(name), err)};
    float *values = la_pool_take(&model->pool, (size_t)(n * width), sizeof *values, err);
    if (!values || !block.name)
        return err->status;
    for (int64_t i = 0; i < n; i++)
        la_dtype_to_f32(tensor->dtype, (const char *)tensor->data + (size_t)(i * all + from) * size,
                        width, values + i * width);
    for (int64_t i = 0; i < n * width; i++)
        block.theta_square += (double)values[i] * (double)values[i];
    part->table = la_mat_of(model->be->activation, NULL, n, width);
    LA_TRY(la_binder_add_block(b, &block, &part->block, err));
    return la_binder_place(b, values, LA_F32, n * width, part->table.type, &part->table.data, err);
}

/* Prefixes are tried out on causal models that see everything. */
static la_status check_prefix(const la_binder *b, la_error *err) {
    const la_config *config = &b->model->config;
    if (!config->arch->causal)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: PREFIX_TUNING of model_type \"%s\", an encoder, is not supported",
                       b->model->adapter.config_path, config->arch->model_type);
    for (int64_t i = 0; i < config->layers; i++)
        if (config->plan[i].before < LA_ATTENTION_ALL)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: PREFIX_TUNING of a model with a sliding window is not supported",
                           b->model->adapter.config_path);
    return LA_OK;
}

la_status la_binder_prompt(la_binder *b, la_error *err) {
    la_model *model = b->model;
    la_adapter *adapter = &model->adapter;
    const la_config *config = &model->config;
    la_prompt *prompt = &model->prompt;
    char text[128];
    int64_t n = 0;
    if (!adapter->kind->prompt)
        return LA_OK;
    prompt->of_layers = adapter->kind == &la_adapter_prefix;
    if (prompt->of_layers)
        LA_TRY(check_prefix(b, err));
    LA_TRY(la_json_int(adapter->config, adapter->config_path, "num_virtual_tokens", true, 1,
                       1 << 20, &n, err));
    la_adapter_entry *entry = la_adapter_find(adapter, "prompt_embeddings");
    if (!entry)
        return la_fail(err, LA_BAD_INPUT, "%s: the weights hold no tensor \"prompt_embeddings\"",
                       adapter->config_path);
    const la_tensor *tensor = entry->tensor;
    int64_t kv = config->kv_heads * config->head_dim;
    int64_t width = prompt->of_layers ? 2 * config->layers * kv : config->embedding;
    if (tensor->n_dims != 2 || tensor->shape[0] != n || tensor->shape[1] != width)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: tensor \"%s\" has shape %s, expected [%lld, %lld] (num_virtual_tokens, "
                       "and the base's %s)",
                       tensor->file, tensor->name, la_tensor_shape_text(tensor, text, sizeof text),
                       (long long)n, (long long)width,
                       prompt->of_layers ? "keys and values" : "embeddings");
    prompt->n_parts = prompt->of_layers ? 2 * config->layers : 1;
    prompt->parts = la_pool_take(&model->pool, (size_t)prompt->n_parts, sizeof *prompt->parts, err);
    if (!prompt->parts)
        return err->status;
    prompt->n = n;
    if (!prompt->of_layers)
        return bind_part(b, tensor, 0, width, "prompt_embeddings", &prompt->parts[0], err);
    for (int64_t i = 0; i < prompt->n_parts; i++) {
        snprintf(text, sizeof text, "prompt_embeddings.%lld.%s", (long long)(i / 2),
                 i % 2 ? "value" : "key");
        LA_TRY(bind_part(b, tensor, i * kv, kv, text, &prompt->parts[i], err));
    }
    return LA_OK;
}
