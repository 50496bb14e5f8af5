#include "model/operations.h"

enum { IN0 = 1 << 0, IN1 = 1 << 1, IN2 = 1 << 2, IN3 = 1 << 3, IN4 = 1 << 4 };

const la_operation la_operations[LA_OP_KINDS] = {
    [LA_OP_NORM] = {"norm", la_norm_forward, la_norm_backward, {LA_FLOW_OVER}, IN0, 1},
    [LA_OP_LINEAR] = {"linear",
                      la_linear_op_forward,
                      la_linear_op_backward,
                      {LA_FLOW_MADE, LA_FLOW_PASS},
                      IN0,
                      1},
    [LA_OP_LINEAR_ACT] =
        {"linear act", la_linear_act_forward, la_linear_act_backward, {LA_FLOW_MADE}, 0, 1},
    [LA_OP_ACT] = {"act", la_act_forward, la_act_backward, {LA_FLOW_OVER, LA_FLOW_MADE}, IN0 | IN1},
    [LA_OP_ADD] = {"add", la_add_forward, la_pass_backward, {LA_FLOW_PASS, LA_FLOW_PASS}},
    [LA_OP_BRANCH] = {"branch", NULL, la_pass_backward, {LA_FLOW_PASS}},
    [LA_OP_COLUMNS] = {"columns", NULL, NULL, {LA_FLOW_JOINT}},
    [LA_OP_GATHER] = {"gather", la_gather_forward, la_gather_backward, {LA_FLOW_MADE}},
    [LA_OP_ROTATE] = {"rotate", la_rotate_forward, la_rotate_backward, {LA_FLOW_JOINT}},
    [LA_OP_EXTEND] = {"extend", la_extend_forward, la_extend_backward, {LA_FLOW_MADE}},
    [LA_OP_DISTANCES] = {"distances",
                         la_distances_forward,
                         la_distances_backward,
                         {LA_FLOW_NONE, LA_FLOW_NONE},
                         IN0},
    [LA_OP_ATTEND] = {"attend",
                      la_attend_forward,
                      la_attend_backward,
                      {LA_FLOW_MADE, LA_FLOW_MADE, LA_FLOW_MADE, LA_FLOW_APART, LA_FLOW_APART},
                      IN0 | IN1 | IN2 | IN3 | IN4 | LA_READS_OUT,
                      1},
    [LA_OP_BOTTLENECK] = {"bottleneck",
                          la_bottleneck_forward,
                          la_bottleneck_backward,
                          {LA_FLOW_MADE, LA_FLOW_PASS},
                          0,
                          3},
};

static la_step step_of(la_run *run, int64_t layer) {
    la_layer_run *of = &run->layers[layer];
    return (la_step){
        .run = run, .program = &of->program, .values = of->values, .cotangents = of->cotangents};
}

void la_layer_forward(la_run *run, int64_t layer) {
    la_step step = step_of(run, layer);
    for (int i = 0; i < step.program->n_ops; i++) {
        step.op = &step.program->ops[i];
        if (la_operations[step.op->kind].forward)
            la_operations[step.op->kind].forward(&step);
    }
    if (!step.program->pruned)
        run->in_frame = layer;
}

void la_layer_backward(la_run *run, int64_t layer, const la_block_visitor *visitor) {
    la_step step = step_of(run, layer);
    /* only the layer's input was kept: what it computed from it is computed again */
    if (run->recompute && !step.program->pruned && run->in_frame != layer)
        la_layer_forward(run, layer);
    for (int i = step.program->n_ops - 1; i >= 0; i--) {
        step.op = &step.program->ops[i];
        step.visitor = step.op->wanted && !step.op->silent ? visitor : NULL;
        if (step.op->active && la_operations[step.op->kind].backward)
            la_operations[step.op->kind].backward(&step);
    }
}
