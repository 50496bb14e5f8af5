/* Adapted projections: what the model and its passes see of a kind of adapter, whatever it is.
 *
 * A kind is attached to a site (one projection). It computes the projection with what it changes
 * of it, sends cotangents back, and exposes its trained matrices as blocks. On one projection
 * the later of several adapters holds the earlier one inside. */
#ifndef LA_MODEL_SITE_H
#define LA_MODEL_SITE_H

#include "base/memory.h"
#include "model/blocks.h"

typedef struct la_adapter la_adapter;
typedef struct la_adapter_kind la_adapter_kind;

/* Elements of a block [out, in], counted row by row, that a matrix holds: its element (i, j) is
 * number from + i down + j across. All 0: the matrix is the block. */
typedef struct la_cut {
    int64_t from, down, across;
} la_cut;

/* A matrix of an adapter or a trained head. */
typedef struct la_parameter {
    la_mat *value;    /* where operations read it */
    la_block trained; /* the block that it is, or is a part of; no name: it stays as it is stored */
    la_cut cut;
    int64_t block;   /* number of that block in the model's list; -1: none */
    bool of_outputs; /* its rows are the projection's outputs: a head cut down keeps some of them */
    bool reads_input;          /* the block's input is that of the projection */
    bool exact;                /* f32 on every device */
    struct la_parameter *next; /* in the model's list of those with blocks */
} la_parameter;

enum { LA_SITE_PARAMETERS = 6 };

/* An adapted projection. Owned by the model. */
typedef struct la_site {
    const la_adapter_kind *kind;
    const char *module;
    int64_t out, in;
    void *own;             /* the kind's; NULL while binding: it has nothing here */
    struct la_site *inner; /* another adapter's: its output is changed here */
    la_parameter parameters[LA_SITE_PARAMETERS];
    int n_parameters;
    bool per_row;       /* sees one token a row */
    bool of_head;       /* belongs to a head: parameters are f32 and may be cut down */
    int64_t state_cols; /* floats a token that forward leaves for backward, the inner ones' too */
    int state_products; /* matrices as wide as the outputs to be counted to them */
    int64_t own_cols;   /* its own of them, which come first */
    int64_t work_cols;  /* floats a cotangent that backward works with, the inner ones' too; the
                           kind may leave it 0 for state_cols */
    const float *bias;  /* on the host: what it adds to the projection's bias; NULL: nothing */
    const char *alone;  /* feature that admits no other adapter on the projection; NULL: none */
    bool scales_input, scales_output; /* those of the inner sites, biases included */
} la_site;

/* A projection: y = x w^T + bias, and what an adapter makes of it. */
typedef struct la_linear {
    la_mat w;      /* [out, in]; data NULL where the architecture has no such projection */
    la_mat bias;   /* [1, out]; data NULL: none */
    la_site *site; /* NULL: not adapted */
} la_linear;

/* Backward at a site. */
typedef struct la_site_pass {
    la_block_io io;      /* x, x_at_g, g of the projection; g_scale is not used */
    const la_mat *state; /* [Q, state_cols], of the tokens in x_at_g */
    la_mat state_all;    /* workspace [T, state_cols] */
    la_mat work;         /* workspace [n_rhs Q, work_cols] */
    float beta;          /* 0 or 1 */
    la_mat *dx;          /* [n_rhs Q, in] = beta dx + the projection's; NULL when not asked for */
    const la_block_visitor *visitor;
} la_site_pass;

/* y = x w^T + bias + residual (may be NULL), and what the adapters make of it, leaving state (NULL
 * where there are none). */
void la_linear_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                       const la_mat *residual, la_mat *state, la_mat *y);
/* Its backward; state, state_all and work count where there are adapters. */
void la_site_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass);
/* A parameter more, of a site that is being bound; the caller sets what is not 0. */
la_parameter *la_site_add(la_site *site, la_mat *value);
/* Columns [first, first + cols) of a state or of work, which is made of matrices that lie one
 * behind the other. */
la_mat la_site_part(const la_mat *state, int64_t first, int64_t cols);
/* The site's own columns of them. */
la_mat la_site_own(const la_site *site, const la_mat *state);
/* y = the projection as the inner sites have it + residual (may be NULL). state: of linear's
 * site. */
void la_site_inner_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                           const la_mat *residual, const la_mat *state, la_mat *y);
/* Its backward: pass is that of linear's site, with x, g, dx and beta as the inner ones see
 * them. */
void la_site_inner_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass);
/* Hands a block that is a vector to the visitor: its input is 1 at every token, its cotangents
 * g. */
void la_site_visit_vector(la_backend *be, const la_site_pass *pass, int64_t block, const la_mat *g);

/* out[rows, cols] := the matrix as f32 on the host, which is the caller's to free; NULL where it
 * has no data. */
la_status la_mat_read(la_backend *be, const la_mat *m, float **out, la_error *err);
/* The projection with all its adapters as one: weight[out, in] and bias[out] (NULL: none) as f32 on
 * the host, both the caller's to free. */
la_status la_linear_merge(la_backend *be, const la_linear *linear, float **weight, float **bias,
                          la_error *err);

#endif
