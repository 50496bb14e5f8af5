/* Trained blocks: linear maps with an input x and an output cotangent g. Curvature and predictives
 * see nothing else of a model. */
#ifndef LA_MODEL_BLOCKS_H
#define LA_MODEL_BLOCKS_H

#include "backend/ops.h"

/* Sets of blocks that --params takes or leaves out. */
typedef enum la_block_group {
    LA_GROUP_ADAPTER,
    LA_GROUP_MAGNITUDES, /* of directions that are blocks of their own */
    LA_GROUP_HEAD        /* a trained head */
} la_block_group;

/* A trained matrix [out, in] of the adapter or the head. */
typedef struct la_block {
    const char *name;
    int64_t out, in;
    double theta_square; /* squared norm of the trained values */
    int64_t input;       /* blocks with the same number read the same x */
    bool per_row;        /* sees one token a row (pooled state), not all */
    int64_t n_virtual;   /* tokens that it sees in every row, whatever its length; 0: the row's */
    la_block_group group;
    bool wanted; /* part of the posterior */
} la_block;

/* Inputs and cotangents of a block in a batch. */
typedef struct la_block_io {
    const la_mat *x;      /* [T, in] over all tokens the block sees */
    const int32_t *cu;    /* [n_rows + 1] */
    const la_mat *x_at_g; /* [Q, in] the tokens that have cotangents; may be x itself */
    const la_mat *g;      /* [n_rhs Q, out] cotangents of its output, to be multiplied by g_scale */
    const int32_t *cu_g;  /* [n_rows + 1] */
    float g_scale;
    int64_t n_rows, n_rhs;
} la_block_io;

typedef struct la_block_visitor {
    void (*visit)(void *user, int64_t block, const la_block_io *io);
    void *user;
} la_block_visitor;

/* The blocks of a model. */
typedef struct la_blocks {
    la_backend *be;       /* where x and g are */
    const la_block *list; /* [n] in the order data passes them */
    int64_t n, n_inputs;  /* n_inputs: inputs that blocks share have one number */
    int64_t n_virtual;    /* largest n_virtual of all */
} la_blocks;

#endif
