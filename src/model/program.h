/* A transformer layer as a list of operations over numbered buffers. The architecture's row, the
 * configuration and what is bound to the layer are compiled into the list once; forward walks it,
 * backward walks it from behind. Pruning, fusion, what is needed, what is kept, and memory are
 * passes over it. A kind of operation is a row of the table in operations.c. */
#ifndef LA_MODEL_PROGRAM_H
#define LA_MODEL_PROGRAM_H

#include "model/model.h"

/* Rows of a buffer. */
typedef enum la_extent {
    LA_TOKENS,  /* T: tokens of the batch */
    LA_QUERIES, /* Q: tokens that go on; the pooled ones where the layer is pruned, else all */
    LA_KEYS,    /* K: tokens, and the virtual ones of a prefix before each row's */
    LA_LINES,   /* L: lines of the table of distances */
    LA_EXTENTS
} la_extent;

typedef enum la_residence {
    LA_GIVEN, /* input and output of the layer: the run places them */
    LA_OWN,   /* memory of this layer alone, from forward to backward */
    LA_FRAME  /* memory that all layers share, one after the other */
} la_residence;

typedef struct la_buffer {
    const char *name;
    la_extent extent;
    int64_t cols;
    int of;       /* buffer whose memory this one is, or is a part of; -1: memory of its own */
    int64_t from; /* first column in it */
    bool f32;     /* statistics are f32 whatever the type of activations */
    bool joint;   /* its cotangent is that part of the cotangent of `of` */
    /* by the passes */
    bool needed; /* its cotangent is */
    bool kept;   /* backward reads it */
    int last;    /* operation that is the last of forward to touch the memory */
    la_residence residence;
    size_t at;      /* bytes into the layer's own memory, or the frame */
    int64_t cot_at; /* bytes into the cotangents' memory; -1: none */
} la_buffer;

/* Operations, in the order of the table in operations.c. */
typedef enum la_op_kind {
    LA_OP_NORM,       /* out = norm(in), head by head where width is less than all */
    LA_OP_LINEAR,     /* out = in W^T + bias, its adapters, + in2 where there is one */
    LA_OP_LINEAR_ACT, /* out = act(in W^T + bias) */
    LA_OP_ACT,        /* out = act(in), or act(in) * in2 */
    LA_OP_ADD,        /* out = in + in2, in place of in */
    LA_OP_BRANCH,     /* out is in: its cotangents are summed before the residual's join them */
    LA_OP_COLUMNS,    /* out is columns of in */
    LA_OP_GATHER,     /* out = the pooled tokens of in */
    LA_OP_ROTATE,     /* out = in, rotated in place */
    LA_OP_EXTEND,     /* out = a prefix and in, row by row */
    LA_OP_DISTANCES,  /* out = projection of the lines of distances; in2: that of the tokens */
    LA_OP_ATTEND,     /* out = attention(q, k, v, projected lines) */
    LA_OP_BOTTLENECK, /* out = in2 + scale U act(D in), in place of in2 where there is one */
    LA_OP_KINDS
} la_op_kind;

enum { LA_OP_INPUTS = 5, LA_OP_KEEPS = 4, LA_OPS_MAX = 48, LA_BUFFERS_MAX = 96 };

typedef struct la_op {
    la_op_kind kind;
    int in[LA_OP_INPUTS]; /* buffers; -1: none */
    int out;
    int all;               /* LINEAR: the buffer over all tokens that in[0] is gathered from */
    int keep[LA_OP_KEEPS]; /* buffers left for its backward, or workspace; -1: none */
    const char *module;    /* name of its parameters, with %lld for the layer; NULL: none */
    const la_linear *linear;
    const la_norm *norm;
    const la_bottleneck *bottleneck;
    la_activation activation;
    int64_t width; /* NORM: columns that are normed together */
    bool of_keys;  /* ROTATE, EXTEND, DISTANCES: of the keys, not queries (or values) */
    bool silent;   /* LINEAR: its blocks are visited by DISTANCES */
    /* by the passes */
    bool wanted;             /* it has a block of the posterior */
    bool active;             /* something wanted is in it or below: it has a backward */
    bool adds[LA_OP_INPUTS]; /* the cotangent of that input has a part already */
} la_op;

typedef struct la_program {
    int64_t layer;
    la_op ops[LA_OPS_MAX];
    int n_ops;
    la_buffer buffers[LA_BUFFERS_MAX];
    int n_buffers, in, out;
    bool pruned; /* queries are the pooled tokens */
    bool active; /* any operation is */
    size_t own_bytes;
} la_program;

/* The buffer whose memory another one is in. */
static inline int la_buffer_root(const la_program *p, int buffer) {
    while (p->buffers[buffer].of >= 0)
        buffer = p->buffers[buffer].of;
    return buffer;
}

/* ---- operations.c ---- */

/* Way from the output's cotangent to that of an input. */
typedef enum la_flow {
    LA_FLOW_NONE,  /* it does not */
    LA_FLOW_APART, /* in memory that is no buffer's */
    LA_FLOW_MADE,  /* in memory of its own, added to what is there */
    LA_FLOW_OVER,  /* the same, in place of the output's where nothing else reads that */
    LA_FLOW_PASS,  /* it is the output's */
    LA_FLOW_JOINT, /* it is a part of the same matrix, or that matrix changed in place */
} la_flow;

enum { LA_READS_OUT = 1 << LA_OP_INPUTS };

typedef struct la_step la_step; /* an operation with its run and the layer's buffers */

typedef struct la_operation {
    const char *name;
    void (*forward)(const la_step *s);  /* NULL: nothing is computed */
    void (*backward)(const la_step *s); /* likewise */
    la_flow flow[LA_OP_INPUTS];
    unsigned reads; /* inputs (bit j: in[j]) and output that backward reads */
    int n_kept;     /* leading entries of keep that it reads; those behind are workspace */
} la_operation;

extern const la_operation la_operations[LA_OP_KINDS];

/* ---- program.c ---- */

/* The layer's list. prune: only the pooled tokens go on after the keys and values. */
void la_program_compile(const la_model *model, int64_t layer, bool prune, la_program *program);

/* ---- program_passes.c ---- */

/* Memory for things that live one after the other: the first gap that is large enough. */
typedef struct la_region {
    struct la_span {
        size_t from, to;
        int uses;
    } live[LA_BUFFERS_MAX]; /* by from */
    int n;
    size_t most; /* bytes that were ever in use */
} la_region;

/* Sets what is needed and kept. below: something wanted is below the layer. */
void la_program_need(const la_model *model, bool below, la_program *program);
/* Bytes of a buffer, at most. */
typedef struct la_capacity {
    int64_t rows[LA_EXTENTS], pooled; /* pooled: of queries of a pruned layer */
    int64_t n_rhs;
    size_t number; /* bytes of an activation */
} la_capacity;
/* Places forward's buffers. apart: all of them are the layer's own; shared: none is. */
void la_program_place(const la_capacity *capacity, bool apart, bool shared, la_region *frame,
                      la_program *program);
/* Places cotangents; *at is where that of the output is, and becomes where that of the input is. */
void la_program_place_cotangents(const la_capacity *capacity, la_region *region, size_t *at,
                                 la_program *program);
size_t la_region_take(la_region *region, size_t bytes);
/* Memory that buffers are placed in. All NULL while memory is planned. */
typedef struct la_bases {
    void *in, *out, *own, *frame, *cotangents;
    la_dtype type; /* type of activations */
} la_bases;
/* The buffers' values and cotangents as matrices, whose rows the batch sets. */
void la_program_bind(const la_program *program, const la_bases *bases, la_mat *values,
                     la_mat *cotangents);
static inline void *la_offset(void *memory, size_t bytes) {
    return memory ? (char *)memory + bytes : NULL;
}
size_t la_buffer_bytes(const la_program *program, int buffer, const la_capacity *capacity);

/* ---- program_text.c ---- */

/* One operation a line: what it gives, of what, its shape, its parameters. A star marks buffers
 * that are kept for backward. */
void la_program_text(const la_model *model, const la_program *program, char *text, size_t size);

#endif
