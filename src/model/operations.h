/* The kinds of operations of a layer program: one row each, with its forward, its backward, and
 * what backward reads. */
#ifndef LA_MODEL_OPERATIONS_H
#define LA_MODEL_OPERATIONS_H

#include "model/run.h"

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

/* Context of an operation. */
typedef struct la_step {
    la_run *run;
    const la_program *program;
    const la_op *op;
    la_mat *values, *cotangents;     /* of the layer's buffers */
    const la_block_visitor *visitor; /* backward: NULL unless the operation's blocks are wanted */
} la_step;

typedef struct la_operation {
    const char *name;
    void (*forward)(const la_step *s);  /* NULL: nothing is computed */
    void (*backward)(const la_step *s); /* likewise */
    la_flow flow[LA_OP_INPUTS];
    unsigned reads; /* inputs (bit j: in[j]) and output that backward reads */
    int n_kept;     /* leading entries of keep that it reads; those behind are workspace */
} la_operation;

extern const la_operation la_operations[LA_OP_KINDS];

/* Value of an input; NULL: none. */
static inline la_mat *la_step_in(const la_step *s, int input) {
    int buffer = s->op->in[input];
    return buffer < 0 ? NULL : &s->values[buffer];
}
static inline la_mat *la_step_out(const la_step *s) {
    return &s->values[s->op->out];
}
static inline la_mat *la_step_keep(const la_step *s, int number) {
    int buffer = s->op->keep[number];
    return buffer < 0 ? NULL : &s->values[buffer];
}
/* Cotangent of the output. */
static inline la_mat *la_step_g(const la_step *s) {
    return &s->cotangents[s->op->out];
}
/* Cotangent of an input; NULL where it is not needed. */
static inline la_mat *la_step_dx(const la_step *s, int input) {
    int buffer = s->op->in[input];
    return buffer < 0 || !s->program->buffers[buffer].needed ? NULL : &s->cotangents[buffer];
}

/* op_*.c */
void la_norm_forward(const la_step *s);
void la_norm_backward(const la_step *s);
void la_linear_op_forward(const la_step *s);
void la_linear_op_backward(const la_step *s);
void la_linear_act_forward(const la_step *s);
void la_linear_act_backward(const la_step *s);
void la_act_forward(const la_step *s);
void la_act_backward(const la_step *s);
void la_add_forward(const la_step *s);
void la_pass_backward(const la_step *s);
/* Adds the cotangent of the output to that of an input, where it is not the same matrix. */
void la_pass_on(const la_step *s, int input);
void la_gather_forward(const la_step *s);
void la_gather_backward(const la_step *s);
void la_rotate_forward(const la_step *s);
void la_rotate_backward(const la_step *s);
void la_extend_forward(const la_step *s);
void la_extend_backward(const la_step *s);
void la_distances_forward(const la_step *s);
void la_distances_backward(const la_step *s);
void la_attend_forward(const la_step *s);
void la_attend_backward(const la_step *s);
void la_bottleneck_forward(const la_step *s);
void la_bottleneck_backward(const la_step *s);

/* The lines of distances, for attention; backward: with the cotangents that are needed. */
la_relative la_distances_of(const la_step *s, bool backward);

/* A layer's list, and the list from behind: the output's cotangent becomes the input's. */
void la_layer_forward(la_run *run, int64_t layer);
void la_layer_backward(la_run *run, int64_t layer, const la_block_visitor *visitor);

/* Programs of a model's layers as text, each different one once. */
void la_program_print(const la_model *model, const la_layer_run *layers, la_line_sink sink,
                      void *user);

#endif
