/* Running batches through a model: forward to the logits, backward from cotangents of the logits to
 * the adapted sites. No weight gradients are formed; nothing below the lowest wanted block is
 * differentiated; the last block works on the pooled tokens only. All memory is planned and
 * allocated by la_run_open. */
#ifndef LA_MODEL_RUN_H
#define LA_MODEL_RUN_H

#include "model/batch.h"
#include "model/model.h"
#include "model/prompt.h"
#include "model/relative.h"

/* Columns [from, from + cols) of m. */
static inline la_mat la_mat_columns(const la_mat *m, int64_t from, int64_t cols) {
    la_mat view = *m;
    view.data = (char *)m->data + (size_t)from * la_dtype_size(m->type);
    view.cols = cols;
    return view;
}

/* What a layer leaves for its backward. T tokens come in, Q go out (Q = T, or the pooled tokens in
 * the last layer). */
struct la_layer_state {
    la_mat in;           /* [T, d] the residual stream */
    la_mat a;            /* [T, d] what q, k, v read: in, or its norm */
    la_mat a_q, in_q;    /* [Q, d] the rows of a and in that go on; the same matrices where Q = T */
    la_mat qkv;          /* [T, ..] where the projection is fused: q, k, v one beside the other */
    la_mat q, k, v;      /* [Q, heads * head_dim], [T, kv_heads * head_dim] */
    la_mat q_raw, k_raw; /* before their norms */
    la_mat k_all, v_all; /* [keys, ..] of a prefix and the row, one after the other */
    la_mat context;      /* [Q, heads * head_dim] */
    la_mat attended;     /* [Q, d] what attention adds, before its norm */
    la_mat sum;          /* [Q, d] residual sum after attention */
    la_mat f;            /* [Q, d] what the FFN reads */
    la_mat gate_up;      /* [Q, 2 ffn] where the projection is fused */
    la_mat gate, up;     /* [Q, ffn] */
    la_mat act;          /* [Q, ffn] */
    la_mat added;        /* [Q, d] what the FFN adds, before its norm */
    la_mat sum2;         /* [Q, d] residual sum after the FFN */
    la_mat out;          /* [Q, d] */
    float *stats_a, *stats_f; /* of norm_attention and norm_ffn */
    float *stats_attended, *stats_added, *stats_q, *stats_k;
    float *lse;            /* [Q, heads] of attention */
    la_mat pos_k, pos_q;   /* [lines, heads * head_dim] of the table of distances */
    la_mat site[LA_SLOTS]; /* adapter states */
    la_bottleneck_state bottleneck[2];
};

struct la_run {
    la_model *model;
    int64_t max_tokens, max_rows, n_rhs;
    int64_t max_packed; /* with virtual tokens among them */
    la_prompt_run prompt;
    bool pruned;         /* the last layer works on the pooled tokens only */
    bool recompute;      /* layers keep their input alone; backward computes the rest again */
    int64_t n_kept;      /* layers that keep their state (or input) for backward: the last n_kept */
    int64_t last_shared; /* recompute: the layer whose state the shared buffers hold */
    void *memory;        /* the arena's, on the device */
    /* the batch at hand, on the device */
    int64_t n_rows, n_tokens;
    int64_t bad_row; /* row of the batch whose logits are not finite, or -1 */
    int32_t *ids, *types, *positions, *embed_at, *cu, *pooled, *pooled_at, *ones;
    float *angles[LA_ROPES]; /* rotary, [max_tokens][rope dim / 2][2], by place in the row, or by
                                token where frequencies depend on the row's length */
    int32_t *iota;           /* [max_tokens] 0, 1, 2, ...; only for the latter */
    float *host_angles;      /* likewise; owned */
    int32_t *host_one_at;    /* [max_tokens]; owned; NULL where nothing is one-hot */
    la_attention attention;
    la_run_relative relative;

    la_layer_state *layers; /* those below the lowest wanted layer share memory */
    float *stats_embed;
    la_mat embedded;  /* [T, embedding] before the embedding norm */
    la_mat projected; /* [T, embedding] before the projection to d */
    la_mat embed_site;
    la_mat table_state[3]; /* [T, r] of LoRA on the tables */
    la_mat one_hot;        /* [T, rows] input of its A, of one table after the other */
    int32_t *one_at[3];    /* [T] where its ones are, of each table */
    float *column;         /* [T] ones */
    la_mat spare;          /* [T, d] of bottleneck adapters */
    la_mat stream[2];      /* [T, d] the residual stream through layers that keep nothing */
    la_mat pooled_state, final_state; /* [n, d] before and after the final norm */
    la_mat final_all;                 /* [T, d] where the head reads all tokens, or their mean */
    float *stats_final, *stats_all;
    la_mat head_in[LA_HEAD_LAYERS + 1]; /* head_in[n_head]: the logits */
    la_mat head_pre[LA_HEAD_LAYERS];    /* before the activation */
    la_mat head_act[LA_HEAD_LAYERS];    /* before the norm */
    float *head_stats[LA_HEAD_LAYERS];
    la_mat head_site[LA_HEAD_LAYERS];
    la_mat head_one[LA_HEAD_LAYERS]; /* input with a 1 behind it, of trained layers with a bias */

    /* cotangents, [n_rhs * rows, ..] */
    la_mat bottleneck_g, g, g2, dqkv, dq, dk, dv, dctx, dffn, dgate_up, dup, site_work, site_all,
        head_g[2];
    /* of the logits' softcap, on the host; owned */
    float *slopes; /* [max_rows, n_classes] */
    float *sloped; /* [n_rhs max_rows, n_classes] cotangents times slopes */
};

/* What a run is for. */
typedef struct la_run_shape {
    int64_t max_rows, max_tokens; /* of a batch; max_tokens must hold the longest row */
    int64_t n_rhs;                /* 0: forward only */
    bool all_inputs;    /* the visitor needs the inputs of all tokens (curvature), not only of those
                        with cotangents (predictive) */
    bool recompute;     /* less memory: one more forward in the backward */
    int64_t max_factor; /* side of the largest factor that the visitor sums; 0: none */
} la_run_shape;

/* Bytes of activations that such a run takes on the device, and what workspaces depend on. */
la_status la_run_plan(la_model *model, const la_run_shape *shape, size_t *bytes, la_sizes *sizes,
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

/* block.c: one transformer block, for all architectures */
void la_block_forward(la_run *run, int64_t layer);
/* run->g[n_rhs Q, d] -> run->g[n_rhs T, d], unless the layer is the lowest wanted one */
void la_block_backward(la_run *run, int64_t layer, const la_block_visitor *visitor);

/* y = x w^T + bias + residual, and what the adapter adds */
void la_linear_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                       const la_mat *residual, la_mat *state, la_mat *y);

/* Rotates q (or k, or their cotangents over n_rhs right-hand sides), if the layer does; queries: the
 * rows are the layer's queries, which are the pooled tokens where it is pruned. */
void la_run_rotate(la_run *run, int64_t layer, bool queries, int64_t n_rhs, int sign, la_mat *x);

/* dx = beta dx + g w and the adapter's share, its blocks to the visitor. x: what the projection
 * read, over all its tokens, those of row r from cu[r] on; x_at_g: the rows that have cotangents,
 * one a row when per_row. want_dx false: only the blocks. */
void la_linear_backward(la_run *run, const la_linear *linear, const la_mat *state, const la_mat *x,
                        const la_mat *x_at_g, const int32_t *cu, bool per_row, const la_mat *g,
                        float beta, la_mat *dx, bool want_dx, const la_block_visitor *visitor);

#endif
