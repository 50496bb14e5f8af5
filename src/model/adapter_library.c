/* LoRA, (IA)^3 and prefix tuning as the `adapters` library names and stores them, alone or as parts
 * of a union (arXiv 2110.04366, 2508.02711):
 *   MODULE.loras.NAME.lora_A [r, in], lora_B [out, r]: y = W x + bias + alpha / r B (A x)
 *   MODULE.loras.NAME.lora_B [out, 1] of composition_mode "scale": y = B o (W x + bias)
 *   prefix_tunings.NAME.self_prefix: keys and values before those of every row, flat
 *   (control_trans) or behind a network (wte, control_trans.0, control_trans.2). The network's
 *   outputs are what the model sees, and are the parameters here, as in a prefix that the library
 *   ejects. */
#include "input/json.h"
#include "model/adapter_shared.h"
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

la_status la_library_name(const la_adapter *adapter, const char **name, la_error *err) {
    return la_json_text(adapter->config, adapter->config_path, "name", true, name, err);
}

static la_status refuse_keys(const la_adapter *adapter, la_error *err) {
    for (const char *const *keys = adapter->kind->refused; *keys; keys++) {
        const json_t *value = json_object_get(adapter->own, *keys);
        if (la_json_is_set(value) && !(json_is_array(value) && !json_array_size(value)))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: \"%s\" is set; this kind of adapter of the `adapters` library is "
                           "not supported",
                           adapter->config_path, *keys);
    }
    return LA_OK;
}

la_status la_library_activation(const la_adapter *adapter, la_activation *out, la_error *err) {
    const char *path = adapter->config_path, *name = NULL;
    char lower[32], known[512];
    LA_TRY(la_json_text(adapter->own, path, "non_linearity", true, &name, err));
    size_t n = strlen(name) < sizeof lower - 1 ? strlen(name) : sizeof lower - 1;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] - 'A' + 'a' : name[i]);
    lower[n] = 0;
    /* directories without a version are of the days when gelu was the tanh approximation */
    bool old = !json_object_get(adapter->config, "version");
    const char *meant = lower;
    if (old && !strcmp(lower, "gelu"))
        meant = "gelu_new";
    else if (old && !strcmp(lower, "gelu_orig"))
        meant = "gelu";
    if (la_activation_find(meant, out))
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED, "%s: non_linearity \"%s\" is not supported (%s are)", path,
                   name, la_activation_names(known, sizeof known));
}

/* ---- configuration and files ---- */

/* A part of a configuration of the `adapters` library: a kind of its own. */
static la_status read_one(la_adapter *adapter, const json_t *part, la_error *err) {
    const char *name = NULL;
    char known[256];
    adapter->own = part;
    LA_TRY(la_json_text(part, adapter->config_path, "architecture", false, &name, err));
    adapter->kind = la_adapter_kind_find(&la_adapters_library, name);
    if (!adapter->kind)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: architecture \"%s\" of the `adapters` library is not supported (%s and "
                       "unions of these are)",
                       adapter->config_path, name,
                       la_adapter_kind_names(&la_adapters_library, ", ", known, sizeof known));
    LA_TRY(refuse_keys(adapter, err));
    return adapter->kind->check ? adapter->kind->check(adapter, err) : LA_OK;
}

/* One or a union of several, which become a chain. */
static la_status read_config(la_adapter *adapter, const json_t *config, la_error *err) {
    const char *path = adapter->config_path;
    const json_t *parts = json_object_get(config, "configs");
    const char *architecture = json_string_value(json_object_get(config, "architecture"));
    if (!architecture || strcmp(architecture, "union"))
        return read_one(adapter, config, err);
    if (!json_array_size(parts))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: architecture is \"union\", but \"configs\" is no list of its parts",
                       path);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        if (!json_is_object(part))
            return la_fail(err, LA_BAD_INPUT, "%s: configs[%zu] is %s, expected an object", path, i,
                           la_json_kind(part));
        if (i) {
            adapter->next = la_pool_take(&adapter->pool, 1, sizeof *adapter, err);
            if (!adapter->next)
                return err->status;
            *adapter->next = (la_adapter){.config = adapter->config,
                                          .config_path = path,
                                          .log = adapter->log,
                                          .shares = true};
            adapter = adapter->next;
        }
        LA_TRY(read_one(adapter, part, err));
    }
    return LA_OK;
}

/* The library's default is a pickle. */
static la_status check_pickle(const char *dir, la_error *err) {
    char safe[4096], pickle[4096];
    snprintf(safe, sizeof safe, "%s/adapter.safetensors", dir);
    snprintf(pickle, sizeof pickle, "%s/pytorch_adapter.bin", dir);
    if (!access(safe, F_OK) || access(pickle, F_OK))
        return LA_OK;
    return la_fail(
        err, LA_UNSUPPORTED,
        "%s: is a pickle, which can run code and is not read; save the adapter with "
        "use_safetensors=True, or, where the library cannot (prefix tuning), write what "
        "torch.load(\"pytorch_adapter.bin\") gives with safetensors.torch.save_file, each "
        "tensor cloned, as adapter.safetensors (the head as model_head.safetensors)",
        pickle);
}

/* A head of a static model; those of AutoAdapterModel are modules of their own. */
static la_status open_head(const char *dir, la_adapter *adapter, la_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/model_head.safetensors", dir);
    if (access(path, F_OK))
        return LA_OK;
    LA_TRY(la_checkpoint_open(dir, "model_head", &adapter->head, err));
    for (int64_t i = 0; i < la_checkpoint_count(adapter->head); i++)
        if (!strncmp(la_checkpoint_at(adapter->head, i)->name, "heads.", 6))
            return la_fail(
                err, LA_UNSUPPORTED,
                "%s: holds a flexible head (\"%s\"), which is not supported; the head of "
                "a static model is",
                path, la_checkpoint_at(adapter->head, i)->name);
    return LA_OK;
}

static la_status open_files(const char *dir, la_adapter *adapter, la_error *err) {
    LA_TRY(check_pickle(dir, err));
    LA_TRY(la_checkpoint_open(dir, "adapter", &adapter->file, err));
    return open_head(dir, adapter, err);
}

const la_adapter_library la_adapters_library = {
    .weights = "adapter", .config_key = "config", .read = read_config, .open = open_files};

/* ---- LoRA and (IA)^3 ---- */

/* scales: composition_mode "scale", (IA)^3 */
typedef struct settings {
    bool scales;
    int64_t r;
    double alpha;
} settings;

static la_status read_settings(const la_adapter *adapter, settings *s, la_error *err) {
    const char *mode = NULL, *path = adapter->config_path;
    LA_TRY(la_json_text(adapter->own, path, "composition_mode", true, &mode, err));
    LA_TRY(la_json_int(adapter->own, path, "r", true, 1, 1 << 20, &s->r, err));
    LA_TRY(la_json_number(adapter->own, path, "alpha", true, &s->alpha, err));
    s->scales = !strcmp(mode, "scale");
    if (!s->scales && strcmp(mode, "add"))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: composition_mode is \"%s\", expected \"add\" or \"scale\"", path, mode);
    return LA_OK;
}

static la_status check_lora(const la_adapter *adapter, la_error *err) {
    settings s = {0};
    LA_TRY(read_settings(adapter, &s, err));
    if (!(s.alpha >= 0) || isinf(s.alpha))
        return la_fail(err, LA_BAD_INPUT, "%s: alpha is %g, expected a positive number",
                       adapter->config_path, s.alpha);
    if (s.scales && (s.r != 1 || s.alpha != 1))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: composition_mode \"scale\" with r %lld and alpha %g, expected 1 and 1",
                       adapter->config_path, (long long)s.r, s.alpha);
    return LA_OK;
}

static la_status bind_vector(la_adapter *adapter, la_pool *pool, const char *module,
                             const char *key, la_site *site, la_error *err) {
    char name[1024];
    const la_tensor *l = la_adapter_tensor(adapter, key, "lora_B", NULL);
    if (!l)
        return LA_OK;
    LA_TRY(la_tensor_check_shape(l, site->out, 1, la_other_base, err));
    snprintf(name, sizeof name, "%s.lora_B", module);
    return la_ia3_attach(pool, l, false, name, site, err);
}

/* A projection that is several at once has a matrix of its own for each of them. */
static la_status check_whole(la_adapter *adapter, const char *key, int64_t r, la_error *err) {
    const la_tensor *a = la_adapter_tensor(adapter, key, "lora_A", NULL);
    if (!a || a->n_dims != 2 || a->shape[0] == r || a->shape[0] % r)
        return LA_OK;
    return la_tensor_fail(err, LA_UNSUPPORTED, a,
                          " has %lld rows, %lld times r: LoRA of the `adapters` library on a "
                          "projection of queries, keys and values at once is not supported",
                          (long long)a->shape[0], (long long)(a->shape[0] / r));
}

static const char *const pair[2] = {"lora_A", "lora_B"};

static la_status check_rank(const la_adapter *adapter, const char *module, int64_t rank,
                            const settings *s, la_error *err) {
    return rank == s->r ? LA_OK
                        : la_fail(err, LA_BAD_INPUT,
                                  "%s: %s has rank %lld in the weights, expected %lld from r",
                                  adapter->config_path, module, (long long)rank, (long long)s->r);
}

/* Names of the blocks of a module: the file's hold the adapter's name, too. */
static const char *block_name(la_pool *pool, const char *module, int i, la_error *err) {
    char text[1024];
    int length = snprintf(text, sizeof text, "%s.%s", module, pair[i]);
    return la_pool_text(pool, text, (size_t)length, err);
}

static la_status bind_lora(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                           la_error *err) {
    const char *name = NULL;
    char key[1024];
    settings s = {0};
    LA_TRY(la_library_name(adapter, &name, err));
    LA_TRY(read_settings(adapter, &s, err));
    snprintf(key, sizeof key, "%s.loras.%s", module, name);
    if (s.scales)
        return bind_vector(adapter, pool, module, key, site, err);
    LA_TRY(check_whole(adapter, key, s.r, err));
    LA_TRY(la_lora_bind(adapter, pool, key, pair, site, err));
    la_lora *lora = site->own;
    if (!lora)
        return LA_OK;
    LA_TRY(check_rank(adapter, module, lora->a.rows, &s, err));
    lora->scale = (float)(s.alpha / (double)s.r);
    for (int i = 0; i < 2; i++)
        site->parameters[i].trained.name = block_name(pool, module, i, err);
    return err->status;
}

static la_status read_product(la_adapter *adapter, la_pool *pool, const char *key,
                              la_product *product, la_error *err) {
    const char *name = NULL;
    char ending[1024];
    settings s = {0};
    LA_TRY(la_library_name(adapter, &name, err));
    LA_TRY(read_settings(adapter, &s, err));
    if (s.scales)
        return LA_OK;
    LA_TRY(la_lora_product(adapter, pool, key, pair, product, err));
    if (!product->module)
        return LA_OK;
    int tail = snprintf(ending, sizeof ending, ".loras.%s", name);
    size_t length = strlen(product->module);
    if (length > (size_t)tail && !strcmp(product->module + length - (size_t)tail, ending))
        product->module = la_pool_text(pool, product->module, length - (size_t)tail, err);
    for (int i = 0; i < 2 && err->status == LA_OK; i++)
        product->names[i] = block_name(pool, product->module, i, err);
    LA_TRY(err->status);
    product->scale = (double)(float)(s.alpha / (double)s.r);
    return check_rank(adapter, product->module, product->rank, &s, err);
}

static const char *const not_in_lora[] = {"use_gating", "use_dora", "vera_d", "vera_b", NULL};

/* Its sites are those of LoRA or of (IA)^3. */
const la_adapter_kind la_adapter_library_lora = {.library = &la_adapters_library,
                                                 .name = "lora",
                                                 .refused = not_in_lora,
                                                 .check = check_lora,
                                                 .bind = bind_lora,
                                                 .read_product = read_product};

/* ---- prefix tuning ---- */

/* The tensor that the prefix of NAME calls leaf; *out NULL: missing. Every layer's reference to
 * the pool of prefixes can be in the file too, as a copy. */
static la_status find_part(la_adapter *adapter, const char *name, const char *leaf,
                           const la_tensor **out, la_error *err) {
    char ending[1024];
    int length = snprintf(ending, sizeof ending, ".prefix_tunings.%s.self_prefix.%s", name, leaf);
    *out = NULL;
    for (int64_t i = 0; i < adapter->n_entries; i++) {
        la_adapter_entry *entry = &adapter->entries[i];
        size_t size = strlen(entry->key);
        if (size < (size_t)length || strcmp(entry->key + size - (size_t)length, ending))
            continue;
        entry->used = true;
        if (*out && !la_tensor_equal(*out, entry->tensor))
            return la_tensor_fail(err, LA_BAD_INPUT, entry->tensor,
                                  " is another than \"%s\", of which it has to be a copy",
                                  (*out)->name);
        *out = entry->tensor;
    }
    return LA_OK;
}

/* A part as f32; LA_BAD_INPUT where it is missing, or not of rows times cols numbers. */
static la_status read_part(la_adapter *adapter, la_pool *pool, const char *name, const char *leaf,
                           int64_t rows, int64_t cols, const float **out, la_error *err) {
    double square;
    const la_tensor *tensor;
    LA_TRY(find_part(adapter, name, leaf, &tensor, err));
    if (!tensor)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: the weights hold no prefix_tunings.%s.self_prefix.%s",
                       adapter->config_path, name, leaf);
    if (tensor->n_dims != 1 || tensor->shape[0] != rows * cols)
        LA_TRY(la_tensor_check_shape(tensor, rows, cols, la_other_base, err));
    *out = la_adapter_values(pool, tensor, &square, err);
    return err->status;
}

static double activate(la_activation act, double x) {
    switch (act) {
    case LA_ACT_NONE:
        return x;
    case LA_ACT_GELU:
        return x * 0.5 * erfc(-x * M_SQRT1_2);
    case LA_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case LA_ACT_SILU:
        return x / (1 + exp(-x));
    case LA_ACT_RELU:
        return x > 0 ? x : 0;
    case LA_ACT_TANH:
        return tanh(x);
    }
    return x;
}

/* y[n, out] = act(x[n, in] w[out, in]^T + bias) */
static void dense(la_team team, la_activation act, int64_t n, int64_t in, int64_t out,
                  const float *x, const float *w, const float *bias, float *y) {
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t j = 0; j < out; j++)
        for (int64_t i = 0; i < n; i++) {
            double sum = (double)bias[j];
            for (int64_t k = 0; k < in; k++)
                sum += (double)x[i * in + k] * (double)w[j * in + k];
            y[i * out + j] = (float)activate(act, sum);
        }
}

static la_status read_network(la_team team, la_adapter *adapter, const la_virtual_widths *widths,
                              la_pool *pool, const char *name, la_virtual_tokens *out,
                              la_error *err) {
    int64_t n = out->n, d = widths->hidden, width = 2 * widths->layers * widths->kv, r = 0;
    const float *wte, *w0, *b0, *w2, *b2;
    la_activation act;
    LA_TRY(la_json_int(adapter->own, adapter->config_path, "bottleneck_size", true, 1, 1 << 20, &r,
                       err));
    LA_TRY(la_library_activation(adapter, &act, err));
    LA_TRY(read_part(adapter, pool, name, "wte.weight", n, d, &wte, err));
    LA_TRY(read_part(adapter, pool, name, "control_trans.0.weight", r, d, &w0, err));
    LA_TRY(read_part(adapter, pool, name, "control_trans.0.bias", 1, r, &b0, err));
    LA_TRY(read_part(adapter, pool, name, "control_trans.2.weight", width, r, &w2, err));
    LA_TRY(read_part(adapter, pool, name, "control_trans.2.bias", 1, width, &b2, err));
    float *narrow = la_pool_take(pool, (size_t)(n * r), sizeof *narrow, err);
    float *values = la_pool_take(pool, (size_t)(n * width), sizeof *values, err);
    if (!narrow || !values)
        return err->status;
    dense(team, act, n, d, r, wte, w0, b0, narrow);
    dense(team, LA_ACT_NONE, n, r, width, narrow, w2, b2, values);
    out->values = values;
    return LA_OK;
}

static la_status read_tokens(la_team team, la_adapter *adapter, const la_virtual_widths *widths,
                             la_pool *pool, la_virtual_tokens *out, la_error *err) {
    const char *name = NULL, *path = adapter->config_path;
    bool flat = false;
    *out = (la_virtual_tokens){.of_layers = true, .name = "prefix_tuning"};
    LA_TRY(la_library_name(adapter, &name, err));
    LA_TRY(la_json_bool(adapter->own, path, "flat", false, &flat, err));
    LA_TRY(la_json_int(adapter->own, path, "prefix_length", true, 1, 1 << 20, &out->n, err));
    if (!flat)
        return read_network(team, adapter, widths, pool, name, out, err);
    return read_part(adapter, pool, name, "control_trans", out->n, 2 * widths->layers * widths->kv,
                     &out->values, err);
}

static const char *const not_in_prefix[] = {"use_gating", "leave_out", NULL};

const la_adapter_kind la_adapter_library_prefix = {.library = &la_adapters_library,
                                                   .name = "prefix_tuning",
                                                   .refused = not_in_prefix,
                                                   .read_tokens = read_tokens};
