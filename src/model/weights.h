/* Other values instead of trained matrices: a network beside the MAP one, on the same device.
 * The MAP weights stay where they are; the model's matrices point to one or the other. */
#ifndef LA_MODEL_WEIGHTS_H
#define LA_MODEL_WEIGHTS_H

#include "model/model.h"

typedef struct la_weights la_weights;

/* Room on the device for the blocks of the model that are marked [n_blocks]. The model must be
 * uploaded and outlive it; there may be one of these at a time. Free with la_weights_close. */
la_status la_weights_open(la_model *model, const bool *marked, la_weights **weights, la_error *err);
/* The network is the MAP one again. */
void la_weights_close(la_weights *weights);

/* Numbers of a network: its marked blocks one behind the other, each [out, in] (a trained bias is
 * the last column). */
int64_t la_weights_count(const la_weights *weights);
/* theta[count] of the MAP network. */
la_status la_weights_read(la_weights *weights, float *theta, la_error *err);
/* The passes that follow are of this network, theta[count], rounded to the types that the device
 * computes with. Nothing is allocated; theta may change once this returns. */
void la_weights_put(la_weights *weights, const float *theta);
/* The passes that follow are of the MAP network. */
void la_weights_restore(la_weights *weights);

#endif
