/* Bottleneck adapters of the `adapters` library: configuration and tensors. What attention or
 * FFN adds to the residual gets scale U [act(D [z; 1]); 1] beside it (op_bottleneck.c). */
#ifndef LA_MODEL_BOTTLENECK_H
#define LA_MODEL_BOTTLENECK_H

#include "model/adapter.h"

typedef enum la_bottleneck_input {
    LA_BOTTLENECK_ADDED,   /* z: what is added to the residual */
    LA_BOTTLENECK_SUM,     /* the sum */
    LA_BOTTLENECK_NORMED,  /* the base's norm of the sum, which is taken again behind the adapter */
    LA_BOTTLENECK_RESIDUAL /* the residual */
} la_bottleneck_input;

typedef struct la_bottleneck {
    la_bottleneck_input input;
    la_activation activation;
    float scale;
    la_mat down, up;   /* [r, d + 1], [d, r + 1]: biases are the last column */
    int64_t blocks[2]; /* numbers in the model's list */
} la_bottleneck;

/* True when the configuration gives the layer a bottleneck, behind attention (index 0) or FFN
 * (1). */
bool la_bottleneck_expected(const la_adapter *adapter, int64_t layer, int index);
/* Fills *e and the parameters of down and up from the tensors at module, of a model of width d;
 * *adapted is false when there are none. post_norm: norms come behind the sums. Memory from
 * pool. */
la_status la_bottleneck_bind(la_adapter *adapter, la_pool *pool, const char *module, int64_t d,
                             bool post_norm, la_bottleneck *e, la_parameter parameters[2],
                             bool *adapted, la_error *err);
/* bind_bottleneck.c: both of a layer whose norms are bound */
la_status la_bottleneck_bind_layer(la_binder *b, la_adapter *adapter, int64_t layer, la_error *err);
#endif
