/* Sites of several adapters on one projection, one inside the other: what each kind's passes need of the
 * ones inside. A state's own columns come first, as a matrix of their own; those of the inner sites lie
 * behind it. */
#include "model/adapter.h"

la_mat la_site_own(const la_site *site, const la_mat *state) {
    return la_mat_of(state->type, state->data, state->rows, site->own_cols);
}

static la_mat rest_of(const la_site *site, const la_mat *state) {
    size_t before = (size_t)(state->rows * site->own_cols) * la_dtype_size(state->type);
    return la_mat_of(state->type, (char *)state->data + before, state->rows,
                     site->inner->state_cols);
}

static la_linear within(const la_linear *linear) {
    la_linear inner = *linear;
    inner.site = linear->site->inner;
    return inner;
}

void la_site_inner_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                           const la_mat *residual, const la_mat *state, la_mat *y) {
    if (!linear->site->inner) {
        be->ops->linear(be, x, &linear->w, linear->bias.data ? &linear->bias : NULL, residual, y);
        return;
    }
    la_linear inner = within(linear);
    la_mat rest = rest_of(linear->site, state);
    inner.site->kind->forward(be, &inner, x, residual, &rest, y);
}

void la_site_inner_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    if (!linear->site->inner) {
        if (pass->dx)
            be->ops->linear_backward(be, pass->io.g, &linear->w, pass->beta, pass->dx);
        return;
    }
    la_linear inner = within(linear);
    la_site_pass step = *pass;
    la_mat state = rest_of(linear->site, pass->state);
    step.state = &state;
    step.state_all = rest_of(linear->site, &pass->state_all);
    step.state_g = rest_of(linear->site, &pass->state_g);
    inner.site->kind->backward(be, &inner, &step);
}

void la_site_ones(la_backend *be, const la_site_pass *pass, la_mat *ones, la_mat *fewer) {
    la_mat nothing = *pass->io.x; /* one behind nothing */
    nothing.cols = 0;
    *ones = la_mat_of(nothing.type, pass->state_all.data, nothing.rows, 1);
    be->ops->append_one(be, &nothing, ones);
    *fewer = *ones;
    fewer->rows = pass->io.x_at_g->rows;
}
