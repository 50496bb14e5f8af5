#include "backend/quant.h"
#include "model/binder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static la_status bind_table(la_binder *b, const char *module, int64_t rows, la_error *err) {
    la_model *model = b->model;
    bool trained;
    if (!module)
        return LA_OK;
    const la_tensor *tensor;
    LA_TRY(la_binder_need(b, module, true, "weight", &tensor, &trained, err));
    if (trained && tensor->n_dims == 2)
        rows = tensor->shape[0]; /* a vocabulary that was resized is saved whole with the adapter */
    int64_t width = model->config.embedding;
    LA_TRY(la_tensor_check_shape(tensor, rows, width, "", err));
    la_mat *table = &model->embed.tables[model->embed.n++];
    *table = (la_mat){NULL, rows, width, width, la_weight_type(model->be, tensor->dtype)};
    b->table_type = tensor->dtype;
    LA_TRY(la_binder_check_values(b, tensor, err));
    la_token_rows replaced;
    la_tensor edited = *tensor;
    LA_TRY(la_token_rows_find(b, module, true, rows, width, &replaced, err));
    if (replaced.values) {
        LA_TRY(la_token_rows_replace(b, &replaced, tensor, &edited, err));
        tensor = &edited;
    }
    if (model->embed.n == 1)
        b->token_rows = replaced;
    LA_TRY(la_binder_upload(b, tensor->data, tensor->dtype, tensor->count, table->type,
                            &table->data, err));
    return la_binder_embedding(b, module, err);
}

static la_status bind_layer(la_binder *b, int64_t number, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    la_layer *layer = &model->layers[number];
    int64_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    bool qkv_bias = config->attention_bias || b->arch->qkv_bias;
    bool together = b->arch->norm_heads_together;
    const struct {
        int64_t out, in;
        bool bias;
        int input; /* projections with the same number read the same matrix */
    } shapes[LA_SLOTS] = {
        [LA_SLOT_QKV] = {q + 2 * kv, config->hidden, qkv_bias, 0},
        [LA_SLOT_Q] = {q, config->hidden, qkv_bias, 0},
        [LA_SLOT_K] = {kv, config->hidden, qkv_bias, 0},
        [LA_SLOT_V] = {kv, config->hidden, qkv_bias, 0},
        [LA_SLOT_POS_K] = {kv, config->hidden, qkv_bias, 0},
        [LA_SLOT_POS_Q] = {q, config->hidden, qkv_bias, 0},
        [LA_SLOT_O] = {config->hidden, q, config->attention_bias, 1},
        [LA_SLOT_GATE_UP] = {2 * config->ffn, config->hidden, config->ffn_bias, 2},
        [LA_SLOT_GATE] = {config->ffn, config->hidden, config->ffn_bias, 2},
        [LA_SLOT_UP] = {config->ffn, config->hidden, config->ffn_bias, 2},
        [LA_SLOT_DOWN] = {config->hidden, config->ffn, config->ffn_bias, 3},
    };
    /* those that read the lines of distances, or these too, have a number of their own */
    int64_t inputs = model->n_inputs, lines = inputs + 4;
    model->n_inputs = lines + 1;
    char name[NAME_MAX_BYTES];
    for (int slot = 0; slot < LA_SLOTS; slot++) {
        const la_distances *distances = &config->distances;
        bool pos_k = slot == LA_SLOT_POS_K, pos_q = slot == LA_SLOT_POS_Q;
        bool own_lines = distances->span && !distances->shared;
        if (!b->arch->linear[slot] || (pos_k && !(own_lines && distances->c2p)) ||
            (pos_q && !(own_lines && distances->p2c)))
            continue;
        bool reads_lines = pos_k || pos_q ||
                           (slot == LA_SLOT_K && distances->shared && distances->c2p) ||
                           (slot == LA_SLOT_Q && distances->shared && distances->p2c);
        snprintf(name, sizeof name, b->arch->linear[slot], (long long)number);
        LA_TRY(la_binder_linear(b, name, true, shapes[slot].out, shapes[slot].in, shapes[slot].bias,
                                false, reads_lines ? lines : inputs + shapes[slot].input,
                                &layer->linear[slot], err));
    }
    for (int i = 0; i < LA_LAYER_NORMS; i++) {
        int64_t width = i < LA_NORM_Q    ? config->hidden
                        : !together      ? config->head_dim
                        : i == LA_NORM_Q ? q
                                         : kv;
        bool absent = i == LA_NORM_ATTENTION && !number && b->arch->first_norm_absent;
        if (!b->arch->norm[i] || absent)
            continue;
        snprintf(name, sizeof name, b->arch->norm[i], (long long)number);
        LA_TRY(la_binder_norm(b, name, true, width, &layer->norm[i], err));
    }
    for (la_adapter *adapter = &model->adapter; adapter; adapter = adapter->next)
        if (adapter->kind->bind_layer)
            LA_TRY(adapter->kind->bind_layer(b, adapter, number, err));
    return LA_OK;
}

/* transformers rounds the factor to the type of the table. */
static float embed_scale_of(const la_config *config, la_dtype type) {
    return config->arch->scale_embedding ? la_quant_round(type, sqrtf((float)config->hidden)) : 1;
}

static la_status bind_distances(la_binder *b, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    int64_t lines = 2 * config->distances.span, d = config->hidden;
    bool trained;
    const la_tensor *tensor;
    LA_TRY(la_binder_need(b, b->arch->distance_table, true, "weight", &tensor, &trained, err));
    LA_TRY(la_tensor_check_shape(tensor, lines, d, "", err));
    LA_TRY(la_binder_check_values(b, tensor, err));
    la_mat *table = &model->lines.table;
    *table = (la_mat){NULL, lines, d, d, la_weight_type(model->be, tensor->dtype)};
    LA_TRY(la_binder_upload(b, tensor->data, tensor->dtype, tensor->count, table->type,
                            &table->data, err));
    if (!config->distances.norm)
        return LA_OK;
    return la_binder_norm(b, b->arch->norm_distances, true, d, &model->lines.norm, err);
}

static la_status bind_body(la_binder *b, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    const la_arch *arch = b->arch;
    LA_TRY(bind_table(b, arch->embed_tokens, config->vocab, err));
    model->embed.scale = embed_scale_of(config, b->table_type);
    if (model->embed.adapted[0])
        model->embed.adapted[0]->scale *= model->embed.scale;
    if (config->has_positions)
        LA_TRY(bind_table(b, arch->embed_positions, config->max_positions, err));
    if (config->has_types)
        LA_TRY(bind_table(b, arch->embed_types, config->type_vocab, err));
    LA_TRY(la_binder_prompt(b, err));
    if (config->distances.span)
        LA_TRY(bind_distances(b, err));
    if (arch->embed_norm)
        LA_TRY(la_binder_norm(b, arch->embed_norm, true,
                              arch->norm_after_project ? config->hidden : config->embedding,
                              &model->embed.norm, err));
    if (config->embedding != config->hidden)
        LA_TRY(la_binder_linear(b, arch->embed_project, true, config->hidden, config->embedding,
                                arch->embed_project_bias, false, model->n_inputs++,
                                &model->embed.project, err));
    model->layers = la_pool_take(&model->pool, (size_t)config->layers, sizeof(la_layer), err);
    if (!model->layers)
        return err->status;
    for (int64_t i = 0; i < config->layers; i++)
        LA_TRY(bind_layer(b, i, err));
    if (arch->final_norm)
        LA_TRY(la_binder_norm(b, arch->final_norm, true, config->hidden, &model->final_norm, err));
    return LA_OK;
}

/* ---- which blocks, and how far down ---- */

/* A row reads fewer lines than twice its tokens. */
int64_t la_model_most_inputs(const la_model *model, int64_t tokens) {
    return model->config.distances.span ? 3 * tokens : tokens;
}

bool la_head_reads_all(const la_model *model) {
    const la_site *site = model->n_head ? model->head[0].linear.site : NULL;
    return site && !site->per_row;
}

bool la_params_take(la_params params, la_block_group group) {
    static const unsigned taken[] = {
        [LA_PARAMS_LORA] = 1u << LA_GROUP_ADAPTER,
        [LA_PARAMS_LORA_HEAD] = 1u << LA_GROUP_ADAPTER | 1u << LA_GROUP_HEAD,
        [LA_PARAMS_LORA_MAGNITUDE] = 1u << LA_GROUP_ADAPTER | 1u << LA_GROUP_MAGNITUDES,
        [LA_PARAMS_LORA_MAGNITUDE_HEAD] =
            1u << LA_GROUP_ADAPTER | 1u << LA_GROUP_MAGNITUDES | 1u << LA_GROUP_HEAD,
        [LA_PARAMS_HEAD] = 1u << LA_GROUP_HEAD,
        [LA_PARAMS_LAST] = 1u << LA_GROUP_HEAD,
    };
    return taken[params] >> group & 1;
}

bool la_block_in(const la_model *model, int64_t block, la_params params) {
    bool last = params != LA_PARAMS_LAST || block == model->head[model->n_head - 1].block;
    return last && la_params_take(params, model->blocks[block].group);
}

bool la_linear_wanted(const la_model *model, const la_linear *linear) {
    const la_site *site = linear->site;
    bool wanted = false;
    for (int i = 0; site && i < site->n_parameters; i++)
        wanted |= site->parameters[i].block >= 0 && model->blocks[site->parameters[i].block].wanted;
    return wanted;
}

/* Without the head where the adapter has none and it is not needed. */
static la_params params_of(const la_model *model, const la_model_options *options) {
    bool head = false, magnitude = options->params == LA_PARAMS_LORA_MAGNITUDE_HEAD;
    for (int64_t i = 0; i < model->n_blocks; i++)
        head |= model->blocks[i].group == LA_GROUP_HEAD;
    if (head || !options->head_optional)
        return options->params;
    return magnitude ? LA_PARAMS_LORA_MAGNITUDE : LA_PARAMS_LORA;
}

static la_status select_blocks(la_binder *b, la_params params, la_error *err) {
    la_model *model = b->model;
    int64_t found[LA_GROUP_HEAD + 1] = {0}, wanted = 0;
    for (int64_t i = 0; i < model->n_blocks; i++) {
        la_block *block = &model->blocks[i];
        block->wanted = la_block_in(model, i, params);
        found[block->group]++;
        wanted += block->wanted;
    }
    if (!found[LA_GROUP_ADAPTER] && la_params_take(params, LA_GROUP_ADAPTER))
        return la_fail(err, LA_BAD_INPUT, "%s: holds no adapter weights for this base",
                       model->adapter.config_path);
    if (!found[LA_GROUP_MAGNITUDES] && la_params_take(params, LA_GROUP_MAGNITUDES))
        return la_fail(err, LA_BAD_INPUT,
                       "--params: %s does not say use_dora, the adapter holds no magnitudes",
                       model->adapter.config_path);
    if (!wanted || (!found[LA_GROUP_HEAD] && la_params_take(params, LA_GROUP_HEAD)))
        return la_fail(err, LA_BAD_INPUT,
                       "--params: the adapter holds no trained head (modules_to_save)");
    const la_prompt *prompt = &model->prompt;
    if (prompt->n && !prompt->of_layers)
        model->embed.wanted = model->blocks[prompt->parts[0].block].wanted;
    for (int i = 0; i < model->embed.n; i++)
        if (model->embed.adapted[i])
            model->embed.wanted |= model->blocks[model->embed.adapted[i]->blocks[1]].wanted;
    return LA_OK;
}

/* A base that is packed here is another base: its name counts. */
static la_status digest_base(const la_checkpoint *base, const la_config *config,
                             la_base_quant quant, char out[LA_DIGEST_TEXT], la_error *err) {
    char content[33];
    LA_TRY(la_checkpoint_digest(base, content, err));
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_digest_add_text(digest, content);
    if (quant)
        la_digest_add_text(digest, la_base_quant_names[quant]);
    la_config_digest(config, digest);
    la_digest_finish(digest, out);
    return LA_OK;
}

void la_model_digests(const la_model_options *options, char base[LA_DIGEST_TEXT],
                      char adapter[LA_DIGEST_TEXT]) {
    la_error err = {0};
    la_config config = {0};
    la_checkpoint *weights = NULL;
    *base = *adapter = 0;
    if (la_config_read(options->base, &config, &err) == LA_OK) {
        if (la_checkpoint_open(options->base, "model", &weights, &err) != LA_OK ||
            digest_base(weights, &config, options->quant, base, &err) != LA_OK)
            *base = 0;
        la_checkpoint_close(weights);
        la_config_free(&config);
    }
    err = (la_error){0};
    la_adapter opened = {0};
    if (la_adapter_open(options->adapter, options->adapter_name, &opened, NULL, &err) == LA_OK &&
        la_adapter_digest(&opened, adapter, &err) != LA_OK)
        *adapter = 0;
    la_adapter_close(&opened);
}

/* The task that adapters store; NULL: none does. */
static la_status stored_task(const la_adapter *adapter, const char **task, la_error *err) {
    for (; adapter; adapter = adapter->next) {
        if (*task && adapter->task_type && strcmp(*task, adapter->task_type))
            return la_fail(err, LA_BAD_INPUT,
                           "%s: task_type is \"%s\", that of the adapter before it \"%s\"",
                           adapter->config_path, adapter->task_type, *task);
        *task = adapter->task_type ? adapter->task_type : *task;
    }
    return LA_OK;
}

static la_status find_task(la_binder *b, bool choices, la_error *err) {
    static const char *const names[] = {"SEQ_CLS", "CAUSAL_LM", "TOKEN_CLS"};
    la_model *model = b->model;
    const char *task = NULL;
    LA_TRY(stored_task(&model->adapter, &task, err));
    int kind = choices ? LA_TASK_CHOICE : LA_TASK_CLASSIFY;
    for (kind = task ? 0 : kind; task && kind < 3 && strcmp(task, names[kind]); kind++)
        ;
    if (kind == 3)
        return la_fail(
            err, LA_UNSUPPORTED,
            "%s: task_type \"%s\" is not supported (SEQ_CLS, TOKEN_CLS and CAUSAL_LM are)",
            model->adapter.config_path, task);
    model->task = (la_task)kind;
    bool tags = kind == LA_TASK_TAG;
    b->head = tags ? b->arch->tags : b->arch->classify;
    b->head_settings = tags ? &model->config.tags : &model->config.classify;
    if (!b->head->module && kind != LA_TASK_CHOICE)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: task_type \"%s\" is not supported for model_type \"%s\"",
                       model->adapter.config_path, task, b->arch->model_type);
    if (kind != LA_TASK_CHOICE && choices)
        return la_fail(err, LA_USAGE,
                       "--choices is for causal LMs; this adapter has a classification head");
    return LA_OK;
}

static la_status open_parts(la_binder *b, const la_model_options *options, la_error *err) {
    la_model *model = b->model;
    LA_TRY(la_config_read(options->base, &model->config, err));
    LA_TRY(la_config_problem_beside(options->adapter, &model->config.likelihood, err));
    b->arch = model->config.arch;
    if (options->quant && model->config.quantised)
        return la_fail(err, LA_USAGE, "--base-quant %s: %s is quantised already (%s); leave it out",
                       la_base_quant_names[options->quant], options->base, model->config.quantised);
    LA_TRY(la_adapter_open(options->adapter, options->adapter_name, &model->adapter, &options->log,
                           err));
    LA_TRY(find_task(b, options->n_choices > 0, err));
    LA_TRY(la_checkpoint_open(options->base, "model", &model->base, err));
    b->base_used = la_pool_take(&model->pool, (size_t)la_checkpoint_count(model->base) + 1,
                                sizeof *b->base_used, err);
    if (!b->base_used)
        return err->status;
    if (options->quant) /* only what is made of it stays */
        la_checkpoint_let_go(model->base);
    LA_TRY(bind_body(b, err));
    LA_TRY(model->task == LA_TASK_CHOICE ? la_binder_choices(b, options, err)
                                         : la_binder_classifier(b, err));
    if (model->config.quantised && !model->packed && !b->twin)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: config.json says that the base is quantised (%s), but no weight of a "
                       "linear layer is packed",
                       b->base_dir, model->config.quantised);
    LA_TRY(la_token_rows_check(b, err));
    LA_TRY(la_leftover_check(b->model, err));
    if (!b->twin)
        la_leftover_report(b);
    LA_TRY(select_blocks(b, params_of(b->model, options), err));
    if (b->twin) {
        strcpy(model->base_digest, b->twin->base_digest);
        strcpy(model->adapter_digest, b->twin->adapter_digest);
        return LA_OK;
    }
    LA_TRY(digest_base(model->base, &model->config, options->quant, model->base_digest, err));
    return la_adapter_digest(&model->adapter, model->adapter_digest, err);
}

la_status la_model_open(la_backend *be, const la_model_options *options, la_model *model,
                        la_error *err) {
    *model = (la_model){.be = be};
    la_binder b = {.model = model,
                   .base_dir = options->base,
                   .log = &options->log,
                   .twin = options->twin,
                   .twin_packed = options->twin ? options->twin->packed : NULL,
                   .quant = options->quant,
                   .params = options->params};
    la_status status = open_parts(&b, options, err);
    if (status != LA_OK)
        la_model_close(model);
    return status;
}

la_status la_model_upload(la_model *model, la_error *err) {
    la_backend *be = model->be;
    for (la_upload *u = model->uploads; u; u = u->next) {
        bool copied;
        const void *memory =
            be->ops->place(be, la_pointer_get(u->pointer), u->from, u->count, u->to, &copied);
        if (!memory)
            return la_fail(err, LA_RESOURCE, "out of memory on %s for %zu bytes of weights",
                           be->device, (size_t)u->count * la_dtype_size(u->to));
        u->copied = copied;
        la_pointer_set(u->pointer, memory);
    }
    return be->ops->sync(be, err);
}

void la_model_close(la_model *model) {
    for (la_upload *u = model->uploads; u; u = u->next)
        if (u->copied)
            model->be->ops->release(model->be, la_pointer_get(u->pointer));
    la_adapter_close(&model->adapter);
    la_checkpoint_close(model->base);
    la_config_free(&model->config);
    la_pool_free(&model->pool);
    *model = (la_model){0};
}
