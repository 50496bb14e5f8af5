#include "backend/quant.h"
#include "base/bf16.h"

#include <math.h>
#include <string.h>

float la_quant_round(la_dtype type, float x) {
    uint32_t bits;
    if (type == LA_BF16)
        return la_bf16_wide(la_bf16_round(x));
    memcpy(&bits, &x, sizeof bits);
    if (type == LA_F16) {
        if (fabsf(x) < 0x1p-14f) /* below the normal numbers they are evenly spaced */
            return rintf(x * 0x1p24f) * 0x1p-24f;
        bits = (bits + 0xfffu + (bits >> 13 & 1)) & 0xffffe000u;
    }
    float rounded;
    memcpy(&rounded, &bits, sizeof rounded);
    return type == LA_F16 && fabsf(rounded) > 65504 ? copysignf(INFINITY, x) : rounded;
}

/* Bits of a number that f16 holds exactly. */
static uint16_t half_bits(float value) {
    float size = fabsf(value);
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    int exponent;
    if (isinf(size))
        return sign | 0x7c00;
    float fraction = frexpf(size, &exponent);
    if (size < 0x1p-14f) /* subnormal or 0, in steps of 2^-24 */
        return (uint16_t)(sign | (uint16_t)ldexpf(size, 24));
    return (uint16_t)(sign | ((exponent + 14) << 10) | ((uint16_t)ldexpf(fraction, 11) & 0x3ff));
}

void la_quant_store(float value, la_dtype type, void *to) {
    float rounded = type == LA_F16 || type == LA_BF16 ? la_quant_round(type, value) : value;
    double wide = (double)rounded;
    uint16_t half;
    switch (type) {
    case LA_F16:
        half = half_bits(rounded);
        memcpy(to, &half, sizeof half);
        break;
    case LA_BF16:
        half = la_bf16_round(value);
        memcpy(to, &half, sizeof half);
        break;
    case LA_F64:
        memcpy(to, &wide, sizeof wide);
        break;
    default:
        memcpy(to, &rounded, sizeof rounded);
    }
}

/* Elements first to first + n of one block: sixteen products serve all of them. */
static void decode_block(const uint8_t *codes, int64_t first, int64_t n, const float *level,
                         float *out) {
    int64_t i = 0;
    if (first & 1 && n)
        out[i++] = level[codes[first / 2] & 15];
    const uint8_t *from = codes + (first + i) / 2;
    int64_t pairs = (n - i) / 2;
    for (int64_t j = 0; j < pairs; j++) {
        out[i + 2 * j] = level[from[j] >> 4];
        out[i + 2 * j + 1] = level[from[j] & 15];
    }
    if ((n - i) & 1)
        out[n - 1] = level[from[pairs] >> 4];
}

static void decode_bytes(const la_mat *w, int64_t first, int64_t n, float *out) {
    const la_quant *q = w->data;
    const int8_t *codes = q->codes;
    for (int64_t at = first, end; at < first + n; at = end) {
        float scale = q->scale[at / q->block];
        end = (at / q->block + 1) * q->block;
        end = end < first + n ? end : first + n;
        for (int64_t e = at; e < end; e++)
            out[e - first] = (float)codes[e] * scale * LA_QUANT_INT8_STEP;
    }
}

void la_quant_decode(const la_mat *w, int64_t first, int64_t n, float *out) {
    const la_quant *q = w->data;
    if (q->kind == LA_QUANT_INT8) {
        decode_bytes(w, first, n, out);
        return;
    }
    for (int64_t at = first, end; at < first + n; at = end) {
        float scale = q->scale[at / q->block], level[LA_QUANT_LEVELS];
        for (int i = 0; i < LA_QUANT_LEVELS; i++)
            level[i] = la_quant_round(q->as, la_quant_levels[q->kind][i] * scale);
        end = (at / q->block + 1) * q->block;
        end = end < first + n ? end : first + n;
        decode_block(q->codes, at, end - at, level, out + (at - first));
    }
}
