/* IA3 (arXiv 2205.05638): y = l o (W x + bias), or y = W (l o x) + bias at the modules that PEFT
 * calls feedforward. One block, [out, 1] or [in, 1], with 1 for its input at every token:
 *   of outputs: cotangent g o (W x + bias)
 *   of inputs:  cotangent (W^T g) o x */
#include "model/adapter_shared.h"

#include <stdlib.h>

typedef struct la_ia3 {
    la_mat vector; /* [out, 1] or [in, 1] */
} la_ia3;

la_status la_ia3_attach(la_pool *pool, const la_tensor *l, bool of_inputs, const char *name,
                        la_site *site, la_error *err) {
    la_ia3 *ia3 = la_pool_take(pool, 1, sizeof *ia3, err);
    if (!ia3)
        return err->status;
    site->own = ia3;
    site->kind = &la_adapter_ia3;
    site->scales_input = of_inputs;
    site->scales_output = !of_inputs;
    site->state_cols = of_inputs ? site->in : 0;
    site->state_products = !of_inputs;
    LA_TRY(la_site_add_vector(pool, site, l, l->count, name, &ia3->vector, err));
    site->parameters[0].of_outputs = !of_inputs;
    return LA_OK;
}

static la_status bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_error *err) {
    const char *key = NULL;
    const la_tensor *l = la_adapter_tensor(adapter, module, "ia3_l", &key);
    if (!l)
        return LA_OK;
    /* the shape says which of the two it is */
    bool column = l->n_dims == 2 && l->shape[0] == site->out && l->shape[1] == 1;
    bool row = l->n_dims == 2 && l->shape[0] == 1 && l->shape[1] == site->in;
    if (!column && !row)
        return la_tensor_misfit(err, LA_BAD_INPUT, l, "expected [%lld, 1] or [1, %lld]%s",
                                (long long)site->out, (long long)site->in, la_other_base);
    return la_ia3_attach(pool, l, !column, key, site, err);
}

/* state: what l multiplies at outputs, what it gives at inputs */
static void forward(la_backend *be, const la_linear *linear, const la_mat *x,
                    const la_mat *residual, la_mat *state, la_mat *y) {
    const la_site *site = linear->site;
    const float *l = ((const la_ia3 *)site->own)->vector.data;
    la_mat own = la_site_own(site, state);
    if (site->scales_input) {
        be->ops->scale_columns(be, x, l, NULL, NULL, &own);
        la_site_inner_forward(be, linear, &own, residual, state, y);
        return;
    }
    la_site_inner_forward(be, linear, x, NULL, state, &own);
    be->ops->scale_columns(be, &own, l, NULL, residual, y);
}

/* g[n_rhs T,d] = g o z[T,d] */
static void multiply(la_backend *be, const la_mat *z, int64_t n_rhs, const la_mat *g, la_mat *out) {
    be->ops->activation_backward(be, LA_ACT_NONE, z, z, n_rhs, g, out, NULL);
}

/* work = the cotangents of l o x, where l scales inputs */
static void inputs_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass,
                            const float *l, la_mat *work) {
    const la_site *site = linear->site;
    const la_mat scaled = la_site_own(site, pass->state);
    la_mat all = la_site_part(&pass->state_all, 0, site->in);
    la_site_pass inner = *pass;
    inner.dx = work;
    inner.beta = 0;
    inner.io.x = inner.io.x_at_g = &scaled;
    if (site->inner && pass->io.x != pass->io.x_at_g) {
        be->ops->scale_columns(be, pass->io.x, l, NULL, NULL, &all);
        inner.io.x = &all;
    }
    la_site_inner_backward(be, linear, &inner);
}

static void backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    const la_site *site = linear->site;
    const la_block_io *io = &pass->io;
    const float *l = ((const la_ia3 *)site->own)->vector.data;
    int64_t block = site->parameters[0].block;
    la_mat work = la_site_own(site, &pass->work), own = la_site_own(site, pass->state);
    if (site->scales_input) {
        inputs_backward(be, linear, pass, l, &work);
        if (pass->dx)
            be->ops->scale_columns(be, &work, l, NULL, pass->beta != 0 ? pass->dx : NULL, pass->dx);
        if (!pass->visitor)
            return;
        multiply(be, io->x_at_g, io->n_rhs, &work, &work);
        la_site_visit_vector(be, pass, block, &work);
        return;
    }
    if (pass->visitor) {
        multiply(be, &own, io->n_rhs, io->g, &work);
        la_site_visit_vector(be, pass, block, &work);
    }
    if (!pass->dx && !site->inner)
        return;
    be->ops->scale_columns(be, io->g, l, NULL, NULL, &work);
    la_site_pass inner = *pass;
    inner.io.g = &work;
    la_site_inner_backward(be, linear, &inner);
}

static la_status merge(la_backend *be, const la_site *site, float *weight, float *bias,
                       la_error *err) {
    const la_ia3 *ia3 = site->own;
    float *l;
    la_status status = la_mat_read(be, &ia3->vector, &l, err);
    for (int64_t i = 0; i < site->out && status == LA_OK; i++) {
        for (int64_t j = 0; j < site->in; j++)
            weight[i * site->in + j] *= l[site->scales_input ? j : i];
        if (bias && !site->scales_input)
            bias[i] *= l[i];
    }
    free(l);
    return status;
}

static const char *const keys[] = {"exclude_modules", "feedforward_modules", "init_ia3_weights",
                                   NULL};
static const char *const suffixes[] = {"ia3_l", NULL};

const la_adapter_kind la_adapter_ia3 = {
    .library = &la_peft,
    .name = "IA3",
    .known = keys,
    .suffixes = suffixes,
    .bind = bind,
    .forward = forward,
    .backward = backward,
    .merge = merge,
};
