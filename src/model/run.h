/* Running batches through a model: forward to the logits, backward from cotangents of the logits to
 * the trained blocks. No weight gradients are formed; nothing below the lowest wanted block is
 * differentiated; the last layer works on the pooled tokens only. All memory is planned and
 * allocated by la_run_open. */
#ifndef LA_MODEL_RUN_H
#define LA_MODEL_RUN_H

#include "model/batch.h"
#include "model/distances.h"
#include "model/model.h"
#include "model/program.h"
#include "model/prompt.h"
#include "model/rotary.h"

/* A layer's program with its buffers: their values, and their cotangents [n_rhs * rows, ..]. */
typedef struct la_layer_run {
    la_program program;
    la_mat values[LA_BUFFERS_MAX], cotangents[LA_BUFFERS_MAX];
} la_layer_run;

typedef struct la_run_embedding {
    float *stats;
    la_mat embedded;  /* [T, embedding] before the norm */
    la_mat projected; /* [T, embedding] before the projection to d */
    la_mat site;
    la_mat state[3];      /* [T, r] of LoRA on the tables */
    la_mat one_hot;       /* [T, rows] input of its A, of one table after the other */
    int32_t *one_at[3];   /* [T] where its ones are, of each table */
    float *column;        /* [T] ones */
    int32_t *host_one_at; /* [max_tokens] on the host; NULL where nothing is one-hot */
    la_mat dprojected;    /* [n_rhs T, embedding] */
} la_run_embedding;

typedef struct la_run_head {
    la_mat pooled, state;          /* [n, d] before and after the final norm */
    la_mat all;                    /* [T, d] where the head reads all tokens, or their mean */
    float *stats, *stats_all;      /* statistics of the final norm */
    la_mat in[LA_HEAD_LAYERS + 1]; /* in[n_head]: the logits */
    la_mat pre[LA_HEAD_LAYERS];    /* before the activation */
    la_mat act[LA_HEAD_LAYERS];    /* before the norm */
    float *norm_stats[LA_HEAD_LAYERS];
    la_mat site[LA_HEAD_LAYERS];
    la_mat one[LA_HEAD_LAYERS]; /* input with a 1 behind it, of trained layers with a bias */
    la_mat g[2];                /* cotangents */
    /* for the logits' softcap, on the host; NULL where there is none */
    float *slopes; /* [max_rows, n_classes] */
    float *sloped; /* [n_rhs max_rows, n_classes] cotangents times slopes */
} la_run_head;

typedef struct la_run {
    la_model *model;
    int64_t max_tokens, max_rows, n_rhs;
    int64_t max_packed;  /* with virtual tokens among them */
    bool pruned;         /* the last layer works on the pooled tokens only */
    bool recompute;      /* layers keep their input alone; backward computes the rest again */
    int64_t n_kept;      /* layers that have a backward: the last n_kept */
    int64_t in_frame;    /* recompute: the layer whose values the frame holds */
    void *memory, *host; /* arrays on the device and on the host; owned */
    size_t frame_bytes, cotangent_bytes, dprojected_at;
    la_batch batch;  /* at hand, its arrays on the device */
    int64_t bad_row; /* row of the batch whose logits are not finite, or -1 */
    la_attention attention;
    la_prompt_run prompt;
    la_rotary rotary;
    la_run_distances distances;

    la_run_embedding embedding;
    la_mat stream[2];     /* [T, d] the residual stream through layers that keep nothing */
    la_layer_run *layers; /* owned */
    la_run_head head;
    la_mat site_work, site_all; /* workspace of adapters */
} la_run;

/* Purpose of a run. */
typedef struct la_run_shape {
    int64_t max_rows, max_tokens; /* limits of a batch; max_tokens must hold the longest row */
    int64_t n_rhs;                /* 0: forward only */
    bool all_inputs;    /* the visitor needs the inputs of all tokens (curvature), not only of those
                        with cotangents (predictive) */
    bool recompute;     /* less memory: one more forward in the backward */
    int64_t max_factor; /* side of the largest factor that the visitor sums; 0: none */
} la_run_shape;

/* Bytes of activations that such a run takes on the device, and what workspaces depend on. */
la_status la_run_plan(la_model *model, const la_run_shape *shape, size_t *bytes, la_sizes *sizes,
                      la_error *err);
/* The program of such a run's layers, each different one once, line by line. */
typedef void (*la_line_sink)(void *user, const char *line);
la_status la_run_print(la_model *model, const la_run_shape *shape, la_line_sink sink, void *user,
                       la_error *err);
/* Free with la_run_close. */
la_status la_run_open(la_model *model, const la_run_shape *shape, la_run *run, la_error *err);
void la_run_close(la_run *run);

/* logits[n_rows, n_classes] on the host */
la_status la_run_forward(la_run *run, const la_batch *batch, float *logits, la_error *err);
/* states[n_rows, width] on the host: what the head's last layer read in the last forward; width is
 * la_run_state_width. */
la_status la_run_states(la_run *run, float *states, la_error *err);
int64_t la_run_state_width(const la_model *model);
/* For the batch of the last forward. cotangents[n_rhs n_rows, n_classes] on the host, right-hand
 * side by right-hand side; every wanted block is handed to the visitor once. */
la_status la_run_backward(la_run *run, const float *cotangents, const la_block_visitor *visitor,
                          la_error *err);

/* ---- run_batch.c ---- */

/* Rows of all matrices for a batch, and the batch on the device. */
void la_run_upload(la_run *run, const la_batch *batch);
/* Rows wanted of each embedding table, in the order of the tables; returns the number of tables. */
int la_table_ids(const la_config *config, const int32_t *tokens, const int32_t *positions,
                 const int32_t *types, const int32_t *ids[3]);

/* ---- run_embedding.c ---- */

/* Arrays on the device and on the host. */
void la_run_embedding_layout(la_run *run, la_arena *arena, la_arena *host);
/* Uploads what is the same for every batch. */
la_status la_run_embedding_open(la_run *run, la_error *err);
/* ids -> out[T, d] */
void la_run_embedding_forward(la_run *run, la_mat *out);
/* g[n_rhs T, d] of that -> the blocks of the embeddings; g is overwritten */
void la_run_embedding_backward(la_run *run, la_mat *g, const la_block_visitor *visitor);

/* ---- run_head.c ---- */

void la_run_head_layout(la_run *run, la_arena *arena, la_arena *host);
/* out of the last layer -> logits on the host, not waited for */
void la_run_head_forward(la_run *run, const la_mat *out, float *logits);
/* logits -> softcap(logits) */
void la_run_head_cap(la_run *run, size_t count, float *logits);
/* Cotangents on the host -> the head's blocks; returns those of what the head reads [n_rhs n,
 * d]. */
la_mat la_run_head_backward(la_run *run, const float *cotangents, const la_block_visitor *visitor);
/* Those -> g[n_rhs rows, d] of the last layer's output. */
void la_run_pooling_backward(la_run *run, la_mat *from, const la_mat *out, la_mat *g);

/* ---- operations.c ---- */

/* A layer's list, and the list from behind: the output's cotangent becomes the input's. */
void la_layer_forward(la_run *run, int64_t layer);
void la_layer_backward(la_run *run, int64_t layer, const la_block_visitor *visitor);
/* Backward of a projection; workspaces and what is wanted of its blocks are set here. */
void la_linear_backward(la_run *run, const la_linear *linear, la_site_pass *pass);
/* Input and cotangents of a projection of a batch, those of row r from cu[r] on. */
static inline la_block_io la_run_io(const la_run *run, const la_mat *x, const la_mat *g,
                                    const int32_t *cu) {
    return (la_block_io){.x = x,
                         .cu = cu,
                         .x_at_g = x,
                         .g = g,
                         .cu_g = cu,
                         .g_scale = 1,
                         .n_rows = run->batch.n_rows,
                         .n_rhs = run->n_rhs};
}

/* ---- program_text.c ---- */

/* Programs of a model's layers as text, each different one once. */
void la_program_print(const la_model *model, const la_layer_run *layers, la_line_sink sink,
                      void *user);

#endif
