#include "model/operations.h"

/* [T, n width] as one row each width; m has no gaps between rows */
static la_mat by_width(const la_mat *m, int64_t width) {
    return m->cols == width ? *m : la_mat_of(m->type, m->data, m->rows * (m->cols / width), width);
}

void la_norm_forward(const la_step *s) {
    la_backend *be = s->run->model->be;
    la_mat x = by_width(la_step_in(s, 0), s->op->width), y = by_width(la_step_out(s), s->op->width);
    be->ops->norm(be, s->op->norm, &x, la_step_keep(s, 0)->data, &y);
}

void la_norm_backward(const la_step *s) {
    la_backend *be = s->run->model->be;
    la_mat x = by_width(la_step_in(s, 0), s->op->width);
    la_mat g = by_width(la_step_g(s), s->op->width), dx = by_width(la_step_dx(s, 0), s->op->width);
    be->ops->norm_backward(be, s->op->norm, &x, la_step_keep(s, 0)->data, s->run->n_rhs, &g,
                           s->op->adds[0] ? &dx : NULL, &dx);
}
