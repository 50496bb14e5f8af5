/* Temperature scaling and vector scaling of logits (Guo, Pleiss, Sun, Weinberger, arXiv 1706.04599,
 * section 4.2): softmax(f / T) and softmax(w .* f + b), fitted to held-out rows by the mean
 * negative log likelihood (nats).
 *
 * Errors: LA_BAD_INPUT for no rows, fewer than two classes, logits that are not finite or labels
 * outside [0, n_classes); LA_RESOURCE; LA_NUMERICAL when Newton's method finds no minimum. */
#ifndef LA_LIKELIHOOD_SCALING_H
#define LA_LIKELIHOOD_SCALING_H

#include "base/error.h"

/* logits[n, n_classes], labels[n]. *temperature: the minimum over [1e-2, 1e2]; the NLL is convex in
 * 1/T. Rows that are all right would have T = 0 and get 1e-2; rows that are worse than the uniform
 * answer at every T get 1e2. 1 when all temperatures are equally good (rows of equal logits). */
la_status la_temperature_scaling_fit(int64_t n, int64_t n_classes, const float *logits,
                                     const int64_t *labels, double *temperature, la_error *err);
/* probs[n_classes] = softmax(logits / temperature) */
void la_temperature_scaling_apply(int64_t n_classes, double temperature, const float *logits,
                                  double *probs);

/* logits[n, n_classes], labels[n] to scale[n_classes] and bias[n_classes], the minimum of
 *   mean NLL + 0.5e-6 (|scale - 1|^2 + |bias|^2).
 * The ridge makes it unique and finite for separable rows and for classes without rows; the biases
 * add up to 0. */
la_status la_vector_scaling_fit(int64_t n, int64_t n_classes, const float *logits,
                                const int64_t *labels, double *scale, double *bias, la_error *err);
/* probs[n_classes] = softmax(scale .* logits + bias) */
void la_vector_scaling_apply(int64_t n_classes, const double *scale, const double *bias,
                             const float *logits, double *probs);

#endif
