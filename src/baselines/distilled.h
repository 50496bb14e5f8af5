/* A row's variance from one forward pass: distilled at fit time from the full posterior's.
 *
 * The covariance of the outputs costs a backward pass a contrast. Its trace over the contrasts is
 * predicted instead, from what a forward pass leaves: outputs and the state that the head's last
 * layer reads. On held-out rows, for each scale of the prior,
 *
 *   log tr cov(x) = w . phi(x),  phi standardised, ridge regression with the intercept free,
 *
 * the penalty by the mean square of the residuals with each row left out, in closed form (Allen's
 * PRESS, Technometrics 16, 1974). phi: entropy, margin and squared length of the outputs and the
 * logarithms of the first and the last; where the rows suffice the probabilities and outputs of
 * each class; the state in its principal directions, and the logarithms of its squared length, of
 * its squared distance from the mean, and of the part of that which the directions leave. The
 * covariance that is used is isotropic, tr cov / m I over the m contrasts, so that it means the
 * same in any basis. Predictions end one unit beyond the range that was seen. */
#ifndef LA_BASELINES_DISTILLED_H
#define LA_BASELINES_DISTILLED_H

#include "base/error.h"
#include "base/team.h"

#include <stdbool.h>
#include <stdint.h>

enum { LA_DISTILLED_RANK_MOST = 32 };

typedef struct la_distilled {
    int64_t n_outputs, n_contrasts; /* C, m */
    int64_t width, rank, n_features, n_scales;
    float *mean;             /* [d] of the states; NULL: nothing is distilled */
    float *vectors;          /* [r, d] directions, over the states' standard deviation there */
    double *values;          /* [r] variances along them, descending */
    double *centre, *spread; /* [F] of the features */
    double *scales;          /* [S] of the prior precisions, relative to those that are stored */
    double *weights;         /* [S, F + 1], the intercept first */
    double *least, *most;    /* [S] of log tr cov on the rows that were seen */
    double explained; /* share of the variance of log tr cov, each row left out; the mean over
                                scales; below 0: less than the mean would */
} la_distilled;

/* Rows whose covariance is known. */
typedef struct la_distilled_rows {
    int64_t n, n_outputs, n_contrasts, width, n_scales;
    const float *outputs; /* [n, C] */
    const float *states;  /* [n, d] */
    const double *scales; /* [S] */
    const double *cov;    /* [S, n, m, m] */
} la_distilled_rows;

/* left_out[S, n, m, m]: the covariances that are predicted of a row by the others. Free with
 * la_distilled_free (also after an error). LA_NUMERICAL where no eigenpairs are found; LA_RESOURCE.
 */
la_status la_distilled_fit(la_team team, const la_distilled_rows *rows, double *left_out,
                           la_distilled *out, la_error *err);
void la_distilled_free(la_distilled *distilled);

/* Number of features; each_class: those of each class are among them. */
int64_t la_distilled_width(int64_t n_contrasts, int64_t rank, bool each_class);
/* Index of a scale, or -1: covariances under it were not distilled. */
int64_t la_distilled_find(const la_distilled *distilled, double scale);
/* features[F] of a row, as they are, not standardised. */
void la_distilled_features(const la_distilled *distilled, const float *outputs, const float *state,
                           double *features);
/* cov[m, m] of a row with these features under scale number `scale`. */
void la_distilled_cov(const la_distilled *distilled, int64_t scale, const double *features,
                      double *cov);

#endif
