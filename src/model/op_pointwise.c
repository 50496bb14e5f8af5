/* Activations, sums, and the tokens that go on. */
#include "model/operations.h"

void la_act_forward(const la_step *s) {
    la_backend *be = s->run->model->be;
    be->ops->activation(be, s->op->activation, la_step_in(s, 0), la_step_in(s, 1), la_step_out(s));
}

void la_act_backward(const la_step *s) {
    la_backend *be = s->run->model->be;
    be->ops->activation_backward(be, s->op->activation, la_step_in(s, 0), la_step_in(s, 1),
                                 s->run->n_rhs, la_step_g(s), la_step_dx(s, 0), la_step_dx(s, 1));
}

/* in and out are one matrix */
void la_add_forward(const la_step *s) {
    la_backend *be = s->run->model->be;
    be->ops->add(be, la_step_in(s, 1), la_step_out(s));
}

void la_pass_on(const la_step *s, int input) {
    la_backend *be = s->run->model->be;
    if (s->op->adds[input])
        be->ops->add(be, la_step_g(s), la_step_dx(s, input));
}

void la_pass_backward(const la_step *s) {
    la_pass_on(s, 0);
    la_pass_on(s, 1);
}

void la_gather_forward(const la_step *s) {
    la_backend *be = s->run->model->be;
    be->ops->gather(be, la_step_in(s, 0), s->run->pooled, la_step_out(s));
}

void la_gather_backward(const la_step *s) {
    la_backend *be = s->run->model->be;
    be->ops->scatter(be, la_step_g(s), s->run->n_rhs, s->run->pooled, s->op->adds[0],
                     la_step_dx(s, 0));
}
