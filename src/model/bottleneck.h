/* Bottleneck adapters of the `adapters` library (arXiv 1902.00751, 2005.00247, 2110.04366): what
 * attention or FFN adds to the residual gets scale U [act(D [z; 1]); 1] beside it. Blocks:
 *   down: input [z; 1],            cotangent act' * scale U^T g
 *   up:   input [act(D [z; 1]); 1], cotangent scale g */
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

/* Matrices that a layer leaves for its backward. */
typedef struct la_bottleneck_state {
    la_mat before; /* [Q, d] the sum without the adapter; of NORMED */
    la_mat z;      /* [Q, d + 1] */
    la_mat pre;    /* [Q, r] */
    la_mat act;    /* [Q, r + 1] */
    la_mat narrow; /* workspace [Q, r] */
    float *stats;  /* of NORMED */
} la_bottleneck_state;

/* Whether the configuration says that a layer has one, behind attention (index 0) or FFN (1). */
bool la_bottleneck_expected(const la_adapter *adapter, int64_t layer, int index);
/* Fills *e and the parameters of down and up from the tensors at module, of a model of width d;
 * *adapted is false when there are none. post_norm: norms come behind the sums. Memory from
 * pool. */
la_status la_bottleneck_bind(la_adapter *adapter, la_pool *pool, const char *module, int64_t d,
                             bool post_norm, la_bottleneck *e, la_parameter parameters[2],
                             bool *adapted, la_error *err);
/* bind_bottleneck.c: both of a layer whose norms are bound */
la_status la_bottleneck_bind_layer(la_binder *b, la_adapter *adapter, int64_t layer, la_error *err);
/* sum[Q, d] += the adapter. Of ADDED, sum holds what is added, and residual is added to it here;
 * the others have it in. norm: the base's; spare[Q, d]. */
void la_bottleneck_forward(la_backend *be, const la_bottleneck *e, const la_norm *norm,
                           const la_mat *residual, la_bottleneck_state *s, la_mat *spare,
                           la_mat *sum);

typedef struct la_bottleneck_pass {
    la_block_io io; /* rows, cu, cu_g, g; x is filled in here */
    const la_norm *norm;
    la_mat narrow;                   /* workspace [n_rhs Q, r] */
    const la_block_visitor *visitor; /* NULL: no block is wanted */
} la_bottleneck_pass;

/* dz[n_rhs Q, d] := the cotangents of z; of NORMED, of the sum, by way of z. */
void la_bottleneck_backward(la_backend *be, const la_bottleneck *e, const la_bottleneck_state *s,
                            const la_bottleneck_pass *pass, la_mat *dz);

#endif
