#include "base/random.h"

#include <math.h>

/* Random123 is a header library that triggers some of our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wundef"
#include <Random123/philox.h>
#pragma GCC diagnostic pop

static philox4x32_ctr_t block_at(uint64_t seed, uint64_t stream, uint64_t block) {
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t counter = {
        {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)}};
    return philox4x32(counter, key);
}

/* 4 normal numbers of one block, by Box-Muller on two pairs of 32-bit uniforms in (0, 1). */
static void normal_block(uint64_t seed, uint64_t stream, uint64_t block, double out[4]) {
    philox4x32_ctr_t r = block_at(seed, stream, block);
    for (int pair = 0; pair < 2; pair++) {
        double u = ((double)r.v[2 * pair] + 0.5) * 0x1p-32;
        double angle = 2.0 * M_PI * ((double)r.v[2 * pair + 1] + 0.5) * 0x1p-32;
        double radius = sqrt(-2.0 * log(u));
        out[2 * pair] = radius * cos(angle);
        out[2 * pair + 1] = radius * sin(angle);
    }
}

void la_random_normal(uint64_t seed, uint64_t stream, uint64_t position, size_t n, double *out) {
    double block[4];
    uint64_t held = UINT64_MAX;
    for (size_t i = 0; i < n; i++, position++) {
        if (position / 4 != held) {
            held = position / 4;
            normal_block(seed, stream, held, block);
        }
        out[i] = block[position % 4];
    }
}

void la_random_words(uint64_t seed, uint64_t stream, uint64_t position, uint64_t words[2]) {
    philox4x32_ctr_t r = block_at(seed, stream, position);
    words[0] = ((uint64_t)r.v[0] << 32) | r.v[1];
    words[1] = ((uint64_t)r.v[2] << 32) | r.v[3];
}

uint64_t la_random_below(uint64_t seed, uint64_t stream, uint64_t position, uint64_t bound) {
    uint64_t words[2];
    la_random_words(seed, stream, position, words);
    /* bounds here are powers of two or far below 2^32: the bias of the remainder is below 2^-32 */
    return bound & (bound - 1) ? words[0] % bound : words[0] & (bound - 1);
}

double la_random_uniform(uint64_t seed, uint64_t stream, uint64_t position) {
    enum { BITS = 53 };
    return (double)la_random_below(seed, stream, position, (uint64_t)1 << BITS) * 0x1p-53;
}
