/* Uncertainty scores of one row of logits[n_classes] (finite); larger means less certain. */
#ifndef LA_BASELINES_SCORES_H
#define LA_BASELINES_SCORES_H

#include "base/error.h"

#include <stdbool.h>

/* 1 - max p, in [0, 1 - 1/C] (Hendrycks, Gimpel, arXiv 1610.02136) */
double la_score_max_softmax(int64_t n_classes, const float *logits);
/* Entropy of softmax(logits) in nats, in [0, log C]. */
double la_score_entropy(int64_t n_classes, const float *logits);
/* The free energy -log sum exp(logits), temperature 1 (Liu et al., arXiv 2010.03759, equation 4).
 * Unlike the other two it sees a common shift of the logits. */
double la_score_energy(int64_t n_classes, const float *logits);

/* Area under the ROC curve of score[n] for positive[n]: the share of (positive, negative) pairs
 * whose positive has the larger score, ties counting half (Mann-Whitney). NaN when either kind is
 * missing. LA_BAD_INPUT in err and NaN when a score is NaN; LA_RESOURCE. */
double la_auroc(int64_t n, const double *score, const bool *positive, la_error *err);

#endif
