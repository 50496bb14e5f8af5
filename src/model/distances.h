/* Attention that knows distances (arXiv 2006.03654): what a run keeps for it. A table has one
 * line for each distance (or bucket of distances); projections of it, shared with those of the
 * tokens or their own, meet queries and keys. A row reads the lines between its extreme
 * distances. */
#ifndef LA_MODEL_DISTANCES_H
#define LA_MODEL_DISTANCES_H

#include "model/batch.h"
#include "model/model.h"

typedef struct la_run_distances {
    /* lines [lowest, lowest + n) of the table are read by the batch at hand */
    int64_t lowest, n, n_lines;  /* n_lines: over all rows of the batch, E below */
    int64_t reach;               /* longest row minus one */
    int32_t *ids;                /* [n] the lines */
    int32_t *at, *cu;            /* see la_relative */
    int32_t *cu_all;             /* [n_rows + 1] where the tokens and lines of a row begin */
    int32_t *index;              /* [E] line, counted from the lowest */
    int32_t *token_at, *line_at; /* [T], [E] indices into the matrices below */
    la_mat raw, table;           /* [n, d] before and after the norm */
    float *stats;
    la_mat x_lines;        /* [E, d] */
    la_mat x_all;          /* [T + E, d] tokens and lines of each row */
    la_mat state_all;      /* [T + E, state] */
    la_mat dpos_k, dpos_q; /* [n_rhs E, heads * head_dim] */
    la_mat g_all;          /* [n_rhs (T + E), heads * head_dim] */
    int32_t *host;         /* where the integers above are made */
} la_run_distances;

/* Lines that a row of so many tokens reads, at most. */
int64_t la_distances_lines(const la_config *config, int64_t length);
/* Line of a distance: the query's position minus the key's. */
int64_t la_distances_line(const la_config *config, int64_t distance);

/* A run's part; each does nothing where scores do not know distances. backward: n_rhs, or 0 where
 * no layer has one. */
void la_distances_layout(const la_model *model, int64_t max_rows, int64_t max_tokens,
                         int64_t backward, la_arena *arena, la_arena *host, la_run_distances *r);
/* The integers of a batch, and the lines of the table that it reads. */
void la_distances_upload(const la_model *model, const la_batch *batch, la_run_distances *r);

#endif
