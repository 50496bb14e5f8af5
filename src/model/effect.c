#include "model/effect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Half a unit in the last place of 1. */
static double rounding_of(la_dtype type) {
    static const double of[] = {[LA_F32] = 0x1p-24, [LA_F16] = 0x1p-11, [LA_BF16] = 0x1p-8};
    return type <= LA_BF16 ? of[type] : 0x1p-53;
}

/* The name with the adapter's behind it, where there are several. */
static const char *marked(la_effects *effects, const char *name, const char *mark, la_error *err) {
    char text[2048];
    int length = snprintf(text, sizeof text, "%s%s%s", name, mark ? "." : "", mark ? mark : "");
    return la_pool_text(&effects->pool, text, (size_t)length, err);
}

static la_effect *add(la_effects *effects, const char *name, const char *mark, la_error *err) {
    la_effect *e = &effects->list[effects->n++];
    e->name = marked(effects, name, mark, err);
    return e;
}

static void raise_rounding(la_effect *e, const la_tensor *tensor) {
    double rounding = tensor ? rounding_of(tensor->dtype) : 0;
    e->rounding = rounding > e->rounding ? rounding : e->rounding;
}

/* Products of one adapter: those that a tensor not yet used is a factor of. */
static la_status read_products(la_effects *effects, la_adapter *adapter, la_error *err) {
    la_pool *pool = &effects->pool;
    for (int64_t i = 0; adapter->kind->read_product && i < adapter->n_entries; i++) {
        const la_adapter_entry *entry = &adapter->entries[i];
        la_product product = {0};
        if (entry->used)
            continue;
        LA_TRY(adapter->kind->read_product(adapter, pool, entry->key, &product, err));
        if (!product.module)
            continue;
        la_effect *e = add(effects, product.module, adapter->mark, err);
        e->out = product.out;
        e->in = product.in;
        e->product = product;
        for (int f = 0; f < 2; f++)
            e->product.names[f] = marked(effects, product.names[f], adapter->mark, err);
        /* all tensors of a file are of one type, as a rule; the factor found says which */
        raise_rounding(e, entry->tensor);
        if (product.bias) {
            char name[1024];
            snprintf(name, sizeof name, "%s.bias", product.module);
            la_effect *bias = add(effects, name, adapter->mark, err);
            bias->out = product.out;
            bias->in = 1;
            bias->values = product.bias;
            raise_rounding(bias, entry->tensor);
        }
        LA_TRY(err->status);
    }
    return LA_OK;
}

static la_status copy_tensor(la_pool *pool, const la_tensor *t, const la_tensor *bias, la_effect *e,
                             la_error *err) {
    double square;
    int64_t last = t->n_dims > 1 ? t->shape[t->n_dims - 1] : 1;
    e->in = last + (bias ? 1 : 0);
    e->out = last ? t->count / last : 0;
    float *values = la_adapter_values(pool, t, &square, err);
    e->values = values;
    raise_rounding(e, t);
    raise_rounding(e, bias);
    if (!bias || !values)
        return err->status;
    const float *shift = la_adapter_values(pool, bias, &square, err);
    float *both = la_pool_take(pool, (size_t)(e->out * e->in), sizeof *both, err);
    if (!shift || !both)
        return err->status;
    for (int64_t i = 0; i < e->out; i++) {
        memcpy(both + i * e->in, values + i * last, (size_t)last * sizeof *both);
        both[i * e->in + last] = shift[i];
    }
    e->values = both;
    return LA_OK;
}

/* Tensors that no product has, a weight with its bias. */
static la_status read_rest(la_effects *effects, la_adapter *adapter, la_error *err) {
    static const char ending[] = ".weight";
    for (int pass = 0; pass < 2; pass++) /* a bias comes before its weight */
        for (int64_t i = 0; i < adapter->n_entries; i++) {
            la_adapter_entry *entry = &adapter->entries[i];
            size_t length = strlen(entry->key), tail = sizeof ending - 1;
            const la_tensor *tensor = entry->tensor, *bias = NULL;
            bool weight = length > tail && !strcmp(entry->key + length - tail, ending);
            char module[1024];
            if (entry->used || (!pass && !weight))
                continue;
            snprintf(module, sizeof module, "%.*s", (int)(weight ? length - tail : length),
                     entry->key);
            (void)la_adapter_find(adapter, entry->key); /* its copies, too */
            if (weight && tensor->n_dims == 2)
                bias = la_adapter_tensor(adapter, module, "bias", NULL);
            la_effect *e = add(effects, module, adapter->mark, err);
            if (bias && bias->count != tensor->shape[0])
                return la_tensor_fail(err, LA_BAD_INPUT, bias, " has %lld values, expected %lld",
                                      (long long)bias->count, (long long)tensor->shape[0]);
            LA_TRY(err->status);
            LA_TRY(copy_tensor(&effects->pool, tensor, bias, e, err));
        }
    return LA_OK;
}

static int by_name(const void *a, const void *b) {
    const la_effect *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static la_status read_all(la_effects *effects, la_error *err) {
    size_t most = 0;
    for (la_adapter *a = &effects->adapter; a; a = a->next)
        most += (size_t)a->n_entries;
    effects->list = la_pool_take(&effects->pool, 2 * most, sizeof *effects->list, err);
    if (!effects->list)
        return err->status;
    for (la_adapter *a = &effects->adapter; a; a = a->next)
        LA_TRY(read_products(effects, a, err));
    for (la_adapter *a = &effects->adapter; a; a = a->next)
        LA_TRY(read_rest(effects, a, err));
    qsort(effects->list, (size_t)effects->n, sizeof *effects->list, by_name);
    return LA_OK;
}

la_status la_effects_read(const char *dir, const char *name, const la_log *log, la_effects *effects,
                          la_error *err) {
    *effects = (la_effects){0};
    LA_TRY(la_adapter_open(dir, name, &effects->adapter, log, err));
    if (read_all(effects, err) != LA_OK)
        la_effects_close(effects);
    return err->status;
}

void la_effects_close(la_effects *effects) {
    if (effects->list || effects->adapter.file)
        la_adapter_close(&effects->adapter);
    la_pool_free(&effects->pool);
    *effects = (la_effects){0};
}
