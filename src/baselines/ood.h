/* Distance of a row's state (what the head's last layer reads) to the calibration rows, and the
 * share of reference rows that lie nearer than it.
 *
 * Rows are in groups: those of a class, and together those of classes with a single row; without
 * classes all are one group. With means mu_g[G, d] and the pooled covariance
 *
 *   S = 1/n sum_i (x_i - mu_g(i)) (x_i - mu_g(i))^T,  W = (1 - r) S + r (tr S / d) I,
 *
 * r the oracle approximating shrinkage of baselines/mahalanobis.h, the distance is that of Lee et
 * al. (arXiv 1807.03888, equation 2), min_g (x - mu_g)^T W^-1 (x - mu_g). W is kept by its k
 * largest eigenpairs and the mean s of the others (Tipping and Bishop, J. R. Stat. Soc. B 61, 1999,
 * equation 8): W = U diag(l) U^T + s (I - U U^T). k: as few as have LA_OOD_SHARE of the trace, at
 * most LA_OOD_RANK_MOST.
 *
 * The relative distance (arXiv 2106.09022) ranks no better where all eigenpairs are kept, needs two
 * covariances, and is lost where small ones are cut, so that it is no part of this. */
#ifndef LA_BASELINES_OOD_H
#define LA_BASELINES_OOD_H

#include "base/team.h"

#include <stdbool.h>

enum { LA_OOD_RANK_MOST = 256, LA_OOD_TABLE_MOST = 1000 };
#define LA_OOD_SHARE 0.99

typedef struct la_ood {
    int64_t n_groups, rank, width; /* G, k, d */
    float *means;                  /* [G, d]; NULL: there is no distance */
    float *vectors;                /* [k, d] U^T; NULL where k is 0 */
    double *values;                /* [k] l, descending; NULL where k is 0 */
    double rest;                   /* s */
    int64_t n_table;
    double *table;       /* [n_table] distances of reference rows, ascending: all, or quantiles */
    int64_t n_reference; /* reference rows */
    int held_out;        /* they are held-out rows, not cross-fitted calibration rows */
} la_ood;

/* Everything but the table, from states[n, d] and labels[n] in [0, n_classes), or labels NULL: one
 * group. list[n]: the rows of states and labels that count; NULL: the first n. Where states do not
 * vary, W is the identity. Free with la_ood_free (also after an error). Errors: LA_BAD_INPUT for no
 * rows or states that are not finite; LA_NUMERICAL where the eigenpairs are not found;
 * LA_RESOURCE. */
la_status la_ood_fit(la_team team, int64_t n, const int64_t *list, int64_t width,
                     const float *states, int64_t n_classes, const int64_t *labels, la_ood *out,
                     la_error *err);
void la_ood_free(la_ood *ood);

/* Table of distances[n], which are sorted. */
la_status la_ood_set_table(la_ood *ood, int64_t n, double *distances, bool held_out, la_error *err);

/* projected[G, k] = means U, which distances need. */
void la_ood_project(const la_ood *ood, double *projected);
/* Squared distance of a state[d], at least 0; workspace[k]. */
double la_ood_distance(const la_ood *ood, const double *projected, const float *state,
                       double *workspace);
/* Share of the reference rows that lie nearer than that. */
double la_ood_share(const la_ood *ood, double distance);

#endif
