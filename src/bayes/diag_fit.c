/* The diagonal of the Gauss-Newton matrix, in one pass. */
#include "bayes/curvature.h"
#include "bayes/squares.h"

#include <stdlib.h>

struct la_curvature_fit {
    la_model *model;
    la_squares *squares;
    bool seen;
};

static la_jacobian_shape jacobian_shape(const la_fit_shape *shape) {
    return (la_jacobian_shape){
        .max_rows = shape->max_rows, .max_tokens = shape->max_tokens, .n_rhs = shape->n_rhs};
}

static size_t fit_bytes(const la_model *model, const la_fit_shape *shape, int64_t *max_factor) {
    la_jacobian_shape jacobian = jacobian_shape(shape);
    *max_factor = 0;
    return la_squares_bytes(model, &jacobian);
}

static void fit_close(la_curvature_fit *fit) {
    if (fit)
        la_squares_close(fit->squares);
    free(fit);
}

static la_status fit_open(la_model *model, const la_fit_shape *shape, la_curvature_fit **fit,
                          la_error *err) {
    la_jacobian_shape jacobian = jacobian_shape(shape);
    *fit = la_alloc(1, sizeof **fit, err);
    if (!*fit)
        return err->status;
    (*fit)->model = model;
    if (la_squares_open(model, &jacobian, &(*fit)->squares, err) != LA_OK) {
        fit_close(*fit);
        *fit = NULL;
    }
    return err->status;
}

static la_status fit_next(la_curvature_fit *const *fits, int n, la_posterior *posterior,
                          la_fit_pass *pass, la_error *err) {
    la_squares *all[LA_DEVICES_MAX];
    *pass = (la_fit_pass){.to = posterior->n_rows, .more = !fits[0]->seen};
    fits[0]->seen = true;
    if (pass->more)
        return la_posterior_list_blocks(fits[0]->model, posterior, err);
    for (int i = 0; i < n; i++)
        all[i] = fits[i]->squares;
    LA_TRY(la_squares_merge(all, n, err));
    return la_squares_read(all[0], posterior, err);
}

static void fit_batch(la_curvature_fit *fit, int64_t first, int64_t n_rows) {
    (void)fit;
    (void)first;
    (void)n_rows;
}

static la_block_visitor fit_visitor(la_curvature_fit *fit) {
    return la_squares_visitor(fit->squares);
}

const la_curvature_kind la_curvature_diag = {
    .name = "diag",
    .curvature = LA_CURVATURE_DIAG,
    .fit_bytes = fit_bytes,
    .fit_open = fit_open,
    .fit_next = fit_next,
    .fit_batch = fit_batch,
    .fit_visitor = fit_visitor,
    .fit_close = fit_close,
    .covariance = &la_block_covariance,
};
