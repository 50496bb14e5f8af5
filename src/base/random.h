/* Counter-based random numbers (Philox4x32-10): a draw is a function of seed, stream and position
 * alone, so it is the same on every thread, batch and device. Salmon et al., SC 2011. */
#ifndef LA_BASE_RANDOM_H
#define LA_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* out[0..n): standard normal numbers number position, position + 1, ... of the stream. */
void la_random_normal(uint64_t seed, uint64_t stream, uint64_t position, size_t n, double *out);
/* One number in [0, 1), a multiple of 2^-53. */
double la_random_uniform(uint64_t seed, uint64_t stream, uint64_t position);
/* 128 random bits. */
void la_random_words(uint64_t seed, uint64_t stream, uint64_t position, uint64_t words[2]);
/* One integer in [0, bound), bound > 0. */
uint64_t la_random_below(uint64_t seed, uint64_t stream, uint64_t position, uint64_t bound);

#endif
