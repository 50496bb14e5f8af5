/* ECE of perfectly calibrated models: the error that chance alone shows in so many rows. */
#ifndef LA_OUTPUT_ECE_NOISE_H
#define LA_OUTPUT_ECE_NOISE_H

#include <stdint.h>

enum { LA_NOISE_DRAWS_MOST = 1000 };

typedef struct la_noise_floor {
    double ece, ece_95; /* mean of the draws, and what 95 % of them stay within */
    double ratio;       /* the ECE found over the mean; NaN where that is 0 */
    double p_value;     /* (1 + draws with as much as found) / (1 + draws) */
} la_noise_floor;

/* Labels are drawn from probabilities [n], `draws` times; found: ECE of the rows themselves, NaN
 * when only the draws are of interest. Depends on its arguments alone, and not on the order of the
 * probabilities, which are sorted in place. */
la_noise_floor la_ece_noise(int64_t n, double *probabilities, double found, int64_t draws,
                            uint64_t seed);

#endif
