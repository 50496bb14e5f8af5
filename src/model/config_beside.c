#include "input/json.h"
#include "model/config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_BYTES_MAX = 64 << 20, PATH_BYTES = 4096 };

/* Keys that may differ without a change of what the model computes. */
static bool is_harmless(const char *key) {
    static const char *const keys[] = {"transformers_version",
                                       "_name_or_path",
                                       "architectures",
                                       "dtype",
                                       "torch_dtype",
                                       "use_cache",
                                       "vocab_size",
                                       "id2label",
                                       "label2id",
                                       "num_labels",
                                       "problem_type",
                                       "initializer_range",
                                       "bos_token_id",
                                       "eos_token_id",
                                       "quantization_config",
                                       "output_attentions",
                                       "output_hidden_states",
                                       "return_dict"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key))
            return true;
    return *key == '_' || strstr(key, "dropout") || strstr(key, "unsloth");
}

static bool same(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b) || (!la_json_is_set(a) && !la_json_is_set(b));
}

static void report_differences(const char *path, const json_t *root, const char *base,
                               const la_log *log) {
    char other[4096];
    json_t *of_base = NULL, *value;
    const char *key;
    la_error ignored = {0};
    int n = snprintf(other, sizeof other, "%s/config.json", base);
    if (n < 0 || (size_t)n >= sizeof other ||
        la_json_load(other, CONFIG_BYTES_MAX, &of_base, &ignored) != LA_OK)
        return;
    json_object_foreach((json_t *)(uintptr_t)root, key, value) {
        const json_t *had = json_object_get(of_base, key);
        if (!had || is_harmless(key) || same(value, had))
            continue;
        la_warn(log, "%s: %s differs from %s, which is the one that counts", path, key, other);
        break;
    }
    json_decref(of_base);
}

/* Reads adapter/config.json; *root NULL: there is none. */
static la_status load_beside(const char *adapter, char path[PATH_BYTES], json_t **root,
                             la_error *err) {
    int n = snprintf(path, PATH_BYTES, "%s/config.json", adapter);
    *root = NULL;
    if (n < 0 || n >= PATH_BYTES || access(path, F_OK))
        return LA_OK;
    return la_json_load(path, CONFIG_BYTES_MAX, root, err);
}

la_status la_config_problem_beside(const char *adapter, const la_likelihood **likelihood,
                                   la_error *err) {
    char path[PATH_BYTES];
    json_t *root;
    const la_likelihood *own = NULL;
    LA_TRY(load_beside(adapter, path, &root, err));
    la_status status = root ? la_config_problem(root, path, &own, err) : LA_OK;
    *likelihood = own ? own : *likelihood;
    json_decref(root);
    return status;
}

la_status la_config_beside(const char *adapter, const char *base, la_labels *labels,
                           const la_log *log, la_error *err) {
    char path[PATH_BYTES];
    json_t *root;
    LA_TRY(load_beside(adapter, path, &root, err));
    if (!root)
        return LA_OK;
    la_status status = la_config_labels(root, path, labels, err);
    if (status == LA_OK)
        report_differences(path, root, base, log);
    json_decref(root);
    return status;
}
