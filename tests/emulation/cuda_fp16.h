/* half precision, for the emulated device: storage and conversions. */
#ifndef LA_EMULATION_CUDA_FP16_H
#define LA_EMULATION_CUDA_FP16_H

#include "device_functions.h"

static inline float la_emulated_half_value(unsigned short bits) {
    uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    uint32_t exponent = bits >> 10 & 0x1fu, mantissa = bits & 0x3ffu;
    if (exponent == 0x1f)
        return la_emulated_bits<float>(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) { /* zero and subnormal numbers: multiples of 2^-24 */
        float size = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
        return sign ? -size : size;
    }
    return la_emulated_bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* round to nearest, ties to even */
static inline unsigned short la_emulated_half_bits(float x) {
    uint32_t bits = la_emulated_bits<uint32_t>(x), size = bits & 0x7fffffffu;
    uint32_t sign = bits >> 16 & 0x8000u;
    if (size > 0x7f800000u)
        return 0x7fff;
    if (size >= 0x477ff000u) /* 65520 and above round to infinity */
        return static_cast<unsigned short>(sign | 0x7c00u);
    if (size < 0x38800000u) { /* below 2^-14: let the addition of 0.5 round to 2^-24 */
        float shifted = la_emulated_bits<float>(size) + 0.5f;
        return static_cast<unsigned short>(sign |
                                           (la_emulated_bits<uint32_t>(shifted) - 0x3f000000u));
    }
    uint32_t rounded = size + 0xfffu + (size >> 13 & 1);
    return static_cast<unsigned short>(sign | ((rounded >> 13) - (112u << 10)));
}

struct __half_raw {
    unsigned short x;
};

struct __half {
    __half() = default;
    __half(const __half_raw &raw) : bits(raw.x) {
    }
    __half(float x) : bits(la_emulated_half_bits(x)) {
    }
    operator float() const {
        return la_emulated_half_value(bits);
    }
    operator __half_raw() const {
        return {bits};
    }

  private:
    unsigned short bits;
};
static_assert(sizeof(__half) == 2, "half precision takes 2 bytes");
/* no typedef half: it would shadow variables of that name */

static inline float __half2float(__half x) {
    return static_cast<float>(x);
}
static inline __half __float2half(float x) {
    return __half(x);
}
static inline __half __float2half_rn(float x) {
    return __half(x);
}
static inline __half __ushort_as_half(unsigned short bits) {
    return __half(__half_raw{bits});
}
static inline unsigned short __half_as_ushort(__half x) {
    return static_cast<__half_raw>(x).x;
}

#endif
