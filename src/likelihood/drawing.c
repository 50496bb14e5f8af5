/* Monte Carlo over classes, LA_DRAW_PAIRS pairs of draws at a time: every loop over them is one
 * that a compiler makes vectors of. */
#include "likelihood/drawing.h"

#include <math.h>
#include <string.h>

extern const la_drawing la_drawing_table;

enum { PAIRS = LA_DRAW_PAIRS, LANES = LA_DRAW_LANES, BLOCKS = PAIRS / 4 };

/* Adding it rounds to an integer, which is in the low bits then. */
#define ROUNDER 0x1.8p52

static inline uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double double_of(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* exp(x), x at most 0, to 2 ulp; below -708 as there, which no sum with 1 sees. Taylor to r^13 on
 * |r| <= ln 2 / 2: the rest is below 5e-18. */
static inline double exp_of(double x) {
    x = x < -708 ? -708 : x;
    double shifted = x * 0x1.71547652b82fep0 + ROUNDER, n = shifted - ROUNDER;
    double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1;
    p = p * r + 1;
    return p * double_of((bits_of(shifted) + 1023) << 52);
}

/* log(x) of a normal positive x, to 2 ulp: x = 2^e m, m from sqrt(1/2) to sqrt 2, log m = 2 artanh
 * s with s = (m - 1) / (m + 1), of which the terms from s^25 on are below 1e-19. */
static inline double log_of(double x) {
    uint64_t bits = bits_of(x);
    double e = double_of((bits >> 52) | 0x4330000000000000u) - (0x1p52 + 1023);
    double m = double_of((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    double above = m > 0x1.6a09e667f3bcdp0 ? 1 : 0;
    m = m * (1 - 0.5 * above);
    e = e + above;
    double s = (m - 1) / (m + 1), z = s * s;
    double p = 1.0 / 23;
    p = p * z + 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    return e * 0x1.62e42fefa3800p-1 + (e * 0x1.ef35793c76730p-45 + (2 * s + 2 * s * z * p));
}

/* cos and sin of 2 pi t, t in [0, 1], to 2e-16: t is brought to within an eighth of a quarter of a
 * turn exactly; Taylor beyond. */
static inline void turn(double t, double *cosine, double *sine) {
    double shifted = 4 * t + ROUNDER, x = (t - 0.25 * (shifted - ROUNDER)) * (2 * M_PI);
    uint64_t quarter = bits_of(shifted);
    double z = x * x, s = 1.0 / 355687428096000, c = 1.0 / 20922789888000;
    s = s * z - 1.0 / 1307674368000;
    s = s * z + 1.0 / 6227020800;
    s = s * z - 1.0 / 39916800;
    s = s * z + 1.0 / 362880;
    s = s * z - 1.0 / 5040;
    s = s * z + 1.0 / 120;
    s = s * z - 1.0 / 6;
    s = x + x * z * s;
    c = c * z - 1.0 / 87178291200;
    c = c * z + 1.0 / 479001600;
    c = c * z - 1.0 / 3628800;
    c = c * z + 1.0 / 40320;
    c = c * z - 1.0 / 720;
    c = c * z + 1.0 / 24;
    c = 1 - 0.5 * z + z * z * c;
    /* 0 or all bits */
    uint64_t odd = 0 - (quarter & 1), second = quarter >> 1 & 1;
    uint64_t bs = bits_of(s), bc = bits_of(c), swap = (bs ^ bc) & odd;
    *cosine = double_of((bc ^ swap) ^ ((second ^ (quarter & 1)) << 63));
    *sine = double_of((bs ^ swap) ^ (second << 63));
}

/* Philox4x32-10 of BLOCKS counters, then Box-Muller on two pairs of 32-bit uniforms of each, as
 * base/random.c has it. */
static void normals_of(uint64_t seed, uint64_t stream, uint64_t first, double out[PAIRS]) {
    uint32_t v[4][BLOCKS], k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    double z[4][BLOCKS];
    for (int b = 0; b < BLOCKS; b++) {
        uint64_t block = first + (uint64_t)b;
        v[0][b] = (uint32_t)block;
        v[1][b] = (uint32_t)(block >> 32);
        v[2][b] = (uint32_t)stream;
        v[3][b] = (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u)
        for (int b = 0; b < BLOCKS; b++) {
            uint64_t p0 = (uint64_t)0xd2511f53u * v[0][b], p1 = (uint64_t)0xcd9e8d57u * v[2][b];
            v[0][b] = (uint32_t)(p1 >> 32) ^ v[1][b] ^ k0;
            v[1][b] = (uint32_t)p1;
            v[2][b] = (uint32_t)(p0 >> 32) ^ v[3][b] ^ k1;
            v[3][b] = (uint32_t)p0;
        }
    for (int pair = 0; pair < 2; pair++)
        for (int b = 0; b < BLOCKS; b++) {
            double u = ((double)v[2 * pair][b] + 0.5) * 0x1p-32, cosine, sine;
            double radius = sqrt(-2 * log_of(u));
            turn(((double)v[2 * pair + 1][b] + 0.5) * 0x1p-32, &cosine, &sine);
            z[2 * pair][b] = radius * cosine;
            z[2 * pair + 1][b] = radius * sine;
        }
    for (int b = 0; b < BLOCKS; b++)
        for (int k = 0; k < 4; k++)
            out[4 * b + k] = z[k][b];
}

static void normals(uint64_t seed, uint64_t stream, uint64_t first, int64_t n, double *out) {
    for (int64_t i = 0; i < n; i += PAIRS)
        normals_of(seed, stream, first + (uint64_t)(i / 4), out + i);
}

/* sums[LANES] += weight value, in a fixed order. */
static inline void add_lanes(const double *restrict weight, const double *restrict value,
                             double *restrict sums) {
    for (int l = 0; l < LANES; l++)
        sums[l] += (weight[l] * value[l] + weight[LANES + l] * value[LANES + l]) +
                   (weight[2 * LANES + l] * value[2 * LANES + l] +
                    weight[3 * LANES + l] * value[3 * LANES + l]);
}
_Static_assert((int)PAIRS == 4 * LANES, "sums are of four values each");

/* One draw of each pair: f[C, PAIRS] becomes probabilities, which go into the sums. */
static void add_draws(int64_t n_classes, double *f, const double *map_probs,
                      const double weight[PAIRS], double *sums) {
    double top[PAIRS], sum[PAIRS] = {0}, dot[PAIRS] = {0}, square[PAIRS];
    memcpy(top, f, sizeof top);
    for (int64_t c = 1; c < n_classes; c++)
        for (int l = 0; l < PAIRS; l++)
            top[l] = f[c * PAIRS + l] > top[l] ? f[c * PAIRS + l] : top[l];
    for (int64_t c = 0; c < n_classes; c++)
        for (int l = 0; l < PAIRS; l++) {
            double below = f[c * PAIRS + l] - top[l], e = exp_of(below);
            f[c * PAIRS + l] = e;
            sum[l] += e;
            dot[l] += e * below;
        }
    for (int l = 0; l < PAIRS; l++) {
        top[l] = 1 / sum[l];
        dot[l] = log_of(sum[l]) - dot[l] * top[l]; /* entropy */
    }
    for (int64_t c = 0; c < n_classes; c++) {
        double *p = f + c * PAIRS;
        for (int l = 0; l < PAIRS; l++) {
            p[l] *= top[l];
            square[l] = (p[l] - map_probs[c]) * (p[l] - map_probs[c]);
        }
        add_lanes(weight, p, sums + c * LANES);
        add_lanes(weight, square, sums + (n_classes + 1 + c) * LANES);
    }
    add_lanes(weight, dot, sums + n_classes * LANES);
}

static void classes(int64_t n_classes, const double *centre, const double *spread,
                    const double *map_probs, int64_t samples, uint64_t seed, uint64_t stream,
                    double *workspace, double *means) {
    int64_t m = n_classes - 1;
    double *drawn = workspace, *z = drawn + m * PAIRS, *moved = z + m * PAIRS;
    double *f = moved + n_classes * PAIRS, *sums = f + n_classes * PAIRS, weight[PAIRS];
    memset(sums, 0, (size_t)(LANES * (2 * n_classes + 1)) * sizeof *sums);
    for (int64_t from = 0; 2 * from < samples; from += PAIRS) {
        normals(seed, stream, (uint64_t)(from / 4 * m), m * PAIRS, drawn);
        for (int64_t k = 0; k < m; k++)
            for (int l = 0; l < PAIRS; l++)
                z[k * PAIRS + l] = drawn[l * m + k];
        memset(moved, 0, (size_t)(n_classes * PAIRS) * sizeof *moved);
        for (int64_t c = 0; c < n_classes; c++)
            for (int64_t k = 0; k < m; k++)
                for (int l = 0; l < PAIRS; l++)
                    moved[c * PAIRS + l] += spread[c * m + k] * z[k * PAIRS + l];
        for (int negative = 0; negative < 2; negative++) {
            double sign = negative ? -1 : 1;
            for (int l = 0; l < PAIRS;
                 l++) /* the last pairs may not be wanted, or one half of one */
                weight[l] = 2 * (from + l) + negative < samples ? 1 : 0;
            for (int64_t c = 0; c < n_classes; c++)
                for (int l = 0; l < PAIRS; l++)
                    f[c * PAIRS + l] = centre[c] + sign * moved[c * PAIRS + l];
            add_draws(n_classes, f, map_probs, weight, sums);
        }
    }
    for (int64_t i = 0; i <= 2 * n_classes; i++) {
        double sum = 0;
        for (int l = 0; l < LANES; l++)
            sum += sums[i * LANES + l];
        means[i] = sum / (double)samples;
    }
}

const la_drawing la_drawing_table = {.classes = classes, .normals = normals};
