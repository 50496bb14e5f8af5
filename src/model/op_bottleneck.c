/* Bottleneck adapters (arXiv 1902.00751, 2005.00247, 2110.04366): out = base + scale U [act(D
 * [z; 1]); 1], in place of the base. Blocks:
 *   down: input [z; 1],             cotangent act' * scale U^T g
 *   up:   input [act(D [z; 1]); 1], cotangent scale g */
#include "model/operations.h"

enum { Z, PRE, WIDE, NARROW };

void la_bottleneck_forward(const la_step *s) {
    const la_bottleneck *e = s->op->bottleneck;
    la_backend *be = s->run->model->be;
    const la_ops *ops = be->ops;
    la_mat *z = la_step_keep(s, Z), *pre = la_step_keep(s, PRE), *wide = la_step_keep(s, WIDE);
    la_mat *narrow = la_step_keep(s, NARROW);
    ops->append_one(be, la_step_in(s, 0), z);
    ops->gemm(be, false, true, 1, z, &e->down, 0, pre);
    ops->activation(be, e->activation, pre, NULL, narrow);
    ops->append_one(be, narrow, wide);
    ops->gemm(be, false, true, e->scale, wide, &e->up, la_step_in(s, 1) ? 1 : 0, la_step_out(s));
}

static void visit(const la_step *s, int which, const la_mat *x, const la_mat *g, float scale) {
    const la_run *run = s->run;
    const int32_t *cu = s->program->pruned ? run->ones : run->cu;
    if (!s->visitor)
        return;
    la_block_io io = {.x = x,
                      .cu = cu,
                      .x_at_g = x,
                      .g = g,
                      .cu_g = cu,
                      .g_scale = scale,
                      .n_rows = run->n_rows,
                      .n_rhs = run->n_rhs};
    s->visitor->visit(s->visitor->user, s->op->bottleneck->blocks[which], &io);
}

static la_mat without_bias(const la_mat *m) {
    la_mat view = *m;
    view.cols--;
    return view;
}

void la_bottleneck_backward(const la_step *s) {
    const la_bottleneck *e = s->op->bottleneck;
    la_backend *be = s->run->model->be;
    const la_ops *ops = be->ops;
    const la_mat *g = la_step_g(s);
    la_mat *dz = la_step_dx(s, 0), up = without_bias(&e->up), down = without_bias(&e->down);
    la_mat narrow = la_mat_of(g->type, s->run->site_work.data, g->rows, e->down.rows);
    visit(s, 1, la_step_keep(s, WIDE), g, e->scale);
    ops->gemm(be, false, false, e->scale, g, &up, 0, &narrow);
    ops->activation_backward(be, e->activation, la_step_keep(s, PRE), NULL, s->run->n_rhs, &narrow,
                             &narrow, NULL);
    visit(s, 0, la_step_keep(s, Z), &narrow, 1);
    if (dz)
        ops->gemm(be, false, false, 1, &narrow, &down, 0, dz);
    la_pass_on(s, 1);
}
