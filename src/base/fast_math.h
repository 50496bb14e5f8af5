/* Single-precision functions written so that the compiler vectorises the loops that call them. */
#ifndef LA_BASE_FAST_MATH_H
#define LA_BASE_FAST_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* exp(x) to about 2 ulp. x is clamped to [-87, 88]. */
static inline float la_expf(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    /* ln 2 in two pieces, so that n * the first is exact */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    /* Taylor to r^7 on |r| <= ln2 / 2: the rest is below 1e-8 */
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    /* a NaN must not reach the conversion to an integer; it stays in p */
    n = n > -127.0f ? n : -127.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* erf(x) to 2e-7 absolute: x times a polynomial of degree 15 in u = 2 x^2 / 3.92^2 - 1 (Chebyshev
 * interpolation of erf(x) / x), clamped where erf is 1 in single precision. */
static inline float la_erff(float x) {
    x = x > 3.92f ? 3.92f : x;
    x = x < -3.92f ? -3.92f : x;
    float u = x * x * (2.0f / (3.92f * 3.92f)) - 1.0f;
    float p = -0.000900001423f;
    p = p * u + 0.00212412318f;
    p = p * u - 0.00119220295f;
    p = p * u + 0.00183337341f;
    p = p * u - 0.00795068727f;
    p = p * u + 0.0143256157f;
    p = p * u - 0.0197848585f;
    p = p * u + 0.0296213683f;
    p = p * u - 0.0435175247f;
    p = p * u + 0.058421589f;
    p = p * u - 0.0740041484f;
    p = p * u + 0.0905929153f;
    p = p * u - 0.109180542f;
    p = p * u + 0.134084793f;
    p = p * u - 0.180108597f;
    p = p * u + 0.360736809f;
    return p * x;
}

static inline float la_sigmoidf(float x) {
    return 1.0f / (1.0f + la_expf(-x));
}

static inline float la_tanhf(float x) {
    return 1.0f - 2.0f / (la_expf(2.0f * x) + 1.0f);
}

#endif
