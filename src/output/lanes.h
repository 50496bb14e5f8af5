/* Several resamples at once: a lane of a vector is a resample, and what is read of a row serves all
 * of them. Sums are made in the order of the rows in each lane, so that the numbers of a resample
 * do not depend on the others. */
#ifndef LA_OUTPUT_LANES_H
#define LA_OUTPUT_LANES_H

#include <stdint.h>
#include <string.h>

/* Functions that give vectors are always inlined: how those are passed differs by processor, */
#define LA_LANES_INLINED static inline __attribute__((always_inline))
/* which GCC says of such functions, too */
#pragma GCC diagnostic ignored "-Wpsabi"

/* Resamples that a call measures, and as many of them at a time as a vector of the machine has
 * room for. */
enum { LA_LANES_AT_ONCE = 8, LA_LANES = __BIGGEST_ALIGNMENT__ / 8 };
_Static_assert(LA_LANES_AT_ONCE % LA_LANES == 0, "resamples that are no whole vectors");

typedef double la_lanes __attribute__((vector_size(LA_LANES * 8), aligned(8)));
typedef int64_t la_lane_masks __attribute__((vector_size(LA_LANES * 8), aligned(8)));
typedef int32_t la_lane_counts __attribute__((vector_size(LA_LANES * 4), aligned(4)));

/* value in the lanes of the mask, otherwise in the others */
#define LA_LANES_WHERE(mask, value, otherwise)                                                     \
    ((la_lanes)(((la_lane_masks)(value) & (mask)) | ((la_lane_masks)(otherwise) & ~(mask))))

LA_LANES_INLINED la_lanes la_lanes_of(double value) {
    return value - (la_lanes){0};
}

/* Copies of a row, of counts [rows, LA_LANES_AT_ONCE]; NULL: one. */
LA_LANES_INLINED la_lanes la_lanes_copies(const uint32_t *count, int64_t row) {
    la_lane_counts copies;
    if (!count)
        return la_lanes_of(1);
    memcpy(&copies, count + row * LA_LANES_AT_ONCE, sizeof copies);
    return __builtin_convertvector(copies, la_lanes);
}

#endif
