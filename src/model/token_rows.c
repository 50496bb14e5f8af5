#include "backend/quant.h"
#include "input/json.h"
#include "model/binder.h"

#include <stdio.h>
#include <string.h>

static const char key_name[] = "trainable_token_indices";

static const json_t *setting(const la_adapter *adapter) {
    const json_t *value = json_object_get(adapter->config, key_name);
    return la_json_is_set(value) ? value : NULL;
}

/* PEFT's rule for names of modules: all of it, or what stands behind a dot. */
static bool names(const char *name, const char *module) {
    size_t length = strlen(name), all = strlen(module);
    if (length > all || strcmp(module + all - length, name))
        return false;
    return length == all || module[all - length - 1] == '.';
}

static const json_t *list_of(const la_adapter *adapter, const char *module, bool main) {
    const json_t *value = setting(adapter);
    const char *name;
    json_t *list;
    if (!json_is_object(value))
        return main ? value : NULL;
    json_object_foreach((json_t *)(uintptr_t)value, name, list) {
        if (names(name, module))
            return list;
    }
    return NULL;
}

static la_status read_list(la_adapter *adapter, const json_t *list, int64_t rows,
                           la_token_rows *out, la_error *err) {
    const char *path = adapter->config_path;
    if (!json_is_array(list))
        return la_fail(err, LA_BAD_INPUT, "%s: %s is %s, expected a list of token ids", path,
                       key_name, la_json_kind(list));
    out->n = (int64_t)json_array_size(list);
    int64_t *index = la_pool_take(&adapter->pool, (size_t)out->n, sizeof *index, err);
    if (!index)
        return err->status;
    for (int64_t i = 0; i < out->n; i++) {
        const json_t *id = json_array_get(list, (size_t)i);
        if (!json_is_integer(id))
            return la_fail(err, LA_BAD_INPUT, "%s: %s holds %s, expected token ids", path, key_name,
                           la_json_kind(id));
        index[i] = json_integer_value(id);
        if (index[i] < 0 || index[i] >= rows)
            return la_fail(err, LA_BAD_INPUT, "%s: %s holds %lld, expected 0 to %lld", path,
                           key_name, (long long)index[i], (long long)rows - 1);
    }
    out->index = index;
    return LA_OK;
}

/* Rows of one adapter at key. main: a configuration that is a plain list means this module. */
static la_status find_in(la_adapter *adapter, const char *key, bool main, int64_t rows,
                         int64_t width, la_token_rows *out, la_error *err) {
    const json_t *list = list_of(adapter, key, main);
    const la_tensor *values =
        la_adapter_tensor(adapter, key, "token_adapter.trainable_tokens_delta", NULL);
    if (!values)
        return LA_OK;
    if (!list)
        return la_tensor_fail(err, LA_BAD_INPUT, values, " is there, but %s of %s lists no rows",
                              key_name, adapter->config_path);
    LA_TRY(read_list(adapter, list, rows, out, err));
    LA_TRY(la_tensor_check_shape(values, out->n, width, " (trainable_token_indices)", err));
    out->values = values;
    return LA_OK;
}

la_status la_token_rows_find(la_binder *b, const char *module, bool in_body, int64_t rows,
                             int64_t width, la_token_rows *out, la_error *err) {
    char key[NAME_MAX_BYTES];
    bool main = b->arch->embed_tokens && !strcmp(module, b->arch->embed_tokens);
    *out = (la_token_rows){0};
    for (la_adapter *adapter = &b->model->adapter; adapter; adapter = adapter->next) {
        la_token_rows found = {0};
        for (int i = 0; !found.values && la_binder_spell(b, i, in_body, module, key, sizeof key);
             i++)
            LA_TRY(find_in(adapter, key, main, rows, width, &found, err));
        if (found.values && out->values)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: %s: a second adapter brings trainable tokens, which is not "
                           "supported",
                           adapter->config_path, module);
        *out = found.values ? found : *out;
    }
    b->n_token_rows += out->values != NULL;
    return LA_OK;
}

la_status la_token_rows_check(const la_binder *b, la_error *err) {
    const la_adapter *adapter = &b->model->adapter, *last = adapter;
    int64_t found = b->n_token_rows;
    int64_t named = 0;
    for (const la_adapter *each = adapter; each; each = each->next) {
        const json_t *value = setting(each);
        last = value ? each : last;
        named += json_is_object(value) ? (int64_t)json_object_size(value) : value ? 1 : 0;
    }
    if (found >= named)
        return LA_OK;
    return la_fail(err, LA_BAD_INPUT,
                   "%s: %s names rows of %lld modules; the weights hold trainable_tokens_delta of "
                   "%lld that this base has",
                   last->config_path, key_name, (long long)named, (long long)found);
}

static float value_at(const la_token_rows *rows, int64_t at) {
    const la_tensor *t = rows->values;
    float value;
    la_dtype_to_f32(t->dtype, (const char *)t->data + (size_t)at * la_dtype_size(t->dtype), 1,
                    &value);
    return value;
}

la_status la_token_rows_replace(la_binder *b, const la_token_rows *rows, const la_tensor *tensor,
                                la_tensor *out, la_error *err) {
    size_t size = la_dtype_size(tensor->dtype), bytes = (size_t)tensor->count * size;
    int64_t width = tensor->shape[1];
    char *copy = la_pool_take(&b->model->pool, bytes, 1, err);
    if (!copy)
        return err->status;
    memcpy(copy, tensor->data, bytes);
    for (int64_t i = 0; i < rows->n; i++)
        for (int64_t j = 0; j < width; j++)
            la_quant_store(value_at(rows, i * width + j), tensor->dtype,
                           copy + (size_t)(rows->index[i] * width + j) * size);
    *out = *tensor;
    out->data = copy;
    return LA_OK;
}

void la_token_rows_read(const la_token_rows *rows, int64_t id, int64_t width, float *to) {
    for (int64_t i = 0; i < rows->n; i++)
        for (int64_t j = 0; rows->index[i] == id && j < width; j++)
            to[j] = value_at(rows, i * width + j);
}
