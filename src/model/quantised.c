#include "model/quantised.h"
#include "input/json.h"

#include <stdio.h>
#include <string.h>

const char *const la_base_quant_names[LA_BASE_QUANTS] = {"none", "nf4",        "nf4-double",
                                                         "fp4",  "fp4-double", "int8"};
const la_base_quant_codes la_base_quant_all[LA_BASE_QUANTS] = {
    [LA_BASE_NF4] = {LA_QUANT_NF4, false},   [LA_BASE_NF4_DOUBLE] = {LA_QUANT_NF4, true},
    [LA_BASE_FP4] = {LA_QUANT_FP4, false},   [LA_BASE_FP4_DOUBLE] = {LA_QUANT_FP4, true},
    [LA_BASE_INT8] = {LA_QUANT_INT8, false},
};

extern const la_packed_format la_packed_four_bit, la_packed_eight_bit, la_packed_gptq;

const la_packed_format *const la_packed_formats[] = {&la_packed_four_bit, &la_packed_eight_bit,
                                                     &la_packed_gptq, NULL};

la_status la_base_quant_parse(const char *text, la_base_quant *quant, la_error *err) {
    *quant = LA_BASE_PLAIN;
    if (!text)
        return LA_OK;
    for (int i = 0; i < LA_BASE_QUANTS; i++) {
        *quant = (la_base_quant)i;
        if (!strcmp(text, la_base_quant_names[i]))
            return LA_OK;
    }
    return la_fail(err, LA_USAGE,
                   "--base-quant \"%s\": expected none, nf4, nf4-double, fp4, fp4-double or int8",
                   text);
}

la_status la_quantised_config(const json_t *config, const char *path, const char **name,
                              la_error *err) {
    const char *method = NULL;
    *name = NULL;
    if (!json_is_object(config))
        return la_fail(err, LA_BAD_INPUT, "%s: quantization_config is %s, expected an object", path,
                       la_json_kind(config));
    LA_TRY(la_json_text(config, path, "quant_method", false, &method, err));
    for (const la_packed_format *const *format = la_packed_formats; *format; format++)
        if (method ? !strcmp(method, (*format)->method)
                   : (*format)->implied && (*format)->implied(config))
            return (*format)->read_config(config, path, name, err);
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: the base is quantised by %s; only bitsandbytes (nf4, fp4, int8) and "
                   "gptq (4 bits) are supported: take the base in F32, F16 or BF16, with "
                   "--base-quant nf4-double "
                   "or the like where the adapter was trained on one quantised so (QLoRA)",
                   path, method ? method : "an unknown method");
}

static const la_packed_format *format_of(const la_packed_source *from) {
    for (const la_packed_format *const *format = la_packed_formats; *format; format++)
        if ((*format)->holds(from))
            return *format;
    return NULL;
}

const la_tensor *la_packed_find(const la_checkpoint *base, const char *module, const char *leaf) {
    char key[1024];
    snprintf(key, sizeof key, "%s.%s", module, leaf);
    const la_tensor *found = la_checkpoint_find(base, key);
    for (const la_packed_format *const *f = la_packed_formats; *f && !strcmp(leaf, "weight"); f++) {
        if (found || !(*f)->leaf)
            continue;
        snprintf(key, sizeof key, "%s.%s", module, (*f)->leaf);
        found = la_checkpoint_find(base, key);
    }
    return found;
}

bool la_packed_is(const la_checkpoint *base, const la_tensor *weight) {
    la_packed_source from = {base, weight, NULL};
    return format_of(&from) != NULL;
}

bool la_packed_is_part(const char *name) {
    for (const la_packed_format *const *format = la_packed_formats; *format; format++)
        for (const char *const *part = (*format)->parts; *part; part++)
            if (strstr(name, *part))
                return true;
    return false;
}

int64_t la_packed_parameters(const la_checkpoint *base, const la_tensor *tensor) {
    la_packed_source from = {base, tensor, NULL};
    for (const la_packed_format *const *format = la_packed_formats; *format; format++) {
        int64_t count = (*format)->parameters(&from);
        if (count >= 0)
            return count;
    }
    return tensor->count;
}

la_status la_packed_read(const la_checkpoint *base, const la_tensor *weight, la_pool *pool,
                         la_packed **packed, la_error *err) {
    la_packed_source from = {base, weight, err};
    *packed = la_pool_take(pool, 1, sizeof **packed, err);
    return *packed ? format_of(&from)->read(&from, pool, *packed) : err->status;
}
