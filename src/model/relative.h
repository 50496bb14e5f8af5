/* Attention that knows distances (arXiv 2006.03654): what a run keeps for it. A table has
 * one line for each distance (or bucket of distances); projections of it, shared with those of the
 * tokens or their own, meet queries and keys. A row reads the lines between its extreme distances:
 * to an adapter of these projections they are inputs as its tokens are. */
#ifndef LA_MODEL_RELATIVE_H
#define LA_MODEL_RELATIVE_H

#include "model/batch.h"
#include "model/model.h"

typedef struct la_run la_run;
typedef struct la_layer_state la_layer_state;

typedef struct la_run_relative {
    /* of the batch at hand: lines [lowest, lowest + n) of the table are read */
    int64_t lowest, n, n_lines;  /* n_lines: over all rows of the batch, E below */
    la_relative form;            /* at, reach and cu of the batch */
    int32_t *ids;                /* [n] the lines */
    int32_t *at, *cu;            /* see la_relative */
    int32_t *cu_all;             /* [n_rows + 1] where the tokens and lines of a row begin */
    int32_t *index;              /* [E] line, counted from the lowest */
    int32_t *token_at, *line_at; /* [T], [E] place in the matrices below */
    la_mat raw, table;           /* [n, d] before and after the norm */
    float *stats;
    la_mat x_lines;        /* [E, d] */
    la_mat x_all;          /* [T + E, d] tokens and lines of each row */
    la_mat state_all;      /* [T + E, state] */
    la_mat state_line;     /* [n, state] workspace */
    la_mat dpos_k, dpos_q; /* [n_rhs E, heads * head_dim] */
    la_mat g_all;          /* [n_rhs (T + E), heads * head_dim] */
    int32_t *host;         /* owned: where the integers above are made */
} la_run_relative;

/* Lines that a row of so many tokens reads, at most. */
int64_t la_relative_lines(const la_config *config, int64_t length);
/* Line of a distance: query's place minus key's. */
int64_t la_relative_line(const la_config *config, int64_t distance);

/* The run's parts, in the order a run calls them; each does nothing where scores do not know
 * distances. */
void la_relative_layout(la_run *run, la_arena *arena);
la_status la_relative_open(la_run *run, la_error *err);
void la_relative_close(la_run *run);
void la_relative_upload(la_run *run, const la_batch *batch);
/* Projections of the table for a layer: s->pos_k, s->pos_q. */
void la_relative_forward(la_run *run, int64_t layer);
/* Sets a->relative; backward: with the cotangents that the layer's adapters want. */
void la_relative_attend(la_run *run, int64_t layer, bool backward, la_attention *a);
/* Whether an adapter of the layer reads the table. */
bool la_relative_adapted(const la_run *run, int64_t layer);
/* Blocks of the adapters that read the table. dq, dk: cotangents of the layer's tokens. */
void la_relative_backward(la_run *run, int64_t layer, const la_mat *dq, const la_mat *dk,
                          const la_block_visitor *visitor);

#endif
