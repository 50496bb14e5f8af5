/* Bottleneck adapters, where the `adapters` library hangs them: in the module that holds the
 * norm behind attention or FFN, or in modules of the layer (all others). */
#include "model/binder.h"

#include <stdio.h>
#include <string.h>

/* "encoder.layer.0.attention.output" of "encoder.layer.%lld.attention.output.LayerNorm" */
static void parent_of(const char *pattern, int64_t layer, char *out, size_t size) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(out, size, pattern, (long long)layer);
#pragma GCC diagnostic pop
    char *last = strrchr(out, '.');
    if (last)
        *last = 0;
}

/* Candidate number of the module's name; false: there is no such one. */
static bool candidate(const la_binder *b, int64_t layer, int index, int number, char *out,
                      size_t size) {
    static const char *const modules[] = {"attention_adapters", "output_adapters"};
    const la_arch *arch = b->arch;
    const char *norm = index ? arch->norm_ffn : arch->norm_attention;
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
    if (!layer->norm_attention_out.weight && !layer->norm_ffn_out.weight)
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
    if (!la_bottleneck_expected(adapter, number, index))
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
            LA_TRY(la_bottleneck_bind(adapter, &model->pool, module, model->config.hidden,
                                      !b->arch->pre_norm, e, p, &adapted, err));
    if (!adapted)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: layer %lld has an adapter behind its %s by the configuration, but the "
                       "weights hold none",
                       adapter->config_path, (long long)number, where);
    LA_TRY(check_norms(b, layer, module, err));
    for (int i = 0; i < 2; i++) {
        p[i].trained.input = model->n_inputs++;
        LA_TRY(la_binder_add_parameter(b, adapter, &p[i], err));
        LA_TRY(la_binder_upload_matrix(b, p[i].value, false, err));
        e->blocks[i] = p[i].block;
    }
    layer->bottleneck[index] = e;
    if (e->up.cols > model->max_state_cols)
        model->max_state_cols = e->up.cols;
    return LA_OK;
}

la_status la_bottleneck_bind_layer(la_binder *b, la_adapter *adapter, int64_t layer,
                                   la_error *err) {
    for (int index = 0; index < 2; index++)
        LA_TRY(bind_one(b, adapter, layer, index, err));
    return LA_OK;
}
