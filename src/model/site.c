/* Sites of several adapters on one projection, one inside the other: what each kind's passes
 * need of the ones inside. A state's own columns come first, as a matrix of their own; those of
 * the inner sites lie behind it. */
#include "model/site.h"
#include "model/adapter.h"

#include <stdlib.h>

la_parameter *la_site_add(la_site *site, la_mat *value) {
    la_parameter *parameter = &site->parameters[site->n_parameters++];
    *parameter = (la_parameter){.value = value, .block = -1};
    return parameter;
}

la_mat la_site_part(const la_mat *state, int64_t first, int64_t cols) {
    size_t before = (size_t)(state->rows * first) * la_dtype_size(state->type);
    return la_mat_of(state->type, (char *)state->data + before, state->rows, cols);
}

la_mat la_site_own(const la_site *site, const la_mat *state) {
    return la_site_part(state, 0, site->own_cols);
}

static la_mat rest_of(const la_site *site, const la_mat *state) {
    return la_site_part(state, site->own_cols, state->cols - site->own_cols);
}

static la_linear within(const la_linear *linear) {
    la_linear inner = *linear;
    inner.site = linear->site->inner;
    return inner;
}

void la_linear_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                       const la_mat *residual, la_mat *state, la_mat *y) {
    if (linear->site)
        linear->site->kind->forward(be, linear, x, residual, state, y);
    else
        be->ops->linear(be, x, &linear->w, linear->bias.data ? &linear->bias : NULL, residual, y);
}

void la_site_inner_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                           const la_mat *residual, const la_mat *state, la_mat *y) {
    la_linear inner = within(linear);
    la_mat rest = rest_of(linear->site, state);
    la_linear_forward(be, &inner, x, residual, &rest, y);
}

void la_site_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    if (linear->site)
        linear->site->kind->backward(be, linear, pass);
    else if (pass->dx)
        be->ops->linear_backward(be, pass->io.g, &linear->w, pass->beta, pass->dx);
}

void la_site_inner_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    la_linear inner = within(linear);
    la_site_pass step = *pass;
    la_mat state = rest_of(linear->site, pass->state);
    step.state = &state;
    step.state_all = rest_of(linear->site, &pass->state_all);
    step.work = rest_of(linear->site, &pass->work);
    la_site_backward(be, &inner, &step);
}

void la_site_visit_vector(la_backend *be, const la_site_pass *pass, int64_t block,
                          const la_mat *g) {
    la_block_io io = pass->io;
    la_mat nothing = *io.x; /* one behind nothing */
    nothing.cols = 0;
    la_mat ones = la_mat_of(nothing.type, pass->state_all.data, nothing.rows, 1), fewer = ones;
    be->ops->append_one(be, &nothing, &ones);
    fewer.rows = io.x_at_g->rows;
    io.x_at_g = io.x == io.x_at_g ? &ones : &fewer;
    io.x = &ones;
    io.g = g;
    io.g_scale = 1;
    pass->visitor->visit(pass->visitor->user, block, &io);
}

/* ---- one weight ---- */

la_status la_mat_read(la_backend *be, const la_mat *m, float **out, la_error *err) {
    *out = NULL;
    if (!m->data)
        return LA_OK;
    size_t count = (size_t)(m->rows * m->cols), size = la_dtype_size(m->type);
    char *raw = la_alloc(count, size, err);
    *out = la_alloc(count, sizeof **out, err);
    for (int64_t r = 0; r < m->rows && err->status == LA_OK; r++)
        be->ops->download(be, raw + (size_t)(r * m->cols) * size,
                          (char *)m->data + (size_t)(r * m->ld) * size, (size_t)m->cols * size);
    if (err->status == LA_OK && be->ops->sync(be, err) == LA_OK)
        la_dtype_to_f32(m->type, raw, (int64_t)count, *out);
    free(raw);
    return err->status;
}

static la_status merge(la_backend *be, const la_site *site, float *weight, float *bias,
                       la_error *err) {
    if (site->inner)
        LA_TRY(merge(be, site->inner, weight, bias, err));
    return site->kind->merge(be, site, weight, bias, err);
}

la_status la_linear_merge(la_backend *be, const la_linear *linear, float **weight, float **bias,
                          la_error *err) {
    *bias = NULL;
    LA_TRY(la_mat_read(be, &linear->w, weight, err));
    LA_TRY(la_mat_read(be, &linear->bias, bias, err));
    return linear->site ? merge(be, linear->site, *weight, *bias, err) : LA_OK;
}
