/* Bottleneck adapters of the `adapters` library: configuration, tensors, and where it hangs them:
 * in the module that holds the norm behind attention or FFN, or in modules of the layer (all
 * others). */
#include "model/binder.h"
#include "input/json.h"
#include "model/adapter_shared.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- configuration ---- */

/* Keys of BnConfig that must not be set. */
static const char *const unsupported[] = {"ln_before",   "ln_after",      "use_gating", "phm_layer",
                                          "inv_adapter", "cross_adapter", NULL};

static la_status read_scale(const la_adapter *adapter, float *scale, la_error *err) {
    const json_t *value = json_object_get(adapter->own, "scaling");
    double number = value && json_is_number(value) ? json_number_value(value) : 1;
    if (value && !json_is_number(value))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: scaling is %s; a scaling that is learned is not supported",
                       adapter->config_path, la_json_kind(value));
    *scale = (float)number;
    if (!isfinite(*scale))
        return la_fail(err, LA_BAD_INPUT, "%s: scaling is %g, expected a finite number",
                       adapter->config_path, number);
    return LA_OK;
}

static la_status read_input(const la_adapter *adapter, bool post_norm, la_bottleneck_input *out,
                            la_error *err) {
    const json_t *config = adapter->own;
    const char *path = adapter->config_path;
    bool parallel = false, before = false, after = true;
    LA_TRY(la_json_bool(config, path, "is_parallel", false, &parallel, err));
    LA_TRY(la_json_bool(config, path, "original_ln_before", false, &before, err));
    LA_TRY(la_json_bool(config, path, "original_ln_after", false, &after, err));
    const json_t *residual = json_object_get(config, "residual_before_ln");
    if (!after)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: original_ln_after is false; this variant is not supported", path);
    if (!parallel && before && residual && !json_is_true(residual))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: residual_before_ln is not true; this variant is not supported", path);
    *out = parallel    ? LA_BOTTLENECK_RESIDUAL
           : !before   ? LA_BOTTLENECK_ADDED
           : post_norm ? LA_BOTTLENECK_NORMED
                       : LA_BOTTLENECK_SUM;
    return LA_OK;
}

static la_status check(const la_adapter *adapter, la_error *err) {
    la_activation activation;
    la_bottleneck_input input;
    float scale;
    LA_TRY(read_scale(adapter, &scale, err));
    LA_TRY(la_library_activation(adapter, &activation, err));
    return read_input(adapter, true, &input, err);
}

/* ---- tensors ---- */

/* weight and bias as one matrix [out, in + 1] */
static la_status bind_dense(la_adapter *adapter, la_pool *pool, const char *module, int64_t out,
                            int64_t in, la_mat *m, la_block *block, bool *there, la_error *err) {
    const la_tensor *weight = la_adapter_tensor(adapter, module, "weight", NULL);
    const la_tensor *bias = la_adapter_tensor(adapter, module, "bias", NULL);
    *there = weight || bias;
    if (!*there)
        return LA_OK;
    if (!weight || !bias)
        return la_fail(err, LA_BAD_INPUT, "%s: \"%s\" is there, but no %s for it",
                       (weight ? weight : bias)->file, (weight ? weight : bias)->name,
                       weight ? "bias" : "weight");
    LA_TRY(la_tensor_check_matrix(weight, err));
    out = out ? out : weight->shape[0];
    LA_TRY(la_tensor_check_shape(weight, out, in, "", err));
    LA_TRY(la_tensor_check_shape(bias, out, -1, "", err));
    double of_bias;
    float *values = la_adapter_values(pool, weight, &block->theta_square, err);
    float *shift = la_adapter_values(pool, bias, &of_bias, err);
    float *both = la_pool_take(pool, (size_t)(out * (in + 1)), sizeof *both, err);
    if (err->status != LA_OK)
        return err->status;
    for (int64_t i = 0; i < out; i++) {
        memcpy(both + i * (in + 1), values + i * in, (size_t)in * sizeof *both);
        both[i * (in + 1) + in] = shift[i];
    }
    block->theta_square += of_bias;
    block->out = out;
    block->in = in + 1;
    *m = la_mat_f32(both, out, in + 1);
    return LA_OK;
}

/* True when the configuration gives the layer one, behind attention (index 0) or FFN (1). */
static bool is_expected(const la_adapter *adapter, int64_t layer, int index) {
    const json_t *config = adapter->own, *left = json_object_get(config, "leave_out");
    for (size_t i = 0; i < json_array_size(left); i++)
        if (json_integer_value(json_array_get(left, i)) == layer)
            return false;
    return json_is_true(json_object_get(config, index ? "output_adapter" : "mh_adapter"));
}

/* Fills *e and the parameters of down and up from the tensors at module; *adapted is false when
 * there are none. */
static la_status read_at(la_binder *b, la_adapter *adapter, const char *module, la_bottleneck *e,
                         la_parameter parameters[2], bool *adapted, la_error *err) {
    la_pool *pool = &b->model->pool;
    int64_t d = b->model->config.hidden;
    static const char *const parts[] = {"adapter_down", "adapter_up"};
    const char *name = NULL;
    char key[1024];
    la_block blocks[2] = {{0}};
    bool down, up;
    LA_TRY(la_library_name(adapter, &name, err));
    snprintf(key, sizeof key, "%s.adapters.%s.adapter_down.0", module, name);
    LA_TRY(bind_dense(adapter, pool, key, 0, d, &e->down, &blocks[0], &down, err));
    snprintf(key, sizeof key, "%s.adapters.%s.adapter_up", module, name);
    LA_TRY(
        bind_dense(adapter, pool, key, d, down ? e->down.rows : 0, &e->up, &blocks[1], &up, err));
    *adapted = down || up;
    if (!*adapted)
        return LA_OK;
    if (!down || !up)
        return la_fail(err, LA_BAD_INPUT, "%s: %s has %s and no %s", adapter->config_path, module,
                       parts[up], parts[down]);
    for (int i = 0; i < 2; i++) {
        int length = snprintf(key, sizeof key, "%s.%s", module, parts[i]);
        blocks[i].name = la_pool_text(pool, key, (size_t)length, err);
    }
    LA_TRY(err->status);
    parameters[0] = (la_parameter){.value = &e->down, .trained = blocks[0]};
    parameters[1] = (la_parameter){.value = &e->up, .trained = blocks[1]};
    LA_TRY(read_scale(adapter, &e->scale, err));
    LA_TRY(la_library_activation(adapter, &e->activation, err));
    return read_input(adapter, !b->arch->pre_norm, &e->input, err);
}

/* ---- layers ---- */

/* "encoder.layer.0.attention.output" of "encoder.layer.%lld.attention.output.LayerNorm" */
static void parent_of(const char *pattern, int64_t layer, char *out, size_t size) {
    snprintf(out, size, pattern, (long long)layer);
    char *last = strrchr(out, '.');
    if (last)
        *last = 0;
}

/* Candidate number of the module's name; false: there is no such one. */
static bool candidate(const la_binder *b, int64_t layer, int index, int number, char *out,
                      size_t size) {
    static const char *const modules[] = {"attention_adapters", "output_adapters"};
    const la_arch *arch = b->arch;
    const char *norm = arch->norm[LA_NORM_ATTENTION + index];
    char name[NAME_MAX_BYTES];
    if (number == 0 && !arch->pre_norm && norm) {
        parent_of(norm, layer, name, sizeof name);
        snprintf(out, size, "%s%s", arch->prefix, name);
        return true;
    }
    const char *up = arch->linear[LA_SLOT_DOWN], *end = strstr(up, "%lld");
    if (number != 1 || !end)
        return false;
    snprintf(out, size, "%s%.*s%lld.%s", arch->prefix, (int)(end - up), up, (long long)layer,
             modules[index]);
    return true;
}

static la_status check_norms(const la_binder *b, const la_layer *layer, const char *module,
                             la_error *err) {
    if (!layer->norm[LA_NORM_ATTENTION_OUT].weight && !layer->norm[LA_NORM_FFN_OUT].weight)
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: %s: bottleneck adapters of model_type \"%s\" are not supported",
                   b->model->adapter.config_path, module, b->arch->model_type);
}

static la_status bind_one(la_binder *b, la_adapter *adapter, int64_t number, int index,
                          la_error *err) {
    la_model *model = b->model;
    la_layer *layer = &model->layers[number];
    bool adapted = false;
    char module[2 * NAME_MAX_BYTES];
    const char *where = index ? "FFN (output_adapter)" : "attention (mh_adapter)";
    if (!is_expected(adapter, number, index))
        return LA_OK;
    if (layer->bottleneck[index])
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: layer %lld has two adapters behind its %s, which is not supported",
                       adapter->config_path, (long long)number, where);
    la_bottleneck *e = la_pool_take(&model->pool, 1, sizeof *e, err);
    la_parameter *p = la_pool_take(&model->pool, 2, sizeof *p, err);
    LA_TRY(err->status);
    for (int i = 0; i < 2 && !adapted; i++)
        if (candidate(b, number, index, i, module, sizeof module))
            LA_TRY(read_at(b, adapter, module, e, p, &adapted, err));
    if (!adapted)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: layer %lld has an adapter behind its %s by the configuration, but the "
                       "weights hold none",
                       adapter->config_path, (long long)number, where);
    LA_TRY(check_norms(b, layer, module, err));
    LA_TRY(la_binder_add_pair(b, adapter, p, e->blocks, e->up.cols, err));
    layer->bottleneck[index] = e;
    return LA_OK;
}

static la_status bind_layer(la_binder *b, la_adapter *adapter, int64_t layer, la_error *err) {
    for (int index = 0; index < 2; index++)
        LA_TRY(bind_one(b, adapter, layer, index, err));
    return LA_OK;
}

static const char *const suffixes[] = {"adapter_down.0.weight", "adapter_down.0.bias",
                                       "adapter_up.weight", "adapter_up.bias", NULL};

const la_adapter_kind la_adapter_bottleneck = {.library = &la_adapters_library,
                                               .title = "bottleneck adapters",
                                               .refused = unsupported,
                                               .suffixes = suffixes,
                                               .check = check,
                                               .bind_layer = bind_layer};
