/* Heads: of classes, of tags, and that of a causal LM cut down to its answer tokens. */
#include "model/binder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double square_of(const la_tensor *tensor, la_error *err) {
    float *values = la_alloc((size_t)tensor->count, sizeof *values, err);
    if (!values)
        return 0;
    la_dtype_to_f32(tensor->dtype, tensor->data, tensor->count, values);
    double sum = 0;
    for (int64_t i = 0; i < tensor->count; i++)
        sum += (double)values[i] * (double)values[i];
    free(values);
    return sum;
}

/* A head layer whose weights the adapter brings is a block of its own, its bias an extra input
 * of 1. */
static la_status add_head_block(la_binder *b, const la_head_row *row, bool bias,
                                la_head_layer *layer, la_error *err) {
    la_model *model = b->model;
    bool trained;
    const la_tensor *weight = la_binder_find(b, row->module, row->in_body, "weight", &trained);
    layer->block = -1;
    if (!trained || layer->linear.site)
        return LA_OK;
    la_parameter *p = la_pool_take(&model->pool, 2, sizeof *p, err);
    if (!p)
        return err->status;
    int64_t in = weight->shape[1] + (bias ? 1 : 0);
    la_block *block = &p->trained;
    *block = (la_block){.out = weight->shape[0],
                        .in = in,
                        .per_row = true,
                        .group = LA_GROUP_HEAD,
                        .input = model->n_inputs++,
                        .theta_square = square_of(weight, err)};
    if (bias)
        block->theta_square +=
            square_of(la_binder_find(b, row->module, row->in_body, "bias", &trained), err);
    char name[NAME_MAX_BYTES];
    int length =
        snprintf(name, sizeof name, "%s%s", row->in_body ? b->arch->prefix : "", row->module);
    block->name = la_pool_text(&model->pool, name, (size_t)length, err);
    if (!block->name || err->status != LA_OK)
        return err->status;
    p->value = &layer->linear.w;
    p->cut = (la_cut){0, in, 1};
    LA_TRY(la_binder_add_parameter(b, NULL, p, err));
    layer->block = p->block;
    if (bias)
        la_binder_add_part(b, p, &p[1], &layer->linear.bias, (la_cut){in - 1, 0, in});
    return LA_OK;
}

/* A head on every token knows no problem_type: its outputs are classes. */
static la_status finish_tags(la_model *model, const la_tensor *weight, la_error *err) {
    model->pool_token = LA_POOL_PLACE;
    model->likelihood = &la_softmax_likelihood;
    if (model->n_classes < model->likelihood->n_least)
        return la_tensor_misfit(
            err, LA_UNSUPPORTED, weight,
            "which is not supported for task_type TOKEN_CLS, expected 2 classes or more");
    return LA_OK;
}

/* The one that config.json names, else that of a head with so many outputs. */
static la_status bind_likelihood(la_model *model, const la_tensor *weight, la_error *err) {
    const la_likelihood *likelihood = model->config.likelihood;
    if (!likelihood)
        likelihood = la_likelihood_of_outputs(model->n_classes);
    if (!likelihood)
        likelihood = &la_gaussian_likelihood;
    if (model->n_classes < likelihood->n_least || model->n_classes > likelihood->n_most)
        return la_tensor_misfit(err, LA_UNSUPPORTED, weight,
                                "which is not supported for problem_type %s, expected %s",
                                likelihood->problem, likelihood->outputs);
    model->likelihood = likelihood;
    return LA_OK;
}

la_status la_binder_classifier(la_binder *b, la_error *err) {
    la_model *model = b->model;
    const la_tensor *last_weight = NULL;
    int64_t in = model->config.hidden;
    for (const la_head_row *row = b->head; row->module; row++) {
        int i = model->n_head++;
        la_head_layer *layer = &model->head[i];
        bool has_bias = b->head_settings->bias[i];
        bool last = !row[1].module, trained;
        const la_tensor *weight;
        LA_TRY(la_binder_need(b, row->module, row->in_body, "weight", &weight, &trained, err));
        int64_t out = last && weight->n_dims == 2 ? weight->shape[0] : in;
        if (last && la_packed_is(model->base, weight)) {
            la_packed *packed;
            LA_TRY(la_packed_read(model->base, weight, &model->pool, &packed, err));
            out = packed->rows;
        }
        last_weight = weight;
        LA_TRY(la_binder_linear(b, row->module, row->in_body, out, in, has_bias, true,
                                model->n_inputs++, &layer->linear, err));
        layer->activation = b->head_settings->activation[i];
        LA_TRY(add_head_block(b, row, has_bias, layer, err));
        if (row->norm)
            LA_TRY(la_binder_norm(b, row->norm, row->in_body, out, &layer->norm, err));
        in = out;
    }
    model->n_classes = in;
    model->pool_token = model->config.pool_mean ? LA_POOL_MEAN : b->arch->classify_token;
    if (model->pool_token == LA_POOL_LAST_CONTENT && model->config.pad_id < 0)
        model->pool_token = LA_POOL_LAST;
    if (model->task == LA_TASK_TAG)
        return finish_tags(model, last_weight, err);
    return bind_likelihood(model, last_weight, err);
}

/* True when modules_to_save names the embedding: PEFT trains a copy of it then. */
static bool copies_embedding(const la_binder *b, const la_adapter *adapter) {
    const json_t *list = json_object_get(adapter->config, "modules_to_save");
    size_t tail = strlen(b->arch->embed_tokens);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        size_t length = name ? strlen(name) : 0;
        const char *last = strrchr(b->arch->embed_tokens, '.');
        last = last ? last + 1 : b->arch->embed_tokens;
        if (name && (!strcmp(name, last) ||
                     (length >= tail && !strcmp(name + length - tail, b->arch->embed_tokens))))
            return true;
    }
    return false;
}

static bool embedding_is_copied(const la_binder *b) {
    bool copied = false;
    for (const la_adapter *adapter = &b->model->adapter; adapter; adapter = adapter->next)
        copied |= copies_embedding(b, adapter);
    return copied;
}

/* The embedding as a head that is tied to it reads it: the one that the base holds where the
 * adapter trained a copy, else the adapter's, of a vocabulary that was resized. */
static const la_tensor *find_tied(la_binder *b) {
    bool trained;
    const la_tensor *weight = la_binder_find(b, b->arch->embed_tokens, true, "weight", &trained);
    char key[NAME_MAX_BYTES];
    const la_tensor *frozen = NULL;
    for (int i = 0; !frozen && la_binder_spell(b, i, true, b->arch->embed_tokens, key, sizeof key);
         i++)
        frozen = la_packed_find(b->model->base, key, "weight");
    return trained && frozen && embedding_is_copied(b) ? frozen : weight;
}

/* The head of a causal LM, cut down to the rows of the answer tokens. */
la_status la_binder_choices(la_binder *b, const la_model_options *options, la_error *err) {
    la_model *model = b->model;
    int64_t d = model->config.hidden, n = options->n_choices;
    if (!b->arch->lm_head)
        return la_fail(err, LA_UNSUPPORTED, "model_type \"%s\" has no language-model head",
                       b->arch->model_type);
    if (n < 2)
        return la_fail(err, LA_USAGE,
                       "a causal LM needs at least two answer tokens: give --choices \"A,B,C,D\" "
                       "or --choice-ids 319,350");
    bool trained;
    la_token_rows replaced = {0};
    const la_tensor *weight = la_binder_find(b, b->arch->lm_head, false, "weight", &trained);
    if (!weight && model->config.tied)
        weight = find_tied(b);
    if (!weight)
        LA_TRY(la_binder_need(b, b->arch->lm_head, false, "weight", &weight, &trained, err));
    la_packed *packed = NULL;
    int64_t vocabulary = weight->shape[0];
    if (la_packed_is(model->base, weight)) {
        LA_TRY(la_packed_read(model->base, weight, &model->pool, &packed, err));
        vocabulary = packed->rows;
        if (packed->cols != d)
            return la_tensor_fail(err, LA_BAD_INPUT, weight,
                                  " is packed from shape [%lld, %lld], expected %lld columns",
                                  (long long)packed->rows, (long long)packed->cols, (long long)d);
        if (packed->dense.data) {
            weight = &packed->dense;
            packed = NULL;
        }
    } else {
        LA_TRY(la_tensor_check_float(weight, err));
        LA_TRY(la_tensor_check_shape(weight, vocabulary, d, "", err));
    }
    LA_TRY(la_token_rows_find(b, b->arch->lm_head, false, vocabulary, d, &replaced, err));
    if (!replaced.values && model->config.tied)
        replaced = b->token_rows;
    float *rows = la_pool_take(&model->pool, (size_t)(n * d), sizeof *rows, err);
    if (!rows)
        return err->status;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = options->choice_ids[i];
        if (id < 0 || id >= vocabulary)
            return la_fail(err, LA_BAD_INPUT, "choice id %lld, expected 0 to %lld (%s)",
                           (long long)id, (long long)vocabulary - 1, weight->name);
        for (int64_t j = 0; j < i; j++)
            if (options->choice_ids[j] == id)
                return la_fail(err, LA_BAD_INPUT, "choice id %lld is given twice", (long long)id);
        la_mat codes = packed ? la_packed_mat(packed) : (la_mat){0};
        if (packed)
            la_quant_decode(&codes, id * d, d, rows + i * d);
        else
            la_dtype_to_f32(weight->dtype,
                            (const char *)weight->data +
                                (size_t)(id * d) * la_dtype_size(weight->dtype),
                            d, rows + i * d);
        la_token_rows_read(&replaced, id, d, rows + i * d);
    }
    la_head_layer *layer = &model->head[model->n_head++];
    layer->block = -1;
    layer->linear.w = la_mat_f32(NULL, vocabulary, d); /* its size before it is cut */
    la_mat stored = la_mat_f32(rows, n, d);
    la_site_spec at = {.of_head = true,
                       .input = model->n_inputs++,
                       .rows = options->choice_ids,
                       .n_rows = n,
                       .w = &stored};
    LA_TRY(la_binder_site(b, b->arch->lm_head, &at, &layer->linear, err));
    layer->linear.w = la_mat_f32(NULL, n, d);
    LA_TRY(la_binder_upload(b, rows, LA_F32, n * d, LA_F32, &layer->linear.w.data, err));
    const la_site *site = layer->linear.site;
    if (site && site->bias) {
        layer->linear.bias = la_mat_f32(NULL, 1, n);
        LA_TRY(la_binder_upload(b, site->bias, LA_F32, n, LA_F32, &layer->linear.bias.data, err));
    }
    model->n_classes = n;
    model->likelihood = &la_softmax_likelihood;
    model->pool_token = LA_POOL_LAST;
    return LA_OK;
}
