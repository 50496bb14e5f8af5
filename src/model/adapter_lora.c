/* LoRA: y = W x + scale B (A x), scale = alpha / r (alpha / sqrt(r) with rsLoRA). Blocks (arXiv
 * 2308.13111, section 3):
 *   A: input x,   cotangent scale B^T g
 *   B: input A x, cotangent scale g
 * DoRA (arXiv 2402.09353): y = c (W x + scale B (A x)) with c = magnitude / norm of the rows of
 * W + scale B A, held constant when the gradient is taken (section 4.3 there): the same blocks,
 * with c g for g. A network drawn from the posterior keeps the norms too. With the magnitudes as
 * a block:
 *   magnitude: input 1, cotangent g o (W x + scale B (A x)) / norm */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "backend/quant.h"
#include "input/json.h"
#include "model/adapter_shared.h"

#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const la_lora_keys[] = {"alpha_pattern",
                                    "bias",
                                    "corda_config",
                                    "ensure_weight_tying",
                                    "eva_config",
                                    "exclude_modules",
                                    "init_lora_weights",
                                    "layers_pattern",
                                    "layers_to_transform",
                                    "loftq_config",
                                    "lora_alpha",
                                    "lora_bias",
                                    "lora_dropout",
                                    "lora_ga_config",
                                    "megatron_core",
                                    "qalora_group_size",
                                    "r",
                                    "rank_pattern",
                                    "runtime_config",
                                    "trainable_token_indices",
                                    "use_rslora",
                                    "velora_config",
                                    NULL};

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

la_status la_lora_check(const la_adapter *adapter, la_error *err) {
    LA_TRY(check_tying(adapter, err));
    const json_t *init = json_object_get(adapter->config, "init_lora_weights");
    for (size_t i = 0; i < sizeof altering_inits / sizeof *altering_inits; i++) {
        const char *name = json_string_value(init);
        if (name && !strncasecmp(name, altering_inits[i], strlen(altering_inits[i])))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: init_lora_weights \"%s\" needs a modified base; convert with "
                           "save_pretrained(path_initial_model_for_weight_conversion=...)",
                           adapter->config_path, name);
    }
    return LA_OK;
}

static la_status check(const la_adapter *adapter, la_error *err) {
    const char *path = adapter->config_path;
    LA_TRY(la_lora_check(adapter, err));
    int64_t r = 0;
    double alpha = 0;
    LA_TRY(la_json_int(adapter->config, path, "r", true, 1, 1 << 20, &r, err));
    LA_TRY(la_json_number(adapter->config, path, "lora_alpha", true, &alpha, err));
    if (!(alpha >= 0) || isinf(alpha))
        return la_fail(err, LA_BAD_INPUT, "%s: lora_alpha is %g, expected a positive number", path,
                       alpha);
    if (alpha == 0)
        la_warn(adapter->log, "%s: lora_alpha is 0: the adapter changes nothing", path);
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

la_status la_lora_read(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], int64_t out, int64_t in, float *values[2],
                       la_block blocks[2], la_error *err) {
    const char *keys[2] = {NULL, NULL};
    const la_tensor *a = la_adapter_tensor(adapter, module, suffixes[0], &keys[0]);
    const la_tensor *b = la_adapter_tensor(adapter, module, suffixes[1], &keys[1]);
    values[0] = values[1] = NULL;
    if (!a && !b)
        return LA_OK;
    if (!a || !b)
        return la_fail(err, LA_BAD_INPUT, "%s: \"%s\" is there, but no %s for it",
                       (a ? a : b)->file, (a ? a : b)->name, suffixes[a ? 1 : 0]);
    LA_TRY(la_tensor_check_matrix(a, err));
    LA_TRY(la_tensor_check_matrix(b, err));
    char left[128], right[128];
    int64_t r = a->shape[0];
    if (b->shape[1] != r || a->shape[1] != in || b->shape[0] != out)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s: %s %s and %s %s do not fit the base, expected [r, %lld] and "
                       "[%lld, r]%s",
                       a->file, module, suffixes[0], la_tensor_shape_text(a, left, sizeof left),
                       suffixes[1], la_tensor_shape_text(b, right, sizeof right), (long long)in,
                       (long long)out, la_other_base);
    const la_tensor *tensors[2] = {a, b};
    blocks[0] = (la_block){.out = r, .in = in};
    blocks[1] = (la_block){.out = out, .in = r};
    for (int i = 0; i < 2; i++) {
        values[i] = la_adapter_values(pool, tensors[i], &blocks[i].theta_square, err);
        size_t length = strlen(keys[i]), tail = strlen(".weight");
        bool ends = length > tail && !strcmp(keys[i] + length - tail, ".weight");
        blocks[i].name = la_pool_text(pool, keys[i], ends ? length - tail : length, err);
    }
    return err->status;
}

la_status la_lora_bind(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], la_site *site, la_error *err) {
    float *values[2];
    la_block blocks[2];
    LA_TRY(la_lora_read(adapter, pool, module, suffixes, site->out, site->in, values, blocks, err));
    if (!values[0])
        return LA_OK;
    la_lora *lora = la_pool_take(pool, 1, sizeof *lora, err);
    if (!lora)
        return err->status;
    site->own = lora;
    site->kind = &la_adapter_lora;
    lora->a = la_mat_f32(values[0], blocks[0].out, blocks[0].in);
    lora->b = la_mat_f32(values[1], blocks[1].out, blocks[1].in);
    la_parameter *a = la_site_add(site, &lora->a), *b = la_site_add(site, &lora->b);
    a->trained = blocks[0];
    b->trained = blocks[1];
    a->reads_input = b->of_outputs = true;
    site->state_cols = lora->a.rows;
    return LA_OK;
}

la_status la_lora_product(la_adapter *adapter, la_pool *pool, const char *key,
                          const char *const suffixes[2], la_product *product, la_error *err) {
    size_t length = strlen(key), tail = 0;
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(suffixes[i]);
        if (length > n && key[length - n - 1] == '.' && !strcmp(key + length - n, suffixes[i]))
            tail = n + 1;
    }
    if (!tail)
        return LA_OK;
    const char *module = la_pool_text(pool, key, length - tail, err);
    if (!module)
        return err->status;
    const la_tensor *a = la_adapter_tensor(adapter, module, suffixes[0], NULL);
    const la_tensor *b = la_adapter_tensor(adapter, module, suffixes[1], NULL);
    int64_t in = a && a->n_dims == 2 ? a->shape[1] : 0, out = b && b->n_dims ? b->shape[0] : 0;
    float *values[2];
    la_block blocks[2];
    LA_TRY(la_lora_read(adapter, pool, module, suffixes, out, in, values, blocks, err));
    *product = (la_product){.module = module,
                            .out = out,
                            .in = in,
                            .rank = blocks[0].out,
                            .a = values[0],
                            .b = values[1],
                            .names = {blocks[0].name, blocks[1].name}};
    return LA_OK;
}

la_status la_site_add_vector(la_pool *pool, la_site *site, const la_tensor *t, int64_t n,
                             const char *name, la_mat *vector, la_error *err) {
    if (t->count != n)
        return la_tensor_fail(err, LA_BAD_INPUT, t, " has %lld values, expected %lld%s",
                              (long long)t->count, (long long)n, la_other_base);
    la_parameter *to = la_site_add(site, vector);
    to->exact = true;
    to->trained = (la_block){.out = n, .in = 1};
    if (name)
        to->trained.name = la_pool_text(pool, name, strlen(name), err);
    *vector = la_mat_f32(la_adapter_values(pool, t, &to->trained.theta_square, err), n, 1);
    return err->status;
}

/* Trained magnitudes of module as a parameter more, where the configuration says use_dora. */
static la_status bind_magnitude(la_adapter *adapter, la_pool *pool, const char *module,
                                la_site *site, la_error *err) {
    la_lora *lora = site->own;
    bool used = false;
    char name[1024];
    LA_TRY(la_json_bool(adapter->config, adapter->config_path, "use_dora", false, &used, err));
    if (!used)
        return LA_OK;
    const la_tensor *m = la_adapter_tensor(adapter, module, "lora_magnitude_vector", NULL);
    if (!m) /* its name in memory, and in files of PEFT before 0.11 */
        m = la_adapter_tensor(adapter, module, "lora_magnitude_vector.weight", NULL);
    if (!m)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: use_dora is set, but the weights hold no %s.lora_magnitude_vector",
                       adapter->config_path, module);
    snprintf(name, sizeof name, "%s.lora_magnitude_vector", module);
    LA_TRY(la_site_add_vector(pool, site, m, site->out, name, &lora->magnitude, err));
    site->parameters[LA_LORA_MAGNITUDE].of_outputs = true;
    site->parameters[LA_LORA_MAGNITUDE].trained.group = LA_GROUP_MAGNITUDES;
    site->alone = "DoRA";
    return LA_OK;
}

/* A bias behind B is scaled as B is. */
static la_status read_bias(const la_tensor *bias, la_pool *pool, int64_t out, float scale,
                           const float **to, la_error *err) {
    double square;
    LA_TRY(la_tensor_check_shape(bias, out, -1, "", err));
    float *values = la_adapter_values(pool, bias, &square, err);
    if (!values)
        return err->status;
    for (int64_t i = 0; i < out; i++)
        values[i] *= scale;
    *to = values;
    return LA_OK;
}

static la_status bind_bias(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                           la_error *err) {
    const la_tensor *bias = la_adapter_tensor(adapter, module, "lora_B.bias", NULL);
    const la_lora *lora = site->own;
    if (!bias)
        return LA_OK;
    if (lora->magnitude.data)
        return la_tensor_fail(err, LA_UNSUPPORTED, bias,
                              " is a bias behind DoRA, which PEFT does not have either");
    return read_bias(bias, pool, site->out, lora->scale, &site->bias, err);
}

static la_status read_product(la_adapter *adapter, la_pool *pool, const char *key,
                              la_product *product, la_error *err) {
    static const char *const pairs[][2] = {{"lora_A.weight", "lora_B.weight"},
                                           {"lora_embedding_A", "lora_embedding_B"}};
    float scale = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs && !product->module; i++)
        LA_TRY(la_lora_product(adapter, pool, key, pairs[i], product, err));
    if (!product->module)
        return LA_OK;
    LA_TRY(la_lora_scale(adapter, product->module, product->rank, &scale, err));
    product->scale = (double)scale;
    const la_tensor *bias = la_adapter_tensor(adapter, product->module, "lora_B.bias", NULL);
    return bias ? read_bias(bias, pool, product->out, scale, &product->bias, err) : LA_OK;
}

static la_status bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_error *err) {
    static const char *const pair[2] = {"lora_A.weight", "lora_B.weight"};
    LA_TRY(la_lora_bind(adapter, pool, module, pair, site, err));
    la_lora *lora = site->own;
    if (!lora)
        return LA_OK;
    LA_TRY(la_lora_scale(adapter, module, lora->a.rows, &lora->scale, err));
    LA_TRY(bind_magnitude(adapter, pool, module, site, err));
    return bind_bias(adapter, pool, module, site, err);
}

static la_status bind_table(la_adapter *adapter, la_pool *pool, const char *module, int64_t rows,
                            int64_t width, la_embedding *e, la_parameter parameters[2],
                            bool *adapted, la_error *err) {
    static const char *const pair[2] = {"lora_embedding_A", "lora_embedding_B"};
    float *values[2];
    la_block blocks[2];
    LA_TRY(la_lora_read(adapter, pool, module, pair, width, rows, values, blocks, err));
    *adapted = values[0] != NULL;
    if (!*adapted)
        return LA_OK;
    int64_t r = blocks[0].out;
    LA_TRY(la_lora_scale(adapter, module, r, &e->scale, err));
    float *table = la_pool_take(pool, (size_t)(rows * r), sizeof *table, err);
    if (!table)
        return err->status;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < rows; j++)
            table[j * r + i] = values[0][i * rows + j];
    e->a = la_mat_f32(table, rows, r);
    e->b = la_mat_f32(values[1], width, r);
    parameters[0] =
        (la_parameter){.value = &e->a, .trained = blocks[0], .cut = {0, 1, rows}}; /* turned */
    parameters[1] = (la_parameter){.value = &e->b, .trained = blocks[1]};
    return LA_OK;
}

/* row i of w as f32 */
static void read_row(const la_mat *w, int64_t i, float *row) {
    if (w->type == LA_CODES)
        la_quant_decode(w, i * w->cols, w->cols, row);
    else
        la_dtype_to_f32(w->type,
                        (const char *)w->data + (size_t)(i * w->ld) * la_dtype_size(w->type),
                        w->cols, row);
}

/* Norm of w + scale b A; sum [in] is written. */
static double norm_of(const la_lora *lora, const float *w, const float *b, double *sum) {
    const float *a = lora->a.data;
    int64_t in = lora->a.cols;
    double square = 0;
    for (int64_t j = 0; j < in; j++)
        sum[j] = w[j];
    for (int64_t k = 0; k < lora->a.rows; k++) {
        double factor = (double)lora->scale * (double)b[k];
        const float *from = a + k * in;
#pragma omp simd
        for (int64_t j = 0; j < in; j++)
            sum[j] += factor * (double)from[j];
    }
#pragma omp simd reduction(+ : square)
    for (int64_t j = 0; j < in; j++)
        square += sum[j] * sum[j];
    return sqrt(square);
}

/* Computes DoRA's out_scale and inverse_norm from the norms of the rows of W + scale B A, in f64,
 * row by row. Row i of w is that of row i of b; a and b are on the host, too. */
static la_status compute_norms(la_team team, const la_adapter *adapter, const la_mat *w,
                               la_pool *pool, la_site *site, la_error *err) {
    la_lora *lora = site->own;
    int64_t out = lora->b.rows, bad = -1;
    bool short_of_memory = false;
    const float *magnitude = lora->magnitude.data;
    float *scale = la_pool_take(pool, (size_t)out, sizeof *scale, err);
    float *inverse = la_pool_take(pool, (size_t)out, sizeof *inverse, err);
    if (!scale || !inverse)
        return err->status;
#pragma omp parallel num_threads(team.threads)
    {
        float *row = malloc((size_t)w->cols * sizeof *row);
        double *sum = malloc((size_t)w->cols * sizeof *sum);
        bool able = row && sum;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < out; i++) {
            if (!able)
                continue;
            read_row(w, i, row);
            double norm = norm_of(lora, row, (const float *)lora->b.data + i * lora->b.cols, sum);
            scale[i] = (float)((double)magnitude[i] / norm);
            inverse[i] = (float)(1 / norm);
        }
#pragma omp critical
        short_of_memory |= !able;
        free(row);
        free(sum);
    }
    if (short_of_memory)
        return la_fail(err, LA_RESOURCE, "out of memory for the norms of %s", site->module);
    for (int64_t i = out - 1; i >= 0; i--)
        if (!isfinite(inverse[i]))
            bad = i;
    if (bad >= 0)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s: row %lld of the weight with its adapter has norm 0, which DoRA "
                       "divides by; is this the base it was trained on?",
                       adapter->config_path, site->module, (long long)bad);
    lora->out_scale = la_mat_f32(scale, out, 1);
    lora->inverse_norm = la_mat_f32(inverse, out, 1);
    la_site_add(site, &lora->out_scale)->exact = true;
    la_site_add(site, &lora->inverse_norm)->exact = true;
    return LA_OK;
}

static la_status prepare(la_team team, const la_adapter *adapter, const la_mat *w, la_pool *pool,
                         la_site *site, la_error *err) {
    la_lora *lora = site->own;
    if (!lora->magnitude.data)
        return LA_OK;
    lora->keeps_product = site->parameters[LA_LORA_MAGNITUDE].trained.wanted;
    site->work_cols = lora->a.rows + site->out;
    site->state_products = lora->keeps_product;
    return compute_norms(team, adapter, w, pool, site, err);
}

/* state[T,r] = x A^T, its columns scaled where they are */
static void reduce(la_backend *be, const la_lora *lora, const la_mat *x, la_mat *state) {
    be->ops->gemm(be, false, true, 1, x, &lora->a, 0, state);
    if (lora->state_scale.data)
        be->ops->scale_columns(be, state, lora->state_scale.data, NULL, NULL, state);
}

/* Parts of a state, or of a workspace, which begins with a matrix as wide as the outputs or not. */
static la_mat product_of(const la_site *site, const la_mat *state) {
    return la_site_part(state, 0, site->out);
}
static la_mat reduced_of(const la_site *site, bool behind, const la_mat *state) {
    const la_lora *lora = site->own;
    return la_site_part(state, behind ? site->out : 0, lora->a.rows);
}

static void forward(la_backend *be, const la_linear *linear, const la_mat *x,
                    const la_mat *residual, la_mat *state, la_mat *y) {
    const la_site *site = linear->site;
    const la_lora *lora = site->own;
    const la_mat *bias = linear->bias.data ? &linear->bias : NULL;
    bool scaled = lora->out_scale.data != NULL;
    la_mat small = reduced_of(site, lora->keeps_product, state);
    la_mat sum = lora->keeps_product ? product_of(site, state) : *y;
    if (scaled)
        be->ops->linear(be, x, &linear->w, NULL, NULL, &sum);
    else
        la_site_inner_forward(be, linear, x, residual, state, &sum);
    reduce(be, lora, x, &small);
    be->ops->gemm(be, false, true, lora->scale, &small, &lora->b, 1, &sum);
    if (lora->keeps_product) {
        be->ops->scale_columns(be, &sum, lora->inverse_norm.data, NULL, NULL, &sum);
        be->ops->scale_columns(be, &sum, lora->magnitude.data, bias, residual, y);
    } else if (scaled)
        be->ops->scale_columns(be, y, lora->out_scale.data, bias, residual, y);
}

/* DoRA: g of what the magnitudes multiply, in the workspace, once the magnitudes were visited. */
static la_mat magnitude_backward(la_backend *be, const la_site *site, const la_site_pass *pass) {
    const la_lora *lora = site->own;
    la_mat work = product_of(site, &pass->work), product = product_of(site, pass->state);
    if (lora->keeps_product && pass->visitor) { /* g o product */
        be->ops->activation_backward(be, LA_ACT_NONE, &product, &product, pass->io.n_rhs,
                                     pass->io.g, &work, NULL);
        la_site_visit_vector(be, pass, site->parameters[LA_LORA_MAGNITUDE].block, &work);
    }
    be->ops->scale_columns(be, pass->io.g, lora->out_scale.data, NULL, NULL, &work);
    return work;
}

static void backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    const la_site *site = linear->site;
    const la_lora *lora = site->own;
    bool scaled = lora->out_scale.data != NULL;
    la_block_io io = pass->io;
    la_mat ga = reduced_of(site, scaled, &pass->work), g;
    la_mat small = reduced_of(site, lora->keeps_product, pass->state);
    la_mat all = la_site_part(&pass->state_all, 0, lora->a.rows);
    if (scaled) {
        g = magnitude_backward(be, site, pass);
        io.g = &g;
        if (pass->dx)
            be->ops->linear_backward(be, io.g, &linear->w, pass->beta, pass->dx);
    } else {
        la_site_inner_backward(be, linear, pass);
    }
    /* ga[n_rhs Q, r] = scale g B */
    be->ops->gemm(be, false, false, lora->scale, io.g, &lora->b, 0, &ga);
    if (lora->state_scale.data)
        be->ops->scale_columns(be, &ga, lora->state_scale.data, NULL, NULL, &ga);
    if (pass->visitor) {
        la_block_io a = io, b = io;
        a.g = &ga;
        a.g_scale = 1;
        pass->visitor->visit(pass->visitor->user, site->parameters[LA_LORA_A].block, &a);
        b.x_at_g = &small;
        b.x = &small;
        if (io.x != io.x_at_g) {
            reduce(be, lora, io.x, &all);
            b.x = &all;
        }
        b.g_scale = lora->scale;
        pass->visitor->visit(pass->visitor->user, site->parameters[LA_LORA_B].block, &b);
    }
    if (pass->dx)
        be->ops->gemm(be, false, false, 1, &ga, &lora->a, 1, pass->dx);
}

/* weight = out_scale o (weight + scale B (state_scale o A)) */
static la_status merge(la_backend *be, const la_site *site, float *weight, float *bias,
                       la_error *err) {
    const la_lora *lora = site->own;
    const la_mat *from[] = {&lora->a, &lora->b, &lora->state_scale, &lora->out_scale};
    float *to[4];
    int64_t rank = lora->a.rows, in = site->in;
    (void)bias; /* has the site's in it */
    for (int i = 0; i < 4; i++)
        (void)la_mat_read(be, from[i], &to[i], err);
    for (int64_t i = 0; i < site->out && err->status == LA_OK; i++)
        for (int64_t j = 0; j < in; j++) {
            double sum = 0;
            for (int64_t k = 0; k < rank; k++)
                sum += (double)to[1][i * rank + k] * (to[2] ? (double)to[2][k] : 1) *
                       (double)to[0][k * in + j];
            float *w = &weight[i * in + j];
            *w = (to[3] ? to[3][i] : 1) * (*w + lora->scale * (float)sum);
        }
    for (int i = 0; i < 4; i++)
        free(to[i]);
    return err->status;
}

static const char *const variants[] = {"use_dora", NULL};
static const char *const suffixes[] = {
    "lora_A.weight",    "lora_B.weight",    "lora_B.bias", "lora_magnitude_vector",
    "lora_embedding_A", "lora_embedding_B", NULL};
static const char *const announced[] = {"lora_magnitude_vector", NULL};

const la_adapter_kind la_adapter_lora = {
    .library = &la_peft,
    .name = "LORA",
    .low_rank = true,
    .known = la_lora_keys,
    .more_known = variants,
    .digested = variants,
    .suffixes = suffixes,
    .announced = announced,
    .check = check,
    .bind = bind,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
    .merge = merge,
    .read_product = read_product,
    .bind_table = bind_table,
};
