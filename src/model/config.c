#include "model/config.h"
#include "base/memory.h"
#include "input/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_BYTES_MAX = 64 << 20 };
#define SIZE_MAX_OF_MODEL ((int64_t)1 << 24)

typedef struct source {
    const json_t *root;
    const char *path;
} source;

static la_status read_size(const source *from, const char *key, bool required, int64_t *out,
                           la_error *err) {
    if (!key)
        return LA_OK;
    return la_json_int(from->root, from->path, key, required, 1, SIZE_MAX_OF_MODEL, out, err);
}

static la_status read_sizes(const source *from, la_config *config, la_error *err) {
    const la_arch *arch = config->arch;
    const la_config_keys *keys = &arch->keys;
    LA_TRY(read_size(from, keys->hidden, true, &config->hidden, err));
    LA_TRY(la_json_int(from->root, from->path, keys->layers, true, 1, 4096, &config->layers, err));
    config->heads = arch->sizes.heads;
    config->vocab = arch->sizes.vocab;
    config->max_positions = arch->sizes.max_positions;
    LA_TRY(read_size(from, keys->heads, !arch->sizes.heads, &config->heads, err));
    config->ffn = arch->default_ffn * config->hidden;
    LA_TRY(read_size(from, keys->ffn, !arch->default_ffn, &config->ffn, err));
    LA_TRY(read_size(from, keys->vocab, !arch->sizes.vocab, &config->vocab, err));
    LA_TRY(read_size(from, keys->max_positions, !arch->sizes.max_positions, &config->max_positions,
                     err));
    config->has_types = arch->embed_types != NULL;
    config->has_positions = arch->embed_positions != NULL;
    if (keys->type_vocab)
        LA_TRY(la_json_int(from->root, from->path, keys->type_vocab, true, 0, SIZE_MAX_OF_MODEL,
                           &config->type_vocab, err));
    if (!config->type_vocab)
        config->has_types = false;
    if (keys->use_positions)
        LA_TRY(la_json_bool(from->root, from->path, keys->use_positions, false,
                            &config->has_positions, err));
    config->embedding = config->hidden;
    LA_TRY(read_size(from, keys->embedding, false, &config->embedding, err));
    config->kv_heads = arch->sizes.kv_heads ? arch->sizes.kv_heads : config->heads;
    if (keys->kv_heads && json_is_null(json_object_get(from->root, keys->kv_heads)))
        config->kv_heads = config->heads;
    LA_TRY(read_size(from, keys->kv_heads, false, &config->kv_heads, err));
    config->head_dim = arch->sizes.head_dim;
    LA_TRY(read_size(from, keys->head_dim, false, &config->head_dim, err));
    if (!config->head_dim && config->hidden % config->heads)
        return la_fail(err, LA_BAD_INPUT, "%s: %s %lld is not a multiple of %s %lld", from->path,
                       keys->hidden, (long long)config->hidden, keys->heads,
                       (long long)config->heads);
    if (!config->head_dim)
        config->head_dim = config->hidden / config->heads;
    if (config->heads % config->kv_heads)
        return la_fail(err, LA_BAD_INPUT, "%s: %s %lld is not a multiple of %s %lld", from->path,
                       keys->heads, (long long)config->heads, keys->kv_heads,
                       (long long)config->kv_heads);
    return LA_OK;
}

static la_status find_activation(const source *from, const char *key, la_activation *out,
                                 const char *fallback, la_error *err) {
    const char *name = fallback;
    char known[256];
    LA_TRY(la_json_text(from->root, from->path, key, false, &name, err));
    if (!name || la_activation_find(name, out))
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED, "%s: %s \"%s\" is not supported (%s are)", from->path, key,
                   name, la_activation_names(known, sizeof known));
}

static la_status read_flag(const source *from, const char *key, bool *out, la_error *err) {
    return key ? la_json_bool(from->root, from->path, key, false, out, err) : LA_OK;
}

static la_status read_positive(const source *from, const char *key, double *out, la_error *err) {
    if (!key)
        return LA_OK;
    LA_TRY(la_json_number(from->root, from->path, key, false, out, err));
    if (!(*out >= 0) || isinf(*out))
        return la_fail(err, LA_BAD_INPUT, "%s: %s is %g, expected a positive number", from->path,
                       key, *out);
    return LA_OK;
}

/* A softcap that is null is none. */
static la_status read_cap(const source *from, const char *key, double *out, la_error *err) {
    if (key && json_is_null(json_object_get(from->root, key)))
        *out = 0;
    return read_positive(from, key, out, err);
}

static la_status read_numerics(const source *from, const source *whole, la_config *config,
                               la_error *err) {
    const la_arch *arch = config->arch;
    const la_config_keys *keys = &arch->keys;
    LA_TRY(find_activation(from, keys->activation, &config->activation, arch->default_activation,
                           err));
    config->norm_eps = arch->default_eps;
    LA_TRY(read_positive(from, keys->norm_eps, &config->norm_eps, err));
    config->attention_bias = config->ffn_bias = arch->bias;
    LA_TRY(read_flag(from, keys->attention_bias, &config->attention_bias, err));
    LA_TRY(read_flag(from, keys->ffn_bias, &config->ffn_bias, err));
    config->norm_bias = arch->norm_kind == LA_NORM_LAYER && !keys->norm_bias;
    LA_TRY(read_flag(from, keys->norm_bias, &config->norm_bias, err));
    config->tied = arch->default_tied;
    if (config->wrapped)
        LA_TRY(read_flag(whole, "tie_word_embeddings", &config->tied, err));
    LA_TRY(read_flag(from, "tie_word_embeddings", &config->tied, err));
    double scalar = arch->default_query_scalar;
    LA_TRY(read_positive(from, keys->query_scalar, &scalar, err));
    config->score_scale = 1.0 / sqrt(scalar > 0 ? scalar : (double)config->head_dim);
    config->score_cap = arch->default_score_cap;
    config->logit_cap = arch->default_logit_cap;
    LA_TRY(read_cap(from, keys->score_cap, &config->score_cap, err));
    return read_cap(from, keys->logit_cap, &config->logit_cap, err);
}

static la_status read_head(const source *from, const la_head_row *rows, la_head_settings *to,
                           la_error *err) {
    for (int i = 0; rows[i].module; i++) {
        to->bias[i] = rows[i].bias;
        to->activation[i] = rows[i].activation;
        LA_TRY(read_flag(from, rows[i].bias_key, &to->bias[i], err));
        if (rows[i].activation_key)
            LA_TRY(find_activation(from, rows[i].activation_key, &to->activation[i], NULL, err));
    }
    return LA_OK;
}

static la_status read_heads(const source *from, la_config *config, la_error *err) {
    const la_arch *arch = config->arch;
    LA_TRY(read_head(from, arch->classify, &config->classify, err));
    LA_TRY(read_head(from, arch->tags, &config->tags, err));
    const char *pooling = NULL;
    if (!arch->pooling_key)
        return LA_OK;
    LA_TRY(la_json_text(from->root, from->path, arch->pooling_key, false, &pooling, err));
    config->pool_mean = pooling && !strcmp(pooling, "mean");
    if (pooling && !config->pool_mean && strcmp(pooling, "cls"))
        return la_fail(err, LA_UNSUPPORTED, "%s: %s \"%s\" is not supported (cls and mean are)",
                       from->path, arch->pooling_key, pooling);
    return LA_OK;
}

/* ---- scores that know distances ---- */

/* A list of names, or one text with bars between them: is one of them name? */
static bool lists(const json_t *value, const char *name) {
    size_t n = strlen(name), i;
    json_t *entry;
    json_array_foreach((json_t *)(uintptr_t)value, i, entry) {
        if (json_string_value(entry) && !strcasecmp(json_string_value(entry), name))
            return true;
    }
    for (const char *at = json_string_value(value); at && *at; at += *at == '|') {
        size_t length = strcspn(at, "|");
        if (length == n && !strncasecmp(at, name, n))
            return true;
        at += length;
    }
    return false;
}

/* Keys of arXiv 2006.03654's authors, and of 2111.09543 for the shared projections. */
static la_status read_distances(const source *from, la_config *config, la_error *err) {
    la_distances *d = &config->distances;
    bool used = false;
    int64_t buckets = -1, most = -1;
    if (!config->arch->keys.distances)
        return LA_OK;
    LA_TRY(read_flag(from, config->arch->keys.distances, &used, err));
    const json_t *terms = json_object_get(from->root, "pos_att_type");
    d->c2p = lists(terms, "c2p");
    d->p2c = lists(terms, "p2c");
    config->score_scale /= sqrt(1.0 + d->c2p + d->p2c);
    if (!used)
        return LA_OK;
    LA_TRY(la_json_int(from->root, from->path, "position_buckets", false, -1, SIZE_MAX_OF_MODEL,
                       &buckets, err));
    LA_TRY(la_json_int(from->root, from->path, "max_relative_positions", false, -1,
                       SIZE_MAX_OF_MODEL, &most, err));
    LA_TRY(read_flag(from, "share_att_key", &d->shared, err));
    d->norm = lists(json_object_get(from->root, "norm_rel_ebd"), "layer_norm");
    d->most = most < 1 ? config->max_positions : most;
    d->buckets = buckets > 0 ? buckets : 0;
    d->span = d->buckets ? d->buckets : d->most;
    if (d->buckets && (d->buckets < 4 || d->most - 1 <= d->buckets / 2))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: position_buckets %lld with distances up to %lld make no sense",
                       from->path, (long long)d->buckets, (long long)d->most);
    return LA_OK;
}

/* ---- which layers see a window, and how they rotate ---- */

static const char full[] = "full_attention", sliding[] = "sliding_attention";

static la_status read_slides(const source *from, la_config *config, la_error *err) {
    const la_arch *arch = config->arch;
    const json_t *types = json_object_get(from->root, "layer_types");
    int64_t first = config->layers, every = arch->default_full_every;
    if (arch->slide == LA_SLIDE_NONE)
        return LA_OK;
    if (arch->slide == LA_SLIDE_FROM)
        LA_TRY(la_json_int(from->root, from->path, arch->keys.window_from, false, 0, 4096, &first,
                           err));
    LA_TRY(read_size(from, arch->keys.full_every, false, &every, err));
    bool listed = json_is_array(types) && arch->slide != LA_SLIDE_ALL;
    if (listed && (int64_t)json_array_size(types) != config->layers)
        return la_fail(err, LA_BAD_INPUT, "%s: layer_types has %zu entries, expected %lld",
                       from->path, json_array_size(types), (long long)config->layers);
    for (int64_t i = 0; i < config->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (listed && (!type || (strcmp(type, full) && strcmp(type, sliding))))
            return la_fail(err, LA_UNSUPPORTED, "%s: layer_types: \"%s\" (%s and %s are supported)",
                           from->path, type ? type : "no text", full, sliding);
        config->plan[i].slides = listed                              ? !strcmp(type, sliding)
                                 : arch->slide == LA_SLIDE_ALL       ? true
                                 : arch->slide == LA_SLIDE_FROM      ? i >= first
                                 : arch->slide == LA_SLIDE_NOT_FIRST ? i % every != 0
                                                                     : (i + 1) % every != 0;
    }
    return LA_OK;
}

/* Tokens that a sliding layer sees; 0: it sees all. */
static la_status read_window(const source *from, const la_config *config, int64_t *window,
                             la_error *err) {
    const la_arch *arch = config->arch;
    bool used = !arch->keys.window_used;
    *window = 0;
    LA_TRY(read_flag(from, arch->keys.window_used, &used, err));
    if (!arch->keys.window || !used || json_is_null(json_object_get(from->root, arch->keys.window)))
        return LA_OK;
    *window = arch->default_window;
    return read_size(from, arch->keys.window, false, window, err);
}

static la_status read_rotating(const source *from, la_config *config, la_error *err) {
    const la_arch *arch = config->arch;
    int64_t interval = arch->default_rope_interval;
    LA_TRY(read_size(from, arch->keys.rope_interval, false, &interval, err));
    const json_t *list =
        arch->keys.rope_layers ? json_object_get(from->root, arch->keys.rope_layers) : NULL;
    if (json_is_array(list) && (int64_t)json_array_size(list) < config->layers)
        return la_fail(err, LA_BAD_INPUT, "%s: %s has %zu entries, expected %lld", from->path,
                       arch->keys.rope_layers, json_array_size(list), (long long)config->layers);
    for (int64_t i = 0; i < config->layers; i++) {
        bool turns = !interval || (i + 1) % interval != 0;
        if (json_is_array(list))
            turns = json_integer_value(json_array_get(list, (size_t)i)) != 0;
        if (!turns || !arch->rotary)
            config->plan[i].rope = -1;
    }
    return LA_OK;
}

static la_status read_plan(const source *from, la_config *config, la_error *err) {
    const la_arch *arch = config->arch;
    int64_t window;
    bool layer_scaled = false;
    config->plan = la_alloc((size_t)config->layers, sizeof *config->plan, err);
    if (!config->plan)
        return err->status;
    LA_TRY(read_window(from, config, &window, err));
    LA_TRY(read_slides(from, config, err));
    LA_TRY(read_flag(from, arch->keys.layer_scaled, &layer_scaled, err));
    for (int64_t i = 0; i < config->layers; i++) {
        la_layer_plan *plan = &config->plan[i];
        plan->score_scale = config->score_scale / (layer_scaled ? (double)i + 1 : 1);
        plan->before = LA_ATTENTION_ALL;
        plan->after = arch->causal ? 0 : LA_ATTENTION_ALL;
        plan->rope = plan->slides && config->n_ropes > 1 ? 1 : 0;
        if (plan->slides && window) {
            plan->before = arch->window_both ? window / 2 : window - 1;
            plan->after = arch->window_both ? window / 2 : 0;
        }
    }
    return read_rotating(from, config, err);
}

/* v5 keeps everything in rope_parameters, for each kind of layer where they differ; v4 has
 * rope_theta beside rope_scaling, and other keys for the layers that slide, which do not scale. */
static la_status read_ropes(const source *from, la_config *config, la_error *err) {
    const la_arch *arch = config->arch;
    la_rope_context context = {from->root, from->path, config->head_dim, config->max_positions,
                               arch->theta};
    const json_t *all = json_object_get(from->root, "rope_parameters");
    const json_t *nested[LA_ROPES] = {json_object_get(all, full), json_object_get(all, sliding)};
    const char *keys[LA_ROPES] = {arch->keys.global_theta ? arch->keys.global_theta : "rope_theta",
                                  arch->keys.local_theta};
    bool by_kind = json_is_object(nested[0]) || json_is_object(nested[1]);
    if (!by_kind) {
        nested[0] = la_json_is_set(all) ? all : json_object_get(from->root, "rope_scaling");
        nested[1] = NULL;
    }
    int n = arch->local_theta > 0 ? 2 : 1;
    for (int i = 0; i < n; i++) {
        context.theta = i ? arch->local_theta : arch->theta;
        if (keys[i])
            LA_TRY(la_json_number(from->root, from->path, keys[i], false, &context.theta, err));
        LA_TRY(la_rope_read(&context, json_is_object(nested[i]) ? nested[i] : NULL,
                            &config->rope[i], err));
        config->n_ropes = i + 1;
        if (i && config->rope[1].dim != config->rope[0].dim)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: layers rotate different numbers of columns, %lld and %lld",
                           from->path, (long long)config->rope[0].dim,
                           (long long)config->rope[1].dim);
    }
    return LA_OK;
}

la_status la_config_problem(const json_t *root, const char *path, const la_likelihood **likelihood,
                            la_error *err) {
    const char *problem = NULL;
    char known[128];
    LA_TRY(la_json_text(root, path, "problem_type", false, &problem, err));
    *likelihood = problem ? la_likelihood_of_problem(problem) : NULL;
    if (problem && !*likelihood)
        return la_fail(err, LA_UNSUPPORTED, "%s: problem_type \"%s\" is not supported, expected %s",
                       path, problem, la_likelihood_problems(known, sizeof known));
    return LA_OK;
}

la_status la_config_labels(const json_t *root, const char *path, la_labels *labels, la_error *err) {
    const json_t *map = json_object_get(root, "id2label");
    size_t n = json_object_size(map);
    if (!json_is_object(map) || !n || n > 1000000)
        return LA_OK;
    char key[32], made_up[32];
    bool real = false;
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%zu", i);
        snprintf(made_up, sizeof made_up, "LABEL_%zu", i);
        const char *name = json_string_value(json_object_get(map, key));
        if (!name)
            return la_fail(
                err, LA_BAD_INPUT,
                "%s: id2label has %zu entries, and \"%s\" is not among them or no string", path, n,
                key);
        real |= strcmp(name, made_up) != 0;
    }
    if (!real)
        return LA_OK;
    labels->names = la_alloc(n, sizeof *labels->names, err);
    if (!labels->names)
        return err->status;
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%zu", i);
        const char *name = json_string_value(json_object_get(map, key));
        labels->names[i] = la_alloc(strlen(name) + 1, 1, err);
        if (!labels->names[i])
            return err->status;
        strcpy(labels->names[i], name);
        labels->count = (int64_t)i + 1;
    }
    return LA_OK;
}

/* Keys that must not be passed over in silence. */
static la_status refuse_unknown(const source *from, la_config *config, la_error *err) {
    const json_t *quant = json_object_get(from->root, "quantization_config");
    if (la_json_is_set(quant))
        LA_TRY(la_quantised_config(quant, from->path, &config->quantised, err));
    /* keys of a packed base in another tool's spelling, and of a body with fewer heads than
     * stated */
    static const char *const others[] = {"quantization", "compression_config", "pruned_heads"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (la_json_is_set(json_object_get(from->root, others[i])))
            return la_fail(
                err, LA_UNSUPPORTED,
                "%s: \"%s\" is set, which is not supported; take the plain model in F32, "
                "F16 or BF16",
                from->path, others[i]);
    LA_TRY(la_config_problem(from->root, from->path, &config->likelihood, err));
    for (size_t i = 0; i < sizeof config->arch->fixed / sizeof *config->arch->fixed; i++) {
        const char *key = config->arch->fixed[i][0], *only = config->arch->fixed[i][1];
        const json_t *value = key ? json_object_get(from->root, key) : NULL;
        if (!value || json_is_null(value))
            continue;
        const char *text = json_is_string(value)  ? json_string_value(value)
                           : json_is_true(value)  ? "true"
                           : json_is_false(value) ? "false"
                                                  : la_json_kind(value);
        if (strcmp(text, only))
            return la_fail(err, LA_UNSUPPORTED, "%s: %s is %s; only %s is supported", from->path,
                           key, text, only);
    }
    return LA_OK;
}

static la_status read_tokenizer_limit(const char *dir, la_config *config, la_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    if (access(path, F_OK))
        return LA_OK;
    json_t *root;
    LA_TRY(la_json_load(path, CONFIG_BYTES_MAX, &root, err));
    double limit = 0;
    la_status status = la_json_number(root, path, "model_max_length", false, &limit, err);
    /* "no limit" is written as 1e30 */
    if (status == LA_OK && limit >= 1 && limit < 1e9)
        config->model_max_length = (int64_t)limit;
    json_decref(root);
    return status;
}

/* Files in which other tools say that the weights are packed, where config.json does not. */
static la_status refuse_packed(const char *dir, const json_t *root, la_error *err) {
    static const char *const names[] = {"quantize_config.json", "quant_config.json",
                                        "hf_quant_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        int n = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (n > 0 && (size_t)n < sizeof path && !access(path, F_OK) &&
            !la_json_is_set(json_object_get(root, "quantization_config")))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: says that the base is quantised, in a form that is not supported; "
                           "take the plain model in F32, F16 or BF16",
                           path);
    }
    return LA_OK;
}

static la_status read_all(const char *dir, const char *path, const json_t *root, la_config *config,
                          la_error *err) {
    source whole = {root, path}, from = whole;
    const char *type = NULL;
    char known[512];
    LA_TRY(la_json_text(root, path, "model_type", true, &type, err));
    config->arch = la_arch_find(type);
    /* a model of text and images, say: its text part is a model of ours */
    const json_t *text = json_object_get(root, "text_config");
    if (!config->arch && json_is_object(text)) {
        LA_TRY(la_json_text(text, path, "model_type", true, &type, err));
        config->arch = la_arch_find(type);
        config->wrapped = true;
        from.root = text;
    }
    if (!config->arch)
        return la_fail(err, LA_UNSUPPORTED, "%s: model_type \"%s\" is not supported (%s are)", path,
                       type, la_arch_names(known, sizeof known));
    LA_TRY(refuse_unknown(&whole, config, err));
    LA_TRY(refuse_packed(dir, root, err));
    if (config->wrapped)
        LA_TRY(refuse_unknown(&from, config, err));
    LA_TRY(read_sizes(&from, config, err));
    LA_TRY(read_numerics(&from, &whole, config, err));
    LA_TRY(read_heads(&from, config, err));
    LA_TRY(read_distances(&from, config, err));
    if (config->arch->rotary)
        LA_TRY(read_ropes(&from, config, err));
    LA_TRY(read_plan(&from, config, err));
    config->pad_id = config->arch->default_pad;
    LA_TRY(la_json_int(root, path, "pad_token_id", false, -1, INT32_MAX, &config->pad_id, err));
    LA_TRY(
        la_json_int(from.root, path, "pad_token_id", false, -1, INT32_MAX, &config->pad_id, err));
    LA_TRY(la_config_labels(root, path, &config->labels, err));
    return read_tokenizer_limit(dir, config, err);
}

la_status la_config_read(const char *dir, la_config *config, la_error *err) {
    *config = (la_config){0};
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", dir) >= sizeof path)
        return la_fail(err, LA_USAGE, "the path of the base is too long");
    json_t *root;
    LA_TRY(la_json_load(path, CONFIG_BYTES_MAX, &root, err));
    la_status status = read_all(dir, path, root, config, err);
    json_decref(root);
    if (status != LA_OK)
        la_config_free(config);
    return status;
}

void la_config_free(la_config *config) {
    la_labels_free(&config->labels);
    for (int i = 0; i < LA_ROPES; i++)
        la_rope_free(&config->rope[i]);
    free(config->plan);
    config->plan = NULL;
}

int64_t la_config_most_tokens(const la_config *config) {
    if (!config->has_positions)
        return 0;
    return config->max_positions - (config->arch->position_after_pad ? config->pad_id + 1 : 0);
}

int64_t la_config_default_length(const la_config *config) {
    int64_t limit = la_config_most_tokens(config);
    limit = limit ? limit : config->max_positions;
    if (config->model_max_length && config->model_max_length < limit)
        limit = config->model_max_length;
    return limit;
}

/* Features of later architectures alone: where there are none, the digest is the one that
 * earlier versions stored in posteriors. */
static void digest_more(const la_config *config, la_digest *digest) {
    const la_arch *arch = config->arch;
    la_attention plain = {.before = LA_ATTENTION_ALL, .after = arch->causal ? 0 : LA_ATTENTION_ALL};
    for (int64_t i = 0; i < config->layers; i++) {
        const la_layer_plan *plan = &config->plan[i];
        if (plan->rope == (arch->rotary ? 0 : -1) && plan->before == plain.before &&
            plan->after == plain.after && plan->score_scale == config->score_scale)
            continue;
        la_digest_add_number(digest, (double)i);
        la_digest_add_number(digest, (double)plan->rope);
        la_digest_add_number(digest, (double)plan->before);
        la_digest_add_number(digest, (double)plan->after);
        la_digest_add_number(digest, plan->score_scale);
    }
    const struct {
        double value, plain;
    } numbers[] = {
        {(double)config->embedding, (double)config->hidden},
        {config->norm_bias, arch->norm_kind == LA_NORM_LAYER},
        {config->score_scale, 1.0 / sqrt((double)config->head_dim)},
        {config->score_cap, 0},
        {config->logit_cap, 0},
        {config->pool_mean, 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].value == numbers[i].plain)
            continue;
        la_digest_add_number(digest, (double)i);
        la_digest_add_number(digest, numbers[i].value);
    }
    for (int i = 0; arch->classify[i].module; i++) {
        if (arch->classify[i].bias_key)
            la_digest_add_number(digest, config->classify.bias[i]);
        if (arch->classify[i].activation_key)
            la_digest_add_number(digest, config->classify.activation[i]);
    }
    const la_distances *d = &config->distances;
    if (d->span) {
        const double distances[] = {(double)d->span, (double)d->buckets, (double)d->most, d->c2p,
                                    d->p2c,          d->shared,          d->norm};
        for (size_t i = 0; i < sizeof distances / sizeof *distances; i++)
            la_digest_add_number(digest, distances[i]);
    }
    for (int i = 0; i < config->n_ropes; i++)
        if (i || config->rope[i].kind > LA_ROPE_LLAMA3 || config->rope[i].dim != config->head_dim)
            la_rope_digest(&config->rope[i], digest);
}

void la_config_digest(const la_config *config, la_digest *digest) {
    const la_rope *rope = &config->rope[0];
    const double numbers[] = {(double)config->hidden,
                              (double)config->layers,
                              (double)config->heads,
                              (double)config->kv_heads,
                              (double)config->head_dim,
                              (double)config->ffn,
                              (double)config->vocab,
                              (double)config->type_vocab,
                              (double)config->activation,
                              config->norm_eps,
                              config->attention_bias,
                              config->ffn_bias,
                              config->tied,
                              (double)rope->kind,
                              rope->theta,
                              rope->factor,
                              rope->low_factor,
                              rope->high_factor,
                              rope->original_positions,
                              (double)config->pad_id};
    la_digest_add_text(digest, config->arch->model_type);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        la_digest_add_number(digest, numbers[i]);
    digest_more(config, digest);
}
