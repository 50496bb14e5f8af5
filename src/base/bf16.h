/* bf16: the upper half of an f32. Here, so that loops are compiled for the instructions of their
 * callers. */
#ifndef LA_BASE_BF16_H
#define LA_BASE_BF16_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline float la_bf16_wide(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, ties to even; NaN stays NaN. */
static inline uint16_t la_bf16_round(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    return (uint16_t)(nan ? (bits >> 16) | 0x40 : rounded);
}

static inline void la_f32_to_bf16(const float *in, int64_t count, uint16_t *out) {
    for (int64_t i = 0; i < count; i++)
        out[i] = la_bf16_round(in[i]);
}

#endif
