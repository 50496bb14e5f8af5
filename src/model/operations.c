/* The kinds of operations of a layer program: forward and backward of each, and their table. */
#include "model/run.h"

struct la_step {
    la_run *run;
    la_backend *be;
    const la_program *program;
    const la_op *op;
    la_mat *values, *cotangents;     /* the layer's buffers */
    const la_block_visitor *visitor; /* backward: NULL unless the operation's blocks are wanted */
};

/* Value of an input; NULL: none. */
static la_mat *in(const la_step *s, int input) {
    int buffer = s->op->in[input];
    return buffer < 0 ? NULL : &s->values[buffer];
}
static la_mat *out(const la_step *s) {
    return &s->values[s->op->out];
}
static la_mat *keep(const la_step *s, int number) {
    int buffer = s->op->keep[number];
    return buffer < 0 ? NULL : &s->values[buffer];
}
/* Cotangent of the output. */
static la_mat *out_g(const la_step *s) {
    return &s->cotangents[s->op->out];
}
/* Cotangent of an input; NULL where it is not needed. */
static la_mat *in_g(const la_step *s, int input) {
    int buffer = s->op->in[input];
    return buffer < 0 || !s->program->buffers[buffer].needed ? NULL : &s->cotangents[buffer];
}

/* ---- norms, activations, sums, and the tokens that go on ---- */

/* [T, n width] as one row each width; m has no gaps between rows */
static la_mat by_width(const la_mat *m, int64_t width) {
    return m->cols == width ? *m : la_mat_of(m->type, m->data, m->rows * (m->cols / width), width);
}

static void norm_forward(const la_step *s) {
    la_mat x = by_width(in(s, 0), s->op->width), y = by_width(out(s), s->op->width);
    s->be->ops->norm(s->be, s->op->norm, &x, keep(s, 0)->data, &y);
}

static void norm_backward(const la_step *s) {
    la_mat x = by_width(in(s, 0), s->op->width);
    la_mat g = by_width(out_g(s), s->op->width), dx = by_width(in_g(s, 0), s->op->width);
    s->be->ops->norm_backward(s->be, s->op->norm, &x, keep(s, 0)->data, s->run->n_rhs, &g,
                              s->op->adds[0] ? &dx : NULL, &dx);
}

static void act_forward(const la_step *s) {
    s->be->ops->activation(s->be, s->op->activation, in(s, 0), in(s, 1), out(s));
}

static void act_backward(const la_step *s) {
    s->be->ops->activation_backward(s->be, s->op->activation, in(s, 0), in(s, 1), s->run->n_rhs,
                                    out_g(s), in_g(s, 0), in_g(s, 1));
}

/* in and out are one matrix */
static void add_forward(const la_step *s) {
    s->be->ops->add(s->be, in(s, 1), out(s));
}

/* Adds the cotangent of the output to that of an input, where it is not the same matrix. */
static void pass_on(const la_step *s, int input) {
    if (s->op->adds[input])
        s->be->ops->add(s->be, out_g(s), in_g(s, input));
}

static void pass_backward(const la_step *s) {
    pass_on(s, 0);
    pass_on(s, 1);
}

static void gather_forward(const la_step *s) {
    s->be->ops->gather(s->be, in(s, 0), s->run->batch.pooled, out(s));
}

static void gather_backward(const la_step *s) {
    s->be->ops->scatter(s->be, out_g(s), s->run->n_rhs, s->run->batch.pooled, s->op->adds[0],
                        in_g(s, 0));
}

/* ---- projections, with what adapters make of them ---- */

void la_linear_backward(la_run *run, const la_linear *linear, la_site_pass *pass) {
    const la_site *site = linear->site;
    const la_block_io *io = &pass->io;
    if (site) {
        pass->state_all = la_mat_of(io->x->type, run->site_all.data, io->x->rows, site->state_cols);
        pass->work = la_mat_of(io->g->type, run->site_work.data, io->g->rows, site->work_cols);
        pass->visitor = la_linear_wanted(run->model, linear) ? pass->visitor : NULL;
    }
    la_site_backward(run->model->be, linear, pass);
}

static void linear_forward(const la_step *s) {
    la_linear_forward(s->be, s->op->linear, in(s, 0), in(s, 1), keep(s, 0), out(s));
}

/* The input's cotangent; those of the output are g. */
static void input_backward(const la_step *s, la_mat *g) {
    const la_run *run = s->run;
    bool few = s->program->pruned && s->program->buffers[s->op->out].extent == LA_QUERIES;
    const la_mat *x = in(s, 0);
    la_site_pass pass = {.io = la_run_io(run, x, g, few ? run->batch.ones : run->batch.cu),
                         .state = keep(s, 0),
                         .beta = s->op->adds[0],
                         .dx = in_g(s, 0),
                         .visitor = s->visitor};
    if (s->op->all >= 0) {
        pass.io.x = &s->values[s->op->all];
        pass.io.cu = run->batch.cu;
    }
    la_linear_backward(s->run, s->op->linear, &pass);
}

static void linear_backward(const la_step *s) {
    input_backward(s, out_g(s));
    pass_on(s, 1);
}

static void linear_act_forward(const la_step *s) {
    const la_linear *linear = s->op->linear;
    s->be->ops->linear_activation(s->be, in(s, 0), &linear->w,
                                  linear->bias.data ? &linear->bias : NULL, s->op->activation,
                                  keep(s, 0), out(s));
}

static void linear_act_backward(const la_step *s) {
    la_mat *g = out_g(s);
    s->be->ops->activation_backward(s->be, s->op->activation, keep(s, 0), NULL, s->run->n_rhs, g, g,
                                    NULL);
    input_backward(s, g);
}

/* ---- bottleneck adapters (arXiv 1902.00751, 2005.00247, 2110.04366) ----
 *
 * out = base + scale U [act(D [z; 1]); 1], in place of the base. Blocks:
 *   down: input [z; 1],             cotangent act' * scale U^T g
 *   up:   input [act(D [z; 1]); 1], cotangent scale g */

enum { Z, PRE, WIDE, NARROW };

static void bottleneck_forward(const la_step *s) {
    const la_bottleneck *e = s->op->bottleneck;
    const la_ops *ops = s->be->ops;
    ops->append_one(s->be, in(s, 0), keep(s, Z));
    ops->gemm(s->be, false, true, 1, keep(s, Z), &e->down, 0, keep(s, PRE));
    ops->activation(s->be, e->activation, keep(s, PRE), NULL, keep(s, NARROW));
    ops->append_one(s->be, keep(s, NARROW), keep(s, WIDE));
    ops->gemm(s->be, false, true, e->scale, keep(s, WIDE), &e->up, in(s, 1) ? 1 : 0, out(s));
}

static void visit_bottleneck(const la_step *s, int which, const la_mat *x, const la_mat *g,
                             float scale) {
    la_block_io io =
        la_run_io(s->run, x, g, s->program->pruned ? s->run->batch.ones : s->run->batch.cu);
    io.g_scale = scale;
    if (s->visitor)
        s->visitor->visit(s->visitor->user, s->op->bottleneck->blocks[which], &io);
}

static la_mat without_bias(const la_mat *m) {
    la_mat view = *m;
    view.cols--;
    return view;
}

static void bottleneck_backward(const la_step *s) {
    const la_bottleneck *e = s->op->bottleneck;
    const la_ops *ops = s->be->ops;
    const la_mat *g = out_g(s);
    la_mat *dz = in_g(s, 0), up = without_bias(&e->up), down = without_bias(&e->down);
    la_mat narrow = la_mat_of(g->type, s->run->site_work.data, g->rows, e->down.rows);
    visit_bottleneck(s, 1, keep(s, WIDE), g, e->scale);
    ops->gemm(s->be, false, false, e->scale, g, &up, 0, &narrow);
    ops->activation_backward(s->be, e->activation, keep(s, PRE), NULL, s->run->n_rhs, &narrow,
                             &narrow, NULL);
    visit_bottleneck(s, 0, keep(s, Z), &narrow, 1);
    if (dz)
        ops->gemm(s->be, false, false, 1, &narrow, &down, 0, dz);
    pass_on(s, 1);
}

/* ---- keys and values of a prefix (arXiv 2101.00190) before those of every row ---- */

static void extend_forward(const la_step *s) {
    la_prompt_extend(s->run->model, &s->run->prompt,
                     la_prompt_part(s->run->model, s->program->layer, s->op->of_keys), in(s, 0),
                     out(s));
}

static void extend_backward(const la_step *s) {
    la_prompt_extend_backward(s->run->model, &s->run->prompt,
                              la_prompt_part(s->run->model, s->program->layer, s->op->of_keys),
                              s->run->n_rhs, out_g(s), in_g(s, 0), s->visitor);
}

/* ---- projections of the lines of distances ----
 *
 * To an adapter of these projections the lines that a row reads are inputs as its tokens are: where
 * tokens and lines share a projection, its blocks are visited here with both, row by row. */

static void distances_forward(const la_step *s) {
    la_linear_forward(s->be, s->op->linear, &s->run->distances.table, NULL, keep(s, 0), out(s));
}

/* Cotangents of the lines, row by row [n_rhs E, heads * head_dim]. */
static la_mat lines_cotangent(const la_step *s, bool of_keys) {
    const la_run_distances *r = &s->run->distances;
    const la_mat *to = of_keys ? &r->dpos_k : &r->dpos_q;
    return la_mat_of(to->type, to->data, s->run->n_rhs * r->n_lines, to->cols);
}

/* State left by the adapter's forward, for any kind of it; its other results are not needed. */
static la_mat state_of_lines(const la_step *s, const la_mat *x) {
    const la_run_distances *r = &s->run->distances;
    const la_linear *linear = s->op->linear;
    la_mat state =
        la_mat_of(r->state_all.type, r->state_all.data, x->rows, linear->site->state_cols);
    la_mat unused = la_mat_of(r->g_all.type, r->g_all.data, x->rows, linear->w.rows);
    la_linear_forward(s->be, linear, x, NULL, &state, &unused);
    return state;
}

static void visit_lines(const la_step *s, const la_mat *x, const int32_t *cu, const la_mat *state,
                        const la_mat *g) {
    la_site_pass pass = {.io = la_run_io(s->run, x, g, cu), .state = state, .visitor = s->visitor};
    la_linear_backward(s->run, s->op->linear, &pass);
}

/* A projection that tokens and lines share: both are put together. */
static void visit_shared(const la_step *s, const la_mat *lines) {
    la_run *run = s->run;
    const la_run_distances *r = &run->distances;
    const la_ops *ops = s->be->ops;
    const la_mat *x = in(s, 0), *g = &s->cotangents[s->op->in[1]];
    int64_t all = run->batch.n_tokens + r->n_lines;
    la_mat x_all = la_mat_of(r->x_all.type, r->x_all.data, all, x->cols);
    la_mat g_all = la_mat_of(r->g_all.type, r->g_all.data, run->n_rhs * all, g->cols);
    ops->scatter(s->be, x, 1, r->token_at, false, &x_all);
    ops->scatter(s->be, &r->x_lines, 1, r->line_at, true, &x_all);
    la_mat state = state_of_lines(s, &x_all);
    ops->scatter(s->be, g, run->n_rhs, r->token_at, false, &g_all);
    ops->scatter(s->be, lines, run->n_rhs, r->line_at, true, &g_all);
    visit_lines(s, &x_all, r->cu_all, &state, &g_all);
}

static void distances_backward(const la_step *s) {
    const la_run_distances *r = &s->run->distances;
    la_mat lines = lines_cotangent(s, s->op->of_keys);
    if (s->run->model->config.distances.shared) {
        visit_shared(s, &lines);
        return;
    }
    la_mat state = state_of_lines(s, &r->x_lines);
    visit_lines(s, &r->x_lines, r->cu, &state, &lines);
}

/* ---- rotary embedding and attention ---- */

static void rotate(const la_step *s, int64_t n_rhs, int sign, la_mat *x) {
    const la_run *run = s->run;
    const la_config *config = &run->model->config;
    int which = config->plan[s->program->layer].rope;
    const la_rope *rope = &config->rope[which];
    bool pooled = s->program->pruned && !s->op->of_keys, by_length = la_rope_by_length(rope);
    const int32_t *at = pooled      ? (by_length ? run->batch.pooled : run->batch.pooled_at)
                        : by_length ? run->rotary.iota
                                    : run->batch.positions;
    s->be->ops->rotate(s->be, s->op->of_keys ? config->kv_heads : config->heads, config->head_dim,
                       rope->dim, run->rotary.angles[which], at, n_rhs, sign, x);
}

static void rotate_forward(const la_step *s) {
    rotate(s, 1, 1, out(s));
}

static void rotate_backward(const la_step *s) {
    rotate(s, s->run->n_rhs, -1, out_g(s));
}

/* The batch's rows, as the layer sees them. lines: those of distances where scores know them;
 * backward: with the cotangents that are needed. */
static la_attention attention_of(const la_step *s, bool backward, la_relative *lines) {
    const la_run *run = s->run;
    const la_run_distances *r = &run->distances;
    const la_layer_plan *plan = &run->model->config.plan[s->program->layer];
    const la_mat *pos_q = in(s, 4), *pos_k = in(s, 3);
    la_attention a = run->attention;
    a.before = plan->before;
    a.after = plan->after;
    a.scale = (float)plan->score_scale;
    if (s->program->pruned) {
        a.cu_q = run->batch.ones;
        a.q_at = run->batch.pooled_at;
        a.max_queries = 1;
    }
    if (!pos_q && !pos_k)
        return a;
    *lines = (la_relative){.at = r->at, .reach = r->reach, .cu = r->cu};
    a.relative = lines;
    if (pos_q)
        lines->pos_q = *pos_q;
    if (pos_k)
        lines->pos_k = *pos_k;
    if (backward && in_g(s, 4))
        lines->dpos_q = lines_cotangent(s, false);
    if (backward && in_g(s, 3))
        lines->dpos_k = lines_cotangent(s, true);
    return a;
}

static void attend_forward(const la_step *s) {
    la_relative lines;
    la_attention a = attention_of(s, false, &lines);
    s->be->ops->attention(s->be, &a, in(s, 0), in(s, 1), in(s, 2), keep(s, 0)->data, out(s));
}

static void attend_backward(const la_step *s) {
    la_relative lines;
    la_attention a = attention_of(s, true, &lines);
    s->be->ops->attention_backward(s->be, &a, in(s, 0), in(s, 1), in(s, 2), keep(s, 0)->data,
                                   out(s), s->run->n_rhs, out_g(s), in_g(s, 0), in_g(s, 1),
                                   in_g(s, 2));
}

/* ---- the table, and its walk ---- */

enum { IN0 = 1 << 0, IN1 = 1 << 1, IN2 = 1 << 2, IN3 = 1 << 3, IN4 = 1 << 4 };

const la_operation la_operations[LA_OP_KINDS] = {
    [LA_OP_NORM] = {"norm", norm_forward, norm_backward, {LA_FLOW_OVER}, IN0, 1},
    [LA_OP_LINEAR] =
        {"linear", linear_forward, linear_backward, {LA_FLOW_MADE, LA_FLOW_PASS}, IN0, 1},
    [LA_OP_LINEAR_ACT] =
        {"linear act", linear_act_forward, linear_act_backward, {LA_FLOW_MADE}, 0, 1},
    [LA_OP_ACT] = {"act", act_forward, act_backward, {LA_FLOW_OVER, LA_FLOW_MADE}, IN0 | IN1},
    [LA_OP_ADD] = {"add", add_forward, pass_backward, {LA_FLOW_PASS, LA_FLOW_PASS}},
    [LA_OP_BRANCH] = {"branch", NULL, pass_backward, {LA_FLOW_PASS}},
    [LA_OP_COLUMNS] = {"columns", NULL, NULL, {LA_FLOW_JOINT}},
    [LA_OP_GATHER] = {"gather", gather_forward, gather_backward, {LA_FLOW_MADE}},
    [LA_OP_ROTATE] = {"rotate", rotate_forward, rotate_backward, {LA_FLOW_JOINT}},
    [LA_OP_EXTEND] = {"extend", extend_forward, extend_backward, {LA_FLOW_MADE}},
    [LA_OP_DISTANCES] =
        {"distances", distances_forward, distances_backward, {LA_FLOW_NONE, LA_FLOW_NONE}, IN0},
    [LA_OP_ATTEND] = {"attend",
                      attend_forward,
                      attend_backward,
                      {LA_FLOW_MADE, LA_FLOW_MADE, LA_FLOW_MADE, LA_FLOW_APART, LA_FLOW_APART},
                      IN0 | IN1 | IN2 | IN3 | IN4 | LA_READS_OUT,
                      1},
    [LA_OP_BOTTLENECK] =
        {"bottleneck", bottleneck_forward, bottleneck_backward, {LA_FLOW_MADE, LA_FLOW_PASS}, 0, 3},
};

static la_step step_of(la_run *run, int64_t number) {
    la_layer_run *layer = &run->layers[number];
    return (la_step){.run = run,
                     .be = run->model->be,
                     .program = &layer->program,
                     .values = layer->values,
                     .cotangents = layer->cotangents};
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
