/* Keys and values of a prefix (arXiv 2101.00190) before those of every row. */
#include "model/operations.h"

void la_extend_forward(const la_step *s) {
    la_prompt_extend(s->run->model, &s->run->prompt,
                     la_prompt_part(s->run->model, s->program->layer, s->op->of_keys),
                     la_step_in(s, 0), la_step_out(s));
}

void la_extend_backward(const la_step *s) {
    la_prompt_extend_backward(s->run->model, &s->run->prompt,
                              la_prompt_part(s->run->model, s->program->layer, s->op->of_keys),
                              s->run->n_rhs, la_step_g(s), la_step_dx(s, 0), s->visitor);
}
