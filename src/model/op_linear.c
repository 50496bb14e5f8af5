/* Projections, with what adapters make of them. */
#include "model/operations.h"

void la_linear_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                       const la_mat *residual, la_mat *state, la_mat *y) {
    if (linear->site)
        linear->site->kind->forward(be, linear, x, residual, state, y);
    else
        be->ops->linear(be, x, &linear->w, linear->bias.data ? &linear->bias : NULL, residual, y);
}

void la_linear_backward(la_run *run, const la_linear *linear, const la_linear_pass *pass) {
    la_backend *be = run->model->be;
    const la_site *site = linear->site;
    const la_mat *x = pass->x, *g = pass->g;
    if (!site) {
        if (pass->dx)
            be->ops->linear_backward(be, g, &linear->w, pass->beta, pass->dx);
        return;
    }
    la_site_pass step = {
        .io = {.x = x,
               .cu = pass->cu,
               .x_at_g = pass->x_at_g,
               .g = g,
               .cu_g = pass->cu_g,
               .n_rows = run->n_rows,
               .n_rhs = run->n_rhs},
        .state = pass->state,
        .state_all = la_mat_of(x->type, run->site_all.data, x->rows, site->state_cols),
        .work = la_mat_of(g->type, run->site_work.data, g->rows, site->work_cols),
        .beta = pass->beta,
        .dx = pass->dx,
        .visitor = la_linear_wanted(run->model, linear) ? pass->visitor : NULL,
    };
    site->kind->backward(be, linear, &step);
}

void la_linear_op_forward(const la_step *s) {
    la_linear_forward(s->run->model->be, s->op->linear, la_step_in(s, 0), la_step_in(s, 1),
                      la_step_keep(s, 0), la_step_out(s));
}

/* The input's cotangent; those of the output are g. */
static void input_backward(const la_step *s, la_mat *g) {
    const la_run *run = s->run;
    bool few = s->program->pruned && s->program->buffers[s->op->out].extent == LA_QUERIES;
    const la_mat *x = la_step_in(s, 0), *all = s->op->all < 0 ? x : &s->values[s->op->all];
    la_linear_pass pass = {
        .state = la_step_keep(s, 0),
        .x = all,
        .x_at_g = x,
        .cu = few && x == all ? run->ones : run->cu,
        .g = g,
        .cu_g = few ? run->ones : run->cu,
        .beta = s->op->adds[0],
        .dx = la_step_dx(s, 0),
        .visitor = s->visitor,
    };
    la_linear_backward(s->run, s->op->linear, &pass);
}

void la_linear_op_backward(const la_step *s) {
    input_backward(s, la_step_g(s));
    la_pass_on(s, 1);
}

void la_linear_act_forward(const la_step *s) {
    la_backend *be = s->run->model->be;
    const la_linear *linear = s->op->linear;
    be->ops->linear_activation(be, la_step_in(s, 0), &linear->w,
                               linear->bias.data ? &linear->bias : NULL, s->op->activation,
                               la_step_keep(s, 0), la_step_out(s));
}

void la_linear_act_backward(const la_step *s) {
    la_backend *be = s->run->model->be;
    la_mat *g = la_step_g(s);
    be->ops->activation_backward(be, s->op->activation, la_step_keep(s, 0), NULL, s->run->n_rhs, g,
                                 g, NULL);
    input_backward(s, g);
}
