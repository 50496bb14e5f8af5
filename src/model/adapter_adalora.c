/* AdaLoRA (arXiv 2303.10512): y = W x + scale B (E o (A x)), scale = alpha / (rank + 1e-5) with the
 * rank it began with, also when directions have gone since. E is fixed: the blocks are LoRA's,
 *   A: input x,         cotangent scale E o (B^T g)
 *   B: input E o (A x), cotangent scale g */
#include "input/json.h"
#include "model/adapter_shared.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const keys[] = {"target_r", "init_r", "tinit",           "tfinal",     "deltaT",
                                   "beta1",    "beta2",  "orth_reg_weight", "total_step", NULL};

static la_status check(const la_adapter *adapter, la_error *err) {
    const char *path = adapter->config_path;
    int64_t r = 0;
    double alpha = 0;
    LA_TRY(la_lora_check(adapter, err));
    LA_TRY(la_json_int(adapter->config, path, "init_r", true, 1, 1 << 20, &r, err));
    LA_TRY(la_json_number(adapter->config, path, "lora_alpha", true, &alpha, err));
    const json_t *pattern = json_object_get(adapter->config, "rank_pattern");
    if (pattern && !json_is_null(pattern) && !json_is_object(pattern))
        return la_fail(err, LA_BAD_INPUT, "%s: key \"rank_pattern\" is %s, expected an object",
                       path, la_json_kind(pattern));
    return isfinite(alpha)
               ? LA_OK
               : la_fail(err, LA_BAD_INPUT, "%s: lora_alpha is %g, expected a number", path, alpha);
}

/* The directions that rank_pattern keeps at module; init_r where it does not say. */
static la_status kept_rank(const la_adapter *adapter, const char *module, int64_t init_r,
                           int64_t *rank, la_error *err) {
    const json_t *pattern = json_object_get(adapter->config, "rank_pattern");
    char key[1024];
    snprintf(key, sizeof key, "%s.lora_E", module);
    const json_t *kept = json_object_get(pattern, key);
    *rank = init_r;
    if (!kept)
        return LA_OK;
    if (!json_is_array(kept) || (int64_t)json_array_size(kept) != init_r)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: rank_pattern: \"%s\" is not a list of init_r = %lld truth values",
                       adapter->config_path, key, (long long)init_r);
    *rank = 0;
    for (size_t i = 0; i < json_array_size(kept); i++)
        *rank += json_is_true(json_array_get(kept, i));
    return LA_OK;
}

/* E at module, and the scale, which PEFT computes from the rank for an alpha that is not
 * positive. */
static la_status read_scales(la_adapter *adapter, const char *module, int64_t rank,
                             const la_tensor **e, float *scale, la_error *err) {
    const char *path = adapter->config_path;
    int64_t init_r = 0, kept;
    double alpha = 0;
    LA_TRY(la_json_int(adapter->config, path, "init_r", true, 1, 1 << 20, &init_r, err));
    LA_TRY(la_json_number(adapter->config, path, "lora_alpha", true, &alpha, err));
    LA_TRY(kept_rank(adapter, module, init_r, &kept, err));
    if (rank != kept)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s has rank %lld in the weights, expected %lld from init_r or "
                       "rank_pattern",
                       path, module, (long long)rank, (long long)kept);
    *e = la_adapter_tensor(adapter, module, "lora_E", NULL);
    if (!*e)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: the weights hold lora_A and lora_B, but no %s.lora_E", path, module);
    *scale = (float)((alpha > 0 ? alpha : (double)init_r) / ((double)init_r + 1e-5));
    return LA_OK;
}

static const char *const pair[2] = {"lora_A", "lora_B"};

static la_status bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_error *err) {
    const la_tensor *e = NULL;
    LA_TRY(la_lora_bind(adapter, pool, module, pair, site, err));
    la_lora *lora = site->own;
    if (!lora)
        return LA_OK;
    LA_TRY(read_scales(adapter, module, lora->a.rows, &e, &lora->scale, err));
    return la_site_add_vector(pool, site, e, lora->a.rows, NULL, &lora->state_scale, err);
}

static la_status read_product(la_adapter *adapter, la_pool *pool, const char *key,
                              la_product *product, la_error *err) {
    const la_tensor *e = NULL;
    float scale = 0;
    double square;
    LA_TRY(la_lora_product(adapter, pool, key, pair, product, err));
    if (!product->module)
        return LA_OK;
    LA_TRY(read_scales(adapter, product->module, product->rank, &e, &scale, err));
    product->scale = (double)scale;
    if (e->count != product->rank)
        return la_tensor_fail(err, LA_BAD_INPUT, e, " has %lld values, expected %lld",
                              (long long)e->count, (long long)product->rank);
    product->e = la_adapter_values(pool, e, &square, err);
    return err->status;
}

static const char *const digested[] = {"init_r", NULL};
static const char *const suffixes[] = {"lora_A", "lora_B", "lora_E", NULL};

/* Its sites are LoRA's. */
const la_adapter_kind la_adapter_adalora = {
    .library = &la_peft,
    .name = "ADALORA",
    .known = la_lora_keys,
    .more_known = keys,
    .digested = digested,
    .suffixes = suffixes,
    .check = check,
    .bind = bind,
    .read_product = read_product,
};
