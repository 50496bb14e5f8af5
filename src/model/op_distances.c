/* Projections of the lines of distances. To an adapter of these projections the lines that a row
 * reads are inputs as its tokens are: where tokens and lines share a projection, its blocks are
 * visited here with both, row by row. */
#include "model/operations.h"

void la_distances_forward(const la_step *s) {
    la_linear_forward(s->run->model->be, s->op->linear, &s->run->distances.table, NULL,
                      la_step_keep(s, 0), la_step_out(s));
}

/* Cotangents of the lines, row by row [n_rhs E, heads * head_dim]. */
static la_mat lines_cotangent(const la_step *s, bool of_keys) {
    const la_run_distances *r = &s->run->distances;
    const la_mat *to = of_keys ? &r->dpos_k : &r->dpos_q;
    return la_mat_of(to->type, to->data, s->run->n_rhs * r->n_lines, to->cols);
}

la_relative la_distances_of(const la_step *s, bool backward) {
    const la_run_distances *r = &s->run->distances;
    const la_mat *pos[2] = {la_step_in(s, 4), la_step_in(s, 3)};
    la_relative lines = {.at = r->at, .reach = r->reach, .cu = r->cu};
    if (pos[0])
        lines.pos_q = *pos[0];
    if (pos[1])
        lines.pos_k = *pos[1];
    if (backward && pos[0] && la_step_dx(s, 4))
        lines.dpos_q = lines_cotangent(s, false);
    if (backward && pos[1] && la_step_dx(s, 3))
        lines.dpos_k = lines_cotangent(s, true);
    return lines;
}

/* State left by the adapter's forward, for any kind of it; its other results are not needed. */
static la_mat state_of(const la_step *s, const la_mat *x) {
    const la_run_distances *r = &s->run->distances;
    const la_linear *linear = s->op->linear;
    la_mat state =
        la_mat_of(r->state_all.type, r->state_all.data, x->rows, linear->site->state_cols);
    la_mat unused = la_mat_of(r->g_all.type, r->g_all.data, x->rows, linear->w.rows);
    la_linear_forward(s->run->model->be, linear, x, NULL, &state, &unused);
    return state;
}

static void visit(const la_step *s, const la_mat *x, const int32_t *cu, const la_mat *state,
                  const la_mat *g) {
    la_linear_pass pass = {
        .state = state, .x = x, .x_at_g = x, .cu = cu, .g = g, .cu_g = cu, .visitor = s->visitor};
    la_linear_backward(s->run, s->op->linear, &pass);
}

/* A projection that tokens and lines share: both are put together. */
static void visit_shared(const la_step *s, const la_mat *lines) {
    la_run *run = s->run;
    const la_run_distances *r = &run->distances;
    la_backend *be = run->model->be;
    const la_mat *x = la_step_in(s, 0), *g = &s->cotangents[s->op->in[1]];
    int64_t all = run->n_tokens + r->n_lines;
    la_mat x_all = la_mat_of(r->x_all.type, r->x_all.data, all, x->cols);
    la_mat g_all = la_mat_of(r->g_all.type, r->g_all.data, run->n_rhs * all, g->cols);
    be->ops->scatter(be, x, 1, r->token_at, false, &x_all);
    be->ops->scatter(be, &r->x_lines, 1, r->line_at, true, &x_all);
    la_mat state = state_of(s, &x_all);
    be->ops->scatter(be, g, run->n_rhs, r->token_at, false, &g_all);
    be->ops->scatter(be, lines, run->n_rhs, r->line_at, true, &g_all);
    visit(s, &x_all, r->cu_all, &state, &g_all);
}

void la_distances_backward(const la_step *s) {
    const la_run_distances *r = &s->run->distances;
    la_mat lines = lines_cotangent(s, s->op->of_keys);
    if (s->run->model->config.distances.shared) {
        visit_shared(s, &lines);
        return;
    }
    la_mat state = state_of(s, &r->x_lines);
    visit(s, &r->x_lines, r->cu, &state, &lines);
}
