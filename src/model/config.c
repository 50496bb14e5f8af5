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
    const la_config_keys *keys = &config->arch->keys;
    LA_TRY(read_size(from, keys->hidden, true, &config->hidden, err));
    LA_TRY(la_json_int(from->root, from->path, keys->layers, true, 1, 4096, &config->layers, err));
    LA_TRY(read_size(from, keys->heads, true, &config->heads, err));
    LA_TRY(read_size(from, keys->ffn, true, &config->ffn, err));
    LA_TRY(read_size(from, keys->vocab, true, &config->vocab, err));
    LA_TRY(read_size(from, keys->max_positions, true, &config->max_positions, err));
    LA_TRY(read_size(from, keys->type_vocab, true, &config->type_vocab, err));
    config->kv_heads = config->heads;
    LA_TRY(read_size(from, keys->kv_heads, false, &config->kv_heads, err));
    bool given = keys->head_dim && !json_is_null(json_object_get(from->root, keys->head_dim)) &&
                 json_object_get(from->root, keys->head_dim);
    if (!given && config->hidden % config->heads)
        return la_fail(err, LA_BAD_INPUT, "%s: %s %lld is not a multiple of %s %lld", from->path,
                       keys->hidden, (long long)config->hidden, keys->heads,
                       (long long)config->heads);
    config->head_dim = config->hidden / config->heads;
    LA_TRY(read_size(from, keys->head_dim, false, &config->head_dim, err));
    if (config->heads % config->kv_heads)
        return la_fail(err, LA_BAD_INPUT, "%s: %s %lld is not a multiple of %s %lld", from->path,
                       keys->heads, (long long)config->heads, keys->kv_heads,
                       (long long)config->kv_heads);
    if (config->arch->rotary && config->head_dim % 2)
        return la_fail(err, LA_BAD_INPUT, "%s: head size %lld, expected an even one (rotary)",
                       from->path, (long long)config->head_dim);
    return LA_OK;
}

static la_status read_activation(const source *from, la_config *config, la_error *err) {
    const char *name = config->arch->default_activation;
    char known[256];
    LA_TRY(la_json_text(from->root, from->path, config->arch->keys.activation, false, &name, err));
    if (!la_activation_find(name, &config->activation))
        return la_fail(err, LA_UNSUPPORTED, "%s: %s \"%s\" is not supported (%s are)", from->path,
                       config->arch->keys.activation, name,
                       la_activation_names(known, sizeof known));
    config->norm_eps = config->arch->default_eps;
    LA_TRY(la_json_number(from->root, from->path, config->arch->keys.norm_eps, false,
                          &config->norm_eps, err));
    if (!(config->norm_eps >= 0))
        return la_fail(err, LA_BAD_INPUT, "%s: %s is negative", from->path,
                       config->arch->keys.norm_eps);
    config->attention_bias = config->ffn_bias = config->arch->bias;
    if (config->arch->keys.attention_bias)
        LA_TRY(la_json_bool(from->root, from->path, config->arch->keys.attention_bias, false,
                            &config->attention_bias, err));
    if (config->arch->keys.ffn_bias)
        LA_TRY(la_json_bool(from->root, from->path, config->arch->keys.ffn_bias, false,
                            &config->ffn_bias, err));
    return la_json_bool(from->root, from->path, "tie_word_embeddings", false, &config->tied, err);
}

/* v5 keeps everything in rope_parameters; v4 has rope_theta beside rope_scaling, whose kind was
 * once called "type". */
static la_status read_rope(const source *from, la_config *config, la_error *err) {
    la_rope *rope = &config->rope;
    *rope = (la_rope){.theta = 10000, .original_positions = (double)config->max_positions};
    LA_TRY(la_json_number(from->root, from->path, "rope_theta", false, &rope->theta, err));
    const json_t *scaling = json_object_get(from->root, "rope_parameters");
    if (!la_json_is_set(scaling))
        scaling = json_object_get(from->root, "rope_scaling");
    if (la_json_is_set(scaling)) {
        const char *kind = NULL;
        LA_TRY(la_json_text(scaling, from->path, "type", false, &kind, err));
        LA_TRY(la_json_text(scaling, from->path, "rope_type", false, &kind, err));
        LA_TRY(la_json_number(scaling, from->path, "rope_theta", false, &rope->theta, err));
        if (kind && !strcmp(kind, "linear")) {
            rope->kind = LA_ROPE_LINEAR;
            LA_TRY(la_json_number(scaling, from->path, "factor", true, &rope->factor, err));
        } else if (kind && !strcmp(kind, "llama3")) {
            rope->kind = LA_ROPE_LLAMA3;
            LA_TRY(la_json_number(scaling, from->path, "factor", true, &rope->factor, err));
            LA_TRY(la_json_number(scaling, from->path, "low_freq_factor", true, &rope->low_factor,
                                  err));
            LA_TRY(la_json_number(scaling, from->path, "high_freq_factor", true, &rope->high_factor,
                                  err));
            LA_TRY(la_json_number(scaling, from->path, "original_max_position_embeddings", true,
                                  &rope->original_positions, err));
        } else if (kind && strcmp(kind, "default")) {
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: rope type \"%s\" is not supported (default, linear, llama3 are)",
                           from->path, kind);
        }
    }
    bool sane = rope->theta > 1 && (rope->kind == LA_ROPE_DEFAULT || rope->factor > 0) &&
                (rope->kind != LA_ROPE_LLAMA3 ||
                 (rope->low_factor > 0 && rope->high_factor > rope->low_factor &&
                  rope->original_positions > 0));
    if (!sane)
        return la_fail(err, LA_BAD_INPUT, "%s: the rotary embedding's parameters make no sense",
                       from->path);
    return LA_OK;
}

void la_rope_frequencies(const la_config *config, double *out) {
    const la_rope *rope = &config->rope;
    for (int64_t i = 0; i < config->head_dim / 2; i++) {
        double f = pow(rope->theta, -2.0 * (double)i / (double)config->head_dim);
        if (rope->kind == LA_ROPE_LINEAR)
            f /= rope->factor;
        if (rope->kind == LA_ROPE_LLAMA3) {
            /* turns made over the original context decide: few turns are slowed, many are kept,
             * between is mixed */
            double turns = rope->original_positions * f / (2 * M_PI);
            double mix = (turns - rope->low_factor) / (rope->high_factor - rope->low_factor);
            mix = mix < 0 ? 0 : mix > 1 ? 1 : mix;
            f = (1 - mix) * f / rope->factor + mix * f;
        }
        out[i] = f;
    }
}

/* Names of the classes, unless they are the LABEL_0, LABEL_1 that transformers makes up. */
static la_status read_labels(const source *from, la_config *config, la_error *err) {
    const json_t *map = json_object_get(from->root, "id2label");
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
                "%s: id2label has %zu entries, and \"%s\" is not among them or no string",
                from->path, n, key);
        real |= strcmp(name, made_up) != 0;
    }
    if (!real)
        return LA_OK;
    config->labels.names = la_alloc(n, sizeof *config->labels.names, err);
    if (!config->labels.names)
        return err->status;
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%zu", i);
        const char *name = json_string_value(json_object_get(map, key));
        config->labels.names[i] = la_alloc(strlen(name) + 1, 1, err);
        if (!config->labels.names[i])
            return err->status;
        strcpy(config->labels.names[i], name);
        config->labels.count = (int64_t)i + 1;
    }
    return LA_OK;
}

/* What we must not pass over in silence. */
static la_status refuse_unknown(const source *from, const la_config *config, la_error *err) {
    const json_t *quant = json_object_get(from->root, "quantization_config");
    if (la_json_is_set(quant)) {
        const char *method = json_string_value(json_object_get(quant, "quant_method"));
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: the base is quantised (%s); expected weights in F32, F16 or BF16",
                       from->path, method ? method : "unknown method");
    }
    const char *problem = NULL;
    LA_TRY(la_json_text(from->root, from->path, "problem_type", false, &problem, err));
    if (problem && strcmp(problem, "single_label_classification"))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: problem_type \"%s\" is not supported, expected "
                       "single_label_classification",
                       from->path, problem);
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

la_status la_config_read(const char *dir, la_config *config, la_error *err) {
    *config = (la_config){.pad_id = -1};
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", dir) >= sizeof path)
        return la_fail(err, LA_USAGE, "the path of the base is too long");
    json_t *root;
    LA_TRY(la_json_load(path, CONFIG_BYTES_MAX, &root, err));
    source from = {root, path};
    la_status status = LA_OK;
    const char *type = NULL;
    char known[512];
    LA_TRY_DONE(la_json_text(root, path, "model_type", true, &type, err));
    config->arch = la_arch_find(type);
    if (!config->arch) {
        status = la_fail(err, LA_UNSUPPORTED, "%s: model_type \"%s\" is not supported (%s are)",
                         path, type, la_arch_names(known, sizeof known));
        goto done;
    }
    LA_TRY_DONE(refuse_unknown(&from, config, err));
    LA_TRY_DONE(read_sizes(&from, config, err));
    LA_TRY_DONE(read_activation(&from, config, err));
    if (config->arch->rotary)
        LA_TRY_DONE(read_rope(&from, config, err));
    LA_TRY_DONE(
        la_json_int(root, path, "pad_token_id", false, -1, INT32_MAX, &config->pad_id, err));
    LA_TRY_DONE(read_labels(&from, config, err));
    LA_TRY_DONE(read_tokenizer_limit(dir, config, err));
done:
    json_decref(root);
    if (status != LA_OK)
        la_config_free(config);
    return status;
}

void la_config_free(la_config *config) {
    la_labels_free(&config->labels);
}

void la_config_digest(const la_config *config, la_digest *digest) {
    const double numbers[] = {
        (double)config->hidden,
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
        (double)config->rope.kind,
        config->rope.theta,
        config->rope.factor,
        config->rope.low_factor,
        config->rope.high_factor,
        config->rope.original_positions,
        (double)config->pad_id,
    };
    la_digest_add_text(digest, config->arch->model_type);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        la_digest_add_number(digest, numbers[i]);
}
