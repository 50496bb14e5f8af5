/* The random numbers of src/base/random.c on a device: Philox 4x32 with 10 rounds (Salmon et al.,
 * "Parallel random numbers: as easy as 1, 2, 3", 2011), the same key, counter and Box-Muller
 * transform, so that a row's draws are the same whatever computes them (up to the last bits of log,
 * sin and cos). */
#ifndef LA_CUDA_RANDOM_CUH
#define LA_CUDA_RANDOM_CUH

#include "backend.cuh"

#include <math.h>

__device__ __forceinline__ void la_philox(uint64_t seed, uint64_t stream, uint64_t block,
                                          uint32_t out[4]) {
    uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    out[0] = static_cast<uint32_t>(block);
    out[1] = static_cast<uint32_t>(block >> 32);
    out[2] = static_cast<uint32_t>(stream);
    out[3] = static_cast<uint32_t>(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t left = static_cast<uint64_t>(0xD2511F53u) * out[0];
        uint64_t right = static_cast<uint64_t>(0xCD9E8D57u) * out[2];
        uint32_t first = static_cast<uint32_t>(right >> 32) ^ out[1] ^ key[0];
        uint32_t third = static_cast<uint32_t>(left >> 32) ^ out[3] ^ key[1];
        out[0] = first;
        out[1] = static_cast<uint32_t>(right);
        out[2] = third;
        out[3] = static_cast<uint32_t>(left);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
}

/* The standard normal number at a position of a stream: one of the four of its block. */
__device__ __forceinline__ double la_philox_normal(uint64_t seed, uint64_t stream,
                                                   uint64_t position) {
    uint32_t bits[4];
    la_philox(seed, stream, position / 4, bits);
    /* chosen without indexing, which would move the array out of the registers */
    bool second_pair = position & 2;
    double u = (static_cast<double>(second_pair ? bits[2] : bits[0]) + 0.5) * 0x1p-32;
    double v = (static_cast<double>(second_pair ? bits[3] : bits[1]) + 0.5) * 0x1p-32;
    double angle = 2.0 * 3.14159265358979323846 * v, radius = sqrt(-2.0 * log(u));
    return radius * (position & 1 ? sin(angle) : cos(angle));
}

#endif
