/* Formats of bitsandbytes, as transformers writes them. 4-bit: X.weight [n/2, 1], two codes a
 * byte, with X.weight.absmax (a scale a block: F32, or U8 with .nested_absmax and
 * .nested_quant_map), .quant_map and .quant_state.bitsandbytes__nf4 or __fp4 (JSON as bytes).
 * 8-bit: X.weight I8 [out, in] with X.SCB F32 [out]. */
#include "model/quantised.h"
#include "input/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 512, STATE_BYTES_MAX = 65536 };

static const char *const state_names[2] = {".quant_state.bitsandbytes__nf4",
                                           ".quant_state.bitsandbytes__fp4"};

/* ---- config.json ---- */

/* Old versions wrote load_in_4bit, newer ones write both spellings. */
static la_status read_either(const json_t *config, const char *path, const char *key, bool *value,
                             la_error *err) {
    *value = false;
    LA_TRY(la_json_bool(config, path, key + 1, false, value, err));
    if (*value)
        return LA_OK;
    return la_json_bool(config, path, key, false, value, err);
}

/* The first versions named no method. */
static bool implied(const json_t *config) {
    static const char *const keys[] = {"load_in_4bit", "_load_in_4bit", "load_in_8bit",
                                       "_load_in_8bit"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is_true(json_object_get(config, keys[i])))
            return true;
    return false;
}

static la_status read_config(const json_t *config, const char *path, const char **name,
                             la_error *err) {
    bool four = false, eight = false, twice = false, unpacked = false;
    const char *type = "fp4";
    LA_TRY(read_either(config, path, "_load_in_4bit", &four, err));
    LA_TRY(read_either(config, path, "_load_in_8bit", &eight, err));
    LA_TRY(la_json_text(config, path, "bnb_4bit_quant_type", false, &type, err));
    LA_TRY(la_json_bool(config, path, "bnb_4bit_use_double_quant", false, &twice, err));
    LA_TRY(la_json_bool(config, path, "llm_int8_has_fp16_weight", false, &unpacked, err));
    if (four && eight)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: quantization_config says both load_in_4bit and load_in_8bit", path);
    if (four && strcmp(type, "nf4") && strcmp(type, "fp4"))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: bnb_4bit_quant_type \"%s\" is not supported (nf4 and fp4 are)", path,
                       type);
    la_base_quant quant = LA_BASE_PLAIN;
    if (four)
        quant = !strcmp(type, "nf4") ? (twice ? LA_BASE_NF4_DOUBLE : LA_BASE_NF4)
                                     : (twice ? LA_BASE_FP4_DOUBLE : LA_BASE_FP4);
    else if (eight && !unpacked)
        quant = LA_BASE_INT8;
    *name = quant ? la_base_quant_names[quant] : NULL;
    return LA_OK;
}

/* ---- parts of a packed weight ---- */

typedef la_packed_source source;

static const la_tensor *find_part(const source *from, const char *ending) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s%s", from->weight->name, ending);
    return la_checkpoint_find(from->base, key);
}

/* The part of a type with count elements in one dimension; NULL after an error. */
static const la_tensor *need_part(const source *from, const char *ending, const char *dtype,
                                  int64_t count) {
    const la_tensor *part = find_part(from, ending);
    if (!part) {
        (void)la_fail(from->err, LA_BAD_INPUT,
                      "%s: tensor \"%s%s\" is missing: the weight is packed (%s)",
                      from->weight->file, from->weight->name, ending, from->weight->dtype_name);
        return NULL;
    }
    if (strcmp(part->dtype_name, dtype) || part->n_dims != 1 || part->count != count) {
        (void)la_tensor_misfit(from->err, LA_BAD_INPUT, part, "expected %s [%lld]", dtype,
                               (long long)count);
        return NULL;
    }
    return part;
}

/* The JSON of a quant_state. */
typedef struct state {
    int64_t block, nested_block, shape[2];
    la_dtype as;
    double offset;
} state;

static la_status read_fields(const json_t *root, const char *where, const char *type, bool nested,
                             state *s, la_error *err) {
    static const struct {
        const char *name;
        la_dtype type;
    } types[] = {{"float32", LA_F32}, {"float16", LA_F16}, {"bfloat16", LA_BF16}};
    const char *as = NULL, *kind = NULL;
    if (!json_is_object(root))
        return la_fail(err, LA_BAD_INPUT, "%s: is %s, expected an object", where,
                       la_json_kind(root));
    LA_TRY(la_json_int(root, where, "blocksize", true, 1, 1 << 24, &s->block, err));
    LA_TRY(la_json_text(root, where, "quant_type", true, &kind, err));
    LA_TRY(la_json_text(root, where, "dtype", true, &as, err));
    if (strcmp(kind, type))
        return la_fail(err, LA_BAD_INPUT, "%s: quant_type is \"%s\", expected \"%s\"", where, kind,
                       type);
    if (s->block < 2 || s->block & (s->block - 1))
        return la_fail(err, LA_BAD_INPUT, "%s: blocksize is %lld, expected a power of two", where,
                       (long long)s->block);
    size_t row = 0;
    while (row < 3 && strcmp(types[row].name, as))
        row++;
    if (row == 3)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: dtype \"%s\" is not supported (float32, float16, bfloat16 are)", where,
                       as);
    s->as = types[row].type;
    const json_t *shape = json_object_get(root, "shape");
    bool pair = json_array_size(shape) == 2;
    for (size_t i = 0; i < 2; i++) {
        s->shape[i] = json_integer_value(json_array_get(shape, i));
        pair &= s->shape[i] >= 1 && s->shape[i] <= INT32_MAX;
    }
    if (!pair)
        return la_fail(err, LA_BAD_INPUT, "%s: shape is no pair of positive integers", where);
    if (!nested)
        return LA_OK;
    LA_TRY(la_json_int(root, where, "nested_blocksize", true, 1, 1 << 24, &s->nested_block, err));
    return la_json_number(root, where, "nested_offset", true, &s->offset, err);
}

static la_status read_state(const la_tensor *tensor, const char *type, bool nested, state *s,
                            la_error *err) {
    json_error_t at;
    char where[1024];
    snprintf(where, sizeof where, "%s: tensor \"%s\"", tensor->file, tensor->name);
    if (strcmp(tensor->dtype_name, "U8") || tensor->count > STATE_BYTES_MAX)
        return la_fail(err, LA_BAD_INPUT, "%s is %lld elements of %s, expected JSON as bytes (U8)",
                       where, (long long)tensor->count, tensor->dtype_name);
    json_t *root = la_json_loadb(tensor->data, tensor->bytes, JSON_REJECT_DUPLICATES, &at);
    if (!root)
        return la_fail(err, LA_BAD_INPUT, "%s: is not valid JSON: %s, at byte %d", where, at.text,
                       at.position);
    la_status status = read_fields(root, where, type, nested, s, err);
    json_decref(root);
    return status;
}

/* ---- scales ---- */

static la_status check_scales(const la_tensor *part, const la_packed *packed, la_error *err) {
    for (int64_t i = 0; i < packed->n_scales; i++)
        if (!isfinite(packed->quant.scale[i]))
            return la_tensor_fail(err, LA_NUMERICAL, part,
                                  ": the scale of block %lld is not finite", (long long)i);
    return LA_OK;
}

static float *take_scales(la_packed *packed, la_pool *pool, la_error *err) {
    float *scale = la_pool_take(pool, (size_t)packed->n_scales, sizeof *scale, err);
    packed->quant.scale = scale;
    return scale;
}

static la_status plain_scales(const source *from, la_pool *pool, la_packed *packed) {
    const la_tensor *absmax = need_part(from, ".absmax", "F32", packed->n_scales);
    float *scale = absmax ? take_scales(packed, pool, from->err) : NULL;
    if (!scale)
        return from->err->status;
    memcpy(scale, absmax->data, absmax->bytes);
    return check_scales(absmax, packed, from->err);
}

/* Double quantisation: a scale is level(code) * scale of its group + offset. */
static la_status nested_scales(const source *from, const state *s, la_pool *pool,
                               la_packed *packed) {
    int64_t groups = (packed->n_scales + s->nested_block - 1) / s->nested_block;
    const la_tensor *codes = need_part(from, ".absmax", "U8", packed->n_scales);
    const la_tensor *absmax = codes ? need_part(from, ".nested_absmax", "F32", groups) : NULL;
    const la_tensor *map = absmax ? need_part(from, ".nested_quant_map", "F32", 256) : NULL;
    float *scale = map ? take_scales(packed, pool, from->err) : NULL;
    if (!scale)
        return from->err->status;
    float levels[256], offset = (float)s->offset;
    memcpy(levels, map->data, sizeof levels);
    for (int64_t i = 0; i < packed->n_scales; i++) {
        float group;
        memcpy(&group, (const char *)absmax->data + (size_t)(i / s->nested_block) * sizeof group,
               sizeof group);
        float scaled = levels[((const uint8_t *)codes->data)[i]] * group;
        scale[i] = scaled + offset;
    }
    return check_scales(absmax, packed, from->err);
}

/* ---- weights ---- */

static int four_bit_kind(const source *from) {
    for (int kind = 0; kind < 2; kind++)
        if (find_part(from, state_names[kind]))
            return kind;
    return -1;
}

static bool holds_four_bit(const source *from) {
    /* packed codes may be stored as if they were of another type (bnb_4bit_quant_storage) */
    return !strcmp(from->weight->dtype_name, "U8") || four_bit_kind(from) >= 0;
}

static int64_t four_bit_parameters(const source *from) {
    const la_tensor *tensor = from->weight;
    const char *part = strstr(tensor->name, ".weight.");
    int kind = four_bit_kind(from);
    char owner[KEY_BYTES];
    if (kind >= 0) { /* only the JSON states an odd count */
        state s = {0};
        la_error ignored = {0};
        la_status status = read_state(find_part(from, state_names[kind]),
                                      kind == LA_QUANT_NF4 ? "nf4" : "fp4", false, &s, &ignored);
        return status == LA_OK ? s.shape[0] * s.shape[1] : 2 * (int64_t)tensor->bytes;
    }
    if (!part)
        return -1;
    snprintf(owner, sizeof owner, "%.*s", (int)(part - tensor->name) + 7, tensor->name);
    return la_checkpoint_find(from->base, owner) ? 0 : -1;
}

static bool holds_eight_bit(const source *from) {
    return !strcmp(from->weight->dtype_name, "I8");
}

static int64_t eight_bit_parameters(const source *from) {
    static const char *const parts[] = {".SCB", ".weight_format"};
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(from->weight->name), tail = strlen(parts[i]);
        if (length > tail && !strcmp(from->weight->name + length - tail, parts[i]))
            return 0;
    }
    return -1;
}

static la_status check_map(const source *from, la_quant_kind kind) {
    const la_tensor *map = need_part(from, ".quant_map", "F32", LA_QUANT_LEVELS);
    if (!map)
        return from->err->status;
    float levels[LA_QUANT_LEVELS];
    memcpy(levels, map->data, sizeof levels);
    for (int i = 0; i < LA_QUANT_LEVELS; i++)
        if (!(fabsf(levels[i] - la_quant_levels[kind][i]) < 1e-6f))
            return la_tensor_fail(from->err, LA_BAD_INPUT, map,
                                  ": element %d is %g, expected %g (%s)", i, (double)levels[i],
                                  (double)la_quant_levels[kind][i],
                                  kind == LA_QUANT_NF4 ? "nf4" : "fp4");
    return LA_OK;
}

static la_status read_four_bit(const source *from, la_pool *pool, la_packed *packed) {
    const la_tensor *weight = from->weight;
    int number = four_bit_kind(from);
    la_quant_kind kind = (la_quant_kind)number;
    if (number < 0)
        return la_tensor_fail(from->err, LA_BAD_INPUT, weight,
                              " is packed (%s), and \"%s%s\" that would describe it is missing",
                              weight->dtype_name, weight->name, state_names[0]);
    const la_tensor *text = find_part(from, state_names[kind]);
    bool nested = find_part(from, ".nested_absmax") != NULL;
    state s = {0};
    LA_TRY(read_state(text, kind == LA_QUANT_NF4 ? "nf4" : "fp4", nested, &s, from->err));
    LA_TRY(check_map(from, kind));
    int64_t count = s.shape[0] * s.shape[1];
    if ((int64_t)weight->bytes != (count + 1) / 2)
        return la_tensor_fail(
            from->err, LA_BAD_INPUT, weight,
            " is %zu bytes, expected %lld: its quant_state says shape [%lld, %lld], two a byte",
            weight->bytes, (long long)(count + 1) / 2, (long long)s.shape[0],
            (long long)s.shape[1]);
    *packed =
        (la_packed){.quant = {.kind = kind, .as = s.as, .block = s.block, .codes = weight->data},
                    .rows = s.shape[0],
                    .cols = s.shape[1],
                    .bytes = (int64_t)weight->bytes,
                    .n_scales = (count + s.block - 1) / s.block};
    return nested ? nested_scales(from, &s, pool, packed) : plain_scales(from, pool, packed);
}

static la_status read_eight_bit(const source *from, la_pool *pool, la_packed *packed) {
    const la_tensor *weight = from->weight;
    char key[KEY_BYTES];
    size_t stem = strlen(weight->name);
    stem -= stem > 6 && !strcmp(weight->name + stem - 6, "weight") ? 6 : 0;
    if (weight->n_dims != 2 || !weight->count)
        return la_tensor_misfit(from->err, LA_BAD_INPUT, weight, "expected a matrix");
    snprintf(key, sizeof key, "%.*sweight_format", (int)stem, weight->name);
    const la_tensor *format = la_checkpoint_find(from->base, key);
    if (format && (format->bytes != 1 || *(const uint8_t *)format->data))
        return la_tensor_fail(from->err, LA_UNSUPPORTED, format,
                              ": the layout of 8-bit weights is not row by row (0); save the base "
                              "again with a recent bitsandbytes");
    snprintf(key, sizeof key, "%.*sSCB", (int)stem, weight->name);
    const la_tensor *scb = la_checkpoint_find(from->base, key);
    if (!scb)
        return la_tensor_fail(from->err, LA_BAD_INPUT, weight, ": its scales \"%s\" are missing",
                              key);
    if (strcmp(scb->dtype_name, "F32") || scb->count != weight->shape[0])
        return la_tensor_misfit(from->err, LA_BAD_INPUT, scb, "expected F32 [%lld]",
                                (long long)weight->shape[0]);
    *packed = (la_packed){.quant = {.kind = LA_QUANT_INT8,
                                    .as = LA_F32,
                                    .block = weight->shape[1],
                                    .codes = weight->data},
                          .rows = weight->shape[0],
                          .cols = weight->shape[1],
                          .bytes = weight->count,
                          .n_scales = weight->shape[0]};
    float *scale = take_scales(packed, pool, from->err);
    if (!scale)
        return from->err->status;
    memcpy(scale, scb->data, scb->bytes);
    return check_scales(scb, packed, from->err);
}

static const char *const four_bit_parts[] = {".absmax",           ".quant_map",    ".nested_absmax",
                                             ".nested_quant_map", ".quant_state.", NULL};
static const char *const eight_bit_parts[] = {".SCB", ".weight_format", NULL};

const la_packed_format la_packed_four_bit = {.method = "bitsandbytes",
                                             .read_config = read_config,
                                             .implied = implied,
                                             .holds = holds_four_bit,
                                             .parameters = four_bit_parameters,
                                             .read = read_four_bit,
                                             .parts = four_bit_parts};
const la_packed_format la_packed_eight_bit = {.method = "bitsandbytes",
                                              .read_config = read_config,
                                              .implied = implied,
                                              .holds = holds_eight_bit,
                                              .parameters = eight_bit_parameters,
                                              .read = read_eight_bit,
                                              .parts = eight_bit_parts};
