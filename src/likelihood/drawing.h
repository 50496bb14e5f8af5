/* Draws of classes, compiled for several sets of instructions; the machine's is taken at run time.
 * All of them compute the same operations in the same order, without contraction: the same bytes.
 */
#ifndef LA_LIKELIHOOD_DRAWING_H
#define LA_LIKELIHOOD_DRAWING_H

#include "base/kernels.h"

#include <stdint.h>

/* Pairs of draws z, -z that are computed at once, and partial sums of each mean. */
enum { LA_DRAW_PAIRS = 32, LA_DRAW_LANES = 8 };

typedef struct la_drawing {
    /* As la_draw_classes. */
    void (*classes)(int64_t n_classes, const double *centre, const double *spread,
                    const double *map_probs, int64_t samples, uint64_t seed, uint64_t stream,
                    double *workspace, double *means);
    /* out[n]: la_random_normal of positions 4 first, 4 first + 1, ..., to 1e-14; n a multiple of
     * LA_DRAW_PAIRS. */
    void (*normals)(uint64_t seed, uint64_t stream, uint64_t first, int64_t n, double *out);
} la_drawing;

/* Those of the machine's instructions; of the best set that is at most `most`. */
const la_drawing *la_drawing_here(void);
const la_drawing *la_drawing_for(la_kernel_level most);

/* Doubles of workspace for draws of C classes. */
static inline int64_t la_draw_workspace(int64_t n_classes) {
    return LA_DRAW_PAIRS * (4 * n_classes - 2) + LA_DRAW_LANES * (2 * n_classes + 1);
}

#endif
