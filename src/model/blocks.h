/* Trained blocks: linear maps with an input x and an output cotangent g. */
#ifndef LA_MODEL_BLOCKS_H
#define LA_MODEL_BLOCKS_H

#include "backend/ops.h"

/* Sets of blocks that --params takes or leaves out. */
typedef enum la_block_group {
    LA_GROUP_ADAPTER,
    LA_GROUP_MAGNITUDES, /* norms of directions, which are blocks of their own */
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

/* Some blocks of a model: all that a structure of curvature sees of it. */
typedef struct la_blocks {
    la_backend *be;          /* where x and g are; not owned */
    la_block *list;          /* [n] in the order data passes them */
    int64_t n, n_inputs;     /* inputs are numbered as they come in the list */
    int64_t *index;          /* [blocks of the model] in the list; -1: not in it */
    int64_t n_virtual;       /* tokens in front of every row */
    int64_t rows_each_token; /* most rows of x to a token of a batch */
} la_blocks;

/* Parameters of all blocks. */
int64_t la_blocks_width(const la_blocks *blocks);
/* Parameters of the largest block. */
int64_t la_blocks_largest(const la_blocks *blocks);
/* Frees what la_model_blocks filled; safe after a failure. */
void la_blocks_close(la_blocks *blocks);

#endif
