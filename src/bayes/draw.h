/* Networks drawn from a posterior: theta = theta_MAP + eps, eps ~ N(0, (H + lambda I)^-1), block by
 * block, with Z and W of independent standard normal numbers and h the eigenvalues of H:
 *
 *   kron, ekfac        eps = U_out (Z / sqrt(h + lambda)) U_in^T, a matrix normal for kron
 *   where a factor     eps = (W + U_out ((U_out^T W U_in) (sqrt(lambda / (h + lambda)) - 1))
 *   is cut                   U_in^T) / sqrt(lambda): the rest of the space has variance 1 / lambda
 *   diag               eps = Z / sqrt(h + lambda)
 *   exact, last-layer  eps = (z - V^T diag(1 - sqrt(lambda / (d + lambda))) V z) / sqrt(lambda),
 *                      over all blocks at once, H = V^T diag(d) V
 *
 * The random numbers of a block are a stream of their own: a network is a function of posterior,
 * seed and number, to the last bit, whatever the threads. */
#ifndef LA_BAYES_DRAW_H
#define LA_BAYES_DRAW_H

#include "base/team.h"
#include "bayes/posterior.h"

typedef struct la_draw {
    const la_posterior *posterior;
    uint64_t seed;
    la_team team;
    int64_t largest, width; /* parameters of the largest block, and of all */
    int64_t *offset;        /* [n_blocks] */
    void *memory;           /* the kind's workspace, zeroed when opened */
} la_draw;

/* The posterior must outlive it. Free with la_draw_close. */
la_status la_draw_open(la_team team, const la_posterior *posterior, uint64_t seed, la_draw **draw,
                       la_error *err);
void la_draw_close(la_draw *draw);
/* theta[width] of a network from map[width], both laid out block by block, each [out, in]. Nothing
 * is allocated; one thread at a time may call it, and it uses the team. */
void la_draw_network(la_draw *draw, int64_t number, const float *map, float *theta);

/* ---- for kinds ---- */

/* out[n]: the standard normal numbers of a block of a network. */
void la_draw_normals(const la_draw *draw, int64_t number, int64_t block, int64_t n, float *out);
/* A block of theta = map + scale eps, eps[small, big] smaller side first. */
void la_draw_add(const la_draw *draw, int64_t block, const float *eps, float scale,
                 const float *map, float *theta);

#endif
