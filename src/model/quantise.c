/* Packing a weight as bitsandbytes does: the same codes and scales, to the bit. Which operations
 * round, and in which order, is part of that. */
#include "model/quantised.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, GROUP = 256, PIECE = 256 };
/* Divisor of bitsandbytes where a block is zero. */
#define LEAST 1e-38f

/* ---- nearest levels ---- */

/* Codes of a kind in rising order of their levels, and the midpoints between neighbours. */
typedef struct ladder {
    int n;
    uint8_t code[256];
    float midpoint[256];
} ladder;

static void ladder_make(ladder *l, const float *levels, int n) {
    l->n = n;
    for (int i = 0; i < n; i++) { /* stable insertion: 0 comes before -0 */
        int at = i;
        for (; at > 0 && levels[l->code[at - 1]] > levels[i]; at--)
            l->code[at] = l->code[at - 1];
        l->code[at] = (uint8_t)i;
    }
    for (int i = 0; i + 1 < n; i++)
        l->midpoint[i] = (levels[l->code[i]] + levels[l->code[i + 1]]) / 2;
}

/* A midpoint itself goes down. */
static uint8_t nearest_of_16(const ladder *l, float x) {
    int above = 0;
    for (int i = 0; i < LA_QUANT_LEVELS - 1; i++)
        above += x > l->midpoint[i];
    return l->code[above];
}

static uint8_t nearest_of_256(const ladder *l, float x) {
    int low = 0, high = l->n - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (x > l->midpoint[middle])
            low = middle + 1;
        else
            high = middle;
    }
    return l->code[low];
}

static float largest(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* x[n] of a block of `whole` into -1 to 1, in place; the scale is returned. A block that is cut
 * short is divided, a whole one multiplied by the reciprocal. */
static float normalise(float *x, int64_t n, int64_t whole) {
    float most = largest(x, n);
    float safe = most < LEAST ? LEAST : most, inverse = 1 / safe;
    for (int64_t i = 0; i < n; i++) {
        float v = n < whole ? x[i] / safe : x[i] * inverse;
        x[i] = v > 1 ? 1 : v < -1 ? -1 : v;
    }
    return n < whole ? safe : most;
}

void la_dynamic_levels(float levels[256]) {
    enum { EXPONENTS = 7 };
    static const double tens[EXPONENTS] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
    int n = 127; /* 127 negative ones, 0, 127 positive ones, 1 */
    levels[n] = 0;
    for (int e = 0; e < EXPONENTS; e++) {
        /* the middles of 2^e parts of 0.1 to 1; edges counted from the nearer end */
        int parts = 1 << e;
        float step = (1.0f - 0.1f) / (float)parts, edge = 0.1f;
        for (int i = 1; i <= parts; i++) {
            float next =
                i < (parts + 1) / 2 ? 0.1f + step * (float)i : 1.0f - step * (float)(parts - i);
            levels[++n] = (edge + next) / 2 * (float)tens[e];
            edge = next;
        }
    }
    for (int i = 1; i <= 127; i++)
        levels[127 - i] = -levels[127 + i];
    levels[255] = 1;
}

/* ---- 4 bits ---- */

/* Scales become what their 8-bit codes give back. The mean is summed in f64: bitsandbytes leaves
 * the order of its f32 sum to the machine. */
static void quantise_scales(float *scale, int64_t n) {
    float levels[256], values[GROUP];
    double sum = 0;
    ladder l;
    la_dynamic_levels(levels);
    ladder_make(&l, levels, 256);
    for (int64_t i = 0; i < n; i++)
        sum += (double)scale[i];
    float offset = (float)(sum / (double)n);
    for (int64_t from = 0; from < n; from += GROUP) {
        int64_t count = n - from < GROUP ? n - from : GROUP;
        for (int64_t i = 0; i < count; i++)
            values[i] = scale[from + i] - offset;
        float group = normalise(values, count, GROUP);
        for (int64_t i = 0; i < count; i++) {
            float scaled = levels[nearest_of_256(&l, values[i])] * group;
            scale[from + i] = scaled + offset;
        }
    }
}

static void pack_four_bit(la_team team, const la_tensor *weight, la_quant_kind kind, uint8_t *codes,
                          float *scale) {
    size_t size = la_dtype_size(weight->dtype);
    int64_t n = weight->count, blocks = (n + BLOCK - 1) / BLOCK;
    ladder l;
    ladder_make(&l, la_quant_levels[kind], LA_QUANT_LEVELS);
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t b = 0; b < blocks; b++) {
        float x[BLOCK] = {0};
        int64_t first = b * BLOCK, count = n - first < BLOCK ? n - first : BLOCK;
        la_dtype_to_f32(weight->dtype, (const char *)weight->data + (size_t)first * size, count, x);
        scale[b] = normalise(x, count, BLOCK);
        for (int64_t i = 0; i < count; i += 2) {
            int high = nearest_of_16(&l, x[i]), low = nearest_of_16(&l, x[i + 1]);
            codes[(first + i) / 2] = (uint8_t)(high << 4 | low);
        }
    }
}

/* ---- 8 bits ---- */

/* Numbers rounded to f16, as bitsandbytes makes of a weight first. */
static void read_halves(const la_tensor *weight, int64_t first, int64_t n, float *x) {
    la_dtype_to_f32(weight->dtype,
                    (const char *)weight->data + (size_t)first * la_dtype_size(weight->dtype), n,
                    x);
    for (int64_t i = 0; i < n; i++)
        x[i] = la_quant_round(LA_F16, x[i]);
}

static void pack_eight_bit(la_team team, const la_tensor *weight, int8_t *codes, float *scale) {
    int64_t rows = weight->shape[0], cols = weight->shape[1];
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t r = 0; r < rows; r++) {
        float x[PIECE], most = 0;
        for (int pass = 0; pass < 2; pass++) {
            float factor = most > 0 ? 1 / most * 127 : 0;
            for (int64_t j = 0; j < cols; j += PIECE) {
                int64_t n = cols - j < PIECE ? cols - j : PIECE;
                read_halves(weight, r * cols + j, n, x);
                if (!pass)
                    most = fmaxf(most, largest(x, n));
                for (int64_t i = 0; pass && i < n; i++)
                    codes[r * cols + j + i] = (int8_t)rintf(x[i] * factor);
            }
        }
        scale[r] = most;
    }
}

la_status la_packed_make(la_team team, const la_tensor *weight, la_base_quant quant, la_pool *pool,
                         la_packed **packed, la_error *err) {
    la_quant_kind kind = la_base_quant_all[quant].kind;
    bool eight = kind == LA_QUANT_INT8;
    int64_t n = weight->count, block = eight ? weight->shape[1] : BLOCK;
    int64_t bytes = eight ? n : (n + 1) / 2,
            n_scales = eight ? weight->shape[0] : (n + BLOCK - 1) / BLOCK;
    la_packed *made = la_pool_take(pool, 1, sizeof *made, err);
    uint8_t *codes = la_pool_take(pool, (size_t)bytes, 1, err);
    float *scale = la_pool_take(pool, (size_t)n_scales, sizeof *scale, err);
    if (!made || !codes || !scale)
        return err->status;
    if (eight)
        pack_eight_bit(team, weight, (int8_t *)codes, scale);
    else
        pack_four_bit(team, weight, kind, codes, scale);
    for (int64_t i = 0; eight && i < n_scales; i++)
        if (!isfinite(scale[i]))
            return la_tensor_fail(
                err, LA_NUMERICAL, weight,
                ": row %lld has a value beyond the range of F16, which int8 needs", (long long)i);
    if (la_base_quant_all[quant].twice)
        quantise_scales(scale, n_scales);
    *made = (la_packed){.quant = {.kind = kind,
                                  /* bitsandbytes returns the type that it was given */
                                  .as = eight || weight->dtype == LA_F64 ? LA_F32 : weight->dtype,
                                  .block = block,
                                  .codes = codes,
                                  .scale = scale},
                        .rows = weight->shape[0],
                        .cols = weight->shape[1],
                        .bytes = bytes,
                        .n_scales = n_scales};
    *packed = made;
    return LA_OK;
}
