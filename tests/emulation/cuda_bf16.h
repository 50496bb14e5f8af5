/* bfloat16, for the emulated device. */
#ifndef LA_EMULATION_CUDA_BF16_H
#define LA_EMULATION_CUDA_BF16_H

#include "device_functions.h"

struct __nv_bfloat16_raw {
    unsigned short x;
};

/* round to nearest, ties to even; any NaN becomes CUDA's */
static inline unsigned short la_emulated_bf16_bits(float x) {
    uint32_t bits = la_emulated_bits<uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
static inline float la_emulated_bf16_value(unsigned short bits) {
    return la_emulated_bits<float>(static_cast<uint32_t>(bits) << 16);
}

struct __nv_bfloat16 {
    /* uninitialised, as on a device */
    __nv_bfloat16() = default;
    __nv_bfloat16(const __nv_bfloat16_raw &raw) : bits(raw.x) {
    }
    __nv_bfloat16(float x) : bits(la_emulated_bf16_bits(x)) {
    }
    __nv_bfloat16(double x) : bits(la_emulated_bf16_bits(static_cast<float>(x))) {
    }
    __nv_bfloat16(int x) : bits(la_emulated_bf16_bits(static_cast<float>(x))) {
    }
    operator float() const {
        return la_emulated_bf16_value(bits);
    }
    operator __nv_bfloat16_raw() const {
        return {bits};
    }

  private:
    unsigned short bits;
};
static_assert(sizeof(__nv_bfloat16) == 2, "bfloat16 takes 2 bytes");

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 vx, __nv_bfloat16 vy) : x(vx), y(vy) {
    }
};

typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __float2bfloat16(float x) {
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    return __nv_bfloat16(x);
}
static inline __nv_bfloat16 __double2bfloat16(double x) {
    return __nv_bfloat16(x);
}
static inline float __bfloat162float(__nv_bfloat16 x) {
    return static_cast<float>(x);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return __nv_bfloat162(__nv_bfloat16(x), __nv_bfloat16(y));
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v) {
    return __floats2bfloat162_rn(v.x, v.y);
}
static inline __nv_bfloat162 __float2bfloat162_rn(float x) {
    return __floats2bfloat162_rn(x, x);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v) {
    return make_float2(static_cast<float>(v.x), static_cast<float>(v.y));
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
    return __nv_bfloat162(x, y);
}
static inline float __low2float(__nv_bfloat162 v) {
    return static_cast<float>(v.x);
}
static inline float __high2float(__nv_bfloat162 v) {
    return static_cast<float>(v.y);
}
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) {
    return v.x;
}
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) {
    return v.y;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    return __nv_bfloat16(__nv_bfloat16_raw{bits});
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) {
    return static_cast<__nv_bfloat16_raw>(x).x;
}

#endif
