/* LoRA on an embedding table: the embedding of token i is E[i] + scale B A e_i, e_i the i-th unit
 * vector. Blocks:
 *   A: input e_i,   cotangent scale B^T g
 *   B: input A e_i, cotangent scale g
 * A's input is as wide as the vocabulary, and so is its factor; beyond LA_EMBEDDING_MOST rows A
 * counts at its trained values and is no block. */
#ifndef LA_MODEL_EMBEDDING_H
#define LA_MODEL_EMBEDDING_H

#include "model/adapter.h"

enum { LA_EMBEDDING_MOST = 4096 };

struct la_embedding {
    la_mat a; /* [rows, r]: A transposed, a table of its own */
    la_mat b; /* [width, r] */
    float scale;
    int64_t blocks[2]; /* numbers in the model's list; -1: A is no block */
};

/* Fills *e and the parameters of A and B from the tensors at module, a table [rows, width];
 * *adapted is false when there are none. Memory from pool. */
la_status la_embedding_bind(la_adapter *adapter, la_pool *pool, const char *module, int64_t rows,
                            int64_t width, la_embedding *e, la_parameter parameters[2],
                            bool *adapted, la_error *err);
/* y[T, width] += the product of the tokens ids[T], leaving state[T, r] = A e. */
void la_embedding_forward(la_backend *be, const la_embedding *e, const int32_t *ids, la_mat *state,
                          la_mat *y);

/* Backward: what is asked of it. */
typedef struct la_embedding_pass {
    la_block_io io;        /* g and the rows; x is filled in here */
    const la_mat *state;   /* [T, r] */
    la_mat state_g;        /* workspace [n_rhs T, r] */
    la_mat one_hot;        /* workspace [T, rows], f32; not used where A is no block */
    const int32_t *one_at; /* [T] places of the ones in it */
    const la_mat *ones;    /* [T, 1] */
    const la_block_visitor *visitor;
} la_embedding_pass;

void la_embedding_backward(la_backend *be, const la_embedding *e, const la_embedding_pass *pass);

#endif
