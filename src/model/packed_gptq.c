/* GPTQ (arXiv 2210.17323) as AutoGPTQ and its successor write it. With groups of inputs that
 * share a scale, and eight codes of 4 bits a word, the first one lowest:
 *   X.qweight I32 [in / 8, out]      codes along the inputs
 *   X.qzeros  I32 [groups, out / 8]  zeros less one, along the outputs
 *   X.scales  [groups, out]          of a floating type
 *   X.g_idx   I32 [in]               group of an input; missing: they follow each other
 *   weight[o, i] = scales[g, o] (code[i, o] - zero[g, o]), g = g_idx[i]
 * The order of the groups (desc_act) fits no packed matrix of the backend: weights are unpacked
 * while the base is opened, to the type of the scales, to which the product is rounded. */
#include "input/json.h"
#include "model/quantised.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 512, BITS = 4, PER_WORD = 32 / BITS, MOST = (1 << BITS) - 1, TILE = 64 };

typedef la_packed_source source;

static la_status read_config(const json_t *config, const char *path, const char **name,
                             la_error *err) {
    int64_t bits = 0;
    const char *format = "gptq";
    LA_TRY(la_json_int(config, path, "bits", true, 1, 64, &bits, err));
    LA_TRY(la_json_text(config, path, "checkpoint_format", false, &format, err));
    if (bits != BITS || strcmp(format, "gptq"))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: the base is quantised by gptq with %lld bits in checkpoint_format "
                       "\"%s\"; 4 bits in \"gptq\" are supported",
                       path, (long long)bits, format);
    *name = "gptq";
    return LA_OK;
}

/* ---- parts ---- */

static const char leaf[] = "qweight";
static const char *const parts[] = {".qzeros", ".scales", ".g_idx", NULL};

/* Length of the module's name in that of a tensor that ends with the leaf; -1: it does not. */
static int stem_of(const char *name, const char *ending) {
    size_t length = strlen(name), tail = strlen(ending);
    bool ends = length > tail && !strcmp(name + length - tail, ending);
    return ends && name[length - tail - (*ending != '.')] == '.' ? (int)(length - tail) : -1;
}

static bool holds(const source *from) {
    return stem_of(from->weight->name, leaf) >= 0;
}

static int64_t parameters(const source *from) {
    char key[KEY_BYTES];
    if (holds(from))
        return from->weight->count * PER_WORD;
    for (int i = 0; parts[i]; i++) {
        int stem = stem_of(from->weight->name, parts[i]);
        snprintf(key, sizeof key, "%.*s.%s", stem, from->weight->name, leaf);
        if (stem >= 0 && la_checkpoint_find(from->base, key))
            return 0;
    }
    return -1;
}

/* *out: the part beside the weight; NULL where it is missing. */
static const la_tensor *find_part(const source *from, const char *part) {
    char key[KEY_BYTES];
    const char *name = from->weight->name;
    snprintf(key, sizeof key, "%.*s%s", stem_of(name, leaf) - 1, name, part);
    return la_checkpoint_find(from->base, key);
}

/* The part [rows, cols] (cols 0: [rows]), I32 or, where dtype is NULL, of a floating type. */
static la_status need_part(const source *from, const char *part, const char *dtype, int64_t rows,
                           int64_t cols, const la_tensor **out) {
    const la_tensor *t = *out = find_part(from, part);
    if (!t)
        return la_tensor_fail(from->err, LA_BAD_INPUT, from->weight,
                              " is packed, and its %s is missing", part + 1);
    if (!dtype)
        LA_TRY(la_tensor_check_float(t, from->err));
    bool fits =
        t->n_dims == (cols ? 2 : 1) && t->shape[0] == rows && (!cols || t->shape[1] == cols);
    if (!fits || (dtype && strcmp(t->dtype_name, dtype)))
        return la_tensor_misfit(from->err, LA_BAD_INPUT, t, "expected %s [%lld, %lld]",
                                dtype ? dtype : "floats", (long long)rows,
                                (long long)(cols ? cols : 1));
    return LA_OK;
}

static uint32_t word_at(const la_tensor *t, int64_t i) {
    uint32_t word;
    memcpy(&word, (const char *)t->data + (size_t)i * sizeof word, sizeof word);
    return word;
}

/* ---- weights ---- */

/* group[in] of the inputs. */
static la_status read_groups(const source *from, int64_t groups, int64_t in, int32_t *group) {
    const la_tensor *index = find_part(from, ".g_idx");
    int64_t size = (in + groups - 1) / groups;
    if (index)
        LA_TRY(need_part(from, ".g_idx", "I32", in, 0, &index));
    for (int64_t i = 0; i < in; i++) {
        group[i] = index ? (int32_t)word_at(index, i) : (int32_t)(i / size);
        if (group[i] < 0 || group[i] >= groups)
            return la_tensor_fail(from->err, LA_BAD_INPUT, index,
                                  ": element %lld is %d, expected 0 to %lld", (long long)i,
                                  group[i], (long long)groups - 1);
    }
    return LA_OK;
}

/* Values of the codes of outputs [first, first + n), in the type of dense: level[groups, n, MOST
 * + 1]. */
static void fill_levels(const la_tensor *zeros, const float *scale, int64_t groups, int64_t out,
                        int64_t first, int64_t n, la_dtype type, char *level) {
    size_t size = la_dtype_size(type);
    for (int64_t g = 0; g < groups; g++)
        for (int64_t o = first; o < first + n; o++) {
            uint32_t zero = word_at(zeros, g * (out / PER_WORD) + o / PER_WORD);
            int from = (int)(((zero >> BITS * (o % PER_WORD) & MOST) + 1) & MOST);
            for (int code = 0; code <= MOST; code++, level += size)
                la_quant_store(scale[g * out + o] * (float)(code - from), type, level);
        }
}

/* dense[out, in], a tile of outputs after the other */
static la_status unpack(const source *from, const la_tensor *zeros, const float *scale,
                        const int32_t *group, int64_t groups, const la_tensor *dense, char *to) {
    int64_t in = dense->shape[1], out = dense->shape[0];
    size_t size = la_dtype_size(dense->dtype);
    char *level = la_alloc((size_t)(groups * TILE * (MOST + 1)), size, from->err);
    for (int64_t first = 0; level && first < out; first += TILE) {
        int64_t n = out - first < TILE ? out - first : TILE;
        fill_levels(zeros, scale, groups, out, first, n, dense->dtype, level);
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = 0; o < n; o++) {
                uint32_t word = word_at(from->weight, i / PER_WORD * out + first + o);
                int64_t code = word >> BITS * (i % PER_WORD) & MOST;
                int64_t at = (group[i] * n + o) * (MOST + 1) + code;
                memcpy(to + (size_t)((first + o) * in + i) * size, level + (size_t)at * size, size);
            }
    }
    free(level);
    return from->err->status;
}

static la_status read(const source *from, la_pool *pool, la_packed *packed) {
    const la_tensor *weight = from->weight, *scales = find_part(from, ".scales"), *zeros;
    if (strcmp(weight->dtype_name, "I32") || weight->n_dims != 2 || !weight->count ||
        weight->shape[1] % PER_WORD)
        return la_tensor_misfit(from->err, LA_BAD_INPUT, weight,
                                "expected a matrix of I32 with a multiple of %d columns", PER_WORD);
    int64_t in = weight->shape[0] * PER_WORD, out = weight->shape[1];
    int64_t groups = scales && scales->n_dims == 2 && scales->shape[0] ? scales->shape[0] : 1;
    LA_TRY(need_part(from, ".scales", NULL, groups, out, &scales));
    LA_TRY(la_tensor_check_finite(scales, from->err));
    LA_TRY(need_part(from, ".qzeros", "I32", groups, out / PER_WORD, &zeros));
    size_t size = la_dtype_size(scales->dtype);
    char *to = la_pool_take(pool, (size_t)(in * out), size, from->err);
    float *scale = la_alloc((size_t)scales->count, sizeof *scale, from->err);
    int32_t *group = la_alloc((size_t)in, sizeof *group, from->err);
    la_status status = from->err->status;
    if (status == LA_OK)
        status = read_groups(from, groups, in, group);
    packed->rows = out;
    packed->cols = in;
    packed->dense = *scales;
    packed->dense.name = weight->name;
    packed->dense.shape[0] = out;
    packed->dense.shape[1] = in;
    packed->dense.count = in * out;
    packed->dense.bytes = (size_t)(in * out) * size;
    packed->dense.data = to;
    if (status == LA_OK) {
        la_dtype_to_f32(scales->dtype, scales->data, scales->count, scale);
        status = unpack(from, zeros, scale, group, groups, &packed->dense, to);
    }
    free(scale);
    free(group);
    return status;
}

const la_packed_format la_packed_gptq = {.method = "gptq",
                                         .read_config = read_config,
                                         .leaf = leaf,
                                         .holds = holds,
                                         .parameters = parameters,
                                         .read = read,
                                         .parts = parts};
