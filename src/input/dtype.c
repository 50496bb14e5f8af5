#include "input/dtype.h"
#include "base/bf16.h"

#include <string.h>

size_t la_dtype_size(la_dtype dtype) {
    static const size_t sizes[] = {4, 2, 2, 8, 1, 0};
    return sizes[dtype];
}

static float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u, mantissa = half & 1023u, bits;
    if (exponent == 31)
        bits = sign | 0x7f800000u | (mantissa << 13);
    else if (exponent)
        bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    else {
        float value = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    }
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

void la_dtype_to_f32(la_dtype dtype, const void *in, int64_t count, float *out) {
    const unsigned char *bytes = in;
    switch (dtype) {
    case LA_F32:
        memcpy(out, in, (size_t)count * sizeof(float));
        break;
    case LA_BF16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            memcpy(&half, bytes + 2 * i, sizeof half);
            out[i] = la_bf16_wide(half);
        }
        break;
    case LA_F16:
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            memcpy(&half, bytes + 2 * i, sizeof half);
            out[i] = half_to_float(half);
        }
        break;
    case LA_F64:
        for (int64_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, bytes + 8 * i, sizeof value);
            out[i] = (float)value;
        }
        break;
    case LA_CODES:
    case LA_DTYPE_OTHER:
        break;
    }
}
