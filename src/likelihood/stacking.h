/* Stacking (Wolpert 1992; Yao and others, arXiv 1704.02030, section 3.1): the mean over the MAP
 * model, temperature scaling, a temperature with shrunk class biases, and vector scaling, whose
 * weights have the best log likelihood on held-out rows that each was not fitted to. A rival of the
 * guard. */
#ifndef LA_LIKELIHOOD_STACKING_H
#define LA_LIKELIHOOD_STACKING_H

#include "likelihood/correction.h"

enum { LA_STACKED_MAP, LA_STACKED_TEMPERATURE, LA_STACKED_BIAS, LA_STACKED_VECTOR, LA_STACKED };

typedef struct la_stacking {
    double weights[LA_STACKED]; /* they sum to 1 */
    double temperature;
    la_correction_fit fits[LA_CORRECTION_SCALES];
    double *scale, *bias; /* [C] */
} la_stacking;

/* Fits to rows logits[n, C] in parts: part k is list[starts[k]] to list[starts[k + 1]], and all of
 * list[n] are fitted in the end. n_parts below 2: the weights are equal. Free with
 * la_stacking_free, also after a failure. */
la_status la_stacking_fit(int64_t n_classes, const float *logits, const int64_t *labels,
                          const int64_t *list, const int64_t *starts, int n_parts,
                          la_stacking *stacking, la_error *err);
void la_stacking_free(la_stacking *stacking);
/* probs[C] of logits[C]. workspace: 2 C */
void la_stacking_apply(const la_stacking *stacking, int64_t n_classes, const float *logits,
                       double *workspace, double *probs);

#endif
