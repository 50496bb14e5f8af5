/* Rotary embedding and attention. */
#include "model/operations.h"

static void rotate(const la_step *s, int64_t n_rhs, int sign, la_mat *x) {
    const la_run *run = s->run;
    const la_config *config = &run->model->config;
    la_backend *be = run->model->be;
    int which = config->plan[s->program->layer].rope;
    const la_rope *rope = &config->rope[which];
    bool pooled = s->program->pruned && !s->op->of_keys, by_length = la_rope_by_length(rope);
    const int32_t *at = pooled      ? (by_length ? run->pooled : run->pooled_at)
                        : by_length ? run->rotary.iota
                                    : run->positions;
    be->ops->rotate(be, s->op->of_keys ? config->kv_heads : config->heads, config->head_dim,
                    rope->dim, run->rotary.angles[which], at, n_rhs, sign, x);
}

void la_rotate_forward(const la_step *s) {
    rotate(s, 1, 1, la_step_out(s));
}

void la_rotate_backward(const la_step *s) {
    rotate(s, s->run->n_rhs, -1, la_step_g(s));
}

/* The batch's rows, as the layer sees them; lines: those of distances, where scores know them. */
static la_attention attention_of(const la_step *s, bool backward, la_relative *lines) {
    const la_run *run = s->run;
    const la_layer_plan *plan = &run->model->config.plan[s->program->layer];
    la_attention a = run->attention;
    a.before = plan->before;
    a.after = plan->after;
    a.scale = (float)plan->score_scale;
    if (s->program->pruned) {
        a.cu_q = run->ones;
        a.q_at = run->pooled_at;
        a.max_queries = 1;
    }
    if (s->op->in[3] < 0 && s->op->in[4] < 0)
        return a;
    *lines = la_distances_of(s, backward);
    a.relative = lines;
    return a;
}

void la_attend_forward(const la_step *s) {
    la_backend *be = s->run->model->be;
    la_relative lines;
    la_attention a = attention_of(s, false, &lines);
    be->ops->attention(be, &a, la_step_in(s, 0), la_step_in(s, 1), la_step_in(s, 2),
                       la_step_keep(s, 0)->data, la_step_out(s));
}

void la_attend_backward(const la_step *s) {
    la_backend *be = s->run->model->be;
    la_relative lines;
    la_attention a = attention_of(s, true, &lines);
    be->ops->attention_backward(be, &a, la_step_in(s, 0), la_step_in(s, 1), la_step_in(s, 2),
                                la_step_keep(s, 0)->data, la_step_out(s), s->run->n_rhs,
                                la_step_g(s), la_step_dx(s, 0), la_step_dx(s, 1), la_step_dx(s, 2));
}
