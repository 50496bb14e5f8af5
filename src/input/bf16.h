/* Rounding to bf16: the upper half of an f32. */
#ifndef LA_INPUT_BF16_H
#define LA_INPUT_BF16_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* To the nearest, ties to even; NaN stays NaN. Here, so that it is compiled for the instructions of
 * its callers. */
static inline void la_f32_to_bf16(const float *in, int64_t count, uint16_t *out) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, in + i, sizeof bits);
        uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        bool nan = (bits & 0x7fffffff) > 0x7f800000;
        out[i] = (uint16_t)(nan ? (bits >> 16) | 0x40 : rounded);
    }
}

#endif
