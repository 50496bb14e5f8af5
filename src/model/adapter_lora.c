/* LoRA: y = W x + scale B (A x), scale = alpha / r (alpha / sqrt(r) with rsLoRA). Blocks
 * (arXiv 2308.13111, section 3):
 *   A: input x,   cotangent scale B^T g
 *   B: input A x, cotangent scale g
 * DoRA (arXiv 2402.09353): y = c (W x + scale B (A x)) with c = magnitude / norm of the rows of
 * W + scale B A, held constant when the gradient is taken (section 4.3 there): the same blocks, with
 * c g for g. A network drawn from the posterior keeps the norms too. With the magnitudes as a block:
 *   magnitude: input 1, cotangent g o (W x + scale B (A x)) / norm */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "input/json.h"
#include "model/adapter_lora.h"
#include "model/dora.h"

#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keys that change nothing in the forward pass, or that bind() reads. */
static const char *const harmless[] = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "trainable_token_indices",
    "use_rslora",
    "velora_config",
    NULL,
};

/* Inits that subtract the first adapter from the base: the adapter only fits that other base. */
static const char *const altering_inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

/* ensure_weight_tying puts what is trained of an embedding into the tied output layer too, which is
 * not done here; where nothing of either is trained, it does nothing. */
static la_status check_tying(const la_adapter *adapter, la_error *err) {
    static const char *const keys[] = {"modules_to_save", "target_modules"};
    static const char *const tables[] = {"emb", "lm_head", "wte"};
    bool touched = false;
    if (!la_json_is_set(json_object_get(adapter->config, "ensure_weight_tying")))
        return LA_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char *text = json_dumps(json_object_get(adapter->config, keys[i]), JSON_ENCODE_ANY);
        for (size_t j = 0; text && j < sizeof tables / sizeof *tables; j++)
            touched |= strstr(text, tables[j]) != NULL;
        free(text);
    }
    return touched
               ? la_fail(err, LA_UNSUPPORTED,
                         "%s: \"ensure_weight_tying\" is set, and embeddings or the output layer "
                         "are trained; this is not supported",
                         adapter->config_path)
               : LA_OK;
}

la_status la_lora_check(const la_adapter *adapter, const char *const *more, la_error *err) {
    const char *path = adapter->config_path;
    LA_TRY(check_tying(adapter, err));
    LA_TRY(la_adapter_check_keys(adapter, harmless, more, err));
    const json_t *init = json_object_get(adapter->config, "init_lora_weights");
    for (size_t i = 0; i < sizeof altering_inits / sizeof *altering_inits; i++) {
        const char *name = json_string_value(init);
        if (name && !strncasecmp(name, altering_inits[i], strlen(altering_inits[i])))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: init_lora_weights \"%s\" needs a modified base; convert with "
                           "save_pretrained(path_initial_model_for_weight_conversion=...)",
                           path, name);
    }
    return LA_OK;
}

static la_status check(const la_adapter *adapter, const la_log *log, la_error *err) {
    static const char *const more[] = {"use_dora", NULL};
    const char *path = adapter->config_path;
    LA_TRY(la_lora_check(adapter, more, err));
    int64_t r = 0;
    double alpha = 0;
    LA_TRY(la_json_int(adapter->config, path, "r", true, 1, 1 << 20, &r, err));
    LA_TRY(la_json_number(adapter->config, path, "lora_alpha", true, &alpha, err));
    if (!(alpha >= 0) || isinf(alpha))
        return la_fail(err, LA_BAD_INPUT, "%s: lora_alpha is %g, expected a positive number", path,
                       alpha);
    if (alpha == 0)
        la_warn(log, "%s: lora_alpha is 0: the adapter changes nothing", path);
    return LA_OK;
}

/* PEFT's rule: the first pattern, in file order, for which (.*\.)?(PATTERN)$ matches the module
 * from its start. */
static la_status pattern_value(const la_adapter *adapter, const char *key, const char *module,
                               double *out, la_error *err) {
    const json_t *patterns = json_object_get(adapter->config, key);
    const char *pattern;
    json_t *value;
    if (patterns && !json_is_null(patterns) && !json_is_object(patterns))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"%s\" is %s, expected an object",
                       adapter->config_path, key, la_json_kind(patterns));
    json_object_foreach((json_t *)(uintptr_t)patterns, pattern, value) {
        char expression[1024];
        if ((size_t)snprintf(expression, sizeof expression, "^(?:.*\\.)?(?:%s)$", pattern) >=
            sizeof expression)
            return la_fail(err, LA_BAD_INPUT, "%s: a pattern of %s is too long",
                           adapter->config_path, key);
        int code;
        PCRE2_SIZE where;
        pcre2_code *regex =
            pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, 0, &code, &where, NULL);
        if (!regex)
            return la_fail(err, LA_BAD_INPUT, "%s: %s: \"%s\" is no regular expression",
                           adapter->config_path, key, pattern);
        pcre2_match_data *match = pcre2_match_data_create_from_pattern(regex, NULL);
        int found = match
                        ? pcre2_match(regex, (PCRE2_SPTR)module, strlen(module), 0, 0, match, NULL)
                        : PCRE2_ERROR_NOMEMORY;
        pcre2_match_data_free(match);
        pcre2_code_free(regex);
        if (found == PCRE2_ERROR_NOMATCH)
            continue;
        if (found < 0)
            return la_fail(err, LA_BAD_INPUT, "%s: %s: matching \"%s\" failed",
                           adapter->config_path, key, pattern);
        if (!json_is_number(value))
            return la_fail(err, LA_BAD_INPUT, "%s: %s: \"%s\" is %s, expected a number",
                           adapter->config_path, key, pattern, la_json_kind(value));
        *out = json_number_value(value);
        return LA_OK;
    }
    return LA_OK;
}

la_status la_adapter_check_matrix(const la_tensor *tensor, la_error *err) {
    char shape[128];
    if (tensor->n_dims == 2 && tensor->count > 0)
        return LA_OK;
    return la_fail(err, LA_BAD_INPUT,
                   "%s: tensor \"%s\" has shape %s, expected a matrix; adapters saved under ZeRO-3 "
                   "or FSDP must be gathered first",
                   tensor->file, tensor->name, la_tensor_shape_text(tensor, shape, sizeof shape));
}

la_status la_lora_scale(const la_adapter *adapter, const char *module, int64_t rank, float *scale,
                        la_error *err) {
    double r = 0, alpha = 0;
    bool root = false;
    const char *path = adapter->config_path;
    LA_TRY(la_json_number(adapter->config, path, "r", true, &r, err));
    LA_TRY(la_json_number(adapter->config, path, "lora_alpha", true, &alpha, err));
    LA_TRY(la_json_bool(adapter->config, path, "use_rslora", false, &root, err));
    LA_TRY(pattern_value(adapter, "rank_pattern", module, &r, err));
    LA_TRY(pattern_value(adapter, "alpha_pattern", module, &alpha, err));
    if ((double)rank != r)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s has rank %lld in the weights, expected %g from r or rank_pattern",
                       path, module, (long long)rank, r);
    *scale = (float)(alpha / (root ? sqrt(r) : r));
    if (!(alpha >= 0) || !isfinite(*scale))
        return la_fail(
            err, LA_BAD_INPUT,
            "%s: lora_alpha or alpha_pattern gives %g for %s, expected a positive number", path,
            alpha, module);
    return LA_OK;
}

char *la_adapter_block_name(la_pool *pool, const char *key, la_error *err) {
    size_t length = strlen(key), tail = strlen(".weight");
    if (length > tail && !strcmp(key + length - tail, ".weight"))
        length -= tail;
    return la_pool_text(pool, key, length, err);
}

la_status la_lora_bind(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], la_site *site,
                       la_block blocks[LA_SITE_BLOCKS], int *n_blocks, bool *adapted,
                       la_error *err) {
    const char *a_key = NULL, *b_key = NULL;
    const la_tensor *a = la_adapter_tensor(adapter, module, suffixes[0], &a_key);
    const la_tensor *b = la_adapter_tensor(adapter, module, suffixes[1], &b_key);
    *adapted = a || b;
    if (!*adapted)
        return LA_OK;
    if (!a || !b)
        return la_fail(err, LA_BAD_INPUT, "%s: \"%s\" is there, but no %s for it",
                       (a ? a : b)->file, (a ? a : b)->name, a ? "lora_B" : "lora_A");
    LA_TRY(la_adapter_check_matrix(a, err));
    LA_TRY(la_adapter_check_matrix(b, err));
    char left[128], right[128];
    if (a->shape[0] != b->shape[1] || a->shape[1] != site->in || b->shape[0] != site->out)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s: lora_A %s and lora_B %s do not fit the base's projection [%lld, "
                       "%lld]; is this the base it was trained on?",
                       a->file, module, la_tensor_shape_text(a, left, sizeof left),
                       la_tensor_shape_text(b, right, sizeof right), (long long)site->out,
                       (long long)site->in);
    int64_t r = a->shape[0];
    site->state_cols = r;
    float *a_values = la_adapter_values(pool, a, &blocks[0].theta_square, err);
    float *b_values = la_adapter_values(pool, b, &blocks[1].theta_square, err);
    blocks[0].name = la_adapter_block_name(pool, a_key, err);
    blocks[1].name = la_adapter_block_name(pool, b_key, err);
    if (!a_values || !b_values || !blocks[0].name || !blocks[1].name)
        return err->status;
    blocks[0].out = blocks[1].in = r;
    blocks[0].in = site->in;
    blocks[1].out = site->out;
    *n_blocks = 2;
    site->a = la_mat_f32(a_values, r, site->in);
    site->b = la_mat_f32(b_values, site->out, r);
    return LA_OK;
}

/* A bias behind B is scaled as B is. */
static la_status bind_bias(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                           la_error *err) {
    const la_tensor *bias = la_adapter_tensor(adapter, module, "lora_B.bias", NULL);
    double square;
    if (!bias)
        return LA_OK;
    if (site->magnitude.data)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: tensor \"%s\" is a bias behind DoRA, which PEFT does not have either",
                       bias->file, bias->name);
    if (bias->count != site->out)
        return la_fail(err, LA_BAD_INPUT, "%s: tensor \"%s\" has %lld values, expected %lld",
                       bias->file, bias->name, (long long)bias->count, (long long)site->out);
    float *values = la_adapter_values(pool, bias, &square, err);
    if (!values)
        return err->status;
    for (int64_t i = 0; i < site->out; i++)
        values[i] *= site->scale;
    site->bias = values;
    return LA_OK;
}

static la_status bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_block blocks[LA_SITE_BLOCKS], int *n_blocks, bool *adapted,
                      la_error *err) {
    static const char *const pair[2] = {"lora_A.weight", "lora_B.weight"};
    LA_TRY(la_lora_bind(adapter, pool, module, pair, site, blocks, n_blocks, adapted, err));
    if (!*adapted)
        return LA_OK;
    site->kind = &la_adapter_lora;
    LA_TRY(la_lora_scale(adapter, module, site->a.rows, &site->scale, err));
    LA_TRY(la_dora_bind(adapter, pool, module, site, &blocks[2], n_blocks, err));
    return bind_bias(adapter, pool, module, site, err);
}

/* state[T,r] = x A^T, its columns scaled where they are */
static void reduce(la_backend *be, const la_site *site, const la_mat *x, la_mat *state) {
    be->ops->gemm(be, false, true, 1, x, &site->a, 0, state);
    if (site->state_scale)
        be->ops->scale_columns(be, state, site->state_scale, NULL, NULL, state);
}

/* Of a site that keeps its product, the state is two matrices, one behind the other. */
static la_mat product_of(const la_site *site, const la_mat *state) {
    return la_mat_of(state->type, state->data, state->rows, site->out);
}
static la_mat reduced_of(const la_site *site, const la_mat *state) {
    if (!site->keeps_product)
        return la_site_own(site, state);
    size_t before = (size_t)(state->rows * site->out) * la_dtype_size(state->type);
    return la_mat_of(state->type, (char *)state->data + before, state->rows, site->a.rows);
}

void la_lora_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                     const la_mat *residual, la_mat *state, la_mat *y) {
    const la_site *site = linear->site;
    const la_mat *bias = linear->bias.data ? &linear->bias : NULL;
    bool scaled = site->out_scale != NULL;
    la_mat small = reduced_of(site, state);
    la_mat sum = site->keeps_product ? product_of(site, state) : *y;
    if (scaled)
        be->ops->linear(be, x, &linear->w, NULL, NULL, &sum);
    else
        la_site_inner_forward(be, linear, x, residual, state, &sum);
    reduce(be, site, x, &small);
    be->ops->gemm(be, false, true, site->scale, &small, &site->b, 1, &sum);
    if (site->keeps_product) {
        be->ops->scale_columns(be, &sum, site->inverse_norm, NULL, NULL, &sum);
        be->ops->scale_columns(be, &sum, site->magnitude.data, bias, residual, y);
    } else if (scaled)
        be->ops->scale_columns(be, y, site->out_scale, bias, residual, y);
}

static void visit_magnitude(la_backend *be, const la_site *site, const la_site_pass *pass) {
    la_mat z = product_of(site, pass->state), g = product_of(site, &pass->state_g), ones, fewer;
    la_block_io io = pass->io;
    /* g o z */
    be->ops->activation_backward(be, LA_ACT_NONE, &z, &z, io.n_rhs, io.g, &g, NULL);
    la_site_ones(be, pass, &ones, &fewer);
    io.x_at_g = io.x == io.x_at_g ? &ones : &fewer;
    io.x = &ones;
    io.g = &g;
    io.g_scale = 1;
    pass->visitor->visit(pass->visitor->user, site->blocks[2], &io);
}

void la_lora_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    const la_site *site = linear->site;
    la_block_io io = pass->io;
    la_mat ga = reduced_of(site, &pass->state_g), small = reduced_of(site, pass->state);
    la_mat all = la_mat_of(io.x->type, pass->state_all.data, io.x->rows, site->a.rows);
    la_mat scaled = pass->scaled_g;
    if (site->keeps_product && pass->visitor)
        visit_magnitude(be, site, pass);
    if (site->out_scale) {
        be->ops->scale_columns(be, io.g, site->out_scale, NULL, NULL, &scaled);
        io.g = &scaled;
        if (pass->dx)
            be->ops->linear_backward(be, io.g, &linear->w, pass->beta, pass->dx);
    } else {
        la_site_inner_backward(be, linear, pass);
    }
    /* ga[n_rhs Q, r] = scale g B */
    be->ops->gemm(be, false, false, site->scale, io.g, &site->b, 0, &ga);
    if (site->state_scale)
        be->ops->scale_columns(be, &ga, site->state_scale, NULL, NULL, &ga);
    if (pass->visitor) {
        la_block_io a = io, b = io;
        a.g = &ga;
        a.g_scale = 1;
        pass->visitor->visit(pass->visitor->user, site->blocks[0], &a);
        b.x_at_g = &small;
        b.x = &small;
        if (io.x != io.x_at_g) {
            reduce(be, site, io.x, &all);
            b.x = &all;
        }
        b.g_scale = site->scale;
        pass->visitor->visit(pass->visitor->user, site->blocks[1], &b);
    }
    if (pass->dx)
        be->ops->gemm(be, false, false, 1, &ga, &site->a, 1, pass->dx);
}

static const char *const suffixes[] = {
    "lora_A.weight",    "lora_B.weight",    "lora_B.bias", "lora_magnitude_vector",
    "lora_embedding_A", "lora_embedding_B", NULL};

const la_adapter_kind la_adapter_lora = {
    .peft_type = "LORA",
    .check = check,
    .bind = bind,
    .forward = la_lora_forward,
    .backward = la_lora_backward,
    .suffixes = suffixes,
};
