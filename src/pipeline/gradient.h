/* Gradient of the log likelihood of rows by the trained blocks, at any network beside the model's
 * own. Blocks alone get weight gradients: of a block [out, in] with inputs x and cotangents g the
 * sum of g^T x over tokens. */
#ifndef LA_PIPELINE_GRADIENT_H
#define LA_PIPELINE_GRADIENT_H

#include "pipeline/row_set.h"

typedef struct la_gradient la_gradient;

/* Of the blocks that params takes, of a session with one right-hand side. Free with
 * la_gradient_close. */
la_status la_gradient_open(la_session *session, la_params params, la_gradient **gradient,
                           la_error *err);
void la_gradient_close(la_gradient *gradient);
/* Numbers of a network: blocks one behind the other, each [out, in]. */
int64_t la_gradient_width(const la_gradient *gradient);
/* theta[width] of the model as it was opened. */
la_status la_gradient_read(la_gradient *gradient, float *theta, la_error *err);
/* The networks that follow are theta[width]. */
void la_gradient_put(la_gradient *gradient, const float *theta);
/* *sum: log likelihood of the job's rows [from, to) under the network at hand; out[width]: its
 * gradient, or NULL: not wanted. */
la_status la_gradient_run(la_gradient *gradient, const la_row_job *job, int64_t from, int64_t to,
                          double *sum, float *out, la_error *err);

#endif
